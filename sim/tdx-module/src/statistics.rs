//! What the module counted: the currency of the simulator's reports.

use alloc::collections::BTreeMap;

/// Who got an L2 exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// The module itself; L2 was resumed.
    Module,
    /// L1, directly.
    L1,
    /// The host; L1 may hear of it through RESUME_L1.
    Host,
}

/// What happened on one virtual processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuStatistics {
    /// TDCALLs of L1.
    pub tdcalls: u64,
    /// Exits of its L2 VMs, whoever got them.
    pub l2_exits: u64,
    /// TD exits.
    pub td_exits: u64,
}

/// Counters since the TD was built, of all virtual processors together. All are exact, so that two equal runs give equal counters.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    tdcalls: BTreeMap<u64, u64>,
    tdvmcalls: BTreeMap<u64, u64>,
    l2_exits: BTreeMap<(u32, Route), u64>,
    td_exits: BTreeMap<u32, u64>,
    virtualization_exceptions: BTreeMap<u32, u64>,
}

impl Statistics {
    /// TDCALLs of L1 by leaf.
    pub fn tdcalls(&self) -> &BTreeMap<u64, u64> {
        &self.tdcalls
    }

    /// TDG.VP.VMCALLs that reached the host, by sub-function (R11 of a standard call).
    pub fn tdvmcalls(&self) -> &BTreeMap<u64, u64> {
        &self.tdvmcalls
    }

    /// L2 exits by basic exit reason and by who got them.
    pub fn l2_exits(&self) -> &BTreeMap<(u32, Route), u64> {
        &self.l2_exits
    }

    /// TD exits by basic exit reason.
    pub fn td_exits(&self) -> &BTreeMap<u32, u64> {
        &self.td_exits
    }

    /// #VEs injected into L1 by exit reason.
    pub fn virtualization_exceptions(&self) -> &BTreeMap<u32, u64> {
        &self.virtualization_exceptions
    }

    pub(crate) fn count_tdcall(&mut self, leaf: u64) {
        *self.tdcalls.entry(leaf).or_default() += 1;
    }

    pub(crate) fn count_tdvmcall(&mut self, sub_function: u64) {
        *self.tdvmcalls.entry(sub_function).or_default() += 1;
    }

    pub(crate) fn count_l2_exit(&mut self, reason: u32, route: Route) {
        *self.l2_exits.entry((reason, route)).or_default() += 1;
    }

    pub(crate) fn count_td_exit(&mut self, reason: u32) {
        *self.td_exits.entry(reason).or_default() += 1;
    }

    pub(crate) fn count_virtualization_exception(&mut self, reason: u32) {
        *self.virtualization_exceptions.entry(reason).or_default() += 1;
    }
}
