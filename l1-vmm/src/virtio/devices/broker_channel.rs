//! The device by which the key broker is reached.

use super::{Devices, Found};
use crate::virtio::clock::{Clock, Deadline};
use crate::virtio::console::Console;
use crate::virtio::pci::{Device, HostPci, Returned};
use crate::virtio::stream::StreamError;
use crate::virtio::vsock::Vsock;
use alloc::boxed::Box;
use tdcall::SharedBuffer;
use virtio_defs::{console, vsock};

/// The port of the host's that the key broker is reached at, where the channel is a socket: `tdp-vtpm-proxy --vsock` listens
/// at it.
pub const BROKER_PORT: u32 = 7470;

/// Why there is no channel to the key broker, or why it did not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// There is no device for it.
    #[error("the host has neither a virtio console nor a socket device for the key broker")]
    Absent,
    /// The console is of no use.
    #[error("the console for the key broker: {0}")]
    Console(StreamError),
    /// The socket is of no use.
    #[error("the socket for the key broker: {0}")]
    Vsock(StreamError),
}

impl ChannelError {
    /// Whether nothing came, or not all was taken, in time.
    pub fn is_time_out(self) -> bool {
        matches!(
            self,
            Self::Console(StreamError::TimeOut) | Self::Vsock(StreamError::TimeOut)
        )
    }
}

/// The bytes to and from the key broker.
#[derive(Debug)]
pub enum BrokerChannel<H, B: SharedBuffer + Clone, C> {
    /// By a console.
    Console(Box<Console<H, B, C>>),
    /// By a connection to [`BROKER_PORT`] of the host.
    Vsock(Box<Vsock<H, B, C>>),
}

impl<H: HostPci, B: SharedBuffer + Clone, C: Clock> BrokerChannel<H, B, C> {
    /// As much memory as is of use.
    pub const MEMORY_MAX: usize = {
        let (console, vsock) = (Console::<H, B, C>::MEMORY_MAX, Vsock::<H, B, C>::MEMORY_MAX);
        if console > vsock { console } else { vsock }
    };

    /// What the clock says, in nanoseconds.
    pub fn now(&self) -> u64 {
        match self {
            Self::Console(console) => console.now(),
            Self::Vsock(socket) => socket.now(),
        }
    }

    /// Sends all of `bytes`.
    pub fn send(&mut self, bytes: &[u8], deadline: &Deadline) -> Result<(), ChannelError> {
        match self {
            Self::Console(stream) => stream.send(bytes, deadline).map_err(ChannelError::Console),
            Self::Vsock(stream) => stream.send(bytes, deadline).map_err(ChannelError::Vsock),
        }
    }

    /// Receives what there is, up to `into`; waits for a byte at least. Returns how many.
    pub fn receive(&mut self, into: &mut [u8], deadline: &Deadline) -> Result<usize, ChannelError> {
        match self {
            Self::Console(stream) => stream
                .receive(into, deadline)
                .map_err(ChannelError::Console),
            Self::Vsock(stream) => stream.receive(into, deadline).map_err(ChannelError::Vsock),
        }
    }

    /// Begins an empty stream.
    pub fn restart(&mut self) -> Result<(), ChannelError> {
        match self {
            Self::Console(stream) => stream.restart().map_err(ChannelError::Console),
            Self::Vsock(stream) => stream.restart().map_err(ChannelError::Vsock),
        }
    }
}

impl<H: HostPci> Devices<H> {
    /// The channel to the key broker: the first console or socket device of the bus. One that is refused is not made up
    /// for by another: which of two channels L1 speaks on does not depend on how one behaves.
    pub fn broker_channel<B: SharedBuffer + Clone, C: Clock>(
        &mut self,
        memory: B,
        clock: C,
    ) -> Result<BrokerChannel<H, B, C>, ChannelError> {
        let kinds = [console::DEVICE_TYPE, vsock::DEVICE_TYPE];
        let found = self.take_first(|found| kinds.contains(&found.kind));
        let found = found.ok_or(ChannelError::Absent)?;
        if found.kind == console::DEVICE_TYPE {
            let open = |device| Console::open(device, memory, clock, "console for the key broker");
            let opened = self.driven(found, open).map_err(ChannelError::Console);
            return Ok(BrokerChannel::Console(Box::new(opened?)));
        }
        let open = |device| Vsock::open(device, memory, clock, BROKER_PORT);
        let opened = self.driven(found, open).map_err(ChannelError::Vsock);
        Ok(BrokerChannel::Vsock(Box::new(opened?)))
    }

    /// What `open` makes of a device; one that it refuses is put back.
    fn driven<T>(
        &mut self,
        found: Found<H>,
        open: impl FnOnce(Device<H>) -> Result<T, Box<Returned<H, StreamError>>>,
    ) -> Result<T, StreamError> {
        let Found {
            function,
            kind,
            device,
        } = found;
        open(device).map_err(|returned| {
            self.put_back(Found {
                function,
                kind,
                device: returned.device,
            });
            returned.error
        })
    }
}
