//! The virtio devices of the host's bus, and which of them are L1's own.
//!
//! All are found once, before L2 is: each gets its BARs then, and is in reset until somebody drives it. L1 takes two:
//! the block device that calls itself [`STATE_DISK`], and the first console or socket device, by which the key broker is
//! reached ([`BrokerChannel`]). The others are whoever's who asks for them by their type.
//!
//! What a device calls itself is the host's word, as all that it stores or sends: it says which device is meant, and
//! proves nothing.

use super::block::{Access, Block, Durability, Limits};
use super::clock::Clock;
use super::pci::{self, BarWindow, Device, Function, HostPci, PciError};
use alloc::boxed::Box;
use alloc::vec::Vec;
use tdcall::SharedBuffer;
use virtio_defs::block;
use x86_defs::pci as registers;

mod broker_channel;
#[cfg(test)]
mod tests;

pub use broker_channel::{BROKER_PORT, BrokerChannel, ChannelError};

/// What the state disk calls itself: the rest of its name is zeroes. QEMU: `-device virtio-blk-pci,serial=tdp-vtpm-state`.
pub const STATE_DISK: &str = "tdp-vtpm-state";

/// A device that nobody drives.
#[derive(Debug)]
pub struct Found<H> {
    /// Where it is.
    pub function: Function,
    /// Its type (VIRTIO chapter 5).
    pub kind: u16,
    /// The device.
    pub device: Device<H>,
}

/// The devices that nobody drives, in the order of the bus.
#[derive(Debug)]
pub struct Devices<H> {
    found: Vec<Found<H>>,
}

/// Why there is no state disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateDiskError {
    /// No block device has its name.
    #[error("no block device of the host's calls itself {STATE_DISK}")]
    Absent,
    /// It cannot be written.
    #[error("the state disk is read-only")]
    ReadOnly,
    /// It has no flush (VIRTIO_BLK_F_FLUSH): nobody could say what is stored.
    #[error("the state disk cannot flush")]
    NoFlush,
}

impl<H: HostPci + Clone> Devices<H> {
    /// Finds the virtio devices of bus 0, and gives their BARs places in `window`. One that breaks a rule is left
    /// out, with a line in the log. It is an error if the host has no bus.
    pub fn find(host: &H, window: &mut BarWindow) -> Result<Self, PciError> {
        let mut found = Vec::new();
        for function in functions(host)? {
            let kind = match pci::device_type(host, function) {
                Ok(Some(kind)) => kind,
                Ok(None) => continue,
                Err(error) => {
                    log::warn!("the host's PCI function {function}: {error}");
                    continue;
                }
            };
            match Device::find(host.clone(), function, kind, window) {
                Ok(device) => {
                    log::info!("the host has a virtio device of type {kind} at {function}");
                    found.push(Found {
                        function,
                        kind,
                        device,
                    });
                }
                Err(error) => {
                    log::warn!(
                        "the virtio device of type {kind} at {function} is refused: {error}"
                    );
                }
            }
        }
        Ok(Self { found })
    }
}

/// Types of the virtio devices of bus 0, in their order. Nothing is done to them; where the host has no bus, or does not tell, there
/// are none.
pub fn types<H: HostPci>(host: &H) -> Vec<u16> {
    let functions = functions(host).unwrap_or_default();
    functions
        .into_iter()
        .filter_map(|function| pci::device_type(host, function).ok().flatten())
        .collect()
}

/// The functions of bus 0.
fn functions<H: HostPci>(host: &H) -> Result<Vec<Function>, PciError> {
    let mut there = Vec::new();
    for device in 0..registers::DEVICES {
        for number in 0..registers::FUNCTIONS {
            let function = Function {
                bus: 0,
                device_function: device << 3 | number,
            };
            if host.config_read(function, registers::VENDOR_DEVICE)? == u32::MAX {
                if number == 0 {
                    break;
                }
                continue;
            }
            there.push(function);
            let header = host.config_read(function, registers::HEADER)?;
            let [_, _, header, _] = header.to_le_bytes();
            if number == 0 && header & registers::HEADER_MULTI_FUNCTION == 0 {
                break;
            }
        }
    }
    Ok(there)
}

impl<H: HostPci> Devices<H> {
    /// What nobody drives.
    pub fn iter(&self) -> impl Iterator<Item = &Found<H>> {
        self.found.iter()
    }

    /// The first device of type `kind`, or the one at `function`.
    pub fn take(&mut self, kind: u16, function: Option<Function>) -> Option<Found<H>> {
        self.take_first(|found| {
            found.kind == kind && function.is_none_or(|function| found.function == function)
        })
    }

    fn take_first(&mut self, wanted: impl FnMut(&Found<H>) -> bool) -> Option<Found<H>> {
        let place = self.found.iter().position(wanted)?;
        Some(self.found.remove(place))
    }

    /// Puts a device back.
    pub fn put_back(&mut self, found: Found<H>) {
        let function = found.function;
        let place = self
            .found
            .partition_point(|other| other.function < function);
        self.found.insert(place, found);
    }

    /// The state disk: the first block device of that name that can be written and flushed. Other block devices are
    /// asked for their names, and reset; one that does not tell is passed over.
    pub fn state_disk<B: SharedBuffer + Clone, C: Clock + Clone>(
        &mut self,
        memory: &B,
        clock: &C,
        limits: Limits,
    ) -> Result<Block<H, B, C>, StateDiskError> {
        let mut error = StateDiskError::Absent;
        let mut passed_over = Vec::new();
        let mut disk = None;
        while disk.is_none()
            && let Some(Found {
                function,
                kind,
                device,
            }) = self.take(block::DEVICE_TYPE, None)
        {
            let opened = Block::open(
                device,
                memory.clone(),
                clock.clone(),
                "block device",
                0,
                limits,
            );
            let device = match opened.map(|block| named(block, &mut error)) {
                Ok(Ok(block)) => {
                    log::info!("the state disk is the virtio device at {function}");
                    disk = Some(block);
                    continue;
                }
                Ok(Err(device)) => *device,
                Err(returned) => {
                    let error = returned.error;
                    log::warn!("the host's block device at {function}: {error}");
                    returned.device
                }
            };
            passed_over.push(Found {
                function,
                kind,
                device,
            });
        }
        for found in passed_over {
            self.put_back(found);
        }
        disk.ok_or(error)
    }
}

/// The device itself if it is the state disk; if it is not, or cannot be it, its device, and in `why` the reason.
fn named<H: HostPci, B: SharedBuffer + Clone, C: Clock>(
    mut block: Block<H, B, C>,
    why: &mut StateDiskError,
) -> Result<Block<H, B, C>, Box<Device<H>>> {
    let is_named = |id: &[u8]| {
        let length = id.iter().position(|byte| *byte == 0).unwrap_or(id.len());
        id.get(..length) == Some(STATE_DISK.as_bytes())
    };
    match block.identify() {
        Ok(id) if is_named(&id) => {}
        _ => return Err(Box::new(block.close())),
    }
    *why = match (block.access(), block.durability()) {
        (Access::ReadWrite, Durability::Flush) => return Ok(block),
        (Access::ReadOnly, _) => StateDiskError::ReadOnly,
        (Access::ReadWrite, Durability::Unknown) => StateDiskError::NoFlush,
    };
    Err(Box::new(block.close()))
}
