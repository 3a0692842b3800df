//! Layout of paging-structure entries (SDM Vol. 3A, figures "Formats of CR3 and
//! Paging-Structure Entries").

use x86_defs::paging::{ADDRESS, EXECUTE_DISABLE, LARGE};

/// An entry and where it is.
#[derive(Clone, Copy, Default)]
pub(super) struct Entry {
    pub(super) gpa: u64,
    /// 0 if the walk has not come here: what it used has P set.
    pub(super) value: u64,
}

/// One level of a paging mode.
pub(super) struct Step {
    /// Bit of the linear address where the index begins: log2 of the page size of a leaf.
    shift: u32,
    /// Bytes of an entry.
    pub(super) size: u8,
    /// What PS means here.
    page_size: PageSize,
    /// Bits above the address that are reserved besides XD.
    high_reserved: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PageSize {
    /// Last level: always a leaf, the bit is PAT.
    Last,
    /// PS makes a leaf.
    Leaf,
    /// PS makes a leaf if CR4.PSE, else it is ignored. The leaf has bits 39:32 of its address
    /// in 20:13 (PSE-36).
    Pse36,
    /// PS is reserved.
    Reserved,
}

const fn step(shift: u32, page_size: PageSize) -> Step {
    Step {
        shift,
        size: 8,
        page_size,
        high_reserved: 0,
    }
}

/// 32-bit paging: PDE, PTE.
pub(super) const BITS_32: [Step; 2] = [
    Step {
        size: 4,
        ..step(22, PageSize::Pse36)
    },
    Step {
        size: 4,
        ..step(12, PageSize::Last)
    },
];

/// PAE paging below the PDPTEs: PDE, PTE. Bits 62:52 are reserved.
pub(super) const PAE: [Step; 2] = [
    Step {
        high_reserved: 0x7FF0_0000_0000_0000,
        ..step(21, PageSize::Leaf)
    },
    Step {
        high_reserved: 0x7FF0_0000_0000_0000,
        ..step(12, PageSize::Last)
    },
];

/// 4-level paging: PML4E, PDPTE, PDE, PTE.
pub(super) const LEVEL_4: [Step; 4] = [
    step(39, PageSize::Reserved),
    step(30, PageSize::Leaf),
    step(21, PageSize::Leaf),
    step(12, PageSize::Last),
];

/// 5-level paging: PML5E, then as 4-level paging.
pub(super) const LEVEL_5: [Step; 5] = [
    step(48, PageSize::Reserved),
    step(39, PageSize::Reserved),
    step(30, PageSize::Leaf),
    step(21, PageSize::Leaf),
    step(12, PageSize::Last),
];

impl Step {
    /// Number of the entry that translates `linear`.
    pub(super) const fn index(&self, linear: u64) -> u64 {
        let entries = if self.size == 4 { 1024 } else { 512 };
        linear >> self.shift & (entries - 1)
    }

    /// Whether the entry maps a page.
    pub(super) const fn is_leaf(&self, value: u64, large_pages: bool) -> bool {
        match self.page_size {
            PageSize::Last => true,
            PageSize::Leaf => value & LARGE != 0,
            PageSize::Pse36 => value & LARGE != 0 && large_pages,
            PageSize::Reserved => false,
        }
    }

    /// The bits that must be 0 in a present entry.
    pub(super) const fn reserved(
        &self,
        leaf: bool,
        address_width: u32,
        execute_disable: bool,
    ) -> u64 {
        if self.size == 4 {
            return match (self.page_size, leaf) {
                // Bit 21, and of 20:13 what is above MAXPHYADDR or 40 bits.
                (PageSize::Pse36, true) => {
                    let implemented = if address_width < 40 {
                        address_width - 32
                    } else {
                        8
                    };
                    (1 << 22) - (1 << (13 + implemented))
                }
                _ => 0,
            };
        }
        let mut reserved = self.high_reserved | ADDRESS & !((1 << address_width) - 1);
        if !execute_disable {
            reserved |= EXECUTE_DISABLE;
        }
        if matches!(self.page_size, PageSize::Reserved) {
            reserved |= LARGE;
        }
        if leaf && self.shift > 12 {
            // Bit 12 is PAT; the address begins at the page's size.
            reserved |= (1 << self.shift) - (1 << 13);
        }
        reserved
    }

    /// Address of the page that a leaf maps.
    pub(super) const fn frame(&self, value: u64) -> u64 {
        let address = value & ADDRESS & !self.offset_mask();
        match self.page_size {
            PageSize::Pse36 => address | (value >> 13 & 0xFF) << 32,
            _ => address,
        }
    }

    /// Address of the table that an entry refers to.
    pub(super) const fn table(&self, value: u64) -> u64 {
        value & ADDRESS
    }

    /// The bits of a linear address that a leaf of this level leaves as they are.
    pub(super) const fn offset_mask(&self) -> u64 {
        (1 << self.shift) - 1
    }
}
