//! L2's own page tables: from a linear address to a guest physical one, in every paging mode.
//!
//! Rights are not checked: the processor has done that before the exit that is looked at.

use super::control_registers::cr0;
use super::guest::{Guest, efer};
use super::shape::cr4;
use crate::platform::Register;

/// A walk from CR3 towards the translation of a linear address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Walk {
    /// The translation; `None` if an entry is not present or can not be read.
    pub(super) gpa: Option<u64>,
    entries: [u64; 5],
    depth: usize,
}

impl Walk {
    /// The GPAs of the paging-structure entries that the walk used.
    pub(super) fn entries(&self) -> &[u64] {
        &self.entries[..self.depth]
    }
}

/// A paging mode: how wide an entry and an index are, and how many levels there are.
struct Mode {
    levels: u32,
    entry_size: u64,
    index_bits: u32,
    /// Large pages exist without CR4.PSE, and an address has more than 32 bits.
    wide: bool,
}

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = 1 << 0;
const LARGE: u64 = 1 << 7;

impl Guest<'_> {
    fn paging_mode(&mut self) -> Option<Mode> {
        if self.register(Register::Cr0) & cr0::PG == 0 {
            return None;
        }
        let cr4 = self.register(Register::Cr4);
        let long = self.register(Register::Efer) & efer::LMA != 0;
        let (levels, entry_size, index_bits, wide) = match (long, cr4 & cr4::PAE != 0) {
            (true, _) if cr4 & cr4::LA57 != 0 => (5, 8, 9, true),
            (true, _) => (4, 8, 9, true),
            (false, true) => (3, 8, 9, true),
            (false, false) => (2, 4, 10, false),
        };
        Some(Mode {
            levels,
            entry_size,
            index_bits,
            wide,
        })
    }

    /// Walks L2's page tables for a linear address.
    pub(super) fn walk(&mut self, linear: u64) -> Walk {
        let mut walk = Walk::default();
        let Some(mode) = self.paging_mode() else {
            walk.gpa = Some(linear & 0xffff_ffff);
            return walk;
        };
        let cr3 = self.register(Register::Cr3);
        let mut table = match mode.levels {
            // PAE: four page-directory pointers, 32-byte aligned.
            3 => cr3 & 0xffff_ffe0,
            2 => cr3 & 0xffff_f000,
            _ => cr3 & ADDRESS,
        };
        for level in (1..=mode.levels).rev() {
            let shift = 12 + (level - 1) * mode.index_bits;
            let index = linear >> shift & ((1 << mode.index_bits) - 1);
            let index = if mode.levels == 3 && level == 3 {
                index & 3
            } else {
                index
            };
            let address = table + index * mode.entry_size;
            walk.entries[walk.depth] = address;
            walk.depth += 1;
            let Some(entry) = self.read_entry(address, mode.entry_size) else {
                return walk;
            };
            if entry & PRESENT == 0 {
                return walk;
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
                walk.gpa = Some(base | linear & offset);
                return walk;
            }
            table = entry & ADDRESS;
        }
        walk
    }

    fn read_entry(&mut self, gpa: u64, size: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read_physical(gpa, &mut bytes[..size as usize])?;
        Some(u64::from_le_bytes(bytes))
    }

    /// Reads the TD's private memory within one page.
    pub(super) fn read_physical(&mut self, gpa: u64, into: &mut [u8]) -> Option<()> {
        let hpa = self.sept.mapped(gpa)?;
        self.platform.read(hpa, into);
        Some(())
    }

    /// Reads L2's memory by linear address; gives the number of bytes that could be read.
    pub(super) fn read_linear(&mut self, linear: u64, into: &mut [u8]) -> usize {
        let mut done = 0;
        while done < into.len() {
            let address = linear.wrapping_add(done as u64);
            let in_page = (0x1000 - (address & 0xfff)) as usize;
            let end = into.len().min(done + in_page);
            let Some(gpa) = self.walk(address).gpa else {
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

#[cfg(test)]
mod tests {
    use super::super::control_registers::ControlRegister;
    use super::super::fake::Fake;
    use super::*;
    use crate::platform::Platform;

    fn put(fake: &mut Fake, address: u64, entry: u64) {
        fake.platform.write(address, &entry.to_le_bytes());
    }

    fn long_mode(fake: &mut Fake, cr4: u64) {
        let mut guest = fake.guest();
        guest.set_real(ControlRegister::Cr0, 0x8000_0021);
        guest.set_real(ControlRegister::Cr4, cr4);
        guest.set_register(Register::Efer, 0xd01);
        guest.set_register(Register::Cr3, 0x10_0000);
    }

    #[test]
    fn without_paging_linear_is_physical() {
        let mut fake = Fake::new();
        assert_eq!(fake.guest().walk(0x12_3456).gpa, Some(0x12_3456));
    }

    #[test]
    fn four_levels_lead_to_a_small_and_to_a_large_page() {
        let mut fake = Fake::new();
        long_mode(&mut fake, cr4::PAE);
        put(&mut fake, 0x10_0000 + 8 * 511, 0x10_1003);
        put(&mut fake, 0x10_1000 + 8 * 510, 0x10_2003);
        put(&mut fake, 0x10_2000, 0x0020_0083);
        put(&mut fake, 0x10_2008, 0x10_3003);
        put(&mut fake, 0x10_3000 + 8 * 5, 0x8000_0000_0007_7003);
        let mut guest = fake.guest();
        let large = guest.walk(0xffff_ffff_8012_3456);
        assert_eq!(large.gpa, Some(0x0032_3456));
        assert_eq!(large.entries().len(), 3);
        let small = guest.walk(0xffff_ffff_8020_5abc);
        assert_eq!(small.gpa, Some(0x7_7abc));
        assert_eq!(
            small.entries(),
            [0x10_0ff8, 0x10_1ff0, 0x10_2008, 0x10_3028]
        );
        assert_eq!(guest.walk(0x1000).gpa, None);
    }

    #[test]
    fn five_levels_start_one_higher() {
        let mut fake = Fake::new();
        long_mode(&mut fake, cr4::PAE | cr4::LA57);
        put(&mut fake, 0x10_0000 + 8 * 511, 0x10_4003);
        put(&mut fake, 0x10_4000 + 8 * 511, 0x10_1003);
        put(&mut fake, 0x10_1000 + 8 * 511, 0x4000_0083);
        let walk = fake.guest().walk(0xffff_ffff_c000_0123);
        assert_eq!(walk.gpa, Some(0x4000_0123));
    }

    #[test]
    fn a_4_mib_page_has_its_high_address_bits_low() {
        let mut fake = Fake::new();
        let mut guest = fake.guest();
        guest.set_real(ControlRegister::Cr0, 0x8000_0021);
        guest.set_register(Register::Efer, 0x800);
        guest.set_register(Register::Cr3, 0x10_0000);
        fake.platform
            .write(0x10_0000 + 4 * 3, &0x0080_2083u32.to_le_bytes());
        let walk = fake.guest().walk(0x00c1_2345);
        assert_eq!(walk.gpa, Some(0x1_0081_2345));
    }

    #[test]
    fn a_read_crosses_into_the_next_page_and_stops_where_there_is_none() {
        let mut fake = Fake::new();
        long_mode(&mut fake, cr4::PAE);
        put(&mut fake, 0x10_0000, 0x10_1003);
        put(&mut fake, 0x10_1000, 0x10_2003);
        put(&mut fake, 0x10_2000, 0x10_3003);
        put(&mut fake, 0x10_3000, 0x20_0003);
        fake.platform.write(0x20_0ffc, &[1, 2, 3, 4]);
        let mut into = [0; 8];
        assert_eq!(fake.guest().read_linear(0xffc, &mut into), 4);
        assert_eq!(into, [1, 2, 3, 4, 0, 0, 0, 0]);
        put(&mut fake, 0x10_3008, 0x30_0003);
        fake.platform.write(0x30_0000, &[5, 6, 7, 8]);
        assert_eq!(fake.guest().read_linear(0xffc, &mut into), 8);
        assert_eq!(into, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
