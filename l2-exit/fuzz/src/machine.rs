//! An L2 of sixteen pages and a device, which hold what they are asked to what the traits promise.

use std::cell::RefCell;

use l2_exit::run_ahead::{Served, Window};
use l2_exit::{
    Gpr, GuestMemory, GuestPages, MemoryError, MmioBus, PortBus, Segment, SegmentAccessRights,
    SegmentRegister, Vcpu, Width, load_copied, store_copied,
};
use x86_defs::paging::{ACCESSED, DIRTY, PRESENT, WRITABLE};
use x86_defs::{cr0, cr4, efer};

use super::input::Input;

pub const PAGE: u64 = 0x1000;
/// Bytes of memory.
const RAM: u64 = 16 * PAGE;
/// The device's pages.
const DEVICE: std::ops::Range<u64> = 0xFED4_0000..0xFED4_5000;
/// Where the paging structures are, from the root on.
const TABLES: u64 = PAGE;
/// The first page that is mapped, and where: eight of memory, then five of the device.
const MAPPED: u64 = 8 * PAGE;
pub const LINEAR: u64 = 0xFFFF_8000_0000_0000;
/// Bytes that are mapped there.
const MAPPED_BYTES: u64 = 13 * PAGE;

/// Code and data segments of 64-bit code.
const CODE_64: SegmentAccessRights = SegmentAccessRights::from_bits(0xA09B);
const DATA: SegmentAccessRights = SegmentAccessRights::from_bits(0xC093);

/// Every register a plain field.
#[derive(Clone, Debug, PartialEq)]
pub struct Cpu {
    pub gprs: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    cr0: u64,
    cr2: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
    pdptes: [u64; 4],
    pub segments: [Segment; 6],
    pub steps: u32,
}

impl Cpu {
    /// 64-bit kernel code at [`LINEAR`], with registers that an input chooses.
    pub fn new(input: &Input) -> Self {
        let segment = |access_rights| Segment {
            selector: 0x18,
            base: 0,
            limit: u32::MAX,
            access_rights,
        };
        let mut segments = [segment(DATA); 6];
        segments[SegmentRegister::Cs as usize] = segment(CODE_64);
        let mut cpu = Self {
            gprs: [0; 16],
            rip: LINEAR,
            rflags: 2 | u64::from(input.word() & 0x8D5),
            cr0: cr0::PE | cr0::PG | cr0::WP,
            cr2: 0,
            cr3: TABLES,
            cr4: cr4::PAE,
            efer: efer::LMA | efer::NXE,
            pdptes: [0; 4],
            segments,
            steps: 0,
        };
        for gpr in &mut cpu.gprs {
            *gpr = register(input);
        }
        cpu
    }

    /// Whether it is in four-level paging.
    pub fn has_four_levels(&self) -> bool {
        let wanted = [
            (self.cr0, cr0::PE | cr0::PG),
            (self.cr4, cr4::PAE),
            (self.efer, efer::LMA),
        ];
        wanted
            .iter()
            .all(|(register, bits)| register & bits == *bits)
            && self.cr4 & cr4::LA57 == 0
    }

    /// What is seldom as it is in a kernel.
    pub fn disturb(&mut self, input: &Input) {
        match input.byte() {
            1 => self.cr0 ^= input.qword(),
            2 => self.cr4 ^= input.qword(),
            3 => self.efer ^= input.qword(),
            4 => self.cr3 = input.qword(),
            5 => self.rflags ^= input.qword(),
            6 => self.pdptes = [(); 4].map(|()| input.qword()),
            7 => {
                let segment = &mut self.segments[usize::from(input.byte() % 6)];
                segment.base = input.qword();
                segment.limit = input.dword();
                segment.access_rights = SegmentAccessRights::from_bits(input.dword());
            }
            8 => self.rip = input.qword(),
            _ => {}
        }
    }
}

/// An address that is mapped, a small number, or any.
fn register(input: &Input) -> u64 {
    match input.byte() {
        choice @ 0..0xB0 => {
            LINEAR + (u64::from(choice) * 0x137 + u64::from(input.word())) % MAPPED_BYTES
        }
        choice @ 0xB0..0xE0 => u64::from(choice & 0xF),
        _ => input.qword(),
    }
}

impl Vcpu for Cpu {
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
        self.cr0
    }
    fn cr3(&self) -> u64 {
        self.cr3
    }
    fn cr4(&self) -> u64 {
        self.cr4
    }
    fn efer(&self) -> u64 {
        self.efer
    }
    fn segment(&self, register: SegmentRegister) -> Segment {
        self.segments[register as usize]
    }
    fn pdpte(&self, index: u8) -> u64 {
        self.pdptes[usize::from(index)]
    }
    fn set_cr2(&mut self, value: u64) {
        self.cr2 = value;
    }
    fn single_step(&mut self) {
        self.steps += 1;
    }
}

/// Memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Ram(RefCell<Vec<u8>>);

impl Ram {
    /// With paging structures that map all of it and the device.
    pub fn new() -> Self {
        let ram = Self(RefCell::new(vec![0; RAM as usize]));
        let flags = PRESENT | WRITABLE | ACCESSED | DIRTY;
        // The root maps the lower and the upper half to the same.
        for entry in [0, 256] {
            ram.poke(TABLES + entry * 8, &((TABLES + PAGE) | flags).to_le_bytes());
        }
        for level in 1..3 {
            let at = TABLES + level * PAGE;
            ram.poke(at, &((at + PAGE) | flags).to_le_bytes());
        }
        let memory = (MAPPED..RAM).step_by(PAGE as usize);
        let pages = memory.chain(DEVICE.step_by(PAGE as usize));
        for (entry, page) in (0..).zip(pages) {
            ram.poke(TABLES + 3 * PAGE + entry * 8, &(page | flags).to_le_bytes());
        }
        ram
    }

    fn poke(&self, gpa: u64, bytes: &[u8]) {
        let mut ram = self.0.borrow_mut();
        for (place, byte) in ram.iter_mut().skip(gpa as usize).zip(bytes) {
            *place = *byte;
        }
    }

    /// Puts bytes at a linear address that is mapped as at first.
    pub fn load(&self, linear: u64, bytes: &[u8]) {
        self.poke(linear - LINEAR + MAPPED, bytes);
    }

    /// Other paging entries, seldom.
    pub fn disturb(&self, input: &Input) {
        for _ in 0..input.byte().saturating_sub(0xF8) {
            let table = TABLES + u64::from(input.byte() % 4) * PAGE;
            let entry = u64::from(input.word() % 512) * 8;
            self.poke(table + entry, &input.qword().to_le_bytes());
        }
    }

    fn range(gpa: u64, length: usize) -> Result<std::ops::Range<usize>, MemoryError> {
        assert!((1..=16).contains(&length) && gpa % PAGE + length as u64 <= PAGE);
        match gpa.checked_add(length as u64) {
            Some(end) if end <= RAM => Ok(gpa as usize..end as usize),
            _ => Err(MemoryError { gpa }),
        }
    }
}

impl GuestMemory for Ram {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        let range = Self::range(gpa, into.len())?;
        into.copy_from_slice(&self.0.borrow()[range]);
        Ok(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
        let range = Self::range(gpa, from.len())?;
        self.0.borrow_mut()[range].copy_from_slice(from);
        Ok(())
    }
}

impl GuestPages for Ram {
    type Page = u64;

    fn page(&self, gpa: u64) -> Option<u64> {
        assert_eq!(gpa % PAGE, 0);
        (gpa < RAM).then_some(gpa)
    }

    fn load(&self, page: u64, offset: u16, width: u8) -> Option<u64> {
        load_copied(self, page, offset, width)
    }

    fn store(&self, page: u64, offset: u16, width: u8, value: u64) -> Option<()> {
        store_copied(self, page, offset, width, value)
    }
}

/// An access to the device: what was written, or how many bytes were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Read(u64, usize),
    Write(u64, Vec<u8>),
}

/// The device: what is read depends on the address alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Device(pub Vec<Seen>);

impl Device {
    fn check(gpa: u64, length: usize) {
        assert!(matches!(length, 1 | 2 | 4 | 8), "{length} bytes");
        assert!(
            gpa % PAGE + length as u64 <= PAGE,
            "across pages at {gpa:#x}"
        );
        assert!(DEVICE.contains(&gpa), "{gpa:#x} is not the device's");
    }
}

impl MmioBus for Device {
    fn claims(&self, gpa: u64) -> bool {
        DEVICE.contains(&gpa)
    }

    fn read(&mut self, gpa: u64, into: &mut [u8]) {
        Self::check(gpa, into.len());
        for (at, byte) in (gpa..).zip(into.iter_mut()) {
            *byte = (at ^ at >> 8).wrapping_mul(0x9D) as u8;
        }
        self.0.push(Seen::Read(gpa, into.len()));
    }

    fn write(&mut self, gpa: u64, from: &[u8]) {
        Self::check(gpa, from.len());
        self.0.push(Seen::Write(gpa, from.to_vec()));
    }
}

impl Window for Device {
    fn claims(&self, gpa: u64) -> bool {
        DEVICE.contains(&gpa)
    }

    fn read(&mut self, gpa: u64, into: &mut [u8]) -> Served {
        MmioBus::read(self, gpa, into);
        Served::Late
    }

    fn write(&mut self, gpa: u64, from: &[u8]) -> Served {
        MmioBus::write(self, gpa, from);
        Served::Late
    }

    /// After the first access.
    fn is_due(&mut self) -> bool {
        true
    }
}

impl PortBus for Device {
    fn read(&mut self, port: u16, _width: Width) -> u32 {
        u32::from(port).wrapping_mul(0x0101_0101)
    }

    fn write(&mut self, _port: u16, width: Width, value: u32) {
        let bits = 8 * width as u32;
        assert!(bits == 32 || value >> bits == 0, "more than it is wide");
    }
}
