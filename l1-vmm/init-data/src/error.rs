//! Why a document is refused.

use crate::hexadecimal::Hex;
use crate::{ALGORITHM, LENGTH_MAX, SECTION, VERSION};
use alloc::string::String;
use core::fmt;

/// Which text an error is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The document itself.
    Document,
    /// Our section of it.
    Section,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document => f.write_str("init-data"),
            Self::Section => write!(f, "init-data, {SECTION}"),
        }
    }
}

/// Where an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which text.
    pub part: Part,
    /// In which of its lines, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.part, self.line)
    }
}

/// Why a document is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InitDataError {
    /// More bytes than L1 reads.
    #[error("the init-data document has {length} bytes; {LENGTH_MAX} are the most that are read")]
    TooLong {
        /// Its bytes.
        length: usize,
    },
    /// The TD was built for another document.
    #[error(
        "the init-data document's SHA-384 is {}, and the TD's MRCONFIGID is {}: give the document that the TD was \
         built for, or build the TD with this document's digest as MRCONFIGID",
        Hex(digest),
        Hex(mrconfigid)
    )]
    OtherDocument {
        /// SHA-384 of the document that was given.
        digest: [u8; 48],
        /// What the TD was built with.
        mrconfigid: [u8; 48],
    },
    /// Not UTF-8.
    #[error("the init-data document is not UTF-8 text")]
    NotText,
    /// Not TOML.
    #[error("{place}: {message}")]
    NotToml {
        /// Where.
        place: Place,
        /// What the parser says.
        message: String,
    },
    /// A key that this version does not know.
    #[error("{place}: there is no key `{key}`; the keys here are {known}")]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key's first characters, those that are not printable ASCII escaped.
        key: String,
        /// Those that there are.
        known: &'static str,
    },
    /// A key that must be there is not.
    #[error("{part}: `{key}` is missing: {expected}")]
    MissingKey {
        /// In which text.
        part: Part,
        /// The key.
        key: &'static str,
        /// What may stand there.
        expected: &'static str,
    },
    /// A key has a value that it cannot have.
    #[error("{place}: `{key}` must be {expected}")]
    Value {
        /// Where.
        place: Place,
        /// The key.
        key: &'static str,
        /// What may stand there.
        expected: &'static str,
    },
    /// Another version of the specification.
    #[error(
        "{place}: `version` must be \"{VERSION}\", the version of the specification that is read"
    )]
    Version {
        /// Where.
        place: Place,
    },
    /// An algorithm whose digest is not MRCONFIGID.
    #[error("{place}: `algorithm` must be \"{ALGORITHM}\", whose digest is a TD's MRCONFIGID")]
    Algorithm {
        /// Where.
        place: Place,
    },
    /// Nothing in it is for L1.
    #[error("init-data: the table `data` has no text \"{SECTION}\", which is L1's")]
    NoSection,
    /// Keys of a persistent state without a machine that it would be of.
    #[error(
        "{place}: `{key}` is of a persistent state, which needs `machine` as well; leave both out for a TPM that is \
         new at every start"
    )]
    NoMachine {
        /// Where.
        place: Place,
        /// The key.
        key: &'static str,
    },
    /// The broker's half of the key is asked for, and no broker named.
    #[error("{place}: a key of `{source_name}` needs the table `broker` with the broker's `key`")]
    NoBroker {
        /// Where.
        place: Place,
        /// The source of the key.
        source_name: &'static str,
    },
    /// A broker is named that nothing is asked of.
    #[error(
        "{place}: nothing is asked of a broker where `key` is \"hardware\": leave the table `broker` out"
    )]
    UnusedBroker {
        /// Where.
        place: Place,
    },
    /// The ledger is the broker's.
    #[error(
        "{place}: `rollback` must be \"none\" where `key` is \"hardware\": the ledger is a key broker's"
    )]
    NoLedger {
        /// Where.
        place: Place,
    },
}
