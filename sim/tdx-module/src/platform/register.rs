//! The registers of a hardware context.

/// A register that is read and written as one 64-bit value.
///
/// The first sixteen are the general registers in instruction encoding order, which is also the
/// order of `L2_ENTER_GUEST_STATE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Register {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    Rip,
    Rflags,
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    /// IA32_EFER as the guest sees it: a platform hides bits that only its own hardware needs.
    Efer,
    Dr0,
    Dr1,
    Dr2,
    Dr3,
    Dr6,
    Dr7,
    Pat,
    DebugCtl,
    KernelGsBase,
    Star,
    Lstar,
    Cstar,
    Fmask,
    SysenterCs,
    SysenterEsp,
    SysenterEip,
    TscAux,
    SpecCtrl,
    Xcr0,
    Xss,
    /// Bit 0: blocking by STI; bit 1: blocking by MOV SS (VMX interruptibility state, bits 1:0).
    /// Hardware with one kind of shadow reports it as bit 0.
    InterruptShadow,
    /// The current privilege level, 0..=3.
    Cpl,
}

impl Register {
    /// The general registers, in the order of `L2_ENTER_GUEST_STATE`.
    pub const GENERAL: [Register; 16] = [
        Register::Rax,
        Register::Rcx,
        Register::Rdx,
        Register::Rbx,
        Register::Rsp,
        Register::Rbp,
        Register::Rsi,
        Register::Rdi,
        Register::R8,
        Register::R9,
        Register::R10,
        Register::R11,
        Register::R12,
        Register::R13,
        Register::R14,
        Register::R15,
    ];

    /// What the TDX module does not switch between L1 and L2: one VM inherits what the other left.
    ///
    /// A platform whose hardware does switch one of these gets it copied by the module at every
    /// change of VM. Vector state is in the same position, and is simply left in the processor.
    pub const UNSWITCHED: [Register; 14] = [
        Register::Cr2,
        Register::Dr0,
        Register::Dr1,
        Register::Dr2,
        Register::Dr3,
        Register::Dr6,
        Register::KernelGsBase,
        Register::Star,
        Register::Lstar,
        Register::Cstar,
        Register::Fmask,
        Register::TscAux,
        Register::Xcr0,
        Register::Xss,
    ];
}

/// A segment or descriptor-table register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum SegmentName {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
    Ldtr,
    Tr,
    Gdtr,
    Idtr,
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The visible selector; zero for GDTR and IDTR.
    pub selector: u16,
    /// Access rights in VMX form: bits 7:0 type, S, DPL, P; 15:12 AVL, L, D/B, G; bit 16 unusable.
    pub access_rights: u32,
    /// The limit in bytes, already scaled by the granularity.
    pub limit: u32,
    /// The linear base.
    pub base: u64,
}
