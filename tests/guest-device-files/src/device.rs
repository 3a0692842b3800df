//! A device file of the TPM, opened.

use attestation::tpm::response_code;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

/// Of Linux's open(2).
pub(crate) mod flags {
    /// A write does not wait for the response.
    pub(crate) const NONBLOCK: i32 = 0o4000;
}

/// One client of the TPM.
pub(crate) struct Device(File);

impl Device {
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        Self::open_with(path, 0)
    }

    pub(crate) fn open_with(path: &str, flags: i32) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path)?;
        Ok(Self(file))
    }

    pub(crate) fn file(&self) -> &File {
        &self.0
    }

    /// Sends bytes by one system call.
    pub(crate) fn send(&mut self, command: &[u8]) -> io::Result<()> {
        let written = self.0.write(command)?;
        match written == command.len() {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "{written} bytes of {} were taken",
                command.len()
            ))),
        }
    }

    /// Receives as many bytes at most, by one.
    pub(crate) fn receive(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut response = vec![0; most];
        let length = self.0.read(&mut response)?;
        response.truncate(length);
        Ok(response)
    }

    /// Sends bytes, and gives the whole response.
    pub(crate) fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.send(command)?;
        self.receive(8192)
    }
}

/// A command that must succeed: its response.
pub(crate) fn send(device: &mut Device, command: &[u8]) -> Result<Vec<u8>, String> {
    let response = device
        .transmit(command)
        .map_err(|error| error.to_string())?;
    match response_code(&response) {
        Some(0) => Ok(response),
        code => Err(format!("the TPM answered {code:x?}")),
    }
}
