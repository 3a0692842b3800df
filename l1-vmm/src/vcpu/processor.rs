//! One virtual processor of L2's: everything that each of them has for itself.

use l2_exit::InstructionBytes;
use l2_exit::mmio::DecodeCache;
use tdx_defs::VmIndex;

use super::L2Vcpu;
use super::apic::LocalApic;
use super::mtrr::Mtrrs;
use crate::machine::Machine;
use crate::run::Statistics;
use crate::run::environment::Environment;

/// IA32_MISC_ENABLE: fast strings; no branch trace store, no PEBS.
pub(super) const MISC_ENABLE_RESET: u64 = 1 | 1 << 11 | 1 << 12;

/// A virtual processor, and the processor of L1's that runs it.
pub(crate) struct VirtualProcessor<'t, E: Environment> {
    /// Registers and VMCS.
    pub(super) vmcs: L2Vcpu<'t, E::Raw>,
    /// What runs it.
    pub(super) processor: E::Processor,
    /// Its local APIC.
    pub(super) apic: LocalApic<E::Vapic>,
    /// Instructions that it made device accesses with.
    pub(super) decoded: DecodeCache,
    /// MTRRs. SDM Vol. 3A, section "MTRR Considerations in MP Systems": software keeps them the same on all.
    pub(super) mtrrs: Mtrrs,
    /// IA32_MISC_ENABLE.
    pub(super) misc_enable: u64,
    /// IA32_CSTAR. No processor with Intel's SYSCALL goes there, but kernels write it.
    pub(super) cstar: u64,
    /// The timer expiry that the module was given and has not reported. It keeps a deadline
    /// that passed, and exits at each entry until it gets another.
    pub(super) deadline: Deadline,
    /// Host-routed exits in a row that made no sense.
    pub(super) stale_hints: u32,
    /// The instruction that could not be emulated.
    pub(super) unexecuted: Option<InstructionBytes>,
    /// Its exits.
    pub(super) statistics: Statistics,
}

/// What the module's TSC_DEADLINE field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deadline {
    /// This expiry, or none.
    Set(Option<u64>),
    /// One that passed.
    Passed,
}

impl<'t, E: Environment> VirtualProcessor<'t, E> {
    /// A virtual processor of `vm` as after a reset, its VMCS not set up yet.
    pub(super) fn new(
        machine: &Machine<'t, E>,
        vm: VmIndex,
        processor: E::Processor,
        vapic: E::Vapic,
    ) -> Self {
        let address_bits = machine.cpuid.physical_address_width();
        Self {
            vmcs: L2Vcpu::new(machine.td, vm, address_bits, machine.cpuid.cr4()),
            processor,
            apic: LocalApic::new(vapic, u64::from(machine.tsc_ratio)),
            decoded: DecodeCache::new(),
            mtrrs: Mtrrs::new(address_bits),
            misc_enable: MISC_ENABLE_RESET,
            cstar: 0,
            deadline: Deadline::Set(None),
            stale_hints: 0,
            unexecuted: None,
            statistics: Statistics::default(),
        }
    }
}
