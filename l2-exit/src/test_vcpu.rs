//! An L2 vCPU, its memory and a device for the tests.

extern crate std;

use core::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::vec::Vec;
use x86_defs::{cr0, cr4, efer};

use crate::exit::{Exit, Origin, Reason};
use crate::memory::{GuestMemory, GuestPages, MemoryError, MmioBus, load_copied, store_copied};
use crate::vcpu::{Gpr, Segment, SegmentAccessRights, SegmentRegister, Vcpu};

/// Every register a plain field; counts the getters that would cost a TDCALL.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TestVcpu {
    pub(crate) gprs: [u64; 16],
    pub(crate) rip: u64,
    pub(crate) rflags: u64,
    pub(crate) cr0: u64,
    pub(crate) cr2: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
    pub(crate) efer: u64,
    pub(crate) pkru: u32,
    pub(crate) pdptes: [u64; 4],
    pub(crate) segments: [Segment; 6],
    pub(crate) width: u32,
    pub(crate) single_steps: u32,
    pub(crate) tdcalls: Cell<u32>,
}

pub(crate) const DATA: SegmentAccessRights = SegmentAccessRights::from_bits(0xC093);
pub(crate) const CODE_64: SegmentAccessRights = SegmentAccessRights::from_bits(0xA09B);
pub(crate) const CODE_32: SegmentAccessRights = SegmentAccessRights::from_bits(0xC09B);
pub(crate) const CODE_16: SegmentAccessRights = SegmentAccessRights::from_bits(0x009B);

impl TestVcpu {
    /// 64-bit mode with 4-level paging at CR3 = 0x1000.
    pub(crate) fn long() -> Self {
        let segment = Segment {
            selector: 0x18,
            base: 0,
            limit: u32::MAX,
            access_rights: DATA,
        };
        let mut segments = [segment; 6];
        segments[SegmentRegister::Cs as usize].access_rights = CODE_64;
        Self {
            gprs: [0; 16],
            rip: 0,
            rflags: 2,
            cr0: cr0::PE | cr0::PG | cr0::WP,
            cr2: 0,
            cr3: 0x1000,
            cr4: cr4::PAE,
            efer: efer::LMA | efer::NXE,
            pkru: 0,
            pdptes: [0; 4],
            segments,
            width: 52,
            single_steps: 0,
            tdcalls: Cell::new(0),
        }
    }

    /// 32-bit protected mode without paging.
    pub(crate) fn protected() -> Self {
        let mut vcpu = Self::long();
        vcpu.cr0 = cr0::PE;
        vcpu.cr4 = 0;
        vcpu.efer = efer::NXE;
        vcpu.segments[SegmentRegister::Cs as usize].access_rights = CODE_32;
        vcpu
    }

    /// Real-address mode.
    pub(crate) fn real() -> Self {
        let mut vcpu = Self::protected();
        vcpu.cr0 = 0;
        for segment in &mut vcpu.segments {
            *segment = Segment {
                selector: 0,
                base: 0,
                limit: 0xFFFF,
                access_rights: SegmentAccessRights::from_bits(0x0093),
            };
        }
        vcpu.segments[SegmentRegister::Cs as usize].access_rights = CODE_16;
        vcpu
    }

    /// An exit of this vCPU at `cpl`.
    pub(crate) fn exit(&self, reason: Reason, cpl: u8) -> Exit {
        Exit {
            reason,
            origin: Origin::Direct,
            idt_vectoring: None,
            cs: self.segments[SegmentRegister::Cs as usize],
            cpl,
            instruction_length: 0,
            bus_lock: false,
        }
    }

    fn count<T>(&self, value: T) -> T {
        self.tdcalls.set(self.tdcalls.get() + 1);
        value
    }
}

impl Vcpu for TestVcpu {
    fn gpr(&self, register: Gpr) -> u64 {
        self.gprs[register as usize]
    }
    fn set_gpr(&mut self, register: Gpr, value: u64) {
        self.gprs[register as usize] = value;
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
        self.count(self.cr0)
    }
    fn cr3(&self) -> u64 {
        self.count(self.cr3)
    }
    fn cr4(&self) -> u64 {
        self.count(self.cr4)
    }
    fn efer(&self) -> u64 {
        self.count(self.efer)
    }
    fn segment(&self, register: SegmentRegister) -> Segment {
        self.count(self.segments[register as usize])
    }
    fn pdpte(&self, index: u8) -> u64 {
        self.count(self.pdptes[usize::from(index)])
    }
    fn pkru(&self) -> u32 {
        self.pkru
    }
    fn physical_address_width(&self) -> u32 {
        self.width
    }
    fn set_cr2(&mut self, value: u64) {
        self.cr2 = value;
    }
    fn single_step(&mut self) {
        self.single_steps += 1;
    }
}

/// Sparse memory: pages exist once they are written by `poke`.
#[derive(Clone, Default)]
pub(crate) struct TestMemory {
    pages: RefCell<BTreeMap<u64, Vec<u8>>>,
    /// Reads by what is tested.
    pub(crate) reads: Cell<usize>,
}

impl TestMemory {
    /// Makes the pages that `bytes` at `gpa` need, and fills them.
    pub(crate) fn poke(&self, gpa: u64, bytes: &[u8]) {
        let mut pages = self.pages.borrow_mut();
        for (address, byte) in (gpa..).zip(bytes) {
            let page = pages
                .entry(address >> 12)
                .or_insert_with(|| std::vec![0; 4096]);
            page[(address & 0xFFF) as usize] = *byte;
        }
    }

    /// Bytes of existing pages, 0 elsewhere.
    pub(crate) fn peek(&self, gpa: u64, length: usize) -> Vec<u8> {
        let pages = self.pages.borrow();
        (gpa..gpa + length as u64)
            .map(|address| {
                pages
                    .get(&(address >> 12))
                    .map_or(0, |page| page[(address & 0xFFF) as usize])
            })
            .collect()
    }

    pub(crate) fn poke_u64(&self, gpa: u64, value: u64) {
        self.poke(gpa, &value.to_le_bytes());
    }

    pub(crate) fn peek_u64(&self, gpa: u64) -> u64 {
        u64::from_le_bytes(self.peek(gpa, 8).try_into().unwrap())
    }

    pub(crate) fn poke_u32(&self, gpa: u64, value: u32) {
        self.poke(gpa, &value.to_le_bytes());
    }

    /// Adds `flags` to every entry that translates `linear`.
    pub(crate) fn mark(&self, linear: u64, flags: u64) {
        let mut table = 0x1000;
        for shift in [39, 30, 21, 12] {
            let entry = table + (linear >> shift & 0x1FF) * 8;
            let value = self.peek_u64(entry);
            self.poke_u64(entry, value | flags);
            table = value & 0x000F_FFFF_FFFF_F000;
        }
    }

    /// All of it.
    pub(crate) fn pages(&self) -> BTreeMap<u64, Vec<u8>> {
        self.pages.borrow().clone()
    }

    /// Maps the 4 KiB page of `linear` to that of `gpa` in 4-level tables whose root is at
    /// 0x1000 and whose other pages follow it.
    pub(crate) fn map(&self, linear: u64, gpa: u64, flags: u64) {
        let mut table = 0x1000;
        for shift in [39, 30, 21] {
            let entry = table + (linear >> shift & 0x1FF) * 8;
            let mut value = self.peek_u64(entry);
            if value == 0 {
                let next = self
                    .pages
                    .borrow()
                    .keys()
                    .filter(|page| **page < 0x100)
                    .count() as u64;
                let page = (next + 2) << 12;
                self.poke_u64(page, 0);
                value = page | 0b111;
                self.poke_u64(entry, value);
            }
            table = value & 0x000F_FFFF_FFFF_F000;
        }
        self.poke_u64(table + (linear >> 12 & 0x1FF) * 8, gpa & !0xFFF | flags);
    }
}

impl GuestMemory for TestMemory {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.reads.set(self.reads.get() + 1);
        assert!((gpa & 0xFFF) as usize + into.len() <= 4096 && into.len() <= 16);
        let pages = self.pages.borrow();
        let page = pages.get(&(gpa >> 12)).ok_or(MemoryError { gpa })?;
        let offset = (gpa & 0xFFF) as usize;
        into.copy_from_slice(&page[offset..offset + into.len()]);
        Ok(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
        assert!((gpa & 0xFFF) as usize + from.len() <= 4096 && from.len() <= 16);
        let mut pages = self.pages.borrow_mut();
        let page = pages.get_mut(&(gpa >> 12)).ok_or(MemoryError { gpa })?;
        let offset = (gpa & 0xFFF) as usize;
        page[offset..offset + from.len()].copy_from_slice(from);
        Ok(())
    }
}

impl GuestPages for TestMemory {
    type Page = u64;

    fn page(&self, gpa: u64) -> Option<u64> {
        self.pages
            .borrow()
            .contains_key(&(gpa >> 12))
            .then_some(gpa)
    }

    fn load(&self, page: u64, offset: u16, width: u8) -> Option<u64> {
        load_copied(self, page, offset, width)
    }

    fn store(&self, page: u64, offset: u16, width: u8, value: u64) -> Option<()> {
        store_copied(self, page, offset, width, value)
    }
}

/// What a device saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Read(u64, usize),
    Write(u64, Vec<u8>),
}

/// A device of RAM at 0xFED40000 to 0xFED41FFF that keeps a log.
#[derive(Clone)]
pub(crate) struct TestDevice {
    pub(crate) bytes: Vec<u8>,
    pub(crate) seen: Vec<Seen>,
}

pub(crate) const DEVICE: u64 = 0xFED4_0000;
pub(crate) const DEVICE_SIZE: u64 = 0x2000;

impl TestDevice {
    pub(crate) fn new() -> Self {
        Self {
            bytes: (0..DEVICE_SIZE).map(|n| (n ^ n >> 8) as u8).collect(),
            seen: Vec::new(),
        }
    }
}

impl MmioBus for TestDevice {
    fn claims(&self, gpa: u64) -> bool {
        (DEVICE..DEVICE + DEVICE_SIZE).contains(&gpa)
    }
    fn read(&mut self, gpa: u64, into: &mut [u8]) {
        assert!(matches!(into.len(), 1 | 2 | 4 | 8));
        assert!((gpa & 0xFFF) as usize + into.len() <= 4096);
        let offset = (gpa - DEVICE) as usize;
        into.copy_from_slice(&self.bytes[offset..offset + into.len()]);
        self.seen.push(Seen::Read(gpa - DEVICE, into.len()));
    }
    fn write(&mut self, gpa: u64, from: &[u8]) {
        assert!(matches!(from.len(), 1 | 2 | 4 | 8));
        assert!((gpa & 0xFFF) as usize + from.len() <= 4096);
        let offset = (gpa - DEVICE) as usize;
        self.bytes[offset..offset + from.len()].copy_from_slice(from);
        self.seen.push(Seen::Write(gpa - DEVICE, from.to_vec()));
    }
}
