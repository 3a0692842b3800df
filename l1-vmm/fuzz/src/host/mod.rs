//! A host with one virtio function, which answers and completes as an input says.

mod memory;
mod queue;
mod work;

pub use memory::{Shared, Ticks};

use super::input::Input;
use l1_vmm::launch::GpaRange;
use l1_vmm::virtio::pci::{BarWindow, Function, HostPci};
use queue::Queue;
use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use tdcall::tdvmcall::VmcallError;
use tdx_defs::ghci::MmioWidth;
use virtio_defs::pci as virtio;
use virtio_defs::{block, console, feature, status, vsock};

/// The only function.
pub const FUNCTION: Function = Function {
    bus: 0,
    device_function: 3 << 3,
};
const WINDOW: u64 = 0xC000_0000;
const WINDOW_LENGTH: u64 = 0x100_0000;
const BASE: u64 = 0x10_0000;
/// Offsets in BAR 4.
const CONFIGURATION: u64 = 0x1000;
const NOTIFY: u64 = 0x3000;
/// Descriptors of a queue at most.
const QUEUE_SIZE: u16 = 64;
/// Sectors of the disk.
pub const SECTORS: u64 = 1024;
/// A choice from here on is a lie.
const LIES: u8 = 0xF0;

/// Where BARs may be.
pub fn window() -> BarWindow {
    let range = GpaRange::with_length(WINDOW, WINDOW_LENGTH);
    BarWindow::new(range.unwrap_or(GpaRange::EMPTY))
}

/// When requests are done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// When the device is notified or its status is read.
    AtOnce,
    /// When its status is read.
    Late,
}

/// The function.
pub struct Model {
    kind: u16,
    space: [u8; 256],
    offered: u64,
    selects: [u32; 2],
    status: u8,
    select: u16,
    configuration: [u8; 64],
    queues: Vec<Queue>,
    memory: Shared,
    input: Input,
    gone: bool,
    /// Answers that were not what a device has to say.
    pub lies: u64,
    /// Lies about the BARs: the driver may take them for larger ones.
    bar_lies: u64,
    /// Calls to the host.
    pub calls: u64,
    /// When requests are done.
    pub pace: Pace,
    /// The status says that the device needs a reset.
    pub needs_reset: bool,
    /// The most requests that it has had at once since the reset.
    pub held_most: usize,
    /// What is written to a receive queue, a message a buffer.
    pub to_send: VecDeque<Vec<u8>>,
    /// The driver's port of its last connection, and what was taken of it.
    port: u32,
    forwarded: u32,
}

/// The host; clones are the same.
#[derive(Clone)]
pub struct Host(Rc<RefCell<Model>>);

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a host")
    }
}

impl Host {
    /// With a device of this type.
    pub fn new(kind: u16, memory: &Shared, input: &Input) -> Self {
        let mut space = [0; 256];
        let mut put = |at: usize, bytes: &[u8]| space[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &virtio::VENDOR.to_le_bytes());
        put(2, &(virtio::DEVICE_BASE + kind).to_le_bytes());
        put(6, &[0x10]);
        put(0x20, &[4]);
        put(0x34, &[0x40]);
        let place = |next, length, kind, offset: u64, size: u32| {
            let mut bytes = vec![9, next, length, kind, 4, 0, 0, 0];
            bytes.extend((offset as u32).to_le_bytes());
            bytes.extend(size.to_le_bytes());
            bytes
        };
        put(0x40, &place(0x50, 16, virtio::CFG_COMMON, 0, 0x38));
        put(0x50, &place(0x64, 20, virtio::CFG_NOTIFY, NOTIFY, 0x1000));
        put(0x60, &[4]);
        put(0x64, &place(0, 16, virtio::CFG_DEVICE, CONFIGURATION, 0x40));
        let every = feature::VERSION_1 | feature::ACCESS_PLATFORM | feature::EVENT_IDX;
        let mut configuration = [0; 64];
        let (queues, own) = match kind {
            block::DEVICE_TYPE => {
                configuration[..8].copy_from_slice(&SECTORS.to_le_bytes());
                (1, block::FEATURE_FLUSH)
            }
            console::DEVICE_TYPE => (2, 0),
            _ => {
                configuration[0] = vsock::FIRST_GUEST_CID as u8;
                (3, vsock::FEATURE_STREAM)
            }
        };
        let mut model = Model {
            kind,
            space,
            offered: every | own,
            selects: [0; 2],
            status: 0,
            select: 0,
            configuration,
            queues: (0..queues).map(|_| Queue::default()).collect(),
            memory: memory.clone(),
            input: input.clone(),
            gone: false,
            lies: 0,
            bar_lies: 0,
            calls: 0,
            pace: Pace::AtOnce,
            needs_reset: false,
            held_most: 0,
            to_send: VecDeque::new(),
            port: 0,
            forwarded: 0,
        };
        model.reset();
        Self(Rc::new(RefCell::new(model)))
    }

    /// What it is.
    pub fn model(&self) -> RefMut<'_, Model> {
        self.0.borrow_mut()
    }
}

impl Model {
    /// Ends the input: from now on the device keeps the rules, but for what it has done already.
    pub fn becomes_honest(&mut self) {
        self.input.end();
        self.gone = false;
        self.to_send.clear();
    }

    /// Requests that the device has of a queue, of how many; none if it cannot know.
    pub fn held(&mut self, queue: u16) -> Option<(usize, u16)> {
        let memory = self.memory.clone();
        let queue = self.queues.get_mut(usize::from(queue))?;
        queue.pull(&memory);
        (!memory.blurred.get()).then_some((queue.held.len(), queue.size))
    }

    fn reset(&mut self) {
        self.status = 0;
        self.needs_reset = false;
        self.held_most = 0;
        self.memory.blurred.set(false);
        for queue in &mut self.queues {
            *queue = Queue {
                size: QUEUE_SIZE,
                ..Queue::default()
            };
        }
    }

    /// An access elsewhere would be one to L1's memory or L2's.
    fn inside(&self, gpa: u64) {
        let (start, length) = match self.bar_lies {
            0 => (self.base(), 0x4000),
            _ => (WINDOW, WINDOW_LENGTH),
        };
        let bar = start..start + length;
        assert!(bar.contains(&gpa), "{gpa:#x} is no place of a BAR");
    }

    fn base(&self) -> u64 {
        let bytes = self.space[0x20..0x28].try_into().unwrap_or_default();
        u64::from_le_bytes(bytes) & !0xF
    }

    /// What the driver is told instead of `honest`.
    fn answer(&mut self, honest: u64) -> Result<u64, VmcallError> {
        self.calls += 1;
        let choice = self.input.byte();
        if self.gone {
            return Ok(u64::MAX);
        }
        if choice >= 0xFB {
            self.lies += 1;
        }
        match choice {
            0xFF => Ok(self.input.qword()),
            0xFE => Ok(u64::from(self.input.byte())),
            0xFD => Ok(honest ^ 1 << (self.input.byte() & 63)),
            0xFC => Err(VmcallError::InvalidOperand),
            0xFB => {
                self.gone = true;
                Ok(u64::MAX)
            }
            _ => Ok(honest),
        }
    }

    fn register(&mut self, offset: u64) -> u64 {
        let queue = self.queues.get(usize::from(self.select));
        let of_queue = |value: fn(&Queue) -> u16| queue.map_or(0, value).into();
        match offset as u32 {
            virtio::COMMON_DEVICE_FEATURE => {
                let half = self.selects[0] & 1;
                self.offered >> (32 * half) & 0xFFFF_FFFF
            }
            virtio::COMMON_NUM_QUEUES => self.queues.len() as u64,
            virtio::COMMON_STATUS => {
                self.work();
                let needed = match self.needs_reset {
                    true => status::DEVICE_NEEDS_RESET,
                    false => 0,
                };
                u64::from(self.status | needed)
            }
            virtio::COMMON_QUEUE_SIZE => of_queue(|queue| queue.size),
            virtio::COMMON_QUEUE_VECTOR => of_queue(|queue| queue.vector),
            virtio::COMMON_QUEUE_ENABLE => of_queue(|queue| queue.enabled),
            virtio::COMMON_QUEUE_NOTIFY_OFF => self.select.into(),
            _ => 0,
        }
    }

    fn set_register(&mut self, offset: u64, value: u64) {
        match offset as u32 {
            virtio::COMMON_DEVICE_FEATURE_SELECT => self.selects[0] = value as u32,
            virtio::COMMON_DRIVER_FEATURE_SELECT => self.selects[1] = value as u32,
            virtio::COMMON_STATUS if value == 0 => self.reset(),
            virtio::COMMON_STATUS => self.status = value as u8,
            virtio::COMMON_QUEUE_SELECT => self.select = value as u16,
            _ => {}
        }
        let Some(queue) = self.queues.get_mut(usize::from(self.select)) else {
            return;
        };
        match offset as u32 {
            virtio::COMMON_QUEUE_SIZE => queue.size = value as u16,
            virtio::COMMON_QUEUE_VECTOR => queue.vector = value as u16,
            virtio::COMMON_QUEUE_ENABLE => queue.enabled = value as u16,
            virtio::COMMON_QUEUE_DESC..virtio::COMMON_SIZE => {
                let place = &mut queue.areas[(offset as usize - 0x20) / 8];
                let shift = 8 * (offset % 8);
                *place = *place & !(0xFFFF_FFFF << shift) | value << shift;
            }
            _ => {}
        }
    }
}

/// The port of the host's.
pub const PORT: u32 = 2049;

impl HostPci for Host {
    fn config_read(&self, function: Function, offset: u8) -> Result<u32, VmcallError> {
        let mut model = self.model();
        let at = usize::from(offset & !3);
        let honest = match model.space[at..at + 4].try_into() {
            Ok(bytes) if function == FUNCTION => u32::from_le_bytes(bytes),
            _ => u32::MAX,
        };
        let answer = model.answer(honest.into()).map(|value| value as u32);
        let answer = match model.input.byte() {
            flip @ LIES.. => {
                model.lies += 1;
                answer.map(|value| value ^ 1 << (model.input.byte() & 31) ^ u32::from(flip & 1))
            }
            _ => answer,
        };
        if (0x10..0x28).contains(&at) && answer != Ok(honest) {
            model.bar_lies += 1;
        }
        answer
    }

    fn config_write(&self, _: Function, offset: u8, value: u32) -> Result<(), VmcallError> {
        let mut model = self.model();
        model.calls += 1;
        let value = match offset {
            0x20 => value & 0xFFFF_C000 | 4,
            0x24 => value,
            0x10..0x28 => 0,
            4 => value & 0xFFFF | 0x0010_0000,
            _ => return Ok(()),
        };
        let at = usize::from(offset);
        model.space[at..at + 4].copy_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn register_read(&self, gpa: u64, width: MmioWidth) -> Result<u64, VmcallError> {
        let mut model = self.model();
        model.inside(gpa);
        let offset = gpa.wrapping_sub(model.base());
        let honest = match offset {
            CONFIGURATION..NOTIFY => {
                let at = (offset - CONFIGURATION) as usize;
                let places = model.configuration.iter().skip(at);
                let mut bytes = [0; 8];
                for (byte, place) in bytes.iter_mut().zip(places) {
                    *byte = *place;
                }
                u64::from_le_bytes(bytes)
            }
            0..CONFIGURATION => model.register(offset),
            _ => u64::MAX,
        };
        model.answer(honest & width.mask())
    }

    fn register_write(&self, gpa: u64, _: MmioWidth, value: u64) -> Result<(), VmcallError> {
        let mut model = self.model();
        model.inside(gpa);
        model.calls += 1;
        match gpa.wrapping_sub(model.base()) {
            _ if model.gone => {}
            NOTIFY..0x4000 if model.pace == Pace::AtOnce => model.work(),
            offset @ 0..0x38 => model.set_register(offset, value),
            _ => {}
        }
        Ok(())
    }
}
