//! The host's console or socket as the bytes to and from the key broker.

use broker_client::{Channel, ChannelError, Deadline};
use tdcall::SharedBuffer;

use crate::virtio::clock::{self, Clock};
use crate::virtio::devices::{BrokerChannel, ChannelError as DeviceError};
use crate::virtio::pci::HostPci;

impl<H: HostPci, B: SharedBuffer + Clone, C: Clock> Channel for BrokerChannel<H, B, C> {
    fn now(&self) -> u64 {
        Self::now(self)
    }

    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), ChannelError> {
        told(Self::send(self, bytes, &clock::Deadline::at(deadline.0)))
    }

    fn receive(&mut self, into: &mut [u8], deadline: Deadline) -> Result<usize, ChannelError> {
        told(Self::receive(self, into, &clock::Deadline::at(deadline.0)))
    }

    fn restart(&mut self) -> Result<(), ChannelError> {
        told(Self::restart(self))
    }
}

/// What the client has to know of an error; the log has the rest.
fn told<T>(result: Result<T, DeviceError>) -> Result<T, ChannelError> {
    result.map_err(|error| match error.is_time_out() {
        true => ChannelError::TimeOut,
        false => ChannelError::Closed,
    })
}
