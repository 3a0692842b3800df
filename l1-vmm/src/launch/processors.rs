//! How many virtual processors the TD may have.
//!
//! Each of them starts at the reset vector whenever the host likes, and waits in td-shim's memory for
//! a wakeup. L1 takes that memory over, so it must know of every processor that can ever be in it: a
//! processor that L1 has no stack for would run what L2 puts there, with L1's rights. The number is in
//! no register and in no quote; MAX_VCPUS bounds it for the life of the TD, and only L1 can ask for it.

use tdcall::leaf::VpInfo;

/// Virtual processors that L1 has room for.
pub const SUPPORTED: u32 = 16;

/// The TD is not one whose processors L1 can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessorsError {
    /// The TD can have more virtual processors than L1 has room for.
    #[error(
        "this TD may have {max} virtual processors (it has {num}), and L1 runs {SUPPORTED}: create it with MAX_VCPUS of {SUPPORTED} at most"
    )]
    TooMany {
        /// MAX_VCPUS.
        max: u32,
        /// NUM_VCPUS.
        num: u32,
    },
    /// The firmware has not started L1 on its boot processor, which it told apart by VCPU_INDEX.
    #[error("L1 was started on virtual processor {0}, and the firmware's boot processor is 0")]
    NotTheBootProcessor(u32),
}

/// Refuses a TD with processors that L1 has no room for, be they there or only possible.
pub fn check(info: &VpInfo) -> Result<(), ProcessorsError> {
    let (max, num) = (info.max_vcpus, info.num_vcpus);
    if max > SUPPORTED || num > SUPPORTED {
        return Err(ProcessorsError::TooMany { max, num });
    }
    match info.vcpu_index {
        0 => Ok(()),
        index => Err(ProcessorsError::NotTheBootProcessor(index)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tdx_defs::Gpaw;
    use tdx_defs::field::TdAttributes;

    fn info(num_vcpus: u32, max_vcpus: u32, vcpu_index: u32) -> VpInfo {
        VpInfo {
            gpaw: Gpaw::Bits52,
            attributes: TdAttributes::new(),
            num_vcpus,
            max_vcpus,
            vcpu_index,
            sys_rd: true,
        }
    }

    #[test]
    fn a_processor_that_l1_does_not_run_is_refused_even_if_it_is_only_possible() {
        for (num, max) in [(1, 1), (1, 16), (4, 4), (16, 16)] {
            assert_eq!(check(&info(num, max, 0)), Ok(()));
        }
        for (num, max, index) in [(1, 17, 0), (17, 17, 0), (17, 16, 1), (257, 576, 0)] {
            let error = ProcessorsError::TooMany { max, num };
            assert_eq!(check(&info(num, max, index)), Err(error));
        }
    }

    #[test]
    fn l1_starts_on_the_boot_processor() {
        let error = ProcessorsError::NotTheBootProcessor(1);
        assert_eq!(check(&info(2, 2, 1)), Err(error));
    }
}
