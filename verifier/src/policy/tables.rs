//! The tables of the file, as they are written.

use super::TcbStatus;
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf};

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Values {
    Word(String),
    List(Vec<String>),
}

impl Values {
    /// Whether this word is one of them.
    pub(super) fn has(&self, word: &str) -> bool {
        match self {
            Self::Word(one) => one == word,
            Self::List(list) => list.iter().any(|one| one == word),
        }
    }
}

/// `"any"`, or a number.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Count {
    Word(String),
    Number(u64),
}

/// `"any"`, a number, or a list of numbers.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Numbers {
    Word(String),
    Number(u32),
    List(Vec<u32>),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) quote: QuoteTable,
    pub(super) tcb: TcbTable,
    pub(super) td: TdTable,
    pub(super) firmware: FirmwareTable,
    pub(super) launch: LaunchTable,
    pub(super) vtpm: VtpmTable,
    pub(super) pcr: PcrTable,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct QuoteTable {
    pub(super) required: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TcbTable {
    pub(super) statuses: Option<Vec<TcbStatus>>,
    pub(super) advisories: Option<Values>,
    pub(super) min_evaluation_data_number: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TdTable {
    pub(super) mrtd: Option<Values>,
    pub(super) image: Option<PathBuf>,
    pub(super) debug: Option<bool>,
    pub(super) attributes: Option<String>,
    pub(super) attributes_mask: Option<String>,
    pub(super) xfam: Option<String>,
    pub(super) xfam_mask: Option<String>,
    pub(super) mrconfigid: Option<Values>,
    pub(super) mrowner: Option<Values>,
    pub(super) mrownerconfig: Option<Values>,
    pub(super) mrservicetd: Option<Values>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FirmwareTable {
    pub(super) td_hob: Option<Values>,
    pub(super) other: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LaunchTable {
    pub(super) kernel: Option<Values>,
    pub(super) kernel_file: Option<PathBuf>,
    pub(super) command_line: Option<Values>,
    pub(super) command_line_digest: Option<Values>,
    pub(super) initrd: Option<Values>,
    pub(super) initrd_file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct VtpmTable {
    pub(super) engines: Option<Values>,
    pub(super) interfaces: Option<Values>,
    pub(super) modes: Option<Values>,
    pub(super) mirror: Option<Values>,
    pub(super) state: Option<Values>,
    pub(super) processors: Option<Numbers>,
    pub(super) l2_processors: Option<Numbers>,
    pub(super) machine: Option<Values>,
    pub(super) broker: Option<Values>,
    pub(super) key: Option<Values>,
    pub(super) rollback: Option<Values>,
    pub(super) ek: Option<Values>,
    pub(super) allow_clear: Option<bool>,
    pub(super) allow_hierarchy_changes: Option<bool>,
    pub(super) allow_log_full: Option<bool>,
    pub(super) max_resets: Option<Count>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PcrTable {
    pub(super) beyond_log: Option<Vec<u8>>,
    pub(super) sha1: BTreeMap<String, Vec<String>>,
    pub(super) sha256: BTreeMap<String, Vec<String>>,
    pub(super) sha384: BTreeMap<String, Vec<String>>,
    pub(super) sha512: BTreeMap<String, Vec<String>>,
}
