//! The PCI function of a virtio device (VIRTIO 4.1): one BAR with the registers, one with the MSI-X table. Modern only,
//! no ports, no interrupt line.

use alloc::boxed::Box;

use super::backend::Backend;
use super::device::Device;
use crate::machine::devices::ioapic::MessageSink;
use crate::machine::devices::pci::configuration::{Configuration, Identity};
use crate::machine::devices::pci::msix::{self, Msix};
use crate::run::environment::L2Memory;
use virtio_defs::pci as virtio;
use x86_defs::pci;

/// BAR of the registers.
const REGISTERS: u8 = 0;
/// BAR of the MSI-X table.
const TABLE: u8 = 1;

/// Offset of the common configuration in the BAR of registers.
const COMMON: u32 = 0;
/// Offset of the interrupt status.
const INTERRUPT_STATUS: u32 = 0x1000;
/// Offset of the device's configuration.
const DEVICE: u32 = 0x2000;
/// Offset of the notifications.
const NOTIFY: u32 = 0x3000;
/// Bytes of each of them.
const PART: u32 = 0x1000;
/// Bytes of the BAR of registers.
const REGISTERS_SIZE: u32 = 0x4000;
/// Bytes between the notifications of two queues.
const NOTIFY_MULTIPLIER: u32 = 4;

/// Addresses that a function's BARs take together, and where they may begin.
pub const BARS_SIZE: u32 = 2 * REGISTERS_SIZE;

/// Subsystem ID: that of QEMU's virtio devices, which no driver looks at.
const SUBSYSTEM: u16 = 0x1100;

/// A place in a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    bar: u8,
    offset: u32,
}

/// A virtio device behind its PCI function.
pub struct Function<B: ?Sized = dyn Backend> {
    configuration: Configuration,
    /// As after a reset.
    initial: Configuration,
    /// Offset of the MSI-X capability.
    msix_at: u8,
    /// Offset of the PCI configuration access capability.
    access_at: u8,
    msix: Msix,
    device: Device<B>,
}

impl<B: Backend + ?Sized> Function<B> {
    /// The function of `backend`'s device, its BARs placed from `bars` on by L1, which is this machine's firmware.
    pub fn new(backend: Box<B>, bars: u32) -> Self {
        let queues = backend.queues().len() as u16;
        let msix = Msix::new(queues.saturating_add(1));
        let kind = backend.kind();
        let mut configuration = Configuration::new(&Identity {
            vendor: virtio::VENDOR,
            device: virtio::DEVICE_BASE.wrapping_add(kind),
            revision: virtio::REVISION,
            class: backend.class(),
            subsystem: (virtio::VENDOR, SUBSYSTEM),
        });
        configuration.add_bar(REGISTERS, bars, REGISTERS_SIZE);
        configuration.add_bar(TABLE, bars.wrapping_add(REGISTERS_SIZE), msix::BAR_SIZE);
        let mut place = |kind, bar, offset: u32, more: &[u8]| {
            let length = virtio::CAP_SIZE.saturating_add(more.len() as u8);
            let mut body = alloc::vec![length, kind, bar, 0, 0, 0];
            body.extend_from_slice(&offset.to_le_bytes());
            body.extend_from_slice(&PART.to_le_bytes());
            body.extend_from_slice(more);
            configuration.add_capability(pci::CAPABILITY_VENDOR, &body)
        };
        place(virtio::CFG_COMMON, REGISTERS, COMMON, &[]);
        let multiplier = NOTIFY_MULTIPLIER.to_le_bytes();
        place(virtio::CFG_NOTIFY, REGISTERS, NOTIFY, &multiplier);
        place(virtio::CFG_ISR, REGISTERS, INTERRUPT_STATUS, &[]);
        if !backend.configuration().is_empty() {
            place(virtio::CFG_DEVICE, REGISTERS, DEVICE, &[]);
        }
        let access_at = place(virtio::CFG_PCI, 0, 0, &[0; 4]);
        configuration.allow(access_at + virtio::CAP_BAR, &[0xFF]);
        configuration.allow(access_at + virtio::CAP_OFFSET, &[0xFF; 8]);
        let mut body = msix.count().saturating_sub(1).to_le_bytes().to_vec();
        body.extend_from_slice(&u32::from(TABLE).to_le_bytes());
        body.extend_from_slice(&(msix::PENDING | u32::from(TABLE)).to_le_bytes());
        let msix_at = configuration.add_capability(pci::CAPABILITY_MSIX, &body);
        let control = pci::MSIX_ENABLE | pci::MSIX_FUNCTION_MASK;
        configuration.allow(msix_at + 2, &control.to_le_bytes());
        Self {
            initial: configuration.clone(),
            configuration,
            msix_at,
            access_at,
            device: Device::new(backend, msix.count()),
            msix,
        }
    }

    /// The device.
    pub fn device(&self) -> &Device<B> {
        &self.device
    }

    /// As after a reset of the machine.
    pub fn reset(&mut self) {
        self.configuration = self.initial.clone();
        self.msix = Msix::new(self.msix.count());
        self.device.reset();
    }

    /// Reads configuration space.
    pub fn read_configuration(&mut self, at: u16, into: &mut [u8]) {
        match self.access(at, into.len()) {
            Some(place) => self.read(place, into),
            None => self.configuration.read(at, into),
        }
    }

    /// Writes configuration space.
    pub fn write_configuration(&mut self, at: u16, from: &[u8]) {
        match self.access(at, from.len()) {
            Some(place) => self.write(place, from),
            None => self.configuration.write(at, from),
        }
    }

    /// The place that an access to pci_cfg_data is one to (VIRTIO 4.1.4.9).
    fn access(&self, at: u16, length: usize) -> Option<Place> {
        let data = u16::from(self.access_at + virtio::CAP_ACCESS_DATA);
        let [bar, ..] = self
            .configuration
            .dword(self.access_at + virtio::CAP_BAR)
            .to_le_bytes();
        let offset = self
            .configuration
            .dword(self.access_at + virtio::CAP_OFFSET);
        let asked = self
            .configuration
            .dword(self.access_at + virtio::CAP_STRUCTURE_LENGTH);
        let place = inside(bar, offset, asked as usize)?;
        (at == data && asked as usize == length).then_some(place)
    }

    /// The place of `length` bytes at `gpa`, if they are in a BAR that the function answers at.
    pub fn place(&self, gpa: u64, length: usize) -> Option<Place> {
        [REGISTERS, TABLE].into_iter().find_map(|bar| {
            let offset = gpa.checked_sub(self.configuration.bar(bar)?)?;
            inside(bar, u32::try_from(offset).ok()?, length)
        })
    }

    /// Reads registers.
    pub fn read(&mut self, place: Place, into: &mut [u8]) {
        let Place { bar, offset } = place;
        if bar == TABLE {
            return self.msix.read(offset, into);
        }
        match offset & !(PART - 1) {
            COMMON => self.device.read_common(offset, into),
            INTERRUPT_STATUS => {
                into.fill(0);
                if let Some(first) = into.first_mut().filter(|_| offset == INTERRUPT_STATUS) {
                    *first = self.device.read_interrupt_status();
                }
            }
            DEVICE => self.device.read_configuration(offset - DEVICE, into),
            _ => into.fill(0),
        }
    }

    /// Writes registers.
    pub fn write(&mut self, place: Place, from: &[u8]) {
        let Place { bar, offset } = place;
        if bar == TABLE {
            return self.msix.write(offset, from);
        }
        match offset & !(PART - 1) {
            COMMON => self.device.write_common(offset, from),
            DEVICE => self.device.write_configuration(offset - DEVICE, from),
            NOTIFY if offset.is_multiple_of(NOTIFY_MULTIPLIER) && from.len() >= 2 => {
                self.device.notify((offset - NOTIFY) / NOTIFY_MULTIPLIER);
            }
            _ => {}
        }
    }

    /// Moves requests and sends interrupts, as far as L2 lets the function access memory.
    pub fn serve(&mut self, memory: &impl L2Memory, sink: &mut impl MessageSink) {
        if !self.configuration.bus_master() {
            return;
        }
        let msix = &mut self.msix;
        self.device
            .serve(memory, &mut |_, vector| msix.raise(vector));
        self.msix
            .send(self.configuration.word(self.msix_at + 2), sink);
    }
}

/// The place of `length` bytes at `offset` in a BAR, if they are inside.
fn inside(bar: u8, offset: u32, length: usize) -> Option<Place> {
    let size = match bar {
        REGISTERS => REGISTERS_SIZE,
        TABLE => msix::BAR_SIZE,
        _ => return None,
    };
    let end = usize::try_from(offset).ok()?.checked_add(length)?;
    (end <= size as usize).then_some(Place { bar, offset })
}
