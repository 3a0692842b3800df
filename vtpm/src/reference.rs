//! The TPM 2.0 reference code as an [`Engine`].

use tpm2_ref_sys::{StateKind, Tpm};
use zeroize::Zeroizing;

use crate::message::{BAD_TAG, TAGS, VALUE};
use crate::{Engine, EngineFailure, Locality, SavedState};

/// A [`Tpm`] that was opened by whoever knows its entropy, its clock and its store.
pub struct Reference(Tpm);

impl Reference {
    /// Puts an open TPM behind the trait.
    pub const fn new(tpm: Tpm) -> Self {
        Self(tpm)
    }

    /// The TPM itself, for what is no register interface's business, such as its state.
    pub const fn tpm(&self) -> &Tpm {
        &self.0
    }

    /// As [`tpm`](Self::tpm), to change it.
    pub const fn tpm_mut(&mut self) -> &mut Tpm {
        &mut self.0
    }
}

impl Engine for Reference {
    fn execute(
        &mut self,
        locality: Locality,
        command: &[u8],
        response: &mut [u8],
    ) -> Result<usize, EngineFailure> {
        let length = self
            .0
            .execute(locality.number(), command, response)
            .map_err(|_| EngineFailure)?;
        name_bad_tag(command, response.get_mut(..length).unwrap_or_default());
        Ok(length)
    }

    fn reset(&mut self) -> Result<(), EngineFailure> {
        self.0.reset().map_err(|_| EngineFailure)
    }

    fn establishment(&self) -> bool {
        self.0.established()
    }

    fn reset_establishment(&mut self, locality: Locality) -> Result<(), EngineFailure> {
        self.0
            .reset_established(locality.number())
            .map_err(|_| EngineFailure)
    }

    fn commit(&mut self) -> Result<(), EngineFailure> {
        self.0.commit().map_err(|_| EngineFailure)
    }

    fn set_nv_available(&mut self, available: bool) {
        self.0.set_nv_available(available);
    }

    fn save(&self) -> Option<SavedState> {
        let state = |kind| self.0.state(kind).map(Zeroizing::new).ok();
        Some(SavedState {
            permanent: state(StateKind::Permanent)?,
            volatile: state(StateKind::Volatile)?,
        })
    }

    fn restore(&mut self, saved: &SavedState) -> Result<(), EngineFailure> {
        self.0
            .set_state(&saved.permanent, Some(&saved.volatile))
            .map_err(|_| EngineFailure)
    }
}

/// A command with neither of the tags is answered TPM_RC_BAD_TAG (TPM 2.0 Library, part 3, "Command Header Validation"), as
/// software that tries a TPM 1.2's first expects; libtpms says TPM_RC_VALUE.
fn name_bad_tag(command: &[u8], response: &mut [u8]) {
    let tag = command.first_chunk();
    if tag.is_some_and(|tag| !TAGS.contains(tag)) && *response == VALUE {
        response.copy_from_slice(&BAD_TAG);
    }
}
