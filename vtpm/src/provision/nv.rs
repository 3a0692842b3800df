//! NV indices of the platform.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use attestation::digest::Algorithm;
use attestation::tpm::{ResponseError, cc, rc, rh};

use super::{CommandError, Provisioner, password, refused, unreadable};
use crate::Engine;
use crate::request::counts_uses;

/// The first handle of NV indices.
const NV_FIRST: u32 = 0x0100_0000;

bitflags::bitflags! {
    /// TPMA_NV (TPM 2.0 Library, part 2, table "TPMA_NV").
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct NvAttributes: u32 {
        const PPWRITE = 1 << 0;
        const OWNERWRITE = 1 << 1;
        const AUTHWRITE = 1 << 2;
        const WRITELOCKED = 1 << 11;
        const WRITEDEFINE = 1 << 13;
        const PPREAD = 1 << 16;
        const OWNERREAD = 1 << 17;
        const AUTHREAD = 1 << 18;
        const NO_DA = 1 << 25;
        const WRITTEN = 1 << 29;
        const PLATFORMCREATE = 1 << 30;

        /// The platform's, for anyone to read.
        const PUBLIC = Self::PPWRITE.bits() | Self::PPREAD.bits() | Self::OWNERREAD.bits()
            | Self::AUTHREAD.bits() | Self::NO_DA.bits() | Self::PLATFORMCREATE.bits();
        /// For anyone to read, and never written again.
        const CERTIFICATE = Self::PUBLIC.bits() | Self::WRITEDEFINE.bits();
        /// For anyone to read and write.
        const MAILBOX = Self::PUBLIC.bits() | Self::OWNERWRITE.bits() | Self::AUTHWRITE.bits();

        const _ = !0;
    }
}

/// What there is to know of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NvPublic {
    pub(crate) attributes: NvAttributes,
    pub(crate) size: u16,
}

/// Bytes that one command reads or writes at most: MAX_NV_BUFFER_SIZE of the reference code.
const BUFFER: u16 = 1024;

impl<E: Engine> Provisioner<E> {
    /// TPM2_NV_ReadPublic; `None` when there is no such index.
    pub(crate) fn nv_public(&mut self, index: u32) -> Result<Option<NvPublic>, CommandError> {
        let response = match self.run(cc::NV_READ_PUBLIC, |command| command.handle(index)) {
            Ok(response) => response,
            Err(error) if is_unknown_handle(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut fields = response.parameters;
        let mut read = || {
            let (_size, _index) = (fields.u16()?, fields.u32()?);
            let _name_algorithm = fields.u16()?;
            let attributes = fields.u32()?;
            let _policy = fields.sized()?;
            Ok(NvPublic {
                attributes: NvAttributes::from_bits_retain(attributes),
                size: fields.u16()?,
            })
        };
        read().map(Some).map_err(unreadable(cc::NV_READ_PUBLIC))
    }

    /// The indices that count by themselves how often their values were guessed or used.
    pub(crate) fn pin_indices(&mut self) -> Result<BTreeSet<u32>, CommandError> {
        /// TPM_CAP_HANDLES.
        const CAP_HANDLES: u32 = 1;
        /// More than there is room for in one answer.
        const MANY: u32 = 0x400;
        let mut pins = BTreeSet::new();
        let mut next = Some(NV_FIRST);
        while let Some(first) = next.take() {
            let response = self.run(cc::GET_CAPABILITY, |command| {
                command.u32(CAP_HANDLES).u32(first).u32(MANY)
            })?;
            let mut fields = response.parameters;
            let mut read = || {
                let more = fields.u8()?;
                fields.u32()?;
                let handles: Result<Vec<u32>, _> =
                    (0..fields.u32()?).map(|_| fields.u32()).collect();
                Ok((more, handles?))
            };
            let (more, handles) = read().map_err(unreadable(cc::GET_CAPABILITY))?;
            if more != 0 {
                next = handles.last().and_then(|last| last.checked_add(1));
            }
            for index in handles {
                if self
                    .nv_public(index)?
                    .is_some_and(|public| counts_uses(public.attributes.bits()))
                {
                    pins.insert(index);
                }
            }
        }
        Ok(pins)
    }

    /// Has an index of this size with these attributes: the one that is there, or a new one instead.
    pub(crate) fn nv_provide(
        &mut self,
        index: u32,
        attributes: NvAttributes,
        size: u16,
    ) -> Result<(), CommandError> {
        let state = NvAttributes::WRITTEN | NvAttributes::WRITELOCKED;
        match self.nv_public(index)? {
            Some(public)
                if public.size == size && public.attributes.difference(state) == attributes =>
            {
                return Ok(());
            }
            Some(_) => self.nv_undefine(index)?,
            None => {}
        }
        self.nv_define(index, attributes, size)
    }

    /// Puts `content` into an index of just its size that nobody can write any more.
    pub(crate) fn nv_put_for_good(
        &mut self,
        index: u32,
        content: &[u8],
    ) -> Result<(), CommandError> {
        if self.nv_public(index)?.is_some() {
            self.nv_undefine(index)?;
        }
        let size = u16::try_from(content.len()).unwrap_or(u16::MAX);
        self.nv_define(index, NvAttributes::CERTIFICATE, size)?;
        self.nv_write(index, content)?;
        let authorization = self.authorization;
        self.run(cc::NV_WRITE_LOCK, |command| {
            command
                .authorized(rh::PLATFORM, password(&authorization))
                .handle(index)
        })
        .map(drop)
    }

    /// TPM2_NV_Write from the start of the index on, in as many commands as it takes.
    pub(crate) fn nv_write(&mut self, index: u32, content: &[u8]) -> Result<(), CommandError> {
        let authorization = self.authorization;
        let offsets = (0..u16::MAX).step_by(usize::from(BUFFER));
        for (offset, part) in offsets.zip(content.chunks(usize::from(BUFFER))) {
            self.run(cc::NV_WRITE, |command| {
                command
                    .authorized(rh::PLATFORM, password(&authorization))
                    .handle(index)
                    .sized(part)
                    .u16(offset)
            })?;
        }
        Ok(())
    }

    /// TPM2_NV_Read of the first `size` bytes, at most 1024.
    pub(crate) fn nv_read(&mut self, index: u32, size: u16) -> Result<Vec<u8>, CommandError> {
        let authorization = self.authorization;
        let response = self.run(cc::NV_READ, |command| {
            command
                .authorized(rh::PLATFORM, password(&authorization))
                .handle(index)
                .u16(size)
                .u16(0)
        })?;
        let mut fields = response.parameters;
        let content = fields.sized().map_err(unreadable(cc::NV_READ))?;
        Ok(content.to_vec())
    }

    /// As [`nv_read`](Self::nv_read), of an index of `N` bytes.
    pub(crate) fn nv_read_array<const N: usize>(
        &mut self,
        index: u32,
    ) -> Result<[u8; N], CommandError> {
        let size = u16::try_from(N).unwrap_or(u16::MAX);
        let content = self.nv_read(index, size)?;
        content
            .try_into()
            .map_err(|_| refused(cc::NV_READ, ResponseError::Malformed))
    }

    /// TPM2_NV_UndefineSpace, if there is such an index.
    pub(crate) fn nv_remove(&mut self, index: u32) -> Result<bool, CommandError> {
        let exists = self.nv_public(index)?.is_some();
        if exists {
            self.nv_undefine(index)?;
        }
        Ok(exists)
    }

    fn nv_undefine(&mut self, index: u32) -> Result<(), CommandError> {
        let authorization = self.authorization;
        self.run(cc::NV_UNDEFINE_SPACE, |command| {
            command
                .authorized(rh::PLATFORM, password(&authorization))
                .handle(index)
        })
        .map(drop)
    }

    fn nv_define(
        &mut self,
        index: u32,
        attributes: NvAttributes,
        size: u16,
    ) -> Result<(), CommandError> {
        let authorization = self.authorization;
        // TPMS_NV_PUBLIC without policy.
        let public = [
            index.to_be_bytes().as_slice(),
            &Algorithm::Sha256.id().to_be_bytes(),
            &attributes.bits().to_be_bytes(),
            &[0, 0],
            &size.to_be_bytes(),
        ]
        .concat();
        self.run(cc::NV_DEFINE_SPACE, |command| {
            command
                .authorized(rh::PLATFORM, password(&authorization))
                .sized(&[])
                .sized(&public)
        })
        .map(drop)
    }
}

/// TPM_RC_HANDLE of any handle: bits 8 to 11 say of which.
fn is_unknown_handle(error: &CommandError) -> bool {
    const NUMBER: u32 = 0xF00;
    matches!(
        error,
        CommandError::Response { error: ResponseError::Code(code), .. }
            if code & !NUMBER == rc::HANDLE
    )
}
