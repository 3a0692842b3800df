//! Primary keys.

use attestation::tpm::{Public, ResponseError, cc, rh};

use super::{CommandError, Provisioner, refused, unreadable};
use crate::Engine;

/// A key in a transient slot.
pub(crate) struct TransientKey {
    /// Its handle.
    handle: u32,
    /// What it became of its template.
    pub(crate) public: Public,
}

impl<E: Engine> Provisioner<E> {
    /// TPM2_CreatePrimary in the endorsement hierarchy, whose authorization must be empty. To be
    /// [flushed](Self::flush).
    pub(crate) fn create_endorsement(
        &mut self,
        template: &Public,
    ) -> Result<TransientKey, CommandError> {
        // Empty authorization and data.
        let sensitive = [0; 4];
        let response = self.run_for_handle(cc::CREATE_PRIMARY, |command| {
            command
                .authorized(rh::ENDORSEMENT, &[])
                .sized(&sensitive)
                .bytes(&template.to_sized_bytes())
                // No outside information, no PCRs at creation.
                .sized(&[])
                .u32(0)
        })?;
        let mut fields = response.parameters;
        let public = fields.sized().and_then(Public::parse);
        let public = public.map_err(unreadable(cc::CREATE_PRIMARY))?;
        let handle = response
            .handle
            .ok_or(refused(cc::CREATE_PRIMARY, ResponseError::Malformed))?;
        Ok(TransientKey { handle, public })
    }

    /// TPM2_FlushContext.
    pub(crate) fn flush(&mut self, key: TransientKey) -> Result<(), CommandError> {
        self.run(cc::FLUSH_CONTEXT, |command| command.u32(key.handle))
            .map(drop)
    }

    /// TPM2_EvictControl by the owner, whose authorization must be empty: a copy of the key stays at
    /// `persistent`.
    pub(crate) fn persist(
        &mut self,
        key: &TransientKey,
        persistent: u32,
    ) -> Result<(), CommandError> {
        self.run(cc::EVICT_CONTROL, |command| {
            command
                .authorized(rh::OWNER, &[])
                .handle(key.handle)
                .u32(persistent)
        })
        .map(drop)
    }

    /// TPM2_ReadPublic.
    pub(crate) fn read_public(&mut self, handle: u32) -> Result<Public, CommandError> {
        let response = self.run(cc::READ_PUBLIC, |command| command.handle(handle))?;
        let mut fields = response.parameters;
        fields
            .sized()
            .and_then(Public::parse)
            .map_err(unreadable(cc::READ_PUBLIC))
    }
}
