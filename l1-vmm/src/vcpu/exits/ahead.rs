//! What L2 does after an access to the TPM, executed here up to the next one, and on: [`l2_exit::run_ahead`].

use l2_exit::run_ahead::{self, Served, Window};
use l2_exit::{Exit, Vcpu};
use tdx_defs::vmcs::VmcsField;
use vcpu_signals::Mailbox;
use x86_defs::rflags;

use super::L2;
use super::idle;
use crate::machine::devices::Device;
use crate::machine::map::{self, Id, Row};
use crate::machine::notices::SERVES;
use crate::machine::peers::Router;
use crate::machine::{Machine, TpmHeld};
use crate::run::end::Failure;
use crate::run::environment::{Environment, Interrupts, Processor};

/// The breakpoints that DR7 enables: L0 to G3.
const BREAKPOINTS: u64 = 0xFF;

/// The TPM, and what keeps a processor from running ahead.
struct Tpm<'a, 't, E: Environment> {
    machine: &'a Machine<'t, E>,
    index: usize,
    processor: &'a mut E::Processor,
    router: Router<'a, E::Vapic>,
    /// What was taken of L1's own interrupts.
    interrupts: Interrupts,
    /// L2 takes interrupts.
    enabled: bool,
    /// The TPM, from an access to the next question.
    held: Option<TpmHeld<'a, E>>,
    /// When it was last asked what is due.
    asked: u64,
    /// An access has taken its time if the question is so long ago.
    patience: u64,
}

impl<E: Environment> Tpm<'_, '_, E> {
    #[inline]
    fn access(&mut self, gpa: u64, access: impl FnOnce(&mut E::Tpm, u32)) -> Served {
        let Some(row) = row(gpa) else {
            return Served::No;
        };
        if self.held.is_none() {
            self.held = self.machine.try_tpm();
        }
        let Some(tpm) = &mut self.held else {
            return Served::No;
        };
        self.machine.count_tpm_access();
        access(tpm, row.offset(gpa));
        self.machine.update_tpm_line(tpm, &mut self.router);
        match self.processor.tsc().wrapping_sub(self.asked) > self.patience {
            true => Served::Late,
            false => Served::Soon,
        }
    }
}

/// The TPM's window at `gpa`. Where the shared bit is set, it is another address.
fn row(gpa: u64) -> Option<&'static Row<u64>> {
    map::memory(gpa).filter(|row| row.device == Id::Tpm)
}

impl<E: Environment> Window for Tpm<'_, '_, E> {
    fn claims(&self, gpa: u64) -> bool {
        row(gpa).is_some()
    }

    fn read(&mut self, gpa: u64, into: &mut [u8]) -> Served {
        self.access(gpa, |tpm, offset| tpm.read(offset, into))
    }

    fn write(&mut self, gpa: u64, from: &[u8]) -> Served {
        self.access(gpa, |tpm, offset| tpm.write(offset, from))
    }

    fn is_due(&mut self) -> bool {
        self.held = None;
        self.asked = self.processor.tsc();
        let machine = self.machine;
        let mailbox = machine.peers.mailbox(self.index);
        if mailbox.is_some_and(Mailbox::is_pending) || !self.router.kicks.are_heard() {
            return true;
        }
        if self.index != SERVES && machine.notices.has_changed() {
            return true;
        }
        let expiry = idle::expiry(self.router.own, self.index, &machine.notices);
        if expiry.is_some_and(|expiry| expiry <= self.asked) {
            return true;
        }
        let interrupt = self.router.own.interrupt_pending()
            || self.index == SERVES
                && machine.notices.interrupt_output()
                && self.router.own.passes_external_interrupts();
        if self.enabled && interrupt || self.router.own.nmi_pending() {
            return true;
        }
        let taken = self.processor.take_interrupts();
        self.interrupts.timer |= taken.timer;
        self.interrupts.console |= taken.console;
        self.interrupts.devices |= taken.devices;
        self.interrupts != Interrupts::default()
    }
}

impl<E: Environment> L2<'_, E> {
    /// Runs ahead of L2, whose access to the TPM was served at `exit`.
    ///
    /// Blocking by STI or MOV SS at the exit stays as it is, so that it costs no TDCALL to ask: it ends with the first
    /// instruction that L2 executes itself. No interrupt is late by more than that one, for one that is due ends this
    /// before it begins.
    pub(super) fn run_ahead(&mut self, exit: &Exit) -> Result<(), Failure> {
        let vcpu = &mut self.vcpu;
        let Some(ahead) = &mut vcpu.ahead else {
            return Ok(());
        };
        if !run_ahead::may_begin(exit, &vcpu.vmcs) {
            return Ok(());
        }
        let mut tpm = Tpm {
            machine: &*self.machine,
            index: vcpu.index,
            processor: &mut vcpu.processor,
            router: Router {
                own: &mut vcpu.apic,
                index: vcpu.index,
                peers: &self.machine.peers,
                kicks: &mut vcpu.kicks,
            },
            interrupts: Interrupts::default(),
            enabled: vcpu.vmcs.rflags() & rflags::IF != 0,
            held: None,
            asked: 0,
            patience: self.machine.millisecond() / 8,
        };
        if !tpm.is_due() && vcpu.vmcs.read(VmcsField::GUEST_DR7)? & BREAKPOINTS == 0 {
            ahead.run(&mut vcpu.vmcs, &self.machine.memory, &mut tpm);
        }
        let interrupts = tpm.interrupts;
        drop(tpm);
        self.vcpu.look_at_devices |= interrupts.devices;
        if interrupts.console {
            self.receive();
        }
        Ok(())
    }
}
