//! An engine whose commands are executed in slices of time.
//!
//! [`Sliced`] gives each command a slice, and comes back when the command is not done by then; whoever has the TPM goes on
//! with it when there is time. What nobody waits for is done between two commands, and gives way to the next one.
//!
//! Commands are copied when they come, responses when they are done: the memory in between is the engine's alone.
//!
//! Calls of services ([`crate::service`]) have slices as well: one that is not answered in its first is made again.

mod calls;
mod job;

use alloc::boxed::Box;

use tpm2_ref_sys::{CancelHandle, Fiber, Stack};

use self::calls::Calls;
use self::job::{Job, wipe};
use crate::message::CANCELED;
use crate::service::{Answer, Call, Serve, ServiceError};
use crate::{Cancel, Engine, EngineFailure, Locality, MAX_RESPONSE, Progress, Work};

/// The part of a slice's time for which none follows it that the guest asks for: between a slice that was due and
/// the driver's next look, what the driver stands in the way of has the processor.
const REST: u64 = 4;

/// What is done with the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    /// A command of the guest's.
    Command,
    /// A call of a service.
    Call,
    /// One of these whose answer nobody wants.
    Dropped,
    /// What nobody waits for.
    Own,
}

/// A command that waits for what is done.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    locality: Locality,
    length: usize,
    canceled: bool,
}

/// How slices were used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SliceFigures {
    /// How many there were.
    pub slices: u64,
    /// Commands that took more than one.
    pub long_commands: u64,
    /// The longest of a command, in TSC ticks.
    pub longest: u64,
    /// The longest of what nobody waits for.
    pub longest_own: u64,
    /// All of those.
    pub own: u64,
    /// The longest that was waited for what was under way when the guest was over.
    pub settling: u64,
}

/// See the [module](self).
pub struct Sliced<E> {
    fiber: Fiber<Job<E>>,
    /// The time stamp counter, as [`tpm2_ref_sys::tsc`] reads it.
    clock: fn() -> u64,
    /// Its ticks in a slice.
    slice: u64,
    doing: Doing,
    waiting: Option<Waiting>,
    /// The bytes of who waits.
    command: Box<[u8; MAX_RESPONSE]>,
    calls: Calls,
    cancel: Cancel,
    handle: CancelHandle,
    /// When the next slice is due whoever asks for it.
    due: u64,
    /// Before that none is to be had by asking: one who asks again at once has just been kept from the processor.
    rest: u64,
    established: bool,
    figures: SliceFigures,
}

impl<E: Engine + Send> Sliced<E> {
    /// `engine` on `stack`, with slices of so many ticks of the TSC. `cancel` reaches the commands of the TPM that it is made
    /// of. `None` if there is such an engine already.
    pub fn new(
        mut engine: E,
        stack: Stack,
        cancel: CancelHandle,
        clock: fn() -> u64,
        slice: u64,
    ) -> Option<Self> {
        let asked = Cancel::default();
        engine.heed(asked.clone());
        let established = engine.establishment();
        let job = Job::new(engine);
        Some(Self {
            fiber: Fiber::new(job, stack)?,
            clock,
            slice,
            doing: Doing::Nothing,
            waiting: None,
            command: Box::new([0; MAX_RESPONSE]),
            calls: Calls::default(),
            cancel: asked,
            handle: cancel,
            due: 0,
            rest: 0,
            established,
            figures: SliceFigures::default(),
        })
    }

    /// The engine, unless it is at something.
    pub fn engine(&self) -> Option<&E> {
        Some(&self.fiber.value()?.engine)
    }

    /// As [`engine`](Self::engine), to use it.
    pub fn engine_mut(&mut self) -> Option<&mut E> {
        Some(&mut self.fiber.value_mut()?.engine)
    }

    /// The engine, when what it is at is done, for a guest that is over: whatever is under way is asked to give up, and its
    /// answer is lost. How long that takes is bounded by what does not heed it: `docs/tpm-interfaces.md`.
    pub fn settled(&mut self) -> &mut E {
        let begin = (self.clock)();
        self.abandon();
        self.calls.forget();
        if self.doing != Doing::Nothing {
            self.doing = Doing::Dropped;
            self.cancel.ask();
        }
        while self.fiber.is_busy() {
            self.resume((self.clock)().saturating_add(self.slice));
        }
        let _ = self.finished(&mut []);
        let taken = (self.clock)().saturating_sub(begin);
        self.figures.settling = self.figures.settling.max(taken);
        &mut self.fiber.finish().engine
    }

    /// TSC value at which the command that is executed has its next slice, if nobody polled for it by then: half of the time
    /// is its then, the other half the guest's.
    pub fn due(&self) -> Option<u64> {
        (self.has_work() == Work::Command).then_some(self.due)
    }

    /// How slices were used.
    pub const fn figures(&self) -> SliceFigures {
        self.figures
    }

    /// The most of the stack that was ever in use, in bytes.
    pub fn stack_used(&self) -> usize {
        self.fiber.stack_used()
    }

    /// Does what is to be done up to `until`. A command's answer goes to `response`.
    fn advance(&mut self, until: u64, response: &mut [u8]) -> Result<Progress, EngineFailure> {
        loop {
            if self.doing == Doing::Nothing {
                let Some(waiting) = self.waiting.take() else {
                    return Err(EngineFailure);
                };
                if waiting.canceled {
                    wipe(self.command.as_mut_slice(), waiting.length);
                    let into = response.get_mut(..CANCELED.len()).ok_or(EngineFailure)?;
                    into.copy_from_slice(&CANCELED);
                    return Ok(Progress::Done(CANCELED.len()));
                }
                self.start(waiting, until);
            } else {
                self.resume(until);
            }
            if self.fiber.is_busy() {
                return Ok(Progress::Running);
            }
            if let Some(result) = self.finished(response) {
                return result.map(Progress::Done);
            }
            if (self.clock)() >= until {
                return Ok(Progress::Running);
            }
        }
    }

    /// What was done is over: the answer, if it was a command's that somebody waits for.
    fn finished(&mut self, response: &mut [u8]) -> Option<Result<usize, EngineFailure>> {
        let done = core::mem::replace(&mut self.doing, Doing::Nothing);
        self.cancel.forget();
        let job = self.fiber.finish();
        self.established = job.engine.establishment();
        match done {
            Doing::Command => Some(job.take_answer(response)),
            Doing::Call => {
                let answer = job.answer.take();
                self.calls.end(answer.unwrap_or(Err(ServiceError::Engine)));
                None
            }
            Doing::Dropped | Doing::Own | Doing::Nothing => {
                let _ = job.take_answer(&mut []);
                job.answer = None;
                None
            }
        }
    }

    /// What nobody waits for here.
    fn finish_if_done(&mut self) {
        if !self.fiber.is_busy() {
            let _ = self.finished(&mut []);
        }
    }

    fn start(&mut self, waiting: Waiting, until: u64) {
        let Waiting {
            locality, length, ..
        } = waiting;
        let job = self.fiber.finish();
        job.locality = locality;
        job.length = length;
        core::mem::swap(&mut job.command, &mut self.command);
        self.doing = Doing::Command;
        self.timed(until, |fiber| {
            fiber.start(Job::execute, until);
        });
        self.figures.long_commands += u64::from(self.fiber.is_busy());
    }

    fn resume(&mut self, until: u64) {
        // The engine forgets it when a command of its begins.
        if self.cancel.is_due() {
            self.handle.cancel();
        }
        self.timed(until, |fiber| {
            fiber.go_on(until);
        });
    }

    fn timed(&mut self, until: u64, slice: impl FnOnce(&mut Fiber<Job<E>>)) {
        let begin = (self.clock)();
        slice(&mut self.fiber);
        let end = (self.clock)();
        if until != u64::MAX {
            self.figures.slices += 1;
            let taken = end.saturating_sub(begin);
            let longest = match self.doing {
                Doing::Own => {
                    self.figures.own = self.figures.own.saturating_add(taken);
                    &mut self.figures.longest_own
                }
                _ => &mut self.figures.longest,
            };
            *longest = (*longest).max(taken);
        }
        if end >= self.due {
            self.due = end.saturating_add(self.slice);
        }
        self.rest = end.saturating_add(end.saturating_sub(begin) / REST);
    }

    fn slice_end(&self) -> u64 {
        (self.clock)().saturating_add(self.slice)
    }
}

impl<E: Engine + Serve + Send> Sliced<E> {
    /// Answers `call`. `None`: not yet, and the guest makes it again; what is under way has had a slice, be it this call,
    /// what it waits for, or another one.
    pub fn serve(&mut self, call: Call) -> Option<Answer> {
        let answer = self.take_answer(&call);
        if answer.is_some() {
            return answer;
        }
        let until = self.slice_end();
        if self.doing != Doing::Nothing {
            if self.doing == Doing::Own {
                self.cancel.ask();
            }
            self.resume(until);
            self.finish_if_done();
            let answer = self.take_answer(&call);
            if answer.is_some() || self.doing != Doing::Nothing || (self.clock)() >= until {
                return answer;
            }
        }
        // A command of the registers' comes first: whoever looks after them goes on with it.
        if self.waiting.is_some() {
            return None;
        }
        self.calls.begin(call.clone());
        self.fiber.finish().call = Some(call.clone());
        self.doing = Doing::Call;
        self.timed(until, |fiber| {
            fiber.start(Job::serve, until);
        });
        self.figures.long_commands += u64::from(self.fiber.is_busy());
        self.finish_if_done();
        self.take_answer(&call)
    }

    /// The answer to `call`, if it was executed before.
    pub fn take_answer(&mut self, call: &Call) -> Option<Answer> {
        self.calls.take(call)
    }
}

impl<E: Engine + Send> Engine for Sliced<E> {
    fn execute(
        &mut self,
        locality: Locality,
        command: &[u8],
        response: &mut [u8],
    ) -> Result<usize, EngineFailure> {
        let mut progress = self.begin(locality, command, response)?;
        loop {
            match progress {
                Progress::Done(length) => return Ok(length),
                Progress::Running => progress = self.advance(u64::MAX, response)?,
            }
        }
    }

    fn begin(
        &mut self,
        locality: Locality,
        command: &[u8],
        response: &mut [u8],
    ) -> Result<Progress, EngineFailure> {
        let length = command.len();
        let own = self.command.get_mut(..length).ok_or(EngineFailure)?;
        own.copy_from_slice(command);
        self.waiting = Some(Waiting {
            locality,
            length,
            canceled: false,
        });
        if self.doing == Doing::Own {
            self.cancel.ask();
        }
        self.advance(self.slice_end(), response)
    }

    fn go_on(
        &mut self,
        until: Option<u64>,
        response: &mut [u8],
    ) -> Result<Progress, EngineFailure> {
        let end = self.slice_end();
        if until.is_none() && self.fiber.is_busy() && (self.clock)() < self.rest {
            return Ok(Progress::Running);
        }
        self.advance(until.map_or(end, |until| until.min(end)), response)
    }

    fn cancel(&mut self) {
        match (&mut self.waiting, self.doing) {
            (Some(waiting), _) => waiting.canceled = true,
            (None, Doing::Command) => self.cancel.ask(),
            (None, _) => {}
        }
    }

    fn abandon(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            wipe(self.command.as_mut_slice(), waiting.length);
        }
        if self.doing == Doing::Command {
            self.doing = Doing::Dropped;
            self.cancel.ask();
        }
    }

    fn has_work(&self) -> Work {
        match (self.doing, &self.waiting) {
            (Doing::Command | Doing::Call | Doing::Dropped, _) | (_, Some(_)) => Work::Command,
            (Doing::Own, None) => Work::Own,
            (Doing::Nothing, None) => self.engine().map_or(Work::None, E::has_work),
        }
    }

    fn work(&mut self, until: u64) {
        if self.waiting.is_some() || self.has_work() == Work::None {
            return;
        }
        let until = until.min(self.slice_end());
        match self.doing {
            Doing::Nothing => {
                self.doing = Doing::Own;
                self.timed(until, |fiber| {
                    fiber.start(Job::work, until);
                });
            }
            _ => self.resume(until),
        }
        self.finish_if_done();
    }

    /// What the engine is at comes to its end before.
    fn reset(&mut self) -> Result<(), EngineFailure> {
        let reset = self.settled().reset();
        self.established = self.fiber.finish().engine.establishment();
        reset
    }

    fn establishment(&self) -> bool {
        self.established
    }

    fn reset_establishment(&mut self, locality: Locality) -> Result<(), EngineFailure> {
        let job = self.fiber.value_mut().ok_or(EngineFailure)?;
        let reset = job.engine.reset_establishment(locality);
        self.established = job.engine.establishment();
        reset
    }
}
