//! Why a socket did not do something.

use crate::virtio::buffers::QueueError;
use crate::virtio::pci::PciError;

/// Why a call was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VsockError {
    /// The device is not used, or broke a rule of a queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// What it says of this machine's address is none.
    #[error("no context identifier of a guest: {0:#x}")]
    GuestCid(u64),
    /// It broke a rule of a connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// Nothing came, or not all was taken, in time.
    #[error("no answer in time")]
    TimeOut,
    /// There is no connection: it is of no use until [`restart`](super::Vsock::restart).
    #[error("the connection is closed")]
    Closed,
    /// No start is left: L1 takes eight in a row, and one a minute.
    #[error("the socket was given up")]
    GivenUp,
}

impl From<PciError> for VsockError {
    fn from(error: PciError) -> Self {
        Self::Queue(error.into())
    }
}

/// The rule of a connection that its far end, or the device, broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// A packet begins with a header.
    #[error("a packet of {0} bytes, which is less than a header")]
    Short(usize),
    /// The header tells how many bytes follow.
    #[error("a packet with {there} bytes behind its header, which says {said}")]
    Length {
        /// What the header says.
        said: u32,
        /// Bytes behind it.
        there: usize,
    },
    /// The far end sends no more than there is room for.
    #[error("{0} bytes more than there is room for")]
    Credit(usize),
    /// It takes no more than was sent.
    #[error("the far end has taken {taken} bytes of {sent}")]
    Forwarded {
        /// What it says.
        taken: u32,
        /// What was sent, both modulo 2^32.
        sent: u32,
    },
    /// A connection is made once.
    #[error("a packet with operation {0} that does not fit the connection")]
    Operation(u16),
}
