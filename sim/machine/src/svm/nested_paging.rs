//! Nested page tables: as many levels as the host's own paging (APM volume 2, 15.25).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicU64, Ordering};
use x86_defs::paging::{ADDRESS, EXECUTE_DISABLE, LARGE, PRESENT, USER, WRITABLE};

/// One table. The processor sets the accessed and dirty bits on its own.
#[repr(C, align(4096))]
struct Table([AtomicU64; 512]);

impl Table {
    fn new() -> Box<Self> {
        Box::new(Self([const { AtomicU64::new(0) }; 512]))
    }

    fn address(&self) -> u64 {
        core::ptr::from_ref(self).expose_provenance() as u64
    }
}

/// A page's size as the level of the table that maps it: 1 is 4 KiB, 2 is 2 MiB, 3 is 1 GiB.
pub(crate) type Level = u32;

/// What a VM may do with a page. Memory that may be used at all can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) write: bool,
    pub(crate) execute: bool,
}

/// The tables of one VM, which all virtual processors use.
pub(crate) struct NestedPaging {
    /// The page directory of [`super::unpaged`] is mapped: the last run was of a VM without paging.
    pub(super) has_directory: bool,
    /// It is not unmapped for the others' runs: another virtual processor's may need it at the same time.
    pub(super) keeps_directory: bool,
    root: u64,
    levels: u32,
    /// By physical address, which is the address in this program too.
    tables: BTreeMap<u64, Box<Table>>,
}

impl NestedPaging {
    /// Empty tables: the VM has no memory.
    pub(crate) fn new(levels: u32) -> Self {
        let root = Table::new();
        let mut paging = Self {
            has_directory: false,
            keeps_directory: false,
            root: root.address(),
            levels,
            tables: BTreeMap::new(),
        };
        paging.tables.insert(root.address(), root);
        paging
    }

    /// The page directory of [`super::unpaged`] stays once it is there.
    pub(crate) fn keep_directory(&mut self) {
        self.keeps_directory = true;
    }

    /// Whether a page is there, or tables below where it would be.
    pub(crate) fn is_in_use(&self, gpa: u64, level: Level) -> bool {
        self.lookup(gpa).is_some() || self.has_table(gpa, level)
    }

    /// Whether an access is allowed.
    pub(crate) fn allows(&self, gpa: u64, write: bool, fetch: bool) -> bool {
        self.find(gpa).is_some_and(|(entry, _)| {
            (!write || entry & WRITABLE != 0) && (!fetch || entry & EXECUTE_DISABLE == 0)
        })
    }

    /// The value for N_CR3.
    pub(crate) fn root(&self) -> u64 {
        self.root
    }

    fn entry(&self, table: u64, gpa: u64, level: Level) -> &AtomicU64 {
        let index = gpa >> (12 + 9 * (level - 1)) & 511;
        &self.tables[&table].0[index as usize]
    }

    /// Maps a page. A larger page that covers it is split, smaller ones under it are dropped.
    pub(crate) fn map(&mut self, gpa: u64, level: Level, hpa: u64, access: Access) {
        let table = self.table_of(gpa, level);
        let old = self.entry(table, gpa, level).load(Ordering::Relaxed);
        let mut entry = hpa & ADDRESS | PRESENT | USER;
        if access.write {
            entry |= WRITABLE;
        }
        if !access.execute {
            entry |= EXECUTE_DISABLE;
        }
        if level > 1 {
            entry |= LARGE;
        }
        self.entry(table, gpa, level)
            .store(entry, Ordering::Relaxed);
        self.drop_below(old, level);
    }

    /// Takes a page out. Nothing happens if there is none.
    pub(crate) fn unmap(&mut self, gpa: u64, level: Level) {
        if self.lookup(gpa).is_none_or(|found| found.level < level) && !self.has_table(gpa, level) {
            return;
        }
        let table = self.table_of(gpa, level);
        let old = self.entry(table, gpa, level).swap(0, Ordering::Relaxed);
        self.drop_below(old, level);
    }

    /// Where a guest address is mapped to.
    pub(crate) fn lookup(&self, gpa: u64) -> Option<Mapping> {
        let (entry, level) = self.find(gpa)?;
        let offset = gpa & ((1 << (12 + 9 * (level - 1))) - 1);
        let hpa = (entry & ADDRESS) + offset;
        Some(Mapping { hpa, level })
    }

    /// The entry that maps a guest address, and its table's level.
    fn find(&self, gpa: u64) -> Option<(u64, Level)> {
        let mut table = self.root;
        let mut level = self.levels;
        loop {
            let entry = self.entry(table, gpa, level).load(Ordering::Relaxed);
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 1 || entry & LARGE != 0 {
                return Some((entry, level));
            }
            table = entry & ADDRESS;
            level -= 1;
        }
    }

    /// Whether tables reach down to `level` at a guest address.
    fn has_table(&self, gpa: u64, level: Level) -> bool {
        let mut table = self.root;
        for above in (level + 1..=self.levels).rev() {
            let entry = self.entry(table, gpa, above).load(Ordering::Relaxed);
            if entry & PRESENT == 0 || entry & LARGE != 0 {
                return false;
            }
            table = entry & ADDRESS;
        }
        true
    }

    /// The table whose entry maps `gpa` at `level`, made and split out of larger pages as needed.
    fn table_of(&mut self, gpa: u64, level: Level) -> u64 {
        let mut table = self.root;
        for above in (level + 1..=self.levels).rev() {
            let entry = self.entry(table, gpa, above).load(Ordering::Relaxed);
            if entry & PRESENT != 0 && entry & LARGE == 0 {
                table = entry & ADDRESS;
                continue;
            }
            let below = Table::new();
            if entry & PRESENT != 0 {
                let step = 1u64 << (12 + 9 * (above - 2));
                let kind = if above > 2 { entry } else { entry & !LARGE };
                for (index, slot) in (0..).zip(below.0.iter()) {
                    slot.store(kind + index * step, Ordering::Relaxed);
                }
            }
            let address = below.address();
            self.entry(table, gpa, above)
                .store(address | PRESENT | WRITABLE | USER, Ordering::Release);
            self.tables.insert(address, below);
            table = address;
        }
        table
    }

    /// Frees the tables under an entry that was replaced.
    fn drop_below(&mut self, entry: u64, level: Level) {
        if level == 1 || entry & PRESENT == 0 || entry & LARGE != 0 {
            return;
        }
        let Some(table) = self.tables.remove(&(entry & ADDRESS)) else {
            return;
        };
        for slot in &table.0 {
            self.drop_below(slot.load(Ordering::Relaxed), level - 1);
        }
    }
}

/// A page found in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) hpa: u64,
    pub(crate) level: Level,
}
