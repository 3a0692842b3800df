//! Why a device is not used.

use tdcall::tdvmcall::VmcallError;

/// A structure of a virtio device that a capability tells the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// Common configuration.
    Common,
    /// Notifications.
    Notify,
    /// Device-specific configuration.
    Device,
    /// MSI-X table.
    MsixTable,
}

/// Why a device is refused or given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PciError {
    /// The host did not make an access.
    #[error(transparent)]
    Host(#[from] VmcallError),
    /// Nothing is there, or it is no longer.
    #[error("no PCI function is there")]
    Absent,
    /// Another device than was asked for: vendor in the lower half.
    #[error("vendor and device {0:#010x} instead of the virtio device")]
    Identity(u32),
    /// Not header type 0.
    #[error("PCI header type {0:#x}")]
    Header(u8),
    /// A capability is where none can be, or longer than what is left of configuration space.
    #[error("a PCI capability at {0:#x}")]
    CapabilityPlace(u8),
    /// The list of capabilities comes back to where it was.
    #[error("the list of PCI capabilities has a loop")]
    CapabilityLoop,
    /// No usable capability tells where the structure is.
    #[error("no place in a memory BAR is told for {0:?}")]
    Missing(Structure),
    /// The structure is not inside its BAR, or too short, or not aligned.
    #[error("{0:?} is not inside its BAR")]
    Outside(Structure),
    /// Two structures share addresses.
    #[error("{0:?} and {1:?} overlap")]
    Overlap(Structure, Structure),
    /// The BAR has no size that a BAR can have, or is larger than the window.
    #[error("BAR {0} has an impossible size")]
    BarSize(u8),
    /// The BAR is where no device may be, or does not go where it is put.
    #[error("BAR {bar} is at {address:#x}")]
    BarPlace {
        /// Which.
        bar: u8,
        /// Its address.
        address: u64,
    },
    /// Features that L1 needs are not offered.
    #[error("the device does not offer features {0:#x}")]
    Features(u64),
    /// The device took its features back.
    #[error("the device does not keep to its features")]
    FeaturesRefused,
    /// The status did not become 0 in time.
    #[error("the device does not reset")]
    Reset,
    /// The device has no such queue.
    #[error("the device has no queue {0}")]
    NoQueue(u16),
    /// A queue of a size that there is not.
    #[error("queue {queue} has {size} descriptors")]
    QueueSize {
        /// Which.
        queue: u16,
        /// Descriptors, as the device has it.
        size: u16,
    },
    /// The queue is in use after a reset, or does not get into use.
    #[error("queue {0} does not follow its enable bit")]
    QueueEnable(u16),
    /// The queue is notified outside of the structure for it.
    #[error("queue {0} is notified outside of its structure")]
    NotifyPlace(u16),
    /// The device refused an interrupt vector, or L1 named one that there is not.
    #[error("interrupt vector {0} is refused")]
    Vector(u16),
    /// The configuration never stays the same for the time of a read.
    #[error("the device's configuration does not stay the same")]
    ConfigurationUnstable,
    /// The device says that it cannot go on.
    #[error("the device needs a reset")]
    NeedsReset,
}
