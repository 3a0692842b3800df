//! What a device can do against the rules of a queue.

/// The rule of the split virtqueue that a device broke. The queue is of no use until the device is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// The used ring's index went back, or on by more than what is in flight.
    #[error("used index {index} after {seen}, with {in_flight} requests in flight")]
    UsedIndex {
        /// The index.
        index: u16,
        /// How far the driver had got.
        seen: u16,
        /// Requests that the device has.
        in_flight: u16,
    },
    /// A used element names a descriptor that the queue does not have.
    #[error("used id {id:#x} of a queue of {size}")]
    UsedId {
        /// The id, all 32 bits of it.
        id: u32,
        /// Descriptors of the queue.
        size: u16,
    },
    /// A used element names a descriptor that is not the head of a chain in flight: never posted, the
    /// middle of a chain, or used before.
    #[error("used id {id}, which is not in flight")]
    NotInFlight {
        /// The id.
        id: u16,
    },
    /// A used element says that more was written than was there to write to.
    #[error("used length {length} of a request with {writable} bytes to write to")]
    UsedLength {
        /// The length.
        length: u32,
        /// What the device was given.
        writable: u32,
    },
}
