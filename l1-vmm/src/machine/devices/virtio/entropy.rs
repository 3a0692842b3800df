//! The entropy device (VIRTIO 5.4), answered by L1 itself: L2's kernel credits what it reads there as entropy, and the
//! host's bytes are none.

use alloc::collections::VecDeque;

use super::backend::{Answer, Backend, Done, Lost, QueueKind, Request, Submission, Ticket};
use super::queue::Bounds;
use crate::entropy::EntropyError;
use virtio_defs::entropy;
use x86_defs::pci;

/// Descriptors of the queue. Linux has one request out at a time.
const QUEUE_SIZE: u16 = 8;
/// Bytes of a request that are filled: a driver takes what it gets (VIRTIO 5.4.6.1), and L1 makes no more in an exit.
const BYTES_MAX: u32 = 64;

/// The only queue. A request has nothing to read, and its room may be larger than what is filled.
const QUEUE: QueueKind = QueueKind {
    size: QUEUE_SIZE,
    bounds: Bounds {
        readable: 0,
        writable: 0x1_0000,
    },
};

/// The backend. `F` fills a slice with random bytes that passed the health tests.
pub struct EntropyDevice<F> {
    fill: F,
    done: VecDeque<Done>,
}

impl<F: FnMut(&mut [u8]) -> Result<(), EntropyError>> EntropyDevice<F> {
    /// A device that gives what `fill` makes.
    pub fn new(fill: F) -> Self {
        Self {
            fill,
            done: VecDeque::new(),
        }
    }
}

impl<F: FnMut(&mut [u8]) -> Result<(), EntropyError>> Backend for EntropyDevice<F> {
    fn kind(&self) -> u16 {
        entropy::DEVICE_TYPE
    }

    fn class(&self) -> u32 {
        pci::CLASS_OTHER
    }

    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> &[QueueKind] {
        &[QUEUE]
    }

    fn configuration(&self) -> &[u8] {
        &[]
    }

    fn start(&mut self, _features: u64) -> Result<(), Lost> {
        Ok(())
    }

    fn submit(&mut self, request: &Request<'_>) -> Result<Submission, Lost> {
        self.done.push_back(Done {
            ticket: request.ticket(),
            written: request.writable().min(BYTES_MAX),
        });
        Ok(Submission::Taken)
    }

    fn take(&mut self) -> Result<Option<Done>, Lost> {
        Ok(self.done.pop_front())
    }

    fn give(&mut self, done: &Done, answer: &mut Answer<'_>) -> Result<(), Lost> {
        let Done {
            ticket: Ticket { .. },
            written,
        } = *done;
        let mut bytes = [0; BYTES_MAX as usize];
        if let Some(bytes) = bytes.get_mut(..written as usize) {
            (self.fill)(bytes)?;
            answer.write(bytes)?;
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.done.clear();
    }
}
