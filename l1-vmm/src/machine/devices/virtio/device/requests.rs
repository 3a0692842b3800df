//! How requests get to the backend, and what is done back to L2.

use super::super::backend::{Answer, Backend, Done, Request, Submission};
use super::super::queue::{Queue, Terms};
use super::{Cause, Device, Failure};
use crate::run::environment::L2Memory;
use crate::virtio::ring::{Pending, Suppression};
use virtio_defs::{feature, pci as registers};

impl<B: Backend + ?Sized> Device<B> {
    /// Moves requests and what is done; says for what there is to interrupt, and by which vector. Bounded: of each
    /// queue at most one request more than it has descriptors, one that had waited. Only L2 that posts while L1 is at
    /// work has more, for which its next exit has to come; else L1 has asked everybody to be told when it is to go on.
    pub(in crate::machine::devices::virtio) fn serve<M: L2Memory>(
        &mut self,
        memory: &M,
        interrupt: &mut dyn FnMut(Cause, u16),
    ) {
        if self.works() {
            let served = self
                .look_at_configuration()
                .and_then(|()| self.move_requests(memory, interrupt));
            if let Err(failure) = served {
                self.fail(&failure);
            }
        }
        if core::mem::take(&mut self.announce) {
            self.interrupt_status
                .set(self.interrupt_status.get() | registers::ISR_CONFIGURATION);
            interrupt(Cause::Configuration, self.configuration_vector);
        }
    }

    /// Tells L2 of a configuration that has changed (VIRTIO 2.5).
    fn look_at_configuration(&mut self) -> Result<(), Failure> {
        if self.backend.changed()? {
            self.generation = self.generation.wrapping_add(1);
            self.announce = true;
        }
        Ok(())
    }

    fn move_requests<M: L2Memory>(
        &mut self,
        memory: &M,
        interrupt: &mut dyn FnMut(Cause, u16),
    ) -> Result<(), Failure> {
        for slot in &mut self.slots {
            slot.left = u32::from(slot.places.size) + 1;
        }
        self.take_done(memory)?;
        while self.submit_all(memory)? {
            self.backend.flush()?;
            // What is done at once costs no interrupt of the host's, so none comes for the room that there is now.
            self.take_done(memory)?;
        }
        for (index, slot) in (0..).zip(&mut self.slots) {
            let Some(queue) = &mut slot.queue else {
                continue;
            };
            let due = queue.interrupts(memory);
            if due.map_err(|fault| Failure::Driver {
                queue: index,
                fault,
            })? {
                let status = self.interrupt_status.get() | registers::ISR_QUEUE;
                self.interrupt_status.set(status);
                self.traffic.interrupts += 1;
                interrupt(Cause::Queue, slot.vector);
            }
        }
        Ok(())
    }

    /// Submits what is new in any queue. Whether anything was.
    fn submit_all<M: L2Memory>(&mut self, memory: &M) -> Result<bool, Failure> {
        let mut submitted = false;
        for index in 0..self.slots.len() {
            submitted |= self.submit_new(index, memory)?;
        }
        Ok(submitted)
    }

    /// Submits what is new in a queue, and what had no room before. Whether anything was.
    fn submit_new<M: L2Memory>(&mut self, index: usize, memory: &M) -> Result<bool, Failure> {
        let Some(slot) = self.slots.get_mut(index) else {
            return Ok(false);
        };
        if !slot.enabled || !core::mem::take(&mut slot.stirred) {
            return Ok(false);
        }
        let number = index as u16;
        let broken = |fault| Failure::Driver {
            queue: number,
            fault,
        };
        let queue = match &mut slot.queue {
            Some(queue) => queue,
            none => {
                let terms = Terms {
                    suppression: match self.driver_features & feature::EVENT_IDX {
                        0 => Suppression::Flags,
                        _ => Suppression::EventIndex,
                    },
                    indirect: self.driver_features & feature::INDIRECT_DESC != 0,
                    bounds: slot.kind.bounds,
                };
                let queue = Queue::new(slot.places, slot.kind.size, terms, memory);
                slot.out.resize_with(slot.places.size.into(), || None);
                none.insert(queue.map_err(broken)?)
            }
        };
        let mut submitted = false;
        loop {
            let chain = match slot.waiting.take() {
                Some(chain) => chain,
                None => match queue.take(memory).map_err(broken)? {
                    Some(chain) => chain,
                    None => match queue.ask_for_notification(memory).map_err(broken)? {
                        Pending::Yes => continue,
                        Pending::No => return Ok(submitted),
                    },
                },
            };
            let Some(left) = slot.left.checked_sub(1) else {
                // There may be more: go on at the next exit.
                slot.waiting = Some(chain);
                slot.stirred = true;
                return Ok(submitted);
            };
            let request = Request::new(memory, number, &chain);
            let submission = self.backend.submit(&request)?;
            self.traffic.copied += request.copied();
            match submission {
                Submission::Taken => {
                    submitted = true;
                    slot.left = left;
                    self.traffic.bytes += u64::from(request.readable());
                    if let Some(place) = slot.out.get_mut(usize::from(chain.head())) {
                        *place = Some(chain);
                    }
                }
                // The next completion goes on here.
                Submission::Full => {
                    slot.waiting = Some(chain);
                    queue.ask_for_none(memory).map_err(broken)?;
                    return Ok(submitted);
                }
            }
        }
    }

    /// Gives L2 what the backend is done with.
    fn take_done<M: L2Memory>(&mut self, memory: &M) -> Result<(), Failure> {
        while let Some(done) = self.backend.take()? {
            self.give_back(memory, &done)?;
            self.traffic.requests += 1;
            // There is room for what waits.
            for slot in self.slots.iter_mut().filter(|slot| slot.waiting.is_some()) {
                slot.stirred = true;
            }
        }
        Ok(())
    }

    fn give_back<M: L2Memory>(&mut self, memory: &M, done: &Done) -> Result<(), Failure> {
        let number = done.ticket.queue;
        let broken = |fault| Failure::Driver {
            queue: number,
            fault,
        };
        let slot = self.slots.get_mut(usize::from(number));
        let (queue, chain) = slot
            .and_then(|slot| {
                let chain = slot.out.get_mut(usize::from(done.ticket.head))?.take()?;
                Some((slot.queue.as_mut()?, chain))
            })
            .ok_or(Failure::NoSuchRequest)?;
        let mut answer = Answer::new(memory, &chain);
        self.backend.give(done, &mut answer)?;
        self.traffic.copied += answer.copied();
        let written = done.written.min(chain.writable.length());
        self.traffic.bytes += u64::from(written);
        queue.complete(memory, chain, written).map_err(broken)
    }
}
