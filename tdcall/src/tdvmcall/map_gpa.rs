//! MapGPA.

use thiserror::Error;

use crate::raw::RawTdcall;
use crate::td::Td;
use crate::tdvmcall::VmcallError;
use tdx_defs::Gpa;
use tdx_defs::ghci::{CompletionStatus, sub_function};

/// Why a range was not converted. The part before the address named is converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MapGpaError {
    /// The range is empty, not in whole pages, or passes the end of the address space.
    #[error("MapGPA: the range is not one of whole pages")]
    Range,
    /// The host failed at `at`.
    #[error("MapGPA: failed at {:#x}: {error}", at.0)]
    Host {
        /// First address that is not known to be converted.
        at: Gpa,
        /// What it said.
        error: VmcallError,
    },
    /// The host asks to continue at an address that is not in the rest of the range or not a page.
    #[error("MapGPA: at {:#x} the host asks to continue at {next:#x}", at.0)]
    Continuation {
        /// First address that is not known to be converted.
        at: Gpa,
        /// R11.
        next: u64,
    },
    /// The host asks again and again for the same address.
    #[error("MapGPA: no progress at {:#x}", at.0)]
    NoProgress {
        /// First address that is not known to be converted.
        at: Gpa,
    },
}

impl<R: RawTdcall> Td<R> {
    /// How often the host may answer RETRY without progress.
    const MAP_GPA_STALLS: u32 = 16;

    /// `TDG.VP.VMCALL<MapGPA>`: asks the host to map `size` bytes from `start` on as shared or
    /// private, as the SHARED bit of `start` says. Both are multiples of 4 KiB.
    ///
    /// A host that answers RETRY is called again for the rest of the range, as long as it makes
    /// progress. Memory made private is not the TD's before it is accepted; memory made shared
    /// loses its content and its L2 aliases.
    pub fn map_gpa(&self, start: Gpa, size: u64) -> Result<(), MapGpaError> {
        let end = start.0.checked_add(size).ok_or(MapGpaError::Range)?;
        if size == 0 || !start.is_aligned(0x1000) || !Gpa(size).is_aligned(0x1000) {
            return Err(MapGpaError::Range);
        }
        let mut at = start.0;
        let mut stalls = 0;
        loop {
            let fail = |error| MapGpaError::Host { at: Gpa(at), error };
            let out = self
                .vmcall_raw(sub_function::MAP_GPA, [at, end - at, 0, 0])
                .map_err(fail)?;
            match CompletionStatus::from_r10(out.r10) {
                CompletionStatus::Retry => {
                    let next = out.r11;
                    if !Gpa(next).is_aligned(0x1000) || next < at || next >= end {
                        return Err(MapGpaError::Continuation { at: Gpa(at), next });
                    }
                    stalls = if next == at { stalls + 1 } else { 0 };
                    if stalls > Self::MAP_GPA_STALLS {
                        return Err(MapGpaError::NoProgress { at: Gpa(at) });
                    }
                    at = next;
                }
                status => return VmcallError::of(status).map_err(fail),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;
    use tdx_defs::Registers;

    const SHARED: u64 = 1 << 47;
    const START: Gpa = Gpa(SHARED | 0x10_0000);

    fn retry(next: u64) -> Registers {
        Registers {
            r10: 1,
            r11: next,
            ..Default::default()
        }
    }

    #[test]
    fn a_retry_continues_where_the_host_stopped() {
        let script = Script::new([
            retry(START.0 + 0x2000),
            retry(START.0 + 0x2000),
            Registers::default(),
        ]);
        Td::new(&script).map_gpa(START, 0x5000).unwrap();
        let asked: std::vec::Vec<_> = script.calls().iter().map(|c| (c.r12, c.r13)).collect();
        let rest = (START.0 + 0x2000, 0x3000);
        assert_eq!(asked, [(START.0, 0x5000), rest, rest]);
    }

    #[test]
    fn a_continuation_outside_the_rest_is_refused() {
        for next in [
            0,
            START.0 + 0x1001,
            START.0 - 0x1000,
            START.0 + 0x5000,
            START.0 & !SHARED,
        ] {
            let script = Script::new([retry(next)]);
            let error = MapGpaError::Continuation { at: START, next };
            assert_eq!(
                Td::new(&script).map_gpa(START, 0x5000),
                Err(error),
                "{next:#x}"
            );
        }
    }

    #[test]
    fn going_back_is_refused() {
        let script = Script::new([retry(START.0 + 0x2000), retry(START.0 + 0x1000)]);
        let error = MapGpaError::Continuation {
            at: Gpa(START.0 + 0x2000),
            next: START.0 + 0x1000,
        };
        assert_eq!(Td::new(&script).map_gpa(START, 0x5000), Err(error));
    }

    #[test]
    fn a_host_without_progress_is_given_up() {
        let script = Script::forever(retry(START.0));
        let error = MapGpaError::NoProgress { at: START };
        assert_eq!(Td::new(&script).map_gpa(START, 0x1000), Err(error));
        assert_eq!(script.count(), 17);
    }

    #[test]
    fn only_whole_pages_are_asked_for() {
        for (start, size) in [
            (0, 0),
            (0x800, 0x1000),
            (0x1000, 0x800),
            (u64::MAX - 0xFFF, 0x2000),
        ] {
            let script = Script::new([]);
            assert_eq!(
                Td::new(&script).map_gpa(Gpa(start), size),
                Err(MapGpaError::Range)
            );
        }
    }

    #[test]
    fn a_refusal_says_where() {
        let script = Script::new([
            retry(START.0 + 0x1000),
            Registers {
                r10: 0x8000_0000_0000_0001,
                ..Default::default()
            },
        ]);
        let error = MapGpaError::Host {
            at: Gpa(START.0 + 0x1000),
            error: VmcallError::GpaInUse,
        };
        assert_eq!(Td::new(&script).map_gpa(START, 0x5000), Err(error));
    }
}
