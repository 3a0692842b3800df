//! The devices on L2's PCI bus.

use alloc::boxed::Box;

use l1_vmm::launch::MemoryPlan;
use l1_vmm::launch::options::DeviceKind;
use l1_vmm::machine::devices::pci::Bus;
use l1_vmm::machine::devices::pci::window::PciWindow;
use l1_vmm::machine::devices::virtio::backend::Backend;
use l1_vmm::machine::devices::virtio::entropy::EntropyDevice;

use crate::arch::random;
use crate::fatal::{FatalCode, OrFatal};

/// Takes memory for the bus's addresses, if there are devices on it.
pub(crate) fn window(kinds: &[DeviceKind], plan: &mut MemoryPlan) -> Option<PciWindow> {
    if kinds.is_empty() {
        return None;
    }
    let page = plan.take_large_page().or_fatal(FatalCode::Configuration);
    let window = PciWindow::new(page)
        .ok_or("the memory plan's page is none for a PCI bus")
        .or_fatal(FatalCode::Configuration);
    log::info!("PCI bus: addresses {page}, {} devices", kinds.len());
    Some(window)
}

/// The bus, with what is behind its devices.
pub(crate) fn bus(window: PciWindow, kinds: &[DeviceKind]) -> Bus {
    let backend = |kind: &DeviceKind| -> Box<dyn Backend> {
        match kind {
            DeviceKind::Entropy => Box::new(EntropyDevice::new(random::fill)),
        }
    };
    Bus {
        window,
        backends: kinds.iter().map(backend).collect(),
    }
}
