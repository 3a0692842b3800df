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
    EV_IPL, EV_PLATFORM_CONFIG_FLAGS, EV_S_CRTM_CONTENTS, EV_S_CRTM_VERSION, EV_SEPARATOR, TcgLog,
};
use alloc::vec::Vec;

/// Event data of the kernel.
pub const KERNEL: &[u8] = b"kernel";
/// What stands before the line in the event data of the command line.
pub const COMMAND_LINE_PREFIX: &[u8] = b"kernel_cmdline: ";
/// Event data of the initrd.
pub const INITRD: &[u8] = b"initrd";
/// Event data of MRTD in PCR 0.
pub const MRTD: &[u8] = b"MRTD";
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
    pub fn kernel(digests: Digests) -> Self {
        Self::new(EV_IPL, digests, KERNEL)
    }

    /// The command line of L2, without its NUL.
    pub fn command_line(line: &[u8]) -> Self {
        let data = [COMMAND_LINE_PREFIX, line].concat();
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

    /// The S-CRTM's contents: MRTD.
    pub fn mrtd(mrtd: &[u8; 48]) -> Self {
        Self::new(EV_S_CRTM_CONTENTS, Digests::of(mrtd), MRTD)
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

    /// The TCG log of [`Self::pcr_events`].
    pub fn tcg_log(&self) -> TcgLog {
        let mut log = TcgLog::new();
        for (pcr, event) in self.pcr_events() {
            log.append(pcr, event.event_type, &event.digests, &event.data);
        }
        log
    }
}
