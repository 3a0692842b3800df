//! The state that TDG.VP.ENTER does not switch: vector registers, XCR0, CR2 and IA32_SPEC_CTRL.
//!
//! At every entry L2's vector state is loaded and at every exit saved, with all state components of
//! [`ExtendedState`] whatever L2's XCR0 says, so nothing of L1's (keys pass through vector registers)
//! is ever in a register that L2 can read. L1 then runs on with its registers in their initial
//! state. XCR0 and IA32_SPEC_CTRL are read at the exit: L2 can have changed them without L1's doing.
//!
//! Not here because L1 has no use for them, so that L2's values simply stay in the processor: DR0 to
//! DR3 and DR6 (DR7, which arms them, is switched; L1 writes them for L2's INIT), IA32_XSS (L1 uses no XSAVES), STAR, LSTAR,
//! FMASK, KERNEL_GS_BASE and TSC_AUX.

use core::arch::x86_64::{__cpuid_count, _xsetbv};
use core::arch::{asm, naked_asm};
use core::cell::Cell;
use core::mem::offset_of;
use x86_defs::msr::{
    IA32_FMASK, IA32_KERNEL_GS_BASE, IA32_LSTAR, IA32_SPEC_CTRL, IA32_STAR, IA32_TSC_AUX,
};

use tdcall::hw::{Speculation, tdcall_between_barriers};
use tdcall::{RawTdcall, Td};
use tdx_defs::status::{Operand, Status};
use tdx_defs::{Registers, tdg};
use x86::controlregs::{Cr0, Cr4, cr0, cr0_write, cr4, cr4_write};
use x86::msr::wrmsr;

use crate::fatal::{FatalCode, fatal};

/// State components that L2 may use: x87, SSE, AVX and AVX-512. No AMX: its state can be lost in an
/// XSAVE under IA32_XFD, which is not switched.
const OFFERED: u64 = 0xE7;
/// Room for the components above in standard format.
const AREA: usize = 0xA80;

/// IA32_SPEC_CTRL of L1: IBRS, which in a processor with TDX is of the enhanced kind and stays set.
const SPEC_CTRL_IBRS: u64 = 1;

/// IA32_FMASK of a new virtual processor (TDX Module Base Specification, initial state of guest MSRs).
const FMASK_INITIAL: u64 = 0x2_0200;

/// An XSAVE area in standard format (SDM volume 1, "XSAVE Area") and what goes with it.
#[repr(C, align(64))]
struct State {
    area: [u8; AREA],
    xcr0: u64,
    cr2: u64,
}

impl State {
    /// Every component in its initial configuration: XSTATE_BV is 0.
    const fn initial() -> Self {
        let mut area = [0; AREA];
        // FCW, and MXCSR, which XRSTOR takes from the area even so.
        [area[0], area[1]] = 0x037F_u16.to_le_bytes();
        [area[24], area[25], area[26], area[27]] = 0x1F80_u32.to_le_bytes();
        Self {
            area,
            xcr0: 1,
            cr2: 0,
        }
    }
}

/// What every processor's registers are loaded with for L1.
static L1: State = State::initial();

/// The extended state of L2's virtual processor and how this processor switches it.
pub(crate) struct ExtendedState {
    l2: State,
    /// The components that L1 switches: what L2's XCR0 may have at most.
    components: u64,
    speculation: Speculation,
}

impl ExtendedState {
    /// Before [`start`](Self::start).
    pub(crate) const fn new() -> Self {
        Self {
            l2: State::initial(),
            components: 1,
            speculation: Speculation {
                barrier: false,
                control: false,
                l1: SPEC_CTRL_IBRS,
                l2: 0,
            },
        }
    }

    /// Enables SSE and XSAVE for L1, with every component that L2 may use.
    pub(super) fn start(&mut self) {
        let cpuid = |leaf, sub_leaf| __cpuid_count(leaf, sub_leaf);
        let xsave = cpuid(1, 0).ecx & 1 << 26 != 0;
        if !xsave {
            fatal(
                FatalCode::Processor,
                format_args!("the processor has no XSAVE"),
            );
        }
        let supported = cpuid(0xD, 0);
        let components = (u64::from(supported.edx) << 32 | u64::from(supported.eax)) & OFFERED;
        let speculation_control = cpuid(7, 0).edx & 1 << 26 != 0;
        let barrier = speculation_control || cpuid(0x8000_0008, 0).ebx & 1 << 12 != 0;
        // SAFETY: enables what CPUID says is there (1: OSFXSR and OSXMMEXCPT for SSE, OSXSAVE for
        // XSAVE; 2: x87 and SSE are always among the components, as XCR0 demands; 3: IBRS); L1 has no
        // state in the new components yet.
        unsafe {
            let cr0 = cr0() - Cr0::CR0_EMULATE_COPROCESSOR - Cr0::CR0_TASK_SWITCHED;
            cr0_write(cr0 | Cr0::CR0_MONITOR_COPROCESSOR | Cr0::CR0_WRITE_PROTECT);
            cr4_write(
                cr4() | Cr4::CR4_ENABLE_SSE | Cr4::CR4_UNMASKED_SSE | Cr4::CR4_ENABLE_OS_XSAVE,
            );
            _xsetbv(0, components);
            if speculation_control {
                wrmsr(IA32_SPEC_CTRL, SPEC_CTRL_IBRS);
            }
        }
        self.components = components;
        self.speculation.barrier = barrier;
        self.speculation.control = speculation_control;
        let needed = cpuid(0xD, 0).ebx as usize;
        if needed > AREA {
            fatal(
                FatalCode::Processor,
                format_args!(
                    "the XSAVE area of the processor has {needed} bytes, more than {AREA}"
                ),
            );
        }
    }

    /// L2's XCR0 as of its last exit.
    pub(crate) fn l2_xcr0(&self) -> u64 {
        self.l2.xcr0
    }

    /// Replaces L2's XCR0, of which only the components that L1 switches stay. The caller has checked it
    /// as XSETBV would.
    pub(crate) fn set_l2_xcr0(&mut self, value: u64) {
        self.l2.xcr0 = value & self.components | 1;
    }

    /// Replaces L2's CR2.
    pub(crate) fn set_l2_cr2(&mut self, value: u64) {
        self.l2.cr2 = value;
    }

    /// DR0 to DR3 and DR6 become what they are after INIT. L2's values are in the processor, which `&mut self` says is
    /// the caller's.
    pub(crate) fn reset_l2_debug_registers(&mut self) {
        const DR6: u64 = 0xFFFF_0FF0;
        // SAFETY: L1 uses none of them: no breakpoint is enabled in its DR7, and no handler of its reads DR6. The TDX
        // module leaves MOV DR to the TD, without an exit.
        unsafe {
            asm!(
                "mov dr0, {zero}",
                "mov dr1, {zero}",
                "mov dr2, {zero}",
                "mov dr3, {zero}",
                "mov dr6, {dr6}",
                zero = in(reg) 0_u64,
                dr6 = in(reg) DR6,
                options(nomem, nostack, preserves_flags),
            );
        }
    }

    /// Everything of L2's that is here, or in a register of the processor that is L2's alone, becomes what it is after a
    /// reset.
    pub(crate) fn reset_l2(&mut self) {
        self.l2 = State::initial();
        self.speculation.l2 = 0;
        self.reset_l2_debug_registers();
        for (register, value) in [
            (IA32_STAR, 0),
            (IA32_LSTAR, 0),
            (IA32_FMASK, FMASK_INITIAL),
            (IA32_KERNEL_GS_BASE, 0),
            (IA32_TSC_AUX, 0),
        ] {
            // SAFETY: registers that every processor with TDX has, which L1 uses for nothing: no SYSCALL, no SWAPGS, no
            // RDTSCP of its own. The TDX module leaves them to the TD.
            unsafe { wrmsr(register, value) };
        }
    }

    /// The TDX module, for TDG.VP.ENTER with this state.
    #[inline]
    pub(crate) fn entry(&mut self) -> Td<Entry<'_>> {
        Td::new(Entry(Cell::from_mut(self)))
    }
}

/// TDG.VP.ENTER with the state that the module does not switch; no other leaf.
pub(crate) struct Entry<'a>(&'a Cell<ExtendedState>);

impl RawTdcall for Entry<'_> {
    #[inline]
    fn tdcall(&self, registers: &mut Registers) {
        if registers.rax != tdg::VP_ENTER {
            return refuse(registers);
        }
        let state = self.0.as_ptr();
        // SAFETY: the areas are 64-byte aligned and hold every component (checked by `start`), XCR0
        // has every component, `speculation` names what CPUID has. The borrow in `self` is exclusive
        // and the value stays on this processor, whose handlers do not reach it. The TDCALL is
        // covered by the contract under which `Instruction` was made.
        unsafe {
            switch_and_enter(
                registers,
                &raw mut (*state).l2,
                &raw const L1,
                (*state).components,
                &raw mut (*state).speculation,
            );
        }
    }
}

/// Answers as the module does to a leaf that it does not have.
pub(super) fn refuse(registers: &mut Registers) {
    registers.rax = Status::operand_invalid(Operand::RAX).0;
}

/// Loads L2's state, executes, saves L2's state, loads L1's initial state.
///
/// # Safety
/// `l2` and `l1` are XSAVE areas for `components`, which are those in XCR0, and nobody else uses
/// them; otherwise as [`tdcall_between_barriers`].
#[unsafe(naked)]
unsafe extern "sysv64" fn switch_and_enter(
    registers: *mut Registers,
    l2: *mut State,
    l1: *const State,
    components: u64,
    speculation: *mut Speculation,
) {
    naked_asm!(
        "push rbx",
        "push r12",
        "push r13",
        "mov rbx, rsi",
        "mov r12, rdx",
        "mov r13, rcx",
        "mov rax, r13",
        "mov rdx, r13",
        "shr rdx, 32",
        "xrstor64 [rbx]",
        "mov rax, [rbx + {cr2}]",
        "mov cr2, rax",
        "mov rax, [rbx + {xcr0}]",
        "cmp rax, r13",
        "je 2f",
        "mov rdx, rax",
        "shr rdx, 32",
        "xor ecx, ecx",
        "xsetbv",
        "2:",
        "mov rsi, r8",
        "call {tdcall}",
        "mov rax, cr2",
        "mov [rbx + {cr2}], rax",
        "xor ecx, ecx",
        "xgetbv",
        "shl rdx, 32",
        "or rax, rdx",
        "mov [rbx + {xcr0}], rax",
        "mov rdx, r13",
        "shr rdx, 32",
        "cmp rax, r13",
        "mov rax, r13",
        "je 3f",
        "xsetbv",
        "3:",
        "xsave64 [rbx]",
        "xrstor64 [r12]",
        "pop r13",
        "pop r12",
        "pop rbx",
        "ret",
        xcr0 = const offset_of!(State, xcr0),
        cr2 = const offset_of!(State, cr2),
        tdcall = sym tdcall_between_barriers,
    )
}
