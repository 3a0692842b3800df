//! [`Module`]: all of the TD's state, and the dispatch of what happens to it.

use crate::faults::Faults;
use crate::l2::translations::Shown;
use crate::locks::Locks;
use crate::platform::{Action, Exited, Platform, Vm};
use crate::report::Tcb;
use crate::statistics::{Route, Statistics};
use crate::td::Td;
use crate::vcpu::Vcpu;
use crate::{l1, l2};
use alloc::collections::BTreeMap;
use sha2::{Digest, Sha256};

/// What the module knows about the platform it was loaded on.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The processor and module identity that reports carry.
    pub tcb: Tcb,
    /// FEATURES0 bit 8: whether TDG.MR.VERIFYREPORT exists.
    pub local_attestation: bool,
    /// FEATURES0 bit 12: the processor's secret behind the keys of TDG.MR.KEY.GET. Without one there is no such leaf, as in
    /// release 1.5.01.
    pub sealing: Option<[u8; 32]>,
}

impl Default for Configuration {
    fn default() -> Configuration {
        Configuration {
            tcb: Tcb::default(),
            local_attestation: true,
            sealing: None,
        }
    }
}

impl Configuration {
    /// A platform and a module that have sealing keys, as from release 1.5.34 on. The secret is no real platform's.
    pub fn with_sealing() -> Configuration {
        Configuration {
            sealing: Some(Sha256::digest(b"simulated platform sealing secret").into()),
            ..Configuration::default()
        }
    }
}

/// The TDX module, with one TD, on a machine with one logical processor.
pub struct Module {
    pub(crate) configuration: Configuration,
    pub(crate) td: Td,
    /// The virtual processor that the logical processor works on.
    pub(crate) vcpu: Vcpu,
    /// The TD's others, by VCPU_INDEX.
    pub(crate) other_vcpus: BTreeMap<u32, Vcpu>,
    /// Whose stale translations of L2 VMs the platform's tables have.
    pub(crate) shown: Shown,
    pub(crate) locks: Locks,
    pub(crate) faults: Faults,
    pub(crate) statistics: Statistics,
}

impl Module {
    /// A module with a TD that TDH.MNG.CREATE and TDH.MNG.ADDCX have prepared.
    pub fn new(configuration: Configuration) -> Module {
        Module {
            configuration,
            td: Td::new(),
            vcpu: Vcpu::new(0),
            other_vcpus: BTreeMap::new(),
            shown: Shown::default(),
            locks: Locks::default(),
            faults: Faults::default(),
            statistics: Statistics::default(),
        }
    }

    /// The machine has stopped running the VM that the last [`Action::Run`] named.
    pub fn handle_exit<P: Platform>(&mut self, platform: &mut P, exited: Exited) -> Action {
        match self.vcpu.current {
            Vm::L1 => l1::handle_exit(self, platform, exited),
            Vm::L2(vm) => l2::handle_exit(self, platform, vm, exited),
        }
    }

    /// Requests of a test for behaviour that needs load or an attacker.
    pub fn faults(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// What has happened so far.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    pub(crate) fn count_tdcall(&mut self, leaf: u64) {
        self.statistics.count_tdcall(leaf);
        self.vcpu.statistics.tdcalls += 1;
    }

    pub(crate) fn count_l2_exit(&mut self, reason: u32, route: Route) {
        self.statistics.count_l2_exit(reason, route);
        self.vcpu.statistics.l2_exits += 1;
    }

    pub(crate) fn count_td_exit(&mut self, reason: u32) {
        self.statistics.count_td_exit(reason);
        self.vcpu.statistics.td_exits += 1;
    }
}
