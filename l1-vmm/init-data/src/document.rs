//! The document: version, algorithm, and texts by name.

use crate::error::{InitDataError, Part};
use crate::table::Table;
use crate::{ALGORITHM, SECTION, VERSION};
use alloc::borrow::Cow;

/// Our text of the document.
pub(crate) fn section(document: &str) -> Result<Cow<'_, str>, InitDataError> {
    let mut table = Table::parse(document, Part::Document)?;
    let version = table.required("version", "\"0.1.0\"")?;
    if version.value != VERSION {
        return Err(InitDataError::Version {
            place: version.place,
        });
    }
    let algorithm = table.required("algorithm", "\"sha384\"")?;
    if algorithm.value != ALGORITHM {
        return Err(InitDataError::Algorithm {
            place: algorithm.place,
        });
    }
    let data = table.table("data")?;
    table.end("version, algorithm, data")?;
    let (_, mut data) = data.ok_or(InitDataError::NoSection)?;
    // Other texts are for other parts of a confidential guest.
    let section = data.text(SECTION, "a text")?;
    Ok(section.ok_or(InitDataError::NoSection)?.value)
}
