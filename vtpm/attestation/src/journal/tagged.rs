//! TCG_PCClientTaggedEvent: PFP 1.05, "Tagged Event".

use crate::reader::{CutOff, Reader};
use alloc::vec::Vec;

/// taggedEventID of the journal's events.
pub const TAG: u32 = 0x5444_5056;

/// Why an event's data is not a tagged event of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaggedEventError {
    /// Another tag.
    #[error("the tagged event's id is {0:#010x}, not that of the vTPM's journal")]
    OtherTag(u32),
    /// The data is shorter than the header, or than its length says, or longer.
    #[error("the tagged event's length is not that of its data")]
    Length,
}

/// A record's bytes as an event's data.
pub fn wrap(record: &[u8]) -> Vec<u8> {
    // The largest record is a command's parameter area: far below 4 GiB.
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
    [&TAG.to_le_bytes(), &length.to_le_bytes(), record].concat()
}

/// A record's bytes from an event's data.
pub fn unwrap(event: &[u8]) -> Result<&[u8], TaggedEventError> {
    let length = |CutOff| TaggedEventError::Length;
    let mut reader = Reader::new(event);
    let tag = reader.u32_le().map_err(length)?;
    if tag != TAG {
        return Err(TaggedEventError::OtherTag(tag));
    }
    let size = reader.u32_le().map_err(length)?;
    let record = reader.sized(size).map_err(length)?;
    if !reader.rest().is_empty() {
        return Err(TaggedEventError::Length);
    }
    Ok(record)
}
