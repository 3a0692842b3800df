use proptest::prelude::*;
use x86_defs::{cr0, cr4, efer, rflags};

use super::*;
use crate::test_vcpu::{TestMemory, TestVcpu};

const READ: Access = Access {
    kind: AccessKind::Read,
    user: false,
};
const WRITE: Access = Access {
    kind: AccessKind::Write,
    user: false,
};
const FETCH: Access = Access {
    kind: AccessKind::Fetch,
    user: false,
};

const fn user(access: Access) -> Access {
    Access {
        user: true,
        ..access
    }
}

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const A: u64 = 0x20;
const D: u64 = 0x40;
const PS: u64 = 0x80;
const XD: u64 = 1 << 63;

fn fault(linear: u64, error_code: u32) -> Result<u64, WalkError> {
    Err(WalkError::Fault(PageFault { linear, error_code }))
}

/// 4-level tables whose path to `LINEAR` goes through 0x1000, 0x2000, 0x3000 and 0x4000.
const LINEAR: u64 = 0xFFFF_8881_0320_4567;
const PML4E: u64 = 0x1000 + 0x111 * 8;
const PDPTE: u64 = 0x2000 + 4 * 8;
const PDE: u64 = 0x3000 + 0x19 * 8;
const PTE: u64 = 0x4000 + 4 * 8;

fn level_4(flags: u64) -> TestMemory {
    let memory = TestMemory::default();
    memory.poke_u64(PML4E, 0x2000 | P | RW | US);
    memory.poke_u64(PDPTE, 0x3000 | P | RW | US);
    memory.poke_u64(PDE, 0x4000 | P | RW | US);
    memory.poke_u64(PTE, 0x12_3456_7000 | flags);
    memory
}

fn walk(vcpu: &TestVcpu, memory: &TestMemory, access: Access) -> Result<u64, WalkError> {
    Paging::of(vcpu).translate(memory, LINEAR, access)
}

#[test]
fn no_paging_is_the_identity_of_32_bits() {
    let paging = Paging::of(&TestVcpu::protected());
    assert_eq!(paging.mode(), Mode::Off);
    let translated = paging.translate(&TestMemory::default(), 0xFED4_0F00, READ);
    assert_eq!(translated, Ok(0xFED4_0F00));
}

#[test]
fn four_levels_translate_pages_of_every_size() {
    let vcpu = TestVcpu::long();
    let memory = level_4(P | RW);
    assert_eq!(walk(&vcpu, &memory, READ), Ok(0x12_3456_7567));
    memory.poke_u64(PDE, 0x12_3440_0000 | P | PS);
    assert_eq!(walk(&vcpu, &memory, READ), Ok(0x12_3440_4567));
    memory.poke_u64(PDPTE, 0x12_4000_0000 | P | PS);
    assert_eq!(walk(&vcpu, &memory, READ), Ok(0x12_4320_4567));
}

#[test]
fn five_levels_translate() {
    let mut vcpu = TestVcpu::long();
    vcpu.cr4 |= cr4::LA57;
    vcpu.cr3 = 0x5000;
    let memory = level_4(P | RW);
    memory.poke_u64(0x5000 + 0x1FF * 8, 0x1000 | P | RW);
    assert_eq!(walk(&vcpu, &memory, READ), Ok(0x12_3456_7567));
}

/// Bit 7 of an entry at each level: reserved in PML5E and PML4E, where no page can be, PS in PDPTE
/// and PDE, PAT in PTE (SDM Vol. 3A, "4-Level Paging and 5-Level Paging").
#[test]
fn the_page_size_bit_is_reserved_above_level_3() {
    const PML5E: u64 = 0x5000 + 0x1FF * 8;
    // Where such a page could be, and where the walk would go on if the bit meant nothing.
    const PAGE_256T: u64 = 1 << 48;
    const PAGE_512G: u64 = 1 << 39;
    let reserved = fault(LINEAR, 0b1001);
    for five_levels in [false, true] {
        let mut vcpu = TestVcpu::long();
        if five_levels {
            vcpu.cr4 |= cr4::LA57;
            vcpu.cr3 = 0x5000;
        }
        for (entry, frame, expected) in [
            (PML5E, PAGE_256T, reserved),
            (PML4E, PAGE_512G, reserved),
            (PDPTE, 0x12_4000_0000, Ok(0x12_4320_4567)),
            (PDE, 0x12_3440_0000, Ok(0x12_3440_4567)),
            (PTE, 0x12_3456_7000, Ok(0x12_3456_7567)),
        ] {
            let memory = level_4(P | RW);
            memory.poke_u64(PML5E, 0x1000 | P | RW);
            memory.poke_u64(PAGE_256T | PML4E & 0xFFF, 0x2000 | P | RW);
            memory.poke_u64(PAGE_512G | PDPTE & 0xFFF, 0x3000 | P | RW);
            memory.poke_u64(entry, frame | P | RW | PS);
            if entry != PML5E || five_levels {
                let translated = walk(&vcpu, &memory, READ);
                assert_eq!(translated, expected, "{entry:#x} of {five_levels}");
            }
        }
    }
}

fn legacy() -> TestVcpu {
    let mut vcpu = TestVcpu::protected();
    vcpu.cr0 |= cr0::PG | cr0::WP;
    vcpu
}

#[test]
fn legacy_paging_translates_small_and_large_pages() {
    let mut vcpu = legacy();
    let memory = TestMemory::default();
    let linear = 0xC040_3123;
    memory.poke_u32(0x1000 + 0x301 * 4, 0x2000 | 7);
    memory.poke_u32(0x2000 + 3 * 4, 0x7654_3000 | 7);
    let translate = |vcpu: &TestVcpu| Paging::of(vcpu).translate(&memory, linear, READ);
    assert_eq!(translate(&vcpu), Ok(0x7654_3123));
    // PS without CR4.PSE is ignored.
    memory.poke_u32(0x1000 + 0x301 * 4, 0x2000 | 0x87);
    assert_eq!(translate(&vcpu), Ok(0x7654_3123));
    vcpu.cr4 |= cr4::PSE;
    memory.poke_u32(0x1000 + 0x301 * 4, 0x0080_0087);
    assert_eq!(translate(&vcpu), Ok(0x0080_3123));
    // PSE-36: bits 20:13 are address bits 39:32.
    memory.poke_u32(0x1000 + 0x301 * 4, 0x0080_0087 | 0xAB << 13);
    assert_eq!(translate(&vcpu), Ok(0xAB_0080_3123));
    memory.poke_u32(0x1000 + 0x301 * 4, 0x0080_0087 | 1 << 21);
    assert_eq!(translate(&vcpu), fault(linear, 0b1001));
    vcpu.width = 36;
    memory.poke_u32(0x1000 + 0x301 * 4, 0x0080_0087 | 0xF << 13);
    assert_eq!(translate(&vcpu), Ok(0xF_0080_3123));
    // Each bit of the address by itself: 31:22 of its 31:22, 20:13 of what MAXPHYADDR has above.
    for width in [32, 33, 36, 39, 40, 52] {
        vcpu.width = width;
        for bit in 13..32 {
            memory.poke_u32(0x1000 + 0x301 * 4, 1 << bit | 0x87);
            let expected = match bit {
                22.. => Ok(1 << bit | 0x3123),
                21 => fault(linear, 0b1001),
                _ if bit - 13 + 32 < width.min(40) => Ok(1 << (bit - 13 + 32) | 0x3123),
                _ => fault(linear, 0b1001),
            };
            assert_eq!(translate(&vcpu), expected, "bit {bit} of {width}");
        }
    }
}

#[test]
fn pae_paging_starts_at_the_registers() {
    let mut vcpu = legacy();
    vcpu.cr4 |= cr4::PAE;
    vcpu.pdptes = [0, 0, 0, 0x2000 | P];
    let memory = TestMemory::default();
    let linear = 0xC040_3123;
    memory.poke_u64(0x2000 + 2 * 8, 0x3000 | P | RW);
    memory.poke_u64(0x3000 + 3 * 8, 0x9_7654_3000 | P | RW | XD);
    let translate =
        |vcpu: &TestVcpu, linear, access| Paging::of(vcpu).translate(&memory, linear, access);
    assert_eq!(translate(&vcpu, linear, READ), Ok(0x9_7654_3123));
    assert_eq!(translate(&vcpu, linear, FETCH), fault(linear, 0b1_0001));
    assert_eq!(translate(&vcpu, 0x1000, READ), fault(0x1000, 0));
    memory.poke_u64(0x2000 + 2 * 8, 0x9_7640_0000 | P | RW | PS);
    assert_eq!(translate(&vcpu, linear, WRITE), Ok(0x9_7640_3123));
    // Bits 62:52 are ignored in IA-32e paging but reserved here.
    for bit in 52..63 {
        memory.poke_u64(0x2000 + 2 * 8, 0x9_7640_0000 | P | RW | PS | 1 << bit);
        assert_eq!(translate(&vcpu, linear, READ), fault(linear, 0b1001));
        memory.poke_u64(0x2000 + 2 * 8, 0x3000 | P | RW | 1 << bit);
        assert_eq!(translate(&vcpu, linear, READ), fault(linear, 0b1001));
        memory.poke_u64(0x2000 + 2 * 8, 0x3000 | P | RW);
        memory.poke_u64(0x3000 + 3 * 8, 0x9_7654_3000 | P | RW | 1 << bit);
        assert_eq!(translate(&vcpu, linear, READ), fault(linear, 0b1001));
    }
}

#[test]
fn missing_entries_fault_at_each_level() {
    let vcpu = TestVcpu::long();
    for entry in [PML4E, PDPTE, PDE, PTE] {
        let memory = level_4(P | RW | US);
        memory.poke_u64(entry, memory.peek_u64(entry) & !P);
        assert_eq!(walk(&vcpu, &memory, READ), fault(LINEAR, 0));
        assert_eq!(walk(&vcpu, &memory, user(WRITE)), fault(LINEAR, 0b110));
        assert_eq!(walk(&vcpu, &memory, FETCH), fault(LINEAR, 0b1_0000));
    }
}

#[test]
fn reserved_bits_fault_at_each_level() {
    let mut vcpu = TestVcpu::long();
    vcpu.width = 46;
    for (entry, reserved) in [
        (PML4E, PS),
        (PML4E, 1 << 46),
        (PDPTE, 1 << 51),
        (PDPTE, PS | 1 << 29),
        (PDPTE, PS | 1 << 13),
        (PDE, PS | 1 << 20),
        (PDE, 1 << 47),
        (PTE, 1 << 46),
    ] {
        let memory = level_4(P | RW | US);
        memory.poke_u64(entry, memory.peek_u64(entry) & !0x3FFF_F000 | reserved);
        assert_eq!(walk(&vcpu, &memory, READ), fault(LINEAR, 0b1001));
    }
    let memory = level_4(P | XD);
    assert_eq!(walk(&vcpu, &memory, READ), Ok(0x12_3456_7567));
    vcpu.efer &= !efer::NXE;
    assert_eq!(walk(&vcpu, &memory, READ), fault(LINEAR, 0b1001));
}

/// Rights of the page, control bits, access: allowed or the error code.
#[test]
fn rights_are_those_of_the_manual() {
    const SMAP_AC: u64 = 1;
    let none = 0;
    for (flags, cr0, cr4, rflags, access, expected) in [
        (none, cr0::WP, 0, 0, READ, Ok(())),
        (none, cr0::WP, 0, 0, user(READ), Err(0b0101)),
        (none, cr0::WP, 0, 0, WRITE, Err(0b0011)),
        (none, 0, 0, 0, WRITE, Ok(())),
        (US, 0, 0, 0, user(WRITE), Err(0b0111)),
        (US | RW, 0, 0, 0, user(WRITE), Ok(())),
        (RW, 0, 0, 0, user(WRITE), Err(0b0111)),
        (none, cr0::WP, 0, 0, FETCH, Ok(())),
        (XD, cr0::WP, 0, 0, FETCH, Err(0b1_0001)),
        (US | XD, cr0::WP, 0, 0, user(FETCH), Err(0b1_0101)),
        (US, cr0::WP, 0, 0, user(FETCH), Ok(())),
        (US, cr0::WP, cr4::SMEP, 0, FETCH, Err(0b1_0001)),
        (US, cr0::WP, cr4::SMEP, 0, user(FETCH), Ok(())),
        (US, cr0::WP, 0, 0, READ, Ok(())),
        (US, cr0::WP, cr4::SMAP, 0, READ, Err(0b0001)),
        (US, cr0::WP, cr4::SMAP, SMAP_AC, READ, Ok(())),
        (US | RW, cr0::WP, cr4::SMAP, 0, WRITE, Err(0b0011)),
        (US | RW, cr0::WP, cr4::SMAP, SMAP_AC, WRITE, Ok(())),
        (US, cr0::WP, cr4::SMAP, 0, user(READ), Ok(())),
        (none, cr0::WP, cr4::SMAP, 0, READ, Ok(())),
    ] {
        let mut vcpu = TestVcpu::long();
        vcpu.cr0 = vcpu.cr0 & !cr0::WP | cr0;
        vcpu.cr4 |= cr4;
        vcpu.rflags |= rflags * rflags::AC;
        let memory = level_4(P | flags);
        let expected = match expected {
            Ok(()) => Ok(0x12_3456_7567),
            Err(code) => fault(LINEAR, code),
        };
        let result = walk(&vcpu, &memory, access);
        assert_eq!(result, expected, "{flags:#x} {cr0:#x} {cr4:#x} {access:?}");
    }
}

#[test]
fn rights_of_upper_entries_count() {
    let vcpu = TestVcpu::long();
    for entry in [PML4E, PDPTE, PDE] {
        let memory = level_4(P | RW | US);
        let value = memory.peek_u64(entry);
        memory.poke_u64(entry, value & !RW);
        assert_eq!(walk(&vcpu, &memory, WRITE), fault(LINEAR, 0b0011));
        memory.poke_u64(entry, value & !US);
        assert_eq!(walk(&vcpu, &memory, user(READ)), fault(LINEAR, 0b0101));
        memory.poke_u64(entry, value | XD);
        assert_eq!(walk(&vcpu, &memory, FETCH), fault(LINEAR, 0b1_0001));
    }
}

#[test]
fn protection_keys_guard_user_pages() {
    const KEY: u64 = 5 << 59;
    for (flags, pkru, wp, access, expected) in [
        (US | RW, 0b01 << 10, cr0::WP, user(READ), Some(0b10_0101)),
        (US | RW, 0b01 << 10, cr0::WP, READ, Some(0b10_0001)),
        (US | RW, 0b10 << 10, cr0::WP, user(READ), None),
        (US | RW, 0b10 << 10, cr0::WP, user(WRITE), Some(0b10_0111)),
        (US | RW, 0b10 << 10, cr0::WP, WRITE, Some(0b10_0011)),
        (US | RW, 0b10 << 10, 0, WRITE, None),
        (US | RW, 0b11 << 8, cr0::WP, user(WRITE), None),
        (US | RW, 0b11 << 10, cr0::WP, user(FETCH), None),
        (RW, 0b11 << 10, cr0::WP, WRITE, None),
    ] {
        let mut vcpu = TestVcpu::long();
        vcpu.cr4 |= cr4::PKE;
        vcpu.cr0 = vcpu.cr0 & !cr0::WP | wp;
        vcpu.pkru = pkru;
        let memory = level_4(P | flags | KEY);
        let expected = match expected {
            None => Ok(0x12_3456_7567),
            Some(code) => fault(LINEAR, code),
        };
        assert_eq!(walk(&vcpu, &memory, access), expected);
    }
}

/// Keys are of IA-32e paging alone, and of CR4.PKE: elsewhere PKRU forbids nothing.
#[test]
fn protection_keys_need_cr4_and_long_mode() {
    let mut vcpu = TestVcpu::long();
    vcpu.pkru = u32::MAX;
    let memory = level_4(P | RW | US | 5 << 59);
    assert_eq!(walk(&vcpu, &memory, user(WRITE)), Ok(0x12_3456_7567));
    vcpu.cr4 |= cr4::PKE;
    let fault = fault(LINEAR, 0b10_0111);
    assert_eq!(walk(&vcpu, &memory, user(WRITE)), fault);

    let mut vcpu = legacy();
    vcpu.cr4 |= cr4::PKE;
    vcpu.pkru = u32::MAX;
    let memory = TestMemory::default();
    memory.poke_u32(0x1000, 0x2000 | 7);
    memory.poke_u32(0x2000, 0x7654_3000 | 7);
    let translated = Paging::of(&vcpu).translate(&memory, 0x123, user(WRITE));
    assert_eq!(translated, Ok(0x7654_3123));
}

/// Tables that are set already are only read: they may be in memory that can not be written.
#[test]
fn flags_that_are_set_are_not_written_again() {
    struct ReadOnly(TestMemory);
    impl GuestMemory for ReadOnly {
        fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
            self.0.read(gpa, into)
        }
        fn write(&self, gpa: u64, _: &[u8]) -> Result<(), MemoryError> {
            Err(MemoryError { gpa })
        }
    }
    let vcpu = TestVcpu::long();
    let memory = ReadOnly(level_4(P | RW));
    let translate = |access| Paging::of(&vcpu).translate(&memory, LINEAR, access);
    let missing = |gpa| Err(WalkError::PagingStructure { gpa });
    assert_eq!(translate(READ), missing(PML4E));
    walk(&vcpu, &memory.0, READ).unwrap();
    assert_eq!(translate(READ), Ok(0x12_3456_7567));
    assert_eq!(translate(WRITE), missing(PTE));
    walk(&vcpu, &memory.0, WRITE).unwrap();
    assert_eq!(translate(WRITE), Ok(0x12_3456_7567));
}

#[test]
fn accessed_and_dirty_flags_follow_the_access() {
    let vcpu = TestVcpu::long();
    let memory = level_4(P | RW);
    assert!(walk(&vcpu, &memory, user(READ)).is_err());
    assert_eq!(memory.peek_u64(PML4E) & A, 0);
    walk(&vcpu, &memory, READ).unwrap();
    for entry in [PML4E, PDPTE, PDE, PTE] {
        assert_eq!(memory.peek_u64(entry) & (A | D), A);
    }
    walk(&vcpu, &memory, WRITE).unwrap();
    assert_eq!(memory.peek_u64(PDE) & (A | D), A);
    assert_eq!(memory.peek_u64(PTE), 0x12_3456_7000 | P | RW | A | D);
}

#[test]
fn tables_outside_memory_are_no_fault() {
    let vcpu = TestVcpu::long();
    let memory = level_4(P | RW);
    memory.poke_u64(PDE, 0x8_0000_0000_1000 | P);
    assert_eq!(
        walk(&vcpu, &memory, READ),
        Err(WalkError::PagingStructure {
            gpa: 0x8_0000_0000_1020
        })
    );
}

proptest! {
    #[test]
    fn any_tables_end_in_an_address_or_an_error(
        tables in prop::collection::vec((0..0x800_u64, any::<u64>(), 0..8_u64), 64),
        cr0 in any::<bool>(),
        cr3 in 0..4_u64,
        cr4 in any::<u64>(),
        efer in any::<u64>(),
        pdptes in any::<[u64; 4]>(),
        linear in any::<u64>(),
        width in any::<u32>(),
        kind in 0..3_usize,
        user in any::<bool>(),
    ) {
        let memory = TestMemory::default();
        for (slot, high, page) in tables {
            memory.poke_u64(0x1000 + slot * 8, high & 0xFFF0_0000_0000_0FFF | page << 12 | P);
        }
        let mut vcpu = TestVcpu::long();
        vcpu.cr0 |= u64::from(cr0) << 16;
        vcpu.cr3 = cr3 << 12;
        vcpu.cr4 = cr4;
        vcpu.efer = efer;
        vcpu.pdptes = pdptes;
        vcpu.width = width;
        let kind = [AccessKind::Read, AccessKind::Write, AccessKind::Fetch][kind];
        if let Ok(gpa) = Paging::of(&vcpu).translate(&memory, linear, Access { kind, user }) {
            prop_assert!(gpa < 1 << 52);
            prop_assert_eq!(gpa & 0xFFF, linear & 0xFFF);
        }
    }
}
