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

/// Bytes of shared memory that a device gets at most: as many as keep a queue full of small requests.
const DEVICE_MEMORY: usize = 0x10_0000;

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
    let mut bridged = bridges(kinds, host);
    let backends = |kind: &DeviceKind| match bridged_kind(*kind) {
        None => {
            let device: Box<dyn Backend> = Box::new(EntropyDevice::new(random::fill));
            vec![device]
        }
        Some(wanted) => bridged
            .extract_if(.., |(kind, _)| *kind == wanted)
            .map(|(_, backend)| backend)
            .collect(),
    };
    let backends: Vec<_> = kinds.iter().flat_map(backends).collect();
    log::info!("PCI bus: {} devices", backends.len());
    Bus { window, backends }
}

/// The type of the host's devices that are behind L2's, if L1 is not.
fn bridged_kind(kind: DeviceKind) -> Option<Kind> {
    match kind {
        DeviceKind::Entropy => None,
        DeviceKind::Disks => Some(Kind::Block),
        DeviceKind::Network => Some(Kind::Network),
    }
}

/// The host's devices of these kinds, but the disk with the TPM's state. One that is refused is left out, with a line in
/// the log.
fn bridges(kinds: &[DeviceKind], host: &Host<'_>) -> Vec<(Kind, Box<dyn Backend>)> {
    let kinds: Vec<Kind> = kinds.iter().copied().filter_map(bridged_kind).collect();
    if kinds.is_empty() {
        return Vec::new();
    }
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
    for kind in kinds {
        while let Some(device) = devices.take(kind.device_type(), None) {
            found.push((kind, device));
        }
    }
    let share = host.memory.length() / found.len().max(1);
    let mut pool = Pool::new(host.memory);
    let mut bridged: Vec<(Kind, Box<dyn Backend>)> = Vec::new();
    for (kind, found) in found {
        let function = found.function;
        let Some(memory) = pool.take(share.min(DEVICE_MEMORY) & !0xFFF) else {
            continue;
        };
        let message = Message {
            address: pc::LOCAL_APIC,
            data: DEVICES_VECTOR.into(),
        };
        match Bridge::open(found.device, &memory, clock, kind, 0, message) {
            Ok(bridge) => bridged.push((kind, Box::new(bridge))),
            Err(error) => log::warn!("the host's device at {function} is not L2's: {error}"),
        }
    }
    bridged
}
