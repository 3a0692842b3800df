//! The devices on L2's PCI bus.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use l1_vmm::launch::MemoryPlan;
use l1_vmm::launch::e820::E820Map;
use l1_vmm::launch::options::DeviceKind;
use l1_vmm::machine::devices::pci::Bus;
use l1_vmm::machine::devices::pci::window::PciWindow;
use l1_vmm::machine::devices::virtio::backend::Backend;
use l1_vmm::machine::devices::virtio::entropy::EntropyDevice;
use l1_vmm::machine::host::DEVICES_VECTOR;
use l1_vmm::shared_buffer::{Part, Pool};
use l1_vmm::virtio::block::Limits;
use l1_vmm::virtio::bridge::{Bridge, Kind};
use l1_vmm::virtio::clock::Nanoseconds;
use l1_vmm::virtio::devices::Devices;
use l1_vmm::virtio::pci::{BarWindow, Message, TdPci};
use tdcall::SharedBuffer;
use x86_defs::pc;

use crate::arch::memory::Bounce;
use crate::arch::{clock, random, td};
use crate::fatal::{FatalCode, OrFatal};

/// Bytes of shared memory that a disk gets at most: as many as keep a queue full of small requests.
const DISK_MEMORY: usize = 0x10_0000;

/// What the host's devices are reached by.
pub(crate) struct Host<'a> {
    /// The memory map: registers are beside it.
    pub(crate) e820: &'a E820Map,
    /// Shared memory for queues and buffers, which nothing else uses any more.
    pub(crate) memory: Part<Bounce>,
    /// The bit of a guest-physical address that makes it shared.
    pub(crate) shared_bit: u64,
}

/// Takes memory for the bus's addresses, if there are devices on it.
pub(crate) fn window(kinds: &[DeviceKind], plan: &mut MemoryPlan) -> Option<PciWindow> {
    if kinds.is_empty() {
        return None;
    }
    let page = plan.take_large_page().or_fatal(FatalCode::Configuration);
    let window = PciWindow::new(page)
        .ok_or("the memory plan's page is none for a PCI bus")
        .or_fatal(FatalCode::Configuration);
    log::info!("PCI bus: addresses {page}");
    Some(window)
}

/// The bus, with what is behind its devices.
pub(crate) fn bus(window: PciWindow, kinds: &[DeviceKind], host: &Host<'_>) -> Bus {
    let backends = |kind: &DeviceKind| match kind {
        DeviceKind::Entropy => {
            let device: Box<dyn Backend> = Box::new(EntropyDevice::new(random::fill));
            vec![device]
        }
        DeviceKind::Disks => disks(host),
    };
    let backends: Vec<_> = kinds.iter().flat_map(backends).collect();
    log::info!("PCI bus: {} devices", backends.len());
    Bus { window, backends }
}

/// The host's disks but the one for the TPM's state. One that is refused is left out, with a line in the log.
fn disks(host: &Host<'_>) -> Vec<Box<dyn Backend>> {
    // The devices live as long as L1 does.
    let bus = TdPci::new(Box::leak(Box::new(td())), host.shared_bit);
    let mut places = BarWindow::beside_memory(host.e820, &[]);
    let mut devices = match Devices::find(&bus, &mut places) {
        Ok(devices) => devices,
        Err(error) => {
            log::warn!("the host's PCI bus: {error}");
            return Vec::new();
        }
    };
    let clock = Nanoseconds(clock::nanoseconds);
    if let Ok(disk) = devices.state_disk(&host.memory, &clock, Limits::DISK) {
        // It is not L2's, and here only known by its name.
        let _state_disk = disk.close();
    }
    let mut found = Vec::new();
    while let Some(disk) = devices.take(Kind::Block.device_type(), None) {
        found.push(disk);
    }
    let share = host.memory.length() / found.len().max(1);
    let mut pool = Pool::new(host.memory);
    let mut bridged: Vec<Box<dyn Backend>> = Vec::new();
    for disk in found {
        let function = disk.function;
        let Some(memory) = pool.take(share.min(DISK_MEMORY) & !0xFFF) else {
            continue;
        };
        let message = Message {
            address: pc::LOCAL_APIC,
            data: DEVICES_VECTOR.into(),
        };
        match Bridge::open(disk.device, &memory, clock, Kind::Block, 0, message) {
            Ok(bridge) => bridged.push(Box::new(bridge)),
            Err(error) => log::warn!("the host's disk at {function} is not L2's: {error}"),
        }
    }
    bridged
}
