//! What the host may choose: files of fw_cfg under `opt/org.tdp-vtpm/`.
//!
//! Each choice is told to relying parties, so the host can choose, and cannot lie about it.

use super::fw_cfg::{FwCfg, FwCfgError};
use alloc::vec::Vec;
use attestation::journal::{PcrMirror, TpmInterface};
use attestation::pcr::PcrBanks;
use init_data::Configuration;
use tdcall::{RawTdcall, SharedBuffer};

/// The file that says how the vTPM mirrors PCRs in the TD's registers (`docs/measurement.md`,
/// section 4).
pub const PCR_MIRROR: &str = "opt/org.tdp-vtpm/pcr-mirror";
/// The file that names the TPM's PCR banks, with + between them (`docs/measurement.md`, section 2).
pub const PCR_BANKS: &str = "opt/org.tdp-vtpm/pcr-banks";
/// The file that names the TPM's register interface.
pub const TPM_INTERFACE: &str = "opt/org.tdp-vtpm/tpm-interface";
/// The file that names the devices on L2's PCI bus, with + between them, in their order there.
pub const DEVICES: &str = "opt/org.tdp-vtpm/devices";
/// The file that says whether L1 executes what L2 does between two accesses to the TPM: on or off.
pub const RUN_AHEAD: &str = "opt/org.tdp-vtpm/run-ahead";
/// The file that says what becomes of the TD when L2 resets its machine: restart or end.
pub const RESET: &str = "opt/org.tdp-vtpm/reset";
/// The longest file that is read.
const LENGTH_MAX: u32 = 64;

/// Why an option is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// It could not be read.
    #[error(transparent)]
    FwCfg(#[from] FwCfgError),
    /// Not a word that L1 knows.
    #[error("fw_cfg {PCR_MIRROR} must be off, summary or full")]
    PcrMirror,
    /// Not banks that L1 can give the TPM.
    #[error(
        "fw_cfg {PCR_BANKS} must name sha256 and sha384, and may name sha1 and sha512, with + between them"
    )]
    PcrBanks,
    /// Not an interface that the TPM can have.
    #[error(
        "fw_cfg {TPM_INTERFACE} must be fifo, fifo-interrupt, crb, crb-interrupt or crb-registers"
    )]
    TpmInterface,
    /// Neither on nor off.
    #[error("fw_cfg {RUN_AHEAD} must be on or off")]
    RunAhead,
    /// Neither restart nor end.
    #[error("fw_cfg {RESET} must be restart or end")]
    Reset,
    /// Not devices that L1 has, or one of them twice.
    #[error(
        "fw_cfg {DEVICES} must name devices, each once, with + between them: {}",
        DeviceKind::NAMES
    )]
    Devices,
    /// The attested configuration has chosen already.
    #[error(
        "fw_cfg {0} chooses what the init-data document chooses as well: leave one of them out"
    )]
    GivenTwice(&'static str),
}

/// A device that L2's PCI bus can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The entropy device, answered by L1.
    Entropy,
    /// Every disk that the host has, but the one for the TPM's state.
    Disks,
    /// Every network device that the host has.
    Network,
    /// Every console that the host has, but the one to the key broker.
    Consoles,
    /// The sockets that the host has.
    Sockets,
}

impl DeviceKind {
    const NAMES: &str = "entropy, disks, network, consoles, vsock";

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "entropy" => Some(Self::Entropy),
            "disks" => Some(Self::Disks),
            "network" => Some(Self::Network),
            "consoles" => Some(Self::Consoles),
            "vsock" => Some(Self::Sockets),
            _ => None,
        }
    }
}

/// What the host has chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How the vTPM mirrors PCRs in the TD's registers.
    pub mirror: PcrMirror,
    /// The TPM's PCR banks.
    pub banks: PcrBanks,
    /// The TPM's registers. The journal's `start` says which they are.
    pub interface: TpmInterface,
    /// The devices on L2's PCI bus. Of these nothing is measured: what a device says to L2 is the word of whoever is
    /// behind it, whether a name of it is in a log or not.
    pub devices: Vec<DeviceKind>,
    /// Whether L1 runs ahead. Not measured either: L2 and the TPM do the same with it and without.
    pub run_ahead: RunAhead,
    /// What becomes of the TD when L2 resets its machine. Not measured: a host can end a TD at any time.
    pub reset: OnReset,
}

/// What becomes of the TD when L2 resets its machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnReset {
    /// It stays: L2 is launched again in it.
    #[default]
    Restart,
    /// The host is asked to reset its machine, which ends the TD.
    End,
}

impl OnReset {
    fn from_word(word: &str) -> Option<Self> {
        match word {
            "restart" => Some(Self::Restart),
            "end" => Some(Self::End),
            _ => None,
        }
    }
}

/// Whether L1 executes what L2 does between two accesses to the TPM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunAhead {
    /// It does: fewer exits.
    #[default]
    On,
    /// L2's processor does, and each access exits.
    Off,
}

impl RunAhead {
    fn from_word(word: &str) -> Option<Self> {
        match word {
            "on" => Some(Self::On),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

impl Options {
    /// As the host says, or the defaults where it says nothing.
    pub fn read<R: RawTdcall, B: SharedBuffer>(
        fw_cfg: &FwCfg<'_, R, B>,
    ) -> Result<Self, OptionError> {
        let directory = fw_cfg.directory()?;
        let files = &|name| fw_cfg.file_of(&directory, name, LENGTH_MAX);
        Ok(Self {
            mirror: word(
                files,
                PCR_MIRROR,
                PcrMirror::from_name,
                OptionError::PcrMirror,
            )?,
            banks: word(
                files,
                PCR_BANKS,
                PcrBanks::from_names,
                OptionError::PcrBanks,
            )?,
            interface: word(
                files,
                TPM_INTERFACE,
                TpmInterface::from_word,
                OptionError::TpmInterface,
            )?,
            devices: word(files, DEVICES, devices, OptionError::Devices)?,
            run_ahead: word(files, RUN_AHEAD, RunAhead::from_word, OptionError::RunAhead)?,
            reset: word(files, RESET, OnReset::from_word, OptionError::Reset)?,
        })
    }

    /// As the attested configuration says, then as the host says. What both say is refused, even if they say the same: one
    /// of them was to be in vain.
    ///
    /// # Errors
    /// See [`OptionError`].
    pub fn read_beside<R: RawTdcall, B: SharedBuffer>(
        fw_cfg: &FwCfg<'_, R, B>,
        configuration: Option<&Configuration>,
    ) -> Result<Self, OptionError> {
        let mut options = Self::read(fw_cfg)?;
        let Some(configuration) = configuration else {
            return Ok(options);
        };
        let once = |name| match fw_cfg.file(name, LENGTH_MAX)? {
            Some(_) => Err(OptionError::GivenTwice(name)),
            None => Ok(()),
        };
        if let Some(mirror) = configuration.mirror {
            once(PCR_MIRROR)?;
            options.mirror = mirror;
        }
        if let Some(banks) = configuration.banks {
            once(PCR_BANKS)?;
            options.banks = banks;
        }
        Ok(options)
    }
}

/// The devices that the words name.
fn devices(words: &str) -> Option<Vec<DeviceKind>> {
    let mut found = Vec::new();
    for word in words.split('+') {
        let kind = DeviceKind::from_name(word)?;
        if found.contains(&kind) {
            return None;
        }
        found.push(kind);
    }
    Some(found)
}

/// The value that the file `name` has a word for, or the default if there is no such file.
fn word<T: Default>(
    files: &dyn Fn(&'static str) -> Result<Option<Vec<u8>>, FwCfgError>,
    name: &'static str,
    value: fn(&str) -> Option<T>,
    unknown: OptionError,
) -> Result<T, OptionError> {
    let Some(word) = files(name)? else {
        return Ok(T::default());
    };
    str::from_utf8(&word).ok().and_then(value).ok_or(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::fw_cfg::tests::{Fault, Host};
    use alloc::string::ToString;
    use tdcall::Td;

    fn options(files: &[(&'static str, &[u8])]) -> Result<Options, OptionError> {
        let mut host = Host::new(0x1000, Fault::None);
        if !files.is_empty() {
            let files = files.iter().zip(0x2A..);
            let files = files.map(|((name, value), key)| (*name, key, *value));
            host.set_files(&files.collect::<Vec<_>>());
        }
        let td = Td::new(&host);
        Options::read(&FwCfg::open(&td, &host)?)
    }

    #[test]
    fn the_host_chooses_by_name() {
        let default = Options::default();
        assert_eq!(options(&[]), Ok(default.clone()));
        assert!(default.devices.is_empty());
        assert_eq!(default.mirror, PcrMirror::Summary);
        assert_eq!(default.banks.names(), "sha256+sha384");
        for mirror in [PcrMirror::Off, PcrMirror::Summary, PcrMirror::Full] {
            let expected = Options {
                mirror,
                ..default.clone()
            };
            let file = (PCR_MIRROR, mirror.name().as_bytes());
            assert_eq!(options(&[file]), Ok(expected));
        }
        for names in ["sha256+sha384", "sha1+sha256+sha384+sha512"] {
            let banks = PcrBanks::from_names(names).unwrap();
            let expected = Options {
                banks,
                ..default.clone()
            };
            assert_eq!(options(&[(PCR_BANKS, names.as_bytes())]), Ok(expected));
        }
        let both = options(&[
            (PCR_MIRROR, b"full"),
            (PCR_BANKS, b"sha1+sha256+sha384+sha512"),
        ]);
        let expected = Options {
            mirror: PcrMirror::Full,
            banks: PcrBanks::ALL,
            ..default
        };
        assert_eq!(both, Ok(expected));
        for (name, interface) in [
            (&b"fifo"[..], TpmInterface::Fifo),
            (b"fifo-interrupt", TpmInterface::FifoInterrupt),
            (b"crb", TpmInterface::Crb),
            (b"crb-interrupt", TpmInterface::CrbInterrupt),
            (b"crb-registers", TpmInterface::CrbRegisters),
        ] {
            let chosen = options(&[(TPM_INTERFACE, name)]).unwrap();
            assert_eq!(chosen.interface, interface);
        }
        let one = options(&[(DEVICES, b"entropy")]).unwrap();
        assert_eq!(one.devices, [DeviceKind::Entropy]);
        let two = options(&[(DEVICES, b"disks+entropy")]).unwrap();
        assert_eq!(two.devices, [DeviceKind::Disks, DeviceKind::Entropy]);
        let all = options(&[(DEVICES, b"vsock+consoles+network")]).unwrap();
        let expected = [
            DeviceKind::Sockets,
            DeviceKind::Consoles,
            DeviceKind::Network,
        ];
        assert_eq!(all.devices, expected);
    }

    #[test]
    fn a_reset_of_l2_is_the_end_where_the_host_says_so() {
        assert_eq!(options(&[]).unwrap().reset, OnReset::Restart);
        for (word, reset) in [(&b"restart"[..], OnReset::Restart), (b"end", OnReset::End)] {
            assert_eq!(options(&[(RESET, word)]).unwrap().reset, reset);
        }
        for word in [&b""[..], b"End", b"off", b"\xFF"] {
            let error = options(&[(RESET, word)]).unwrap_err();
            assert_eq!(
                error.to_string(),
                "fw_cfg opt/org.tdp-vtpm/reset must be restart or end"
            );
        }
    }

    #[test]
    fn the_attested_configuration_chooses_and_the_host_not_as_well() {
        let beside = |files: &[(&'static str, &[u8])], configuration: &Configuration| {
            let mut host = Host::new(0x1000, Fault::None);
            let files = files.iter().zip(0x2A..);
            let files = files.map(|((name, value), key)| (*name, key, *value));
            host.set_files(&files.collect::<Vec<_>>());
            let td = Td::new(&host);
            Options::read_beside(&FwCfg::open(&td, &host)?, Some(configuration))
        };
        let mut chosen = Configuration {
            state: None,
            banks: Some(PcrBanks::ALL),
            mirror: Some(PcrMirror::Full),
        };
        let options = beside(&[], &chosen).unwrap();
        assert_eq!(
            (options.banks, options.mirror),
            (PcrBanks::ALL, PcrMirror::Full)
        );
        for (file, value) in [(PCR_MIRROR, &b"full"[..]), (PCR_BANKS, b"sha256+sha384")] {
            let twice = beside(&[(file, value)], &chosen);
            assert_eq!(twice, Err(OptionError::GivenTwice(file)));
        }
        // What it leaves open is the host's to choose.
        chosen.mirror = None;
        let options = beside(&[(PCR_MIRROR, b"off")], &chosen).unwrap();
        assert_eq!(
            (options.banks, options.mirror),
            (PcrBanks::ALL, PcrMirror::Off)
        );
    }

    #[test]
    fn anything_else_is_an_error_that_says_what_there_is() {
        for value in [
            &b""[..],
            b"Full",
            b"full\0",
            b"none",
            b"\xFF\xFE",
            &[b'x'; 64],
        ] {
            let error = options(&[(PCR_MIRROR, value)]).unwrap_err();
            assert_eq!(
                error.to_string(),
                "fw_cfg opt/org.tdp-vtpm/pcr-mirror must be off, summary or full"
            );
        }
        for value in [
            &b""[..],
            b"sha256",
            b"sha1+sha256",
            b"sha256+sha384\0",
            b"\xFF",
        ] {
            let error = options(&[(PCR_BANKS, value)]).unwrap_err();
            assert_eq!(
                error.to_string(),
                "fw_cfg opt/org.tdp-vtpm/pcr-banks must name sha256 and sha384, and may name sha1 and sha512, \
                 with + between them"
            );
        }
        for value in [&b""[..], b"tis", b"CRB", b"crb\0", b"\xFF"] {
            let error = options(&[(TPM_INTERFACE, value)]).unwrap_err();
            assert_eq!(
                error.to_string(),
                "fw_cfg opt/org.tdp-vtpm/tpm-interface must be fifo, fifo-interrupt, crb, crb-interrupt or crb-registers"
            );
        }
        for value in [
            &b""[..],
            b"Entropy",
            b"entropy+",
            b"entropy+entropy",
            b"gpu",
            b"\xFF",
        ] {
            let error = options(&[(DEVICES, value)]).unwrap_err();
            assert_eq!(
                error.to_string(),
                "fw_cfg opt/org.tdp-vtpm/devices must name devices, each once, with + between them: entropy, disks, network, \
                 consoles, vsock"
            );
        }
        let error = options(&[(PCR_MIRROR, &[b'x'; 65])]).unwrap_err();
        assert!(matches!(
            error,
            OptionError::FwCfg(FwCfgError::FileTooLarge { size: 65, .. })
        ));
    }
}
