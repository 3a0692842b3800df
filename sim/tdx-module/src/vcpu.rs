//! A virtual processor (TDVPS). The machine under the model has one logical processor, and so the module works on one
//! of the TD's at a time: [`Module::take_up_vcpu`](crate::Module::take_up_vcpu).
//!
//! General registers, control registers and segments live in the platform's hardware contexts, one
//! for each VM; what is here is what hardware has no place for.

use crate::l1::L1;
use crate::l2::L2;
use crate::platform::Vm;
use crate::statistics::VcpuStatistics;
use tdx_defs::VmIndex;

/// State of the virtual processor itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VcpuState {
    /// TDH.VP.INIT has not been called.
    Uninitialized,
    /// TDH.VP.ENTER may run it.
    Ready,
    /// A logical processor is in it: TDH.VP.ENTER has begun, and no TD exit has ended it.
    Active,
    /// A non-recoverable TD exit has ended it.
    Disabled,
}

/// How the last TDH.VP.ENTER ended, which decides what the next one does first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastTdExit {
    /// There was none, or nothing is to be copied: the host's registers are ignored.
    Asynchronous,
    /// TDG.VP.VMCALL: the registers in the mask come from the host.
    Tdvmcall {
        /// RCX of the call.
        mask: u64,
    },
}

pub(crate) struct Vcpu {
    pub(crate) state: VcpuState,
    /// VCPU_INDEX.
    pub(crate) index: u32,
    /// The VM that runs, or that the next TD entry resumes.
    pub(crate) current: Vm,
    pub(crate) l1: L1,
    /// VMs 1 to 3, whether or not the TD has them.
    pub(crate) l2: [L2; VmIndex::MAX as usize],
    pub(crate) last_td_exit: LastTdExit,
    /// The host asked for L1 (RESUME_L1). Sticky until L1 was entered.
    pub(crate) resume_l1: bool,
    /// It is inside a TDCALL, with its lock if it has one.
    pub(crate) held: bool,
    /// What that TDCALL has found in the element of a field that it is to write.
    pub(crate) found: Option<u64>,
    /// The first of the TDCALLs in a row that failed because the host waits for a lock.
    pub(crate) host_priority_since: Option<u64>,
    /// The TLB epoch of its last TD entry.
    pub(crate) epoch: u64,
    /// What happened on it.
    pub(crate) statistics: VcpuStatistics,
}

impl Vcpu {
    pub(crate) fn new(index: u32) -> Vcpu {
        Vcpu {
            state: VcpuState::Uninitialized,
            index,
            current: Vm::L1,
            l1: L1::new(),
            l2: [L2::new(), L2::new(), L2::new()],
            last_td_exit: LastTdExit::Asynchronous,
            resume_l1: false,
            held: false,
            found: None,
            host_priority_since: None,
            epoch: 0,
            statistics: VcpuStatistics::default(),
        }
    }

    pub(crate) fn l2(&self, vm: VmIndex) -> &L2 {
        &self.l2[usize::from(vm.get() - 1)]
    }

    pub(crate) fn l2_mut(&mut self, vm: VmIndex) -> &mut L2 {
        &mut self.l2[usize::from(vm.get() - 1)]
    }
}
