//! What each virtual processor has of the machine: one of them is in it, the others are kept here.

use alloc::boxed::Box;

use super::{Hardware, Timer, VMS};
use crate::arch::processor_state::ProcessorState;
use crate::profile::Interval;
use crate::svm::machine::VirtualMachine;
use crate::svm::run::SseState;

/// The hardware context of one virtual processor.
pub(super) struct Context {
    pub(super) machines: [VirtualMachine; VMS],
    /// Which VMs are to reach what the host shares.
    pub(super) shared_access: [bool; VMS],
    /// RDMSR of EFER is to look like one that ends no run.
    pub(super) efer_reads: [bool; VMS],
    /// While it is kept: the SSE registers, what stays in the processor, the module's deadline, the profile's interval.
    pub(super) kept: Kept,
}

pub(super) struct Kept {
    pub(super) sse: Box<SseState>,
    pub(super) processor: ProcessorState,
    deadline: Option<u64>,
    interval: Option<Interval>,
}

impl Context {
    pub(super) fn new() -> Self {
        Self {
            machines: [1, 2, 3, 4].map(VirtualMachine::new),
            shared_access: [true, false, false, false],
            efer_reads: [false; VMS],
            kept: Kept {
                sse: Box::new(SseState::new()),
                processor: ProcessorState::initial(),
                deadline: None,
                interval: None,
            },
        }
    }

    /// The module's deadline, while the context is kept.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.kept.deadline
    }
}

impl Hardware {
    /// Turns to the context of virtual processor `vcpu`, which is a new one if it was never turned to.
    pub(super) fn turn_to(&mut self, vcpu: u32) {
        let next = self.parked.remove(&vcpu);
        let next = next.unwrap_or_else(|| Box::new(Context::new()));
        let before = self.exchange(next);
        if self.is_given_out {
            self.spare = Some(before);
        } else {
            self.parked.insert(self.vcpu, before);
        }
        self.is_given_out = false;
        self.vcpu = vcpu;
    }

    /// Takes the context of the virtual processor that was taken up out of the machine.
    pub(super) fn give_out(&mut self) -> Box<Context> {
        let nobody = self.spare.take();
        let nobody = nobody.unwrap_or_else(|| Box::new(Context::new()));
        self.is_given_out = true;
        self.exchange(nobody)
    }

    /// Has a context back that was given out.
    pub(super) fn have_back(&mut self, vcpu: u32, context: Box<Context>) {
        if self.is_given_out && vcpu == self.vcpu {
            self.spare = Some(self.exchange(context));
            self.is_given_out = false;
        } else {
            self.parked.insert(vcpu, context);
        }
    }

    /// Puts another context into the machine.
    fn exchange(&mut self, next: Box<Context>) -> Box<Context> {
        let pause_yields = self.context.machines[0].pause_yields();
        let mut before = core::mem::replace(&mut self.context, next);
        before.kept.processor.save();
        self.context.kept.processor.load();
        // What is swapped once in each direction: out of the machine, and into it.
        for kept in [&mut before.kept, &mut self.context.kept] {
            self.processor.swap_sse(&mut kept.sse);
            let deadline = self.deadlines.get(Timer::Module);
            self.deadlines.set(Timer::Module, kept.deadline);
            kept.deadline = deadline;
            self.profile.swap_interval(&mut kept.interval);
        }
        self.set_pause_yields(pause_yields);
        before
    }
}
