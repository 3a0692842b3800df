//! The device's side of a split virtqueue (VIRTIO 2.7) whose driver is L2: hostile, and at work on other processors
//! while L1 reads.
//!
//! Everything of the queue's is in L2's memory, and is reached through [`L2Memory`] only, which refuses what is not L2's own:
//! L1's memory, device windows, holes, addresses with the SHARED bit. An index, a head and a descriptor are each read
//! once; a table of descriptors is copied whole. From then on L1 works from its copy, a [`Chain`], so it makes no
//! difference what L2 does to a request that it has handed over. A driver that breaks a rule gives a [`Fault`], and
//! the queue takes nothing more.
//!
//! What bounds the work: a chain has no more descriptors than the queue, and no more bytes than [`Bounds`]; a head is
//! taken once until it is given back, so no more chains are out than the queue has descriptors.

mod chain;
mod fault;
#[cfg(test)]
mod tests;

pub use chain::{Bounds, Buffers, Chain, Reader, Writer};
pub use fault::Fault;

use alloc::vec;
use alloc::vec::Vec;
use core::mem;
use core::sync::atomic::{Ordering, fence};

use crate::run::environment::L2Memory;
use crate::virtio::ring::{Pending, Suppression, passed};
use l2_exit::MemoryError;
use virtio_defs::ring;

/// Where L2 says that the queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Descriptors.
    pub size: u16,
    /// GPA of the descriptor table.
    pub descriptors: u64,
    /// GPA of the available ring.
    pub available: u64,
    /// GPA of the used ring.
    pub used: u64,
}

/// What was agreed on with the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How each side says that it wants to hear of the other's progress.
    pub suppression: Suppression,
    /// VIRTIO_F_INDIRECT_DESC.
    pub indirect: bool,
    /// What a request may have.
    pub bounds: Bounds,
}

/// The device's side of one queue.
#[derive(Debug)]
pub struct Queue {
    places: Places,
    terms: Terms,
    /// Heads of the available ring that were taken.
    taken: u16,
    /// The available ring's index as it was last read, and found to be possible.
    reported: u16,
    /// The used ring's index.
    completed: u16,
    /// What that was when it was last decided whether to interrupt.
    told: u16,
    /// For each descriptor, whether a chain that begins with it is out.
    out: Vec<bool>,
    /// Room of requests that came back, for the next ones: where as many have been out as are, nothing is allocated.
    spare: Vec<(Buffers, Buffers)>,
    /// Room for a table of descriptors.
    table: Vec<u8>,
    fault: Option<Fault>,
}

/// Descriptors of a chain: the queue's, or the table that was copied last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    Queue,
    Own,
}

/// A descriptor, copied.
#[derive(Clone, Copy)]
struct Descriptor {
    gpa: u64,
    length: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn parse(bytes: [u8; ring::DESCRIPTOR_LENGTH]) -> Self {
        let all = u128::from_le_bytes(bytes);
        Self {
            gpa: all as u64,
            length: (all >> 64) as u32,
            flags: (all >> 96) as u16,
            next: (all >> 112) as u16,
        }
    }

    fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

impl Queue {
    /// A queue of at most `most` descriptors, empty as its driver made it.
    pub fn new(
        places: Places,
        most: u16,
        terms: Terms,
        memory: &impl L2Memory,
    ) -> Result<Self, Fault> {
        let size = places.size;
        if !size.is_power_of_two() || size > most {
            return Err(Fault::Size(size));
        }
        let count = u64::from(size);
        let rings = |header: usize, element: usize| {
            (header + ring::EVENT_LENGTH) as u64 + count * element as u64
        };
        for (gpa, alignment, length) in [
            (
                places.descriptors,
                ring::DESCRIPTOR_TABLE_ALIGNMENT,
                count * ring::DESCRIPTOR_LENGTH as u64,
            ),
            (
                places.available,
                ring::AVAILABLE_ALIGNMENT,
                rings(ring::AVAILABLE_RING, ring::AVAILABLE_ELEMENT_LENGTH),
            ),
            (
                places.used,
                ring::USED_ALIGNMENT,
                rings(ring::USED_RING, ring::USED_ELEMENT_LENGTH),
            ),
        ] {
            if !gpa.is_multiple_of(alignment) {
                return Err(Fault::Alignment(gpa));
            }
            if !memory.is_l2(gpa, length) {
                return Err(Fault::Foreign { gpa, length });
            }
        }
        Ok(Self {
            places,
            terms,
            taken: 0,
            reported: 0,
            completed: 0,
            told: 0,
            out: vec![false; size.into()],
            spare: Vec::new(),
            table: Vec::new(),
            fault: None,
        })
    }

    /// The next request that the driver made available.
    pub fn take(&mut self, memory: &impl L2Memory) -> Result<Option<Chain>, Fault> {
        let result = self.next(memory);
        if let Err(fault) = result {
            self.fault = Some(fault);
        }
        result
    }

    fn next(&mut self, memory: &impl L2Memory) -> Result<Option<Chain>, Fault> {
        if self.untaken(memory)? == 0 {
            return Ok(None);
        }
        let place = ring::AVAILABLE_RING
            + ring::AVAILABLE_ELEMENT_LENGTH * usize::from(self.taken % self.places.size);
        let head = read_u16(memory, self.places.available, place)?;
        match self.out.get(usize::from(head)) {
            None => return Err(Fault::Head(head)),
            Some(true) => return Err(Fault::InFlight(head)),
            Some(false) => {}
        }
        let chain = self.walk(memory, head)?;
        self.set_out(head, true);
        self.taken = self.taken.wrapping_add(1);
        Ok(Some(chain))
    }

    /// Requests that were not taken. The index is read only when there are none left of its last value.
    fn untaken(&mut self, memory: &impl L2Memory) -> Result<u16, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.reported == self.taken {
            let index = read_u16(memory, self.places.available, ring::AVAILABLE_INDEX)?;
            // Heads and descriptors are read after the index.
            fence(Ordering::Acquire);
            if index.wrapping_sub(self.taken) > self.places.size {
                return Err(Fault::AvailableIndex {
                    index,
                    seen: self.taken,
                });
            }
            self.reported = index;
        }
        Ok(self.reported.wrapping_sub(self.taken))
    }

    /// Copies the chain that begins with `head` (VIRTIO 2.7.5): descriptors of the queue, the last of which may name
    /// a table that has the others.
    fn walk(&mut self, memory: &impl L2Memory, head: u16) -> Result<Chain, Fault> {
        let bounds = self.terms.bounds;
        let (readable, writable) = self.spare.pop().unwrap_or_default();
        let mut chain = Chain {
            head,
            readable,
            writable,
        };
        let mut table = Table::Queue;
        let mut index = head;
        let mut left = self.places.size;
        loop {
            let descriptor = self.descriptor(memory, table, index)?;
            let Descriptor { gpa, length, .. } = descriptor;
            if descriptor.is(ring::DESCRIPTOR_INDIRECT) {
                let allowed = self.terms.indirect && !descriptor.is(ring::DESCRIPTOR_NEXT);
                if !allowed || table == Table::Own {
                    return Err(Fault::Nested);
                }
                self.copy_table(memory, gpa, length)?;
                table = Table::Own;
                index = 0;
                continue;
            }
            left = left.checked_sub(1).ok_or(Fault::TooLong)?;
            if length == 0 {
                return Err(Fault::Empty);
            }
            let buffers = match descriptor.is(ring::DESCRIPTOR_WRITE) {
                true => (&mut chain.writable, bounds.writable),
                false if chain.writable.length() != 0 => return Err(Fault::Order),
                false => (&mut chain.readable, bounds.readable),
            };
            if !memory.is_l2(gpa, length.into()) {
                let length = length.into();
                return Err(Fault::Foreign { gpa, length });
            }
            let (buffers, most) = buffers;
            buffers.push(gpa, length, most)?;
            if !descriptor.is(ring::DESCRIPTOR_NEXT) {
                return Ok(chain);
            }
            index = descriptor.next;
        }
    }

    /// Copies a table of descriptors.
    fn copy_table(&mut self, memory: &impl L2Memory, gpa: u64, length: u32) -> Result<(), Fault> {
        let bytes = length as usize;
        let most = usize::from(self.places.size) * ring::DESCRIPTOR_LENGTH;
        if bytes == 0 || bytes > most || !bytes.is_multiple_of(ring::DESCRIPTOR_LENGTH) {
            return Err(Fault::Table(length));
        }
        self.table.resize(bytes, 0);
        memory.read(gpa, &mut self.table).map_err(foreign(length))
    }

    fn descriptor(
        &self,
        memory: &impl L2Memory,
        table: Table,
        index: u16,
    ) -> Result<Descriptor, Fault> {
        let at = usize::from(index) * ring::DESCRIPTOR_LENGTH;
        let bytes = match table {
            Table::Queue if index < self.places.size => {
                let mut bytes = [0; ring::DESCRIPTOR_LENGTH];
                read(memory, self.places.descriptors, at, &mut bytes)?;
                Some(bytes)
            }
            Table::Queue => None,
            Table::Own => self
                .table
                .get(at..)
                .and_then(|rest| rest.first_chunk())
                .copied(),
        };
        bytes.map(Descriptor::parse).ok_or(Fault::Next(index))
    }

    /// Gives a request back, with as many bytes `written` from the start of what is for the device to write.
    pub fn complete(
        &mut self,
        memory: &impl L2Memory,
        chain: Chain,
        written: u32,
    ) -> Result<(), Fault> {
        let written = written.min(chain.writable.length());
        let place = ring::USED_RING
            + ring::USED_ELEMENT_LENGTH * usize::from(self.completed % self.places.size);
        let element = u64::from(chain.head) | u64::from(written) << 32;
        write(memory, self.places.used, place, &element.to_le_bytes())?;
        self.completed = self.completed.wrapping_add(1);
        // The driver reads buffers and element after the index.
        fence(Ordering::Release);
        let index = self.completed.to_le_bytes();
        write(memory, self.places.used, ring::USED_INDEX, &index)?;
        self.set_out(chain.head, false);
        let (mut readable, mut writable) = (chain.readable, chain.writable);
        readable.clear();
        writable.clear();
        self.spare.push((readable, writable));
        Ok(())
    }

    /// Whether the driver has to be interrupted for what was given back since this was last asked.
    pub fn interrupts(&mut self, memory: &impl L2Memory) -> Result<bool, Fault> {
        let old = mem::replace(&mut self.told, self.completed);
        if old == self.completed {
            return Ok(false);
        }
        // The index is written before it is read what the driver wants (VIRTIO 2.7.7.2).
        fence(Ordering::SeqCst);
        let available = self.places.available;
        Ok(match self.terms.suppression {
            Suppression::Flags => {
                let flags = read_u16(memory, available, ring::AVAILABLE_FLAGS)?;
                flags & ring::AVAILABLE_NO_INTERRUPT == 0
            }
            Suppression::EventIndex => {
                let place = ring::AVAILABLE_RING
                    + ring::AVAILABLE_ELEMENT_LENGTH * usize::from(self.places.size);
                let event = read_u16(memory, available, place)?;
                passed(event, self.completed, old)
            }
        })
    }

    /// Asks for a notification of the next request, and says whether one was there before the driver could see that.
    pub fn ask_for_notification(&mut self, memory: &impl L2Memory) -> Result<Pending, Fault> {
        self.ask(memory, 0, self.taken)?;
        // What is asked for is written before the index is read (VIRTIO 2.7.10.1).
        fence(Ordering::SeqCst);
        Ok(match self.untaken(memory)? {
            0 => Pending::No,
            _ => Pending::Yes,
        })
    }

    /// Asks for no notifications: L1 looks by itself.
    pub fn ask_for_none(&mut self, memory: &impl L2Memory) -> Result<(), Fault> {
        // As an index, the one that is furthest from being passed.
        self.ask(memory, ring::USED_NO_NOTIFY, self.taken.wrapping_sub(1))
    }

    fn ask(&self, memory: &impl L2Memory, flags: u16, event: u16) -> Result<(), Fault> {
        let (place, value) = match self.terms.suppression {
            Suppression::Flags => (ring::USED_FLAGS, flags),
            Suppression::EventIndex => {
                let elements = ring::USED_ELEMENT_LENGTH * usize::from(self.places.size);
                (ring::USED_RING + elements, event)
            }
        };
        write(memory, self.places.used, place, &value.to_le_bytes())
    }

    fn set_out(&mut self, head: u16, out: bool) {
        if let Some(place) = self.out.get_mut(usize::from(head)) {
            *place = out;
        }
    }
}

/// What a piece of memory that cannot be reached is to the queue.
fn foreign(length: u32) -> impl Fn(MemoryError) -> Fault {
    move |error| Fault::Foreign {
        gpa: error.gpa,
        length: length.into(),
    }
}

/// Reads inside an area that was found to be L2's.
fn read(memory: &impl L2Memory, area: u64, offset: usize, into: &mut [u8]) -> Result<(), Fault> {
    let length = into.len() as u32;
    let gpa = area.wrapping_add(offset as u64);
    memory.read(gpa, into).map_err(foreign(length))
}

fn read_u16(memory: &impl L2Memory, area: u64, offset: usize) -> Result<u16, Fault> {
    let mut bytes = [0; 2];
    read(memory, area, offset, &mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}

fn write(memory: &impl L2Memory, area: u64, offset: usize, from: &[u8]) -> Result<(), Fault> {
    let gpa = area.wrapping_add(offset as u64);
    memory.write(gpa, from).map_err(foreign(from.len() as u32))
}
