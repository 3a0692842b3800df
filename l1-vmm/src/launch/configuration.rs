//! The configuration that is attested: the init-data document that the TD was built for (`docs/init-data.md`).
//!
//! The host gives the document, and MRCONFIGID says which one it has to be. A TD with an MRCONFIGID and without its
//! document is not started: a host that keeps the document back would choose what the tenant had chosen.

use super::fw_cfg::{FwCfg, FwCfgError};
use alloc::string::String;
use init_data::{FW_CFG_FILE, InitData, InitDataError, LENGTH_MAX};
use tdcall::{MetadataError, RawTdcall, SharedBuffer, Td};
use tdx_defs::FieldId;

/// Why there is no configuration to go by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// The document could not be read.
    #[error(transparent)]
    FwCfg(#[from] FwCfgError),
    /// MRCONFIGID could not be read.
    #[error("MRCONFIGID: {0}")]
    MrConfigId(#[from] MetadataError),
    /// The document is not the TD's, or cannot be followed.
    #[error(transparent)]
    InitData(#[from] InitDataError),
    /// The TD was built for a document, and the host does not give it.
    #[error(
        "the TD has an MRCONFIGID, and the host gives no init-data document (fw_cfg {FW_CFG_FILE}): give the one \
         that the TD was built for, or build the TD without MRCONFIGID"
    )]
    Withheld,
}

/// The document that the TD was built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestedConfiguration {
    /// Its text.
    pub document: String,
    /// What it says.
    pub init_data: InitData,
}

impl AttestedConfiguration {
    /// What the host gives, compared with the TD's MRCONFIGID; nothing for a TD without one.
    ///
    /// # Errors
    /// See [`ConfigurationError`]; L2 must not be launched.
    pub fn read<R: RawTdcall, B: SharedBuffer>(
        td: &Td<R>,
        fw_cfg: &FwCfg<'_, R, B>,
    ) -> Result<Option<Self>, ConfigurationError> {
        let mrconfigid = mrconfigid(td)?;
        let most = u32::try_from(LENGTH_MAX).unwrap_or(u32::MAX);
        let Some(document) = fw_cfg.file(FW_CFG_FILE, most)? else {
            return match mrconfigid == [0; 48] {
                true => Ok(None),
                false => Err(ConfigurationError::Withheld),
            };
        };
        let init_data = init_data::attested(&document, &mrconfigid)?;
        // It has been read as text.
        let document = String::from_utf8(document).map_err(|_| InitDataError::NotText)?;
        Ok(Some(Self {
            document,
            init_data,
        }))
    }
}

/// The TD's MRCONFIGID, which is in every report and quote of it.
fn mrconfigid<R: RawTdcall>(td: &Td<R>) -> Result<[u8; 48], MetadataError> {
    let mut value = [0; 48];
    for (qword, bytes) in (0..).zip(value.as_chunks_mut::<8>().0) {
        *bytes = td.vm_rd(FieldId::mrconfigid(qword))?.to_le_bytes();
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::fw_cfg::tests::{Fault, Host};
    use alloc::string::ToString;
    use tdx_defs::{Registers, tdg};

    /// A host with fw_cfg, and a TD with this MRCONFIGID.
    struct TdOf<'a> {
        host: &'a Host,
        mrconfigid: [u8; 48],
    }

    impl RawTdcall for TdOf<'_> {
        fn tdcall(&self, registers: &mut Registers) {
            if registers.rax != tdg::VM_RD {
                return self.host.tdcall(registers);
            }
            let qword = (registers.rdx - FieldId::mrconfigid(0).0) as usize;
            let bytes = &self.mrconfigid[8 * qword..][..8];
            registers.rax = 0;
            registers.r8 = u64::from_le_bytes(bytes.try_into().unwrap());
        }
    }

    fn read(
        document: Option<&'static [u8]>,
        mrconfigid: [u8; 48],
    ) -> Result<Option<AttestedConfiguration>, ConfigurationError> {
        let mut host = Host::new(0x1000, Fault::None);
        if let Some(document) = document {
            host.set_files(&[(FW_CFG_FILE, 0x2A, document)]);
        }
        let raw = TdOf {
            host: &host,
            mrconfigid,
        };
        let td = Td::new(raw);
        AttestedConfiguration::read(&td, &FwCfg::open(&td, &host)?)
    }

    const DOCUMENT: &[u8] = b"version = \"0.1.0\"\nalgorithm = \"sha384\"\n[data]\n\
                              \"tdp-vtpm.toml\" = 'state = \"ephemeral\"'\n";

    #[test]
    fn the_document_is_the_one_that_the_td_was_built_for() {
        let digest = init_data::digest(DOCUMENT);
        let read_back = read(Some(DOCUMENT), digest).unwrap().unwrap();
        assert_eq!(read_back.document.as_bytes(), DOCUMENT);
        assert_eq!(read_back.init_data.digest, digest);
        assert_eq!(read(None, [0; 48]), Ok(None));
    }

    #[test]
    fn a_document_of_another_td_and_one_that_is_kept_back_end_the_launch() {
        for mrconfigid in [[0; 48], [1; 48]] {
            let refused = read(Some(DOCUMENT), mrconfigid).unwrap_err();
            assert!(matches!(
                refused,
                ConfigurationError::InitData(InitDataError::OtherDocument { .. })
            ));
        }
        let withheld = read(None, init_data::digest(DOCUMENT)).unwrap_err();
        assert_eq!(withheld, ConfigurationError::Withheld);
        assert!(withheld.to_string().contains("opt/org.tdp-vtpm/initdata"));
    }

    #[test]
    fn a_document_that_is_too_long_is_not_read() {
        const LONG: &[u8] = &[b'#'; LENGTH_MAX + 1];
        let refused = read(Some(LONG), init_data::digest(LONG)).unwrap_err();
        assert!(matches!(
            refused,
            ConfigurationError::FwCfg(FwCfgError::FileTooLarge { .. })
        ));
    }
}
