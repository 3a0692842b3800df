//! L2's memory, which L2 may write before any read of L1's, and which knows what L1 may touch.

use super::input::Input;
use l1_vmm::run::environment::{L2Memory, Owner};
use l2_exit::{GuestMemory, MemoryError};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use virtio_defs::ring;

/// L2's memory is below, L1's behind it.
pub const L2_END: u64 = 0x1_0000;

/// A queue that L2 has enabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// Descriptors.
    pub size: u64,
    /// GPA of the descriptors.
    pub descriptors: u64,
    /// GPA of the available ring.
    pub available: u64,
    /// GPA of the used ring.
    pub used: u64,
}

impl Area {
    fn parts(&self) -> [(u64, u64); 3] {
        [
            (self.descriptors, 16 * self.size),
            (self.available, 6 + 2 * self.size),
            (self.used, 6 + 8 * self.size),
        ]
    }
}

/// What a descriptor allows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    Read,
    Write,
    Table,
}

/// What the descriptors of one request allow.
struct Grant {
    queue: usize,
    head: u16,
    parts: Vec<(Right, u64, u64)>,
}

#[derive(Default)]
struct Watch {
    areas: Vec<Area>,
    /// Queues share memory: a read cannot be told to be of one of them.
    shared: bool,
    /// Of the requests that L1 has, the one that it reads last.
    grants: Vec<Grant>,
}

impl Watch {
    fn allows(&self, wanted: Right, gpa: u64, length: u64) -> bool {
        let parts = self.grants.iter().flat_map(|grant| &grant.parts);
        parts
            .filter(|(right, ..)| *right == wanted)
            .any(|part| covers((part.1, part.2), gpa, length))
    }

    /// L1 has read a descriptor.
    fn descriptor(&mut self, bytes: &[u8]) {
        let Ok(bytes) = bytes.try_into() else {
            return;
        };
        let all = u128::from_le_bytes(bytes);
        let flags = (all >> 96) as u16;
        let right = if flags & ring::DESCRIPTOR_INDIRECT != 0 {
            Right::Table
        } else if flags & ring::DESCRIPTOR_WRITE != 0 {
            Right::Write
        } else {
            Right::Read
        };
        let part = (right, all as u64, all >> 64 & 0xFFFF_FFFF);
        if let Some(grant) = self.grants.last_mut() {
            grant.parts.push((part.0, part.1, part.2 as u64));
        }
    }

    /// L1 reads `bytes` at `gpa`: it has to be a queue's, or a buffer that it may read.
    fn read(&mut self, gpa: u64, bytes: &[u8]) {
        let length = bytes.len() as u64;
        let areas = self.areas.clone();
        let mut allowed = self.allows(Right::Read, gpa, length);
        let table = self.grants.last().is_some_and(|grant| {
            let tables = grant.parts.iter().filter(|part| part.0 == Right::Table);
            tables
                .copied()
                .any(|part| (part.1, part.2) == (gpa, length))
        });
        for (queue, area) in areas.iter().enumerate() {
            let [descriptors, available, _] = area.parts();
            if covers(available, gpa, length) && length == 2 {
                allowed = true;
                let elements = (area.available + 4, 2 * area.size);
                if covers(elements, gpa, length) {
                    let head = u16::from_le_bytes([bytes[0], bytes[1]]);
                    let parts = Vec::new();
                    self.grants.push(Grant { queue, head, parts });
                }
            }
            if covers(descriptors, gpa, length) && length == 16 {
                allowed = true;
                self.descriptor(bytes);
            }
        }
        if table {
            allowed = true;
            for descriptor in bytes.chunks(16) {
                self.descriptor(descriptor);
            }
        }
        assert!(allowed, "a read of {length} bytes at {gpa:#x}");
    }

    /// L1 writes `bytes` at `gpa`: it has to be a used ring, or a buffer that it may write.
    fn write(&mut self, gpa: u64, bytes: &[u8]) {
        let length = bytes.len() as u64;
        let mut allowed = self.allows(Right::Write, gpa, length);
        for queue in 0..self.areas.len() {
            let area = self.areas[queue];
            let [.., used] = area.parts();
            if !covers(used, gpa, length) || length > 8 {
                continue;
            }
            allowed = true;
            // The request is L2's again.
            if length == 8 && !self.shared {
                let id = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                let over = |grant: &Grant| grant.queue == queue && u32::from(grant.head) == id;
                self.grants.retain(|grant| !over(grant));
            }
        }
        assert!(allowed, "a write of {length} bytes at {gpa:#x}");
    }
}

fn covers((start, size): (u64, u64), gpa: u64, length: u64) -> bool {
    gpa.checked_sub(start)
        .is_some_and(|offset| offset.checked_add(length).is_some_and(|end| end <= size))
}

/// L2's memory; clones are the same.
#[derive(Clone)]
pub struct Guest {
    ram: Rc<RefCell<Vec<u8>>>,
    watch: Rc<RefCell<Watch>>,
    input: Input,
    /// Accesses by L1, and bytes.
    pub work: Rc<Cell<(u64, u64)>>,
}

impl Guest {
    /// All zeroes.
    pub fn new(input: &Input) -> Self {
        Self {
            ram: Rc::new(RefCell::new(vec![0; L2_END as usize])),
            watch: Rc::default(),
            input: input.clone(),
            work: Rc::default(),
        }
    }

    /// L2's own write; what is beyond its memory is not there.
    pub fn put(&self, gpa: u64, bytes: &[u8]) {
        let at = gpa as usize;
        if let Some(place) = self.ram.borrow_mut().get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// L2's own read.
    pub fn word(&self, gpa: u64) -> u16 {
        let (ram, at) = (self.ram.borrow(), gpa as usize);
        u16::from_le_bytes([ram[at], ram[at + 1]])
    }

    /// L1 may use these queues.
    pub fn watch(&self, areas: Vec<Area>) {
        let parts: Vec<_> = areas.iter().flat_map(Area::parts).collect();
        let overlap = |a: (u64, u64), b: (u64, u64)| {
            a.0 < b.0.saturating_add(b.1) && b.0 < a.0.saturating_add(a.1)
        };
        let pairs = (0..parts.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
        let mut watch = self.watch.borrow_mut();
        watch.shared = pairs.into_iter().any(|(a, b)| overlap(parts[a], parts[b]));
        watch.areas = areas;
    }

    /// L1 has no request of L2's any more.
    pub fn forget(&self) {
        self.watch.borrow_mut().grants.clear();
    }

    fn at(&self, gpa: u64, length: usize) -> Result<usize, MemoryError> {
        let (accesses, bytes) = self.work.get();
        self.work.set((accesses + 1, bytes + length as u64));
        match gpa.checked_add(length as u64) {
            Some(end) if end <= L2_END => Ok(gpa as usize),
            _ => Err(MemoryError { gpa }),
        }
    }
}

impl GuestMemory for Guest {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        let at = self.at(gpa, into.len())?;
        if self.input.byte() >= 0xF0 {
            let place = self.input.word();
            let bytes = self.input.bytes(usize::from(place & 7) + 1);
            self.put(place.into(), &bytes);
        }
        into.copy_from_slice(&self.ram.borrow()[at..at + into.len()]);
        self.watch.borrow_mut().read(gpa, into);
        Ok(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
        let at = self.at(gpa, from.len())?;
        self.watch.borrow_mut().write(gpa, from);
        self.ram.borrow_mut()[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }
}

impl L2Memory for Guest {
    fn owner(&self, gpa: u64) -> Owner {
        match gpa {
            _ if gpa < L2_END => Owner::L2,
            _ => Owner::L1,
        }
    }

    fn is_l2(&self, gpa: u64, length: u64) -> bool {
        gpa.checked_add(length).is_some_and(|end| end <= L2_END)
    }
}
