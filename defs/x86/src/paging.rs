//! Entries of paging structures and page sizes (SDM Vol. 3A, chapter "Paging").

/// P.
pub const PRESENT: u64 = 1 << 0;
/// R/W.
pub const WRITABLE: u64 = 1 << 1;
/// U/S: user-mode accesses are allowed.
pub const USER: u64 = 1 << 2;
/// A.
pub const ACCESSED: u64 = 1 << 5;
/// D.
pub const DIRTY: u64 = 1 << 6;
/// PS: the entry maps a page, not a table.
pub const LARGE: u64 = 1 << 7;
/// Address of a table or a 4 KiB page: bits 51:12, as many as the widest MAXPHYADDR has.
pub const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
/// XD.
pub const EXECUTE_DISABLE: u64 = 1 << 63;

/// Size of a page of 4 KiB.
pub const PAGE_4K: u64 = 1 << 12;
/// Size of a page of 2 MiB.
pub const PAGE_2M: u64 = 1 << 21;
/// Size of a page of 1 GiB.
pub const PAGE_1G: u64 = 1 << 30;
