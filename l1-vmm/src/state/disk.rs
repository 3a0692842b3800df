//! A block device of the host's as a place for states.

use state_store::{Device, DeviceError};
use tdcall::SharedBuffer;

use crate::virtio::block::{Block, BlockError};
use crate::virtio::clock::Clock;
use crate::virtio::pci::HostPci;

impl<H: HostPci, B: SharedBuffer + Clone, C: Clock> Device for Block<H, B, C> {
    fn sectors(&self) -> u64 {
        Self::sectors(self)
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        told("read", Self::read(self, sector, into))
    }

    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), DeviceError> {
        told("write", Self::write(self, sector, from))
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        told("flush", Self::flush(self))
    }
}

/// What the store has to know of an error; the log has the rest.
fn told(what: &str, result: Result<(), BlockError>) -> Result<(), DeviceError> {
    result.map_err(|error| {
        log::warn!("the state disk: {what}: {error}");
        match error {
            BlockError::GivenUp | BlockError::Changed | BlockError::ReadOnly => DeviceError::Gone,
            _ => DeviceError::Failed,
        }
    })
}
