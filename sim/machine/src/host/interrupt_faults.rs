//! Interrupts of one virtual processor for another that get lost, come late, or come from nobody.

use alloc::collections::VecDeque;

use super::interrupt_command::Delivery;
use crate::options::Fault;

/// Ticks a microsecond.
const MICROSECOND: u64 = 1000;

/// An interrupt on its way to a virtual processor.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnItsWay {
    pub(super) index: u32,
    pub(super) delivery: Delivery,
}

/// What goes wrong with them, and what has.
#[derive(Debug, Default)]
pub(super) struct InterruptFaults {
    lost: Option<u64>,
    late: Option<u64>,
    invented: Option<u64>,
    sent: u64,
    exits: u64,
    last_vector: Option<u8>,
    next_victim: u32,
    /// By the time when they come, which is the order of sending.
    waiting: VecDeque<(u64, OnItsWay)>,
}

impl InterruptFaults {
    pub(super) fn new(faults: &[Fault]) -> Self {
        let mut planned = Self::default();
        for fault in faults {
            match *fault {
                Fault::InterruptsLost { every } => planned.lost = Some(every),
                Fault::InterruptsLate { microseconds } => planned.late = Some(microseconds),
                Fault::InterruptsInvented { every } => planned.invented = Some(every),
                _ => {}
            }
        }
        planned
    }

    /// An interrupt is sent: it is given back if it arrives at once.
    pub(super) fn send(&mut self, now: u64, interrupt: OnItsWay) -> Option<OnItsWay> {
        self.sent += 1;
        if let Delivery::Fixed(vector) = interrupt.delivery {
            self.last_vector = Some(vector);
        }
        if self
            .lost
            .is_some_and(|every| self.sent.is_multiple_of(every))
        {
            return None;
        }
        match self.late {
            None => Some(interrupt),
            Some(microseconds) => {
                let due = now.saturating_add(microseconds.saturating_mul(MICROSECOND));
                self.waiting.push_back((due, interrupt));
                None
            }
        }
    }

    /// One that is due by now.
    pub(super) fn arrive(&mut self, now: u64) -> Option<OnItsWay> {
        let (due, _) = self.waiting.front()?;
        if *due > now {
            return None;
        }
        self.waiting.pop_front().map(|(_, interrupt)| interrupt)
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.waiting.front().map(|(due, _)| *due)
    }

    /// The TD has left to the host: the interrupt that nobody sent, of `count` virtual processors one after another.
    pub(super) fn exited(&mut self, count: u32) -> Option<(u32, u8)> {
        let every = self.invented?;
        self.exits += 1;
        if !self.exits.is_multiple_of(every) {
            return None;
        }
        let vector = self.last_vector?;
        self.next_victim = (self.next_victim + 1) % count;
        Some((self.next_victim, vector))
    }
}
