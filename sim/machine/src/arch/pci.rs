//! QEMU's own PCI bus: memory that it shares with a file of the host (`-device ivshmem-plain`), and functions that are
//! given to the TD.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::iommu::Iommu;
use super::memory::{DeviceMemory, Mmio};
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

/// Where BARs that a TD places may be: what a PC leaves to PCI devices, below the I/O APIC.
const TD_WINDOW: Range<u64> = 0xC000_0000..0xFEC0_0000;

/// A memory BAR of a function that was given to the TD.
#[derive(Clone, Copy, Debug)]
struct Bar {
    index: u8,
    size: u64,
    /// Where the TD has put it, 0 at first.
    address: u64,
}

impl Bar {
    fn is_placed(&self) -> bool {
        let end = self.address.checked_add(self.size);
        TD_WINDOW.contains(&self.address) && end.is_some_and(|end| end <= TD_WINDOW.end)
    }
}

/// Function 0 of a device of bus 0, which is the TD's: it reaches memory through the IOMMU alone, and its BARs answer in
/// [`TD_WINDOW`] alone.
#[derive(Debug)]
pub(crate) struct QemuFunction {
    device: u8,
    bars: Vec<Bar>,
    /// The command register, as the TD wants it and may have it.
    command: u16,
}

impl QemuFunction {
    /// The function at a device number. It does nothing before the TD says so.
    pub(crate) fn assign(device: u8, iommu: &mut Iommu) -> Result<Self, String> {
        if read(device, pci::VENDOR_DEVICE) == u32::MAX {
            return Err(format!("QEMU has no device at 00:{device:02x}.0"));
        }
        write(device, pci::COMMAND_STATUS, 0);
        iommu.assign(device)?;
        let mut bars = Vec::new();
        let mut index = 0;
        while index < pci::BARS {
            let low = probe(device, index);
            let is_64_bit = low & pci::BAR_TYPE == pci::BAR_TYPE_64 && low & pci::BAR_IO == 0;
            let high = if is_64_bit {
                probe(device, index + 1)
            } else {
                u32::MAX
            };
            let mask = u64::from(low & pci::BAR_ADDRESS) | u64::from(high) << 32;
            if low & pci::BAR_IO == 0 && low != 0 {
                bars.push(Bar {
                    index,
                    size: (!mask).wrapping_add(1),
                    address: 0,
                });
            }
            index += if is_64_bit { 2 } else { 1 };
        }
        Ok(Self {
            device,
            bars,
            command: 0,
        })
    }

    /// A doubleword of configuration space.
    pub(crate) fn read(&self, offset: u8) -> u32 {
        read(self.device, offset)
    }

    /// The offset of a capability.
    pub(crate) fn capability(&self, identity: u8) -> Option<u8> {
        let mut at = self.read(pci::CAPABILITIES) as u8 & pci::CAPABILITY_POINTER;
        // QEMU's lists end.
        while at != 0 {
            let [id, next, ..] = self.read(at).to_le_bytes();
            if id == identity {
                return Some(at);
            }
            at = next & pci::CAPABILITY_POINTER;
        }
        None
    }

    /// Sets the command register: memory BARs, if all of them are where they may be, and access to memory.
    pub(crate) fn set_command(&mut self, value: u16) {
        let used = self.bars.iter().filter(|bar| bar.address != 0);
        let mut allowed = pci::COMMAND_BUS_MASTER;
        if used.clone().count() != 0 && used.clone().all(Bar::is_placed) {
            allowed |= pci::COMMAND_MEMORY;
        }
        self.command = value & allowed;
        write(self.device, pci::COMMAND_STATUS, self.command.into());
    }

    /// Writes a BAR. None answers until the command register is set again.
    pub(crate) fn set_bar(&mut self, register: u8, value: u32) {
        self.command &= !pci::COMMAND_MEMORY;
        write(self.device, pci::COMMAND_STATUS, self.command.into());
        write(self.device, register, value);
        for bar in &mut self.bars {
            let register = pci::BAR + 4 * bar.index;
            let low = read(self.device, register);
            let high = match low & pci::BAR_TYPE {
                pci::BAR_TYPE_64 => read(self.device, register + 4),
                _ => 0,
            };
            bar.address = u64::from(low & pci::BAR_ADDRESS) | u64::from(high) << 32;
        }
    }

    /// Sets message control of the MSI-X capability.
    pub(crate) fn set_msix_control(&mut self, capability: u8, value: u32) {
        write(self.device, capability, value);
    }

    /// Which BAR answers to an address, and at which offset.
    pub(crate) fn decode(&self, gpa: u64, width: u32) -> Option<(u8, u64)> {
        if self.command & pci::COMMAND_MEMORY == 0 {
            return None;
        }
        let mut bars = self.bars.iter().filter(|bar| bar.is_placed());
        bars.find_map(|bar| {
            let offset = gpa.checked_sub(bar.address)?;
            let end = offset.checked_add(width.into())?;
            (end <= bar.size).then_some((bar.index, offset))
        })
    }

    /// Registers at an offset of a BAR that answers.
    fn registers(&self, bar: u8, offset: u64, width: u32) -> Option<Mmio> {
        let bar = self.bars.iter().find(|known| known.index == bar)?;
        let at = bar.address + offset;
        let aligned = at.is_multiple_of(width.into());
        let (_, here) = self.decode(at, width)?;
        // No RAM: `TD_WINDOW` has none.
        (aligned && here == offset).then_some(Mmio::new(at))
    }

    pub(crate) fn read_register(&self, bar: u8, offset: u64, width: u32) -> Option<u64> {
        let registers = self.registers(bar, offset, width)?;
        Some(match width {
            1 => registers.read8(0).into(),
            2 => registers.read16(0).into(),
            4 => registers.read32(0).into(),
            _ => registers.read64(0),
        })
    }

    pub(crate) fn write_register(
        &self,
        bar: u8,
        offset: u64,
        width: u32,
        value: u64,
    ) -> Option<()> {
        let registers = self.registers(bar, offset, width)?;
        match width {
            1 => registers.write8(0, value as u8),
            2 => registers.write16(0, value as u16),
            4 => registers.write32(0, value as u32),
            _ => registers.write64(0, value),
        }
        Some(())
    }
}

/// The bits of a BAR that can be written, and its kind; it is 0 afterwards.
fn probe(device: u8, index: u8) -> u32 {
    let register = pci::BAR + 4 * index;
    write(device, register, u32::MAX);
    let mask = read(device, register);
    write(device, register, 0);
    mask
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
