//! What the host may choose: files of fw_cfg under `opt/org.tdp-vtpm/`.
//!
//! Each choice is told to relying parties, so the host can choose, and cannot lie about it.

use super::fw_cfg::{FwCfg, FwCfgError};
use attestation::journal::PcrMirror;
use tdcall::{RawTdcall, SharedBuffer};

/// The file that says how the vTPM mirrors PCRs in the TD's registers (`docs/measurement.md`,
/// section 4).
pub const PCR_MIRROR: &str = "opt/org.tdp-vtpm/pcr-mirror";
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
}

/// How PCRs are mirrored: as the host says, or the default if it says nothing.
pub fn pcr_mirror<R: RawTdcall, B: SharedBuffer>(
    fw_cfg: &FwCfg<'_, R, B>,
) -> Result<PcrMirror, OptionError> {
    let Some(value) = fw_cfg.file(PCR_MIRROR, LENGTH_MAX)? else {
        return Ok(PcrMirror::default());
    };
    str::from_utf8(&value)
        .ok()
        .and_then(PcrMirror::from_name)
        .ok_or(OptionError::PcrMirror)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::fw_cfg::tests::{Fault, Host};
    use alloc::string::ToString;
    use tdcall::Td;

    fn mirror(value: Option<&[u8]>) -> Result<PcrMirror, OptionError> {
        let mut host = Host::new(0x1000, Fault::None);
        if let Some(value) = value {
            host.set_file(PCR_MIRROR, 0x2A, value);
        }
        let td = Td::new(&host);
        pcr_mirror(&FwCfg::open(&td, &host)?)
    }

    #[test]
    fn the_host_chooses_by_name() {
        let rows: [(Option<&[u8]>, PcrMirror); 4] = [
            (None, PcrMirror::Summary),
            (Some(b"off"), PcrMirror::Off),
            (Some(b"summary"), PcrMirror::Summary),
            (Some(b"full"), PcrMirror::Full),
        ];
        for (value, expected) in rows {
            assert_eq!(mirror(value), Ok(expected));
        }
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
            let error = mirror(Some(value)).unwrap_err();
            assert_eq!(
                error.to_string(),
                "fw_cfg opt/org.tdp-vtpm/pcr-mirror must be off, summary or full"
            );
        }
        let error = mirror(Some(&[b'x'; 65])).unwrap_err();
        assert!(matches!(
            error,
            OptionError::FwCfg(FwCfgError::FileTooLarge { size: 65, .. })
        ));
    }
}
