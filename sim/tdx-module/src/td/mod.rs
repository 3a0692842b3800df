//! The TD as a whole (TDR and TDCS): its parameters, life cycle, measurements and memory.

mod build;
mod memory;
pub mod params;
pub mod seamcall;
pub(crate) mod sept;
mod virtual_processors;

use crate::measurement::{BuildMeasurement, Measurement, RuntimeMeasurements};
use crate::td::params::TdParams;
use crate::td::sept::SecureEpt;
use tdx_defs::field::{ConfigFlags, TdAttributes, TdCtls};
use tdx_defs::{Gpaw, VmIndex};

/// OP_STATE: which calls the TD takes (TDX Module Base Architecture, "TD Operation State").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpState {
    /// Before TDH.MNG.INIT.
    Uninitialized,
    /// The host adds and measures pages.
    Initialized,
    /// After TDH.MR.FINALIZE.
    Runnable,
}

pub(crate) struct Td {
    pub(crate) op_state: OpState,
    /// A NON_RECOVERABLE_TD exit has ended the TD.
    pub(crate) fatal: bool,
    pub(crate) params: TdParams,
    pub(crate) td_ctls: TdCtls,
    pub(crate) notify_enables: u64,
    pub(crate) uuid: [u64; 4],
    pub(crate) build: BuildMeasurement,
    pub(crate) mrtd: Measurement,
    pub(crate) rtmrs: RuntimeMeasurements,
    pub(crate) sept: SecureEpt,
    /// VM_CTLS bit 0: a missing L2 secure-EPT page is a TD exit, not an error.
    pub(crate) l2_walk_failure_exits: bool,
    /// NUM_VCPUS: TDH.VP.INITs so far.
    pub(crate) num_vcpus: u32,
    /// Counts TDH.MEM.TRACK.
    epoch: u64,
}

impl Td {
    pub(crate) fn new() -> Td {
        Td {
            op_state: OpState::Uninitialized,
            fatal: false,
            params: TdParams::default(),
            td_ctls: TdCtls::new(),
            notify_enables: 0,
            uuid: [0; 4],
            build: BuildMeasurement::default(),
            mrtd: [0; 48],
            rtmrs: RuntimeMeasurements::default(),
            sept: SecureEpt::new(4),
            l2_walk_failure_exits: false,
            num_vcpus: 0,
            epoch: 0,
        }
    }

    pub(crate) fn attributes(&self) -> TdAttributes {
        TdAttributes::from_bits(self.params.attributes)
    }

    pub(crate) fn config_flags(&self) -> ConfigFlags {
        ConfigFlags::from_bits(self.params.config_flags)
    }

    pub(crate) fn gpaw(&self) -> Gpaw {
        if self.config_flags().gpaw() {
            Gpaw::Bits52
        } else {
            Gpaw::Bits48
        }
    }

    pub(crate) fn num_l2_vms(&self) -> u8 {
        self.params.num_l2_vms
    }

    /// The TLB epoch: how often the host has called TDH.MEM.TRACK.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the TD has this L2 VM.
    pub(crate) fn has_l2(&self, vm: VmIndex) -> bool {
        vm.get() <= self.num_l2_vms()
    }

    /// Whether bits above the GPA width are zero.
    pub(crate) fn is_gpa(&self, gpa: u64) -> bool {
        gpa >> self.gpaw().bits() == 0
    }

    pub(crate) fn is_shared(&self, gpa: u64) -> bool {
        gpa & self.gpaw().shared_bit() != 0
    }

    /// Whether this is a private GPA of the TD.
    pub(crate) fn is_private(&self, gpa: u64) -> bool {
        self.is_gpa(gpa) && !self.is_shared(gpa)
    }
}
