//! Fields of an L2 VMCS that L1 can reach, and the layout of their values.
//!
//! Encodings and layouts are the processor's (Intel SDM volume 3, appendix B "Field Encoding in
//! VMCS"); which of them L1 may read or write is in the TDX Module ABI, "L2 VMCS".

mod controls;
mod exit;

pub use controls::{
    EntryControls, InterruptibilityState, PrimaryControls, SecondaryControls, SegmentAccessRights,
};
pub use exit::{
    CrAccess, CrQualification, EptViolationQualification, InterruptionInfo, InterruptionType,
    IoInstructionInfo, IoQualification,
};

use crate::field::ElementSize;

/// Encoding of a VMCS field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct VmcsField(pub u16);

impl VmcsField {
    /// Width that the encoding says (bits 14:13). Natural width is 64 bits.
    pub const fn element_size(self) -> ElementSize {
        match self.0 >> 13 & 3 {
            0 => ElementSize::Bits16,
            2 => ElementSize::Bits32,
            _ => ElementSize::Bits64,
        }
    }
}

macro_rules! fields {
    ($($name:ident = $value:literal, $doc:literal;)*) => {
        impl VmcsField {
            $(#[doc = $doc] pub const $name: Self = Self($value);)*
        }
    };
}

// 16-bit fields.
fields! {
    VPID = 0x0000, "Virtual-processor identifier.";
    HLAT_PREFIX_SIZE = 0x0006, "HLAT prefix size.";
    GUEST_ES_SELECTOR = 0x0800, "Guest ES selector.";
    GUEST_CS_SELECTOR = 0x0802, "Guest CS selector.";
    GUEST_SS_SELECTOR = 0x0804, "Guest SS selector.";
    GUEST_DS_SELECTOR = 0x0806, "Guest DS selector.";
    GUEST_FS_SELECTOR = 0x0808, "Guest FS selector.";
    GUEST_GS_SELECTOR = 0x080A, "Guest GS selector.";
    GUEST_LDTR_SELECTOR = 0x080C, "Guest LDTR selector.";
    GUEST_TR_SELECTOR = 0x080E, "Guest TR selector.";
    GUEST_INTERRUPT_STATUS = 0x0810, "Guest interrupt status: RVI 7:0, SVI 15:8.";
    GUEST_UINV = 0x0814, "Guest user-interrupt notification vector.";
}

// 64-bit fields.
fields! {
    IO_BITMAP_A = 0x2000, "Address of I/O bitmap A.";
    IO_BITMAP_B = 0x2002, "Address of I/O bitmap B.";
    VIRTUAL_APIC_ADDRESS = 0x2012, "Virtual-APIC page; for L1 its GPA.";
    POSTED_INTERRUPT_DESCRIPTOR = 0x2016, "Posted-interrupt descriptor address.";
    VM_FUNCTION_CONTROLS = 0x2018, "VM-function controls.";
    EPT_POINTER = 0x201A, "EPT pointer.";
    EOI_EXIT_BITMAP_0 = 0x201C, "EOI-exit bitmap, vectors 0..=63.";
    EOI_EXIT_BITMAP_1 = 0x201E, "EOI-exit bitmap, vectors 64..=127.";
    EOI_EXIT_BITMAP_2 = 0x2020, "EOI-exit bitmap, vectors 128..=191.";
    EOI_EXIT_BITMAP_3 = 0x2022, "EOI-exit bitmap, vectors 192..=255.";
    VIRTUALIZATION_EXCEPTION_ADDRESS = 0x202A, "Virtualization-exception information address.";
    XSS_EXITING_BITMAP = 0x202C, "XSS-exiting bitmap.";
    ENCLS_EXITING_BITMAP = 0x202E, "ENCLS-exiting bitmap.";
    TERTIARY_CONTROLS = 0x2034, "Tertiary processor-based VM-execution controls.";
    ENCLV_EXITING_BITMAP = 0x2036, "ENCLV-exiting bitmap.";
    HLAT_POINTER = 0x2040, "HLAT pointer.";
    GUEST_PHYSICAL_ADDRESS = 0x2400, "Guest-physical address of an EPT violation.";
    GUEST_DEBUGCTL = 0x2802, "Guest IA32_DEBUGCTL.";
    GUEST_PAT = 0x2804, "Guest IA32_PAT.";
    GUEST_EFER = 0x2806, "Guest IA32_EFER.";
    GUEST_PERF_GLOBAL_CTRL = 0x2808, "Guest IA32_PERF_GLOBAL_CTRL.";
    GUEST_PDPTE0 = 0x280A, "Guest PDPTE 0.";
    GUEST_PDPTE1 = 0x280C, "Guest PDPTE 1.";
    GUEST_PDPTE2 = 0x280E, "Guest PDPTE 2.";
    GUEST_PDPTE3 = 0x2810, "Guest PDPTE 3.";
    GUEST_RTIT_CTL = 0x2814, "Guest IA32_RTIT_CTL.";
    GUEST_LBR_CTL = 0x2816, "Guest IA32_LBR_CTL.";
    GUEST_PKRS = 0x2818, "Guest IA32_PKRS.";
}

// 32-bit fields.
fields! {
    PIN_BASED_CONTROLS = 0x4000, "Pin-based VM-execution controls.";
    PRIMARY_CONTROLS = 0x4002, "Primary processor-based VM-execution controls.";
    EXCEPTION_BITMAP = 0x4004, "Exception bitmap.";
    PAGE_FAULT_ERROR_CODE_MASK = 0x4006, "Page-fault error-code mask.";
    PAGE_FAULT_ERROR_CODE_MATCH = 0x4008, "Page-fault error-code match.";
    CR3_TARGET_COUNT = 0x400A, "CR3-target count.";
    EXIT_CONTROLS = 0x400C, "VM-exit controls.";
    ENTRY_CONTROLS = 0x4012, "VM-entry controls.";
    ENTRY_INTERRUPTION_INFO = 0x4016, "VM-entry interruption information.";
    ENTRY_EXCEPTION_ERROR_CODE = 0x4018, "VM-entry exception error code.";
    ENTRY_INSTRUCTION_LENGTH = 0x401A, "VM-entry instruction length.";
    TPR_THRESHOLD = 0x401C, "TPR threshold.";
    SECONDARY_CONTROLS = 0x401E, "Secondary processor-based VM-execution controls.";
    PLE_GAP = 0x4020, "Pause-loop exiting gap.";
    PLE_WINDOW = 0x4022, "Pause-loop exiting window.";
    INSTRUCTION_TIMEOUT = 0x4024, "Instruction-timeout control.";
    INSTRUCTION_ERROR = 0x4400, "VM-instruction error.";
    EXIT_REASON = 0x4402, "Exit reason.";
    EXIT_INTERRUPTION_INFO = 0x4404, "VM-exit interruption information.";
    EXIT_INTERRUPTION_ERROR_CODE = 0x4406, "VM-exit interruption error code.";
    IDT_VECTORING_INFO = 0x4408, "IDT-vectoring information.";
    IDT_VECTORING_ERROR_CODE = 0x440A, "IDT-vectoring error code.";
    EXIT_INSTRUCTION_LENGTH = 0x440C, "VM-exit instruction length.";
    EXIT_INSTRUCTION_INFO = 0x440E, "VM-exit instruction information.";
    GUEST_ES_LIMIT = 0x4800, "Guest ES limit.";
    GUEST_CS_LIMIT = 0x4802, "Guest CS limit.";
    GUEST_SS_LIMIT = 0x4804, "Guest SS limit.";
    GUEST_DS_LIMIT = 0x4806, "Guest DS limit.";
    GUEST_FS_LIMIT = 0x4808, "Guest FS limit.";
    GUEST_GS_LIMIT = 0x480A, "Guest GS limit.";
    GUEST_LDTR_LIMIT = 0x480C, "Guest LDTR limit.";
    GUEST_TR_LIMIT = 0x480E, "Guest TR limit.";
    GUEST_GDTR_LIMIT = 0x4810, "Guest GDTR limit.";
    GUEST_IDTR_LIMIT = 0x4812, "Guest IDTR limit.";
    GUEST_ES_ACCESS_RIGHTS = 0x4814, "Guest ES access rights.";
    GUEST_CS_ACCESS_RIGHTS = 0x4816, "Guest CS access rights.";
    GUEST_SS_ACCESS_RIGHTS = 0x4818, "Guest SS access rights.";
    GUEST_DS_ACCESS_RIGHTS = 0x481A, "Guest DS access rights.";
    GUEST_FS_ACCESS_RIGHTS = 0x481C, "Guest FS access rights.";
    GUEST_GS_ACCESS_RIGHTS = 0x481E, "Guest GS access rights.";
    GUEST_LDTR_ACCESS_RIGHTS = 0x4820, "Guest LDTR access rights.";
    GUEST_TR_ACCESS_RIGHTS = 0x4822, "Guest TR access rights.";
    GUEST_INTERRUPTIBILITY = 0x4824, "Guest interruptibility state.";
    GUEST_ACTIVITY_STATE = 0x4826, "Guest activity state.";
    GUEST_SYSENTER_CS = 0x482A, "Guest IA32_SYSENTER_CS.";
    PREEMPTION_TIMER = 0x482E, "VMX-preemption timer value.";
}

// Natural-width fields.
fields! {
    CR0_GUEST_HOST_MASK = 0x6000, "CR0 guest/host mask.";
    CR4_GUEST_HOST_MASK = 0x6002, "CR4 guest/host mask.";
    CR0_READ_SHADOW = 0x6004, "CR0 read shadow.";
    CR4_READ_SHADOW = 0x6006, "CR4 read shadow.";
    CR3_TARGET_0 = 0x6008, "CR3-target value 0.";
    CR3_TARGET_1 = 0x600A, "CR3-target value 1.";
    CR3_TARGET_2 = 0x600C, "CR3-target value 2.";
    CR3_TARGET_3 = 0x600E, "CR3-target value 3.";
    EXIT_QUALIFICATION = 0x6400, "Exit qualification.";
    IO_RCX = 0x6402, "I/O RCX.";
    IO_RSI = 0x6404, "I/O RSI.";
    IO_RDI = 0x6406, "I/O RDI.";
    IO_RIP = 0x6408, "I/O RIP.";
    GUEST_LINEAR_ADDRESS = 0x640A, "Guest-linear address.";
    GUEST_CR0 = 0x6800, "Guest CR0.";
    GUEST_CR3 = 0x6802, "Guest CR3.";
    GUEST_CR4 = 0x6804, "Guest CR4.";
    GUEST_ES_BASE = 0x6806, "Guest ES base.";
    GUEST_CS_BASE = 0x6808, "Guest CS base.";
    GUEST_SS_BASE = 0x680A, "Guest SS base.";
    GUEST_DS_BASE = 0x680C, "Guest DS base.";
    GUEST_FS_BASE = 0x680E, "Guest FS base.";
    GUEST_GS_BASE = 0x6810, "Guest GS base.";
    GUEST_LDTR_BASE = 0x6812, "Guest LDTR base.";
    GUEST_TR_BASE = 0x6814, "Guest TR base.";
    GUEST_GDTR_BASE = 0x6816, "Guest GDTR base.";
    GUEST_IDTR_BASE = 0x6818, "Guest IDTR base.";
    GUEST_DR7 = 0x681A, "Guest DR7.";
    GUEST_RSP = 0x681C, "Guest RSP; TDG.VP.ENTER overwrites it from the guest state.";
    GUEST_RIP = 0x681E, "Guest RIP; TDG.VP.ENTER overwrites it from the guest state.";
    GUEST_RFLAGS = 0x6820, "Guest RFLAGS; TDG.VP.ENTER overwrites it from the guest state.";
    GUEST_PENDING_DEBUG_EXCEPTIONS = 0x6822, "Guest pending debug exceptions.";
    GUEST_SYSENTER_ESP = 0x6824, "Guest IA32_SYSENTER_ESP.";
    GUEST_SYSENTER_EIP = 0x6826, "Guest IA32_SYSENTER_EIP.";
    GUEST_S_CET = 0x6828, "Guest IA32_S_CET.";
    GUEST_SSP = 0x682A, "Guest SSP; TDG.VP.ENTER overwrites it from the guest state.";
    GUEST_INTERRUPT_SSP_TABLE = 0x682C, "Guest IA32_INTERRUPT_SSP_TABLE_ADDR.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_says_the_width() {
        assert_eq!(
            VmcsField::GUEST_INTERRUPT_STATUS.element_size(),
            ElementSize::Bits16
        );
        assert_eq!(VmcsField::GUEST_EFER.element_size(), ElementSize::Bits64);
        assert_eq!(VmcsField::EXIT_REASON.element_size(), ElementSize::Bits32);
        assert_eq!(VmcsField::GUEST_CR0.element_size(), ElementSize::Bits64);
    }
}
