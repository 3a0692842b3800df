//! A modern virtio-pci function (VIRTIO 4.1).

mod registers;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::take;

use crate::configuration_space::ConfigurationSpace;
use crate::device::Device;
use crate::lie::{Lie, Lies, PlannedLie};
use crate::memory::Memory;
use crate::msix::{Message, Msix};
use crate::requests::{Kept, Requests};
use crate::statistics::Statistics;
use registers::{Asked, Registers};
use virtio_defs::{feature, pci as virtio, status};
use x86_defs::pci;

/// The BAR of the MSI-X table, and of the rest.
const BAR_MSIX: u8 = 1;
const BAR_REGISTERS: u8 = 4;
const BAR_MSIX_SIZE: u64 = 0x1000;
const BAR_REGISTERS_SIZE: u64 = 0x4000;
/// Where the pending bits are in their BAR.
const PENDING: u32 = 0x800;
/// Where each structure is in its BAR, as in QEMU's devices.
const COMMON: u32 = 0x0000;
const ISR: u32 = 0x1000;
const CONFIGURATION: u32 = 0x2000;
const NOTIFY: u32 = 0x3000;
/// notify_off_multiplier.
const MULTIPLIER: u32 = 4;

/// A function with its device.
#[derive(Debug)]
pub struct Function {
    space: ConfigurationSpace,
    msix_capability: u8,
    msix: Msix,
    registers: Registers,
    isr: u8,
    device: Box<dyn Device>,
    lies: Lies,
    kept: Vec<Kept>,
    messages: Vec<Message>,
    statistics: Statistics,
    /// Reads of the common configuration and of the offered features: some lies change with them.
    reads: u8,
    feature_reads: u8,
}

impl Function {
    /// A function around a device.
    pub fn new(device: impl Device + 'static) -> Self {
        let queues = device.queues();
        let vectors = queues + 1;
        let identity = u32::from(virtio::DEVICE_BASE + device.kind()) << 16;
        let mut space = ConfigurationSpace::new(
            identity | u32::from(virtio::VENDOR),
            // Revision 1: not transitional (VIRTIO 4.1.2.1).
            device.class() << 8 | 1,
            0x1100_0000 | u32::from(virtio::VENDOR),
        );
        let command = pci::COMMAND_MEMORY | pci::COMMAND_BUS_MASTER;
        space.allow(pci::COMMAND_STATUS, command.into());
        space.add_bar(BAR_MSIX, pci::BAR_TYPE_32, BAR_MSIX_SIZE);
        let kind = pci::BAR_TYPE_64 | pci::BAR_PREFETCHABLE;
        space.add_bar(BAR_REGISTERS, kind, BAR_REGISTERS_SIZE);
        let mut structure = |kind, offset: u32, length: u32, more: &[u8]| {
            let size = virtio::CAP_SIZE + more.len() as u8;
            let mut bytes = Vec::from([size, kind, BAR_REGISTERS, 0, 0, 0]);
            bytes.extend(offset.to_le_bytes());
            bytes.extend(length.to_le_bytes());
            bytes.extend(more);
            space.add_capability(pci::CAPABILITY_VENDOR, &bytes)
        };
        structure(virtio::CFG_COMMON, COMMON, virtio::COMMON_SIZE, &[]);
        structure(virtio::CFG_ISR, ISR, 1, &[]);
        let length = device.configuration().len() as u32;
        if length != 0 {
            structure(virtio::CFG_DEVICE, CONFIGURATION, length, &[]);
        }
        let multiplier = MULTIPLIER.to_le_bytes();
        let length = u32::from(queues) * MULTIPLIER;
        structure(virtio::CFG_NOTIFY, NOTIFY, length, &multiplier);
        let mut bytes = Vec::from((vectors - 1).to_le_bytes());
        bytes.extend(u32::from(BAR_MSIX).to_le_bytes());
        bytes.extend((PENDING | u32::from(BAR_MSIX)).to_le_bytes());
        let msix_capability = space.add_capability(pci::CAPABILITY_MSIX, &bytes);
        let control = pci::MSIX_ENABLE | pci::MSIX_FUNCTION_MASK;
        space.allow(msix_capability, u32::from(control) << 16);
        Self {
            space,
            msix_capability,
            msix: Msix::new(vectors),
            registers: Registers::new(device.features(), queues, vectors),
            isr: 0,
            device: Box::new(device),
            lies: Lies::default(),
            kept: Vec::new(),
            messages: Vec::new(),
            statistics: Statistics::default(),
            reads: 0,
            feature_reads: 0,
        }
    }

    /// The same function, which lies.
    pub fn with_lie(mut self, lie: PlannedLie) -> Self {
        if let Lie::Space { offset, value } = lie.lie {
            self.space.force(offset, value);
        }
        self.lies.plan(lie);
        self.device.lie(lie);
        self.registers.offer(self.device.features());
        self
    }

    /// The guest makes a mark: lies may begin and end with it.
    pub(crate) fn mark(&mut self, value: u8) {
        let before = self.told();
        self.lies.mark(value);
        self.device.mark(value);
        if self.lies.tell(Lie::ResetItself) {
            self.reset();
        }
        if self.told() != before {
            self.announce();
        }
    }

    /// The lies about configuration and status that hold now.
    fn told(&self) -> Vec<Lie> {
        let of_configuration = |lie: &Lie| {
            matches!(
                lie,
                Lie::Configuration { .. } | Lie::ConfigurationFlip | Lie::NeedsReset
            )
        };
        self.lies.now().filter(of_configuration).collect()
    }

    /// Says that the configuration or the status is another one (VIRTIO 2.3).
    fn announce(&mut self) {
        if !self.registers.is_running() {
            return;
        }
        self.registers.generation = self.registers.generation.wrapping_add(1);
        self.isr |= virtio::ISR_CONFIGURATION;
        let control = self.msix_control();
        let message = self
            .msix
            .raise(self.registers.configuration_vector, control);
        self.send(message.into_iter().collect());
    }

    /// What it did.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Whether its device has power.
    pub(crate) fn has_power(&self) -> bool {
        self.device.has_power()
    }

    /// Whether input may come from outside, and the driver is there to take it.
    pub(crate) fn hears_the_outside(&self) -> bool {
        self.device.hears_the_outside() && self.registers.is_running()
    }

    /// The interrupts that it has sent since this was last asked.
    pub(crate) fn take_messages(&mut self) -> Vec<Message> {
        take(&mut self.messages)
    }

    fn has_vanished(&self) -> bool {
        self.lies.tell(Lie::Vanish)
    }

    fn msix_control(&self) -> u16 {
        (self.space.doubleword(self.msix_capability) >> 16) as u16
    }

    /// A doubleword of configuration space.
    pub(crate) fn configuration_read(&self, offset: u8) -> u32 {
        if self.has_vanished() {
            return u32::MAX;
        }
        self.space.doubleword(offset)
    }

    /// Writes bytes of configuration space.
    pub(crate) fn configuration_write(&mut self, offset: u8, value: &[u8], memory: &dyn Memory) {
        self.space.write(offset, value);
        let messages = self.msix.unmasked(self.msix_control());
        self.send(messages);
        self.work(memory);
    }

    /// Which BAR answers to an address, and at which offset.
    fn decode(&self, gpa: u64, width: u32) -> Option<(u8, u32)> {
        if self.space.command() & pci::COMMAND_MEMORY == 0 || self.has_vanished() {
            return None;
        }
        let bars = [
            (BAR_MSIX, BAR_MSIX_SIZE),
            (BAR_REGISTERS, BAR_REGISTERS_SIZE),
        ];
        bars.into_iter().find_map(|(bar, size)| {
            let offset = gpa.checked_sub(self.space.bar(bar))?;
            let end = offset.checked_add(width.into())?;
            (end <= size).then_some((bar, offset as u32))
        })
    }

    /// Nanoseconds that a read takes, if one of this function's BARs answers.
    pub(crate) fn read_time(&self, gpa: u64, width: u32) -> Option<u64> {
        self.decode(gpa, width)?;
        self.lies.find(|lie| match lie {
            Lie::Slow(nanoseconds) => Some(nanoseconds),
            _ => None,
        })
    }

    /// An access of 1, 2, 4 or 8 bytes to a BAR; none if the address is in none of this function's.
    pub(crate) fn read(&mut self, gpa: u64, width: u32) -> Option<u64> {
        let (bar, offset) = self.decode(gpa, width)?;
        let mut bytes = [0; 8];
        let mut copy = |from: &[u8], offset: u32| {
            let from = from.iter().skip(offset as usize).take(width as usize);
            for (place, byte) in bytes.iter_mut().zip(from) {
                *place = *byte;
            }
        };
        match (bar, offset) {
            (BAR_MSIX, _) => {
                let word = |at: u32| match at {
                    PENDING.. => self.msix.read_pending(at - PENDING),
                    _ => self.msix.read_table(at).unwrap_or(0),
                };
                let at = offset & !3;
                let both = u64::from(word(at)) | u64::from(word(at + 4)) << 32;
                copy(&both.to_le_bytes(), offset % 4);
            }
            (_, COMMON..ISR) => return Some(self.read_common(offset, width)),
            (_, ISR) => copy(&[take(&mut self.isr)], 0),
            (_, CONFIGURATION..NOTIFY) => copy(&self.configuration(), offset - CONFIGURATION),
            _ => {}
        }
        Some(u64::from_le_bytes(bytes))
    }

    fn read_common(&mut self, offset: u32, width: u32) -> u64 {
        self.reads = self.reads.wrapping_add(1);
        let mut bytes = [0; 8];
        let image = self.registers.image();
        let from = image.iter().skip(offset as usize).take(width as usize);
        for (place, byte) in bytes.iter_mut().zip(from) {
            *place = *byte;
        }
        let value = u64::from_le_bytes(bytes);
        if offset == virtio::COMMON_DEVICE_FEATURE {
            self.feature_reads = self.feature_reads.wrapping_add(1);
        }
        let flipped = self.feature_reads.is_multiple_of(3);
        // The bit is in the upper half.
        let upper_half = image.first() == Some(&1);
        let version_1 = u64::from(upper_half) * (feature::VERSION_1 >> 32);
        let lies = self.lies.now().map(|lie| (lie, offset));
        lies.fold(value, |value, lie| match lie {
            (Lie::Register { offset: at, value }, offset) if at == offset => value,
            (Lie::NoVersion1, virtio::COMMON_DEVICE_FEATURE) => value & !version_1,
            (Lie::FeaturesFlip, virtio::COMMON_DEVICE_FEATURE) if flipped => !value,
            (Lie::ConfigurationFlip, virtio::COMMON_GENERATION) => self.reads.into(),
            (Lie::NeedsReset, virtio::COMMON_STATUS) if value != 0 => {
                value | u64::from(status::DEVICE_NEEDS_RESET)
            }
            (Lie::FeaturesRefused, virtio::COMMON_STATUS) => {
                value & !u64::from(status::FEATURES_OK)
            }
            _ => value,
        })
    }

    fn configuration(&mut self) -> Vec<u8> {
        let mut bytes = self.device.configuration();
        for lie in self.lies.now() {
            match lie {
                Lie::ConfigurationFlip => {
                    self.reads = self.reads.wrapping_add(1);
                    for byte in &mut bytes {
                        *byte ^= self.reads;
                    }
                }
                Lie::Configuration { offset, value } => {
                    if let Some(byte) = bytes.get_mut(usize::from(offset)) {
                        *byte = value;
                    }
                }
                _ => {}
            }
        }
        bytes
    }

    /// Writes; none if the address is in none of this function's BARs.
    pub(crate) fn write(
        &mut self,
        gpa: u64,
        width: u32,
        value: u64,
        memory: &dyn Memory,
    ) -> Option<()> {
        let (bar, offset) = self.decode(gpa, width)?;
        match (bar, offset, width) {
            (BAR_MSIX, 0..PENDING, 4 | 8) => {
                let _ = self.msix.write_table(offset, value as u32);
                if width == 8 {
                    let _ = self.msix.write_table(offset + 4, (value >> 32) as u32);
                }
                let messages = self.msix.unmasked(self.msix_control());
                self.send(messages);
            }
            (BAR_REGISTERS, COMMON..ISR, _) => match self.registers.write(offset, width, value) {
                Asked::Nothing => {}
                Asked::Reset => self.reset(),
                Asked::Work => self.work(memory),
            },
            (BAR_REGISTERS, NOTIFY.., _) => {
                self.statistics.notifications += 1;
                self.work(memory);
            }
            _ => {}
        }
        Some(())
    }

    fn reset(&mut self) {
        if self.lies.tell(Lie::ResetNever) {
            return;
        }
        self.statistics.resets += 1;
        self.registers.reset();
        self.isr = 0;
        self.device.reset();
    }

    /// Lets the device do what it can do now.
    pub(crate) fn work(&mut self, memory: &dyn Memory) {
        let may_access = self.space.command() & pci::COMMAND_BUS_MASTER != 0;
        if !may_access || !self.registers.is_running() || !self.has_power() || self.has_vanished() {
            return;
        }
        let queues = self.registers.queues.iter_mut();
        let mut requests = Requests {
            queues: queues.map(|queue| queue.queue.as_mut()).collect(),
            memory,
            lies: &mut self.lies,
            statistics: &mut self.statistics,
            kept: &mut self.kept,
            violation: None,
        };
        requests.tell_kept();
        self.device.work(&mut requests);
        let mut broken = requests.violation.is_some();
        let mut vectors = Vec::new();
        for queue in &mut self.registers.queues {
            let Some(side) = &mut queue.queue else {
                continue;
            };
            match side.wants_interrupt(memory) {
                Ok(true) => vectors.push(queue.vector),
                Ok(false) => {}
                Err(_) => broken = true,
            }
        }
        if !vectors.is_empty() {
            self.isr |= virtio::ISR_QUEUE;
        }
        if broken {
            self.statistics.violations += 1;
            self.registers.status |= status::DEVICE_NEEDS_RESET;
            self.isr |= virtio::ISR_CONFIGURATION;
            vectors.push(self.registers.configuration_vector);
        }
        if self.lies.tell(Lie::Mute) {
            return;
        }
        let control = self.msix_control();
        let messages = vectors.into_iter();
        let messages = messages
            .filter_map(|vector| self.msix.raise(vector, control))
            .collect();
        self.send(messages);
    }

    /// An exit to the host, the `number`-th of the run: a storm of interrupts may come.
    pub(crate) fn storm(&mut self, number: u64) {
        let storm = self.lies.find(|lie| match lie {
            Lie::Storm(every) => Some(every),
            _ => None,
        });
        if storm.is_some_and(|every| number.is_multiple_of(every)) {
            let control = self.msix_control();
            let vectors = 0..self.msix.vectors();
            let messages = vectors
                .filter_map(|vector| self.msix.raise(vector, control))
                .collect();
            self.send(messages);
        }
    }

    fn send(&mut self, messages: Vec<Message>) {
        self.statistics.interrupts += messages.len() as u64;
        let other = self.lies.find(|lie| match lie {
            Lie::Vector(vector) => Some(vector),
            _ => None,
        });
        let other = other.map(u32::from);
        let messages = messages.into_iter().map(|message| Message {
            data: other.unwrap_or(message.data),
            ..message
        });
        self.messages.extend(messages);
    }
}
