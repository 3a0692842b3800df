//! What registers hold after the events of a log.

use super::{Event, Log};
use crate::digest::{Algorithm, extend_sha384};
use crate::pcr::Bank;
use alloc::vec::Vec;

/// Why a log cannot be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A record of a register that does not exist or cannot be extended.
    #[error(
        "the record at {offset:#x} extends register {}, which a guest cannot extend",
        register.cast_signed()
    )]
    Register {
        /// Index in the record.
        register: u32,
        /// Of the record.
        offset: usize,
    },
    /// The log has no SHA-384 digests.
    #[error(
        "the record at {offset:#x} has no SHA-384 digest, so it is no record of a CC event log"
    )]
    NoSha384 {
        /// Of the record.
        offset: usize,
    },
}

/// RTMR0 to RTMR3 after the events of a CC event log.
pub fn replay_rtmrs<'a>(
    events: impl IntoIterator<Item = &'a Event<'a>>,
) -> Result<[[u8; 48]; 4], ReplayError> {
    let mut rtmrs = [[0; 48]; 4];
    for event in events.into_iter().filter(|event| event.extends()) {
        let offset = event.offset;
        let register = event.register;
        let rtmr = usize::try_from(register)
            .ok()
            .and_then(|index| rtmrs.get_mut(index.checked_sub(1)?))
            .ok_or(ReplayError::Register { register, offset })?;
        let digest = event
            .digest(Algorithm::Sha384)
            .and_then(|digest| digest.bytes().try_into().ok())
            .ok_or(ReplayError::NoSha384 { offset })?;
        *rtmr = extend_sha384(rtmr, digest);
    }
    Ok(rtmrs)
}

/// The PCRs after the events of a TCG log, a bank for each algorithm of the log, which began with
/// TPM2_Startup(CLEAR) from locality 0.
pub fn replay_pcrs(log: &Log<'_>) -> Result<Vec<Bank>, ReplayError> {
    let mut banks: Vec<_> = log
        .algorithms
        .iter()
        .copied()
        .map(Bank::at_startup)
        .collect();
    banks.sort_by_key(Bank::algorithm);
    for event in log.events.iter().filter(|event| event.extends()) {
        for bank in &mut banks {
            let extended = event
                .digest(bank.algorithm())
                .map(|digest| bank.extend(event.register, digest));
            if !matches!(extended, Some(Ok(()))) {
                return Err(ReplayError::Register {
                    register: event.register,
                    offset: event.offset,
                });
            }
        }
    }
    Ok(banks)
}
