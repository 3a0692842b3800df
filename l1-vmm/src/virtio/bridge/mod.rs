//! A device of the host's behind one of L2's: L1 stands between L2's private memory and the host.
//!
//! Every queue of L2's has one of the host's. Of a request, what L2 gives is copied into a buffer that is shared with the
//! host, and what the host writes is copied into L2's memory when it says that it is done: no more than L1 knows that
//! there is room for. L1 does not look at the bytes, so nothing of them is read twice. Rings, buffers, lengths and who
//! owns what are in private memory ([`super::ring`], `bounce`); what the host is shown is written from it, and what it
//! says is compared with it.
//!
//! Requests are in flight as long as there are buffers; without one, L2's queue waits. Each queue has its own: one that
//! waits for the world, such as for packets, neither takes those of the others nor lies between them. Nothing here waits for the host
//! but a reset, and that up to a bound: a host that does not reset its device has lost it.

mod bounce;
mod changes;
mod kind;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod wake_ups;

pub use changes::Interrupts;
pub use kind::{Kind, KindError};

use alloc::vec;
use alloc::vec::Vec;

use super::clock::Clock;
use super::pci::{Device, Doorbell, HostPci, PciError};
use super::ring::{Notification, Pending, PostError, Ring, RingError, Segment, Suppression};
use crate::machine::devices::virtio::backend::{
    Answer, Backend, Done, Lost, QueueKind, Request, Submission, Ticket,
};
use crate::shared_buffer::Part;
use bounce::{Bounce, Run};
use changes::{Changes, Vectors};
use kind::{Short, Shown};
use tdcall::SharedBuffer;
use virtio_defs::feature;

/// Descriptors of a queue of the host's at most: two for a request.
const RING_SIZE: u16 = 256;
/// Nanoseconds that a reset may take.
const RESET: u64 = 100_000_000;
/// Where in its buffer the writable part of a request begins, in units of this many bytes.
const ALIGNMENT: usize = 512;

/// Why a device is not bridged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// The device is refused.
    #[error(transparent)]
    Device(#[from] PciError),
    /// What it says of itself is.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// There is no room for its queues, or for the largest of its requests.
    #[error("too little shared memory for the device: {0} bytes")]
    Memory(usize),
}

/// A request that the host has.
#[derive(Debug)]
struct Held {
    ticket: Ticket,
    run: Run,
    /// Where the writable part is in the shared memory.
    writable_at: usize,
    /// Bytes of it.
    writable: u32,
}

/// A queue of the host's that works.
#[derive(Debug)]
struct Link<B> {
    ring: Ring<Part<B>, Held>,
    doorbell: Doorbell,
}

/// Whether the host's device is of use.
#[derive(Debug)]
enum State<B> {
    /// In reset.
    Reset,
    /// It works.
    Running(Vec<Link<B>>),
    /// It did not reset when it was told to.
    Gone,
}

/// The device.
#[derive(Debug)]
pub struct Bridge<H, B, C> {
    kind: Kind,
    device: Device<H>,
    clock: C,
    required: u64,
    shown: Shown,
    /// Memory of each queue, and its size.
    rings: Vec<(Part<B>, u16)>,
    /// Buffers of each queue: as many as the largest of its requests is to those of the others.
    buffers: Vec<Bounce<Part<B>>>,
    vectors: Vectors,
    changes: Changes,
    state: State<B>,
    /// The request that was told to be done, and how many bytes of it are the host's.
    told: Option<(Held, u32)>,
    notifications: u64,
}

impl<H: HostPci, B: SharedBuffer + Clone, C: Clock> Bridge<H, B, C> {
    /// Bridges `device`, which is of type `kind` and has at least the features `required`, with `memory` for queues and
    /// buffers. It interrupts as `interrupts` says.
    pub fn open(
        mut device: Device<H>,
        memory: &B,
        clock: C,
        kind: Kind,
        required: u64,
        interrupts: Interrupts,
    ) -> Result<Self, BridgeError> {
        let wanted = kind.asked() | feature::EVENT_IDX | feature::ACCESS_PLATFORM;
        let offered = device.start(required, wanted, &clock, RESET)?;
        let mut configuration = vec![0; kind.configuration_length()];
        device.read_configuration(0, &mut configuration)?;
        let shown = kind.shown(offered, &configuration, memory.length())?;
        let too_little = BridgeError::Memory(memory.length());
        let mut rings = Vec::new();
        let mut end = 0_usize;
        let mut largest = Vec::new();
        for (number, queue) in (0..).zip(&shown.queues) {
            let size = device.queue_size(number, RING_SIZE)?;
            let length = Ring::<Part<B>, Held>::memory_length(size).ok_or(too_little)?;
            let next = end + length.next_multiple_of(ALIGNMENT);
            let part = Part::new(memory.clone(), end..next).ok_or(too_little)?;
            rings.push((part, size));
            end = next;
            let bounds = queue.bounds;
            let readable = (bounds.readable as usize).next_multiple_of(ALIGNMENT);
            let writable = (bounds.writable as usize).next_multiple_of(ALIGNMENT);
            largest.push(readable + writable);
        }
        let there = memory.length().checked_sub(end).ok_or(too_little)?;
        let all: usize = largest.iter().sum();
        if there < all {
            return Err(too_little);
        }
        let mut buffers = Vec::new();
        for largest in largest {
            let share = there.saturating_mul(largest) / all.max(1);
            let next = end + share / ALIGNMENT * ALIGNMENT;
            let part = Part::new(memory.clone(), end..next).ok_or(too_little)?;
            buffers.push(Bounce::new(part));
            end = next;
        }
        device.reset(&clock, RESET)?;
        let vectors = interrupts.set_up(&device);
        Ok(Self {
            kind,
            device,
            clock,
            required,
            shown,
            rings,
            buffers,
            vectors,
            changes: Changes::new(interrupts.changes),
            state: State::Reset,
            told: None,
            notifications: 0,
        })
    }

    /// Starts the host's device with the features that L2 has chosen.
    fn connect(&mut self, features: u64) -> Result<Vec<Link<B>>, Lost> {
        let required = self.required | features & self.shown.passed;
        let wanted = feature::EVENT_IDX | feature::ACCESS_PLATFORM;
        let settled = self.device.start(required, wanted, &self.clock, RESET)?;
        let suppression = match settled & feature::EVENT_IDX {
            0 => Suppression::Flags,
            _ => Suppression::EventIndex,
        };
        let mut links = Vec::new();
        for (number, (memory, size)) in (0..).zip(&self.rings) {
            let ring = Ring::new(memory.clone(), *size, suppression)?;
            let doorbell = self
                .device
                .set_up_queue(number, &ring.areas(), self.vectors.queues)?;
            links.push(Link { ring, doorbell });
        }
        if let Some(vector) = self.vectors.configuration {
            match self.device.set_configuration_vector(vector) {
                // It works without.
                Err(PciError::Vector(_)) => self.vectors.configuration = None,
                set => set?,
            }
        }
        // A change until now has not interrupted.
        self.changes.look();
        self.device.run()?;
        Ok(links)
    }
}

impl<H: HostPci, B: SharedBuffer + Clone, C: Clock> Backend for Bridge<H, B, C> {
    fn kind(&self) -> u16 {
        self.kind.device_type()
    }

    fn class(&self) -> u32 {
        self.kind.class()
    }

    fn features(&self) -> u64 {
        self.shown.features
    }

    fn queues(&self) -> &[QueueKind] {
        &self.shown.queues
    }

    fn configuration(&self) -> &[u8] {
        &self.shown.configuration
    }

    fn changed(&mut self) -> Result<bool, Lost> {
        if !self.changes.came() {
            return Ok(false);
        }
        self.device.check()?;
        let range = self.kind.changeable();
        let mut now = vec![0; range.len()];
        let read = self.device.read_configuration(range.start as u32, &mut now);
        let now = match read {
            Ok(()) => self.kind.changed(&self.shown, &now),
            // One that does not stand still is none.
            Err(PciError::ConfigurationUnstable) => return Ok(self.changes.refuse(&read)),
            Err(error) => return Err(error.into()),
        };
        let now = match now {
            Ok(now) => now,
            Err(error) => return Ok(self.changes.refuse(&Err(error))),
        };
        let places = self.shown.configuration.get_mut(range).unwrap_or_default();
        let differs = places.len() == now.len() && *places != *now;
        if differs {
            places.copy_from_slice(&now);
        }
        Ok(differs)
    }

    fn start(&mut self, features: u64) -> Result<(), Lost> {
        if matches!(self.state, State::Gone) {
            return Err(Lost::Gone);
        }
        self.state = State::Running(self.connect(features)?);
        Ok(())
    }

    fn submit(&mut self, request: &Request<'_>) -> Result<Submission, Lost> {
        let State::Running(links) = &mut self.state else {
            return Err(Lost::Gone);
        };
        let ticket = request.ticket();
        let number = usize::from(ticket.queue);
        let link = links.get_mut(number).ok_or(Lost::Gone)?;
        let buffers = self.buffers.get_mut(number).ok_or(Lost::Gone)?;
        let (readable, writable) = (request.readable(), request.writable());
        let first = (readable as usize).next_multiple_of(ALIGNMENT);
        let Some(run) = buffers.take(first + writable as usize) else {
            return Ok(Submission::Full);
        };
        let memory = buffers.memory();
        let offset = run.offset();
        let copied = request.given().share(memory, offset, readable as usize);
        let segment = |offset: usize, length| Segment {
            gpa: memory.gpa() + offset as u64,
            length,
        };
        let (out, into) = (segment(offset, readable), segment(offset + first, writable));
        let some = |segment: Segment| (segment.length != 0).then_some(segment);
        let held = Held {
            ticket,
            run,
            writable_at: offset + first,
            writable,
        };
        let posted = match copied {
            Ok(()) => link
                .ring
                .post(some(out).as_slice(), some(into).as_slice(), held),
            Err(error) => {
                buffers.give_back(held.run);
                return Err(error.into());
            }
        };
        match posted {
            Ok(()) => Ok(Submission::Taken),
            Err(refused) => {
                buffers.give_back(refused.token.run);
                match refused.error {
                    PostError::Full => Ok(Submission::Full),
                    PostError::Broken(broken) => Err(broken.into()),
                    PostError::Form => Err(Lost::Form),
                }
            }
        }
    }

    fn flush(&mut self) -> Result<(), Lost> {
        if let State::Running(links) = &mut self.state {
            for link in links {
                if link.ring.notification() == Notification::Needed {
                    self.notifications += 1;
                    self.device.notify(&link.doorbell)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Done>, Lost> {
        let State::Running(links) = &mut self.state else {
            return Ok(None);
        };
        for link in links.iter_mut().filter(|link| link.ring.in_flight() != 0) {
            let mut done = link.ring.take()?;
            if done.is_none() && link.ring.ask_for_interrupt()? == Pending::Yes {
                done = link.ring.take()?;
            }
            if let Some(completion) = done {
                let held = completion.token;
                let done = Done {
                    ticket: held.ticket,
                    written: match self.kind.short() {
                        Short::Done | Short::Zeroed => completion.written,
                        Short::Failed(_) => held.writable,
                    },
                };
                self.told = Some((held, completion.written));
                return Ok(Some(done));
            }
        }
        Ok(None)
    }

    fn give(&mut self, _done: &Done, answer: &mut Answer<'_>) -> Result<(), Lost> {
        let Some((held, written)) = self.told.take() else {
            return Ok(());
        };
        let queue = usize::from(held.ticket.queue);
        let buffers = self.buffers.get_mut(queue).ok_or(Lost::Gone)?;
        let memory = buffers.memory();
        let given = answer.write_shared(memory, held.writable_at, written as usize);
        buffers.give_back(held.run);
        given?;
        let missing = held.writable - written.min(held.writable);
        match self.kind.short() {
            Short::Done => Ok(()),
            Short::Zeroed => zero(answer, missing),
            Short::Failed(status) => fail(answer, missing, status),
        }
    }

    fn host_notifications(&self) -> u64 {
        self.notifications
    }

    fn reset(&mut self) {
        // None of the requests is told any more.
        self.told = None;
        for buffers in &mut self.buffers {
            buffers.give_all_back();
        }
        if matches!(self.state, State::Gone) {
            return;
        }
        self.state = State::Reset;
        if let Err(error) = self.device.reset(&self.clock, RESET) {
            log::warn!("a virtio device of the host's is given up: {error}");
            self.state = State::Gone;
        }
    }
}

/// Ends a request of which the last `missing` bytes are not there: zeroes, and a status behind them.
fn fail(answer: &mut Answer<'_>, missing: u32, status: u8) -> Result<(), Lost> {
    let Some(zeroes) = missing.checked_sub(1) else {
        return Ok(());
    };
    zero(answer, zeroes)?;
    Ok(answer.write(&[status])?)
}

/// Writes `left` zeroes.
fn zero(answer: &mut Answer<'_>, mut left: u32) -> Result<(), Lost> {
    const ZEROES: [u8; 256] = [0; 256];
    while left != 0 {
        let piece = ZEROES.get(..left as usize).unwrap_or(&ZEROES);
        answer.write(piece)?;
        left -= piece.len() as u32;
    }
    Ok(())
}

impl From<RingError> for Lost {
    fn from(_: RingError) -> Self {
        Self::Form
    }
}
