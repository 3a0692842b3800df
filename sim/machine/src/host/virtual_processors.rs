//! The TD's virtual processors as the host runs them: one at a time, in turns.
//!
//! A turn ends when its time is over, when L1 halts, and at PAUSE, which a spinning processor executes; the next of those
//! that can run has the next one. What makes a virtual processor run is an interrupt that its L1 would take. With one
//! that can run, there are no turns.

use alloc::format;
use alloc::vec::Vec;

use tdx_module::{Action, Vm, VpEnterInput};

use super::interrupt_command::{Delivery, InterruptCommand};
use super::interrupt_faults::{InterruptFaults, OnItsWay};
use super::local_apic::LocalApic;
use super::pace::Pace;
use super::turns::Turns;
use super::{End, Host};
use crate::arch::clock::ticks_per_millisecond;
use crate::arch::cpu::rdtsc;
use crate::hardware::Timer;
use crate::options::Options;

/// How long a virtual processor runs that is entered before number 0.
const FIRST_MILLISECONDS: u64 = 10;

/// What a virtual processor waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Nothing: it can run.
    No,
    /// TDVMCALL<Instruction.HLT>: an interrupt.
    Interrupt,
    /// The same with interrupts blocked: nothing that comes.
    Forever,
    /// The host, until this time.
    Host(u64),
}

/// A virtual processor inside the TDX module.
#[derive(Clone, Copy, Debug)]
pub(super) enum Inside {
    /// In a TDCALL, with its lock.
    Held,
    /// The TDCALL is over, and this is what is next.
    Finished(Action),
    /// A VM of it runs on another processor, or has run there.
    Running(Vm),
}

/// One of them.
#[derive(Debug)]
struct VirtualProcessor {
    local_apic: LocalApic,
    wait: Wait,
    pace: Pace,
    /// What TDH.VP.ENTER is given next.
    input: VpEnterInput,
    /// It has not left the TDX module since.
    inside: Option<Inside>,
}

impl VirtualProcessor {
    fn can_run(&self) -> bool {
        self.wait == Wait::No && self.pace.allows(rdtsc())
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct VirtualProcessors {
    all: Vec<VirtualProcessor>,
    /// The one that was taken up.
    current: usize,
    turns: Turns,
    /// The length of the turn that runs, and the guest's time when it began.
    turn: u64,
    began: u64,
    /// Since when the one that was taken up has used time that was not yet counted.
    since: u64,
    faults: InterruptFaults,
}

impl VirtualProcessors {
    pub(super) fn new(options: &Options) -> Self {
        let new = |index: u32| {
            let id = options.apic_ids.get(index as usize).unwrap_or(&index);
            let late = options.late.iter().find(|(late, _)| *late == index);
            VirtualProcessor {
                local_apic: LocalApic::new(*id, index == 0),
                wait: late.map_or(Wait::No, |(_, milliseconds)| {
                    Wait::Host(milliseconds.saturating_mul(ticks_per_millisecond()))
                }),
                pace: Pace::of(index, options),
                input: VpEnterInput::default(),
                inside: None,
            }
        };
        Self {
            all: (0..u32::from(options.vcpus)).map(new).collect(),
            current: 0,
            turns: Turns::new(options.schedule),
            turn: 0,
            began: 0,
            since: 0,
            faults: InterruptFaults::new(&options.faults),
        }
    }

    /// VCPU_INDEX of the one that was taken up.
    pub(super) fn current(&self) -> u32 {
        self.current as u32
    }

    /// The local APIC of the one that was taken up.
    pub(super) fn local_apic(&mut self) -> &mut LocalApic {
        &mut self.all[self.current].local_apic
    }

    /// Whether the one that was taken up has not left the TDX module.
    pub(super) fn take_inside(&mut self) -> Option<Inside> {
        self.all[self.current].inside.take()
    }

    /// The one that was taken up stays inside a TDCALL.
    pub(super) fn stay_inside(&mut self) {
        self.set_inside(Inside::Held);
    }

    /// Where the one that was taken up stays.
    pub(super) fn set_inside(&mut self, inside: Inside) {
        self.all[self.current].inside = Some(inside);
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Whether this one can run.
    pub(super) fn is_ready(&self, index: usize) -> bool {
        self.all[index].can_run()
    }

    /// The next deadline of any timer.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let deadlines = self.all.iter().filter_map(|one| one.local_apic.deadline());
        deadlines.min()
    }

    /// The one that was taken up waits for an interrupt, or for ever.
    pub(super) fn halt(&mut self, blocked: bool) {
        self.all[self.current].wait = match blocked {
            false => Wait::Interrupt,
            true => Wait::Forever,
        };
    }

    /// The first that can run behind the one that was taken up, itself last.
    fn next(&self) -> Option<usize> {
        let count = self.all.len();
        (1..=count)
            .map(|step| (self.current + step) % count)
            .find(|&index| self.all[index].can_run())
    }

    fn can_run(&self) -> bool {
        self.all[self.current].can_run()
    }

    /// Whether the turn of the one that was taken up has an end: another can run, or a pace wants it.
    fn takes_turns(&self) -> bool {
        (0..).zip(&self.all).any(|(index, one)| {
            one.wait == Wait::No && one.pace.ends_turns(rdtsc(), index != self.current)
        })
    }

    /// The turn of the one that was taken up has ended.
    fn rest(&mut self) {
        self.all[self.current].pace.rest(self.since, rdtsc());
    }

    /// The length of the next turn, of the one that was taken up.
    fn next_turn(&mut self) -> u64 {
        let usual = self.turns.next_length();
        usual.min(self.all[self.current].pace.longest_turn(rdtsc()))
    }

    /// When the first that stalls may run again.
    fn stalled_until(&self) -> Option<u64> {
        let ready = self.all.iter().filter(|one| one.wait == Wait::No);
        ready
            .filter_map(|one| one.pace.resumes_after(rdtsc()))
            .min()
    }
}

impl Host {
    /// Runs the TD to its end.
    pub(super) fn run_virtual_processors(&mut self) -> End {
        self.processors.since = rdtsc();
        loop {
            if let Err(end) = self.choose().and_then(|()| self.run_once()) {
                return end;
            }
        }
    }

    /// Enters the virtual processor that was taken up, and serves the exit.
    fn run_once(&mut self) -> Result<(), End> {
        if !self.enter_and_serve()? {
            self.hardware.set_deadline(Timer::Turn, Some(0));
        }
        Ok(())
    }

    /// Enters the virtual processor that was taken up, and serves the exit, if there is one by now.
    pub(super) fn enter_and_serve(&mut self) -> Result<bool, End> {
        let input = self.processors.all[self.processors.current].input;
        let Some(exit) = self.enter(input)? else {
            return Ok(false);
        };
        let input = self.serve(&exit)?;
        if let Some((index, vector)) = self.processors.faults.exited(self.options.vcpus.into()) {
            self.post(index, vector);
        }
        self.processors.all[self.processors.current].input = input;
        Ok(true)
    }

    /// Enters virtual processor `index` before number 0: for so long that it has come to where it waits, or is lost. The
    /// error is the end that it made.
    pub(super) fn run_first(&mut self, index: u32) -> Result<(), End> {
        self.take_up(index as usize)?;
        let limit = rdtsc().saturating_add(FIRST_MILLISECONDS * ticks_per_millisecond());
        while rdtsc() < limit && self.processors.can_run() {
            self.hardware.set_deadline(Timer::Turn, Some(limit));
            self.run_once()?;
        }
        self.hardware.set_deadline(Timer::Turn, None);
        self.take_up(0)
    }

    /// The host needs the TD's memory: virtual processors that are held inside the module finish their TDCALLs.
    pub(super) fn let_held_finish(&mut self) -> Result<(), End> {
        let current = self.processors.current;
        for index in 0..self.processors.all.len() {
            if let Some(Inside::Held) = self.processors.all[index].inside {
                self.take_up(index)?;
                let next = self.module.finish_held(&mut self.hardware);
                self.processors.all[index].inside = Some(Inside::Finished(next));
            }
        }
        self.take_up(current)
    }

    pub(super) fn take_up(&mut self, index: usize) -> Result<(), End> {
        self.processors.current = index;
        self.module
            .take_up_vcpu(&mut self.hardware, index as u32)
            .map_err(|status| {
                End::Stuck(format!(
                    "virtual processor {index} cannot be entered: {:#018x}",
                    status.0
                ))
            })
    }

    /// Takes up the virtual processor that has the next turn, waiting until there is one.
    fn choose(&mut self) -> Result<(), End> {
        self.wake();
        if self.turn_is_over() || !self.processors.can_run() {
            self.hardware.set_deadline(Timer::Turn, None);
            self.processors.rest();
            let next = loop {
                match self.processors.next() {
                    Some(next) => break next,
                    None => self.wait()?,
                }
                self.wake();
            };
            if next != self.processors.current {
                self.take_up(next)?;
            }
            self.processors.since = rdtsc();
        }
        self.share_with_others();
        Ok(())
    }

    /// Those that waited for an interrupt and have one can run, and those that the host kept back until now.
    pub(super) fn wake(&mut self) {
        for (index, one) in (0..).zip(&mut self.processors.all) {
            let can_run = match one.wait {
                Wait::No => continue,
                Wait::Interrupt => self.module.interrupt_pending(index),
                Wait::Forever => false,
                Wait::Host(time) => time <= rdtsc(),
            };
            if can_run {
                one.wait = Wait::No;
            }
        }
    }

    /// The turn of the one that was taken up has an end, and PAUSE is one.
    fn share(&mut self) {
        if self.hardware.deadline(Timer::Turn).is_some() {
            return;
        }
        self.processors.turn = self.processors.next_turn();
        self.processors.began = self.hardware.profile.guest_time();
        let end = rdtsc().saturating_add(self.processors.turn);
        self.hardware.set_deadline(Timer::Turn, Some(end));
        self.hardware.set_pause_yields(true);
    }

    /// Whether the time of the turn is over, or was given up. A turn in which the processor has not come to execute
    /// anything is made longer.
    fn turn_is_over(&mut self) -> bool {
        match self.hardware.deadline(Timer::Turn) {
            // Given up.
            Some(0) => true,
            Some(end) if end <= rdtsc() => {
                let ran = self.hardware.profile.guest_time() != self.processors.began;
                if !ran {
                    self.processors.turn *= 2;
                    let end = rdtsc().saturating_add(self.processors.turn);
                    self.hardware.set_deadline(Timer::Turn, Some(end));
                }
                ran
            }
            _ => false,
        }
    }

    /// No virtual processor can run: something has to come.
    pub(super) fn wait(&mut self) -> Result<(), End> {
        let forever = |one: &VirtualProcessor| matches!(one.wait, Wait::Forever | Wait::Host(_));
        let nothing = self.processors.all.iter().all(forever) || !self.can_wake();
        let stall = self.processors.stalled_until();
        self.hardware.set_deadline(Timer::Stall, stall);
        // It ends a run of the VM that stalls, when there is one again: none before that.
        let of_vm = self.hardware.deadline(Timer::Module);
        if stall.is_some() {
            self.hardware.set_deadline(Timer::Module, None);
        }
        if self.hardware.deadline(Timer::Watchdog).is_none() && stall.is_none() && nothing {
            return Err(End::Stuck("the TD halted, and nothing can wake it".into()));
        }
        self.hardware.wait();
        self.hardware.set_deadline(Timer::Stall, None);
        self.hardware.set_deadline(Timer::Module, of_vm);
        self.poll()?;
        if self.options.share.is_some() {
            // What came began a turn, of nobody yet.
            self.hardware.set_deadline(Timer::Turn, None);
        }
        Ok(())
    }

    /// Gives L1 an interrupt on a virtual processor, which can run then if that is what it waited for.
    pub(super) fn post(&mut self, index: u32, vector: u8) {
        self.module.post_interrupt(index, vector);
        self.hardware.call(index);
        if index == self.processors.current() {
            return;
        }
        self.wake();
        self.share_with_others();
    }

    fn share_with_others(&mut self) {
        if self.options.threads {
            return;
        }
        if self.processors.takes_turns() {
            self.share();
        } else {
            self.hardware.set_deadline(Timer::Turn, None);
            self.hardware.set_pause_yields(false);
        }
    }

    /// Gives L1 an interrupt on the processors of this APIC id.
    pub(super) fn post_to_apic(&mut self, apic_id: u32, vector: u8) {
        for index in 0..self.processors.all.len() {
            if self.processors.all[index].local_apic.id() == apic_id {
                self.post(index as u32, vector);
            }
        }
    }

    /// Carries out a command of the one that was taken up.
    pub(super) fn command(&mut self, command: InterruptCommand) {
        for index in 0..self.processors.all.len() {
            let is_sender = index == self.processors.current;
            let apic_id = self.processors.all[index].local_apic.id();
            if !command.reaches(apic_id, is_sender) {
                continue;
            }
            let interrupt = OnItsWay {
                index: index as u32,
                delivery: command.delivery,
            };
            let sent = match is_sender {
                true => Some(interrupt),
                false => self.processors.faults.send(rdtsc(), interrupt),
            };
            if let Some(interrupt) = sent {
                self.arrived(interrupt);
            }
        }
        let due = self.processors.faults.next_due();
        self.hardware.set_deadline(Timer::Late, due);
    }

    fn arrived(&mut self, interrupt: OnItsWay) {
        match interrupt.delivery {
            Delivery::Fixed(vector) => self.post(interrupt.index, vector),
            Delivery::Nmi => {
                self.module.post_nmi(interrupt.index);
                self.hardware.call(interrupt.index);
                let one = &mut self.processors.all[interrupt.index as usize];
                if !matches!(one.wait, Wait::Host(_)) {
                    one.wait = Wait::No;
                }
                self.share_with_others();
            }
        }
    }

    /// Interrupts that came late are there.
    pub(super) fn deliver_late(&mut self, now: u64) {
        if self.hardware.deadline(Timer::Late).is_none() {
            return;
        }
        while let Some(interrupt) = self.processors.faults.arrive(now) {
            self.arrived(interrupt);
        }
        let due = self.processors.faults.next_due();
        self.hardware.set_deadline(Timer::Late, due);
    }

    /// The timers whose time is over have their interrupts.
    pub(super) fn expire_timers(&mut self, now: u64) {
        for index in 0..self.processors.all.len() {
            let local_apic = &mut self.processors.all[index].local_apic;
            if let Some(vector) = local_apic.expire(now) {
                self.post(index as u32, vector);
            }
        }
        self.arm_timers();
    }

    /// The machine's timer follows those of the local APICs.
    pub(super) fn arm_timers(&mut self) {
        let next = self.processors.next_deadline();
        self.hardware.set_deadline(Timer::LocalApic, next);
    }
}
