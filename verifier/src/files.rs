//! Reading files of a bounded size.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The bytes of a file of at most `limit` bytes.
///
/// # Errors
/// The file cannot be read, or is larger.
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {limit} bytes"),
        ));
    }
    Ok(bytes)
}
