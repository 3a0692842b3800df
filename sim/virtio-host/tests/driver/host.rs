//! A host with one device, memory that the TD shares with it, and L1's driver.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use l1_vmm::launch::GpaRange;
use l1_vmm::virtio::clock::Clock;
use l1_vmm::virtio::pci::{BarWindow, Device, Doorbell, Function, HostPci, Message, PciError};
use l1_vmm::virtio::ring::{Completion, Notification, Ring, Segment, Suppression};
use tdcall::SharedBuffer;
use tdcall::tdvmcall::VmcallError;
use tdx_defs::ghci::MmioWidth;
use virtio_defs::feature;
use virtio_host::{Block, Bus, Channel, Memory, NotShared, PlannedLie, Statistics, Store};
use x86_defs::pc::{PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA};
use x86_defs::pci::{self, CONFIG_ENABLE};

/// Where the shared memory is, with private memory on both sides.
pub(crate) const SHARED: u64 = 0x10_0000;
pub(crate) const SHARED_LENGTH: usize = 0x1_0000;
/// The part that is for buffers.
pub(crate) const BUFFERS: u64 = SHARED + 0x8000;
pub(crate) const WINDOW: u64 = 0xC000_0000;
/// Device number of the device.
pub(crate) const PLACE: u8 = 3;
pub(crate) const FUNCTION: Function = Function {
    bus: 0,
    device_function: PLACE << 3,
};
pub(crate) const VECTOR: u8 = 0x51;
const LIMIT: u64 = 1_000_000;

/// Shared memory: clones are the same.
#[derive(Clone)]
pub(crate) struct Shared(Rc<RefCell<Vec<u8>>>);

impl Shared {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(vec![0xA5; SHARED_LENGTH])))
    }

    fn place(gpa: u64, length: usize) -> Result<std::ops::Range<usize>, NotShared> {
        let start = gpa.checked_sub(SHARED).ok_or(NotShared(gpa))? as usize;
        let end = start.checked_add(length).ok_or(NotShared(gpa))?;
        (end <= SHARED_LENGTH)
            .then_some(start..end)
            .ok_or(NotShared(SHARED + SHARED_LENGTH as u64))
    }

    pub(crate) fn put(&self, gpa: u64, bytes: &[u8]) {
        Memory::write(self, gpa, bytes).unwrap();
    }

    pub(crate) fn get(&self, gpa: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        Memory::read(self, gpa, &mut bytes).unwrap();
        bytes
    }

    pub(crate) fn all(&self) -> Vec<u8> {
        self.0.borrow().clone()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shared memory")
    }
}

impl Memory for Shared {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), NotShared> {
        let range = Self::place(gpa, into.len())?;
        into.copy_from_slice(&self.0.borrow()[range]);
        Ok(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), NotShared> {
        let range = Self::place(gpa, from.len())?;
        self.0.borrow_mut()[range].copy_from_slice(from);
        Ok(())
    }
}

impl SharedBuffer for Shared {
    fn gpa(&self) -> u64 {
        SHARED
    }

    fn length(&self) -> usize {
        SHARED_LENGTH
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.0.borrow()[offset..offset + into.len()]);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.0.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
    }
}

/// A disk's content: clones are the same.
#[derive(Clone)]
pub(crate) struct Content(pub(crate) Rc<RefCell<Vec<u8>>>);

impl Content {
    pub(crate) fn of_sectors(count: usize) -> Self {
        let bytes = (0..count * 512).map(|at| (at / 512) as u8 ^ (at as u8));
        Self(Rc::new(RefCell::new(bytes.collect())))
    }

    pub(crate) fn all(&self) -> Vec<u8> {
        self.0.borrow().clone()
    }
}

impl Store for Content {
    fn length(&self) -> u64 {
        self.0.borrow().len() as u64
    }

    fn read(&self, offset: u64, into: &mut [u8]) {
        let start = offset as usize;
        into.copy_from_slice(&self.0.borrow()[start..start + into.len()]);
    }

    fn write(&mut self, offset: u64, from: &[u8]) {
        let start = offset as usize;
        self.0.borrow_mut()[start..start + from.len()].copy_from_slice(from);
    }
}

/// What is at the other end of a console: clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Wire {
    pub(crate) to_l1: Rc<RefCell<VecDeque<u8>>>,
    pub(crate) from_l1: Rc<RefCell<Vec<u8>>>,
    /// Bytes that it still has room for.
    pub(crate) room: Rc<Cell<usize>>,
}

impl Channel for Wire {
    fn send(&mut self, byte: u8) -> bool {
        let room = self.room.get();
        if room == 0 {
            return false;
        }
        self.room.set(room - 1);
        self.from_l1.borrow_mut().push(byte);
        true
    }

    fn receive(&mut self) -> Option<u8> {
        self.to_l1.borrow_mut().pop_front()
    }
}

/// A clock that goes on by a microsecond each time it is looked at: clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ticks(Rc<Cell<u64>>);

impl Clock for Ticks {
    fn now(&self) -> u64 {
        self.0.set(self.0.get() + 1_000);
        self.0.get()
    }
}

/// The host, as L1 reaches it: clones are the same.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) bus: Rc<RefCell<Bus>>,
    pub(crate) memory: Shared,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a host")
    }
}

impl Host {
    /// With this device, which lies so.
    pub(crate) fn new(device: impl virtio_host::Device + 'static, lies: &[&str]) -> Self {
        let mut function = virtio_host::Function::new(device);
        for lie in lies {
            let lie = PlannedLie::parse(lie).unwrap_or_else(|| panic!("{lie}"));
            function = function.with_lie(lie);
        }
        let mut bus = Bus::new();
        bus.add(PLACE, function);
        Self {
            bus: Rc::new(RefCell::new(bus)),
            memory: Shared::new(),
        }
    }

    pub(crate) fn disk(content: &Content, lies: &[&str]) -> Self {
        Self::new(Block::new(content.clone(), "tdp-vtpm-state"), lies)
    }

    pub(crate) fn statistics(&self) -> Statistics {
        self.bus.borrow().function(PLACE).unwrap().statistics()
    }

    /// The vectors of the interrupts that came.
    pub(crate) fn interrupts(&self) -> Vec<Option<u8>> {
        let messages = self.bus.borrow_mut().take_messages();
        let interrupts = messages.iter().map(|message| message.interrupt());
        interrupts
            .map(|one| one.map(|(_, vector)| vector))
            .collect()
    }

    /// Where the BAR of the registers is.
    pub(crate) fn config_low(&self) -> u32 {
        let low = self.config_read(FUNCTION, pci::BAR + 16).unwrap();
        low & pci::BAR_ADDRESS
    }

    pub(crate) fn poll(&self) {
        self.bus.borrow_mut().poll(&self.memory);
    }

    pub(crate) fn port_read(&self, port: u16, width: u32) -> Option<u32> {
        self.bus.borrow_mut().port_read(port, width)
    }

    pub(crate) fn port_write(&self, port: u16, width: u32, value: u32) -> Option<()> {
        let mut bus = self.bus.borrow_mut();
        bus.port_write(port, width, value, &self.memory)
    }

    fn select(&self, function: Function, offset: u8) {
        let place = u32::from_be_bytes([0, function.bus, function.device_function, offset]);
        self.port_write(PCI_CONFIG_ADDRESS, 4, CONFIG_ENABLE | place)
            .unwrap();
    }
}

impl HostPci for Host {
    fn config_read(&self, function: Function, offset: u8) -> Result<u32, VmcallError> {
        self.select(function, offset);
        Ok(self.port_read(PCI_CONFIG_DATA, 4).unwrap())
    }

    fn config_write(&self, function: Function, offset: u8, value: u32) -> Result<(), VmcallError> {
        self.select(function, offset);
        self.port_write(PCI_CONFIG_DATA, 4, value).unwrap();
        Ok(())
    }

    fn register_read(&self, gpa: u64, width: MmioWidth) -> Result<u64, VmcallError> {
        let value = self.bus.borrow_mut().read(gpa, width.bytes() as u32);
        Ok(value.unwrap_or(width.mask()))
    }

    fn register_write(&self, gpa: u64, width: MmioWidth, value: u64) -> Result<(), VmcallError> {
        let mut bus = self.bus.borrow_mut();
        let _ = bus.write(gpa, width.bytes() as u32, value, &self.memory);
        Ok(())
    }
}

pub(crate) fn window() -> BarWindow {
    BarWindow::new(GpaRange::with_length(WINDOW, 0x100_0000).unwrap())
}

/// L1's driver of one queue.
pub(crate) struct Driver {
    pub(crate) host: Host,
    pub(crate) device: Device<Host>,
    pub(crate) ring: Ring<Shared, u32>,
    pub(crate) doorbell: Doorbell,
}

impl Driver {
    /// Finds the device of this type and starts it with one queue.
    pub(crate) fn start(host: &Host, kind: u16, queue: u16) -> Result<Self, PciError> {
        let mut device = Device::find(host.clone(), FUNCTION, kind, &mut window())?;
        let clock = Ticks::default();
        let required = feature::ACCESS_PLATFORM;
        let settled = device.start(required, feature::EVENT_IDX, &clock, LIMIT)?;
        let suppression = match settled & feature::EVENT_IDX {
            0 => Suppression::Flags,
            _ => Suppression::EventIndex,
        };
        let message = Message {
            address: 0xFEE0_0000,
            data: VECTOR.into(),
        };
        device.set_messages(&[message])?;
        let size = device.queue_size(queue, 16)?;
        let ring = Ring::new(host.memory.clone(), size, suppression).unwrap();
        let doorbell = device.set_up_queue(queue, &ring.areas(), Some(0))?;
        device.run()?;
        Ok(Self {
            host: host.clone(),
            device,
            ring,
            doorbell,
        })
    }

    /// Posts a request and tells of it, if the device wants to hear.
    pub(crate) fn post(&mut self, readable: &[Segment], writable: &[Segment], token: u32) {
        self.ring.post(readable, writable, token).unwrap();
        let _ = self.ring.ask_for_interrupt().unwrap();
        if self.ring.notification() == Notification::Needed {
            self.device.notify(&self.doorbell).unwrap();
        }
    }

    /// The next completion.
    pub(crate) fn done(&mut self) -> Option<Completion<u32>> {
        self.ring.take().unwrap()
    }
}

/// A piece of the buffers.
pub(crate) fn segment(offset: u64, length: u32) -> Segment {
    Segment {
        gpa: BUFFERS + offset,
        length,
    }
}
