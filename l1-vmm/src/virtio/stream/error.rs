//! Why a stream did not do something.

use crate::virtio::buffers::QueueError;
use crate::virtio::vsock::ConnectionError;

/// Why a call was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The device is not used, or broke a rule of a queue.
    #[error(transparent)]
    Queue(QueueError),
    /// What a socket device says of this machine's address is none.
    #[error("no context identifier of a guest: {0:#x}")]
    GuestCid(u64),
    /// It broke a rule of a connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// Nothing came, or not all was taken, in time.
    #[error("no answer in time")]
    TimeOut,
    /// The stream has ended, by an error or by the far end: it is of no use until [`restart`](super::Stream::restart).
    #[error("the stream is closed")]
    Closed,
    /// No start is left: L1 takes eight in a row, and one a minute.
    #[error("it was given up")]
    GivenUp,
}

/// Whatever a queue cannot do.
impl<E> From<E> for StreamError
where
    QueueError: From<E>,
{
    fn from(error: E) -> Self {
        Self::Queue(error.into())
    }
}
