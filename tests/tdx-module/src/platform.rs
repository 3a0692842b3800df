//! What the module asks of the machine it runs on, and how the machine answers.
//!
//! The module decides; a [`Platform`] carries out. On the bench a platform is a set of SVM control
//! blocks and nested page tables; in `cargo test` it is a set of maps
//! ([`test_platform`](crate::test_platform)). The vocabulary is VMX's wherever TDX shows VMX to a
//! guest (access rights, interruption information), so that a platform that is not VMX converts at
//! its own edge.

use tdcall::{PageLevel, Registers, VmIndex};

/// A hardware context: the state of one VM of the TD's only virtual processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Vm {
    /// VM 0, the L1 VMM.
    L1,
    /// One of the VMs that L1 runs.
    L2(VmIndex),
}

impl Vm {
    /// The VM's number as metadata field ids, GPA attributes and TD exits have it.
    pub fn number(self) -> u8 {
        match self {
            Vm::L1 => 0,
            Vm::L2(index) => index.get(),
        }
    }
}

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
    /// Access rights in VMX form: [7:0] type, S, DPL, P; [15:12] AVL, L, D/B, G; bit 16 unusable.
    pub access_rights: u32,
    /// The limit in bytes, already scaled by the granularity.
    pub limit: u32,
    /// The linear base.
    pub base: u64,
}

/// How a page of second-stage memory may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Reads.
    pub read: bool,
    /// Writes.
    pub write: bool,
    /// Fetches in supervisor mode, or any fetch without mode-based execute control.
    pub execute_supervisor: bool,
    /// Fetches in user mode under mode-based execute control.
    pub execute_user: bool,
}

impl Permissions {
    /// What L1 has on each of its mapped pages.
    pub const ALL: Permissions = Permissions {
        read: true,
        write: true,
        execute_supervisor: true,
        execute_user: true,
    };
}

/// The kind of an event that is delivered through the IDT (SDM volume 3, "VM-entry
/// interruption-information field").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// An external interrupt.
    ExternalInterrupt = 0,
    /// A non-maskable interrupt.
    Nmi = 2,
    /// A fault, trap or abort raised by the processor.
    HardwareException = 3,
    /// INT n.
    SoftwareInterrupt = 4,
    /// INT1.
    PrivilegedSoftwareException = 5,
    /// INT3 or INTO.
    SoftwareException = 6,
}

/// An event to deliver, or one whose delivery an exit cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The IDT vector.
    pub vector: u8,
    /// How the event came about.
    pub kind: EventKind,
    /// The error code to push.
    pub error_code: Option<u32>,
    /// The length of the instruction for the three software kinds; else zero.
    pub instruction_length: u8,
}

impl Event {
    /// A hardware exception.
    pub const fn exception(vector: u8, error_code: Option<u32>) -> Event {
        Event {
            vector,
            kind: EventKind::HardwareException,
            error_code,
            instruction_length: 0,
        }
    }

    /// An external interrupt.
    pub const fn interrupt(vector: u8) -> Event {
        Event {
            vector,
            kind: EventKind::ExternalInterrupt,
            error_code: None,
            instruction_length: 0,
        }
    }

    /// #GP(0).
    pub const GENERAL_PROTECTION: Event = Event::exception(13, Some(0));
    /// #UD.
    pub const INVALID_OPCODE: Event = Event::exception(6, None);
    /// #VE.
    pub const VIRTUALIZATION: Event = Event::exception(20, None);
    /// #DF(0).
    pub const DOUBLE_FAULT: Event = Event::exception(8, Some(0));

    /// The event as VM-entry or IDT-vectoring interruption information, valid bit set.
    pub const fn information(&self) -> u32 {
        let error_code_valid = match self.error_code {
            Some(_) => 1 << 11,
            None => 0,
        };
        1 << 31 | error_code_valid | (self.kind as u32) << 8 | self.vector as u32
    }

    /// The event that interruption information describes; `None` if it is not valid or its kind
    /// is not one that is delivered through the IDT.
    pub const fn from_information(
        information: u32,
        error_code: u32,
        instruction_length: u32,
    ) -> Option<Event> {
        if information & 1 << 31 == 0 {
            return None;
        }
        let kind = match information >> 8 & 7 {
            0 => EventKind::ExternalInterrupt,
            2 => EventKind::Nmi,
            3 => EventKind::HardwareException,
            4 => EventKind::SoftwareInterrupt,
            5 => EventKind::PrivilegedSoftwareException,
            6 => EventKind::SoftwareException,
            _ => return None,
        };
        Some(Event {
            vector: information as u8,
            kind,
            error_code: if information & 1 << 11 != 0 {
                Some(error_code)
            } else {
                None
            },
            instruction_length: instruction_length as u8,
        })
    }
}

/// What ends a run, beyond what always does.
///
/// Always on: CPUID, HLT, every port, INVD, WBINVD, MONITOR, MWAIT, XSETBV, VMCALL and SVM or VMX
/// instructions, writes to CR0 and CR4, host interrupts and NMIs, triple faults, and #UD (which is
/// how a processor without TDX reports TDCALL).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intercepts {
    /// Ends the run before the next instruction at which an interrupt could be taken.
    pub interrupt_window: bool,
    /// Ends the run before the next instruction at which an NMI could be taken.
    pub nmi_window: bool,
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
    /// Exceptions by vector, bit n for vector n.
    pub exceptions: u32,
}

/// A leaf of the platform's own CPUID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CpuidResult {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

/// The machine under the module.
///
/// Addresses named `hpa` are the machine's physical addresses; they reach the module only through
/// the host's SEAMCALLs. Everything is infallible: an address the host was not entitled to give is
/// a fault of the bench, not of the model.
pub trait Platform {
    /// Reads machine memory.
    fn read(&mut self, hpa: u64, into: &mut [u8]);
    /// Writes machine memory.
    fn write(&mut self, hpa: u64, from: &[u8]);
    /// Clears machine memory.
    fn zero(&mut self, hpa: u64, length: u64);

    /// Maps a private page of `vm`, or changes its permissions.
    fn map(&mut self, vm: Vm, gpa: u64, level: PageLevel, hpa: u64, permissions: Permissions);
    /// Takes a private page of `vm` out of its second-stage tables.
    fn unmap(&mut self, vm: Vm, gpa: u64, level: PageLevel);
    /// The machine page that the host has put at a shared GPA (given without the shared bit, 4 KiB
    /// aligned), if any.
    fn shared_page(&mut self, gpa: u64) -> Option<u64>;
    /// Whether `vm` reaches the host's shared pages at all (L2_CTLS.ENABLE_SHARED_EPTP).
    fn set_shared_access(&mut self, vm: Vm, allowed: bool);

    /// Reads a register of a VM that is not running.
    fn register(&mut self, vm: Vm, register: Register) -> u64;
    /// Writes a register of a VM that is not running.
    fn set_register(&mut self, vm: Vm, register: Register, value: u64);
    /// Reads a segment register.
    fn segment(&mut self, vm: Vm, name: SegmentName) -> Segment;
    /// Writes a segment register.
    fn set_segment(&mut self, vm: Vm, name: SegmentName, segment: Segment);

    /// Sets the event that the next run of `vm` starts by delivering; `None` withdraws it.
    fn inject(&mut self, vm: Vm, event: Option<Event>);
    /// Sets what ends a run of `vm`.
    fn set_intercepts(&mut self, vm: Vm, intercepts: Intercepts);
    /// Sets whether RDMSR and WRMSR of `msr` end a run of `vm`. All do until told otherwise.
    fn set_msr_intercept(&mut self, vm: Vm, msr: u32, read: bool, write: bool);

    /// The time-stamp counter, which is also the TD's virtual one.
    fn tsc(&mut self) -> u64;
    /// Arms the timer that ends a run with [`HardwareExit::Interrupt`] once `tsc` reaches
    /// `deadline`; `None` disarms it.
    fn set_timer(&mut self, deadline: Option<u64>);
    /// Fills `into` from the machine's generator.
    fn random(&mut self, into: &mut [u8]);
    /// The machine's own CPUID.
    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> CpuidResult;
    /// Reads an MSR of the machine that a VM may use directly.
    fn rdmsr(&mut self, msr: u32) -> u64;
    /// Writes an MSR of the machine that a VM may use directly.
    fn wrmsr(&mut self, msr: u32, value: u64);
    /// Whether a value is one that XSETBV of XCR0 takes on this machine, and if so sets it.
    fn xsetbv(&mut self, value: u64) -> bool;
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

/// What is to happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run this VM until it exits, then call [`Module::handle_exit`](crate::Module::handle_exit).
    Run(Vm),
    /// TDH.VP.ENTER returns to the host.
    TdExit(TdExit),
}

/// What TDH.VP.ENTER gives back to the host (TDX Module ABI, TDH.VP.ENTER, output operands).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdExit {
    /// The registers as the host finds them. RAX has the status in [63:32] and the VMX exit
    /// reason in [31:0]. RCX is the exit qualification, or the TDVMCALL's mask, with the VM number
    /// in [33:32].
    pub registers: Registers,
}
