use super::*;
use x86_defs::{cr0, cr4, efer};

use l2_exit::{Segment, SegmentRegister};

/// MOV CR0, RAX.
const MOV_CR0: [u8; 3] = [0x0F, 0x22, 0xC0];
/// MOV CR4, RAX.
const MOV_CR4: [u8; 3] = [0x0F, 0x22, 0xE0];
const GENERAL_PROTECTION: u32 = 0x8000_0B0D;
const LONG_CR0: u64 = 0x8000_0031;

fn code_segment(rights: u32) -> Segment {
    Segment {
        selector: 8,
        base: 0,
        limit: u32::MAX,
        access_rights: rights.into(),
    }
}

/// L2 in compatibility mode: 32-bit code, paging still as it was.
fn compatibility(code: &[u8]) -> Fixture {
    let mut fixture = Fixture::new(code);
    fixture.platform.vcpu.vmcs.set_rip(CODE);
    fixture
        .platform
        .vcpu
        .vmcs
        .set_segment(SegmentRegister::Cs, code_segment(0xC09B))
        .unwrap();
    fixture
}

fn write(fixture: &mut Fixture, value: u64) -> Result<(), End> {
    let registers = [(Register::Rax, value), (Register::Rip, CODE)];
    fixture.exit_with(&registers, HardwareExit::CrAccess)
}

#[test]
fn leaving_and_entering_ia32e_mode() {
    let mut fixture = compatibility(&MOV_CR0);
    write(&mut fixture, LONG_CR0 & !cr0::PG).unwrap();
    let vcpu = &fixture.platform.vcpu.vmcs;
    assert_eq!(vcpu.cr0() & cr0::PG, 0);
    assert_eq!(vcpu.efer() & (efer::LMA | 1 << 8), 1 << 8);
    assert_eq!(fixture.vmcs(VmcsField::ENTRY_CONTROLS) & 1 << 9, 0);
    write(&mut fixture, LONG_CR0).unwrap();
    assert_eq!(
        fixture.seen.borrow().flushes.last(),
        Some(&TlbFlush::Invept)
    );
    assert_ne!(fixture.platform.vcpu.vmcs.efer() & efer::LMA, 0);
    assert_ne!(fixture.vmcs(VmcsField::ENTRY_CONTROLS) & 1 << 9, 0);
    assert_eq!(fixture.vmcs(VmcsField::GUEST_TR_ACCESS_RIGHTS) & 0xF, 11);
}

#[test]
fn the_l_bit_of_cs_counts_in_ia32e_mode_only() {
    let mut fixture = compatibility(&MOV_CR0);
    write(&mut fixture, LONG_CR0 & !cr0::PG).unwrap();
    fixture.platform.vcpu.vmcs.set_efer(0).unwrap();
    fixture.platform.vcpu.vmcs.set_cr4(0).unwrap();
    // The first 4 MiB to themselves.
    fixture.platform.vcpu.vmcs.set_cr3(0x4000).unwrap();
    fixture.model.write(0x4000, &0x83u32.to_le_bytes());
    fixture
        .platform
        .vcpu
        .vmcs
        .set_segment(SegmentRegister::Cs, code_segment(0xA09B))
        .unwrap();
    for value in [LONG_CR0, LONG_CR0 & !cr0::PG] {
        write(&mut fixture, value).unwrap();
        assert_eq!(fixture.platform.vcpu.vmcs.pending_injection(), None);
        assert_eq!(fixture.platform.vcpu.vmcs.cr0(), value);
    }
}

#[test]
fn the_operand_has_32_bits_outside_64_bit_code() {
    const LEFT_OVER: u64 = 0xFFFF_FFFF << 32;
    let mut fixture = compatibility(&MOV_CR0);
    write(&mut fixture, LEFT_OVER | LONG_CR0 & !cr0::PG).unwrap();
    assert_eq!(fixture.platform.vcpu.vmcs.pending_injection(), None);
    assert_eq!(fixture.platform.vcpu.vmcs.cr0(), LONG_CR0 & !cr0::PG);
}

#[test]
fn caches_are_disabled_in_the_shadow_only() {
    let mut fixture = Fixture::new(&MOV_CR0);
    let value = LONG_CR0 | 3 << 29;
    let registers = [(Register::Rax, value)];
    fixture
        .exit_with(&registers, HardwareExit::CrAccess)
        .unwrap();
    assert_eq!(fixture.rip(), 3);
    assert_eq!(fixture.platform.vcpu.vmcs.cr0(), value);
    assert_eq!(fixture.vmcs(VmcsField::GUEST_CR0) & 3 << 29, 0);
}

#[test]
fn illegal_values_of_cr0_fault() {
    for value in [
        // What the module would refuse by itself, but for CD, which is L1's.
        1 << 32 | 1 << 30 | LONG_CR0,
        1 << 30 | LONG_CR0 & !1,
        LONG_CR0 | 1 << 29,
        // Paging off in 64-bit code.
        LONG_CR0 & !cr0::PG,
    ] {
        let mut fixture = Fixture::new(&MOV_CR0);
        fixture
            .exit_with(&[(Register::Rax, value)], HardwareExit::CrAccess)
            .unwrap();
        assert_eq!(fixture.injected(), Some(GENERAL_PROTECTION), "{value:#x}");
    }
}

#[test]
fn mce_is_l2s_own_and_vmxe_does_not_exist() {
    let mut fixture = Fixture::new(&MOV_CR4);
    let value = cr4::PAE | 1 << 6 | 1 << 7;
    fixture
        .exit_with(&[(Register::Rax, value)], HardwareExit::CrAccess)
        .unwrap();
    assert_eq!(
        (fixture.rip(), fixture.platform.vcpu.vmcs.cr4()),
        (3, value)
    );
    for value in [
        cr4::PAE | 1 << 13,
        cr4::PAE | 1 << 12,
        1 << 6,
        cr4::PAE | 1 << 22,
    ] {
        let mut fixture = Fixture::new(&MOV_CR4);
        fixture
            .exit_with(&[(Register::Rax, value)], HardwareExit::CrAccess)
            .unwrap();
        assert_eq!(fixture.injected(), Some(GENERAL_PROTECTION), "{value:#x}");
    }
}

#[test]
fn pae_paging_loads_its_pdptes() {
    const TABLE: u64 = 0x3_0020;
    let mut fixture = compatibility(&MOV_CR0);
    write(&mut fixture, LONG_CR0 & !cr0::PG).unwrap();
    fixture.platform.vcpu.vmcs.set_efer(0).unwrap();
    fixture.platform.vcpu.vmcs.set_cr3(TABLE).unwrap();
    for (index, entry) in [0x4001u64, 0x5001, 0, 0x7001].into_iter().enumerate() {
        fixture
            .model
            .write(TABLE + 8 * index as u64, &entry.to_le_bytes());
    }
    // The first 2 MiB to themselves.
    fixture.model.write(0x4000, &0x83u64.to_le_bytes());
    write(&mut fixture, LONG_CR0).unwrap();
    assert_eq!(
        [0, 1, 2, 3].map(|i| fixture.platform.vcpu.vmcs.pdpte(i)),
        [0x4001, 0x5001, 0, 0x7001]
    );
    assert_eq!(fixture.vmcs(VmcsField::ENTRY_CONTROLS) & 1 << 9, 0);
    write(&mut fixture, LONG_CR0 & !cr0::PG).unwrap();
    // A reserved bit in a present entry.
    fixture.model.write(TABLE, &0x4003u64.to_le_bytes());
    write(&mut fixture, LONG_CR0).unwrap();
    assert_eq!(fixture.injected(), Some(GENERAL_PROTECTION));
}

#[test]
fn lmsw_cannot_leave_protected_mode() {
    let mut fixture = Fixture::new(&[]);
    let Fixture { platform, .. } = &mut fixture;
    let lmsw = ControlRegisterAccess::Lmsw { value: 0xFFFE };
    platform.access_control_register(lmsw, u64::MAX).unwrap();
    assert_eq!(platform.vcpu.vmcs.cr0(), LONG_CR0 | 0xE);
    platform
        .access_control_register(ControlRegisterAccess::Clts, u64::MAX)
        .unwrap();
    assert_eq!(platform.vcpu.vmcs.cr0(), LONG_CR0 | 0x6);
}

#[test]
fn apic_mode_changes_reach_the_msr_bitmaps() {
    use tdx_defs::field::FieldId;
    let qword = |fixture: &Fixture| {
        fixture
            .platform
            .machine
            .td
            .vp_rd(FieldId::l2_msr_bitmap(VM, 0x800 / 64))
            .unwrap()
    };
    let mut fixture = Fixture::new(&[0x0F, 0x30, 0x0F, 0x30]);
    assert_eq!(qword(&fixture), u64::MAX, "xAPIC at first");
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert_eq!(qword(&fixture) >> 8 & 1, 0, "TPR is native");
    for value in [0xFEE0_0100, 0xFEE0_0900] {
        let registers = [
            (Register::Rcx, 0x1B),
            (Register::Rax, value),
            (Register::Rdx, 0),
        ];
        fixture
            .exit_with(&registers, HardwareExit::WriteMsr)
            .unwrap();
    }
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert_eq!(qword(&fixture), u64::MAX);
}
