//! The L2 vCPU, as an emulated instruction sees it.

pub use tdx_defs::vmcs::SegmentAccessRights;
pub use tdx_defs::vp_enter::Gpr;

/// The register whose number in an instruction is the low four bits of `number`.
pub const fn gpr_from_number(number: u8) -> Gpr {
    match number & 0xF {
        0 => Gpr::Rax,
        1 => Gpr::Rcx,
        2 => Gpr::Rdx,
        3 => Gpr::Rbx,
        4 => Gpr::Rsp,
        5 => Gpr::Rbp,
        6 => Gpr::Rsi,
        7 => Gpr::Rdi,
        8 => Gpr::R8,
        9 => Gpr::R9,
        10 => Gpr::R10,
        11 => Gpr::R11,
        12 => Gpr::R12,
        13 => Gpr::R13,
        14 => Gpr::R14,
        _ => Gpr::R15,
    }
}

/// A segment register, numbered as instructions and the VM-exit instruction information do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SegmentRegister {
    /// ES, number 0.
    Es = 0,
    /// CS, number 1.
    Cs = 1,
    /// SS, number 2.
    Ss = 2,
    /// DS, number 3.
    Ds = 3,
    /// FS, number 4.
    Fs = 4,
    /// GS, number 5.
    Gs = 5,
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Base. Significant in 64-bit mode for FS and GS only.
    pub base: u64,
    /// Limit in bytes, granularity applied. Not used in 64-bit mode.
    pub limit: u32,
    /// Access rights.
    pub access_rights: SegmentAccessRights,
}

/// State of the L2 vCPU that exited.
///
/// General registers, RIP and RFLAGS are in L2_ENTER_GUEST_STATE: plain memory. What the
/// other getters return costs a TDG.VP.RD each, so they are called only when an instruction
/// depends on them and never on the cached path of [`crate::mmio::emulate`].
///
/// Control registers are those the L2 believes in: shadow bits in place of masked ones.
pub trait Vcpu {
    /// A general register, all 64 bits.
    fn gpr(&self, register: Gpr) -> u64;
    /// Replaces all 64 bits of a general register.
    fn set_gpr(&mut self, register: Gpr, value: u64);
    /// RIP.
    fn rip(&self) -> u64;
    /// Replaces RIP.
    fn set_rip(&mut self, value: u64);
    /// RFLAGS.
    fn rflags(&self) -> u64;
    /// Replaces RFLAGS.
    fn set_rflags(&mut self, value: u64);

    /// CR0.
    fn cr0(&self) -> u64;
    /// CR3.
    fn cr3(&self) -> u64;
    /// CR4.
    fn cr4(&self) -> u64;
    /// IA32_EFER. NXE must be what the page tables are checked with: set under TDX.
    fn efer(&self) -> u64;
    /// A segment register.
    fn segment(&self, register: SegmentRegister) -> Segment;
    /// The base of a segment register alone.
    fn segment_base(&self, register: SegmentRegister) -> u64 {
        self.segment(register).base
    }
    /// PDPTE `index` (0 to 3) as loaded by the last MOV to CR3 under PAE paging.
    fn pdpte(&self, index: u8) -> u64;
    /// PKRU; asked for only if CR4.PKE is set. An L1 that does not offer PKU to L2 keeps this.
    fn pkru(&self) -> u32 {
        0
    }
    /// MAXPHYADDR as L2's CPUID reports it: higher bits of a paging entry are reserved.
    fn physical_address_width(&self) -> u32 {
        52
    }

    /// Replaces CR2, before a page fault is injected.
    fn set_cr2(&mut self, value: u64);
    /// An emulated instruction completed with RFLAGS.TF set: ends blocking by STI and MOV SS
    /// and, unless DEBUGCTL.BTF, makes BS pending in the pending debug exceptions.
    ///
    /// Without TF the blocking is left as it is: it then lasts one instruction longer than it
    /// should, which no software can rely on, and costs no TDCALL.
    fn single_step(&mut self);
}
