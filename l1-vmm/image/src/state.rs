//! The TPM's state, unlocked or refused before there is a TPM.

use alloc::boxed::Box;
use alloc::vec::Vec;

use attestation::journal::Unlock;
use l1_vmm::launch::configuration::AttestedConfiguration;
use l1_vmm::launch::unlock::{self, Bounds, Facts, Host, Persistent, UnlockError, Unlocked};
use l1_vmm::state::StoreKeeper;
use l1_vmm::state::keeper::{Fresh, Kept};
use tpm2_ref_sys::NV_MEMORY_SIZE;
use vtpm::attested::MeasuredLaunch;
use vtpm::state::Keeper;
use zeroize::Zeroizing;

use crate::arch::{clock, random};
use crate::fatal::{FatalCode, OrFatal, fatal};
use crate::measurement::Domain;
use crate::own_devices::OwnDevices;

/// What a TPM starts from that is not new at each boot.
pub(crate) struct State {
    /// What its states are given to.
    pub(crate) keeper: Box<dyn Keeper + Send>,
    /// The engine's state; none for a first start.
    pub(crate) engine: Option<Zeroizing<Vec<u8>>>,
    /// What relying parties are told.
    pub(crate) unlock: Unlock,
}

/// Unlocks the state that the configuration has; none if it has none, or takes a new TPM where it cannot be opened.
pub(crate) fn open(
    measured: MeasuredLaunch<Domain>,
    attested: Option<&AttestedConfiguration>,
    own: OwnDevices,
) -> (MeasuredLaunch<Domain>, Option<State>) {
    let mut measured = measured;
    let has_state =
        |attested: &&AttestedConfiguration| attested.init_data.configuration.state.is_some();
    let Some(attested) = attested.filter(has_state) else {
        return (measured, None);
    };
    let begin = clock::nanoseconds();
    let OwnDevices { disk, channel } = own;
    let host = Host { channel, disk };
    let (domain, log) = measured.trust_domain_and_log();
    let unlocked = unlock::unlock(
        &attested.init_data,
        &attested.document,
        domain,
        log,
        host,
        NV_MEMORY_SIZE,
        &Bounds::default(),
    );
    let time = clock::nanoseconds().saturating_sub(begin);
    log::info!(target: "time", of = "unlock", ns = time; "time to unlock the TPM's state: {time} ns");
    match unlocked {
        Unlocked::Persistent(persistent) => {
            let Persistent { opened, facts } = *persistent;
            let fresh = Fresh {
                nv_size: NV_MEMORY_SIZE,
                policy: &attested.document,
            };
            let Kept { keeper, engine } =
                StoreKeeper::begin(opened, &fresh, random::fill).or_fatal(FatalCode::State);
            told(&facts, engine.is_none());
            let state = State {
                keeper: Box::new(keeper),
                engine,
                unlock: facts.journal,
            };
            (measured, Some(state))
        }
        Unlocked::Ephemeral(error) => {
            if let Some(error) = error {
                log::warn!(
                    "the TPM's state is not opened, and the TPM is a new one: {}: {error}",
                    error.name()
                );
            }
            (measured, None)
        }
        Unlocked::Refused(error) => refuse(measured, &error),
    }
}

fn told(facts: &Facts, fresh: bool) {
    let Unlock {
        key,
        rollback,
        epoch,
        counter,
        ..
    } = facts.journal;
    log::info!(
        target: "state",
        epoch, counter;
        "state: {}, key {}, rollback protection {}, epoch {epoch}, commit {counter}",
        if fresh { "none yet, the TPM is a new one" } else { "unlocked" },
        key.name(),
        rollback.name()
    );
}

/// The configuration wants no guest without its TPM.
fn refuse(measured: MeasuredLaunch<Domain>, error: &UnlockError) -> ! {
    if let Err(unmeasured) = measured.refuse(error.name()) {
        log::error!("the refusal was not measured: {unmeasured}");
    }
    fatal(
        FatalCode::State,
        format_args!("the TPM's state: {}: {error}", error.name()),
    )
}
