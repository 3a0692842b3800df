//! The disk: sectors that can be read and written, and a flush. Every call can fail, and every answer can be a lie.

use crate::layout::SECTOR;

/// Why a device did not do what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// It says that it failed; it may do better when asked again.
    #[error("the device failed")]
    Failed,
    /// It was given up: it broke its rules, or is not there any more.
    #[error("the device is gone")]
    Gone,
}

/// A disk of the host's.
pub trait Device {
    /// Its length in sectors of 512 bytes.
    fn sectors(&self) -> u64;
    /// Reads whole sectors, from `sector` on.
    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DeviceError>;
    /// Writes whole sectors, from `sector` on. They may reach the disk in any order, and only a flush says that
    /// they did.
    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), DeviceError>;
    /// Returns when all that was written before is on the disk.
    fn flush(&mut self) -> Result<(), DeviceError>;
}

/// How often an operation that failed is tried in all.
pub const ATTEMPTS: u32 = 3;

/// Tries something again as long as the device says that it failed, [`ATTEMPTS`] times in all.
fn again<T>(mut attempt: impl FnMut() -> Result<T, DeviceError>) -> Result<T, DeviceError> {
    let mut result = attempt();
    for _ in 1..ATTEMPTS {
        match result {
            Err(DeviceError::Failed) => result = attempt(),
            _ => break,
        }
    }
    result
}

/// One sector.
pub(crate) fn sector<D: Device>(device: &mut D, at: u64) -> Result<[u8; SECTOR], DeviceError> {
    let mut sector = [0; SECTOR];
    read(device, at, &mut sector)?;
    Ok(sector)
}

/// Reads whole sectors.
pub(crate) fn read<D: Device>(device: &mut D, at: u64, into: &mut [u8]) -> Result<(), DeviceError> {
    again(|| device.read(at, into))
}

/// Writes whole sectors and flushes. After a flush that failed nobody knows what was dropped, so that the attempt
/// after it writes again.
pub(crate) fn put<D: Device>(device: &mut D, at: u64, bytes: &[u8]) -> Result<(), DeviceError> {
    again(|| {
        device.write(at, bytes)?;
        device.flush()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Fails so many times, and notes what it was asked to.
    struct Failing {
        failures: u32,
        error: DeviceError,
        asked: Vec<&'static str>,
    }

    impl Failing {
        fn new(failures: u32, error: DeviceError) -> Self {
            Self {
                failures,
                error,
                asked: Vec::new(),
            }
        }

        fn answer(&mut self, asked: &'static str) -> Result<(), DeviceError> {
            self.asked.push(asked);
            if asked != "write" && self.failures > 0 {
                self.failures -= 1;
                return Err(self.error);
            }
            Ok(())
        }
    }

    impl Device for Failing {
        fn sectors(&self) -> u64 {
            8
        }
        fn read(&mut self, _sector: u64, _into: &mut [u8]) -> Result<(), DeviceError> {
            self.answer("read")
        }
        fn write(&mut self, _sector: u64, _from: &[u8]) -> Result<(), DeviceError> {
            self.answer("write")
        }
        fn flush(&mut self) -> Result<(), DeviceError> {
            self.answer("flush")
        }
    }

    #[test]
    fn what_failed_is_tried_three_times_in_all() {
        for (failures, expected) in [(2, Ok(())), (3, Err(DeviceError::Failed))] {
            let mut device = Failing::new(failures, DeviceError::Failed);
            assert_eq!(sector(&mut device, 0).map(drop), expected);
            assert_eq!(device.asked, ["read"; 3]);
        }
        let mut gone = Failing::new(1, DeviceError::Gone);
        assert_eq!(sector(&mut gone, 0), Err(DeviceError::Gone));
        assert_eq!(gone.asked, ["read"]);
    }

    #[test]
    fn what_was_not_flushed_is_written_again() {
        let mut device = Failing::new(1, DeviceError::Failed);
        put(&mut device, 0, &[0; SECTOR]).unwrap();
        assert_eq!(device.asked, ["write", "flush", "write", "flush"]);
    }
}
