//! What is behind a virtio device of L2's: the host's device, or L1 itself.

use core::cell::Cell;

use super::queue::{Bounds, Chain, Reader, Writer};
use crate::run::environment::L2Memory;
use crate::virtio::pci::PciError;
use crate::virtio::ring::Broken;
use l2_exit::MemoryError;
use tdcall::SharedBuffer;

/// One queue of a device, as its type has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueKind {
    /// Descriptors that the driver gets at most: a power of two.
    pub size: u16,
    /// What a request may have.
    pub bounds: Bounds,
}

/// What a backend knows a request by, until it is done with it or reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// Queue.
    pub queue: u16,
    /// Head of the chain: of those of the queue that are out, no other has it.
    pub head: u16,
}

/// A request of L2's.
pub struct Request<'a> {
    memory: &'a dyn L2Memory,
    chain: &'a Chain,
    ticket: Ticket,
    copied: Cell<u64>,
}

impl<'a> Request<'a> {
    /// The request `chain` of queue `queue`, in L2's memory.
    pub fn new(memory: &'a dyn L2Memory, queue: u16, chain: &'a Chain) -> Self {
        let ticket = Ticket {
            queue,
            head: chain.head(),
        };
        Self {
            memory,
            chain,
            ticket,
            copied: Cell::new(0),
        }
    }

    /// What it is known by.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Bytes that L2 gives.
    pub fn readable(&self) -> u32 {
        self.chain.readable.length()
    }

    /// Bytes that L2 has room for.
    pub fn writable(&self) -> u32 {
        self.chain.writable.length()
    }

    /// What L2 gives, from its first byte on: whoever reads a byte once has it once.
    pub fn given(&self) -> Given<'_> {
        Given {
            request: self,
            reader: self.chain.readable.reader(),
        }
    }

    /// Bytes that were copied for it.
    pub fn copied(&self) -> u64 {
        self.copied.get()
    }
}

/// The bytes that L2 gives with a request, one piece after the other.
pub struct Given<'a> {
    request: &'a Request<'a>,
    reader: Reader<'a>,
}

impl Given<'_> {
    /// Reads the next bytes.
    pub fn read(&mut self, into: &mut [u8]) -> Result<(), MemoryError> {
        self.reader.read(self.request.memory, into)?;
        self.count(into.len() as u64);
        Ok(())
    }

    /// Copies the next `length` bytes to `offset` of memory that the host sees.
    pub fn share(
        &mut self,
        shared: &dyn SharedBuffer,
        offset: usize,
        length: usize,
    ) -> Result<(), MemoryError> {
        let memory = self.request.memory;
        let copied = self.reader.share(memory, shared, offset, length)?;
        self.count(copied);
        Ok(())
    }

    fn count(&self, copied: u64) {
        let all = self.request.copied.get().saturating_add(copied);
        self.request.copied.set(all);
    }
}

/// Where the bytes for L2 go, one piece after the other: what is beyond the room that L2 has goes nowhere.
pub struct Answer<'a> {
    memory: &'a dyn L2Memory,
    writer: Writer<'a>,
    copied: u64,
}

impl<'a> Answer<'a> {
    /// The room that `chain` has, in L2's memory.
    pub fn new(memory: &'a dyn L2Memory, chain: &'a Chain) -> Self {
        Self {
            memory,
            writer: chain.writable.writer(),
            copied: 0,
        }
    }

    /// Writes the next bytes.
    pub fn write(&mut self, from: &[u8]) -> Result<(), MemoryError> {
        self.writer.write(self.memory, from)?;
        self.copied = self.copied.saturating_add(from.len() as u64);
        Ok(())
    }

    /// Copies the next `length` bytes from `offset` of memory that the host may write, each read once.
    pub fn write_shared(
        &mut self,
        shared: &dyn SharedBuffer,
        offset: usize,
        length: usize,
    ) -> Result<(), MemoryError> {
        let memory = self.memory;
        let copied = self.writer.write_shared(memory, shared, offset, length)?;
        self.copied = self.copied.saturating_add(copied);
        Ok(())
    }

    /// Bytes that were copied.
    pub fn copied(&self) -> u64 {
        self.copied
    }
}

/// What became of a request that was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Submission {
    /// It is on its way, or done.
    Taken,
    /// There is no room now: submit it again after something was done.
    Full,
}

/// A request that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Which.
    pub ticket: Ticket,
    /// Bytes for L2, from the start of its room: never more than there is.
    pub written: u32,
}

/// The backend does not work until it is reset, or at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// L1's generator of random numbers failed.
    #[error(transparent)]
    Entropy(#[from] crate::entropy::EntropyError),
    /// The host's device does not do as it is told.
    #[error(transparent)]
    Host(#[from] PciError),
    /// The host's device breaks the rules of its queue.
    #[error(transparent)]
    Queue(#[from] Broken),
    /// A request has a form that the host's queue does not take.
    #[error("a request of a form that the host's queue does not take")]
    Form,
    /// The host's device is not there, or not started.
    #[error("the host's device is of no use")]
    Gone,
    /// A buffer of L2's could not be read or written.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// What answers the requests of a device.
///
/// L1 calls it while L2 waits, so no method waits for anything but [`Backend::reset`], and that within a bound. What
/// it says of a request is compared with what L1 knows of it: a ticket of no request, or one told twice, is a [`Lost`] of
/// the whole device, and of bytes no more reach L2 than it has room for.
pub trait Backend {
    /// Device type.
    fn kind(&self) -> u16;
    /// Class code of the PCI function.
    fn class(&self) -> u32;
    /// Features of the device type that are offered.
    fn features(&self) -> u64;
    /// The device's queues.
    fn queues(&self) -> &[QueueKind];
    /// The device's configuration: the same bytes until [`Backend::changed`] says otherwise.
    fn configuration(&self) -> &[u8];
    /// L2 writes to the configuration. What the type has nothing writable at is ignored.
    fn configure(&mut self, _offset: usize, _from: &[u8]) {}
    /// Whether the configuration has changed since this was last asked, which is only while the device works.
    fn changed(&mut self) -> Result<bool, Lost> {
        Ok(false)
    }
    /// L2 has chosen these of [`Backend::features`]: from now on requests may come.
    fn start(&mut self, features: u64) -> Result<(), Lost>;
    /// Takes a request. Its buffers are L2's again as soon as this returns.
    fn submit(&mut self, request: &Request<'_>) -> Result<Submission, Lost>;
    /// What was submitted is all for now.
    fn flush(&mut self) -> Result<(), Lost> {
        Ok(())
    }
    /// The next request that is done.
    fn take(&mut self) -> Result<Option<Done>, Lost>;
    /// Passes on the bytes of the request that [`Backend::take`] has just told, and forgets it.
    fn give(&mut self, done: &Done, answer: &mut Answer<'_>) -> Result<(), Lost>;
    /// Forgets all requests: none of them is told any more.
    fn reset(&mut self);
    /// Notifications of the host's device so far, each of them a TDVMCALL.
    fn host_notifications(&self) -> u64 {
        0
    }
}
