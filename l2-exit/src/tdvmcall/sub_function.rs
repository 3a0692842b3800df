//! Sub-functions of TDG.VP.VMCALL (GHCI 1.5, section "TDG.VP.VMCALL leaf").

use tdx_defs::ghci::{
    CompletionStatus, DIRECTION_READ, DIRECTION_WRITE, MmioWidth, STANDARD, Width, sub_function,
};

use super::Arguments;
use crate::vcpu::{Gpr, Vcpu};
use x86_defs::paging::PAGE_4K;

/// Guest-physical addresses have at most 52 bits.
const GPA_END: u64 = 1 << 52;

/// What L2 asks of its VMM, arguments in their ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubFunction {
    /// Instruction.CPUID.
    Cpuid {
        /// EAX.
        leaf: u32,
        /// ECX.
        subleaf: u32,
    },
    /// Instruction.HLT.
    Hlt {
        /// Interrupts are blocked in the guest.
        interrupts_blocked: bool,
    },
    /// Instruction.IO, in.
    IoRead {
        /// Port.
        port: u16,
        /// Width.
        width: Width,
    },
    /// Instruction.IO, out.
    IoWrite {
        /// Port.
        port: u16,
        /// Width.
        width: Width,
        /// Data, bits above the width cleared.
        value: u32,
    },
    /// Instruction.RDMSR.
    Rdmsr {
        /// ECX.
        index: u32,
    },
    /// Instruction.WRMSR.
    Wrmsr {
        /// ECX.
        index: u32,
        /// EDX:EAX.
        value: u64,
    },
    /// #VE.RequestMMIO, read.
    MmioRead {
        /// Address, with the shared bit if the guest set it.
        gpa: u64,
        /// Width.
        width: MmioWidth,
    },
    /// #VE.RequestMMIO, write.
    MmioWrite {
        /// Address, with the shared bit if the guest set it.
        gpa: u64,
        /// Width.
        width: MmioWidth,
        /// Data, bits above the width cleared.
        value: u64,
    },
    /// Instruction.WBINVD.
    Wbinvd,
    /// GetTdVmCallInfo.
    GetTdVmCallInfo {
        /// Leaf.
        leaf: u64,
    },
    /// MapGPA: 4 KiB-aligned, not beyond 52 bits.
    MapGpa {
        /// First address; its shared bit is the wanted state.
        gpa: u64,
        /// Bytes.
        size: u64,
    },
    /// GetQuote: 4 KiB-aligned.
    GetQuote {
        /// Address of the buffer.
        gpa: u64,
        /// Bytes.
        size: u64,
    },
    /// ReportFatalError.
    ReportFatalError(FatalError),
    /// SetupEventNotifyInterrupt.
    SetupEventNotifyInterrupt {
        /// 32 to 255.
        vector: u8,
    },
    /// Service: both buffers 4 KiB-aligned.
    Service {
        /// Address of the command.
        command: u64,
        /// Address of the response.
        response: u64,
        /// Vector to notify, 32 to 255; None: the call is over when it returns.
        vector: Option<u8>,
        /// Time-out, in the service's unit.
        timeout: u64,
    },
}

/// What a guest says with its last words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FatalError {
    /// R12.
    pub code: u64,
    /// R13: address of further information, if bit 63 of the code is set.
    pub gpa: u64,
    /// ASCII text as Linux passes it, padded with zeros: R14, R15, RBX, RDI, RSI, R8, R9, RDX.
    pub text: [u8; 64],
}

impl SubFunction {
    pub(super) fn decode<V: Vcpu>(arguments: &Arguments<'_, V>) -> Result<Self, CompletionStatus> {
        let invalid = CompletionStatus::InvalidOperand;
        if arguments.get(Gpr::R10) != STANDARD {
            return Err(invalid);
        }
        let r12 = arguments.get(Gpr::R12);
        let r13 = arguments.get(Gpr::R13);
        let r14 = arguments.get(Gpr::R14);
        let r15 = arguments.get(Gpr::R15);
        let narrow = |value: u64| u32::try_from(value).map_err(|_| invalid);
        Ok(match arguments.get(Gpr::R11) {
            sub_function::CPUID => Self::Cpuid {
                leaf: narrow(r12)?,
                subleaf: narrow(r13)?,
            },
            sub_function::HLT => Self::Hlt {
                interrupts_blocked: r12 != 0,
            },
            sub_function::IO => {
                let width = Width::from_bytes(r12).ok_or(invalid)?;
                let port = u16::try_from(r14).map_err(|_| invalid)?;
                match r13 {
                    DIRECTION_READ => Self::IoRead { port, width },
                    DIRECTION_WRITE => Self::IoWrite {
                        port,
                        width,
                        value: (r15 & u64::from(width.mask())) as u32,
                    },
                    _ => return Err(invalid),
                }
            }
            sub_function::RDMSR => Self::Rdmsr {
                index: narrow(r12)?,
            },
            sub_function::WRMSR => Self::Wrmsr {
                index: narrow(r12)?,
                value: r13,
            },
            sub_function::MMIO => {
                let width = MmioWidth::from_bytes(r12).ok_or(invalid)?;
                if r14 > GPA_END - width.bytes() || r14 % PAGE_4K > PAGE_4K - width.bytes() {
                    return Err(invalid);
                }
                match r13 {
                    DIRECTION_READ => Self::MmioRead { gpa: r14, width },
                    DIRECTION_WRITE => Self::MmioWrite {
                        gpa: r14,
                        width,
                        value: r15 & width.mask(),
                    },
                    _ => return Err(invalid),
                }
            }
            sub_function::WBINVD => Self::Wbinvd,
            sub_function::GET_TD_VM_CALL_INFO => Self::GetTdVmCallInfo { leaf: r12 },
            sub_function::MAP_GPA => {
                if !(r12 | r13).is_multiple_of(PAGE_4K) {
                    return Err(CompletionStatus::AlignError);
                }
                range(r12, r13)?;
                Self::MapGpa {
                    gpa: r12,
                    size: r13,
                }
            }
            sub_function::GET_QUOTE => {
                if !(r12 | r13).is_multiple_of(PAGE_4K) {
                    return Err(invalid);
                }
                range(r12, r13)?;
                Self::GetQuote {
                    gpa: r12,
                    size: r13,
                }
            }
            sub_function::REPORT_FATAL_ERROR => Self::ReportFatalError(FatalError {
                code: r12,
                gpa: r13,
                text: text(arguments),
            }),
            sub_function::SETUP_EVENT_NOTIFY_INTERRUPT => Self::SetupEventNotifyInterrupt {
                vector: vector(r12)?,
            },
            sub_function::SERVICE => {
                if !(r12 | r13).is_multiple_of(PAGE_4K) || (r12 | r13) >= GPA_END {
                    return Err(invalid);
                }
                Self::Service {
                    command: r12,
                    response: r13,
                    vector: if r14 == 0 { None } else { Some(vector(r14)?) },
                    timeout: r15,
                }
            }
            _ => return Err(invalid),
        })
    }
}

fn range(gpa: u64, size: u64) -> Result<(), CompletionStatus> {
    match gpa.checked_add(size) {
        Some(end) if size != 0 && end <= GPA_END => Ok(()),
        _ => Err(CompletionStatus::InvalidOperand),
    }
}

fn vector(value: u64) -> Result<u8, CompletionStatus> {
    match u8::try_from(value) {
        Ok(vector @ 32..) => Ok(vector),
        _ => Err(CompletionStatus::InvalidOperand),
    }
}

fn text<V: Vcpu>(arguments: &Arguments<'_, V>) -> [u8; 64] {
    let mut text = [0; 64];
    let registers = [
        Gpr::R14,
        Gpr::R15,
        Gpr::Rbx,
        Gpr::Rdi,
        Gpr::Rsi,
        Gpr::R8,
        Gpr::R9,
        Gpr::Rdx,
    ];
    for (chunk, register) in text.chunks_exact_mut(8).zip(registers) {
        chunk.copy_from_slice(&arguments.get(register).to_le_bytes());
    }
    text
}
