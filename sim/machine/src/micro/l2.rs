//! What a micro-guest's L2 runs, and the steps by which L1 lets it.
//!
//! L2 starts in the state the module gives it: 32-bit protected mode, flat, without paging.

use core::arch::global_asm;

use tdx_defs::attributes::{AttrFlags, GpaAttributes, Mapping, VmAttributeFlags, VmAttributes};
use tdx_defs::field::FieldId;
use tdx_defs::status::Code as StatusCode;
use tdx_defs::tdg;
use tdx_defs::vmcs::VmcsField;
use tdx_defs::vp_enter::{Gpr, GuestState};
use tdx_defs::{Gpa, PageLevel, VmIndex};
use zerocopy::IntoBytes;

use super::firmware::{Code, between};
use super::layout;
use super::script::Step;
use crate::arch::memory;

/// Declares programs: a name, and the code.
macro_rules! programs {
    ($($(#[$doc:meta])* $name:ident = $label:ident: $code:literal;)*) => {
        global_asm!(
            ".section .rodata",
            ".code32",
            $(
                concat!(".globl ", stringify!($label)),
                concat!(stringify!($label), ":"),
                $code,
                concat!(".globl ", stringify!($label), "_end"),
                concat!(stringify!($label), "_end:"),
            )*
            ".code64",
            ".text",
            secret = const layout::SECRET,
            data = const layout::L2_DATA,
            pending = const layout::PENDING_LARGE,
            hole = const layout::HOLE,
        );
        mod labels {
            unsafe extern "C" {
                $(pub(super) safe static $label: u8;)*
            }
        }
        mod ends {
            unsafe extern "C" {
                $(
                    #[link_name = concat!(stringify!($label), "_end")]
                    pub(super) safe static $label: u8;
                )*
            }
        }
        /// A program.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Program {
            $($(#[$doc])* $name,)*
        }
        impl Program {
            fn code(self) -> &'static [u8] {
                match self {
                    $(Self::$name => between(&raw const labels::$label, &raw const ends::$label),)*
                }
            }
        }
    };
}

programs! {
    /// CPUID, HLT.
    CpuidHlt = l2_cpuid_hlt: "cpuid; hlt";
    /// HLT.
    Hlt = l2_hlt: "hlt";
    /// OUT 0x80, AL.
    OutImmediate = l2_out_immediate: "out 0x80, al; hlt";
    /// IN EAX, DX.
    InDx = l2_in_dx: "in eax, dx; hlt";
    /// REP OUTSB.
    RepOutsb = l2_rep_outsb: "rep outsb; hlt";
    /// RDMSR.
    Rdmsr = l2_rdmsr: "rdmsr; hlt";
    /// WRMSR.
    Wrmsr = l2_wrmsr: "wrmsr; hlt";
    /// WBINVD.
    Wbinvd = l2_wbinvd: "wbinvd; hlt";
    /// INVD.
    Invd = l2_invd: "invd; hlt";
    /// MOV CR0, EAX.
    WriteCr0 = l2_write_cr0: "mov cr0, eax; hlt";
    /// MOV CR4, EBX.
    WriteCr4 = l2_write_cr4: "mov cr4, ebx; hlt";
    /// CLTS.
    Clts = l2_clts: "clts; hlt";
    /// RDPMC.
    Rdpmc = l2_rdpmc: "rdpmc; hlt";
    /// RDTSC.
    Rdtsc = l2_rdtsc: "rdtsc; hlt";
    /// PAUSE.
    Pause = l2_pause: "pause; hlt";
    /// MOV DR0, EAX.
    WriteDr0 = l2_write_dr0: "mov dr0, eax; hlt";
    /// MOV CR3, EAX.
    WriteCr3 = l2_write_cr3: "mov cr3, eax; hlt";
    /// MOV EAX, CR3.
    ReadCr3 = l2_read_cr3: "mov eax, cr3; hlt";
    /// INVLPG.
    Invlpg = l2_invlpg: "invlpg [{data}]; hlt";
    /// SGDT.
    Sgdt = l2_sgdt: "sgdt [{data}]; hlt";
    /// MONITOR.
    Monitor = l2_monitor: "xor ecx, ecx; monitor; hlt";
    /// MWAIT.
    Mwait = l2_mwait: "xor ecx, ecx; mwait; hlt";
    /// VMCALL.
    Vmcall = l2_vmcall: ".byte 0x0f, 0x01, 0xc1; hlt";
    /// RDMSR of KERNEL_GS_BASE, then WRMSR of another value.
    KernelGsBase = l2_kernel_gs_base: "mov ecx, 0xc0000102; rdmsr; mov [{data}], eax; mov eax, 0x2222; xor edx, edx; wrmsr; hlt";
    /// TDCALL.
    Tdcall = l2_tdcall: ".byte 0x66, 0x0f, 0x01, 0xcc; hlt";
    /// UD2 without an IDT: a triple fault.
    TripleFault = l2_triple_fault: "ud2";
    /// DIV by zero.
    DivideError = l2_divide_error: "xor ecx, ecx; div ecx; hlt";
    /// STI; NOP; HLT.
    InterruptsOn = l2_interrupts_on: "sti; nop; nop; hlt";
    /// Runs on the spot.
    Spin = l2_spin: "2: jmp 2b";
    /// Reads L1's page.
    ReadSecret = l2_read_secret: "mov eax, [{secret}]; hlt";
    /// Writes L1's page.
    WriteSecret = l2_write_secret: "mov [{secret}], eax; hlt";
    /// Executes L1's page.
    ExecuteSecret = l2_execute_secret: "mov eax, {secret}; jmp eax";
    /// Reads a page that nobody has accepted.
    ReadPending = l2_read_pending: "mov eax, [{pending}]; hlt";
    /// Reads where there is nothing.
    ReadHole = l2_read_hole: "mov eax, [{hole}]; hlt";
    /// Stores YMM0, then changes it.
    Vectors = l2_vectors: "vmovdqu [{data}], ymm0; vpxor ymm0, ymm0, ymm0; vpcmpeqd xmm0, xmm0, xmm0; hlt";
    /// In real mode: CS, and a word of DS that is one more then.
    Real = l2_real: ".code16; mov ax, cs; mov bx, [0]; inc bx; mov [2], bx; hlt; .code32";
    /// In real mode: a word of DS.
    RealRead = l2_real_read: ".code16; mov ax, [0]; hlt; .code32";
    /// From real to protected mode, and a flat segment's word.
    RealToProtected = l2_real_to_protected: ".code16; mov eax, cr0; or al, 1; mov cr0, eax; mov ebx, cr0; mov eax, [0]; hlt; .code32";
    /// Stores CR2, then changes it.
    Cr2 = l2_cr2: "mov eax, cr2; mov [{data}], eax; mov eax, 0x2222; mov cr2, eax; hlt";
}

/// The L2 VM that micro-guests have.
pub(super) const VM: VmIndex = VmIndex::FIRST;

/// The value that a general register of L2 starts with.
pub(super) fn pattern(register: Gpr) -> u64 {
    0x1111 * (register as u64 + 1)
}

/// Puts the program and its starting state into memory.
pub(super) fn load(program: Program) {
    memory::write(layout::L2_CODE, program.code());
    let mut state = GuestState::new();
    for (number, slot) in (0..).zip(state.gprs.iter_mut()) {
        *slot = 0x1111 * (number + 1);
    }
    state.rip = layout::L2_CODE;
    memory::write(layout::GUEST_STATE, state.as_bytes());
}

/// L1 gives L2 its pages and the module what VP.ENTER needs.
pub(super) fn prelude() -> [Step; 3] {
    [
        give("give L2 its code", layout::L2_CODE),
        give("give L2 its data", layout::L2_DATA),
        write_vmcs(
            "name the virtual-APIC page",
            VmcsField::VIRTUAL_APIC_ADDRESS,
            layout::VAPIC,
        ),
    ]
}

/// L1 gives L2 a page of its own.
pub(super) fn give(what: &'static str, gpa: u64) -> Step {
    let attributes = GpaAttributes::of(VM, VmAttributes::RWX).0;
    allow(what, gpa, attributes).want(Gpr::Rdx, attributes)
}

/// L1 takes it away, and flushes its own processor's translations.
pub(super) fn take_away(what: &'static str, gpa: u64) -> Step {
    let nothing = VmAttributes::new().with_valid(true);
    let flags = VmAttributeFlags::new().with_mask(0xF).with_invept(true);
    allow(what, gpa, GpaAttributes::of(VM, nothing).0).set(Gpr::R8, AttrFlags::of(VM, flags).0)
}

fn allow(what: &'static str, gpa: u64, attributes: u64) -> Step {
    let mapping = Mapping::page(Gpa(gpa), PageLevel::Page4K).into_bits();
    Step::tdcall(what, tdg::MEM_PAGE_ATTR_WR)
        .set(Gpr::Rcx, mapping)
        .set(Gpr::Rdx, attributes)
        .set(Gpr::R8, AttrFlags::permissions(VM).0)
        .want(Gpr::Rax, 0)
        .want(Gpr::Rcx, mapping)
}

/// TDG.VP.WR of a field.
pub(super) fn write_field(what: &'static str, field: FieldId, value: u64) -> Step {
    Step::tdcall(what, tdg::VP_WR)
        .set(Gpr::Rcx, 0)
        .set(Gpr::Rdx, field.0)
        .set(Gpr::R8, value)
        .set(Gpr::R9, u64::MAX)
        .want(Gpr::Rax, 0)
}

/// TDG.VP.WR of a field of L2's VMCS.
pub(super) fn write_vmcs(what: &'static str, field: VmcsField, value: u64) -> Step {
    write_field(what, FieldId::l2_vmcs(VM, field), value)
}

/// TDG.VP.RD of a field of L2's VMCS, into R8.
pub(super) fn read_vmcs(what: &'static str, field: VmcsField) -> Step {
    Step::tdcall(what, tdg::VP_RD)
        .set(Gpr::Rcx, 0)
        .set(Gpr::Rdx, FieldId::l2_vmcs(VM, field).0)
        .want(Gpr::Rax, 0)
}

/// TDG.VP.WR of one bit of a field of L2's VMCS.
pub(super) fn set_control(what: &'static str, field: VmcsField, bit: u32) -> Step {
    write_vmcs(what, field, 1 << bit).set(Gpr::R9, 1 << bit)
}

/// TDG.VP.ENTER, whatever it ends in.
pub(super) fn enter_somehow(what: &'static str) -> Step {
    Step::tdcall(what, tdg::VP_ENTER)
        .set(Gpr::Rcx, u64::from(VM.get()) << 52)
        .set(Gpr::Rdx, layout::GUEST_STATE)
}

/// TDG.VP.ENTER, which is to end so.
pub(super) fn enter(what: &'static str, status: StatusCode, reason: u32) -> Step {
    enter_somehow(what).want(
        Gpr::Rax,
        u64::from(status.upper32()) << 32 | u64::from(reason),
    )
}

/// L1 writes a quadword of its memory.
pub(super) fn store(what: &'static str, gpa: u64, value: u64) -> Step {
    Step::new(what, Code::Store)
        .set(Gpr::Rdi, gpa)
        .set(Gpr::Rax, value)
}

/// L1 reads a quadword of its memory, which must have this value.
pub(super) fn expect(what: &'static str, gpa: u64, value: u64) -> Step {
    Step::new(what, Code::Load)
        .set(Gpr::Rsi, gpa)
        .want(Gpr::Rax, value)
}

/// L1 moves L2 past an instruction of this offset in the program.
pub(super) fn continue_at(offset: u64) -> Step {
    store(
        "step over the instruction",
        layout::GUEST_STATE + core::mem::offset_of!(GuestState, rip) as u64,
        layout::L2_CODE + offset,
    )
}
