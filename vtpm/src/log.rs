//! The CC event log of the TD, with the registers that it explains.
//!
//! Every extend of an RTMR by L1 goes through here, so that register and log never part: a record
//! that does not fit is not extended, and an extend that fails is not logged.

use alloc::vec::Vec;

use attestation::digest::{Algorithm, extend_sha384};
use attestation::event_log::{self, Log, LogError, RecordHeader, ReplayError, SpecId};
use zerocopy::IntoBytes;

use crate::{TrustDomain, TrustDomainError};

/// Room that only [`MeasurementLog::measure_last`] may use: enough for a record with 32 bytes of
/// data.
pub const RESERVE: usize = size_of::<RecordHeader>() + 32;

/// Why a firmware's log cannot be continued. L1 must not run L2 then: nobody could explain what
/// the registers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContinueError {
    /// It is not an event log.
    #[error("the firmware's CC event log: {0}")]
    Log(#[from] LogError),
    /// It has records of registers that do not exist.
    #[error("the firmware's CC event log: {0}")]
    Replay(#[from] ReplayError),
    /// It is an event log, but not with SHA-384 alone.
    #[error("the firmware's CC event log has other digests than SHA-384")]
    Algorithms,
    /// It is as large as the whole log may become.
    #[error("the firmware's CC event log leaves no room for another record")]
    NoRoom,
}

/// Why nothing was measured. Neither the register nor the log has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// The log has no room for the record.
    #[error("the CC event log is full")]
    Full,
    /// L1 has no such register to extend.
    #[error("there is no RTMR {0}")]
    NoSuchRegister(u8),
    /// The TDX module did not extend the register.
    #[error("{0}")]
    TrustDomain(#[from] TrustDomainError),
}

/// The log, within a fixed capacity, and what the RTMRs hold if it tells the whole story.
#[derive(Debug)]
pub struct MeasurementLog {
    bytes: Vec<u8>,
    capacity: usize,
    rtmrs: [[u8; 48]; 4],
}

impl MeasurementLog {
    /// Goes on with the firmware's log, or begins one when it handed over none. The log never has
    /// more than `capacity` bytes, all of which are allocated now.
    pub fn continuing(firmware_log: Option<&[u8]>, capacity: usize) -> Result<Self, ContinueError> {
        let mut bytes = Vec::with_capacity(capacity);
        let mut rtmrs = [[0; 48]; 4];
        match firmware_log {
            Some(firmware_log) => {
                let log = Log::parse(firmware_log)?;
                if log.algorithms != [Algorithm::Sha384] {
                    return Err(ContinueError::Algorithms);
                }
                rtmrs = event_log::replay_rtmrs(&log.events)?;
                if log.length + RESERVE > capacity {
                    return Err(ContinueError::NoRoom);
                }
                bytes.extend(firmware_log.iter().take(log.length));
            }
            None => {
                let header = SpecId::new(*b"tdpvtpm");
                if header.as_bytes().len() + RESERVE > capacity {
                    return Err(ContinueError::NoRoom);
                }
                bytes.extend(header.as_bytes());
            }
        }
        Ok(Self {
            bytes,
            capacity,
            rtmrs,
        })
    }

    /// Extends RTMR `rtmr` with `digest` and appends the record of it.
    pub fn measure(
        &mut self,
        trust_domain: &mut impl TrustDomain,
        rtmr: u8,
        event_type: u32,
        digest: &[u8; 48],
        data: &[u8],
    ) -> Result<(), MeasureError> {
        let limit = self.capacity.saturating_sub(RESERVE);
        self.measure_within(limit, trust_domain, rtmr, event_type, digest, data)
    }

    /// As [`measure`](Self::measure), with the room that was kept for the one record that says that
    /// the log ends.
    pub fn measure_last(
        &mut self,
        trust_domain: &mut impl TrustDomain,
        rtmr: u8,
        event_type: u32,
        digest: &[u8; 48],
        data: &[u8],
    ) -> Result<(), MeasureError> {
        self.measure_within(self.capacity, trust_domain, rtmr, event_type, digest, data)
    }

    fn measure_within(
        &mut self,
        limit: usize,
        trust_domain: &mut impl TrustDomain,
        rtmr: u8,
        event_type: u32,
        digest: &[u8; 48],
        data: &[u8],
    ) -> Result<(), MeasureError> {
        let value = self
            .rtmrs
            .get_mut(usize::from(rtmr))
            .ok_or(MeasureError::NoSuchRegister(rtmr))?;
        let record =
            event_log::cc_record(rtmr, event_type, *digest, data).ok_or(MeasureError::Full)?;
        let start = self.bytes.len();
        if record.len() > limit.saturating_sub(start) {
            return Err(MeasureError::Full);
        }
        trust_domain.extend_rtmr(rtmr, digest)?;
        *value = extend_sha384(value, digest);
        self.bytes.extend(&record);
        trust_domain.publish_log(start, &record);
        Ok(())
    }

    /// The whole log.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What RTMR `rtmr` holds after the events of the log.
    pub fn rtmr(&self, rtmr: u8) -> Option<&[u8; 48]> {
        self.rtmrs.get(usize::from(rtmr))
    }
}
