//! QEMU's own functions, given to the TD: real device models behind an IOMMU that lets them reach what the TD shares.
//!
//! Configuration space and BARs are QEMU's. Of MSI-X, QEMU's table has messages for this program, which sends the TD the ones
//! that the TD wrote.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use virtio_host::Message;
use x86_defs::paging::PAGE_4K;
use x86_defs::pci;

use super::memory::TdMemory;
use crate::arch::interrupts::{self, MESSAGES};
use crate::arch::iommu::Iommu;
use crate::arch::pci::QemuFunction;

/// The MSI-X table.
#[derive(Debug)]
struct Table {
    capability: u8,
    bar: u8,
    offset: u64,
    /// Entries as the TD wrote them.
    entries: Vec<[u32; 4]>,
    /// The first of this program's messages.
    first: u8,
}

/// A function.
#[derive(Debug)]
struct Assigned {
    function: QemuFunction,
    table: Option<Table>,
}

/// All functions, and the IOMMU before them.
#[derive(Debug)]
pub(super) struct AssignedFunctions {
    functions: Vec<(u8, Assigned)>,
    iommu: Option<Iommu>,
}

impl AssignedFunctions {
    /// The functions at these device numbers.
    pub(super) fn new(devices: &[u8], memory: &mut TdMemory) -> Result<Self, String> {
        let mut all = Self {
            functions: Vec::new(),
            iommu: None,
        };
        if devices.is_empty() {
            return Ok(all);
        }
        let mut iommu = Iommu::start(&mut || memory.take_frames(PAGE_4K).ok())?;
        let mut first = 0_u8;
        for &device in devices {
            let function = QemuFunction::assign(device, &mut iommu)?;
            let assigned = Assigned::new(function, first);
            let used = assigned.table.as_ref().map_or(0, |t| t.entries.len());
            first = u8::try_from(used)
                .ok()
                .and_then(|used| first.checked_add(used))
                .filter(|&next| next <= MESSAGES)
                .ok_or("QEMU's devices have too many interrupt messages")?;
            all.functions.push((device, assigned));
        }
        all.iommu = Some(iommu);
        Ok(all)
    }

    /// Whether something outside can bring an interrupt about.
    pub(super) fn can_wake(&self) -> bool {
        !self.functions.is_empty()
    }

    /// The function at a device number.
    fn function(&mut self, device: u8) -> Option<&mut Assigned> {
        let mut functions = self.functions.iter_mut();
        functions.find_map(|(at, function)| (*at == device).then_some(function))
    }

    /// A doubleword of configuration space; none if the device is none of these.
    pub(super) fn configuration_read(&mut self, device: u8, offset: u8) -> Option<u32> {
        Some(self.function(device)?.function.read(offset))
    }

    /// Writes a doubleword of configuration space.
    pub(super) fn configuration_write(&mut self, device: u8, offset: u8, value: u32) -> Option<()> {
        self.function(device)?.configuration_write(offset, value);
        Some(())
    }

    /// A read of a BAR; none if none answers.
    pub(super) fn read(&mut self, gpa: u64, width: u32) -> Option<u64> {
        let mut functions = self.functions.iter();
        functions.find_map(|(_, function)| function.read(gpa, width))
    }

    /// A write to a BAR; none if none answers.
    pub(super) fn write(&mut self, gpa: u64, width: u32, value: u64) -> Option<()> {
        let mut functions = self.functions.iter_mut();
        functions.find_map(|(_, function)| function.write(gpa, width, value))
    }

    /// The TD's messages for those of this program that came, one bit each.
    pub(super) fn messages(&self, came: u64) -> Vec<Message> {
        let numbers = (0..MESSAGES).filter(|number| came >> number & 1 != 0);
        numbers.filter_map(|number| self.message(number)).collect()
    }

    fn message(&self, number: u8) -> Option<Message> {
        let mut tables = self.functions.iter().filter_map(|(_, f)| f.table.as_ref());
        tables.find_map(|table| {
            let entry = number.checked_sub(table.first)?;
            let &[low, high, data, _] = table.entries.get(usize::from(entry))?;
            let address = u64::from(low) | u64::from(high) << 32;
            Some(Message { address, data })
        })
    }

    /// Lets the devices reach what has become shared of a range.
    pub(super) fn shared(
        &mut self,
        range: Range<u64>,
        memory: &mut TdMemory,
    ) -> Result<(), String> {
        let Some(iommu) = &mut self.iommu else {
            return Ok(());
        };
        for gpa in range.step_by(PAGE_4K as usize) {
            let Some((hpa, _)) = memory.shared(gpa) else {
                continue;
            };
            if !iommu.map(gpa, hpa, &mut || memory.take_frames(PAGE_4K).ok()) {
                return Err(format!("the IOMMU has no table for {gpa:#x}"));
            }
        }
        Ok(())
    }

    /// Takes from the devices what is to become private.
    pub(super) fn private(&mut self, range: Range<u64>) -> Result<(), String> {
        match &mut self.iommu {
            Some(iommu) => iommu.unmap(range),
            None => Ok(()),
        }
    }
}

impl Assigned {
    fn new(function: QemuFunction, first: u8) -> Self {
        let table = function.capability(pci::CAPABILITY_MSIX).map(|capability| {
            let control = (function.read(capability) >> 16) as u16;
            let entries = usize::from(control & pci::MSIX_TABLE_SIZE) + 1;
            let place = function.read(capability + pci::MSIX_TABLE);
            Table {
                capability,
                bar: (place & pci::MSIX_BAR) as u8,
                offset: (place & !pci::MSIX_BAR).into(),
                entries: alloc::vec![[0, 0, 0, pci::MSIX_MASKED]; entries],
                first,
            }
        });
        Self { function, table }
    }

    /// Passes on commands, BARs, and whether MSI-X is on.
    fn configuration_write(&mut self, offset: u8, value: u32) {
        match offset {
            pci::COMMAND_STATUS => self.function.set_command(value as u16),
            pci::BAR..=0x24 => self.function.set_bar(offset, value),
            _ => {
                if let Some(table) = &self.table
                    && table.capability == offset
                {
                    self.function.set_msix_control(table.capability, value);
                }
            }
        }
    }

    /// The entry of the MSI-X table at an offset of a BAR, and the doubleword of it.
    fn table_place(&self, bar: u8, offset: u64) -> Option<(usize, usize)> {
        let table = self.table.as_ref().filter(|table| table.bar == bar)?;
        let offset = offset.checked_sub(table.offset)?;
        let entry = (offset / u64::from(pci::MSIX_ENTRY)) as usize;
        let word = (offset % u64::from(pci::MSIX_ENTRY) / 4) as usize;
        (entry < table.entries.len()).then_some((entry, word))
    }

    fn read(&self, gpa: u64, width: u32) -> Option<u64> {
        let (bar, offset) = self.function.decode(gpa, width)?;
        let Some((entry, word)) = self.table_place(bar, offset) else {
            return self.function.read_register(bar, offset, width);
        };
        let words = self.table.as_ref()?.entries.get(entry)?;
        let low = u64::from(*words.get(word)?);
        let high = u64::from(words.get(word + 1).copied().unwrap_or(0));
        Some(if width == 8 { low | high << 32 } else { low })
    }

    fn write(&mut self, gpa: u64, width: u32, value: u64) -> Option<()> {
        let (bar, offset) = self.function.decode(gpa, width)?;
        let Some((entry, word)) = self.table_place(bar, offset) else {
            return self.function.write_register(bar, offset, width, value);
        };
        let table = self.table.as_mut()?;
        let words = table.entries.get_mut(entry)?;
        let halves = [value as u32, (value >> 32) as u32];
        let count = if width == 8 { 2 } else { 1 };
        for (place, half) in words.iter_mut().skip(word).zip(halves).take(count) {
            *place = half;
        }
        // QEMU's entry has this program's message.
        let &mut [_, _, _, control] = words;
        let (address, data) = interrupts::message(table.first + entry as u8);
        let place = table.offset + entry as u64 * u64::from(pci::MSIX_ENTRY);
        for (offset, value) in (place..).step_by(4).zip([address, 0, data, control]) {
            self.function.write_register(bar, offset, 4, value.into())?;
        }
        Some(())
    }
}
