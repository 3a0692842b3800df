//! The driver's side of a split virtqueue (VIRTIO 2.7) in memory that a hostile device writes as it likes.
//!
//! Everything that the driver relies on is in private memory: which descriptors are free, how they are linked,
//! what each request may be written to, how far both indices have got. The areas that the device sees are written
//! from that and never read back, so it makes no difference what the device does to descriptors or to the
//! available ring. Of the used ring, an index and an element are read once each, and are checked against what is in
//! flight. A device that breaks a rule gives a [`Broken`], and the queue does no more work; [`Ring::reset`] gives
//! every request that the device had back to who posted it.
//!
//! A request carries a token of the caller's, which comes back exactly once: with its completion, with the
//! refusal to post it, or from the reset. The caller keeps in it what the request's buffers are.
//!
//! What the device can do: leave requests where they are (the caller has a deadline), complete them in any order
//! and at any moment, write any bytes to their buffers, and say of each how much that was, up to what there was.

mod broken;
mod layout;
mod request;
#[cfg(test)]
mod tests;

pub use broken::Broken;
pub use request::{
    Areas, Completion, Notification, Pending, PostError, Refused, RingError, Segment, Suppression,
};

use alloc::vec::Vec;
use core::mem;
use core::sync::atomic::{Ordering, fence};

use layout::Layout;
use tdcall::SharedBuffer;
use virtio_defs::ring;

/// A request that the device has.
#[derive(Debug)]
struct Chain<T> {
    token: T,
    /// Descriptors.
    count: u16,
    /// Bytes that the device may write.
    writable: u32,
}

/// The driver's side of one queue. `T` is what the caller knows a request by.
#[derive(Debug)]
pub struct Ring<B, T> {
    memory: B,
    layout: Layout,
    suppression: Suppression,
    /// For each descriptor, the next of its chain or of the free ones.
    next: Vec<u16>,
    /// For each descriptor, the request whose head it is.
    chains: Vec<Option<Chain<T>>>,
    /// First free descriptor, of `free`.
    free_head: u16,
    /// Free descriptors.
    free: u16,
    /// The available ring's index.
    available: u16,
    /// What that was when [`Ring::notification`] was last asked.
    told: u16,
    /// Elements of the used ring that were taken.
    taken: u16,
    /// The used ring's index as it was last read, and found to be possible.
    reported: u16,
    /// Requests that the device has.
    in_flight: u16,
    broken: Option<Broken>,
}

impl<B: SharedBuffer, T> Ring<B, T> {
    /// Bytes that a queue of `size` descriptors takes; none if there is no such queue.
    pub fn memory_length(size: u16) -> Option<usize> {
        Layout::of(size).map(|layout| layout.length)
    }

    /// An empty queue of `size` descriptors at the start of `memory`, which is made zero.
    pub fn new(memory: B, size: u16, suppression: Suppression) -> Result<Self, RingError> {
        let layout = Layout::of(size).ok_or(RingError::Size(size))?;
        if memory.length() < layout.length {
            return Err(RingError::Memory {
                needed: layout.length,
                given: memory.length(),
            });
        }
        if !memory
            .gpa()
            .is_multiple_of(ring::DESCRIPTOR_TABLE_ALIGNMENT)
        {
            return Err(RingError::Alignment(memory.gpa()));
        }
        memory.write(0, &alloc::vec![0; layout.length]);
        Ok(Self {
            memory,
            layout,
            suppression,
            next: (1..=size).collect(),
            chains: (0..size).map(|_| None).collect(),
            free_head: 0,
            free: size,
            available: 0,
            told: 0,
            taken: 0,
            reported: 0,
            in_flight: 0,
            broken: None,
        })
    }

    /// What the device is told of the queue.
    pub fn areas(&self) -> Areas {
        let base = self.memory.gpa();
        Areas {
            size: self.layout.size,
            descriptors: base,
            available: base + self.layout.available as u64,
            used: base + self.layout.used as u64,
        }
    }

    /// Requests that the device has.
    pub fn in_flight(&self) -> u16 {
        self.in_flight
    }

    /// Makes a request available: the device reads `readable`, then writes `writable`. It hears of it when
    /// [`Ring::notification`] says that it wants to.
    pub fn post(
        &mut self,
        readable: &[Segment],
        writable: &[Segment],
        token: T,
    ) -> Result<(), Refused<T>> {
        let (count, writable_length) = match self.admit(readable, writable) {
            Ok(form) => form,
            Err(error) => return Err(Refused { error, token }),
        };
        let head = self.free_head;
        let flagged = readable
            .iter()
            .map(|segment| (segment, 0))
            .chain(writable.iter().map(|s| (s, ring::DESCRIPTOR_WRITE)));
        let mut left = count;
        for (segment, flag) in flagged {
            left -= 1;
            let index = self.free_head;
            self.free_head = self.next_of(index);
            let (flags, next) = match left {
                0 => (flag, 0),
                _ => (flag | ring::DESCRIPTOR_NEXT, self.free_head),
            };
            self.write_descriptor(index, segment, flags, next);
        }
        self.free -= count;
        self.in_flight += 1;
        if let Some(place) = self.chains.get_mut(usize::from(head)) {
            *place = Some(Chain {
                token,
                count,
                writable: writable_length,
            });
        }
        let element = self.layout.available_element(self.available);
        self.write_u16(element, head);
        self.available = self.available.wrapping_add(1);
        // The device reads descriptors and element after the index.
        fence(Ordering::Release);
        self.write_u16(
            self.layout.available + ring::AVAILABLE_INDEX,
            self.available,
        );
        Ok(())
    }

    /// Descriptors that a request takes, and bytes that the device may write.
    fn admit(&self, readable: &[Segment], writable: &[Segment]) -> Result<(u16, u32), PostError> {
        if let Some(broken) = self.broken {
            return Err(broken.into());
        }
        let all = || readable.iter().chain(writable);
        let count = u16::try_from(all().count()).map_err(|_| PostError::Form)?;
        if count == 0 || count > self.layout.size || all().any(|segment| segment.length == 0) {
            return Err(PostError::Form);
        }
        let length = writable
            .iter()
            .try_fold(0_u32, |sum, segment| sum.checked_add(segment.length))
            .ok_or(PostError::Form)?;
        match count <= self.free {
            true => Ok((count, length)),
            false => Err(PostError::Full),
        }
    }

    /// Whether the device has to be notified of what was posted since this was last asked.
    pub fn notification(&mut self) -> Notification {
        let old = mem::replace(&mut self.told, self.available);
        if old == self.available {
            return Notification::Suppressed;
        }
        // The index is written before it is read what the device wants (VIRTIO 2.7.13.4.1).
        fence(Ordering::SeqCst);
        let wanted = match self.suppression {
            Suppression::Flags => {
                self.read_u16(self.layout.used + ring::USED_FLAGS) & ring::USED_NO_NOTIFY == 0
            }
            Suppression::EventIndex => {
                let event = self.read_u16(self.layout.available_event());
                passed(event, self.available, old)
            }
        };
        match wanted {
            true => Notification::Needed,
            false => Notification::Suppressed,
        }
    }

    /// The next request that the device is done with.
    pub fn take(&mut self) -> Result<Option<Completion<T>>, Broken> {
        if self.unread()? == 0 {
            return Ok(None);
        }
        let mut element = [0; ring::USED_ELEMENT_LENGTH];
        let place = self.layout.used_element(self.taken);
        self.memory.read(place, &mut element);
        let [a, b, c, d, e, f, g, h] = element;
        let id = u32::from_le_bytes([a, b, c, d]);
        let length = u32::from_le_bytes([e, f, g, h]);
        let chain = self.completed(id, length).map_err(|why| self.fail(why))?;
        self.taken = self.taken.wrapping_add(1);
        self.in_flight -= 1;
        Ok(Some(Completion {
            token: chain.token,
            written: length,
        }))
    }

    /// The request that the used element is of, whose descriptors are free again.
    fn completed(&mut self, id: u32, length: u32) -> Result<Chain<T>, Broken> {
        let size = self.layout.size;
        let head = u16::try_from(id)
            .ok()
            .filter(|head| *head < size)
            .ok_or(Broken::UsedId { id, size })?;
        let place = self.chains.get_mut(usize::from(head));
        let chain = match place {
            Some(Some(chain)) if length > chain.writable => Err(Broken::UsedLength {
                length,
                writable: chain.writable,
            }),
            Some(place) => place.take().ok_or(Broken::NotInFlight { id: head }),
            None => Err(Broken::UsedId { id, size }),
        }?;
        let mut last = head;
        for _ in 1..chain.count {
            last = self.next_of(last);
        }
        if let Some(next) = self.next.get_mut(usize::from(last)) {
            *next = self.free_head;
        }
        self.free_head = head;
        self.free += chain.count;
        Ok(chain)
    }

    /// Asks for an interrupt at the next completion, and says whether one was there before the device could see that.
    pub fn ask_for_interrupt(&mut self) -> Result<Pending, Broken> {
        match self.suppression {
            Suppression::Flags => self.write_u16(self.layout.available + ring::AVAILABLE_FLAGS, 0),
            Suppression::EventIndex => self.write_u16(self.layout.used_event(), self.taken),
        }
        // What is asked for is written before the index is read (VIRTIO 2.7.7.1).
        fence(Ordering::SeqCst);
        Ok(match self.unread()? {
            0 => Pending::No,
            _ => Pending::Yes,
        })
    }

    /// Asks for no interrupts: the caller looks by itself.
    pub fn ask_for_none(&mut self) {
        match self.suppression {
            Suppression::Flags => {
                let flags = self.layout.available + ring::AVAILABLE_FLAGS;
                self.write_u16(flags, ring::AVAILABLE_NO_INTERRUPT);
            }
            // The index that is furthest from being passed.
            Suppression::EventIndex => {
                self.write_u16(self.layout.used_event(), self.taken.wrapping_sub(1));
            }
        }
    }

    /// Takes the queue down: the tokens of all requests that the device had. Called when the device was told to
    /// reset; what it still writes to their buffers, if it does not obey, is as good as any other byte of it.
    pub fn reset(self) -> impl Iterator<Item = T> {
        self.chains.into_iter().flatten().map(|chain| chain.token)
    }

    /// Elements of the used ring that were not taken. The index is read only when there are none left of its last
    /// value.
    fn unread(&mut self) -> Result<u16, Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        if self.reported == self.taken {
            let index = self.read_u16(self.layout.used + ring::USED_INDEX);
            // Elements are read after the index.
            fence(Ordering::Acquire);
            if index.wrapping_sub(self.taken) > self.in_flight {
                return Err(self.fail(Broken::UsedIndex {
                    index,
                    seen: self.taken,
                    in_flight: self.in_flight,
                }));
            }
            self.reported = index;
        }
        Ok(self.reported.wrapping_sub(self.taken))
    }

    fn fail(&mut self, broken: Broken) -> Broken {
        log::warn!("a virtio device breaks the rules of its queue: {broken}");
        self.broken = Some(broken);
        broken
    }

    fn next_of(&self, index: u16) -> u16 {
        self.next.get(usize::from(index)).copied().unwrap_or(0)
    }

    fn write_descriptor(&self, index: u16, segment: &Segment, flags: u16, next: u16) {
        let low = u128::from(segment.gpa) | u128::from(segment.length) << 64;
        let all = low | u128::from(flags) << 96 | u128::from(next) << 112;
        self.memory
            .write(self.layout.descriptor(index), &all.to_le_bytes());
    }

    fn read_u16(&self, offset: usize) -> u16 {
        let mut bytes = [0; 2];
        self.memory.read(offset, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    fn write_u16(&self, offset: usize, value: u16) {
        self.memory.write(offset, &value.to_le_bytes());
    }
}

/// Whether an index that went from `old` to `new` passed `event` (VIRTIO 2.7.7.2, `vring_need_event`).
pub(crate) fn passed(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
