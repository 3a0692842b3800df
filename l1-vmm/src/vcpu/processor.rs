//! One virtual processor of L2's: everything that each of them has for itself.

use l2_exit::mmio::DecodeCache;
use l2_exit::run_ahead::RunAhead;
use l2_exit::{GuestPages, InstructionBytes};
use vcpu_signals::Vectors;

use super::L2Vcpu;
use super::apic::LocalApic;
use super::mtrr::Mtrrs;
use crate::machine::Machine;
use crate::machine::peers::{Kicks, Router};
use crate::run::Statistics;
use crate::run::environment::{Environment, Layout};

/// IA32_MISC_ENABLE: fast strings; no branch trace store, no PEBS.
pub(super) const MISC_ENABLE_RESET: u64 = 1 | 1 << 11 | 1 << 12;

/// A virtual processor, and the processor of L1's that runs it.
pub(crate) struct VirtualProcessor<'t, E: Environment> {
    /// Its number among [`Machine::peers`], which is its APIC id.
    pub(super) index: usize,
    /// How often the machine had restarted when it began.
    pub(super) restarts: u32,
    /// Whether it runs.
    pub(super) activity: Activity,
    /// Registers and VMCS.
    pub(super) vmcs: L2Vcpu<'t, E::Raw>,
    /// What runs it.
    pub(super) processor: E::Processor,
    /// Its local APIC.
    pub(super) apic: LocalApic<E::Vapic>,
    /// Instructions that it made device accesses with.
    pub(super) decoded: DecodeCache,
    /// What runs ahead of it, unless that is off.
    pub(super) ahead: Option<RunAhead<<E::Memory as GuestPages>::Page>>,
    /// MTRRs. SDM Vol. 3A, section "MTRR Considerations in MP Systems": software keeps them the same on all.
    pub(super) mtrrs: Mtrrs,
    /// IA32_MISC_ENABLE.
    pub(super) misc_enable: u64,
    /// IA32_CSTAR. No processor with Intel's SYSCALL goes there, but kernels write it.
    pub(super) cstar: u64,
    /// The timer expiry that the module was given and has not reported. It keeps a deadline
    /// that passed, and exits at each entry until it gets another.
    pub(super) deadline: Deadline,
    /// The deadline that it was last given for a kick to be sent again.
    pub(super) recheck: Option<u64>,
    /// When the TPM has its next share of this processor's time, if it has a use for it.
    pub(super) tpm_share: u64,
    /// The I/O APIC's level-triggered vectors as last seen, and their generation.
    pub(super) level_vectors: Vectors,
    /// See there.
    pub(super) level_generation: u32,
    /// The interrupts whose end exits: those, and what the APIC has of such interrupts.
    pub(super) end_exits: Vectors,
    /// It has one that is not among these.
    pub(super) level_taken: bool,
    /// The devices on the PCI bus may have something to do.
    pub(super) look_at_devices: bool,
    /// Others that it has posted something for.
    pub(super) kicks: Kicks,
    /// Host-routed exits in a row that made no sense.
    pub(super) stale_hints: u32,
    /// The instruction that could not be emulated.
    pub(super) unexecuted: Option<InstructionBytes>,
    /// Its exits.
    pub(super) statistics: Statistics,
}

/// Whether a virtual processor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// It executes instructions, or has halted.
    Active,
    /// It waits for a start-up IPI. `asleep`: it is counted among those that sleep.
    WaitsForStartUp { asleep: bool },
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
    /// A virtual processor as after a reset, its VMCS not set up yet.
    pub(super) fn new(
        machine: &Machine<'t, E>,
        layout: &Layout,
        processor: E::Processor,
        vapic: E::Vapic,
    ) -> Self {
        let address_bits = machine.cpuid.physical_address_width();
        let ratio = u64::from(machine.tsc_ratio);
        let (apic, activity) = match layout.index {
            0 => (LocalApic::new(vapic, ratio), Activity::Active),
            id => (
                LocalApic::after_reset(vapic, ratio, id),
                Activity::WaitsForStartUp { asleep: false },
            ),
        };
        Self {
            index: layout.index.into(),
            restarts: machine.ending.restarts(),
            activity,
            vmcs: L2Vcpu::new(machine.td, layout.vm, address_bits, machine.cpuid.cr4()),
            processor,
            apic,
            decoded: DecodeCache::new(),
            ahead: match machine.run_ahead {
                true => machine.memory.page(0).map(RunAhead::new),
                false => None,
            },
            mtrrs: Mtrrs::new(address_bits),
            misc_enable: MISC_ENABLE_RESET,
            cstar: 0,
            deadline: Deadline::Set(None),
            recheck: None,
            tpm_share: 0,
            level_vectors: Vectors::default(),
            level_generation: 0,
            end_exits: Vectors::default(),
            level_taken: false,
            look_at_devices: false,
            kicks: Kicks::default(),
            stale_hints: 0,
            unexecuted: None,
            statistics: Statistics::default(),
        }
    }

    /// The way of interrupts from here.
    pub(super) fn router<'a>(&'a mut self, machine: &'a Machine<'t, E>) -> Router<'a, E::Vapic> {
        Router {
            own: &mut self.apic,
            index: self.index,
            peers: &machine.peers,
            kicks: &mut self.kicks,
        }
    }

    /// What an access to a device needs, beside the registers and the known instructions.
    pub(super) fn split<'a>(
        &'a mut self,
        machine: &'a Machine<'t, E>,
    ) -> (Near<'a, E>, &'a mut L2Vcpu<'t, E::Raw>, &'a mut DecodeCache) {
        let near = Near {
            router: Router {
                own: &mut self.apic,
                index: self.index,
                peers: &machine.peers,
                kicks: &mut self.kicks,
            },
            processor: &self.processor,
            look_at_devices: &mut self.look_at_devices,
        };
        (near, &mut self.vmcs, &mut self.decoded)
    }
}

/// What a processor brings to an access to a device.
pub(super) struct Near<'a, E: Environment> {
    /// The way of interrupts.
    pub(super) router: Router<'a, E::Vapic>,
    /// The clock.
    pub(super) processor: &'a E::Processor,
    /// See [`VirtualProcessor::look_at_devices`].
    pub(super) look_at_devices: &'a mut bool,
}
