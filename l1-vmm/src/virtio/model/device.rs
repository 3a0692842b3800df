//! A virtio-pci function: registers as the specification has them, and hooks for a host that lies.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell, RefMut};
use core::fmt;
use core::iter;

use super::memory::Shared;
use super::queue::{DeviceQueue, Request};
use crate::launch::gpa_range::GpaRange;
use crate::virtio::pci::{BarWindow, Function, HostPci};
use crate::virtio::ring::Areas;
use tdcall::tdvmcall::VmcallError;
use tdx_defs::ghci::MmioWidth;
use virtio_defs::feature;

pub(crate) const FUNCTION: Function = Function {
    bus: 0,
    device_function: 3 << 3,
};
pub(crate) const WINDOW: u64 = 0xC000_0000;
/// Offsets in BAR 4.
pub(crate) const COMMON: u64 = 0;
pub(crate) const CONFIG: u64 = 0x1000;
pub(crate) const NOTIFY: u64 = 0x3000;
/// Offsets in configuration space of the capabilities.
pub(crate) const CAP_COMMON: usize = 0x40;
pub(crate) const CAP_NOTIFY: usize = 0x50;
pub(crate) const CAP_CONFIG: usize = 0x64;
pub(crate) const CAP_MSIX: usize = 0x74;

pub(crate) fn window() -> BarWindow {
    BarWindow::new(GpaRange::with_length(WINDOW, 0x100_0000).unwrap())
}

#[derive(Default)]
pub(crate) struct QueueRegisters {
    pub(crate) most: u16,
    size: u16,
    pub(crate) vector: u16,
    enable: u16,
    addresses: [u64; 3],
    pub(crate) side: Option<DeviceQueue>,
    /// Requests that were not answered.
    stay: Vec<Request>,
}

/// How a device tells that a request is done.
pub(crate) type Lie = fn(&mut DeviceQueue, &Request, u32);

/// A stream of numbers from a seed.
pub(crate) fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

type RegisterLie = Box<dyn FnMut(u64, u64) -> u64>;
type Work = Box<dyn FnMut(&Shared, u16, &Request) -> Option<u32>>;
type Answer = Box<dyn FnMut(&mut DeviceQueue, &Request, u32)>;

pub(crate) struct Model {
    pub(crate) config: [u8; 256],
    /// Address bits of each BAR.
    pub(crate) bar_masks: [u32; 6],
    pub(crate) offered: u64,
    pub(crate) settled: u64,
    selects: [u32; 2],
    pub(crate) status: u8,
    pub(crate) generation: u8,
    pub(crate) configuration_vector: u16,
    pub(crate) device_config: Vec<u8>,
    pub(crate) queues: Vec<QueueRegisters>,
    select: u16,
    pub(crate) msix_table: [u8; 64],
    pub(crate) memory: Shared,
    pub(crate) accesses: u64,
    /// What a register of BAR 4 reads as, given its offset and what it is.
    pub(crate) lie: Option<RegisterLie>,
    /// What a notified queue's requests do: how much was written, or nothing if they stay.
    pub(crate) work: Work,
    /// How a request is told to be done.
    pub(crate) answer: Answer,
    /// A queue whose requests that stayed are looked at again whenever another is served.
    pub(crate) answers_on: Option<u16>,
    /// Set by a notification, which then does nothing else: the device works by itself.
    pub(crate) bell: Option<Rc<Cell<bool>>>,
    /// Every access fails.
    pub(crate) gone: bool,
    /// All accesses after so many read as ones and write nothing, as those to a device that was pulled out.
    pub(crate) pulled_after: Option<u64>,
}

/// The host: clones are the same one.
#[derive(Clone)]
pub(crate) struct ModelHost(Rc<RefCell<Model>>);

impl fmt::Debug for ModelHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a model")
    }
}

impl ModelHost {
    pub(crate) fn new(kind: u16, queues: usize, offered: u64, memory: &Shared) -> Self {
        let mut config = [0; 256];
        config[..4].copy_from_slice(&(0x1040_1AF4 + (u32::from(kind) << 16)).to_le_bytes());
        config[6] = 0x10;
        config[0x20] = 4;
        config[0x34] = CAP_COMMON as u8;
        let mut capability = |at: usize, bytes: &[u8]| {
            config[at..at + bytes.len()].copy_from_slice(bytes);
        };
        let place = |next, length, kind, offset: u64, size: u32| {
            let mut bytes = alloc::vec![9, next, length, kind, 4, 0, 0, 0];
            bytes.extend((offset as u32).to_le_bytes());
            bytes.extend(size.to_le_bytes());
            bytes
        };
        let next = CAP_NOTIFY as u8;
        capability(CAP_COMMON, &place(next, 16, 1, COMMON, 0x38));
        let next = CAP_CONFIG as u8;
        capability(CAP_NOTIFY, &place(next, 20, 2, NOTIFY, 0x1000));
        capability(CAP_NOTIFY + 16, &4_u32.to_le_bytes());
        let next = CAP_MSIX as u8;
        capability(CAP_CONFIG, &place(next, 16, 4, CONFIG, 0x1000));
        capability(CAP_MSIX, &[0x11, 0, 3, 0, 1, 0, 0, 0, 1, 8, 0, 0]);
        let queues = (0..queues).map(|_| QueueRegisters {
            most: 16,
            ..Default::default()
        });
        Self(Rc::new(RefCell::new(Model {
            config,
            bar_masks: [0, 0xFFFF_F000, 0, 0, 0xFFFF_C000, 0xFFFF_FFFF],
            offered,
            settled: 0,
            selects: [0; 2],
            status: 0,
            generation: 0,
            configuration_vector: 0xFFFF,
            device_config: alloc::vec![0; 64],
            queues: queues.collect(),
            select: 0,
            msix_table: [0; 64],
            memory: memory.clone(),
            accesses: 0,
            lie: None,
            work: Box::new(|_, _, _| None),
            answer: Box::new(|queue, request, length| queue.push(request.head.into(), length)),
            answers_on: None,
            bell: None,
            gone: false,
            pulled_after: None,
        })))
    }

    pub(crate) fn model(&self) -> RefMut<'_, Model> {
        self.0.borrow_mut()
    }
}

impl Model {
    /// Counts an access; whether there still is a device for it.
    fn is_there(&mut self) -> bool {
        self.accesses += 1;
        self.pulled_after.is_none_or(|last| self.accesses <= last)
    }

    /// Whether the function answers at an address.
    pub(crate) fn answers_at(&self, gpa: u64) -> bool {
        let registers = u64::from(self.bar(4) & !0xF) | u64::from(self.bar(5)) << 32;
        let table = u64::from(self.bar(1) & !0xF);
        (registers..registers + 0x4000).contains(&gpa) || (table..table + 0x1000).contains(&gpa)
    }

    fn bar(&self, index: usize) -> u32 {
        let at = 0x10 + 4 * index;
        u32::from_le_bytes(self.config[at..at + 4].try_into().unwrap())
    }

    fn reset(&mut self) {
        self.status = 0;
        self.settled = 0;
        self.configuration_vector = 0xFFFF;
        for queue in &mut self.queues {
            *queue = QueueRegisters {
                most: queue.most,
                size: queue.most,
                ..Default::default()
            };
        }
    }

    fn common_read(&mut self, offset: u64) -> u64 {
        let queue = self.queues.get(usize::from(self.select));
        let of_queue = |value: fn(&QueueRegisters) -> u16| queue.map_or(0, value).into();
        match offset {
            4 => self.offered >> (32 * self.selects[0]) & 0xFFFF_FFFF,
            0x10 => self.configuration_vector.into(),
            0x12 => self.queues.len() as u64,
            0x14 => self.status.into(),
            0x15 => self.generation.into(),
            0x18 => of_queue(|queue| queue.size),
            0x1A => of_queue(|queue| queue.vector),
            0x1C => of_queue(|queue| queue.enable),
            0x1E => self.select.into(),
            _ => 0,
        }
    }

    fn common_write(&mut self, offset: u64, value: u64) {
        match offset {
            0 => self.selects[0] = value as u32,
            8 => self.selects[1] = value as u32,
            0x10 => self.configuration_vector = value as u16,
            0xC => self.settled |= value << (32 * self.selects[1]),
            0x14 if value == 0 => self.reset(),
            0x14 => self.status = value as u8,
            0x16 => self.select = value as u16,
            _ => {}
        }
        let memory = self.memory.clone();
        let Some(queue) = self.queues.get_mut(usize::from(self.select)) else {
            return;
        };
        match offset {
            0x18 => queue.size = value as u16,
            0x1A => queue.vector = value as u16,
            0x1C => {
                queue.enable = value as u16;
                let [descriptors, available, used] = queue.addresses;
                queue.side = Some(DeviceQueue::new(
                    memory,
                    Areas {
                        size: queue.size,
                        descriptors,
                        available,
                        used,
                    },
                ));
            }
            0x20..0x38 => {
                let place = &mut queue.addresses[(offset as usize - 0x20) / 8];
                let shift = 8 * (offset % 8);
                *place = *place & !(0xFFFF_FFFF << shift) | value << shift;
            }
            _ => {}
        }
    }

    /// Looks again at the requests of a queue that stayed.
    pub(crate) fn retry(&mut self, index: u16) {
        let queue = &mut self.queues[usize::from(index)];
        let Some(side) = &mut queue.side else {
            return;
        };
        let mut stay = core::mem::take(&mut queue.stay).into_iter();
        while let Some(request) = stay.next() {
            match (self.work)(&self.memory, index, &request) {
                Some(length) => (self.answer)(side, &request, length),
                None => {
                    queue.stay = iter::once(request).chain(stay).collect();
                    break;
                }
            }
        }
    }

    /// Does what is available on a queue.
    pub(crate) fn serve(&mut self, index: u16) {
        let Some(queue) = self.queues.get_mut(usize::from(index)) else {
            return;
        };
        let Some(side) = &mut queue.side else {
            return;
        };
        // What the index in shared memory says may be anything.
        for _ in 0..side.areas.size {
            let Some(request) = side.pop() else {
                break;
            };
            match (self.work)(&self.memory, index, &request) {
                Some(length) => (self.answer)(side, &request, length),
                None => queue.stay.push(request),
            }
        }
        if self.settled & feature::EVENT_IDX != 0 {
            side.ask();
        }
        if let Some(answers) = self.answers_on.filter(|answers| *answers != index) {
            self.retry(answers);
        }
    }
}

impl HostPci for ModelHost {
    fn config_read(&self, function: Function, offset: u8) -> Result<u32, VmcallError> {
        let mut model = self.model();
        if !model.is_there() || function != FUNCTION || model.gone {
            return Ok(u32::MAX);
        }
        let at = usize::from(offset);
        Ok(u32::from_le_bytes(
            model.config[at..at + 4].try_into().unwrap(),
        ))
    }

    fn config_write(&self, _: Function, offset: u8, value: u32) -> Result<(), VmcallError> {
        let mut model = self.model();
        if !model.is_there() {
            return Ok(());
        }
        let at = usize::from(offset);
        let value = match at {
            0x10..0x28 => {
                let index = (at - 0x10) / 4;
                let fixed = model.config[at] & 0xF;
                let low = if index == 5 { 0 } else { fixed };
                value & model.bar_masks[index] | u32::from(low)
            }
            4 => value & 0xFFFF | 0x0010_0000,
            CAP_MSIX => {
                model.config[at + 3] = (value >> 24) as u8;
                return Ok(());
            }
            _ => return Ok(()),
        };
        model.config[at..at + 4].copy_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn register_read(&self, gpa: u64, width: MmioWidth) -> Result<u64, VmcallError> {
        let mut model = self.model();
        let is_there = model.is_there();
        if model.gone {
            return Err(VmcallError::InvalidOperand);
        }
        if !is_there {
            return Ok(u64::MAX);
        }
        let base = u64::from(model.bar(4) & !0xF) | u64::from(model.bar(5)) << 32;
        let offset = gpa.checked_sub(base).expect("an address in BAR 4");
        assert!(offset < 0x4000, "{gpa:#x} is in no BAR");
        let value = match offset {
            CONFIG..NOTIFY => {
                let at = (offset - CONFIG) as usize;
                let mut bytes = [0; 8];
                let count = width.bytes() as usize;
                bytes[..count].copy_from_slice(&model.device_config[at..at + count]);
                u64::from_le_bytes(bytes)
            }
            _ => model.common_read(offset),
        };
        Ok(match &mut model.lie {
            Some(lie) => lie(offset, value),
            None => value,
        })
    }

    fn register_write(&self, gpa: u64, width: MmioWidth, value: u64) -> Result<(), VmcallError> {
        let mut model = self.model();
        let is_there = model.is_there();
        if model.gone {
            return Err(VmcallError::InvalidOperand);
        }
        if !is_there {
            return Ok(());
        }
        let base = u64::from(model.bar(4) & !0xF) | u64::from(model.bar(5)) << 32;
        let table = u64::from(model.bar(1) & !0xF);
        if (table..table + 0x1000).contains(&gpa) {
            let at = (gpa - table) as usize;
            let count = width.bytes() as usize;
            model.msix_table[at..at + count].copy_from_slice(&value.to_le_bytes()[..count]);
            return Ok(());
        }
        let offset = gpa.checked_sub(base).expect("an address in a BAR");
        assert!(offset < 0x4000, "{gpa:#x} is in no BAR");
        match offset {
            NOTIFY.. => match &model.bell {
                Some(bell) => bell.set(true),
                None => model.serve(((offset - NOTIFY) / 4) as u16),
            },
            _ => model.common_write(offset, value),
        }
        Ok(())
    }
}
