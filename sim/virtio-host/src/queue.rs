//! The device's side of a split virtqueue (VIRTIO 2.7).

use alloc::vec::Vec;

use crate::memory::{Memory, NotShared, read_u16, write_u16};
use virtio_defs::ring;

/// What a driver did that no driver may do. The device needs a reset after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// A ring or a buffer is where the device has no access.
    NotShared(NotShared),
    /// The available ring's index is further on than the ring is long.
    Index(u16),
    /// A head or a next descriptor that the queue does not have.
    Descriptor(u16),
    /// A chain of more descriptors than there are, or one that the device may write before one that it may read.
    Chain(u16),
    /// A table of descriptors within a table, with a next descriptor, or of no whole number of them.
    Indirect(u16),
    /// A buffer that is shorter than the request needs.
    Short,
}

impl From<NotShared> for Violation {
    fn from(error: NotShared) -> Self {
        Self::NotShared(error)
    }
}

/// A piece of memory that the driver gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    gpa: u64,
    length: u32,
}

/// A request: a chain of descriptors.
#[derive(Clone, Debug)]
pub struct Chain {
    head: u16,
    /// The queue's descriptors of it: without those of an indirect table.
    descriptors: Vec<u16>,
    readable: Vec<Part>,
    writable: Vec<Part>,
}

impl Chain {
    /// Its first descriptor.
    pub fn head(&self) -> u16 {
        self.head
    }

    pub(crate) fn descriptors(&self) -> &[u16] {
        &self.descriptors
    }

    /// Bytes that the driver gave to read.
    pub fn readable(&self) -> u64 {
        total(&self.readable)
    }

    /// Bytes that the driver gave to write to.
    pub fn writable(&self) -> u64 {
        total(&self.writable)
    }

    /// Reads from `offset` of the readable part on.
    pub fn read(&self, memory: &dyn Memory, offset: u64, into: &mut [u8]) -> Result<(), Violation> {
        let mut done = 0;
        for (gpa, length) in pieces(&self.readable, offset, into.len()) {
            let piece = into.get_mut(done..done + length).unwrap_or_default();
            memory.read(gpa, piece)?;
            done += length;
        }
        if done < into.len() {
            return Err(Violation::Short);
        }
        Ok(())
    }

    /// Writes from `offset` of the writable part on.
    pub fn write(&self, memory: &dyn Memory, offset: u64, from: &[u8]) -> Result<(), Violation> {
        let mut done = 0;
        for (gpa, length) in pieces(&self.writable, offset, from.len()) {
            let piece = from.get(done..done + length).unwrap_or_default();
            memory.write(gpa, piece)?;
            done += length;
        }
        if done < from.len() {
            return Err(Violation::Short);
        }
        Ok(())
    }
}

fn total(parts: &[Part]) -> u64 {
    parts.iter().map(|part| u64::from(part.length)).sum()
}

/// Addresses and lengths of `length` bytes from `offset` on, as far as the parts go.
fn pieces(parts: &[Part], offset: u64, length: usize) -> impl Iterator<Item = (u64, usize)> {
    let mut skip = offset;
    let mut left = length as u64;
    parts.iter().filter_map(move |part| {
        let length = u64::from(part.length);
        if skip >= length {
            skip -= length;
            return None;
        }
        let here = (length - skip).min(left);
        let gpa = part.gpa.wrapping_add(skip);
        skip = 0;
        left -= here;
        (here != 0).then_some((gpa, here as usize))
    })
}

/// A descriptor as it was read, once.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    gpa: u64,
    length: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn read(memory: &dyn Memory, gpa: u64) -> Result<Self, NotShared> {
        let mut bytes = [0; ring::DESCRIPTOR_LENGTH];
        memory.read(gpa, &mut bytes)?;
        let whole = u128::from_le_bytes(bytes);
        Ok(Self {
            gpa: whole as u64,
            length: (whole >> 64) as u32,
            flags: (whole >> 96) as u16,
            next: (whole >> 112) as u16,
        })
    }
}

/// A queue that is enabled.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    size: u16,
    descriptors: u64,
    available: u64,
    used: u64,
    /// VIRTIO_F_EVENT_IDX was negotiated.
    event_index: bool,
    /// The available ring's index up to which chains were taken.
    taken: u16,
    /// The used ring's index.
    done: u16,
    /// That index when the driver was last asked whether it wants an interrupt.
    told: u16,
}

impl Queue {
    /// A queue whose areas are `descriptors`, `available` and `used`; none if a driver may not have it so.
    pub(crate) fn new(
        size: u16,
        [descriptors, available, used]: [u64; 3],
        event_index: bool,
    ) -> Option<Self> {
        let entries = u64::from(size);
        let table = entries * ring::DESCRIPTOR_LENGTH as u64;
        let heads = entries * ring::AVAILABLE_ELEMENT_LENGTH as u64;
        let elements = entries * ring::USED_ELEMENT_LENGTH as u64;
        let event = ring::EVENT_LENGTH as u64;
        for (start, length, alignment) in [
            (descriptors, table, ring::DESCRIPTOR_TABLE_ALIGNMENT),
            (
                available,
                ring::AVAILABLE_RING as u64 + heads + event,
                ring::AVAILABLE_ALIGNMENT,
            ),
            (
                used,
                ring::USED_RING as u64 + elements + event,
                ring::USED_ALIGNMENT,
            ),
        ] {
            if !start.is_multiple_of(alignment) || start.checked_add(length).is_none() {
                return None;
            }
        }
        size.is_power_of_two().then_some(Self {
            size,
            descriptors,
            available,
            used,
            event_index,
            taken: 0,
            done: 0,
            told: 0,
        })
    }

    fn available_event(&self) -> u64 {
        let ring = ring::USED_RING + usize::from(self.size) * ring::USED_ELEMENT_LENGTH;
        self.used + ring as u64
    }

    fn used_event(&self) -> u64 {
        let ring = ring::AVAILABLE_RING + usize::from(self.size) * ring::AVAILABLE_ELEMENT_LENGTH;
        self.available + ring as u64
    }

    /// Takes the next request, or asks to be notified of it.
    pub(crate) fn pop(&mut self, memory: &dyn Memory) -> Result<Option<Chain>, Violation> {
        let index = read_u16(memory, self.available + ring::AVAILABLE_INDEX as u64)?;
        let waiting = index.wrapping_sub(self.taken);
        if waiting > self.size {
            return Err(Violation::Index(index));
        }
        if waiting == 0 {
            if self.event_index {
                write_u16(memory, self.available_event(), self.taken)?;
            }
            return Ok(None);
        }
        let place = usize::from(self.taken & (self.size - 1)) * ring::AVAILABLE_ELEMENT_LENGTH;
        let head = read_u16(
            memory,
            self.available + (ring::AVAILABLE_RING + place) as u64,
        )?;
        self.taken = self.taken.wrapping_add(1);
        self.chain(memory, head).map(Some)
    }

    fn chain(&self, memory: &dyn Memory, head: u16) -> Result<Chain, Violation> {
        let mut chain = Chain {
            head,
            descriptors: Vec::new(),
            readable: Vec::new(),
            writable: Vec::new(),
        };
        let mut at = head;
        loop {
            if at >= self.size {
                return Err(Violation::Descriptor(at));
            }
            if chain.descriptors.len() >= usize::from(self.size) {
                return Err(Violation::Chain(head));
            }
            chain.descriptors.push(at);
            let place = usize::from(at) * ring::DESCRIPTOR_LENGTH;
            let descriptor = Descriptor::read(memory, self.descriptors + place as u64)?;
            if descriptor.flags & ring::DESCRIPTOR_INDIRECT != 0 {
                if descriptor.flags & (ring::DESCRIPTOR_NEXT | ring::DESCRIPTOR_WRITE) != 0 {
                    return Err(Violation::Indirect(at));
                }
                self.table(memory, &descriptor, &mut chain)?;
                return Ok(chain);
            }
            add(&mut chain, &descriptor)?;
            if descriptor.flags & ring::DESCRIPTOR_NEXT == 0 {
                return Ok(chain);
            }
            at = descriptor.next;
        }
    }

    /// The chain of an indirect table.
    fn table(
        &self,
        memory: &dyn Memory,
        table: &Descriptor,
        chain: &mut Chain,
    ) -> Result<(), Violation> {
        let entry = ring::DESCRIPTOR_LENGTH as u32;
        let entries = table.length / entry;
        if !table.length.is_multiple_of(entry) || !(1..=u32::from(self.size)).contains(&entries) {
            return Err(Violation::Indirect(chain.head));
        }
        let mut at = 0_u16;
        for _ in 0..entries {
            if u32::from(at) >= entries {
                return Err(Violation::Descriptor(at));
            }
            let place = u64::from(at) * u64::from(entry);
            let descriptor = Descriptor::read(memory, table.gpa.wrapping_add(place))?;
            if descriptor.flags & ring::DESCRIPTOR_INDIRECT != 0 {
                return Err(Violation::Indirect(chain.head));
            }
            add(chain, &descriptor)?;
            if descriptor.flags & ring::DESCRIPTOR_NEXT == 0 {
                return Ok(());
            }
            at = descriptor.next;
        }
        Err(Violation::Chain(chain.head))
    }

    /// Tells the driver that the request of head `id` is done, with `length` bytes written.
    pub(crate) fn push(
        &mut self,
        memory: &dyn Memory,
        id: u32,
        length: u32,
    ) -> Result<(), NotShared> {
        let place = usize::from(self.done & (self.size - 1)) * ring::USED_ELEMENT_LENGTH;
        let element = u64::from(id) | u64::from(length) << 32;
        memory.write(
            self.used + (ring::USED_RING + place) as u64,
            &element.to_le_bytes(),
        )?;
        self.advance(memory, 1)
    }

    /// Raises the used ring's index.
    pub(crate) fn advance(&mut self, memory: &dyn Memory, by: u16) -> Result<(), NotShared> {
        self.done = self.done.wrapping_add(by);
        write_u16(memory, self.used + ring::USED_INDEX as u64, self.done)
    }

    /// Whether the driver wants an interrupt for what was completed since this was last asked.
    pub(crate) fn wants_interrupt(&mut self, memory: &dyn Memory) -> Result<bool, NotShared> {
        let new = self.done.wrapping_sub(self.told);
        self.told = self.done;
        if new == 0 {
            return Ok(false);
        }
        if self.event_index {
            let event = read_u16(memory, self.used_event())?;
            return Ok(self.done.wrapping_sub(event).wrapping_sub(1) < new);
        }
        let flags = read_u16(memory, self.available + ring::AVAILABLE_FLAGS as u64)?;
        Ok(flags & ring::AVAILABLE_NO_INTERRUPT == 0)
    }

    /// Overwrites what the driver wrote of a request: its descriptors, and its place in the available ring.
    pub(crate) fn overwrite(&self, memory: &dyn Memory, chain: &Chain) -> Result<(), NotShared> {
        for &descriptor in chain.descriptors() {
            let place = usize::from(descriptor) * ring::DESCRIPTOR_LENGTH;
            memory.write(
                self.descriptors + place as u64,
                &[0xFF; ring::DESCRIPTOR_LENGTH],
            )?;
        }
        let before = self.taken.wrapping_sub(1);
        let place = usize::from(before & (self.size - 1)) * ring::AVAILABLE_ELEMENT_LENGTH;
        write_u16(
            memory,
            self.available + (ring::AVAILABLE_RING + place) as u64,
            u16::MAX,
        )
    }
}

fn add(chain: &mut Chain, descriptor: &Descriptor) -> Result<(), Violation> {
    let part = Part {
        gpa: descriptor.gpa,
        length: descriptor.length,
    };
    if descriptor.flags & ring::DESCRIPTOR_WRITE != 0 {
        chain.writable.push(part);
    } else if chain.writable.is_empty() {
        chain.readable.push(part);
    } else {
        return Err(Violation::Chain(chain.head));
    }
    Ok(())
}
