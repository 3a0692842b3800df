//! The TCG event log in L2's memory, where the TPM2 table says that it is.

use super::gpa_range::GpaRange;
use attestation::event_log::SPARE;
use l2_exit::{GuestMemory, MemoryError};

/// Why L2 gets no event log, and so cannot be launched: nobody could explain its PCRs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TcgLogError {
    /// The log is too long, as with a very long command line.
    #[error("the TPM's event log has {length} bytes; its area has room for {room}")]
    TooLong {
        /// Its length.
        length: u64,
        /// The most that fits.
        room: u64,
    },
    /// L2's memory could not be written.
    #[error("the TPM's event log: {0}")]
    Memory(#[from] MemoryError),
}

/// Puts the log at the start of its area and zeros behind it.
///
/// A reader finds the end at a record that is none: [`SPARE`] bytes are left for that.
pub fn put_tcg_log(
    memory: &impl GuestMemory,
    area: GpaRange,
    log: &[u8],
) -> Result<(), TcgLogError> {
    const ZEROS: [u8; 0x1000] = [0; 0x1000];
    let length = log.len() as u64;
    let room = area.length().saturating_sub(SPARE as u64);
    if length > room {
        return Err(TcgLogError::TooLong { length, room });
    }
    memory.write(area.start(), log)?;
    let mut at = area.start() + length;
    while at < area.end() {
        let rest = usize::try_from(area.end() - at).unwrap_or(usize::MAX);
        let zeros = ZEROS.get(..rest.min(ZEROS.len())).unwrap_or(&ZEROS);
        memory.write(at, zeros)?;
        at += zeros.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use attestation::digest::Digests;
    use attestation::event_log::{EV_IPL, EV_SEPARATOR, Log, TcgLog};
    use attestation::pcr::PcrBanks;
    use core::cell::RefCell;

    struct Memory(RefCell<Vec<u8>>);

    impl GuestMemory for Memory {
        fn read(&self, gpa: u64, _: &mut [u8]) -> Result<(), MemoryError> {
            Err(MemoryError { gpa })
        }

        fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
            let at = gpa as usize;
            self.0
                .borrow_mut()
                .get_mut(at..at + from.len())
                .ok_or(MemoryError { gpa })?
                .copy_from_slice(from);
            Ok(())
        }
    }

    #[test]
    fn a_log_is_followed_by_zeros_to_the_end_of_its_area() {
        let area = GpaRange::new(0x1000, 0x3800).unwrap();
        for length in [0, 1, 0x800, 0x27EF, 0x27F0] {
            let memory = Memory(vec![0xCC; 0x4000].into());
            put_tcg_log(&memory, area, &vec![0xAA; length]).unwrap();
            let mut expected = vec![0xCC; 0x1000];
            expected.extend(vec![0xAA; length]);
            expected.resize(0x3800, 0);
            expected.resize(0x4000, 0xCC);
            assert_eq!(memory.0.into_inner(), expected);
        }
    }

    /// However many bytes are left behind the last record, another's parser finds the end.
    #[test]
    fn a_log_that_fills_its_area_to_any_remainder_is_read_by_others() {
        let area = GpaRange::new(0, 0x1000).unwrap();
        for left in 0..=40 {
            let mut log = TcgLog::new(PcrBanks::ALL);
            let digests = Digests::of(b"measured");
            log.append(0, EV_SEPARATOR, &digests, &[0; 4]);
            let mut longer = log.clone();
            longer.append(8, EV_IPL, &digests, &[]);
            log.append(
                8,
                EV_IPL,
                &digests,
                &vec![7; 0x1000 - longer.bytes().len() - left],
            );
            assert_eq!(log.bytes().len(), 0x1000 - left);
            let memory = Memory(vec![0xCC; 0x1000].into());
            let put = put_tcg_log(&memory, area, log.bytes());
            assert_eq!(put.is_ok(), left >= SPARE, "{left} left");
            if put.is_ok() {
                let area = memory.0.into_inner();
                assert_eq!(
                    clients::eventlog_rs::events(&area).unwrap(),
                    2,
                    "{left} left"
                );
                assert_eq!(Log::parse(&area).unwrap().length, 0x1000 - left);
            }
        }
    }

    #[test]
    fn a_log_without_an_end_is_refused() {
        let area = GpaRange::new(0x1000, 0x2000).unwrap();
        let memory = Memory(vec![0xCC; 0x4000].into());
        let refused = put_tcg_log(&memory, area, &[0; 0xFF1]);
        let (length, room) = (0xFF1, 0xFF0);
        assert_eq!(refused, Err(TcgLogError::TooLong { length, room }));
        assert_eq!(memory.0.into_inner(), [0xCC; 0x4000]);
    }
}
