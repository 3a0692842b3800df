//! The devices on L2's PCI bus.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use l1_vmm::launch::MemoryPlan;
use l1_vmm::launch::options::DeviceKind;
use l1_vmm::machine::devices::pci::Bus;
use l1_vmm::machine::devices::pci::window::PciWindow;
use l1_vmm::machine::devices::virtio::backend::Backend;
use l1_vmm::machine::devices::virtio::entropy::EntropyDevice;
use l1_vmm::machine::host::{CONFIGURATION_VECTOR, DEVICES_VECTOR};
use l1_vmm::shared_buffer::{Part, Pool};
use l1_vmm::virtio::bridge::{Bridge, Interrupts, Kind};
use l1_vmm::virtio::clock::Nanoseconds;
use l1_vmm::virtio::devices::Devices;
use l1_vmm::virtio::pci::Message;
use tdcall::SharedBuffer;
use x86_defs::pc;

use crate::arch::interrupts::CONFIGURATION_CHANGES;
use crate::arch::memory::Bounce;
use crate::arch::{clock, random};
use crate::fatal::{FatalCode, OrFatal};
use crate::own_devices::HostBus;

/// What is behind a device of L2's: served by whichever processor of L1's comes to it.
pub(crate) type Behind = dyn Backend + Send;

/// What of the host is behind L2's devices.
pub(crate) struct Host {
    /// Its devices that L1 does not drive for itself.
    pub(crate) devices: Option<Devices<HostBus>>,
    /// Shared memory for queues and buffers, which nothing else uses any more.
    pub(crate) memory: Part<Bounce>,
}

/// Whether L2's devices have some of the host's behind them.
pub(crate) fn needs_host(kinds: &[DeviceKind]) -> bool {
    kinds.iter().any(|kind| bridged_kind(*kind).is_some())
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
pub(crate) fn bus(window: PciWindow, kinds: &[DeviceKind], host: Host) -> Bus<Behind> {
    let mut bridged = bridges(kinds, host);
    let backends = |kind: &DeviceKind| match bridged_kind(*kind) {
        None => {
            let device: Box<Behind> = Box::new(EntropyDevice::new(random::fill));
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
        DeviceKind::Consoles => Some(Kind::Console),
        DeviceKind::Sockets => Some(Kind::Sockets),
    }
}

/// The host's devices of these kinds. One that is refused is left out, with a line in the log.
fn bridges(kinds: &[DeviceKind], host: Host) -> Vec<(Kind, Box<Behind>)> {
    let kinds = kinds.iter().copied().filter_map(bridged_kind);
    let Some(mut devices) = host.devices else {
        return Vec::new();
    };
    let clock = Nanoseconds(clock::nanoseconds);
    let mut found = Vec::new();
    for kind in kinds {
        while let Some(device) = devices.take(kind.device_type(), None) {
            found.push((kind, device));
        }
    }
    let wanted: usize = found.iter().map(|(kind, _)| kind.memory()).sum();
    let there = host.memory.length();
    let mut pool = Pool::new(host.memory);
    let mut bridged: Vec<(Kind, Box<Behind>)> = Vec::new();
    for (kind, found) in found {
        let function = found.function;
        // Where there is too little for all, each has its part of what it would have.
        let share = kind
            .memory()
            .min(kind.memory().saturating_mul(there) / wanted.max(1));
        let Some(memory) = pool.take(share & !0xFFF) else {
            continue;
        };
        let message = |vector: u8| Message {
            address: pc::LOCAL_APIC,
            data: vector.into(),
        };
        let interrupts = Interrupts {
            queues: message(DEVICES_VECTOR),
            configuration: message(CONFIGURATION_VECTOR),
            changes: &CONFIGURATION_CHANGES,
        };
        match Bridge::open(found.device, &memory, clock, kind, 0, interrupts) {
            Ok(bridge) => bridged.push((kind, Box::new(bridge))),
            Err(error) => log::warn!("the host's device at {function} is not L2's: {error}"),
        }
    }
    bridged
}
