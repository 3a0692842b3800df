//! What changed is kept before the guest hears of it.
//!
//! The engine executes first and is asked for its state then, so that a command may have changed what cannot be kept.
//! A command that may do so runs between two saved states of the whole engine: if it succeeded and its state is not
//! kept, the engine goes back, and the command can be sent again as if it had not been. If it failed, what it changed
//! is what dictionary attacks are counted with: that stays.
//!
//! The host can take the storage away when it sees that something is written, and end the machine before a wrong
//! guess is counted for good. So nobody must learn what became of a guess that is not kept. In either case the guest
//! has the same answer after the same work, and until a state was written again, the one before the guess or the one
//! that counts it, no command runs that could make use of an authorization value or tells how many were wrong.
//!
//! The rest goes on without the storage: a PCR is extended, and what the engine writes beside it, the time and that
//! it was not shut down, is kept with the next command that waits for it.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use attestation::tpm::{Name, cc};

use super::failure::Withheld;
use crate::provision::{CommandKind, NvUse, Provisioner};
use crate::request::{Answer, Authorizations, Request, nv_indices, pin_defined, tells_of_guesses};
use crate::state::{Commits, Keeper, NotKept};
use crate::{CommandError, Engine, EngineFailure, SavedState};

/// Commands that the engine says write NV, and that only do so the first time after a startup, if at all: the state
/// of the whole engine is not saved for each extend, unless a session authorizes it, which may be bound to anything.
const SELDOM: [u32; 3] = [cc::PCR_EXTEND, cc::PCR_EVENT, cc::PCR_RESET];

/// What has to be written before a guess is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guesses {
    /// Nothing but what was not kept.
    Allowed,
    /// A state, even if it is the one that is kept: what became of the last guess is nobody's to know.
    Held,
}

/// The engine before a command.
pub(super) struct Before {
    /// All of it, if the command may change what is kept.
    saved: Option<SavedState>,
    /// How many states were committed.
    count: u64,
    /// Whether everything was kept.
    kept: bool,
    pin: Pin,
    /// The index that the command defines, if it counts by itself.
    pin_defined: Option<u32>,
}

impl Before {
    /// Of a TPM whose state dies with the TD.
    pub(super) const NOTHING: Self = Self {
        saved: None,
        count: 0,
        kept: true,
        pin: Pin::None,
        pin_defined: None,
    };
}

/// Whether the command may guess the value of an index that counts by itself (TPM_NT_PIN_FAIL, TPM_NT_PIN_PASS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pin {
    /// It does not.
    None,
    /// It may.
    Guessed,
}

/// Commands that are sent all the time and show nothing of Clock, nor of anything that is decided by it. A Clock that
/// nobody was shown may go back.
const TIMELESS: [u32; 7] = [
    cc::PCR_EXTEND,
    cc::PCR_EVENT,
    cc::PCR_RESET,
    cc::EVENT_SEQUENCE_COMPLETE,
    cc::PCR_READ,
    cc::GET_RANDOM,
    cc::STIR_RANDOM,
];

/// The keeper, and what there is to keep.
pub(super) struct Keeping {
    keeper: Box<dyn Keeper + Send>,
    commits: Commits,
    commands: Vec<CommandKind>,
    /// NV indices that count by themselves, and some that are gone.
    pins: BTreeSet<u32>,
    guesses: Guesses,
}

impl Keeping {
    /// Of an engine that was started; it is asked which of its commands write NV.
    pub(super) fn new<E: Engine>(
        keeper: Box<dyn Keeper + Send>,
        commits: Commits,
        tpm: &mut Provisioner<E>,
    ) -> Result<Self, CommandError> {
        Ok(Self {
            keeper,
            commits,
            commands: tpm.commands()?,
            pins: tpm.pin_indices()?,
            guesses: Guesses::Allowed,
        })
    }

    /// Whether the response may tell of Clock, so that Clock is kept before it is out: otherwise a host that cuts the
    /// power sets it back, and the TPM calls it safe a few seconds later.
    pub(super) fn may_show_clock(request: &Request<'_>) -> bool {
        request.code.is_some_and(|code| !TIMELESS.contains(&code))
    }

    /// Has the engine commit Clock, if nothing else made it do so. The journal has no record of that: it is no change that
    /// anybody made, and there are many.
    pub(super) fn commit_clock<E: Engine>(&mut self, engine: &mut E) -> Result<(), EngineFailure> {
        let noted = self.commits.is_noted();
        engine.commit()?;
        if !noted {
            let _ = self.commits.take();
        }
        Ok(())
    }

    /// Whether the last state that was committed is kept.
    pub(super) fn all_kept(&self) -> bool {
        self.commits.all_kept()
    }

    /// Keeps the last state that was committed, if that was not done.
    pub(super) fn keep(&mut self) -> Result<(), NotKept> {
        let Some(state) = self.commits.unkept() else {
            return Ok(());
        };
        match self.guesses {
            Guesses::Allowed => self.keeper.keep(&state)?,
            Guesses::Held => self.keeper.keep_anew(&state)?,
        }
        self.guesses = Guesses::Allowed;
        self.commits.tell_withheld();
        self.commits.kept();
        Ok(())
    }

    /// When the keeper is to be tended next.
    pub(super) fn due(&self) -> Option<u64> {
        self.keeper.due()
    }

    /// Has the keeper do what is left to do at this time.
    pub(super) fn tend(&mut self, now: u64) -> Result<(), NotKept> {
        self.keeper.tend(now)
    }

    /// Has the keeper do all that is left to do.
    pub(super) fn conclude(&mut self) -> Result<(), NotKept> {
        self.keeper.conclude()
    }

    /// Tells the keeper who the TPM is.
    pub(super) fn endorsed_as(&mut self, names: &[Name; 3]) -> Result<(), NotKept> {
        self.keeper.endorsed_as(names)
    }

    /// What is done before a command: what it must not run without is kept, and what it may change is saved.
    pub(super) fn before<E: Engine>(
        &mut self,
        request: &Request<'_>,
        command: &[u8],
        tpm: &mut Provisioner<E>,
    ) -> Result<Before, NotKept> {
        let kind = self
            .commands
            .iter()
            .find(|kind| Some(kind.code) == request.code);
        let values = Authorizations::of(command, kind.map_or(0, |kind| kind.handles));
        let seldom = request.code.is_some_and(|code| SELDOM.contains(&code));
        let writes = !seldom && kind.is_some_and(|kind| kind.nv == NvUse::MayWrite);
        let guesses = values == Authorizations::Values;
        let names_pin = nv_indices(command).any(|index| self.pins.contains(&index));
        let pin = match guesses && names_pin {
            true => Pin::Guessed,
            false => Pin::None,
        };
        let told = self.guesses == Guesses::Held
            && (tells_of_guesses(command, values) || request.authorized && names_pin);
        if writes || guesses || told {
            self.keep()?;
        }
        let may_change = writes || guesses || request.authorized && !seldom;
        let saved = match may_change {
            // Without it nothing could be undone.
            true => Some(tpm.engine().save().ok_or_else(|| {
                NotKept::Unavailable("the engine's state cannot be saved".into())
            })?),
            false => None,
        };
        Ok(Before {
            saved,
            count: self.commits.count(),
            kept: self.all_kept(),
            pin,
            pin_defined: pin_defined(command),
        })
    }

    /// Keeps what a command changed, if its answer has to wait for that.
    ///
    /// # Errors
    /// The answer is not to be given. If the command succeeded, it never was.
    pub(super) fn after<E: Engine>(
        &mut self,
        before: Before,
        request: &Request<'_>,
        answer: Answer<'_>,
        tpm: &mut Provisioner<E>,
    ) -> Result<(), Withheld> {
        let changed = self.commits.count() != before.count;
        let succeeded = matches!(answer, Answer::Succeeded { .. });
        self.pins.extend(before.pin_defined.filter(|_| succeeded));
        let guessed = before.saved.is_some() || request.authorized && !succeeded;
        let waits = guessed || Self::may_show_clock(request);
        let kept = match (changed, before.pin) {
            // Who sees what is written would see which guesses are right.
            (false, Pin::Guessed) => match &before.saved {
                Some(saved) => self.keeper.keep_anew(&saved.permanent),
                None => Ok(()),
            },
            (false, Pin::None) => Ok(()),
            // Nothing waits for a storage that is away.
            (true, _) if !waits && !before.kept => Ok(()),
            (true, _) => self.keep(),
        };
        let error = match kept {
            Ok(()) => return Ok(()),
            Err(error @ NotKept::Never(_)) => return Err(error.into()),
            Err(error) if !waits => {
                log::warn!("the TPM's state was not kept: {error}");
                return Ok(());
            }
            Err(error) => error,
        };
        if let Some(saved) = before.saved {
            // Also where the engine stays as it is: it takes as long.
            let now = match (tpm.engine().save(), succeeded) {
                (_, true) => Some(saved),
                (now, false) => now,
            };
            if let Some(now) = now {
                // It commits what it goes back to, which is what is to be kept then.
                tpm.engine_mut().restore(&now).map_err(CommandError::from)?;
            }
        }
        if guessed {
            self.guesses = Guesses::Held;
            self.commits.withhold();
        }
        Err(error.into())
    }
}
