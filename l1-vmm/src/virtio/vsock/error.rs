//! The rules of a connection.

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
