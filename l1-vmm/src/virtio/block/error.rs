//! Why a block device did not do something.

use crate::virtio::buffers::QueueError;
use crate::virtio::pci::PciError;
use crate::virtio::ring::PostError;

/// Why a call was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// The device is not used, or broke a rule of the queue.
    #[error(transparent)]
    Queue(QueueError),
    /// It has broken the rules too often, or became another one. It is not asked again.
    #[error("the device was given up")]
    GivenUp,
    /// It did not answer.
    #[error("no answer in time")]
    TimeOut,
    /// It reports an error (VIRTIO_BLK_S_IOERR).
    #[error("an input or output error")]
    Io,
    /// It does not know the request (VIRTIO_BLK_S_UNSUPP).
    #[error("the request is not supported")]
    Unsupported,
    /// A status that there is not; FFH is what was there before.
    #[error("status {0:#x}")]
    Status(u8),
    /// It says that it wrote less than was to be read.
    #[error("{written} of {length} bytes were read")]
    Short {
        /// Bytes that it says it wrote.
        written: u32,
        /// Bytes of data.
        length: u32,
    },
    /// A buffer of the device's would not have a whole sector.
    #[error("a buffer has at most {0} bytes")]
    SizeMax(u32),
    /// It is another one than before: features, capacity or sizes.
    #[error("the device has changed")]
    Changed,
    /// It is read-only.
    #[error("the device is read-only")]
    ReadOnly,
    /// It has no flush.
    #[error("the device cannot flush")]
    NoFlush,
    /// No whole sectors.
    #[error("{0} bytes are no whole sectors")]
    Length(usize),
    /// Beyond its end.
    #[error("{sectors} sectors at {sector} are not there")]
    Range {
        /// First sector.
        sector: u64,
        /// Number of sectors.
        sectors: u64,
    },
}

/// Whatever a queue cannot do.
impl<E> From<E> for BlockError
where
    QueueError: From<E>,
{
    fn from(error: E) -> Self {
        Self::Queue(error.into())
    }
}

/// What a failure says of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The same call may succeed after a reset.
    Passing,
    /// It may as well, but what the device did is against the rules.
    Fault,
    /// The device cannot do it.
    Lasting,
    /// It is not the device that L1 has begun with.
    Another,
}

impl BlockError {
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::TimeOut
            | Self::Io
            | Self::Queue(QueueError::Device(
                PciError::Host(_) | PciError::Absent | PciError::NeedsReset,
            )) => Verdict::Passing,
            Self::Queue(
                QueueError::Device(_)
                | QueueError::Broken(_)
                | QueueError::Post(PostError::Broken(_)),
            )
            | Self::Status(_)
            | Self::Short { .. } => Verdict::Fault,
            Self::Changed => Verdict::Another,
            _ => Verdict::Lasting,
        }
    }
}
