//! The types of devices that are bridged, and what of each: an allow-list. A type is on it if its requests are plain
//! bytes, without addresses of the guest's in them, and without memory of the device's.

mod block;
mod console;
mod network;
mod sockets;

use alloc::vec::Vec;
use core::ops::Range;

use crate::machine::devices::virtio::backend::QueueKind;
use virtio_defs::{block as block_device, console as console_device, net, vsock};
use x86_defs::pci;

/// A type of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Block device (VIRTIO 5.2).
    Block,
    /// Network device (VIRTIO 5.1), with one pair of queues.
    Network,
    /// Console device (VIRTIO 5.3), with one port.
    Console,
    /// Socket device (VIRTIO 5.10).
    Sockets,
}

/// What L2 is shown of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Features of the type.
    pub(super) features: u64,
    /// Those of them that the host is told of when L2 chooses them; the others are L1's own.
    pub(super) passed: u64,
    pub(super) configuration: Vec<u8>,
    pub(super) queues: Vec<QueueKind>,
}

/// What a request is of which the host has written less than there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    /// Done: L2's driver looks at how much that was.
    Done,
    /// Done, and zeroes for the rest: L2's driver may go by a length that the host put into the bytes themselves, and give on
    /// what its own memory has had behind them.
    Zeroed,
    /// Failed, with this status as its last byte: L2's driver looks at that byte whatever was written. If nothing were
    /// there, it would take what its own memory has had there, and give it on as what was read.
    Failed(u8),
}

/// Why a device is not bridged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KindError {
    /// A disk of so many sectors.
    #[error("a disk of {0:#x} sectors")]
    Capacity(u64),
    /// Segments so short that no page fits.
    #[error("a disk whose segments have {0} bytes at most")]
    Segment(u32),
    /// An address of sockets that no guest has.
    #[error("sockets with the guest's CID {0:#x}")]
    Cid(u64),
}

impl Kind {
    /// What devices of this type are.
    pub fn of(device_type: u16) -> Option<Self> {
        let all = [Self::Block, Self::Network, Self::Console, Self::Sockets];
        all.into_iter()
            .find(|kind| kind.device_type() == device_type)
    }

    /// Type of the device.
    pub const fn device_type(self) -> u16 {
        match self {
            Self::Block => block_device::DEVICE_TYPE,
            Self::Network => net::DEVICE_TYPE,
            Self::Console => console_device::DEVICE_TYPE,
            Self::Sockets => vsock::DEVICE_TYPE,
        }
    }

    /// Bytes of memory shared with the host that a device has use for: with more it is no faster.
    pub const fn memory(self) -> usize {
        match self {
            Self::Block => block::MEMORY,
            Self::Network => 0x10_0000,
            Self::Console => 0x2_0000,
            Self::Sockets => 0x4_0000,
        }
    }

    /// Class code of L2's function.
    pub(super) const fn class(self) -> u32 {
        match self {
            Self::Block => pci::CLASS_STORAGE,
            Self::Network => pci::CLASS_ETHERNET,
            Self::Console => pci::CLASS_COMMUNICATION,
            Self::Sockets => pci::CLASS_OTHER,
        }
    }

    /// What a request is that the host does not fill.
    pub(super) const fn short(self) -> Short {
        match self {
            Self::Block => Short::Failed(block_device::STATUS_IOERR),
            Self::Network | Self::Console => Short::Done,
            Self::Sockets => Short::Zeroed,
        }
    }

    /// Features that the host is asked for.
    pub(super) const fn asked(self) -> u64 {
        match self {
            Self::Block => block::PASSED | block_device::FEATURE_SIZE_MAX,
            Self::Network => network::PASSED,
            Self::Console => console::PASSED,
            Self::Sockets => sockets::PASSED,
        }
    }

    /// Bytes of the host's configuration that are read.
    pub(super) const fn configuration_length(self) -> usize {
        match self {
            Self::Block => block_device::CONFIG_SIZE,
            Self::Network => net::CONFIG_SIZE,
            Self::Console => console_device::CONFIG_SIZE,
            Self::Sockets => vsock::CONFIG_SIZE,
        }
    }

    /// The bytes of the configuration that a host may change while L2 runs.
    pub(super) const fn changeable(self) -> Range<usize> {
        match self {
            Self::Block => block::CHANGEABLE,
            Self::Network => network::CHANGEABLE,
            Self::Console => 0..console_device::CONFIG_SIZE_LENGTH,
            Self::Sockets => 0..0,
        }
    }

    /// What those are for L2, if the host's are `now`, and as long.
    pub(super) fn changed(self, shown: &Shown, now: &[u8]) -> Result<Vec<u8>, KindError> {
        match self {
            Self::Block => block::changed(now),
            Self::Network => Ok(network::changed(shown.passed, now)),
            Self::Console => Ok(console::changed(shown.passed, now)),
            Self::Sockets => Ok(Vec::new()),
        }
    }

    /// What L2 is shown of a host's device that has of [`Kind::asked`] these features, and this configuration.
    /// There are `room` bytes for its queues and buffers.
    pub(super) fn shown(
        self,
        features: u64,
        configuration: &[u8],
        room: usize,
    ) -> Result<Shown, KindError> {
        match self {
            Self::Block => block::shown(features, configuration, room),
            Self::Network => Ok(network::shown(features, configuration)),
            Self::Console => Ok(console::shown(features, configuration)),
            Self::Sockets => sockets::shown(features, configuration),
        }
    }
}
