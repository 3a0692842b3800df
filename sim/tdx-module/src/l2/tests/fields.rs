//! TDG.VP.RD and TDG.VP.WR of an L2 VM.

use super::super::control_registers::ControlRegister;
use super::super::guest::Guest;
use super::{L1, VAPIC, VM};
use crate::TdParams;
use crate::platform::{Platform, Register, SegmentName, Vm};
use crate::test_platform::ModelTdcall;
use tdx_defs::VmIndex;
use tdx_defs::field::{FieldId, L2Ctls};
use tdx_defs::status::{Code, Status};
use tdx_defs::vmcs::VmcsField;
use x86_defs::{cr0, cr4};

#[test]
fn fields_have_their_initial_values_rights_and_masks() {
    let l1 = L1 {
        model: ModelTdcall::new(&TdParams::default(), 4 << 20),
    };
    let values = [
        (VmcsField::VIRTUAL_APIC_ADDRESS, u64::MAX),
        (VmcsField::PIN_BASED_CONTROLS, 0x29),
        (VmcsField::PRIMARY_CONTROLS, 0xb122_0c88),
        (VmcsField::SECONDARY_CONTROLS, 0x1338_b3fa),
        (VmcsField::TERTIARY_CONTROLS, 0x80),
        (VmcsField::ENTRY_CONTROLS, 0x003e_c004),
        (VmcsField::EXIT_CONTROLS, 0x1f3c_8204),
        (VmcsField::EXCEPTION_BITMAP, 1 << 18),
        (VmcsField::CR0_GUEST_HOST_MASK, u64::MAX),
        (VmcsField::CR0_READ_SHADOW, 0),
        (VmcsField::GUEST_CR0, 0x21),
        (VmcsField::GUEST_CR4, 0x2040),
        (VmcsField::GUEST_EFER, 0x901),
        (VmcsField::GUEST_DR7, 0x400),
        (VmcsField::GUEST_PAT, 0x0007_0406_0007_0406),
        (VmcsField::GUEST_CS_ACCESS_RIGHTS, 0xc09b),
        (VmcsField::GUEST_LDTR_ACCESS_RIGHTS, 0x1_0082),
        (VmcsField::GUEST_IDTR_LIMIT, 0),
        (VmcsField::GUEST_RIP, 0xffff_fff0),
        (VmcsField::GUEST_PDPTE0, u64::MAX),
    ];
    for (field, value) in values {
        assert_eq!(l1.get(field), value, "{field:x?}");
    }
    // ENABLE_UNCORE_PMI is the host's.
    l1.model.with(|_, platform| {
        platform.set_register(Vm::L2(VM), Register::DebugCtl, 1 << 13 | 1);
    });
    assert_eq!(l1.get(VmcsField::GUEST_DEBUGCTL), 1);
    let vmcs = |code| FieldId::l2_vmcs(VM, VmcsField(code));
    let other_vm = FieldId::l2_vmcs(VmIndex::new(2).unwrap(), VmcsField::GUEST_RIP);
    for (id, code) in [
        (vmcs(0x2010), Code::MetadataFieldNotReadable),
        (vmcs(0x6c16), Code::MetadataFieldNotReadable),
        (vmcs(0x2013), Code::MetadataFieldIdIncorrect),
        (vmcs(0x7ffe), Code::MetadataFieldIdIncorrect),
        (other_vm, Code::MetadataFieldIdIncorrect),
        (
            FieldId(FieldId::l2_msr_bitmap(VM, 0).0 + 512),
            Code::MetadataFieldIdIncorrect,
        ),
    ] {
        let read = l1.read(id);
        assert_eq!(Status(read.rax).code(), code, "{id:x?}");
        assert_eq!((read.r8, read.rdx), (0, u64::MAX));
    }
}

#[test]
fn a_write_is_refused_by_right_by_fixed_bit_or_by_value() {
    use Code::{
        MetadataFieldIdIncorrect as Incorrect, MetadataFieldNotWritable as NotWritable,
        MetadataFieldValueNotValid as NotValid, Success,
    };
    let l1 = L1 {
        model: ModelTdcall::new(&TdParams::default(), 4 << 20),
    };
    const ALL: u64 = u64::MAX;
    let rows = [
        (0x4000, 0x29, ALL, NotWritable),
        (0x2010, 0, ALL, NotWritable),
        (0x2011, 0, ALL, Incorrect),
        (0x4002, 0xb122_0c8c, ALL, Success),
        (0x4002, 0x0000_0004, ALL, NotValid),
        (0x4002, 0, 1 << 2, Success),
        (0x4002, 0, 1 << 7, NotWritable),
        (0x4002, 0, 1 << 11, NotValid),
        (0x4002, 1 << 33, 1 << 2 | 1 << 33, NotValid),
        (0x401e, 0x1338_b1fa, ALL, Success),
        (0x401e, 1 << 26, 1 << 26, NotValid),
        (0x401e, 0, 1 << 26, Success),
        (0x401e, 1 << 30, 1 << 30, NotWritable),
        (0x2040, 0x1000, 0xf000, Success),
        (0x2040, 1 << 47, 1 << 47, NotValid),
        (0x2012, VAPIC, ALL, Success),
        (0x2012, VAPIC | 1, ALL, NotValid),
        (0x2012, 1 << 47, ALL, NotValid),
        (0x2012, 1 << 48, ALL, NotValid),
        (0x280a, 1 << 52, ALL, NotValid),
        (0x280a, 0x1001, ALL, Success),
        (0x2802, 1 << 6, ALL, NotValid),
        (0x2802, 1 << 6 | 1 << 7, ALL, Success),
        (0x201a, 0x80, 0x80, NotValid),
        (0x201a, 0, 0x80, Success),
        (0x2802, 0, ALL, Success),
        (0x2802, 1, ALL, Success),
        (0x2806, 0xd01, ALL, Success),
        (0x2806, 0x501, ALL, NotValid),
        (0x6800, 0x8005_003b, ALL, Success),
        (0x6800, 0x8005_001b, ALL, NotValid),
        (0x6800, 0xc005_003b, ALL, NotValid),
        (0x6804, 0x2060, ALL, Success),
        (0x6804, 0x0060, ALL, NotValid),
        (0x6804, 0x2020, ALL, NotValid),
        (0x6804, 0x40_2060, ALL, NotValid),
        (0x6802, 0x1000, ALL, Success),
        (0x6802, 1 << 47, ALL, NotValid),
        (0x6004, 0x1234, ALL, Success),
        (0x4004, 0x0004_0002, ALL, Success),
        (0x4004, 0x0000_0002, ALL, NotValid),
    ];
    for (code, value, mask, expected) in rows {
        let written = l1.write(FieldId::l2_vmcs(VM, VmcsField(code)), value, mask);
        assert_eq!(
            Status(written.rax).code(),
            expected,
            "{code:#x} <- {value:#x} & {mask:#x}"
        );
    }
    assert_eq!(l1.get(VmcsField::GUEST_CR4), 0x2060);
    let vmxe = l1
        .model
        .with(|_, platform| platform.register(Vm::L2(VM), Register::Cr4) & cr4::VMXE);
    assert_eq!(vmxe, 0, "the context of a machine that is not VMX has none");
}

#[test]
fn l1_sees_the_modules_bits_of_a_control_register_as_they_are_in_a_vmcs() {
    let l1 = L1 {
        model: ModelTdcall::new(&TdParams::default(), 4 << 20),
    };
    l1.model.with(|_, platform| {
        platform.set_register(Vm::L2(VM), Register::Cr0, 0x11);
        platform.set_register(Vm::L2(VM), Register::Cr4, cr4::PAE);
    });
    assert_eq!(l1.get(VmcsField::GUEST_CR0), 0x11 | cr0::NE);
    assert_eq!(
        l1.get(VmcsField::GUEST_CR4),
        cr4::PAE | cr4::MCE | cr4::VMXE
    );
}

#[test]
fn l2_reads_control_registers_by_the_masks_and_shadows_that_l1_writes() {
    let l1 = L1 {
        model: ModelTdcall::new(&TdParams::default(), 4 << 20),
    };
    let rows = [
        (
            ControlRegister::Cr0,
            VmcsField::CR0_GUEST_HOST_MASK,
            VmcsField::CR0_READ_SHADOW,
            cr0::TS,
        ),
        (
            ControlRegister::Cr4,
            VmcsField::CR4_GUEST_HOST_MASK,
            VmcsField::CR4_READ_SHADOW,
            cr4::TSD,
        ),
    ];
    for (register, mask, shadow, bit) in rows {
        let sees = || {
            l1.model.with(|module, platform| {
                Guest::new(module, platform, VM).as_l2_sees(register) & bit
            })
        };
        l1.set(mask, bit);
        for value in [bit, 0, bit] {
            l1.set(shadow, value);
            assert_eq!(sees(), value, "{register:?}");
        }
        l1.set(mask, 0);
        assert_eq!(sees(), 0, "{register:?}: the register's own");
    }
}

#[test]
fn l2_ctls_and_deadline_take_their_bits() {
    let l1 = L1 {
        model: ModelTdcall::new(&TdParams::default(), 4 << 20),
    };
    let controls = FieldId::l2_ctls(VM);
    let shared = L2Ctls::new().with_enable_shared_eptp(true).into_bits();
    assert_eq!(l1.write(controls, shared, u64::MAX).rax, 0);
    assert_eq!(l1.read(controls).r8, shared);
    let extended = L2Ctls::new().with_enable_extended_ve(true).into_bits();
    assert_eq!(
        Status(l1.write(controls, extended, u64::MAX).rax).code(),
        Code::MetadataFieldValueNotValid
    );
    let absent = FieldId::l2_ctls(VmIndex::new(3).unwrap());
    assert_eq!(l1.write(absent, extended | shared, u64::MAX).rax, 0);
    assert_eq!(
        l1.read(absent).r8,
        extended | shared,
        "kept, without effect"
    );
    let of_l1 = FieldId(controls.0 - 1);
    assert_eq!(l1.write(of_l1, extended, u64::MAX).rax, 0);
    assert_eq!(l1.read(of_l1).r8, extended, "likewise");
    assert_eq!(l1.read(controls).r8, shared);
    let deadline = FieldId::tsc_deadline(VM);
    assert_eq!(l1.read(deadline).r8, u64::MAX);
    let written = l1.write(deadline, 1 << 40, u64::MAX);
    assert_eq!((written.rax, written.r8), (0, u64::MAX));
    assert_eq!(l1.read(deadline).r8, 1 << 40);
}

#[test]
fn a_deadline_is_at_most_2_to_the_63_ticks_away() {
    const NOW: u64 = 1 << 20;
    const FURTHEST: u64 = NOW + (1 << 63);
    let l1 = L1 {
        model: ModelTdcall::new(&TdParams::default(), 4 << 20),
    };
    l1.model.with(|_, platform| {
        platform.tsc = NOW;
        platform.tsc_step = 0;
    });
    let invalid = Status::new(Code::OperandInvalid, 0).0;
    let deadline = FieldId::tsc_deadline(VM);
    for (value, status) in [
        (FURTHEST, 0),
        (FURTHEST + 1, invalid),
        (0xc000_0000_0000_0000, invalid),
        (u64::MAX - 1, invalid),
        (u64::MAX, 0),
        (NOW - 1, 0),
        (0, 0),
    ] {
        let before = l1.read(deadline).r8;
        assert_eq!(
            l1.write(deadline, value, u64::MAX).rax,
            status,
            "{value:#x}"
        );
        let after = if status == 0 { value } else { before };
        assert_eq!(l1.read(deadline).r8, after, "{value:#x}");
    }
    // The elements of L1 and of VMs that are not there have no effect, and take anything.
    for field in [FieldId(deadline.0 - 1), FieldId(deadline.0 + 1)] {
        assert_eq!(l1.write(field, u64::MAX - 1, u64::MAX).rax, 0);
        assert_eq!(l1.read(field).r8, u64::MAX - 1);
    }
}

#[test]
fn a_direct_msr_is_opened_in_the_hardware() {
    let l1 = L1::with_l2(&[]);
    l1.open_msr(0x174);
    let intercept = l1
        .model
        .with(|_, platform| platform.msr_intercepts[&(Vm::L2(VM), 0x174)]);
    assert_eq!(intercept, (false, false));
}

#[test]
fn segments_are_written_part_by_part() {
    let l1 = L1 {
        model: ModelTdcall::new(&TdParams::default(), 4 << 20),
    };
    l1.set(VmcsField::GUEST_FS_BASE, 0xffff_8000_0000_0000);
    l1.set(VmcsField::GUEST_FS_SELECTOR, 0x2b);
    l1.set(VmcsField::GUEST_FS_LIMIT, 0xf_ffff);
    l1.set(VmcsField::GUEST_FS_ACCESS_RIGHTS, 0x4093);
    let fs = l1
        .model
        .with(|_, platform| platform.segment(Vm::L2(VM), SegmentName::Fs));
    assert_eq!(
        (fs.selector, fs.access_rights, fs.limit, fs.base),
        (0x2b, 0x4093, 0xf_ffff, 0xffff_8000_0000_0000)
    );
}
