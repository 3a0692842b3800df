//! Numbers of model-specific registers (SDM Vol. 4, "Architectural MSRs").

/// IA32_TIME_STAMP_COUNTER.
pub const IA32_TIME_STAMP_COUNTER: u32 = 0x10;
/// IA32_PLATFORM_ID.
pub const IA32_PLATFORM_ID: u32 = 0x17;
/// IA32_APIC_BASE.
pub const IA32_APIC_BASE: u32 = 0x1B;
/// EBL_CR_POWERON.
pub const EBL_CR_POWERON: u32 = 0x2A;
/// IA32_FEATURE_CONTROL.
pub const IA32_FEATURE_CONTROL: u32 = 0x3A;
/// IA32_SPEC_CTRL.
pub const IA32_SPEC_CTRL: u32 = 0x48;
/// IA32_PRED_CMD.
pub const IA32_PRED_CMD: u32 = 0x49;
/// IA32_BIOS_UPDT_TRIG.
pub const IA32_BIOS_UPDT_TRIG: u32 = 0x79;
/// IA32_BIOS_SIGN_ID.
pub const IA32_BIOS_SIGN_ID: u32 = 0x8B;
/// IA32_XAPIC_DISABLE_STATUS.
pub const IA32_XAPIC_DISABLE_STATUS: u32 = 0xBD;
/// PLATFORM_INFO.
pub const PLATFORM_INFO: u32 = 0xCE;
/// IA32_MTRRCAP.
pub const IA32_MTRRCAP: u32 = 0xFE;
/// IA32_ARCH_CAPABILITIES.
pub const IA32_ARCH_CAPABILITIES: u32 = 0x10A;
/// IA32_FLUSH_CMD.
pub const IA32_FLUSH_CMD: u32 = 0x10B;
/// IA32_SYSENTER_CS.
pub const IA32_SYSENTER_CS: u32 = 0x174;
/// IA32_SYSENTER_ESP.
pub const IA32_SYSENTER_ESP: u32 = 0x175;
/// IA32_SYSENTER_EIP.
pub const IA32_SYSENTER_EIP: u32 = 0x176;
/// IA32_MCG_CAP.
pub const IA32_MCG_CAP: u32 = 0x179;
/// IA32_MCG_STATUS.
pub const IA32_MCG_STATUS: u32 = 0x17A;
/// IA32_MISC_ENABLE.
pub const IA32_MISC_ENABLE: u32 = 0x1A0;
/// IA32_DEBUGCTL.
pub const IA32_DEBUGCTL: u32 = 0x1D9;
/// IA32_MTRR_PHYSBASE0: base and mask of the variable ranges alternate from here.
pub const IA32_MTRR_PHYSBASE0: u32 = 0x200;
/// IA32_MTRR_FIX64K_00000.
pub const IA32_MTRR_FIX64K_00000: u32 = 0x250;
/// IA32_MTRR_FIX16K_80000.
pub const IA32_MTRR_FIX16K_80000: u32 = 0x258;
/// IA32_MTRR_FIX4K_C0000.
pub const IA32_MTRR_FIX4K_C0000: u32 = 0x268;
/// IA32_PAT.
pub const IA32_PAT: u32 = 0x277;

/// Whether IA32_PAT can have a value: eight memory types, none of them reserved (SDM volume 3, "IA32_PAT MSR").
pub const fn is_pat(value: u64) -> bool {
    let mut types = value;
    let mut left = 8;
    while left != 0 {
        if !matches!(types as u8, 0 | 1 | 4..=7) {
            return false;
        }
        types >>= 8;
        left -= 1;
    }
    true
}

/// IA32_MTRR_DEF_TYPE.
pub const IA32_MTRR_DEF_TYPE: u32 = 0x2FF;
/// IA32_PERF_CAPABILITIES.
pub const IA32_PERF_CAPABILITIES: u32 = 0x345;
/// IA32_TSC_DEADLINE.
pub const IA32_TSC_DEADLINE: u32 = 0x6E0;
/// First x2APIC register; see [`crate::apic::Register`].
pub const X2APIC: u32 = 0x800;
/// Last x2APIC register.
pub const X2APIC_LAST: u32 = 0x8FF;
/// IA32_XSS.
pub const IA32_XSS: u32 = 0xDA0;
/// IA32_EFER.
pub const IA32_EFER: u32 = 0xC000_0080;
/// IA32_STAR.
pub const IA32_STAR: u32 = 0xC000_0081;
/// IA32_LSTAR.
pub const IA32_LSTAR: u32 = 0xC000_0082;
/// IA32_CSTAR.
pub const IA32_CSTAR: u32 = 0xC000_0083;
/// IA32_FMASK.
pub const IA32_FMASK: u32 = 0xC000_0084;
/// IA32_FS_BASE.
pub const IA32_FS_BASE: u32 = 0xC000_0100;
/// IA32_GS_BASE.
pub const IA32_GS_BASE: u32 = 0xC000_0101;
/// IA32_KERNEL_GS_BASE.
pub const IA32_KERNEL_GS_BASE: u32 = 0xC000_0102;
/// IA32_TSC_AUX.
pub const IA32_TSC_AUX: u32 = 0xC000_0103;
