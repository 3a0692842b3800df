//! What L2's machine has once, however many virtual processors it has.
//!
//! * [`map`]: the table of devices: where each is, how it is accessed, which interrupt it has.
//! * [`devices`]: the devices, and the bus that finds them by the table.
//! * [`host`]: the host's devices behind L2's, and L1's own interrupts.
//! * [`cpuid`]: what L2 is told of its processors.
//! * `locks`, `notices`: how its processors share it. CPU-local work takes no lock.
//! * `peers`: how its processors reach each other.
//! * `ending`: how they all come to an end.
//!
//! Not here: what each virtual processor has ([`crate::vcpu`]).

pub mod cpuid;
pub mod devices;
pub(crate) mod ending;
pub mod host;
pub mod host_power;
pub(crate) mod locks;
pub mod map;
pub(crate) mod notices;
pub(crate) mod peers;

use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tdcall::Td;
use tdcall::tdvmcall::CpuidResult;
use tdx_defs::field::FieldId;

use crate::run::Statistics;
use crate::run::end::Failure;
use crate::run::environment::Environment;
use cpuid::{CpuidTable, Described};
use devices::pci::Bus;
use devices::pci::window::PciWindow;
use devices::{Device, Devices};
use ending::Ending;
use host::HostPorts;
pub use locks::LockFigures;
use locks::{Held, Lock};
use notices::Notices;
use peers::{Peers, Router};

/// What the image puts into a [`Machine`].
pub struct MachineParts<E: Environment> {
    /// L2's memory.
    pub memory: E::Memory,
    /// The TPM.
    pub tpm: E::Tpm,
    /// The devices on its PCI bus, if it has any.
    pub bus: Option<Bus<E::Backend>>,
    /// The bit of a guest-physical address that makes it shared.
    pub shared_bit: u64,
    /// Whether L1 executes what L2 does between two accesses to the TPM.
    pub run_ahead: bool,
    /// How many virtual processors it has: at least one, and at most [`crate::launch::processors::SUPPORTED`].
    pub processors: u32,
    /// The TSC.
    pub clock: fn() -> u64,
}

/// The one machine of L2's, shared by its virtual processors.
pub struct Machine<'t, E: Environment> {
    /// The TDX module.
    pub(crate) td: &'t Td<E::Raw>,
    /// L2's memory.
    pub(crate) memory: E::Memory,
    /// What CPUID returns.
    pub(crate) cpuid: CpuidTable,
    /// The bit of a guest-physical address that makes it shared.
    pub(crate) shared_bit: u64,
    /// Whether L1 runs ahead.
    pub(crate) run_ahead: bool,
    /// TSC ticks per tick of the core crystal clock: TSC_FREQUENCY of the TD.
    pub(crate) tsc_ratio: u32,
    /// The addresses of the PCI bus, where there are devices on it.
    pub(crate) pci: Option<PciWindow>,
    /// The virtual processors.
    pub(crate) peers: Peers,
    /// What the devices ask of them.
    pub(crate) notices: Notices,
    /// How they end.
    pub(crate) ending: Ending,
    devices: Lock<Devices<HostPorts<'t, E::Raw>, E::Backend>>,
    tpm: Lock<E::Tpm>,
    tpm_accesses: AtomicU64,
    /// The level of the TPM's line as the interrupt controllers have it. Whoever has the TPM changes it.
    tpm_line: AtomicBool,
}

impl<'t, E: Environment> Machine<'t, E> {
    /// A machine with devices as after a reset. `cpuid` executes CPUID as L1 sees it.
    pub fn new(
        td: &'t Td<E::Raw>,
        parts: MachineParts<E>,
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
            processors: parts.processors,
        };
        let pci = parts.bus.as_ref().map(|bus| bus.window);
        let devices = Devices::new(HostPorts::new(td), tsc_ratio, parts.bus);
        let notices = Notices::new();
        notices.tpm_given_back(None, parts.tpm.expiry(), parts.tpm.has_work());
        Ok(Self {
            td,
            memory: parts.memory,
            cpuid: CpuidTable::new(cpuid, &described),
            shared_bit: parts.shared_bit,
            run_ahead: parts.run_ahead,
            tsc_ratio,
            pci,
            peers: Peers::new(parts.processors.max(1)),
            notices,
            ending: Ending::default(),
            devices: Lock::new(devices, parts.clock),
            tpm: Lock::new(parts.tpm, parts.clock),
            tpm_accesses: AtomicU64::new(0),
            tpm_line: AtomicBool::new(false),
        })
    }

    /// The devices but the TPM, for one processor at a time. Nobody who has them may wait for the TPM.
    pub(crate) fn devices(&self) -> DevicesHeld<'_, 't, E> {
        DevicesHeld {
            held: self.devices.lock(),
            notices: &self.notices,
        }
    }

    /// The devices, if no other processor has them.
    pub(crate) fn try_devices(&self) -> Option<DevicesHeld<'_, 't, E>> {
        Some(DevicesHeld {
            held: self.devices.try_lock()?,
            notices: &self.notices,
        })
    }

    /// The TPM for L2, if no other processor has it. A command may take seconds: who needs it goes back to L2 and
    /// comes again. Once the run has ended nobody gets it: a processor that the host has held back meanwhile must not
    /// find it reset.
    pub(crate) fn try_tpm(&self) -> Option<TpmHeld<'_, E>> {
        self.unless_ended(TpmHeld::new(self.tpm.try_lock()?, &self.notices))
    }

    /// As [`Machine::try_tpm`], waited for.
    pub(crate) fn wait_for_tpm(&self) -> Option<TpmHeld<'_, E>> {
        self.unless_ended(self.tpm())
    }

    /// Asked with the lock: the end begins before whoever ends the run takes it.
    fn unless_ended<'a>(&self, tpm: TpmHeld<'a, E>) -> Option<TpmHeld<'a, E>> {
        (!self.ending.has_begun()).then_some(tpm)
    }

    /// The TPM, waited for, for who ends the run.
    pub(crate) fn tpm(&self) -> TpmHeld<'_, E> {
        TpmHeld::new(self.tpm.lock(), &self.notices)
    }

    /// Every device as after a reset: of the TPM, _TPM_Init.
    pub(crate) fn reset(&self) {
        let mut tpm = self.tpm();
        tpm.reset();
        self.tpm_line.store(false, Ordering::Relaxed);
        self.devices().reset();
    }

    /// After [`Machine::reset`], and when all processors have stopped: they may run again. `statistics` is what the one
    /// counted that executes this.
    pub(crate) fn restart(&self, statistics: &Statistics) {
        // Of two processors that asked for an end at a time, one was heard.
        self.devices().take_power_request();
        self.peers.reset();
        self.notices.reset();
        self.ending.restart(statistics);
    }

    /// Brings the interrupt controllers' inputs to the level of the line of `tpm`, whose lock is held: its changes come to
    /// them in their order. The devices' lock may not be held.
    pub(crate) fn update_tpm_line(&self, tpm: &E::Tpm, router: &mut Router<'_, E::Vapic>) {
        let level = tpm.line();
        if level != self.tpm_line.load(Ordering::Relaxed) {
            self.tpm_line.store(level, Ordering::Relaxed);
            self.devices().set_tpm_line(level, router);
        }
    }

    /// An access to the TPM window was served.
    pub(crate) fn count_tpm_access(&self) {
        self.tpm_accesses.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a processor has taken the TPM.
    pub(crate) fn tpm_taken(&self) -> u64 {
        self.tpm.taken()
    }

    /// Accesses to the TPM window.
    pub(crate) fn tpm_accesses(&self) -> u64 {
        self.tpm_accesses.load(Ordering::Relaxed)
    }

    /// How the locks were used: the TPM's, the devices'.
    pub fn lock_figures(&self) -> [(&'static str, LockFigures); 2] {
        [
            ("tpm", self.tpm.figures()),
            ("devices", self.devices.figures()),
        ]
    }

    /// TSC ticks in a millisecond.
    pub(crate) fn millisecond(&self) -> u64 {
        u64::from(self.tsc_ratio) * u64::from(cpuid::CRYSTAL_HZ / 1000)
    }
}

/// The devices, for as long as this lives; then what they ask of the processors is published.
pub(crate) struct DevicesHeld<'a, 't, E: Environment> {
    held: Held<'a, Devices<HostPorts<'t, E::Raw>, E::Backend>>,
    notices: &'a Notices,
}

impl<'t, E: Environment> Deref for DevicesHeld<'_, 't, E> {
    type Target = Devices<HostPorts<'t, E::Raw>, E::Backend>;

    fn deref(&self) -> &Self::Target {
        &self.held
    }
}

impl<E: Environment> DerefMut for DevicesHeld<'_, '_, E> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.held
    }
}

impl<E: Environment> Drop for DevicesHeld<'_, '_, E> {
    /// Before the lock is given back: what is published is in the order of those who had it.
    fn drop(&mut self) {
        if let Some(vectors) = self.held.ioapic.take_changed_level_vectors() {
            self.notices.set_level_vectors(vectors);
        }
        let timer = self.held.timer_expiry();
        self.notices.devices(timer, self.held.interrupt_output());
    }
}

/// The TPM, for as long as this lives; then when it has something to do is published.
pub(crate) struct TpmHeld<'a, E: Environment> {
    held: Held<'a, E::Tpm>,
    notices: &'a Notices,
    expiry: Option<u64>,
}

impl<'a, E: Environment> TpmHeld<'a, E> {
    fn new(held: Held<'a, E::Tpm>, notices: &'a Notices) -> Self {
        let expiry = notices.tpm_taken();
        Self {
            held,
            notices,
            expiry,
        }
    }
}

impl<E: Environment> Deref for TpmHeld<'_, E> {
    type Target = E::Tpm;

    fn deref(&self) -> &Self::Target {
        &self.held
    }
}

impl<E: Environment> DerefMut for TpmHeld<'_, E> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.held
    }
}

impl<E: Environment> Drop for TpmHeld<'_, E> {
    fn drop(&mut self) {
        let (expiry, work) = (self.held.expiry(), self.held.has_work());
        self.notices.tpm_given_back(self.expiry, expiry, work);
    }
}
