//! What L1 measures before L2 runs: one function gives one event's type, digests and data, so that
//! L1, a prediction from files and a verifier agree.
//!
//! `docs/measurement.md`, sections 1 and 2.

mod kernel;

pub use kernel::{
    WRITTEN_BY_LOADER, canonical_setup, kernel_digests, loader_field, without_loader_fields,
};

use crate::digest::Digests;
use crate::event_log::{
    EV_COMPACT_HASH, EV_EFI_PLATFORM_FIRMWARE_BLOB2, EV_IPL, EV_PLATFORM_CONFIG_FLAGS,
    EV_S_CRTM_VERSION, EV_SEPARATOR, TcgLog,
};
use crate::pcr::PcrBanks;
use alloc::vec::Vec;

/// Event data of the kernel.
pub const KERNEL: &[u8] = b"kernel";
/// What stands before the line in the event data of the command line; behind it stands a NUL, as
/// GRUB has it.
const COMMAND_LINE_PREFIX: &[u8] = b"kernel_cmdline: ";

/// The line in the event data of the command line.
pub fn command_line(data: &[u8]) -> Option<&[u8]> {
    data.strip_prefix(COMMAND_LINE_PREFIX)?.strip_suffix(b"\0")
}
/// Event data of the initrd.
pub const INITRD: &[u8] = b"initrd";
/// Event data of MRTD in PCR 0: a UEFI_PLATFORM_FIRMWARE_BLOB2 with the description "MRTD" and its NUL, and
/// neither base nor length, since the digest is that of a measurement and not of a place in memory.
pub const MRTD: &[u8] = b"\x05MRTD\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// Event data of RTMR0 in PCR 1.
pub const RTMR0: &[u8] = b"RTMR0";
/// Event data of a separator.
pub const SEPARATOR: [u8; 4] = [0; 4];

/// One event, for a PCR or an RTMR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// EV_*.
    pub event_type: u32,
    /// What the register is extended with.
    pub digests: Digests,
    /// Event data.
    pub data: Vec<u8>,
}

impl Measurement {
    fn new(event_type: u32, digests: Digests, data: &[u8]) -> Self {
        Self {
            event_type,
            digests,
            data: data.to_vec(),
        }
    }

    /// The kernel of L2, the whole file (see [`kernel_digests`]).
    ///
    /// EV_COMPACT_HASH says no more of the data than who measured it says, in PCRs 4 and up. Readers take an EV_IPL
    /// for GRUB's or systemd's, in the PCRs that are theirs, and an EV_EFI_BOOT_SERVICES_APPLICATION for the
    /// Authenticode digest of a PE image.
    pub fn kernel(digests: Digests) -> Self {
        Self::new(EV_COMPACT_HASH, digests, KERNEL)
    }

    /// The command line of L2, without its NUL.
    pub fn command_line(line: &[u8]) -> Self {
        let data = [COMMAND_LINE_PREFIX, line, b"\0"].concat();
        Self::new(EV_IPL, Digests::of(line), &data)
    }

    /// The initrd of L2, the whole file.
    pub fn initrd(digests: Digests) -> Self {
        Self::new(EV_IPL, digests, INITRD)
    }

    /// The version of the S-CRTM: `tdp-vtpm l1-vmm VERSION` in UTF-16LE with a NUL.
    pub fn crtm_version(version: &str) -> Self {
        let text = ["tdp-vtpm l1-vmm ", version, "\0"].concat();
        let data: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        Self::new(EV_S_CRTM_VERSION, Digests::of(&data), &data)
    }

    /// The firmware, td-shim and L1: MRTD.
    pub fn mrtd(mrtd: &[u8; 48]) -> Self {
        Self::new(EV_EFI_PLATFORM_FIRMWARE_BLOB2, Digests::of(mrtd), MRTD)
    }

    /// The host's description of the machine: RTMR0 as the firmware left it.
    pub fn rtmr0(rtmr0: &[u8; 48]) -> Self {
        Self::new(EV_PLATFORM_CONFIG_FLAGS, Digests::of(rtmr0), RTMR0)
    }

    /// The end of firmware's part.
    pub fn separator() -> Self {
        Self::new(EV_SEPARATOR, Digests::of(&SEPARATOR), &SEPARATOR)
    }
}

/// A launch of L2: everything that its measurements are made of.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Of L1.
    pub version: &'a str,
    /// Of the TD.
    pub mrtd: &'a [u8; 48],
    /// As the firmware left it.
    pub rtmr0: &'a [u8; 48],
    /// The kernel file.
    pub kernel: Digests,
    /// Without its NUL.
    pub command_line: &'a [u8],
    /// The initrd file, if there is one.
    pub initrd: Option<Digests>,
}

impl Launch<'_> {
    /// What L1 extends RTMRs with, in order, before the journal begins.
    pub fn rtmr_events(&self) -> Vec<(u8, Measurement)> {
        let mut events = Vec::from([
            (1, Measurement::kernel(self.kernel)),
            (2, Measurement::command_line(self.command_line)),
        ]);
        events.extend(self.initrd.map(|initrd| (2, Measurement::initrd(initrd))));
        events
    }

    /// What L1 extends PCRs with, in order, after TPM2_Startup(CLEAR).
    pub fn pcr_events(&self) -> Vec<(u8, Measurement)> {
        let mut events = Vec::from([
            (0, Measurement::crtm_version(self.version)),
            (0, Measurement::mrtd(self.mrtd)),
            (1, Measurement::rtmr0(self.rtmr0)),
            (4, Measurement::kernel(self.kernel)),
            (8, Measurement::command_line(self.command_line)),
        ]);
        events.extend(self.initrd.map(|initrd| (9, Measurement::initrd(initrd))));
        events.extend((0..8).map(|pcr| (pcr, Measurement::separator())));
        events
    }

    /// The TCG log of [`Self::pcr_events`] for these banks.
    pub fn tcg_log(&self, banks: PcrBanks) -> TcgLog {
        let mut log = TcgLog::new(banks);
        for (pcr, event) in self.pcr_events() {
            log.append(pcr, event.event_type, &event.digests, &event.data);
        }
        log
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_log::{Log, replay_pcrs};

    fn launch(initrd: Option<Digests>) -> Launch<'static> {
        Launch {
            version: "0.1.0",
            mrtd: &[0xAA; 48],
            rtmr0: &[0xBB; 48],
            kernel: Digests::of(b"bzImage"),
            command_line: b"console=ttyS0 quiet",
            initrd,
        }
    }

    /// The table of `docs/measurement.md`, section 2.
    #[test]
    fn pcrs_are_extended_in_the_tables_order() {
        let version: Vec<u8> = "tdp-vtpm l1-vmm 0.1.0\0"
            .bytes()
            .flat_map(|byte| [byte, 0])
            .collect();
        let line = b"console=ttyS0 quiet";
        let rows: [(u8, u32, &[u8], &[u8]); 14] = [
            (0, EV_S_CRTM_VERSION, &version, &version),
            (0, EV_EFI_PLATFORM_FIRMWARE_BLOB2, &[0xAA; 48], MRTD),
            (1, EV_PLATFORM_CONFIG_FLAGS, &[0xBB; 48], b"RTMR0"),
            (4, EV_COMPACT_HASH, b"bzImage", b"kernel"),
            (8, EV_IPL, line, b"kernel_cmdline: console=ttyS0 quiet\0"),
            (9, EV_IPL, b"cpio", b"initrd"),
            (0, EV_SEPARATOR, &[0; 4], &[0; 4]),
            (1, EV_SEPARATOR, &[0; 4], &[0; 4]),
            (2, EV_SEPARATOR, &[0; 4], &[0; 4]),
            (3, EV_SEPARATOR, &[0; 4], &[0; 4]),
            (4, EV_SEPARATOR, &[0; 4], &[0; 4]),
            (5, EV_SEPARATOR, &[0; 4], &[0; 4]),
            (6, EV_SEPARATOR, &[0; 4], &[0; 4]),
            (7, EV_SEPARATOR, &[0; 4], &[0; 4]),
        ];
        let events = launch(Some(Digests::of(b"cpio"))).pcr_events();
        assert_eq!(events.len(), rows.len());
        for ((pcr, event), (in_pcr, event_type, measured, data)) in events.into_iter().zip(rows) {
            let row = Measurement::new(event_type, Digests::of(measured), data);
            assert_eq!((pcr, event), (in_pcr, row));
        }
        assert_eq!(launch(None).pcr_events().len(), 13);
        let description = [b"\x05MRTD\0".as_slice(), &[0; 8], &[0; 8]];
        assert_eq!(MRTD, description.concat());
    }

    #[test]
    fn the_command_line_is_read_back_from_its_event() {
        for line in [b"console=ttyS0 quiet".as_slice(), b"", b"a\0b"] {
            let event = Measurement::command_line(line);
            assert_eq!(command_line(&event.data), Some(line));
        }
        for data in [
            b"".as_slice(),
            b"kernel",
            b"kernel_cmdline: quiet",
            b"quiet\0",
        ] {
            assert_eq!(command_line(data), None);
        }
    }

    #[test]
    fn rtmrs_are_extended_with_the_same_things() {
        let all = launch(Some(Digests::of(b"cpio"))).pcr_events();
        let rtmrs = launch(Some(Digests::of(b"cpio"))).rtmr_events();
        assert_eq!(
            rtmrs.iter().map(|(rtmr, _)| *rtmr).collect::<Vec<_>>(),
            [1, 2, 2]
        );
        for ((_, event), (_, of_pcr)) in rtmrs.iter().zip(&all[3..6]) {
            assert_eq!(event, of_pcr);
        }
        assert_eq!(launch(None).rtmr_events().len(), 2);
    }

    #[test]
    fn the_log_replays_to_the_events() {
        let launch = launch(None);
        for banks in [PcrBanks::default(), PcrBanks::ALL] {
            let log = launch.tcg_log(banks).into_bytes();
            let log = Log::parse(&log).unwrap();
            let mut expected = banks.at_startup();
            for bank in &mut expected {
                for (pcr, event) in launch.pcr_events() {
                    let digest = event.digests.get(bank.algorithm()).unwrap();
                    bank.extend(pcr.into(), &digest).unwrap();
                }
            }
            assert_eq!(replay_pcrs(&log).unwrap(), expected);
        }
    }
}
