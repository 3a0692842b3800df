//! Execution by the emulator, in a machine whose memory is a few pages.

use std::cell::RefCell;
use std::collections::BTreeMap;

use l2_exit::run_ahead::{RunAhead, Served, Stop, Window};
use l2_exit::{
    Gpr, GuestMemory, GuestPages, MemoryError, Segment, SegmentRegister, Vcpu, load_copied,
    store_copied,
};
use x86_defs::paging::{ACCESSED, DIRTY, PRESENT, WRITABLE};

use crate::{DATA, State};

const PAGE: u64 = 0x1000;
const ROOT: u64 = 0x1000;
const CODE: u64 = 0x10_0000;
const OPERANDS: u64 = 0x20_0000;

/// Memory by pages.
struct Ram(RefCell<BTreeMap<u64, Vec<u8>>>);

impl GuestMemory for Ram {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        let pages = self.0.borrow();
        let page = pages.get(&(gpa / PAGE)).ok_or(MemoryError { gpa })?;
        let bytes = page.iter().skip((gpa % PAGE) as usize);
        into.iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        Ok(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
        let mut pages = self.0.borrow_mut();
        let page = pages.get_mut(&(gpa / PAGE)).ok_or(MemoryError { gpa })?;
        let bytes = page.iter_mut().skip((gpa % PAGE) as usize);
        bytes.zip(from).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}

impl GuestPages for Ram {
    type Page = u64;

    fn page(&self, gpa: u64) -> Option<u64> {
        self.0.borrow().contains_key(&(gpa / PAGE)).then_some(gpa)
    }

    fn load(&self, page: u64, offset: u16, width: u8) -> Option<u64> {
        load_copied(self, page, offset, width)
    }

    fn store(&self, page: u64, offset: u16, width: u8, value: u64) -> Option<()> {
        store_copied(self, page, offset, width, value)
    }
}

/// No device, and nothing that is due.
struct Nowhere;

impl Window for Nowhere {
    fn claims(&self, _: u64) -> bool {
        false
    }

    fn read(&mut self, _: u64, _: &mut [u8]) -> Served {
        Served::No
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Served {
        Served::No
    }

    fn is_due(&mut self) -> bool {
        false
    }
}

struct Registers {
    gprs: [u64; 16],
    rip: u64,
    rflags: u64,
}

impl Vcpu for Registers {
    fn gpr(&self, register: Gpr) -> u64 {
        let [value] = [self.gprs.get(register as usize)];
        value.copied().unwrap_or_default()
    }
    fn set_gpr(&mut self, register: Gpr, value: u64) {
        if let Some(gpr) = self.gprs.get_mut(register as usize) {
            *gpr = value;
        }
    }
    fn rip(&self) -> u64 {
        self.rip
    }
    fn set_rip(&mut self, value: u64) {
        self.rip = value;
    }
    fn rflags(&self) -> u64 {
        self.rflags
    }
    fn set_rflags(&mut self, value: u64) {
        self.rflags = value;
    }
    fn cr0(&self) -> u64 {
        0
    }
    fn cr3(&self) -> u64 {
        ROOT
    }
    fn cr4(&self) -> u64 {
        0
    }
    fn efer(&self) -> u64 {
        0
    }
    fn segment(&self, _: SegmentRegister) -> Segment {
        Segment::default()
    }
    fn pdpte(&self, _: u8) -> u64 {
        0
    }
    fn set_cr2(&mut self, _: u64) {}
    fn single_step(&mut self) {}
}

/// The emulator with its machine.
pub struct Model {
    ram: Ram,
    ahead: RunAhead<u64>,
    code: u64,
}

impl Model {
    /// One whose code is at linear address `code`, and its data at `data`.
    #[must_use]
    pub fn new(code: u64, data: u64) -> Self {
        let model = Self {
            ram: Ram(RefCell::new(BTreeMap::new())),
            ahead: RunAhead::new(0),
            code,
        };
        model.map(code, CODE);
        for at in (0..DATA as u64).step_by(PAGE as usize) {
            model.map(data + at, OPERANDS + at);
        }
        model
    }

    fn add(&self, gpa: u64) {
        let mut pages = self.ram.0.borrow_mut();
        pages
            .entry(gpa / PAGE)
            .or_insert_with(|| vec![0; PAGE as usize]);
    }

    /// Maps a supervisor's page, which is dirty.
    fn map(&self, linear: u64, gpa: u64) {
        let flags = PRESENT | WRITABLE | ACCESSED | DIRTY;
        let mut table = ROOT;
        self.add(table);
        for shift in [39, 30, 21] {
            let entry = (linear >> shift & 0x1FF) as u16 * 8;
            let value = self.ram.load(table, entry, 8).unwrap_or_default();
            let next = match value {
                0 => ROOT + self.ram.0.borrow().len() as u64 * PAGE,
                value => value & !0xFFF,
            };
            self.add(next);
            self.ram.store(table, entry, 8, next | flags);
            table = next;
        }
        let entry = (linear >> 12 & 0x1FF) as u16 * 8;
        self.ram.store(table, entry, 8, gpa | flags);
        self.add(gpa);
    }

    fn put(&self, gpa: u64, bytes: &[u8]) {
        for (gpa, piece) in (gpa..)
            .step_by(PAGE as usize)
            .zip(bytes.chunks(PAGE as usize))
        {
            let _ = self.ram.write(gpa, piece);
        }
    }

    /// Executes `code` up to where the emulator does not go on: why, at which address, and in which state.
    #[must_use]
    pub fn run(&mut self, code: &[u8], state: &State) -> (Stop, u64, State) {
        self.put(CODE, code);
        self.put(OPERANDS, &state.data);
        let mut registers = Registers {
            gprs: state.gprs,
            rip: self.code,
            rflags: state.rflags,
        };
        let stop = self.ahead.run(&mut registers, &self.ram, &mut Nowhere);
        let mut data = vec![0; DATA];
        for (gpa, piece) in (OPERANDS..)
            .step_by(PAGE as usize)
            .zip(data.chunks_mut(PAGE as usize))
        {
            let _ = self.ram.read(gpa, piece);
        }
        let after = State {
            gprs: registers.gprs,
            rflags: registers.rflags,
            data,
        };
        (stop, registers.rip, after)
    }

    /// Instructions that were executed.
    #[must_use]
    pub fn instructions(&self) -> u64 {
        self.ahead.figures().instructions
    }
}
