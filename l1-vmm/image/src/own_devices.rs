//! The host's bus, and the devices on it that L1 drives for itself: the disk of the TPM's state, and the channel to the
//! key broker.

use alloc::boxed::Box;

use l1_vmm::launch::e820::E820Map;
use l1_vmm::shared_buffer::{Part, Pool};
use l1_vmm::virtio::block::{Block, Limits};
use l1_vmm::virtio::clock::Nanoseconds;
use l1_vmm::virtio::devices::{BrokerChannel, Devices};
use l1_vmm::virtio::pci::{BarWindow, TdPci};

use crate::arch::memory::Bounce;
use crate::arch::{Instruction, clock, td};

/// The host's bus.
pub(crate) type HostBus = TdPci<'static, Instruction>;
/// Memory that a device has.
type Memory = Part<Part<Bounce>>;
/// The state disk.
pub(crate) type Disk = Block<HostBus, Memory, Nanoseconds>;
/// The channel to the key broker.
pub(crate) type Channel = BrokerChannel<HostBus, Memory, Nanoseconds>;

/// Bytes of shared memory that the two take at most, whole pages each.
pub(crate) const MEMORY: usize =
    (Disk::MEMORY_MAX + Channel::MEMORY_MAX).next_multiple_of(0x1000) + 0x1000;

/// What the host has of them. What it lacks is told in the log; whether that matters is for the configuration to say.
#[derive(Debug, Default)]
pub(crate) struct OwnDevices {
    pub(crate) disk: Option<Disk>,
    pub(crate) channel: Option<Channel>,
}

/// The host's bus; once, for its devices live as long as L1 does.
pub(crate) fn bus(shared_bit: u64) -> HostBus {
    TdPci::new(Box::leak(Box::new(td())), shared_bit)
}

/// Looks for the host's devices, beside the memory map `e820`; once, for a second look would find those in use.
pub(crate) fn find(bus: HostBus, e820: &E820Map) -> Option<Devices<HostBus>> {
    let mut places = BarWindow::beside_memory(e820, &[]);
    Devices::find(&bus, &mut places)
        .inspect_err(|error| log::warn!("the host's PCI bus: {error}"))
        .ok()
}

/// Whether L1 has a console of its own: as the attested configuration says, by naming a key broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broker {
    /// None is named.
    None,
    /// The first console or socket device of the bus leads to it.
    Named,
}

/// Takes the two from `devices`; they get `memory`, which is shared with the host. What is left is L2's.
pub(crate) fn take(
    devices: &mut Devices<HostBus>,
    memory: Part<Bounce>,
    broker: Broker,
) -> OwnDevices {
    let clock = Nanoseconds(clock::nanoseconds);
    let mut pool = Pool::new(memory);
    let disk = pool.take(Disk::MEMORY_MAX).and_then(|memory| {
        devices
            .state_disk(&memory, &clock, Limits::DISK)
            .inspect_err(|error| log::info!("{error}"))
            .ok()
    });
    let channel = match broker {
        Broker::None => None,
        Broker::Named => pool.take(Channel::MEMORY_MAX).and_then(|memory| {
            devices
                .broker_channel(memory, clock)
                .inspect_err(|error| log::info!("{error}"))
                .ok()
        }),
    };
    OwnDevices { disk, channel }
}
