//! TDCALLs of L2's (exit reason 77): what is asked, and how the answer goes back.
//!
//! The TDX module serves no TDCALL of an L2's unless L1 lets it; each comes to L1 with all of
//! L2's registers. L1 then stands where the module stands for a TD: it checks what the module
//! checks, in its order, and gives the module's codes (TDX Module ABI, "TDCALL instruction").
//!
//! ```text
//! match tdvmcall::decode(&exit, &vcpu) {
//!     Ok(Tdcall::VmCall(call)) => match call.function { .. => call.reply(&exit, &mut vcpu, reply) },
//!     Ok(Tdcall::Leaf(leaf)) => match leaf { .. => tdvmcall::complete(&exit, &mut vcpu, status, &[]) },
//!     Err(refusal) => refusal.apply(&exit, &mut vcpu), // Some(event): inject it
//! }
//! ```

mod leaf;
mod sub_function;

use tdx_defs::ghci::{self, CompletionStatus};
use tdx_defs::status::{Operand, Status};
use tdx_defs::tdg;

use crate::event::Event;
use crate::exit::Exit;
use crate::rip;
use crate::vcpu::{Gpr, Vcpu};

pub use leaf::Leaf;
pub use sub_function::{FatalError, SubFunction};

/// A TDCALL of L2's that has the form of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tdcall {
    /// TDG.VP.VMCALL.
    VmCall(VmCall),
    /// Any other leaf. Answered by [`complete`].
    Leaf(Leaf),
}

/// TDG.VP.VMCALL with its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmCall {
    /// What is asked.
    pub function: SubFunction,
    /// RCX 15:0: the registers that carry arguments and results.
    mask: u16,
}

/// Why a TDCALL is not served at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Refusal {
    /// The instruction faults: RIP stays, nothing is written.
    Fault(Event),
    /// It completes with this status in RAX.
    Status(Status),
    /// TDG.VP.VMCALL completes with success in RAX and this in R10, if R10 is in the mask.
    Completion {
        /// R10.
        status: CompletionStatus,
        /// RCX 15:0.
        mask: u16,
    },
}

impl Refusal {
    /// Writes the refusal to L2 and steps over the TDCALL, or gives the event to inject.
    #[must_use = "the event must be injected"]
    pub fn apply<V: Vcpu>(self, exit: &Exit, vcpu: &mut V) -> Option<Event> {
        match self {
            Self::Fault(event) => return Some(event),
            Self::Status(status) => complete(exit, vcpu, status, &[]),
            Self::Completion { status, mask } => {
                write(exit, vcpu, mask, Reply::new(status));
            }
        }
        None
    }
}

/// Registers that TDG.VP.VMCALL returns. Those that are None keep their value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// R10.
    pub status: CompletionStatus,
    /// R11: data read, or where to go on after RETRY.
    pub r11: Option<u64>,
    /// R12 to R15.
    pub r12_to_r15: Option<[u64; 4]>,
}

impl Reply {
    /// A completion status and no data.
    pub const fn new(status: CompletionStatus) -> Self {
        Self {
            status,
            r11: None,
            r12_to_r15: None,
        }
    }

    /// TDG.VP.VMCALL_SUCCESS.
    pub const SUCCESS: Self = Self::new(CompletionStatus::Success);

    /// TDG.VP.VMCALL_INVALID_OPERAND.
    pub const INVALID_OPERAND: Self = Self::new(CompletionStatus::InvalidOperand);

    /// Success with a value read: IO, RDMSR, MMIO.
    pub const fn value(value: u64) -> Self {
        Self {
            r11: Some(value),
            ..Self::SUCCESS
        }
    }

    /// Success with EAX, EBX, ECX, EDX of CPUID.
    pub const fn cpuid(eax: u32, ebx: u32, ecx: u32, edx: u32) -> Self {
        Self {
            r12_to_r15: Some([eax as u64, ebx as u64, ecx as u64, edx as u64]),
            ..Self::SUCCESS
        }
    }

    /// MapGPA is done up to `next`: the guest calls again from there.
    pub const fn retry(next: u64) -> Self {
        Self {
            r11: Some(next),
            ..Self::new(CompletionStatus::Retry)
        }
    }
}

impl VmCall {
    /// Writes the answer to L2 and steps over the TDCALL. Registers outside the call's mask
    /// stay as they are (GHCI 1.5, "TDG.VP.VMCALL leaf").
    pub fn reply<V: Vcpu>(self, exit: &Exit, vcpu: &mut V, reply: Reply) {
        write(exit, vcpu, self.mask, reply);
    }
}

/// Completes a TDCALL with `status` in RAX and the output registers of its leaf, and steps
/// over it.
pub fn complete<V: Vcpu>(exit: &Exit, vcpu: &mut V, status: Status, outputs: &[(Gpr, u64)]) {
    vcpu.set_gpr(Gpr::Rax, status.0);
    for (register, value) in outputs {
        vcpu.set_gpr(*register, *value);
    }
    rip::advance(exit, vcpu);
}

fn write<V: Vcpu>(exit: &Exit, vcpu: &mut V, mask: u16, reply: Reply) {
    let [r12, r13, r14, r15] = match reply.r12_to_r15 {
        Some(values) => values.map(Some),
        None => [None; 4],
    };
    for (register, value) in [
        (Gpr::R10, Some(reply.status.r10())),
        (Gpr::R11, reply.r11),
        (Gpr::R12, r12),
        (Gpr::R13, r13),
        (Gpr::R14, r14),
        (Gpr::R15, r15),
    ] {
        if let Some(value) = value
            && in_mask(mask, register)
        {
            vcpu.set_gpr(register, value);
        }
    }
    complete(exit, vcpu, Status::SUCCESS, &[]);
}

const fn in_mask(mask: u16, register: Gpr) -> bool {
    mask >> register as u8 & 1 != 0
}

/// Arguments of TDG.VP.VMCALL: a register outside the mask reads as 0, as a host sees it.
struct Arguments<'a, V> {
    vcpu: &'a V,
    mask: u16,
}

impl<V: Vcpu> Arguments<'_, V> {
    fn get(&self, register: Gpr) -> u64 {
        if in_mask(self.mask, register) {
            self.vcpu.gpr(register)
        } else {
            0
        }
    }
}

/// Reads L2's TDCALL: one exit with [`crate::Reason::Tdcall`] and an origin other than
/// [`crate::Origin::HostRoutedTdvmcall`].
///
/// * CPL above 0: #GP(0), the instruction's own fault.
/// * Not in 64-bit code: #GP(0), as the module answers.
/// * Unknown leaf or version, reserved bits in RAX: TDX_OPERAND_INVALID, operand RAX.
/// * TDG.VP.VMCALL with RAX, RCX, RSP or anything above bit 31 in RCX: TDX_OPERAND_INVALID,
///   operand RCX. XMM registers may be named there; no sub-function that L1 serves has any
///   use for them, and they keep their values. RBP may be named whatever CONFIG_FLAGS say: L1
///   does not write it.
/// * Sub-function arguments out of their range, vendor calls (R10 not 0) and unknown
///   sub-functions: TDG.VP.VMCALL_INVALID_OPERAND in R10.
pub fn decode<V: Vcpu>(exit: &Exit, vcpu: &V) -> Result<Tdcall, Refusal> {
    if exit.cpl != 0 || !exit.is_64_bit(vcpu) {
        return Err(Refusal::Fault(Event::general_protection()));
    }
    let rax = vcpu.gpr(Gpr::Rax);
    let invalid = |operand| Refusal::Status(Status::operand_invalid(operand));
    if rax != tdg::VP_VMCALL {
        return match Leaf::decode(rax, vcpu) {
            Some(leaf) => Ok(Tdcall::Leaf(leaf)),
            None => Err(invalid(Operand::RAX)),
        };
    }
    let rcx = vcpu.gpr(Gpr::Rcx);
    if rcx & ghci::mask::FORBIDDEN != 0 {
        return Err(invalid(Operand::RCX));
    }
    let mask = (rcx & 0xFFFF) as u16;
    match SubFunction::decode(&Arguments { vcpu, mask }) {
        Ok(function) => Ok(Tdcall::VmCall(VmCall { function, mask })),
        Err(status) => Err(Refusal::Completion { status, mask }),
    }
}

#[cfg(test)]
mod tests;
