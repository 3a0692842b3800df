//! A device file of the TPM, opened.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

/// One client of the TPM.
pub(crate) struct Device(File);

impl Device {
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self(file))
    }

    /// Sends bytes by one system call, and gives the whole response.
    pub(crate) fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let written = self.0.write(command)?;
        if written != command.len() {
            return Err(io::Error::other(format!(
                "{written} bytes of {} were taken",
                command.len()
            )));
        }
        let mut response = vec![0; 8192];
        let length = self.0.read(&mut response)?;
        response.truncate(length);
        Ok(response)
    }
}
