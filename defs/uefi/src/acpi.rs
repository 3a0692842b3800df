//! Registers and tables of ACPI (*Advanced Configuration and Power Interface Specification* 6.5).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// PM1_EN bits that exist: timer, global, power button, sleep button, RTC (section 4.8.3.1.2).
pub const PM1_ENABLES: u16 = 1 << 0 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 10;
/// PM1_CNT.SCI_EN: ACPI mode (section 4.8.3.2.1).
pub const SCI_EN: u16 = 1 << 0;
/// PM1_CNT.SLP_TYP.
pub const SLP_TYP: u16 = 0b111 << 10;
/// PM1_CNT.SLP_EN.
pub const SLP_EN: u16 = 1 << 13;

/// CCEL: the confidential-computing type of TDX (section 5.2.34).
pub const CC_TYPE_TDX: u8 = 2;

/// CC Event Log ACPI Table, with its header (section 5.2.34).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ccel {
    /// `CCEL`.
    pub signature: [u8; 4],
    /// Bytes of the table.
    pub length: le::U32,
    /// 1.
    pub revision: u8,
    /// Makes the sum of all bytes 0.
    pub checksum: u8,
    /// OEM ID.
    pub oem_id: [u8; 6],
    /// OEM table ID.
    pub oem_table_id: [u8; 8],
    /// OEM revision.
    pub oem_revision: le::U32,
    /// Creator ID.
    pub creator_id: [u8; 4],
    /// Creator revision.
    pub creator_revision: le::U32,
    /// Confidential-computing type: [`CC_TYPE_TDX`].
    pub cc_type: u8,
    /// Subtype, 0.
    pub cc_subtype: u8,
    /// Zero.
    pub reserved: le::U16,
    /// LAML: bytes of the log area.
    pub log_area_minimum_length: le::U64,
    /// LASA: first address of the log area.
    pub log_area_start_address: le::U64,
}

/// MADT (section 5.2.12), up to its interrupt controller structures.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Madt {
    /// `APIC`.
    pub signature: [u8; 4],
    /// Bytes of the table, with the structures behind this one.
    pub length: le::U32,
    /// 6 for ACPI 6.5.
    pub revision: u8,
    /// Makes the sum of all bytes 0.
    pub checksum: u8,
    /// OEM ID.
    pub oem_id: [u8; 6],
    /// OEM table ID.
    pub oem_table_id: [u8; 8],
    /// OEM revision.
    pub oem_revision: le::U32,
    /// Creator ID.
    pub creator_id: [u8; 4],
    /// Creator revision.
    pub creator_revision: le::U32,
    /// Address of each processor's local APIC.
    pub local_apic: le::U32,
    /// PCAT_COMPAT is bit 0.
    pub flags: le::U32,
}

/// The head of each interrupt controller structure of the MADT.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct MadtEntry {
    /// Which structure it is (table 5.21).
    pub kind: u8,
    /// Bytes of it, with the head.
    pub length: u8,
}

/// Flags of a local APIC: the processor can be used (table 5.23).
pub const LOCAL_APIC_ENABLED: u32 = 1 << 0;

/// Processor Local APIC Structure (section 5.2.12.2).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LocalApic {
    /// [`LocalApic::HEAD`].
    pub head: MadtEntry,
    /// ACPI processor UID.
    pub processor: u8,
    /// APIC ID.
    pub id: u8,
    /// [`LOCAL_APIC_ENABLED`] and others.
    pub flags: le::U32,
}

impl LocalApic {
    /// Its head.
    pub const HEAD: MadtEntry = MadtEntry { kind: 0, length: 8 };
}

/// Processor Local x2APIC Structure (section 5.2.12.12).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LocalX2Apic {
    /// [`LocalX2Apic::HEAD`].
    pub head: MadtEntry,
    /// Zero.
    pub reserved: le::U16,
    /// x2APIC ID.
    pub id: le::U32,
    /// [`LOCAL_APIC_ENABLED`] and others.
    pub flags: le::U32,
    /// ACPI processor UID.
    pub processor: le::U32,
}

impl LocalX2Apic {
    /// Its head.
    pub const HEAD: MadtEntry = MadtEntry {
        kind: 9,
        length: 16,
    };
}

/// Multiprocessor Wakeup Structure (section 5.2.12.19), as td-shim makes it: with mailbox version 0.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct MultiprocessorWakeup {
    /// [`MultiprocessorWakeup::HEAD`].
    pub head: MadtEntry,
    /// 0.
    pub mailbox_version: le::U16,
    /// Zero.
    pub reserved: le::U32,
    /// Where the mailbox is: a multiple of 4096.
    pub mailbox: le::U64,
}

impl MultiprocessorWakeup {
    /// Its head.
    pub const HEAD: MadtEntry = MadtEntry {
        kind: 0x10,
        length: 16,
    };
}

/// The byte that makes the sum of a table's bytes 0, where its own is 0 so far.
pub fn checksum(table: &[u8]) -> u8 {
    let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    sum.wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_has_its_size() {
        assert_eq!(size_of::<Ccel>(), 56);
        assert_eq!(size_of::<Madt>(), 44);
        for (head, size) in [
            (LocalApic::HEAD, size_of::<LocalApic>()),
            (LocalX2Apic::HEAD, size_of::<LocalX2Apic>()),
            (
                MultiprocessorWakeup::HEAD,
                size_of::<MultiprocessorWakeup>(),
            ),
        ] {
            assert_eq!(usize::from(head.length), size);
        }
        assert_eq!(PM1_ENABLES, 0x0721);
    }
}
