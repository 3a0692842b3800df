//! The host's devices that L1 drives for itself: the disk of the TPM's state, and the console to the key broker.

use alloc::boxed::Box;

use l1_vmm::launch::e820::E820Map;
use l1_vmm::shared_buffer::{Part, Pool};
use l1_vmm::virtio::block::{Block, Limits};
use l1_vmm::virtio::clock::Nanoseconds;
use l1_vmm::virtio::console::Console;
use l1_vmm::virtio::devices::Devices;
use l1_vmm::virtio::pci::{BarWindow, TdPci};

use crate::arch::memory::Bounce;
use crate::arch::{Instruction, clock, td};

/// The host's bus.
type Bus = TdPci<'static, Instruction>;
/// Memory that a device has.
type Memory = Part<Part<Bounce>>;
/// The state disk.
pub(crate) type Disk = Block<Bus, Memory, Nanoseconds>;
/// The channel to the key broker.
pub(crate) type Channel = Console<Bus, Memory, Nanoseconds>;

/// Bytes of shared memory that the two take at most, whole pages each.
pub(crate) const MEMORY: usize =
    (Disk::MEMORY_MAX + Channel::MEMORY_MAX).next_multiple_of(0x1000) + 0x1000;

/// What the host has of them. What it lacks is told in the log; whether that matters is for the configuration to say.
#[derive(Debug, Default)]
pub(crate) struct OwnDevices {
    pub(crate) disk: Option<Disk>,
    pub(crate) channel: Option<Channel>,
}

/// Finds the two beside the memory map `e820`; they get `memory`, which is shared with the host.
pub(crate) fn find(e820: &E820Map, memory: Part<Bounce>, shared_bit: u64) -> OwnDevices {
    // The devices live as long as L1 does.
    let bus = TdPci::new(Box::leak(Box::new(td())), shared_bit);
    let mut window = BarWindow::beside_memory(e820, &[]);
    let mut devices = match Devices::find(&bus, &mut window) {
        Ok(devices) => devices,
        Err(error) => {
            log::warn!("the host's PCI bus: {error}");
            return OwnDevices::default();
        }
    };
    let clock = Nanoseconds(clock::nanoseconds);
    let mut pool = Pool::new(memory);
    let disk = pool.take(Disk::MEMORY_MAX).and_then(|memory| {
        devices
            .state_disk(&memory, &clock, Limits::DISK)
            .inspect_err(|error| log::warn!("{error}"))
            .ok()
    });
    let channel = pool.take(Channel::MEMORY_MAX).and_then(|memory| {
        devices
            .broker_console(None, memory, clock)
            .inspect_err(|error| log::warn!("{error}"))
            .ok()
    });
    OwnDevices { disk, channel }
}
