//! Which fields of an L2 VMCS L1 can read and write, and what they hold at first (TDX Module ABI,
//! "L2 VMCS").
//!
//! A field that is in the processor's manual but not here is the module's own: it exists, and is
//! neither readable nor writable.

use crate::platform::{Register, SegmentName};
use tdx_defs::vmcs::VmcsField;

/// Where the value of a field lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// In the VMCS; this value after TDH.VP.INIT.
    Cell(u64),
    /// In the VM's hardware context.
    Register(Register),
    /// A segment register's selector, in the hardware context.
    Selector(SegmentName),
    /// A segment register's limit.
    Limit(SegmentName),
    /// A segment register's access rights.
    AccessRights(SegmentName),
    /// A segment register's base.
    Base(SegmentName),
}

/// What a written value must satisfy beyond the write mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Anything goes.
    None,
    /// A private GPA: bits above the GPA width and the SHARED bit are zero.
    PrivateGpa,
    /// The virtual VMX MSR of this number allows the controls.
    Controls(u32),
    /// IA32_DEBUGCTL: TR without BTS only in a debug TD.
    DebugCtl,
    /// EPTP bit 7 needs supervisor shadow stacks (XFAM CET_S).
    EptPointer,
    /// CR0: base-masked bits equal the base shadow.
    Cr0,
    /// CR4: likewise, and what TD and processor have.
    Cr4,
}

/// One field that L1 can reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) field: VmcsField,
    pub(super) read_mask: u64,
    pub(super) write_mask: u64,
    pub(super) storage: Storage,
    pub(super) check: Check,
}

/// All bits that the field's width has.
pub(super) const fn full(field: VmcsField) -> u64 {
    match field.0 >> 13 & 3 {
        0 => 0xffff,
        2 => 0xffff_ffff,
        _ => u64::MAX,
    }
}

const fn row(field: VmcsField, write_mask: u64, storage: Storage) -> Row {
    Row {
        field,
        read_mask: full(field),
        write_mask: write_mask & full(field),
        storage,
        check: Check::None,
    }
}

const fn checked(field: VmcsField, write_mask: u64, storage: Storage, check: Check) -> Row {
    Row {
        check,
        ..row(field, write_mask, storage)
    }
}

const ALL: u64 = u64::MAX;
const NONE: u64 = 0;
/// What an address field holds until it is written.
pub(super) const NULL_GPA: u64 = u64::MAX;

use Storage::{AccessRights, Base, Cell, Limit, Register as Reg, Selector};
use VmcsField as F;

/// The fields in the order of their encodings.
#[rustfmt::skip]
pub(super) static FIELDS: &[Row] = &[
    row(F(0x0002), NONE, Cell(0xffff)), // Posted-interrupt notification vector.
    row(F::HLAT_PREFIX_SIZE, ALL, Cell(0)),
    row(F::GUEST_ES_SELECTOR, ALL, Selector(SegmentName::Es)),
    row(F::GUEST_CS_SELECTOR, ALL, Selector(SegmentName::Cs)),
    row(F::GUEST_SS_SELECTOR, ALL, Selector(SegmentName::Ss)),
    row(F::GUEST_DS_SELECTOR, ALL, Selector(SegmentName::Ds)),
    row(F::GUEST_FS_SELECTOR, ALL, Selector(SegmentName::Fs)),
    row(F::GUEST_GS_SELECTOR, ALL, Selector(SegmentName::Gs)),
    row(F::GUEST_LDTR_SELECTOR, ALL, Selector(SegmentName::Ldtr)),
    row(F::GUEST_TR_SELECTOR, ALL, Selector(SegmentName::Tr)),
    row(F::GUEST_INTERRUPT_STATUS, ALL, Cell(0)),
    row(F::GUEST_UINV, ALL, Cell(0)),
    row(F::IO_BITMAP_A, NONE, Cell(NULL_GPA)),
    row(F::IO_BITMAP_B, NONE, Cell(NULL_GPA)),
    checked(F::VIRTUAL_APIC_ADDRESS, !0xfff, Cell(NULL_GPA), Check::PrivateGpa),
    row(F::POSTED_INTERRUPT_DESCRIPTOR, NONE, Cell(NULL_GPA)),
    row(F::VM_FUNCTION_CONTROLS, NONE, Cell(0)),
    Row { read_mask: 0xfff0_0000_0000_0fff, ..checked(F::EPT_POINTER, 0x80, Cell(0x1e), Check::EptPointer) },
    row(F::EOI_EXIT_BITMAP_0, ALL, Cell(0)),
    row(F::EOI_EXIT_BITMAP_1, ALL, Cell(0)),
    row(F::EOI_EXIT_BITMAP_2, ALL, Cell(0)),
    row(F::EOI_EXIT_BITMAP_3, ALL, Cell(0)),
    row(F::VIRTUALIZATION_EXCEPTION_ADDRESS, NONE, Cell(NULL_GPA)),
    row(F::XSS_EXITING_BITMAP, ALL, Cell(0)),
    row(F::ENCLS_EXITING_BITMAP, NONE, Cell(ALL)),
    checked(F::TERTIARY_CONTROLS, 0xe, Cell(0x80), Check::Controls(0x492)),
    row(F::ENCLV_EXITING_BITMAP, NONE, Cell(ALL)),
    checked(F::HLAT_POINTER, 0x000f_ffff_ffff_f018, Cell(0), Check::PrivateGpa),
    row(F::GUEST_PHYSICAL_ADDRESS, ALL, Cell(0)),
    Row { read_mask: !(1 << 13), ..checked(F::GUEST_DEBUGCTL, 0xffc7, Reg(Register::DebugCtl), Check::DebugCtl) },
    row(F::GUEST_PAT, ALL, Reg(Register::Pat)),
    row(F::GUEST_EFER, 0x501, Reg(Register::Efer)),
    row(F::GUEST_PERF_GLOBAL_CTRL, ALL, Cell(0xff)),
    checked(F::GUEST_PDPTE0, ALL, Cell(NULL_GPA), Check::PrivateGpa),
    checked(F::GUEST_PDPTE1, ALL, Cell(NULL_GPA), Check::PrivateGpa),
    checked(F::GUEST_PDPTE2, ALL, Cell(NULL_GPA), Check::PrivateGpa),
    checked(F::GUEST_PDPTE3, ALL, Cell(NULL_GPA), Check::PrivateGpa),
    row(F::GUEST_RTIT_CTL, ALL, Cell(0)),
    row(F::GUEST_LBR_CTL, ALL, Cell(0)),
    row(F::GUEST_PKRS, ALL, Cell(0)),
    row(F::PIN_BASED_CONTROLS, NONE, Cell(0x29)),
    checked(F::PRIMARY_CONTROLS, 0x48d9_9a04, Cell(0x9122_0088), Check::Controls(0x48e)),
    row(F::EXCEPTION_BITMAP, 0xfffb_ffff, Cell(1 << 18)),
    row(F::PAGE_FAULT_ERROR_CODE_MASK, ALL, Cell(0)),
    row(F::PAGE_FAULT_ERROR_CODE_MATCH, ALL, Cell(0)),
    row(F::CR3_TARGET_COUNT, ALL, Cell(0)),
    row(F::EXIT_CONTROLS, NONE, Cell(0x1f3c_8204)),
    row(F::ENTRY_CONTROLS, 0x200, Cell(0x003e_c004)),
    row(F::ENTRY_INTERRUPTION_INFO, ALL, Cell(0)),
    row(F::ENTRY_EXCEPTION_ERROR_CODE, ALL, Cell(0)),
    row(F::ENTRY_INSTRUCTION_LENGTH, ALL, Cell(0)),
    row(F::TPR_THRESHOLD, ALL, Cell(0)),
    checked(F::SECONDARY_CONTROLS, 0x0c51_3e0c, Cell(0x1338_b3fa), Check::Controls(0x48b)),
    row(F::PLE_GAP, ALL, Cell(0)),
    row(F::PLE_WINDOW, ALL, Cell(0)),
    row(F::INSTRUCTION_TIMEOUT, NONE, Cell(0)),
    row(F::INSTRUCTION_ERROR, ALL, Cell(0)),
    row(F::EXIT_REASON, ALL, Cell(0)),
    row(F::EXIT_INTERRUPTION_INFO, ALL, Cell(0)),
    row(F::EXIT_INTERRUPTION_ERROR_CODE, ALL, Cell(0)),
    row(F::IDT_VECTORING_INFO, ALL, Cell(0)),
    row(F::IDT_VECTORING_ERROR_CODE, ALL, Cell(0)),
    row(F::EXIT_INSTRUCTION_LENGTH, ALL, Cell(0)),
    row(F::EXIT_INSTRUCTION_INFO, ALL, Cell(0)),
    row(F::GUEST_ES_LIMIT, ALL, Limit(SegmentName::Es)),
    row(F::GUEST_CS_LIMIT, ALL, Limit(SegmentName::Cs)),
    row(F::GUEST_SS_LIMIT, ALL, Limit(SegmentName::Ss)),
    row(F::GUEST_DS_LIMIT, ALL, Limit(SegmentName::Ds)),
    row(F::GUEST_FS_LIMIT, ALL, Limit(SegmentName::Fs)),
    row(F::GUEST_GS_LIMIT, ALL, Limit(SegmentName::Gs)),
    row(F::GUEST_LDTR_LIMIT, ALL, Limit(SegmentName::Ldtr)),
    row(F::GUEST_TR_LIMIT, ALL, Limit(SegmentName::Tr)),
    row(F::GUEST_GDTR_LIMIT, ALL, Limit(SegmentName::Gdtr)),
    row(F::GUEST_IDTR_LIMIT, ALL, Limit(SegmentName::Idtr)),
    row(F::GUEST_ES_ACCESS_RIGHTS, ALL, AccessRights(SegmentName::Es)),
    row(F::GUEST_CS_ACCESS_RIGHTS, ALL, AccessRights(SegmentName::Cs)),
    row(F::GUEST_SS_ACCESS_RIGHTS, ALL, AccessRights(SegmentName::Ss)),
    row(F::GUEST_DS_ACCESS_RIGHTS, ALL, AccessRights(SegmentName::Ds)),
    row(F::GUEST_FS_ACCESS_RIGHTS, ALL, AccessRights(SegmentName::Fs)),
    row(F::GUEST_GS_ACCESS_RIGHTS, ALL, AccessRights(SegmentName::Gs)),
    row(F::GUEST_LDTR_ACCESS_RIGHTS, ALL, AccessRights(SegmentName::Ldtr)),
    row(F::GUEST_TR_ACCESS_RIGHTS, ALL, AccessRights(SegmentName::Tr)),
    row(F::GUEST_INTERRUPTIBILITY, ALL, Cell(0)),
    row(F::GUEST_ACTIVITY_STATE, NONE, Cell(0)),
    row(F::GUEST_SYSENTER_CS, ALL, Reg(Register::SysenterCs)),
    row(F::CR0_GUEST_HOST_MASK, ALL, Cell(ALL)),
    row(F::CR4_GUEST_HOST_MASK, ALL, Cell(ALL)),
    row(F::CR0_READ_SHADOW, ALL, Cell(0)),
    row(F::CR4_READ_SHADOW, ALL, Cell(0)),
    row(F::CR3_TARGET_0, ALL, Cell(0)),
    row(F::CR3_TARGET_1, ALL, Cell(0)),
    row(F::CR3_TARGET_2, ALL, Cell(0)),
    row(F::CR3_TARGET_3, ALL, Cell(0)),
    row(F::EXIT_QUALIFICATION, ALL, Cell(0)),
    row(F::IO_RCX, ALL, Cell(0)),
    row(F::IO_RSI, ALL, Cell(0)),
    row(F::IO_RDI, ALL, Cell(0)),
    row(F::IO_RIP, ALL, Cell(0)),
    row(F::GUEST_LINEAR_ADDRESS, ALL, Cell(0)),
    checked(F::GUEST_CR0, 0x8005_001f, Reg(Register::Cr0), Check::Cr0),
    checked(F::GUEST_CR3, ALL, Reg(Register::Cr3), Check::PrivateGpa),
    checked(F::GUEST_CR4, 0x03ff_1fbf, Reg(Register::Cr4), Check::Cr4),
    row(F::GUEST_ES_BASE, ALL, Base(SegmentName::Es)),
    row(F::GUEST_CS_BASE, ALL, Base(SegmentName::Cs)),
    row(F::GUEST_SS_BASE, ALL, Base(SegmentName::Ss)),
    row(F::GUEST_DS_BASE, ALL, Base(SegmentName::Ds)),
    row(F::GUEST_FS_BASE, ALL, Base(SegmentName::Fs)),
    row(F::GUEST_GS_BASE, ALL, Base(SegmentName::Gs)),
    row(F::GUEST_LDTR_BASE, ALL, Base(SegmentName::Ldtr)),
    row(F::GUEST_TR_BASE, ALL, Base(SegmentName::Tr)),
    row(F::GUEST_GDTR_BASE, ALL, Base(SegmentName::Gdtr)),
    row(F::GUEST_IDTR_BASE, ALL, Base(SegmentName::Idtr)),
    row(F::GUEST_DR7, ALL, Reg(Register::Dr7)),
    row(F::GUEST_RSP, ALL, Reg(Register::Rsp)),
    row(F::GUEST_RIP, ALL, Reg(Register::Rip)),
    row(F::GUEST_RFLAGS, ALL, Reg(Register::Rflags)),
    row(F::GUEST_PENDING_DEBUG_EXCEPTIONS, ALL, Cell(0)),
    row(F::GUEST_SYSENTER_ESP, ALL, Reg(Register::SysenterEsp)),
    row(F::GUEST_SYSENTER_EIP, ALL, Reg(Register::SysenterEip)),
    row(F::GUEST_S_CET, ALL, Cell(0)),
    row(F::GUEST_SSP, ALL, Cell(0)),
    row(F::GUEST_INTERRUPT_SSP_TABLE, ALL, Cell(0)),
];

/// Arrays of fields, by the first and their number. A walk takes them as one field.
pub(super) const ARRAYS: [(VmcsField, u32); 4] = [
    (F::IO_BITMAP_A, 2),
    (F::EOI_EXIT_BITMAP_0, 4),
    (F::GUEST_PDPTE0, 4),
    (F::CR3_TARGET_0, 4),
];

/// Fields of an L2 VMCS that L1 can not reach, as inclusive ranges of encodings. The others of the
/// processor's VMCS, among them the host state, are none of the module's.
const HIDDEN: &[(u16, u16)] = &[
    (0x0000, 0x0000), // VPID.
    (0x0004, 0x0004), // EPTP index.
    (0x0812, 0x0812), // PML index.
    (0x2004, 0x2010), // MSR bitmap, MSR areas, executive VMCS, PML, TSC offset.
    (0x2014, 0x2014), // APIC-access page.
    (0x2024, 0x2028), // EPTP list, VMREAD and VMWRITE bitmaps.
    (0x2032, 0x2032), // TSC multiplier.
    (0x2038, 0x2038), // Low PASID directory.
    (0x203a, 0x203a), // High PASID directory.
    (0x203c, 0x203c), // Shared EPTP.
    (0x203e, 0x203e), // PCONFIG bitmap.
    (0x2800, 0x2800), // VMCS link pointer.
    (0x400e, 0x4010), // Exit MSR counts.
    (0x4014, 0x4014), // Entry MSR count.
    (0x4026, 0x4026), // Instruction-timeout control of the host's.
    (0x4828, 0x4828), // SMBASE.
    (0x482e, 0x482e), // Preemption timer.
    (0x6c08, 0x6c08), // Host TR base.
    (0x6c14, 0x6c16), // Host RSP and RIP.
    (0x6c1a, 0x6c1a), // Host SSP.
];

/// What a field code stands for.
pub(super) enum Lookup {
    /// A field L1 can reach, by its place in [`FIELDS`].
    Found(usize),
    /// A field of the module's own.
    Hidden,
    /// No field.
    Unknown,
}

/// Finds a field by its code. The high half of a 64-bit field is none.
pub(super) fn look_up(code: u32) -> Lookup {
    let Ok(code) = u16::try_from(code) else {
        return Lookup::Unknown;
    };
    match index_of(VmcsField(code)) {
        Some(index) => Lookup::Found(index),
        None if code & 1 == 0
            && HIDDEN
                .iter()
                .any(|&(first, last)| (first..=last).contains(&code)) =>
        {
            Lookup::Hidden
        }
        None => Lookup::Unknown,
    }
}

/// How many fields there are.
pub(super) const FIELD_COUNT: usize = FIELDS.len();

/// The place of a field in [`FIELDS`]: below [`FIELD_COUNT`].
#[inline]
pub(super) fn index_of(field: VmcsField) -> Option<usize> {
    let place = PLACES[slot(field)?];
    (place != NO_PLACE).then_some(place.into())
}

/// What [`PLACES`] has where no field is.
const NO_PLACE: u8 = u8::MAX;

/// The place in [`FIELDS`] of each field, by [`slot`].
static PLACES: [u8; 1 << 10] = {
    let mut places = [NO_PLACE; 1 << 10];
    let mut index = 0;
    while index < FIELDS.len() {
        match slot(FIELDS[index].field) {
            Some(slot) => places[slot] = index as u8,
            None => panic!("a field's encoding has more bits than a slot"),
        }
        index += 1;
    }
    assert!(FIELDS.len() < NO_PLACE as usize);
    places
};

/// The bits of an encoding that tell fields apart, next to each other: width in 14:13, type in
/// 11:10, index in 6:1 (no field has a larger index). `None` for an encoding with any other bit.
const fn slot(field: VmcsField) -> Option<usize> {
    let code = field.0 as usize;
    if code & !0x6c7e != 0 {
        return None;
    }
    Some(code >> 13 << 8 | (code >> 10 & 3) << 6 | code >> 1 & 0x3f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_sorted_and_low_halves() {
        assert!(FIELDS.is_sorted_by(|a, b| a.field < b.field));
        assert!(FIELDS.iter().all(|row| row.field.0 & 1 == 0));
    }

    #[test]
    fn every_field_is_found_at_its_place_and_nothing_else_is() {
        for code in 0..=u16::MAX {
            let place = FIELDS.iter().position(|row| row.field.0 == code);
            assert_eq!(index_of(VmcsField(code)), place, "{code:#x}");
        }
    }

    #[test]
    fn what_can_be_written_is_as_wide_as_the_field() {
        for row in FIELDS {
            assert_eq!(row.write_mask & !full(row.field), 0, "{:x?}", row.field);
        }
    }

    #[test]
    fn no_field_is_both_reachable_and_hidden() {
        for &(first, last) in HIDDEN {
            assert!(
                FIELDS
                    .iter()
                    .all(|row| !(first..=last).contains(&row.field.0))
            );
        }
    }

    #[test]
    fn codes_find_their_kind() {
        assert!(matches!(look_up(0x4002), Lookup::Found(_)));
        assert!(matches!(look_up(0x2010), Lookup::Hidden));
        assert!(matches!(look_up(0x2013), Lookup::Unknown));
        assert!(matches!(look_up(0x2803), Lookup::Unknown));
        assert!(matches!(look_up(0x1_4002), Lookup::Unknown));
        assert!(matches!(look_up(0x7ffe), Lookup::Unknown));
    }
}
