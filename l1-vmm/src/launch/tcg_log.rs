//! The TCG event log in L2's memory, where the TPM2 table says that it is.

use super::gpa_range::GpaRange;
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
/// A reader finds the end at a record that is none; at least one byte is left for that (Linux,
/// `include/linux/tpm_eventlog.h`: an event of type 0 and size 0 ends the log, as does one that
/// reaches the end of the area).
pub fn put_tcg_log(
    memory: &impl GuestMemory,
    area: GpaRange,
    log: &[u8],
) -> Result<(), TcgLogError> {
    const ZEROS: [u8; 0x1000] = [0; 0x1000];
    let length = log.len() as u64;
    let room = area.length().saturating_sub(1);
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
        for length in [0, 1, 0x800, 0x27FF] {
            let memory = Memory(vec![0xCC; 0x4000].into());
            put_tcg_log(&memory, area, &vec![0xAA; length]).unwrap();
            let mut expected = vec![0xCC; 0x1000];
            expected.extend(vec![0xAA; length]);
            expected.resize(0x3800, 0);
            expected.resize(0x4000, 0xCC);
            assert_eq!(memory.0.into_inner(), expected);
        }
    }

    #[test]
    fn a_log_without_an_end_is_refused() {
        let area = GpaRange::new(0x1000, 0x2000).unwrap();
        let memory = Memory(vec![0xCC; 0x4000].into());
        let refused = put_tcg_log(&memory, area, &[0; 0x1000]);
        let (length, room) = (0x1000, 0xFFF);
        assert_eq!(refused, Err(TcgLogError::TooLong { length, room }));
        assert_eq!(memory.0.into_inner(), [0xCC; 0x4000]);
    }
}
