//! A virtio device as its driver in L2 sees it: status, features, queues, configuration (VIRTIO chapters 2 and 3), by the
//! registers of the PCI transport (VIRTIO 4.1.4).
//!
//! A register only changes what is in this file; requests are moved by `Device::serve`, which L1 calls when the
//! exit is answered. So an access costs the same whatever L2 has put into its rings, and a reset finds nothing half
//! done: it forgets every chain at once, and nothing is written to L2's memory for them any more.
//!
//! What the specification leaves undefined for a driver that does not keep to the order of its steps is ignored here:
//! features after FEATURES_OK, DRIVER_OK before it, places of a queue that is enabled, a queue that is not there.

mod registers;
mod requests;
mod traffic;

pub use traffic::Traffic;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::Cell;

use super::backend::{Backend, Lost, QueueKind};
use super::queue::{Chain, Fault, Places, Queue};
use virtio_defs::pci::NO_VECTOR;
use virtio_defs::{feature, status};

/// Features of every device. Not among them, so never in effect: packed rings, buffers in order, notifications with
/// data, reset of one queue, and access by the platform's rules.
const FEATURES: u64 = feature::VERSION_1 | feature::INDIRECT_DESC | feature::EVENT_IDX;
/// How many broken rules of a device are told in L1's log: a driver can break any number.
const COMPLAINTS: u32 = 8;

/// What a device wants to interrupt for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The configuration has changed, or the device needs a reset.
    Configuration,
    /// A queue has something new.
    Queue,
}

/// Why a device needs a reset.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("queue {queue}: {fault}")]
    Driver { queue: u16, fault: Fault },
    #[error(transparent)]
    Backend(#[from] Lost),
    #[error("the backend is done with what it does not have")]
    NoSuchRequest,
}

/// One queue: its registers, and its rings once it works.
struct Slot {
    kind: QueueKind,
    places: Places,
    vector: u16,
    enabled: bool,
    /// It is to be looked for new requests.
    stirred: bool,
    queue: Option<Queue>,
    /// By its head, each request that the backend has.
    out: Vec<Option<Chain>>,
    /// A request that the backend had no room for.
    waiting: Option<Chain>,
    /// Requests that may yet be submitted at this exit.
    left: u32,
}

impl Slot {
    fn new(kind: QueueKind) -> Self {
        Self {
            kind,
            places: Places {
                size: kind.size,
                ..Places::default()
            },
            vector: NO_VECTOR,
            enabled: false,
            stirred: false,
            queue: None,
            out: Vec::new(),
            waiting: None,
            left: 0,
        }
    }
}

/// The device.
pub struct Device<B: ?Sized = dyn Backend> {
    backend: Box<B>,
    /// Entries of the MSI-X table.
    vectors: u16,
    selects: Selects,
    driver_features: u64,
    status: u8,
    generation: u8,
    configuration_vector: u16,
    interrupt_status: Cell<u8>,
    slots: Vec<Slot>,
    /// An interrupt for the configuration is due.
    announce: bool,
    complaints: u32,
    traffic: Traffic,
}

/// What the select registers hold.
#[derive(Clone, Copy, Default)]
struct Selects {
    device_features: u32,
    driver_features: u32,
    queue: u16,
}

impl<B: Backend + ?Sized> Device<B> {
    /// A device with `backend` behind it, whose function has `vectors` entries in its MSI-X table.
    pub fn new(backend: Box<B>, vectors: u16) -> Self {
        let slots = backend.queues().iter().copied().map(Slot::new).collect();
        Self {
            backend,
            vectors,
            selects: Selects::default(),
            driver_features: 0,
            status: 0,
            generation: 0,
            configuration_vector: NO_VECTOR,
            interrupt_status: Cell::new(0),
            slots,
            announce: false,
            complaints: 0,
            traffic: Traffic::default(),
        }
    }

    /// What is behind it.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// What it has moved.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            host_notifications: self.backend.host_notifications(),
            ..self.traffic
        }
    }

    /// As after a reset by the driver: everything that L2 had handed over is forgotten.
    pub fn reset(&mut self) {
        if self.status & status::FEATURES_OK != 0 {
            self.backend.reset();
        }
        self.selects = Selects::default();
        self.driver_features = 0;
        self.status = 0;
        self.configuration_vector = NO_VECTOR;
        self.interrupt_status.set(0);
        self.announce = false;
        for slot in &mut self.slots {
            *slot = Slot::new(slot.kind);
        }
    }

    fn offered(&self) -> u64 {
        FEATURES | self.backend.features()
    }

    fn selected(&self) -> Option<&Slot> {
        self.slots.get(usize::from(self.selects.queue))
    }

    /// The driver sets bits of the status, or resets the device with 0. A bit that is set stays.
    fn write_status(&mut self, value: u8) {
        if value == 0 {
            return self.reset();
        }
        let mut new = value & !self.status & !status::DEVICE_NEEDS_RESET;
        if new & status::FEATURES_OK != 0 && !self.settle() {
            new &= !status::FEATURES_OK;
        }
        if (self.status | new) & status::FEATURES_OK == 0 {
            new &= !status::DRIVER_OK;
        }
        self.status |= new;
        if new & status::DRIVER_OK != 0 {
            for slot in &mut self.slots {
                slot.stirred = true;
            }
        }
    }

    /// Whether the device takes the features that the driver has chosen.
    fn settle(&mut self) -> bool {
        let chosen = self.driver_features;
        if chosen & !self.offered() != 0 || chosen & feature::VERSION_1 == 0 {
            return false;
        }
        match self.backend.start(chosen & self.backend.features()) {
            Ok(()) => true,
            Err(lost) => {
                self.complain(&lost.into());
                self.backend.reset();
                false
            }
        }
    }

    /// Reads the interrupt status, which that clears.
    pub(super) fn read_interrupt_status(&self) -> u8 {
        self.interrupt_status.take()
    }

    /// Reads the device's configuration.
    pub(super) fn read_configuration(&self, offset: u32, into: &mut [u8]) {
        into.fill(0);
        let source = self.backend.configuration().iter().skip(offset as usize);
        for (byte, source) in into.iter_mut().zip(source) {
            *byte = *source;
        }
    }

    /// Writes the device's configuration.
    pub(super) fn write_configuration(&mut self, offset: u32, from: &[u8]) {
        if self.works() {
            self.backend.configure(offset as usize, from);
        }
    }

    /// The driver has new requests in a queue.
    pub(super) fn notify(&mut self, queue: u32) {
        self.traffic.notifications += 1;
        if let Some(slot) = self.slots.get_mut(queue as usize) {
            slot.stirred = true;
        }
    }

    /// Whether requests are served.
    fn works(&self) -> bool {
        let ended = status::DEVICE_NEEDS_RESET | status::FAILED;
        self.status & status::DRIVER_OK != 0 && self.status & ended == 0
    }

    /// The device works no more until the driver resets it (VIRTIO 2.1.2).
    fn fail(&mut self, failure: &Failure) {
        self.complain(failure);
        self.backend.reset();
        self.status |= status::DEVICE_NEEDS_RESET;
        self.announce = true;
        for slot in &mut self.slots {
            slot.queue = None;
            slot.waiting = None;
            slot.out.clear();
        }
    }

    fn complain(&mut self, failure: &Failure) {
        let kind = self.backend.kind();
        self.complaints = self.complaints.saturating_add(1);
        if self.complaints <= COMPLAINTS {
            log::warn!("virtio device of type {kind} needs a reset: {failure}");
        }
    }
}
