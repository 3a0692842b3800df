//! Control registers, RFLAGS, IA32_EFER and XCR0 (SDM Vol. 3A, section "Control Registers", Vol. 1,
//! sections "EFLAGS Register" and "Enabling the XSAVE Feature Set").

/// CR0.
pub mod cr0 {
    /// Protection enable.
    pub const PE: u64 = 1 << 0;
    /// Monitor coprocessor.
    pub const MP: u64 = 1 << 1;
    /// Emulation.
    pub const EM: u64 = 1 << 2;
    /// Task switched.
    pub const TS: u64 = 1 << 3;
    /// Extension type: always set.
    pub const ET: u64 = 1 << 4;
    /// Numeric error.
    pub const NE: u64 = 1 << 5;
    /// Write protect.
    pub const WP: u64 = 1 << 16;
    /// Alignment mask.
    pub const AM: u64 = 1 << 18;
    /// Not write-through.
    pub const NW: u64 = 1 << 29;
    /// Cache disable.
    pub const CD: u64 = 1 << 30;
    /// Paging.
    pub const PG: u64 = 1 << 31;
}

/// CR4.
pub mod cr4 {
    /// Virtual-8086 mode extensions.
    pub const VME: u64 = 1 << 0;
    /// Protected-mode virtual interrupts.
    pub const PVI: u64 = 1 << 1;
    /// Time-stamp disable.
    pub const TSD: u64 = 1 << 2;
    /// Debugging extensions.
    pub const DE: u64 = 1 << 3;
    /// Page size extensions.
    pub const PSE: u64 = 1 << 4;
    /// Physical address extension.
    pub const PAE: u64 = 1 << 5;
    /// Machine-check enable.
    pub const MCE: u64 = 1 << 6;
    /// Page global enable.
    pub const PGE: u64 = 1 << 7;
    /// Performance-monitoring counter enable.
    pub const PCE: u64 = 1 << 8;
    /// Operating system supports FXSAVE and FXRSTOR.
    pub const OSFXSR: u64 = 1 << 9;
    /// Operating system supports unmasked SIMD floating-point exceptions.
    pub const OSXMMEXCPT: u64 = 1 << 10;
    /// User-mode instruction prevention.
    pub const UMIP: u64 = 1 << 11;
    /// 57-bit linear addresses.
    pub const LA57: u64 = 1 << 12;
    /// VMX enable.
    pub const VMXE: u64 = 1 << 13;
    /// SMX enable.
    pub const SMXE: u64 = 1 << 14;
    /// FSGSBASE enable.
    pub const FSGSBASE: u64 = 1 << 16;
    /// PCID enable.
    pub const PCIDE: u64 = 1 << 17;
    /// XSAVE and processor extended states enable.
    pub const OSXSAVE: u64 = 1 << 18;
    /// Key Locker enable.
    pub const KL: u64 = 1 << 19;
    /// Supervisor-mode execution prevention.
    pub const SMEP: u64 = 1 << 20;
    /// Supervisor-mode access prevention.
    pub const SMAP: u64 = 1 << 21;
    /// Protection keys for user-mode pages.
    pub const PKE: u64 = 1 << 22;
    /// Control-flow enforcement.
    pub const CET: u64 = 1 << 23;
    /// Protection keys for supervisor-mode pages.
    pub const PKS: u64 = 1 << 24;
    /// User interrupts enable.
    pub const UINTR: u64 = 1 << 25;
}

/// IA32_EFER.
pub mod efer {
    /// SYSCALL enable.
    pub const SCE: u64 = 1 << 0;
    /// IA-32e mode enable.
    pub const LME: u64 = 1 << 8;
    /// IA-32e mode active.
    pub const LMA: u64 = 1 << 10;
    /// Execute-disable bit enable.
    pub const NXE: u64 = 1 << 11;
}

/// RFLAGS.
pub mod rflags {
    /// Carry.
    pub const CF: u64 = 1 << 0;
    /// Always set.
    pub const FIXED: u64 = 1 << 1;
    /// Parity.
    pub const PF: u64 = 1 << 2;
    /// Auxiliary carry.
    pub const AF: u64 = 1 << 4;
    /// Zero.
    pub const ZF: u64 = 1 << 6;
    /// Sign.
    pub const SF: u64 = 1 << 7;
    /// Trap.
    pub const TF: u64 = 1 << 8;
    /// Interrupt enable.
    pub const IF: u64 = 1 << 9;
    /// Direction.
    pub const DF: u64 = 1 << 10;
    /// Overflow.
    pub const OF: u64 = 1 << 11;
    /// Resume.
    pub const RF: u64 = 1 << 16;
    /// Virtual-8086 mode.
    pub const VM: u64 = 1 << 17;
    /// Alignment check, access control.
    pub const AC: u64 = 1 << 18;
}

/// State components by their bits in XCR0, IA32_XSS and XFAM.
pub mod xcr0 {
    /// x87 state; always set.
    pub const X87: u64 = 1 << 0;
    /// SSE state.
    pub const SSE: u64 = 1 << 1;
    /// AVX state.
    pub const AVX: u64 = 1 << 2;
    /// Opmask, upper ZMM0 to 15, ZMM16 to 31: enabled together.
    pub const AVX512: u64 = 0b111 << 5;
    /// Processor trace (IA32_XSS).
    pub const PT: u64 = 1 << 8;
    /// PKRU.
    pub const PKRU: u64 = 1 << 9;
    /// PASID (IA32_XSS).
    pub const PASID: u64 = 1 << 10;
    /// User state of control-flow enforcement (IA32_XSS).
    pub const CET_U: u64 = 1 << 11;
    /// Supervisor state of control-flow enforcement (IA32_XSS).
    pub const CET_S: u64 = 1 << 12;
    /// Hardware duty cycling (IA32_XSS).
    pub const HDC: u64 = 1 << 13;
    /// User interrupts (IA32_XSS).
    pub const UINTR: u64 = 1 << 14;
    /// Last-branch records (IA32_XSS).
    pub const LBR: u64 = 1 << 15;
    /// Hardware P-states (IA32_XSS).
    pub const HWP: u64 = 1 << 16;
    /// Tile configuration and data: enabled together.
    pub const AMX: u64 = 0b11 << 17;
}

/// IA32_DEBUGCTL.
pub mod debugctl {
    /// Record last branches.
    pub const LBR: u64 = 1 << 0;
    /// Single-step on branches, not on instructions.
    pub const BTF: u64 = 1 << 1;
}
