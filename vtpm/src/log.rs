//! The CC event log of the TD, with the registers that it explains.
//!
//! Every extend of an RTMR by L1 goes through here, so that register and log never part: a record
//! that does not fit is not extended, and an extend that fails is not logged.

use alloc::vec::Vec;

use attestation::digest::{Algorithm, extend_sha384};
use attestation::event_log::{self, Log, LogError, RecordHeader, ReplayError, SpecId};
use zerocopy::IntoBytes;

use crate::{Error, TrustDomain, TrustDomainError};

/// Room that only [`MeasurementLog::measure_last`] may use: enough for a record with 32 bytes of
/// data.
pub const RESERVE: usize = size_of::<RecordHeader>() + 32;

/// Why a firmware's log cannot be continued. L1 must not run L2 then: nobody could explain what
/// the registers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContinueError {
    /// It is not an event log.
    #[error("{0}")]
    Log(#[from] LogError),
    /// It has records of registers that do not exist.
    #[error("{0}")]
    Replay(#[from] ReplayError),
    /// It is an event log, but not with SHA-384 alone.
    #[error("it has other digests than SHA-384")]
    Algorithms,
    /// It is as large as the whole log may become.
    #[error("it leaves no room for another record")]
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
    pub fn continuing(firmware_log: Option<&[u8]>, capacity: usize) -> Result<Self, Error> {
        let mut bytes = Vec::with_capacity(capacity);
        let mut rtmrs = [[0; 48]; 4];
        match firmware_log {
            Some(firmware_log) => {
                let log = Log::parse(firmware_log).map_err(ContinueError::from)?;
                if log.algorithms != [Algorithm::Sha384] {
                    return Err(ContinueError::Algorithms.into());
                }
                rtmrs = event_log::replay_rtmrs(&log.events).map_err(ContinueError::from)?;
                if log.length + RESERVE > capacity {
                    return Err(ContinueError::NoRoom.into());
                }
                bytes.extend(firmware_log.iter().take(log.length));
            }
            None => {
                let header = SpecId::new(*b"tdpvtpm");
                if header.as_bytes().len() + RESERVE > capacity {
                    return Err(ContinueError::NoRoom.into());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{QuoteError, QuoteStatus};
    use alloc::boxed::Box;
    use alloc::vec;
    use attestation::event_log::EV_EVENT_TAG;
    use proptest::prelude::*;

    /// Registers that can refuse to be extended, and L2's copy of the log.
    struct Registers {
        rtmrs: [[u8; 48]; 4],
        refuse: bool,
        copy: Vec<u8>,
    }

    impl Registers {
        fn new() -> Self {
            Self {
                rtmrs: [[0; 48]; 4],
                refuse: false,
                copy: Vec::new(),
            }
        }
    }

    impl TrustDomain for Registers {
        fn extend_rtmr(&mut self, rtmr: u8, digest: &[u8; 48]) -> Result<(), TrustDomainError> {
            if self.refuse {
                return Err(TrustDomainError::Extend(rtmr));
            }
            let value = &mut self.rtmrs[usize::from(rtmr)];
            *value = extend_sha384(value, digest);
            Ok(())
        }

        fn report(&mut self, _data: &[u8; 64]) -> Result<Box<[u8; 1024]>, TrustDomainError> {
            Err(TrustDomainError::Report)
        }

        fn start_quote(&mut self, _report: &[u8; 1024]) -> Result<(), QuoteError> {
            Err(QuoteError::NoService)
        }

        fn poll_quote(&mut self) -> QuoteStatus {
            QuoteStatus::Idle
        }

        fn random(&mut self, _into: &mut [u8]) -> Result<(), TrustDomainError> {
            Err(TrustDomainError::Random)
        }

        fn now(&self) -> u64 {
            0
        }

        fn publish_log(&mut self, offset: usize, bytes: &[u8]) {
            self.copy.resize(offset, 0);
            self.copy.extend(bytes);
        }
    }

    fn firmware_log() -> Vec<u8> {
        let mut log = SpecId::new(*b"td-shim").as_bytes().to_vec();
        for rtmr in [0, 1, 0] {
            log.extend(event_log::cc_record(rtmr, 4, [rtmr + 1; 48], &[0; 4]).unwrap());
        }
        log
    }

    #[test]
    fn a_firmware_log_is_continued_with_its_registers() {
        let firmware = firmware_log();
        // With room behind it that was never written.
        for fill in [0x00, 0xff] {
            let mut area = firmware.clone();
            area.resize(4096, fill);
            let log = MeasurementLog::continuing(Some(&area), 4096).unwrap();
            assert_eq!(log.bytes(), firmware);
            let first = extend_sha384(&[0; 48], &[1; 48]);
            assert_eq!(log.rtmr(0), Some(&extend_sha384(&first, &[1; 48])));
            assert_eq!(log.rtmr(1), Some(&extend_sha384(&[0; 48], &[2; 48])));
            assert_eq!(log.rtmr(3), Some(&[0; 48]));
            assert_eq!(log.rtmr(4), None);
        }
    }

    #[test]
    fn a_log_that_cannot_be_believed_is_not_continued() {
        let firmware = firmware_log();
        let mut other_register = firmware.clone();
        other_register.extend(event_log::cc_record(9, 4, [0; 48], &[]).unwrap());
        let cases: [(&str, Vec<u8>); 5] = [
            ("empty", vec![]),
            ("cut off", firmware[..firmware.len() - 1].to_vec()),
            ("no header", firmware[72..].to_vec()),
            ("a register that is none", other_register),
            ("garbage", vec![0x41; 300]),
        ];
        for (name, log) in cases {
            assert!(
                MeasurementLog::continuing(Some(&log), 4096).is_err(),
                "{name}"
            );
        }
        let tcg = attestation::event_log::TcgLog::new(attestation::pcr::PcrBanks::ALL);
        assert_eq!(
            MeasurementLog::continuing(Some(tcg.bytes()), 4096).err(),
            Some(ContinueError::Algorithms.into())
        );
        assert_eq!(
            MeasurementLog::continuing(Some(&firmware), firmware.len() + RESERVE - 1).err(),
            Some(ContinueError::NoRoom.into())
        );
        assert!(MeasurementLog::continuing(None, 100).is_err());
    }

    /// A record that fills the room to the last byte is taken, one byte more is not: with the room
    /// that is kept for the last record, and for that record itself.
    #[test]
    fn a_log_is_filled_to_its_last_byte() {
        let data = [7; 32];
        let record = event_log::cc_record(3, EV_EVENT_TAG, [1; 48], &data).unwrap();
        for missing in [0, 1] {
            let empty = MeasurementLog::continuing(None, 4096).unwrap();
            let capacity = empty.bytes().len() + record.len() + RESERVE - missing;
            let mut td = Registers::new();
            let mut log = MeasurementLog::continuing(None, capacity).unwrap();
            let measured = log.measure(&mut td, 3, EV_EVENT_TAG, &[1; 48], &data);
            let expected = if missing == 0 {
                Ok(())
            } else {
                Err(MeasureError::Full)
            };
            assert_eq!(measured, expected);
        }
    }

    #[test]
    fn an_extend_that_fails_is_not_logged() {
        let mut td = Registers::new();
        let mut log = MeasurementLog::continuing(None, 4096).unwrap();
        let before = (log.bytes().to_vec(), *log.rtmr(3).unwrap());
        td.refuse = true;
        assert_eq!(
            log.measure(&mut td, 3, EV_EVENT_TAG, &[1; 48], b"data"),
            Err(MeasureError::TrustDomain(TrustDomainError::Extend(3)))
        );
        assert_eq!((log.bytes().to_vec(), *log.rtmr(3).unwrap()), before);
        assert!(td.copy.is_empty());
        assert_eq!(
            log.measure(&mut td, 4, EV_EVENT_TAG, &[1; 48], b"data"),
            Err(MeasureError::NoSuchRegister(4))
        );
    }

    proptest! {
        #[test]
        fn log_and_registers_never_part(
            capacity in 200usize..2000,
            events in prop::collection::vec((0u8..4, prop::collection::vec(any::<u8>(), 0..200)), 0..30),
        ) {
            let mut td = Registers::new();
            let mut log = MeasurementLog::continuing(None, capacity).unwrap();
            td.publish_log(0, log.bytes());
            for (rtmr, data) in &events {
                let digest = attestation::digest::sha384(data);
                let before = log.bytes().len();
                match log.measure(&mut td, *rtmr, EV_EVENT_TAG, &digest, data) {
                    Ok(()) => prop_assert!(log.bytes().len() > before),
                    Err(error) => {
                        prop_assert_eq!(error, MeasureError::Full);
                        prop_assert_eq!(log.bytes().len(), before);
                    }
                }
            }
            prop_assert_eq!(log.measure_last(&mut td, 3, EV_EVENT_TAG, &[7; 48], &[0; 32]), Ok(()));
            prop_assert!(log.bytes().len() <= capacity);
            let parsed = Log::parse(log.bytes()).unwrap();
            prop_assert_eq!(event_log::replay_rtmrs(&parsed.events).unwrap(), td.rtmrs);
            for rtmr in 0..4 {
                prop_assert_eq!(log.rtmr(rtmr), Some(&td.rtmrs[usize::from(rtmr)]));
            }
            prop_assert_eq!(&td.copy, log.bytes());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = MeasurementLog::continuing(Some(&bytes), 4096);
            let mut whole = firmware_log();
            whole.extend(&bytes);
            let _ = MeasurementLog::continuing(Some(&whole), 4096);
        }
    }
}
