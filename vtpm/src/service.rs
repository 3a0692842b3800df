//! Payloads of `TDVMCALL<Service>` (GHCI, "TDG.VP.VMCALL&lt;Service&gt;"): docs/measurement.md §8.
//!
//! Bytes in, bytes out: whoever gets the call has copied the command from the guest's page, and
//! writes the response to its page with GUID, length and status in front.

use alloc::sync::Arc;
use alloc::vec::Vec;

use attestation::event_log::{Log, LogError};
use attestation::window::{SELECTOR_SIZE, USER_DATA_SIZE};

pub use uefi_defs::Guid;
use uefi_defs::guid::{TCG_EVENT2_ENTRY, guid};
use uefi_defs::hob::{self, GuidExtension, Header};
use zerocopy::IntoBytes;
use zeroize::Zeroizing;

use crate::attested::Attested;
use crate::{Engine, Locality, MAX_RESPONSE, TrustDomain};

/// The vTPM of L1: 766cf580-8dc3-4cea-a94e-e5424da1da56.
pub const L1_VTPM: Guid = guid(0x766c_f580_8dc3_4cea_a94e_e542_4da1_da56);

/// Evidence: 6ac6b1a5-5d0c-4b37-9f5c-6e2f2c9a8f11.
pub const EVIDENCE: Guid = guid(0x6ac6_b1a5_5d0c_4b37_9f5c_6e2f_2c9a_8f11);

const VERSION: u8 = 0;
const DETECT: u8 = 1;
const EXECUTE: u8 = 2;
const REPORT: u8 = 1;
const READ: u8 = 2;

/// What the data of a command begins with, and of most responses: version, command, two bytes.
const PREFIX: usize = 4;
/// Most bytes of data of a command: one for the TPM that fills its buffer.
pub const DATA_MAX: usize = PREFIX + MAX_RESPONSE;

/// Status byte of a payload.
mod status {
    pub(super) const DONE: u8 = 0;
    pub(super) const FAILED: u8 = 1;
}

/// Why a command has no response payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// There is no such service, or not in this version, or it has no such command. GHCI status
    /// 0xFFFFFFFF.
    #[error("no such service or command")]
    Unsupported,
    /// The command has too few or too many bytes. GHCI status 4.
    #[error("the command has a wrong length")]
    CommandLength,
    /// There is too little room for the response, or for the longest one to a command that cannot be taken back. GHCI
    /// status 3.
    #[error("the response does not fit")]
    ResponseTooLong,
    /// The guest cannot have this locality. GHCI status 7.
    #[error("no locality of the guest's")]
    Locality,
    /// The TPM does not answer. GHCI status 1.
    #[error("the TPM does not answer")]
    Engine,
    /// What L1 has measured cannot be told. GHCI status 1.
    #[error("the launch events cannot be read: {0}")]
    Events(#[from] LogError),
}

/// A call of the guest's. One that is equal to another is the same call made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Where the guest has the command, and where it wants the response.
    pub places: [u64; 2],
    /// The service.
    pub guid: Guid,
    /// The command's data, the caller's own copy.
    pub data: Arc<Zeroizing<Vec<u8>>>,
    /// Bytes that there are for the response's data.
    pub room: usize,
}

/// The data of a response, or why there is none.
pub type Answer = Result<Vec<u8>, ServiceError>;

/// What answers calls.
pub trait Serve {
    /// Answers the command `data` of service `guid` in at most `room` bytes.
    ///
    /// # Errors
    /// As the response's status is to say.
    fn serve(&mut self, guid: &Guid, data: &[u8], room: usize) -> Answer;
}

impl<E: Engine, T: TrustDomain> Serve for Attested<E, T> {
    fn serve(&mut self, guid: &Guid, data: &[u8], room: usize) -> Answer {
        let (header, arguments) = data
            .split_first_chunk()
            .ok_or(ServiceError::CommandLength)?;
        let response = match (guid, header) {
            (&L1_VTPM, [VERSION, DETECT, 0, 0]) => self.detect()?,
            (&L1_VTPM, [VERSION, EXECUTE, locality, 0]) => {
                self.submit(*locality, arguments, room)?
            }
            (&EVIDENCE, [VERSION, REPORT, 0, 0]) => self.serve_report(arguments)?,
            (&EVIDENCE, [VERSION, READ, 0, 0]) => {
                let selector: &[u8; SELECTOR_SIZE] = arguments
                    .try_into()
                    .map_err(|_| ServiceError::CommandLength)?;
                self.window(selector, room)
            }
            _ => return Err(ServiceError::Unsupported),
        };
        match response.len() <= room {
            true => Ok(response),
            false => Err(ServiceError::ResponseTooLong),
        }
    }
}

impl<E: Engine, T: TrustDomain> Attested<E, T> {
    /// The events that L1 has measured for the guest's firmware, which goes on from there.
    fn detect(&self) -> Result<Vec<u8>, ServiceError> {
        let log = self.tcg_log();
        let events = Log::parse(log)?.events;
        let starts = events.iter().map(|event| event.offset);
        let ends = starts.clone().skip(1).chain([log.len()]);
        let mut response = [VERSION, DETECT, status::DONE, 0].to_vec();
        for (start, end) in starts.zip(ends) {
            let event = log.get(start..end).unwrap_or_default();
            put_guid_hob(&mut response, TCG_EVENT2_ENTRY, event)?;
        }
        let end = Header::new(hob::END, size_of::<Header>() as u16);
        response.extend(end.as_bytes());
        Ok(response)
    }

    /// Executes a command for the TPM as if it came by the registers of `locality`, whoever has those.
    fn submit(
        &mut self,
        locality: u8,
        command: &[u8],
        room: usize,
    ) -> Result<Vec<u8>, ServiceError> {
        // That of the platform is none of the guest's, by the registers either.
        let locality = Locality::new(locality.into())
            .filter(|locality| *locality < Locality::Four)
            .ok_or(ServiceError::Locality)?;
        if command.len() > MAX_RESPONSE {
            return Err(ServiceError::CommandLength);
        }
        if room < PREFIX + MAX_RESPONSE {
            return Err(ServiceError::ResponseTooLong);
        }
        let mut response = [VERSION, EXECUTE, status::DONE, 0].to_vec();
        response.resize(PREFIX + MAX_RESPONSE, 0);
        let (_, into) = response.split_at_mut(PREFIX);
        let length = self
            .execute(locality, command, into)
            .map_err(|_| ServiceError::Engine)?;
        response.truncate(PREFIX + length);
        Ok(response)
    }

    fn serve_report(&mut self, arguments: &[u8]) -> Result<Vec<u8>, ServiceError> {
        let user_data: [u8; USER_DATA_SIZE] = arguments
            .try_into()
            .map_err(|_| ServiceError::CommandLength)?;
        Ok(match self.report(user_data) {
            Ok(report) => [&[status::DONE, 0, 0, 0], report.as_slice()].concat(),
            Err(_) => [status::FAILED, 0, 0, 0].to_vec(),
        })
    }
}

fn put_guid_hob(to: &mut Vec<u8>, guid: Guid, data: &[u8]) -> Result<(), ServiceError> {
    let (extension, padding) =
        GuidExtension::new(guid, data.len()).ok_or(ServiceError::ResponseTooLong)?;
    let end = to.len() + size_of::<GuidExtension>() + data.len() + padding;
    to.extend(extension.as_bytes());
    to.extend(data);
    to.resize(end, 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_as_in_memory() {
        let expected = [
            0x80, 0xf5, 0x6c, 0x76, 0xc3, 0x8d, 0xea, 0x4c, 0xa9, 0x4e, 0xe5, 0x42, 0x4d, 0xa1,
            0xda, 0x56,
        ];
        assert_eq!(L1_VTPM, expected);
    }

    #[test]
    fn hobs_are_multiples_of_eight() {
        let mut list = Vec::new();
        put_guid_hob(&mut list, EVIDENCE, &[1; 5]).unwrap();
        assert_eq!(list.len(), 32);
        assert_eq!(list[..8], [4, 0, 32, 0, 0, 0, 0, 0]);
        assert_eq!(list[24..], [1, 1, 1, 1, 1, 0, 0, 0]);
    }
}
