//! The configuration of L1 that is attested: an init-data document, and our section of it.
//!
//! A Confidential Containers init-data document ("Initdata Specification", version 0.1.0) is TOML: a version, the
//! algorithm of its digest, and texts by name for the parts of a confidential guest. The TD is built with its
//! SHA-384 as MRCONFIGID, so a quote shows which document L1 was given. Ours is the text named [`SECTION`], which is
//! TOML again; `docs/init-data.md` has its keys. Texts of other names are for others.
//!
//! * [`attested`] is what L1 calls: the digest first, then the texts;
//! * [`parse`] is for who has no TD to compare with, and [`digest`] for who builds one;
//! * [`Configuration::to_document`] writes a document.
//!
//! Whoever builds the TD chose both document and MRCONFIGID, so the text is hostile: it is bounded, every key that
//! this version does not know is refused, and each refusal names the key, the line and what may stand there.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod compose;
mod configuration;
mod document;
mod error;
mod hexadecimal;
mod section;
mod table;
#[cfg(test)]
mod tests;

pub use configuration::{
    Broker, Configuration, KeySource, Machine, Otherwise, PersistentState, Rollback,
};
pub use error::{InitDataError, Part, Place};

use sha2::{Digest as _, Sha384};

/// The file of QEMU's fw_cfg device that L1 reads the document from.
pub const FW_CFG_FILE: &str = "opt/org.tdp-vtpm/initdata";
/// The name of our text in the document's table `data`.
pub const SECTION: &str = "tdp-vtpm.toml";
/// The most bytes of a document.
pub const LENGTH_MAX: usize = 64 * 1024;
/// The version of the specification that is read: the document's `version`.
pub const VERSION: &str = "0.1.0";
/// The algorithm that fits MRCONFIGID: the document's `algorithm`.
pub const ALGORITHM: &str = "sha384";

/// A document's digest and what its section of ours says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitData {
    /// SHA-384 of the document: the MRCONFIGID of a TD that is built for it.
    pub digest: [u8; 48],
    /// What L1 is to do.
    pub configuration: Configuration,
}

/// SHA-384 of a document's bytes: the MRCONFIGID of a TD that is built for it.
pub fn digest(document: &[u8]) -> [u8; 48] {
    Sha384::digest(document).into()
}

/// Reads the document that a TD with this MRCONFIGID was built for. The digest is compared before anything is parsed.
pub fn attested(document: &[u8], mrconfigid: &[u8; 48]) -> Result<InitData, InitDataError> {
    bounded(document)?;
    let found = digest(document);
    if found != *mrconfigid {
        return Err(InitDataError::OtherDocument {
            digest: found,
            mrconfigid: *mrconfigid,
        });
    }
    parse(document)
}

/// Reads a document that is compared with no TD.
pub fn parse(document: &[u8]) -> Result<InitData, InitDataError> {
    bounded(document)?;
    let text = str::from_utf8(document).map_err(|_| InitDataError::NotText)?;
    let section = document::section(text)?;
    Ok(InitData {
        digest: digest(document),
        configuration: section::configuration(&section)?,
    })
}

/// No document is longer than L1 reads.
fn bounded(document: &[u8]) -> Result<(), InitDataError> {
    if document.len() > LENGTH_MAX {
        return Err(InitDataError::TooLong {
            length: document.len(),
        });
    }
    Ok(())
}
