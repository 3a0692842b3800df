//! What a driver in L2 can do against the rules of a queue.

/// The rule of the split virtqueue that the driver broke. The queue takes nothing more until the device is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// No queue has that many descriptors, or the device's has fewer.
    #[error("a queue of {0} descriptors")]
    Size(u16),
    /// An area of the queue is not aligned.
    #[error("an area of the queue at {0:#x}")]
    Alignment(u64),
    /// An area, a table or a buffer is not all of it L2's own memory.
    #[error("{length} bytes at {gpa:#x}, which are not memory of the guest's")]
    Foreign {
        /// Its address.
        gpa: u64,
        /// Bytes.
        length: u64,
    },
    /// The available ring's index goes ahead by more than the ring has.
    #[error("the available index went from {seen} to {index}")]
    AvailableIndex {
        /// Where it is.
        index: u16,
        /// Where it was.
        seen: u16,
    },
    /// The available ring names a descriptor that the queue does not have.
    #[error("head {0}")]
    Head(u16),
    /// It names one that the device has not given back yet.
    #[error("head {0} is in use")]
    InFlight(u16),
    /// A descriptor goes on at one that the table does not have.
    #[error("descriptor {0} is none of its table's")]
    Next(u16),
    /// A chain has more descriptors than the queue.
    #[error("a chain of more descriptors than the queue has")]
    TooLong,
    /// A table of descriptors where none may be: not agreed on, inside another, or with a descriptor behind it.
    #[error("a table of descriptors where there can be none")]
    Nested,
    /// A table that is not whole descriptors, or has none, or more than the queue.
    #[error("a table of {0} bytes of descriptors")]
    Table(u32),
    /// A buffer of no bytes.
    #[error("a buffer of no bytes")]
    Empty,
    /// A buffer for the device to read behind one for it to write.
    #[error("a readable buffer behind a writable one")]
    Order,
    /// More bytes than a request of this queue may have.
    #[error("a request of {length} bytes in one direction, of {most} at most")]
    Bytes {
        /// Bytes so far.
        length: u64,
        /// What a request may have.
        most: u32,
    },
}
