//! A host with one virtio function, which answers and completes as an input says.

use super::input::Input;
use l1_vmm::launch::GpaRange;
use l1_vmm::virtio::clock::Clock;
use l1_vmm::virtio::pci::{BarWindow, Function, HostPci};
use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use tdcall::SharedBuffer;
use tdcall::tdvmcall::VmcallError;
use tdx_defs::ghci::MmioWidth;
use virtio_defs::pci as virtio;
use virtio_defs::{block, console, feature, ring, status, vsock};

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

/// A clock that goes on by 10 microseconds each time it is looked at; clones are the same clock.
#[derive(Clone, Default)]
pub struct Ticks(Rc<Cell<u64>>);

impl Clock for Ticks {
    fn now(&self) -> u64 {
        self.0.set(self.0.get() + 10_000);
        self.0.get()
    }
}

/// Shared memory, which the host may write before any read of L1's; clones are the same.
#[derive(Clone)]
pub struct Shared {
    bytes: Rc<RefCell<Vec<u8>>>,
    input: Input,
    /// Reads and writes by L1.
    pub accesses: Rc<Cell<u64>>,
    /// The host has written where it has nothing to write, so it does not know what L1 has seen.
    blurred: Rc<Cell<bool>>,
}

impl Shared {
    /// So much of it.
    pub fn new(length: usize, input: &Input) -> Self {
        Self {
            bytes: Rc::new(RefCell::new(vec![0xA5; length])),
            input: input.clone(),
            accesses: Rc::default(),
            blurred: Rc::default(),
        }
    }

    /// The device's read: zeroes of what is not here.
    fn get(&self, gpa: u64, length: usize) -> Vec<u8> {
        let at = usize::try_from(gpa.wrapping_sub(BASE)).unwrap_or(usize::MAX);
        let bytes = self.bytes.borrow();
        let end = at.saturating_add(length);
        bytes
            .get(at..end)
            .map_or_else(|| vec![0; length.min(bytes.len())], <[u8]>::to_vec)
    }

    fn get_u16(&self, gpa: u64) -> u16 {
        let bytes = self.get(gpa, 2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    /// The device's write: it reaches nothing that is not here.
    fn put(&self, gpa: u64, from: &[u8]) {
        let at = usize::try_from(gpa.wrapping_sub(BASE)).unwrap_or(usize::MAX);
        let end = at.saturating_add(from.len());
        if let Some(place) = self.bytes.borrow_mut().get_mut(at..end) {
            place.copy_from_slice(from);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shared memory")
    }
}

impl SharedBuffer for Shared {
    fn gpa(&self) -> u64 {
        BASE
    }

    fn length(&self) -> usize {
        self.bytes.borrow().len()
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.accesses.set(self.accesses.get() + 1);
        let choice = self.input.byte();
        if choice >= LIES {
            self.blurred.set(true);
            let at = self.input.dword() as usize % self.length();
            // Of the queues rather than of the buffers.
            let at = if choice & 1 == 0 { at } else { at & 0x7FF };
            let bytes = self.input.bytes(usize::from(choice >> 1 & 7) + 1);
            self.put(BASE + at as u64, &bytes);
        }
        into.copy_from_slice(&self.bytes.borrow()[offset..offset + into.len()]);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.accesses.set(self.accesses.get() + 1);
        self.bytes.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
    }
}

/// A request as the device has it.
#[derive(Clone)]
struct Request {
    head: u16,
    readable: Vec<(u64, u32)>,
    writable: Vec<(u64, u32)>,
}

impl Request {
    fn room(&self) -> u32 {
        let lengths = self.writable.iter().map(|(_, length)| *length);
        lengths.fold(0, u32::saturating_add)
    }

    fn read(&self, memory: &Shared) -> Vec<u8> {
        let parts = self.readable.iter();
        parts
            .flat_map(|(gpa, length)| memory.get(*gpa, *length as usize))
            .collect()
    }

    /// Writes from the start of the room; returns how many bytes.
    fn write(&self, memory: &Shared, mut from: &[u8]) -> u32 {
        let mut written = 0;
        for (gpa, length) in &self.writable {
            let (now, later) = from.split_at(from.len().min(*length as usize));
            memory.put(*gpa, now);
            written += now.len() as u32;
            from = later;
        }
        written
    }
}

/// A queue: its registers, and what the device has of it.
#[derive(Default)]
struct Queue {
    size: u16,
    vector: u16,
    enabled: u16,
    /// Descriptors, available ring, used ring.
    areas: [u64; 3],
    seen: u16,
    used: u16,
    held: Vec<Request>,
}

impl Queue {
    /// Takes what is available.
    fn pull(&mut self, memory: &Shared) {
        let [_, available, _] = self.areas;
        for _ in 0..self.size {
            if memory.get_u16(available + ring::AVAILABLE_INDEX as u64) == self.seen {
                break;
            }
            let slot = u64::from(self.seen % self.size);
            let head = memory.get_u16(available + ring::AVAILABLE_RING as u64 + 2 * slot);
            self.seen = self.seen.wrapping_add(1);
            if let Some(request) = self.walk(memory, head) {
                self.held.push(request);
            }
        }
    }

    /// The chain, unless the device itself has spoiled it.
    fn walk(&self, memory: &Shared, head: u16) -> Option<Request> {
        let mut request = Request {
            head,
            readable: Vec::new(),
            writable: Vec::new(),
        };
        let mut at = head;
        for _ in 0..self.size {
            let bytes = memory.get(self.areas[0] + 16 * u64::from(at), 16);
            let all = u128::from_le_bytes(bytes.try_into().ok()?);
            let part = (all as u64, (all >> 64) as u32);
            let flags = (all >> 96) as u16;
            match flags & ring::DESCRIPTOR_WRITE {
                0 => request.readable.push(part),
                _ => request.writable.push(part),
            }
            if flags & ring::DESCRIPTOR_NEXT == 0 {
                return Some(request);
            }
            at = (all >> 112) as u16;
        }
        None
    }

    fn push(&mut self, memory: &Shared, id: u32, length: u32) {
        let slot = u64::from(self.used % self.size.max(1));
        let element = u64::from(id) | u64::from(length) << 32;
        let place = self.areas[2] + ring::USED_RING as u64 + 8 * slot;
        memory.put(place, &element.to_le_bytes());
        self.set_used(memory, self.used.wrapping_add(1));
        let before = self.held.len();
        self.held.retain(|request| u32::from(request.head) != id);
        if self.held.len() == before {
            // It may be one that the device has not taken yet.
            memory.blurred.set(true);
        }
    }

    fn set_used(&mut self, memory: &Shared, index: u16) {
        self.used = index;
        let place = self.areas[2] + ring::USED_INDEX as u64;
        memory.put(place, &index.to_le_bytes());
    }

    fn set_event(&self, memory: &Shared, index: u16) {
        let elements = 8 * u64::from(self.size);
        let place = self.areas[2] + ring::USED_RING as u64 + elements;
        memory.put(place, &index.to_le_bytes());
    }
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

    /// Does what there is to do on all queues.
    fn work(&mut self) {
        if self.status & status::DRIVER_OK == 0 || self.gone {
            return;
        }
        if self.kind != block::DEVICE_TYPE {
            self.make_up();
        }
        for index in 0..self.queues.len() {
            self.serve(index);
        }
        // What was answered to what came.
        self.serve(0);
    }

    /// Something to send that nobody has asked for.
    fn make_up(&mut self) {
        let choice = self.input.byte();
        if choice & 0xC0 != 0x40 {
            return;
        }
        let message = match self.kind {
            vsock::DEVICE_TYPE if choice & 0x20 == 0 => {
                let operation = match self.input.byte() {
                    often @ ..0x80 => vsock::OPERATION_DATA + u16::from(often & 1),
                    other => u16::from(other & 7),
                };
                let data = self.input.bytes(usize::from(choice & 0xF));
                self.packet(operation, &data)
            }
            _ => self.input.bytes(usize::from(choice & 0x3F)),
        };
        self.to_send.push_back(message);
    }

    fn serve(&mut self, index: usize) {
        let memory = self.memory.clone();
        let Some(queue) = self.queues.get_mut(index) else {
            return;
        };
        if queue.enabled != 1 {
            return;
        }
        queue.pull(&memory);
        self.held_most = self.held_most.max(queue.held.len());
        for request in queue.held.clone() {
            self.finish(index, &request);
        }
        if let Some(queue) = self.queues.get(index) {
            queue.set_event(&memory, queue.seen);
        }
    }

    /// Does a request and tells it, or something else.
    fn finish(&mut self, index: usize, request: &Request) {
        let memory = self.memory.clone();
        let choice = self.input.byte();
        let lie = choice >= LIES;
        let done = match choice {
            0xF0 => return,
            0xF5 => Some(request.room()),
            0xF6 => {
                let count = request.room().min(16) as usize;
                Some(request.write(&memory, &self.input.bytes(count)))
            }
            _ => self.perform(index as u16, request),
        };
        self.lies += u64::from(lie);
        let Some(queue) = self.queues.get_mut(index) else {
            return;
        };
        let head = u32::from(request.head);
        let Some(length) = done else {
            return;
        };
        match choice {
            0xF1 => queue.push(&memory, self.input.dword(), length),
            0xF2 => queue.push(&memory, head, self.input.dword()),
            0xF3 => {
                memory.blurred.set(true);
                queue.set_used(&memory, self.input.word());
            }
            0xF4 => {
                queue.push(&memory, head, length);
                queue.push(&memory, head, length);
            }
            0xF7 => {
                let last = queue.held.last().map_or(head, |other| other.head.into());
                queue.push(&memory, last, length);
            }
            0xF8 => {
                let descriptors = 16 * usize::from(queue.size);
                memory.put(queue.areas[0], &vec![0xFF; descriptors]);
                queue.push(&memory, head, length);
            }
            0xF9 => queue.push(&memory, u32::from(self.input.byte() & 63), length),
            _ => queue.push(&memory, head, length),
        }
    }

    /// Does a request as it should be done: bytes written, or none if it stays.
    fn perform(&mut self, queue: u16, request: &Request) -> Option<u32> {
        let memory = self.memory.clone();
        match (self.kind, queue) {
            (block::DEVICE_TYPE, _) => {
                let mut bytes = vec![0; request.room() as usize];
                if let Some(status) = bytes.last_mut() {
                    *status = block::STATUS_OK;
                }
                Some(request.write(&memory, &bytes))
            }
            (_, console::QUEUE_RECEIVE) => {
                let message = self.to_send.pop_front()?;
                Some(request.write(&memory, &message))
            }
            (vsock::DEVICE_TYPE, vsock::QUEUE_TRANSMIT) => {
                self.answer_packet(&request.read(&memory));
                Some(0)
            }
            (_, console::QUEUE_TRANSMIT) => Some(0),
            // Events.
            _ => None,
        }
    }

    /// What the far end says to a packet.
    fn answer_packet(&mut self, bytes: &[u8]) {
        let Some(header) = bytes.get(..vsock::HEADER_LENGTH) else {
            return;
        };
        let operation = u16::from_le_bytes([header[30], header[31]]);
        let answer = match operation {
            vsock::OPERATION_REQUEST => {
                self.port = header[16..20].try_into().map_or(0, u32::from_le_bytes);
                self.forwarded = 0;
                vsock::OPERATION_RESPONSE
            }
            vsock::OPERATION_DATA => {
                let length = bytes.len() - vsock::HEADER_LENGTH;
                self.forwarded = self.forwarded.wrapping_add(length as u32);
                vsock::OPERATION_CREDIT_UPDATE
            }
            _ => return,
        };
        let packet = self.packet(answer, &[]);
        self.to_send.push_back(packet);
    }

    /// A packet of the connection that the driver has asked for last.
    pub fn packet(&self, operation: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; vsock::HEADER_LENGTH];
        let mut put = |at: usize, from: &[u8]| bytes[at..at + from.len()].copy_from_slice(from);
        put(vsock::HEADER_SOURCE_CID, &vsock::HOST_CID.to_le_bytes());
        let guest = vsock::FIRST_GUEST_CID.to_le_bytes();
        put(vsock::HEADER_DESTINATION_CID, &guest);
        put(vsock::HEADER_SOURCE_PORT, &PORT.to_le_bytes());
        put(vsock::HEADER_DESTINATION_PORT, &self.port.to_le_bytes());
        put(
            vsock::HEADER_DATA_LENGTH,
            &(data.len() as u32).to_le_bytes(),
        );
        put(vsock::HEADER_TYPE, &vsock::TYPE_STREAM.to_le_bytes());
        put(vsock::HEADER_OPERATION, &operation.to_le_bytes());
        put(vsock::HEADER_ALLOCATED, &0x4000_u32.to_le_bytes());
        put(vsock::HEADER_FORWARDED, &self.forwarded.to_le_bytes());
        if self.input.byte() >= LIES {
            let at = usize::from(self.input.byte()) % vsock::HEADER_LENGTH;
            put(at, &[self.input.byte()]);
        }
        bytes.extend(data);
        bytes
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
