//! What goes into a queue and what comes out.

use super::Broken;

/// A piece of memory that the device may read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Address as the device uses it, without the SHARED bit.
    pub gpa: u64,
    /// Bytes, at least one.
    pub length: u32,
}

/// How each side says that it wants to hear of the other's progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppression {
    /// By a flag.
    Flags,
    /// By an index: VIRTIO_F_EVENT_IDX was negotiated.
    EventIndex,
}

/// Whether the device wants to be told of what was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Notification {
    /// It does.
    Needed,
    /// It looks by itself, or nothing is new.
    Suppressed,
}

/// Whether there is something to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pending {
    /// There is: an interrupt may not come for it.
    Yes,
    /// Not yet: an interrupt is asked for.
    No,
}

/// Where the device finds the areas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Areas {
    /// Descriptors of the queue.
    pub size: u16,
    /// GPA of the descriptor table.
    pub descriptors: u64,
    /// GPA of the available ring.
    pub available: u64,
    /// GPA of the used ring.
    pub used: u64,
}

/// Why there is no queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// A queue has a power of two of descriptors, at most 32768.
    #[error("a queue of {0} descriptors")]
    Size(u16),
    /// The memory does not hold the areas.
    #[error("a queue that takes {needed} bytes in {given}")]
    Memory {
        /// Bytes that the areas take.
        needed: usize,
        /// Bytes that are there.
        given: usize,
    },
    /// The memory does not start at a multiple of 16.
    #[error("a queue at {0:#x}")]
    Alignment(u64),
}

/// Why a request was not posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostError {
    /// The device has as much as the queue holds: post again after a completion.
    #[error("the queue is full")]
    Full,
    /// A request needs a segment, each of at least a byte, not more than the queue has descriptors, and less than
    /// 4 GiB to write to.
    #[error("a request of a form that no queue takes")]
    Form,
    /// The device broke a rule before.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// A request that was not posted.
#[derive(Debug)]
pub struct Refused<T> {
    /// Why.
    pub error: PostError,
    /// Its token.
    pub token: T,
}

/// A request that the device says it is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion<T> {
    /// What it was posted with.
    pub token: T,
    /// Bytes that the device says it wrote, from the start of what it may write to: never more than that.
    pub written: u32,
}
