//! What the module asks of the machine it runs on, and how the machine answers.
//!
//! The module decides; a [`Platform`] carries out. On the simulator a platform is a set of SVM control
//! blocks and nested page tables; in `cargo test` it is a set of maps
//! ([`test_platform`](crate::test_platform)). The vocabulary is VMX's wherever TDX shows VMX to a
//! guest (access rights, interruption information), so that a platform that is not VMX converts at
//! its own edge.

mod event;
mod exit;
mod register;

pub use event::{Event, EventKind};
pub use exit::{Exited, HardwareExit, Intercepts, IoExit};
pub use register::{Register, Segment, SegmentName};

use tdx_defs::{PageLevel, Registers, VmIndex};

/// A hardware context: the state of one VM of the virtual processor that was taken up.
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
/// a fault of the simulator, not of the model.
pub trait Platform {
    /// Turns to the contexts of virtual processor `vcpu`: registers, intercepts, shared access, timer and everything that
    /// the processor keeps for itself are that one's from now on, and what the one before had is kept for it. A
    /// platform begins with virtual processor 0. Memory and second-stage tables are the TD's.
    fn take_up(&mut self, vcpu: u32);

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
    /// Reads the general registers of a VM that is not running, in the order of
    /// [`Register::GENERAL`].
    fn general_registers(&mut self, vm: Vm) -> [u64; 16] {
        Register::GENERAL.map(|register| self.register(vm, register))
    }
    /// Writes them.
    fn set_general_registers(&mut self, vm: Vm, values: &[u64; 16]) {
        for (register, value) in Register::GENERAL.into_iter().zip(values) {
            self.set_register(vm, register, *value);
        }
    }
    /// Gives `to` what `from` left in the registers of [`Register::UNSWITCHED`].
    fn carry_over(&mut self, from: Vm, to: Vm) {
        for register in Register::UNSWITCHED {
            let value = self.register(from, register);
            self.set_register(to, register, value);
        }
    }
    /// Reads a segment register. Its access rights are those of VMX hardware, where loading a
    /// segment register sets the accessed bit, and LTR the busy bit, of the hidden part too.
    fn segment(&mut self, vm: Vm, name: SegmentName) -> Segment;
    /// Writes a segment register.
    fn set_segment(&mut self, vm: Vm, name: SegmentName, segment: Segment);

    /// Sets the event that the next run of `vm` starts by delivering; `None` withdraws it.
    fn inject(&mut self, vm: Vm, event: Option<Event>);
    /// Sets what ends a run of `vm`.
    fn set_intercepts(&mut self, vm: Vm, intercepts: Intercepts);
    /// Sets whether RDMSR and WRMSR of `msr` end a run of `vm`. All do until told otherwise, and one that this machine does
    /// not switch between its VMs may do so all the same: the module carries it out.
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

/// What is to happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run this VM until it exits, then call [`Module::handle_exit`](crate::Module::handle_exit).
    Run(Vm),
    /// TDH.VP.ENTER returns to the host.
    TdExit(TdExit),
    /// The virtual processor stays inside a TDCALL, as [`Faults::hold`](crate::Faults::hold) asks: others may be taken up.
    /// [`Module::finish_held`](crate::Module::finish_held) lets it go on.
    Held,
}

/// What TDH.VP.ENTER gives back to the host (TDX Module ABI, TDH.VP.ENTER, output operands).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdExit {
    /// The registers as the host finds them. RAX has the status in bits 63:32 and the VMX
    /// exit reason in 31:0. RCX is the exit qualification, or the TDVMCALL's mask, with the VM number
    /// in bits 33:32.
    pub registers: Registers,
}
