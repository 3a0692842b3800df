//! What the virtual processors tell each other: interrupts, INIT, start-up, and that the run is over.

use vcpu_signals::{Mailbox, Vectors};

use super::{L2, union};
use crate::launch::boot::EntryState;
use crate::machine::notices::SERVES;
use crate::run::end::{End, Failure};
use crate::run::environment::{Environment, Processor};
use crate::vcpu::processor::{Activity, Deadline};

/// How long an inter-processor interrupt of the host's may take until it is sent again, in milliseconds.
const PATIENCE: u64 = 1;
/// How long the others may take to stop, in milliseconds.
const STOP_TIME: u64 = 2000;

impl<E: Environment> L2<'_, E> {
    /// Takes what others have posted. Whether INIT is among it, after which nothing goes on that was before: the
    /// start-up that follows may have come with it.
    #[inline]
    pub(super) fn hear(&mut self) -> Result<bool, End> {
        match self.is_signalled() {
            true => self.hear_posted(),
            false => Ok(false),
        }
    }

    #[cold]
    #[inline(never)]
    fn hear_posted(&mut self) -> Result<bool, End> {
        let mailbox = self.machine.peers.mailbox(self.vcpu.index);
        let Some(signals) = mailbox.and_then(Mailbox::take) else {
            return Ok(false);
        };
        if signals.stop {
            return Err(End::Stopped);
        }
        if signals.init {
            self.init()?;
            self.drop_interrupts(signals.level);
        } else {
            self.vcpu.apic.request_all(signals.edge, false);
            if self.vcpu.apic.address().accepts {
                self.vcpu.apic.request_all(signals.level, true);
                // It can have come before the notice that its end is of interest.
                let expected = self.vcpu.end_exits;
                self.vcpu.level_taken |= union(expected, signals.level) != expected;
            } else {
                self.drop_interrupts(signals.level);
            }
        }
        let waits = self.vcpu.activity != Activity::Active;
        // One that waits for its start takes no NMI.
        if signals.nmi_after_startup || signals.nmi && !waits {
            self.vcpu.apic.request_nmi();
        }
        // Nothing to a processor that runs.
        if let Some(vector) = signals.startup.filter(|_| waits) {
            self.vcpu.vmcs.start_up(vector)?;
            self.vcpu.activity = Activity::Active;
        }
        Ok(signals.init)
    }

    /// INIT. The boot processor starts over with the firmware, which a machine without has in its reset.
    fn init(&mut self) -> Result<(), End> {
        if self.vcpu.index == SERVES {
            return Err(End::Reset);
        }
        let dropped = self.vcpu.apic.level_triggered();
        self.vcpu.apic.init();
        self.publish_address();
        self.drop_interrupts(dropped);
        let cr0 = l2_exit::Vcpu::cr0(&self.vcpu.vmcs);
        self.vcpu.vmcs.initialize(&self.after_init(cr0))?;
        self.vcpu.processor.reset_l2_debug_registers();
        self.vcpu.deadline = Deadline::Passed;
        self.vcpu.stale_hints = 0;
        self.vcpu.activity = Activity::WaitsForStartUp { asleep: false };
        Ok(())
    }

    /// Level-triggered interrupts that the APIC had accepted, or that were on their way to it, and of which no end will
    /// come. The I/O APIC hears of it, or their pins would be dead for good.
    fn drop_interrupts(&mut self, vectors: Vectors) {
        if vectors == Vectors::default() {
            return;
        }
        let machine = &*self.machine;
        let mut router = self.vcpu.router(machine);
        let ioapic = &mut machine.devices().ioapic;
        for vector in 0..=u8::MAX {
            let word = vectors.get(usize::from(vector >> 6));
            if word.is_some_and(|word| word >> (vector & 63) & 1 != 0) {
                ioapic.end_of_interrupt(vector, &mut router);
            }
        }
    }

    /// The registers after INIT, before which CR0 was `cr0`.
    pub(super) fn after_init(&self, cr0: u64) -> EntryState {
        EntryState::after_init(self.cpuid_leaf(1, 0).eax, cr0)
    }

    /// Whether it waits for start-up, is counted among those that sleep, and has nothing to wake for. If there is
    /// something, it is counted no more: before it is taken.
    pub(super) fn sleeps_on(&mut self) -> bool {
        if self.vcpu.activity != (Activity::WaitsForStartUp { asleep: true }) {
            return false;
        }
        if !self.is_signalled() {
            return true;
        }
        self.vcpu.activity = Activity::WaitsForStartUp { asleep: false };
        self.machine.ending.wakes();
        false
    }

    /// Waits for something to be posted: once in the host. What the host has for L1 meanwhile is seen to.
    pub(super) fn wait_for_start_up(&mut self) -> Result<(), End> {
        if self.vcpu.activity == (Activity::WaitsForStartUp { asleep: false }) {
            self.vcpu.activity = Activity::WaitsForStartUp { asleep: true };
            let rip = l2_exit::Vcpu::rip(&self.vcpu.vmcs);
            self.fall_asleep(rip)?;
        }
        self.send_kicks()?;
        if self.next_kick().is_some() {
            self.wait_until_due(&mut None)?;
        } else {
            self.wait()?;
        }
        self.serve_devices();
        Ok(())
    }

    /// Only another processor can wake this one. An error if none is left to do that.
    pub(super) fn fall_asleep(&self, rip: u64) -> Result<(), End> {
        match self.machine.ending.falls_asleep(&self.machine.peers) {
            true => Err(End::Halted { rip }),
            false => Ok(()),
        }
    }

    /// Waits in the host until an interrupt of L1's comes, unless something is posted. Whether it was the timer's.
    pub(super) fn wait(&mut self) -> Result<Woken, End> {
        self.send_kicks()?;
        if !self.departs() {
            return Ok(Woken::Otherwise);
        }
        self.vcpu.processor.halt(self.machine.td);
        self.arrived();
        let interrupts = self.vcpu.processor.take_interrupts();
        self.vcpu.look_at_devices |= interrupts.devices;
        if interrupts.console {
            self.receive();
        }
        Ok(match interrupts.timer {
            true => Woken::ByTimer,
            false => Woken::Otherwise,
        })
    }

    /// Whether something is posted for this processor.
    pub(super) fn is_signalled(&self) -> bool {
        let mailbox = self.machine.peers.mailbox(self.vcpu.index);
        mailbox.is_some_and(Mailbox::is_pending)
    }

    /// Kicks those that something was posted for. Not under a lock.
    pub(super) fn send_kicks(&mut self) -> Result<(), Failure> {
        let machine = &*self.machine;
        if self.vcpu.index != SERVES && machine.notices.take_changed() {
            let kicks = &mut self.vcpu.kicks;
            machine.peers.post(SERVES, kicks, Mailbox::post_look);
        }
        if self.vcpu.kicks.are_heard() {
            return Ok(());
        }
        let processor = &self.vcpu.processor;
        self.vcpu
            .kicks
            .send(
                &machine.peers,
                machine.td,
                || processor.tsc(),
                self.patience(),
            )
            .map_err(Failure::Kick)
    }

    /// The processor that serves the machine looks now: from here on a change is another's to tell it of. To be called
    /// before it looks, or one that comes in between would be lost.
    pub(super) fn forget_changes(&self) {
        if self.vcpu.index == SERVES {
            self.machine.notices.take_changed();
        }
    }

    /// When a kick that nobody has heard is to be sent again.
    pub(super) fn next_kick(&self) -> Option<u64> {
        let peers = &self.machine.peers;
        self.vcpu.kicks.recheck(peers, self.patience())
    }

    /// How long a kick may take, in TSC ticks.
    pub(super) fn patience(&self) -> u64 {
        PATIENCE * self.machine.millisecond()
    }

    /// The run has ended here: stops the others, and waits until they have stopped. None if it had ended elsewhere.
    pub(super) fn conclude(&mut self, end: End) -> Option<End> {
        if end == End::Stopped || !self.machine.ending.begin() {
            self.machine.ending.stopped(&self.own_statistics());
            return None;
        }
        let peers = &self.machine.peers;
        peers.post_others(self.vcpu.index, &mut self.vcpu.kicks, Mailbox::post_stop);
        let now = self.vcpu.processor.tsc();
        self.vcpu.kicks.insist(peers, self.vcpu.index, now);
        let others = peers.count() - 1;
        let deadline = now + STOP_TIME * self.machine.millisecond();
        while self.machine.ending.count_stopped() < others {
            let sent = self.send_kicks();
            if sent.is_err() || self.vcpu.processor.tsc() > deadline {
                let stopped = self.machine.ending.count_stopped();
                log::warn!("{stopped} of {others} other virtual processors of L2's have stopped");
                break;
            }
            core::hint::spin_loop();
        }
        Some(end)
    }
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// L1's timer, which is one-shot.
    ByTimer,
    /// Anything else.
    Otherwise,
}
