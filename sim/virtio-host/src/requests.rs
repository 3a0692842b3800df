//! The queues of a device while it works.

use alloc::vec::Vec;

use crate::lie::{Lie, Lies};
use crate::memory::{Memory, NotShared};
use crate::queue::{Chain, Queue, Violation};
use crate::statistics::Statistics;

/// A completion that is kept for after a reset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// Resets before it.
    resets: u64,
    queue: u16,
    head: u16,
    written: u32,
}

/// What a device has of its queues.
pub struct Requests<'a> {
    pub(crate) queues: Vec<Option<&'a mut Queue>>,
    pub(crate) memory: &'a dyn Memory,
    pub(crate) lies: &'a mut Lies,
    pub(crate) statistics: &'a mut Statistics,
    pub(crate) kept: &'a mut Vec<Kept>,
    pub(crate) violation: Option<Violation>,
}

impl core::fmt::Debug for Requests<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} queues", self.queues.len())
    }
}

impl<'a> Requests<'a> {
    /// The memory of the buffers.
    pub fn memory(&self) -> &'a dyn Memory {
        self.memory
    }

    fn queue(&mut self, index: u16) -> Option<&mut Queue> {
        self.queues.get_mut(usize::from(index))?.as_deref_mut()
    }

    /// The next request of a queue. There is none once the driver has broken a rule.
    pub fn take(&mut self, queue: u16) -> Option<Chain> {
        if self.violation.is_some() {
            return None;
        }
        let memory = self.memory;
        match self.queue(queue)?.pop(memory) {
            Ok(None) => None,
            Ok(Some(chain)) => {
                self.lies.next_request();
                self.statistics.requests += 1;
                if self.lies.tell(Lie::Rewrite) {
                    let overwritten = self.queue(queue)?.overwrite(memory, &chain);
                    self.note(overwritten);
                }
                Some(chain)
            }
            Err(violation) => {
                self.fail(violation);
                None
            }
        }
    }

    /// Tells the driver that a request is done, with `written` bytes from the start of its writable part.
    pub fn complete(&mut self, queue: u16, chain: &Chain, written: u32) {
        self.statistics.completions += 1;
        self.statistics.bytes += chain.readable() + u64::from(written);
        if self.lies.tell(Lie::Silent) {
            return;
        }
        let head = chain.head();
        if self.lies.tell(Lie::Late) {
            let resets = self.statistics.resets;
            self.kept.push(Kept {
                resets,
                queue,
                head,
                written,
            });
            return;
        }
        let id = self.lies.find(|lie| match lie {
            Lie::UsedId(id) => Some(id),
            _ => None,
        });
        let length = self.lies.find(|lie| match lie {
            Lie::UsedLength(length) => Some(length),
            _ => None,
        });
        let jump = self.lies.find(|lie| match lie {
            Lie::IndexJump(by) => Some(by),
            _ => None,
        });
        let times = if self.lies.tell(Lie::Twice) { 2 } else { 1 };
        let memory = self.memory;
        let Some(side) = self.queue(queue) else {
            return;
        };
        let id = id.unwrap_or(head.into());
        let length = length.unwrap_or(written);
        let mut told = Ok(());
        for _ in 0..times {
            told = told.and_then(|()| side.push(memory, id, length));
        }
        if let Some(by) = jump {
            told = told.and_then(|()| side.advance(memory, by));
        }
        self.note(told);
    }

    /// The driver has broken a rule: the device needs a reset.
    pub fn fail(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    fn note(&mut self, result: Result<(), NotShared>) {
        if let Err(error) = result {
            self.fail(error.into());
        }
    }

    /// Tells what was kept before the last reset, on the queues that there are now.
    pub(crate) fn tell_kept(&mut self) {
        let memory = self.memory;
        let resets = self.statistics.resets;
        let kept = core::mem::take(self.kept).into_iter();
        let (old, new): (Vec<_>, _) = kept.partition(|kept| kept.resets < resets);
        *self.kept = new;
        for kept in old {
            let told = match self.queue(kept.queue) {
                Some(queue) => queue.push(memory, kept.head.into(), kept.written),
                None => Ok(()),
            };
            self.note(told);
        }
    }
}
