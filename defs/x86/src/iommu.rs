//! Registers and tables of an IOMMU (*Intel Virtualization Technology for Directed I/O*, "VT-d"), in legacy mode: what it
//! takes to let a function reach some pages and no others.

/// Where QEMU has the registers of its one unit.
pub const BASE: u64 = 0xFED9_0000;

/// Capability register, u64 (VT-d 11.4.2).
pub const CAPABILITY: u64 = 0x08;
/// Capability: a domain of 39 address bits, in three levels of tables (SAGAW).
pub const CAPABILITY_39_BITS: u64 = 1 << 9;
/// Extended capability register, u64 (VT-d 11.4.3).
pub const EXTENDED_CAPABILITY: u64 = 0x10;
/// Extended capability: offset of the IOTLB registers in units of 16 bytes, bits 17:8.
pub const fn iotlb_offset(extended_capability: u64) -> u64 {
    (extended_capability >> 8 & 0x3FF) * 16
}
/// Global command register, u32 (VT-d 11.4.4).
pub const GLOBAL_COMMAND: u64 = 0x18;
/// Global status register, u32 (VT-d 11.4.5).
pub const GLOBAL_STATUS: u64 = 0x1C;
/// Global command and status: translation is on.
pub const TRANSLATION: u32 = 1 << 31;
/// Global command and status: the root table's address is taken.
pub const ROOT_TABLE: u32 = 1 << 30;
/// Root table address register, u64 (VT-d 11.4.6).
pub const ROOT_TABLE_ADDRESS: u64 = 0x20;
/// Context command register, u64 (VT-d 11.4.7).
pub const CONTEXT_COMMAND: u64 = 0x28;
/// Context command: forget all context entries. The upper bit clears when it is done.
pub const CONTEXT_INVALIDATE_ALL: u64 = 1 << 63 | 0b01 << 61;
/// IOTLB invalidate register, u64, behind the first register at [`iotlb_offset`] (VT-d 11.4.8.1).
pub const IOTLB_INVALIDATE: u64 = 8;
/// IOTLB invalidate: forget all translations. The upper bit clears when it is done.
pub const IOTLB_INVALIDATE_ALL: u64 = 1 << 63 | 0b01 << 60;
/// Commands: not done yet.
pub const BUSY: u64 = 1 << 63;

/// Root and context entries, 16 bytes each: present (VT-d 9.1, 9.3).
pub const PRESENT: u64 = 1 << 0;
/// Context entry, upper half: three levels (AW).
pub const CONTEXT_39_BITS: u64 = 0b001;
/// Context entry, upper half: number of the domain, from this bit on.
pub const CONTEXT_DOMAIN_SHIFT: u32 = 8;
/// Second-level entry: may be read (VT-d 9.8).
pub const READ: u64 = 1 << 0;
/// Second-level entry: may be written.
pub const WRITE: u64 = 1 << 1;
