//! Why a console did not do something.

use crate::virtio::pci::PciError;
use crate::virtio::ring::{Broken, PostError, RingError};

/// Why a call was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// The device is not used.
    #[error(transparent)]
    Device(#[from] PciError),
    /// It broke a rule of a queue.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// A queue does not take a buffer.
    #[error(transparent)]
    Post(#[from] PostError),
    /// A queue cannot be where it should.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// There is no memory for two queues and a buffer of each.
    #[error("no room for two queues and their buffers")]
    Memory,
    /// Nothing came, or not all was taken, in time.
    #[error("no answer in time")]
    TimeOut,
    /// The stream has ended with an error before: it is of no use until [`restart`](super::Console::restart).
    #[error("the console is closed")]
    Closed,
    /// It was started as often as L1 does.
    #[error("the console was given up")]
    GivenUp,
}
