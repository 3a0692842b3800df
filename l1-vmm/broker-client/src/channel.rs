//! The bytes that the host moves between L1 and its broker.

/// A moment of the channel's clock, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub u64);

impl Deadline {
    /// The earlier one.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.min(other)
    }
}

/// Why no bytes went or came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// Not before the deadline.
    #[error("the host moved no bytes in time")]
    TimeOut,
    /// The device is broken or gone, or the stream has ended: it is of no use until it is restarted.
    #[error("the channel is closed")]
    Closed,
}

/// A stream of bytes both ways.
///
/// It has no beginning and no end that L1 could see: after a [`restart`](Self::restart) there may still come what was meant
/// for an earlier request.
pub trait Channel {
    /// Nanoseconds since some moment, of a clock that the host cannot stop.
    fn now(&self) -> u64;

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// See [`ChannelError`]; how much was sent is not known then.
    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), ChannelError>;

    /// Receives one byte or more; returns how many.
    ///
    /// # Errors
    /// See [`ChannelError`]; nothing is lost by a time-out.
    fn receive(&mut self, into: &mut [u8], deadline: Deadline) -> Result<usize, ChannelError>;

    /// Drops what is under way and begins an empty stream, a bounded number of times in a row.
    ///
    /// # Errors
    /// [`ChannelError::Closed`].
    fn restart(&mut self) -> Result<(), ChannelError>;

    /// `nanoseconds` from now.
    fn after(&self, nanoseconds: u64) -> Deadline {
        Deadline(self.now().saturating_add(nanoseconds))
    }
}

impl<C: Channel + ?Sized> Channel for &mut C {
    fn now(&self) -> u64 {
        (**self).now()
    }
    fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), ChannelError> {
        (**self).send(bytes, deadline)
    }
    fn receive(&mut self, into: &mut [u8], deadline: Deadline) -> Result<usize, ChannelError> {
        (**self).receive(into, deadline)
    }
    fn restart(&mut self) -> Result<(), ChannelError> {
        (**self).restart()
    }
}
