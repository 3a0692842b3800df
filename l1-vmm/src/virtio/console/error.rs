//! Why a console did not do something.

use crate::virtio::buffers::QueueError;
use crate::virtio::pci::PciError;

/// Why a call was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// The device is not used, or broke a rule of a queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Nothing came, or not all was taken, in time.
    #[error("no answer in time")]
    TimeOut,
    /// The stream has ended with an error before: it is of no use until [`restart`](super::Console::restart).
    #[error("the console is closed")]
    Closed,
    /// No start is left: L1 takes eight in a row, and one a minute.
    #[error("the console was given up")]
    GivenUp,
}

impl From<PciError> for ConsoleError {
    fn from(error: PciError) -> Self {
        Self::Queue(error.into())
    }
}
