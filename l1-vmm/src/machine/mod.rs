//! What L2's machine has once, however many virtual processors it has.
//!
//! * [`map`]: the table of devices: where each is, how it is accessed, which interrupt it has.
//! * [`devices`]: the devices, and the bus that finds them by the table.
//! * [`host`]: the host's devices behind L2's, and L1's own interrupts.
//! * [`cpuid`]: what L2 is told of its processors.
//!
//! Not here: what each virtual processor has ([`crate::vcpu`]).

pub mod cpuid;
pub mod devices;
pub mod host;
pub mod map;

use tdcall::Td;
use tdcall::tdvmcall::CpuidResult;
use tdx_defs::field::FieldId;

use crate::run::end::Failure;
use crate::run::environment::Environment;
use cpuid::{CpuidTable, Described};
use devices::Devices;
use devices::pci::Bus;
use host::HostPorts;

/// The one machine of L2's.
pub(crate) struct Machine<'t, E: Environment> {
    /// The TDX module.
    pub(crate) td: &'t Td<E::Raw>,
    /// L2's memory.
    pub(crate) memory: E::Memory,
    /// The devices.
    pub(crate) devices: Devices<E::Tpm, HostPorts<'t, E::Raw>>,
    /// What CPUID returns.
    pub(crate) cpuid: CpuidTable,
    /// The bit of a guest-physical address that makes it shared.
    pub(crate) shared_bit: u64,
    /// TSC ticks per tick of the core crystal clock: TSC_FREQUENCY of the TD.
    pub(crate) tsc_ratio: u32,
}

impl<'t, E: Environment> Machine<'t, E> {
    /// A machine with devices as after a reset. `cpuid` executes CPUID as L1 sees it.
    pub(crate) fn new(
        td: &'t Td<E::Raw>,
        shared_bit: u64,
        memory: E::Memory,
        tpm: E::Tpm,
        bus: Option<Bus>,
        cpuid: impl Fn(u32, u32) -> CpuidResult,
    ) -> Result<Self, Failure> {
        let field = |field| {
            td.vm_rd(field)
                .map_err(|error| Failure::Field { field, error })
        };
        let tsc_ratio = field(FieldId::TSC_FREQUENCY)? as u32 & 0xFFFF;
        if tsc_ratio == 0 {
            return Err(Failure::NoTscFrequency);
        }
        let described = Described {
            tsc_ratio,
            xfam: field(FieldId::XFAM)?,
        };
        Ok(Self {
            td,
            memory,
            devices: Devices::new(tpm, HostPorts::new(td), tsc_ratio, bus),
            cpuid: CpuidTable::new(cpuid, &described),
            shared_bit,
            tsc_ratio,
        })
    }
}
