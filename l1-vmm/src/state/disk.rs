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
        told(Self::read(self, sector, into))
    }

    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), DeviceError> {
        told(Self::write(self, sector, from))
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        told(Self::flush(self))
    }
}

/// What the store has to know of an error; the device has told the log why it fails, once.
fn told<T>(result: Result<T, BlockError>) -> Result<T, DeviceError> {
    result.map_err(|error| match error {
        BlockError::GivenUp | BlockError::Changed | BlockError::ReadOnly => DeviceError::Gone,
        _ => DeviceError::Failed,
    })
}
