//! QEMU's own PCI bus: memory that it shares with a file of the host (`-device ivshmem-plain`).

use super::memory::DeviceMemory;
use super::port::Port;
use x86_defs::pci;

/// Red Hat's inter-VM shared memory device (QEMU: docs/specs/ivshmem-spec.txt): vendor in the lower half.
const IVSHMEM: u32 = 0x1110_1AF4;
/// The BAR that is the memory.
const BAR: u8 = pci::BAR + 4 * 2;

/// Where such memory is put: above all RAM, below what the boot code maps.
const WINDOW_START: u64 = 256 << 30;
const WINDOW_END: u64 = 512 << 30;

/// The addresses that are still free.
#[derive(Debug)]
pub(crate) struct Window {
    next: u64,
}

impl Window {
    /// All of them. There is one window: what it gave out would be given out again by another.
    pub(crate) const fn new() -> Self {
        Self { next: WINDOW_START }
    }

    /// The memory of the ivshmem device that is function 0 of `device` on bus 0, which the firmware did not place.
    pub(crate) fn shared_memory(&mut self, device: u8) -> Option<DeviceMemory> {
        if read(device, pci::VENDOR_DEVICE) != IVSHMEM {
            return None;
        }
        write(device, BAR, u32::MAX);
        write(device, BAR + 4, u32::MAX);
        let low = read(device, BAR);
        let mask = u64::from(low & pci::BAR_ADDRESS) | u64::from(read(device, BAR + 4)) << 32;
        let size = (!mask).wrapping_add(1);
        let start = self.next.checked_next_multiple_of(size)?;
        let end = start.checked_add(size)?;
        if low & pci::BAR_TYPE != pci::BAR_TYPE_64 || !size.is_power_of_two() || end > WINDOW_END {
            return None;
        }
        write(device, BAR, start as u32);
        write(device, BAR + 4, (start >> 32) as u32);
        write(device, pci::COMMAND_STATUS, pci::COMMAND_MEMORY.into());
        self.next = end;
        // SAFETY: the BAR answers there, one to one (`boot`); RAM ends below the window, and no other BAR is put at these
        // addresses, nor is any value of this type made of them.
        Some(unsafe { DeviceMemory::new(start, size) })
    }
}

fn select(device: u8, offset: u8) {
    let place = u32::from(device) << 11 | u32::from(offset);
    Port::PCI_ADDRESS.write32(pci::CONFIG_ENABLE | place);
}

fn read(device: u8, offset: u8) -> u32 {
    select(device, offset);
    Port::PCI_DATA.read32()
}

fn write(device: u8, offset: u8, value: u32) {
    select(device, offset);
    Port::PCI_DATA.write32(value);
}
