//! HLT, and the timers that end it.

use l2_exit::{Exit, Vcpu};
use tdcall::leaf::MetadataError;
use x86_defs::rflags;

use super::L2;
use super::signals::Woken;
use crate::machine::devices::Device;
use crate::machine::host;
use crate::machine::notices::{Notices, SERVES};
use crate::run::end::{End, Failure};
use crate::run::environment::{Environment, Processor};
use crate::vcpu::apic::{LocalApic, VapicPage};
use crate::vcpu::processor::Deadline;

/// As far ahead as the module is asked for a deadline, where it refused a later one.
const NEAR_DEADLINE: u64 = 1 << 31;

/// Pieces of a millisecond that a halted processor works for the TPM in, between two looks at what ends the halt.
const PIECES: u64 = 4;

/// What the TPM does while nobody waits for it has pieces of this part of a millisecond where L2 is never idle.
const SHARES: u64 = 2;

/// For so many times as long L2 goes on in between: on its own processor it keeps nine tenths.
const SHARE_REST: u64 = 9;

impl<E: Environment> L2<'_, E> {
    pub(super) fn hlt(&mut self, exit: &Exit) -> Result<(), End> {
        let rip = self.vcpu.vmcs.rip();
        let stepping = self.vcpu.vmcs.rflags() & rflags::TF != 0;
        l2_exit::advance(exit, &mut self.vcpu.vmcs);
        // A debug exception ends the halt (SDM Vol. 2, HLT).
        if stepping && self.vcpu.vmcs.debug_exception_pending()? {
            return Ok(());
        }
        self.idle(rip)
    }

    /// Waits, outside L2, until an interrupt is pending for it. RIP is behind the instruction
    /// at `rip` that asked for it.
    ///
    /// Linux halts in the shadow of STI, which ends with the HLT: left in place, it would hold
    /// the interrupt back for an instruction that may well be CLI.
    pub(super) fn idle(&mut self, rip: u64) -> Result<(), End> {
        self.vcpu.vmcs.end_interrupt_shadow()?;
        let enabled = self.vcpu.vmcs.rflags() & rflags::IF != 0;
        let mut armed = None;
        if !enabled {
            return self.park(rip);
        }
        loop {
            if self.hear_in_halt()? == Halt::Over {
                return Ok(());
            }
            let pending = self.vcpu.apic.interrupt_pending() || self.external_interrupt_pending();
            if pending || self.nmi_ends_halt()? {
                return Ok(());
            }
            if !self.work_in_halt()? {
                self.wait_until_due(&mut armed)?;
            }
        }
    }

    /// The TPM has a piece of the time that L2 does not need, up to what is due here next. Whether it had.
    fn work_in_halt(&mut self) -> Result<bool, Failure> {
        if !self.machine.notices.tpm_has_work() {
            return Ok(false);
        }
        self.send_kicks()?;
        let machine = &*self.machine;
        let now = self.vcpu.processor.tsc();
        let end = now.saturating_add(machine.millisecond() / PIECES);
        let until = self.next_due().map_or(end, |due| due.min(end));
        if until <= now {
            return Ok(false);
        }
        let Some(mut tpm) = machine.try_tpm() else {
            return Ok(false);
        };
        tpm.work(until);
        machine.update_tpm_line(&tpm, &mut self.vcpu.router(machine));
        Ok(true)
    }

    /// A processor that is never idle has the TPM do a piece of what would else wait for the first command that needs it: the
    /// boot of a kernel takes longer than that, and its driver's first key does not.
    fn share_with_tpm(&mut self, now: u64) {
        let machine = &*self.machine;
        let mut spent = machine.millisecond() / SHARES;
        if machine.notices.tpm_has_work()
            && let Some(mut tpm) = machine.try_tpm()
            && tpm.expiry().is_none()
        {
            tpm.work(now.saturating_add(spent));
            machine.update_tpm_line(&tpm, &mut self.vcpu.router(machine));
            spent = spent.max(self.vcpu.processor.tsc().saturating_sub(now));
        }
        let rest = spent.saturating_mul(SHARE_REST);
        self.vcpu.tpm_share = now.saturating_add(spent).saturating_add(rest);
    }

    /// When that is due, if there is something to do.
    fn share_expiry(&self) -> Option<u64> {
        let shares = self.vcpu.index == SERVES && self.machine.notices.tpm_has_own_work();
        shares.then_some(self.vcpu.tpm_share)
    }

    /// Halted with interrupts disabled: an NMI or INIT ends that, which only another processor sends. The machine's
    /// devices and timers are served meanwhile.
    fn park(&mut self, rip: u64) -> Result<(), End> {
        if self.hear_in_halt()? == Halt::Over || self.nmi_ends_halt()? {
            return Ok(());
        }
        self.fall_asleep(rip)?;
        let mut armed = None;
        loop {
            self.run_timers();
            self.serve_in_halt();
            if self.is_signalled() || self.nmi_ends_halt()? {
                self.machine.ending.wakes();
                if self.hear_in_halt()? == Halt::Over || self.nmi_ends_halt()? {
                    return Ok(());
                }
                self.fall_asleep(rip)?;
            }
            self.wait_until_due(&mut armed)?;
        }
    }

    /// Waits in the host, where the timer is armed for what is due next. `armed` is what it is armed for, if that is
    /// known.
    pub(super) fn wait_until_due(&mut self, armed: &mut Option<Option<u64>>) -> Result<(), End> {
        self.send_kicks()?;
        let expiry = self.next_due();
        if *armed != Some(expiry) {
            // A host that refuses leaves L1 without a timer: it then polls.
            let _ = host::arm_timer(self.machine.td, expiry);
            *armed = Some(expiry);
        }
        if self.wait()? == Woken::ByTimer {
            // One-shot: if L2's deadline is still to come, it has to be armed again.
            *armed = None;
        }
        Ok(())
    }

    /// When something is to be done here next, whatever comes meanwhile: a timer's expiry, or a kick that was not heard.
    fn next_due(&self) -> Option<u64> {
        earlier(self.timer_expiry(), self.next_kick())
    }

    /// Looks at timers, devices and what others have posted.
    fn hear_in_halt(&mut self) -> Result<Halt, End> {
        let had_init = self.hear()?;
        self.run_timers();
        self.serve_in_halt();
        Ok(match had_init {
            false => Halt::On,
            true => Halt::Over,
        })
    }

    /// An NMI does, but in the handler of another one.
    fn nmi_ends_halt(&self) -> Result<bool, Failure> {
        Ok(self.vcpu.apic.nmi_pending() && !self.vcpu.vmcs.nmi_blocked()?)
    }

    /// The processor that looks after the devices may not leave them for long.
    fn serve_in_halt(&mut self) {
        self.vcpu.look_at_devices |= self.vcpu.index == SERVES;
        self.serve_devices();
        self.forget_changes();
    }

    /// The module's timer ran out: L2's deadline, or as far towards it as the module counts.
    pub(super) fn timer_exit(&mut self) {
        self.run_timers();
        // What the module holds is past: set the rest of the way, or the next deadline.
        self.vcpu.deadline = Deadline::Passed;
    }

    /// TSC value at which a timer next expires: the local APIC's, or what the processor serves of the machine's; or the TPM's
    /// share of its time begins.
    pub(super) fn timer_expiry(&self) -> Option<u64> {
        let expiry = expiry(&self.vcpu.apic, self.vcpu.index, &self.machine.notices);
        earlier(expiry, self.share_expiry())
    }

    fn run_timers(&mut self) {
        let now = self.vcpu.processor.tsc();
        self.vcpu.apic.run_timer(now);
        if self.vcpu.index != SERVES {
            return;
        }
        let machine = &*self.machine;
        let is_due = |expiry: Option<u64>| expiry.is_some_and(|expiry| expiry <= now);
        if is_due(machine.notices.tpm_expiry())
            && let Some(mut tpm) = machine.try_tpm()
        {
            tpm.expire(now);
            machine.update_tpm_line(&tpm, &mut self.vcpu.router(machine));
        }
        if is_due(machine.notices.timer.get()) {
            let mut router = self.vcpu.router(machine);
            machine.devices().run_timers(now, &mut router);
        }
        if is_due(self.share_expiry()) {
            self.share_with_tpm(now);
        }
    }

    /// Whether the module ends L2's run in time for what is due next. A deadline for a kick that has been heard since
    /// stays: it costs an exit for each time that kicks are given, which is less than a TDCALL for each kick.
    pub(super) fn deadline_is_set(&self) -> bool {
        let due = self.next_due();
        let Deadline::Set(set) = self.vcpu.deadline else {
            return false;
        };
        set == due
            || set.is_some_and(|set| {
                self.vcpu.recheck == Some(set) && due.is_none_or(|due| set < due)
            })
    }

    /// Gives the module what is due next.
    pub(super) fn set_deadline(&mut self) -> Result<(), Failure> {
        let expiry = self.next_due();
        self.vcpu.recheck = self.next_kick().filter(|kick| expiry == Some(*kick));
        match self.vcpu.vmcs.set_deadline(expiry) {
            Ok(()) => {
                self.vcpu.deadline = Deadline::Set(expiry);
                Ok(())
            }
            // "Too far in the future": ask again when the near one has passed.
            Err(Failure::Field {
                error: MetadataError::Operand(_),
                ..
            }) => {
                let near = self.vcpu.processor.tsc().saturating_add(NEAR_DEADLINE);
                self.vcpu.vmcs.set_deadline(Some(near))?;
                self.vcpu.deadline = Deadline::Set(expiry);
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Whether a processor is still halted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Halt {
    /// It is.
    On,
    /// It had INIT, and waits to be started, or has been.
    Over,
}

/// As [`L2::timer_expiry`], of the processor `index`.
pub(super) fn expiry<V: VapicPage>(
    apic: &LocalApic<V>,
    index: usize,
    notices: &Notices,
) -> Option<u64> {
    let own = apic.timer_expiry();
    if index != SERVES {
        return own;
    }
    earlier(own, earlier(notices.timer.get(), notices.tpm_expiry()))
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
