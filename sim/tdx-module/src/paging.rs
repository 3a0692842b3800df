//! A VM's linear addresses: the walk of its own page tables, in every paging mode.
//!
//! Rights are not checked: the processor has done that before the exit that is looked at. Page
//! tables and code are in private memory, as TDX demands.

use crate::platform::{Platform, Register, SegmentName, Vm};
use crate::td::sept::SecureEpt;
use x86_defs::paging::{ADDRESS, LARGE, PAGE_4K, PRESENT};
use x86_defs::{cr0, cr4, efer};

const CS_LONG: u32 = 1 << 13;
const CS_DEFAULT_BIG: u32 = 1 << 14;

/// The linear address space of a VM that is not running.
pub(crate) struct LinearSpace<'a, P> {
    pub(crate) vm: Vm,
    pub(crate) platform: &'a mut P,
    pub(crate) sept: &'a SecureEpt,
}

/// A walk from CR3 towards the translation of a linear address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Walk {
    /// The translation; `None` if an entry is not present, has bit 7 where no page can be (PML5E,
    /// PML4E), or can not be read.
    pub(crate) gpa: Option<u64>,
    entries: [u64; 5],
    depth: usize,
}

impl Walk {
    /// The GPAs of the paging-structure entries that the walk used.
    pub(crate) fn entries(&self) -> &[u64] {
        &self.entries[..self.depth]
    }
}

/// A paging mode (SDM volume 3, "Hierarchical Paging Structures: an Overview"): how wide an entry and an index are, and how many levels there are.
struct Mode {
    levels: u32,
    entry_size: u64,
    index_bits: u32,
    /// Large pages exist without CR4.PSE, and an address has more than 32 bits.
    wide: bool,
}

impl Mode {
    const LEGACY: Self = Self {
        levels: 2,
        entry_size: 4,
        index_bits: 10,
        wide: false,
    };
    const PAE: Self = Self {
        levels: 3,
        entry_size: 8,
        index_bits: 9,
        wide: true,
    };
    const LONG_4: Self = Self {
        levels: 4,
        ..Self::PAE
    };
    const LONG_5: Self = Self {
        levels: 5,
        ..Self::PAE
    };
}

impl<P: Platform> LinearSpace<'_, P> {
    pub(crate) fn register(&mut self, register: Register) -> u64 {
        self.platform.register(self.vm, register)
    }

    /// EFER.LMA.
    pub(crate) fn is_long_mode(&mut self) -> bool {
        self.register(Register::Efer) & efer::LMA != 0
    }

    /// Width of the code that runs: 16, 32 or 64.
    pub(crate) fn code_width(&mut self) -> u32 {
        let access_rights = self
            .platform
            .segment(self.vm, SegmentName::Cs)
            .access_rights;
        if self.is_long_mode() && access_rights & CS_LONG != 0 {
            64
        } else if access_rights & CS_DEFAULT_BIG != 0 {
            32
        } else {
            16
        }
    }

    /// The linear address of an offset in the code segment.
    pub(crate) fn code_address(&mut self, offset: u64) -> u64 {
        let width = self.code_width();
        self.code_address_in(width, offset)
    }

    /// The same in code whose width is known.
    pub(crate) fn code_address_in(&mut self, width: u32, offset: u64) -> u64 {
        if width == 64 {
            offset
        } else {
            let base = self.platform.segment(self.vm, SegmentName::Cs).base;
            base.wrapping_add(offset) & 0xffff_ffff
        }
    }

    /// Walks the VM's page tables for a linear address.
    pub(crate) fn walk(&mut self, linear: u64) -> Walk {
        let mut walk = Walk::default();
        walk.gpa = self.walk_with(linear, |entry| {
            walk.entries[walk.depth] = entry;
            walk.depth += 1;
        });
        walk
    }

    /// The translation of a linear address, where the entries that led to it do not matter.
    pub(crate) fn translate(&mut self, linear: u64) -> Option<u64> {
        self.walk_with(linear, |_| {})
    }

    #[inline(always)]
    fn walk_with(&mut self, linear: u64, note_entry: impl FnMut(u64)) -> Option<u64> {
        if self.register(Register::Cr0) & cr0::PG == 0 {
            return Some(linear & 0xffff_ffff);
        }
        let cr4 = self.register(Register::Cr4);
        // Each walk has its constants: there are two of four levels at an exit.
        match (self.is_long_mode(), cr4 & cr4::PAE != 0) {
            (true, _) if cr4 & cr4::LA57 != 0 => self.walk_in(Mode::LONG_5, linear, note_entry),
            (true, _) => self.walk_in(Mode::LONG_4, linear, note_entry),
            (false, true) => self.walk_in(Mode::PAE, linear, note_entry),
            (false, false) => self.walk_in(Mode::LEGACY, linear, note_entry),
        }
    }

    #[inline(always)]
    fn walk_in(&mut self, mode: Mode, linear: u64, mut note_entry: impl FnMut(u64)) -> Option<u64> {
        let cr3 = self.register(Register::Cr3);
        let mut table = match mode.levels {
            // PAE: four page-directory pointers, 32-byte aligned.
            3 => cr3 & 0xffff_ffe0,
            2 => cr3 & 0xffff_f000,
            _ => cr3 & ADDRESS,
        };
        let mut level = mode.levels;
        loop {
            let shift = 12 + (level - 1) * mode.index_bits;
            let index = linear >> shift & ((1 << mode.index_bits) - 1);
            let index = if mode.levels == 3 && level == 3 {
                index & 3
            } else {
                index
            };
            let address = table + index * mode.entry_size;
            note_entry(address);
            let entry = self.read_entry(address, mode.entry_size)?;
            let reserved = if level > 3 { LARGE } else { 0 };
            if entry & PRESENT == 0 || entry & reserved != 0 {
                return None;
            }
            let offset = (1u64 << shift) - 1;
            let large =
                entry & LARGE != 0 && (2..=3).contains(&level) && !(mode.levels == 3 && level == 3);
            if level == 1 || large {
                let base = if mode.wide || level == 1 {
                    entry & ADDRESS & !offset
                } else {
                    // PSE-36: bits 20:13 are address bits 39:32.
                    entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32
                };
                return Some(base | linear & offset);
            }
            table = entry & ADDRESS;
            level -= 1;
        }
    }

    #[inline(always)]
    fn read_entry(&mut self, gpa: u64, size: u64) -> Option<u64> {
        if size == 8 {
            let mut bytes = [0; 8];
            self.read_physical(gpa, &mut bytes)?;
            Some(u64::from_le_bytes(bytes))
        } else {
            let mut bytes = [0; 4];
            self.read_physical(gpa, &mut bytes)?;
            Some(u32::from_le_bytes(bytes).into())
        }
    }

    /// Reads the TD's private memory within one page.
    #[inline(always)]
    pub(crate) fn read_physical(&mut self, gpa: u64, into: &mut [u8]) -> Option<()> {
        let hpa = self.sept.mapped(gpa)?;
        self.platform.read(hpa, into);
        Some(())
    }

    /// Reads the VM's memory by linear address; gives the number of bytes that could be read.
    #[inline(always)]
    pub(crate) fn read_linear(&mut self, linear: u64, into: &mut [u8]) -> usize {
        // Nearly always, and then the length is the caller's constant.
        if into.len() <= left_in_page(linear) {
            let gpa = self.translate(linear);
            let read = gpa.and_then(|gpa| self.read_physical(gpa, into));
            return read.map_or(0, |()| into.len());
        }
        self.read_over_pages(linear, into)
    }

    #[cold]
    fn read_over_pages(&mut self, linear: u64, into: &mut [u8]) -> usize {
        let mut done = 0;
        while done < into.len() {
            let address = linear.wrapping_add(done as u64);
            let end = into.len().min(done + left_in_page(address));
            let Some(gpa) = self.translate(address) else {
                break;
            };
            if self.read_physical(gpa, &mut into[done..end]).is_none() {
                break;
            }
            done = end;
        }
        done
    }
}

/// Bytes from an address to the end of its page.
fn left_in_page(address: u64) -> usize {
    (PAGE_4K - address % PAGE_4K) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::td::sept::{Leaf, LeafState};
    use crate::test_platform::TestPlatform;
    use tdx_defs::PageLevel;
    use tdx_defs::attributes::VmAttributes;

    const TABLES: u64 = 0x10_0000;

    /// L1 with 1 GiB of memory, its tables at [`TABLES`].
    struct Machine {
        platform: TestPlatform,
        sept: SecureEpt,
    }

    impl Machine {
        fn new(cr0: u64, cr4: u64, efer: u64) -> Machine {
            let mut platform = TestPlatform::default();
            let mut sept = SecureEpt::new(4);
            let memory = Leaf {
                gpa: 0,
                hpa: 0,
                level: PageLevel::Page1G,
                state: LeafState::Mapped,
                aliases: [VmAttributes::new(); 3],
                blocked_at: 0,
            };
            sept.insert(&mut platform, memory);
            for (register, value) in [
                (Register::Cr0, cr0),
                (Register::Cr3, TABLES),
                (Register::Cr4, cr4),
                (Register::Efer, efer),
            ] {
                platform.set_register(Vm::L1, register, value);
            }
            Machine { platform, sept }
        }

        fn long_mode(cr4: u64) -> Machine {
            Machine::new(0x8000_0021, cr4::PAE | cr4, 0xd00)
        }

        fn put(&mut self, address: u64, entry: u64) {
            self.platform.write(address, &entry.to_le_bytes());
        }

        fn space(&mut self) -> LinearSpace<'_, TestPlatform> {
            LinearSpace {
                vm: Vm::L1,
                platform: &mut self.platform,
                sept: &self.sept,
            }
        }
    }

    #[test]
    fn without_paging_linear_is_physical() {
        let mut machine = Machine::new(0x21, 0, 0x900);
        assert_eq!(machine.space().walk(0x12_3456).gpa, Some(0x12_3456));
    }

    #[test]
    fn four_levels_lead_to_a_small_and_to_a_large_page() {
        let mut machine = Machine::long_mode(0);
        machine.put(0x10_0000 + 8 * 511, 0x10_1003);
        machine.put(0x10_1000 + 8 * 510, 0x10_2003);
        machine.put(0x10_2000, 0x0020_0083);
        machine.put(0x10_2008, 0x10_3003);
        machine.put(0x10_3000 + 8 * 5, 0x8000_0000_0007_7003);
        let mut space = machine.space();
        let large = space.walk(0xffff_ffff_8012_3456);
        assert_eq!(large.gpa, Some(0x0032_3456));
        assert_eq!(large.entries().len(), 3);
        let small = space.walk(0xffff_ffff_8020_5abc);
        assert_eq!(small.gpa, Some(0x7_7abc));
        let entries = [0x10_0ff8, 0x10_1ff0, 0x10_2008, 0x10_3028];
        assert_eq!(small.entries(), entries);
        assert_eq!(space.walk(0x1000).gpa, None);
    }

    #[test]
    fn five_levels_start_one_higher() {
        let mut machine = Machine::long_mode(cr4::LA57);
        machine.put(0x10_0000 + 8 * 511, 0x10_4003);
        machine.put(0x10_4000 + 8 * 511, 0x10_1003);
        machine.put(0x10_1000 + 8 * 511, 0x4000_0083);
        let walk = machine.space().walk(0xffff_ffff_c000_0123);
        assert_eq!(walk.gpa, Some(0x4000_0123));
    }

    /// Bit 7 of an entry at each level: reserved in PML5E and PML4E, where no page can be, PS in
    /// PDPTE and PDE, PAT in PTE (SDM volume 3, "4-Level Paging and 5-Level Paging").
    #[test]
    fn the_page_size_bit_ends_the_walk_above_level_3() {
        const LINEAR: u64 = 0x0020_1234;
        const LARGE_PAGE: u64 = 0x8000_0000;
        let entries = [TABLES, 0x10_1000, 0x10_2000, 0x10_3008, 0x10_4008];
        for five_levels in [false, true] {
            let (cr4, first) = if five_levels { (cr4::LA57, 0) } else { (0, 1) };
            let mut machine = Machine::long_mode(cr4);
            machine
                .platform
                .set_register(Vm::L1, Register::Cr3, entries[first] & !0xfff);
            let good = [0x10_1003, 0x10_2003, 0x10_3003, 0x10_4003, 0x7_7003];
            for (entry, value) in entries.into_iter().zip(good) {
                machine.put(entry, value);
            }
            assert_eq!(machine.space().walk(LINEAR).gpa, Some(0x7_7234));
            let expected = [
                (LARGE_PAGE, None),
                (LARGE_PAGE, None),
                (LARGE_PAGE, Some(LARGE_PAGE + LINEAR)),
                (LARGE_PAGE, Some(LARGE_PAGE + LINEAR % 0x20_0000)),
                (0x7_7000, Some(0x7_7234)),
            ];
            // Where the walk would go on if the bit meant nothing.
            machine.put(LARGE_PAGE, 0x10_3003);
            for depth in first..entries.len() {
                let (frame, gpa) = expected[depth];
                machine.put(entries[depth], frame | 0x83);
                let walk = machine.space().walk(LINEAR);
                assert_eq!(walk.gpa, gpa, "{depth}, five levels: {five_levels}");
                if gpa.is_none() {
                    assert_eq!(walk.entries(), &entries[first..=depth]);
                }
                machine.put(entries[depth], good[depth]);
            }
        }
    }

    #[test]
    fn legacy_pae_starts_with_four_pointers() {
        let mut machine = Machine::new(0x8000_0021, cr4::PAE, 0x800);
        machine.put(TABLES + 8 * 3, 0x10_1001);
        machine.put(0x10_1008, 0x0060_0083);
        let walk = machine.space().walk(0xc032_1000);
        assert_eq!(walk.gpa, Some(0x0072_1000));
        // Two bits of the address choose the pointer, nine the entry of the directory.
        machine.put(TABLES + 8, 0x10_2001);
        machine.put(0x10_2000 + 8 * 0x17d, 0x0080_0083);
        let walk = machine.space().walk(0x6fb2_1000);
        assert_eq!(walk.gpa, Some(0x0092_1000));
        assert_eq!(walk.entries(), [TABLES + 8, 0x10_2be8]);
        let above = machine.space().walk(0x1_6fb2_1000);
        assert_eq!(above.entries(), walk.entries());
    }

    #[test]
    fn a_4_mib_page_has_its_high_address_bits_low() {
        let mut machine = Machine::new(0x8000_0021, 0, 0x800);
        machine
            .platform
            .write(0x10_0000 + 4 * 3, &0x0080_2083_u32.to_le_bytes());
        let walk = machine.space().walk(0x00c1_2345);
        assert_eq!(walk.gpa, Some(0x1_0081_2345));
    }

    #[test]
    fn a_read_crosses_into_the_next_page_and_stops_where_there_is_none() {
        let mut machine = Machine::long_mode(0);
        machine.put(0x10_0000, 0x10_1003);
        machine.put(0x10_1000, 0x10_2003);
        machine.put(0x10_2000, 0x10_3003);
        machine.put(0x10_3000, 0x20_0003);
        machine.platform.write(0x20_0ffc, &[1, 2, 3, 4]);
        let mut into = [0; 8];
        assert_eq!(machine.space().read_linear(0xffc, &mut into), 4);
        assert_eq!(into, [1, 2, 3, 4, 0, 0, 0, 0]);
        machine.put(0x10_3008, 0x30_0003);
        machine.platform.write(0x30_0000, &[5, 6, 7, 8]);
        assert_eq!(machine.space().read_linear(0xffc, &mut into), 8);
        assert_eq!(into, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
