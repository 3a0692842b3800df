//! What ends a run of a VM.

#![allow(missing_docs)] // The constants that the macro makes have none; every item here has one.

use crate::platform::Event;
use bitfield_struct::bitfield;

/// What ends a run, beyond what always does.
///
/// Always on: CPUID, HLT, every port, INVD, WBINVD, MONITOR, MWAIT, XSETBV, VMCALL and SVM or VMX
/// instructions, writes to CR0 and CR4, host interrupts and NMIs, triple faults, and #UD (which is
/// how a processor without TDX reports TDCALL).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Intercepts {
    /// Ends the run before the next instruction at which an interrupt could be taken.
    pub interrupt_window: bool,
    /// Ends the run before the next instruction at which an NMI could be taken.
    pub nmi_window: bool,
    /// IRET: the handler of an NMI is about to end.
    pub iret: bool,
    /// MOV to CR3.
    pub cr3_load: bool,
    /// MOV from CR3.
    pub cr3_store: bool,
    /// MOV to CR8.
    pub cr8_load: bool,
    /// MOV from CR8.
    pub cr8_store: bool,
    /// MOV from CR0 and CR4, and SMSW: a shadow differs from the register.
    pub cr_read: bool,
    /// INVLPG and INVPCID.
    pub invlpg: bool,
    /// RDPMC.
    pub rdpmc: bool,
    /// RDTSC and RDTSCP.
    pub rdtsc: bool,
    /// PAUSE.
    pub pause: bool,
    /// MOV to and from a debug register.
    pub debug_registers: bool,
    /// LGDT, SGDT, LIDT, SIDT, LLDT, SLDT, LTR, STR.
    pub descriptor_tables: bool,
    #[bits(18)]
    __: u32,
    /// Exceptions by vector, bit n for vector n.
    pub exceptions: u32,
}

/// An access to a port, as the machine reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoExit {
    /// The port.
    pub port: u16,
    /// 1, 2 or 4 bytes.
    pub width: u8,
    /// IN or INS.
    pub input: bool,
    /// INS or OUTS.
    pub string: bool,
    /// A REP prefix.
    pub repeat: bool,
}

/// Why the machine stopped running a VM. RIP is at the instruction unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HardwareExit {
    /// An intercepted exception. TDCALL is `vector` 6 at bytes 66 0F 01 CC.
    Exception {
        /// The vector.
        vector: u8,
        /// The error code, for vectors that have one.
        error_code: Option<u32>,
        /// The linear address of a page fault. The VM's own CR2 is unchanged.
        cr2: u64,
    },
    /// An interrupt for the host, or its timer; between instructions.
    Interrupt,
    /// A non-maskable interrupt for the host; between instructions.
    Nmi,
    /// The interrupt window that was asked for is open; between instructions.
    InterruptWindow,
    /// The NMI window that was asked for is open; between instructions.
    NmiWindow,
    /// An intercepted IRET.
    Iret,
    /// CPUID.
    Cpuid,
    /// HLT.
    Hlt,
    /// IN, OUT, INS or OUTS.
    Io(IoExit),
    /// RDMSR.
    ReadMsr,
    /// WRMSR.
    WriteMsr,
    /// An access that the second-stage tables do not allow.
    NestedPageFault {
        /// The guest physical address, shared bit included.
        gpa: u64,
        /// The access was a write.
        write: bool,
        /// The access was an instruction fetch.
        fetch: bool,
        /// The access was to a guest page table, not to its translation's result.
        page_walk: bool,
    },
    /// Any intercepted MOV to or from a control register, CLTS, LMSW or SMSW.
    CrAccess,
    /// MOV to or from a debug register.
    DrAccess,
    /// XSETBV.
    Xsetbv,
    /// WBINVD, WBNOINVD or INVD: the machine does not always tell them apart, the bytes do.
    CacheFlush,
    /// RDTSC or RDTSCP.
    Rdtsc,
    /// RDPMC.
    Rdpmc,
    /// INVLPG or INVPCID.
    Invlpg,
    /// LGDT, SGDT, LIDT, SIDT, LLDT, SLDT, LTR or STR.
    DescriptorTable,
    /// PAUSE.
    Pause,
    /// MONITOR.
    Monitor,
    /// MWAIT.
    Mwait,
    /// VMCALL or VMMCALL.
    Vmcall,
    /// An instruction of the machine's own virtualization extension, which a TD does not have.
    VirtualizationInstruction,
    /// A task switch.
    TaskSwitch,
    /// A triple fault.
    TripleFault,
    /// The processor refused the VM's state: nothing was run.
    Invalid,
}

/// The end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exited {
    /// Why the run ended.
    pub exit: HardwareExit,
    /// The event that was being delivered when it did.
    pub vectoring: Option<Event>,
}

impl From<HardwareExit> for Exited {
    fn from(exit: HardwareExit) -> Exited {
        Exited {
            exit,
            vectoring: None,
        }
    }
}
