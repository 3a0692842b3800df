//! How many virtual processors the TD may have.
//!
//! Each of them starts at the reset vector whenever the host likes, and waits in td-shim's memory for
//! a wakeup. L1 takes that memory over, so it must know of every processor that can ever be in it: a
//! processor that L1 does not run would run what L2 puts there, with L1's rights. The number is in no
//! register and in no quote; MAX_VCPUS bounds it for the life of the TD, and only L1 can ask for it.

use tdcall::leaf::VpInfo;

/// Virtual processors that L1 runs.
pub const SUPPORTED: u32 = 1;

/// The TD can have more virtual processors than L1 runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this TD may have {max} virtual processors (it has {num}), and L1 runs {SUPPORTED}: create it with MAX_VCPUS = {SUPPORTED}"
)]
pub struct TooManyProcessors {
    /// MAX_VCPUS.
    pub max: u32,
    /// NUM_VCPUS.
    pub num: u32,
}

/// Refuses a TD with processors that L1 does not run, be they there or only possible.
pub fn check(info: &VpInfo) -> Result<(), TooManyProcessors> {
    if info.max_vcpus > SUPPORTED || info.num_vcpus > SUPPORTED || info.vcpu_index >= SUPPORTED {
        return Err(TooManyProcessors {
            max: info.max_vcpus,
            num: info.num_vcpus,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tdx_defs::Gpaw;
    use tdx_defs::field::TdAttributes;

    #[test]
    fn a_processor_that_l1_does_not_run_is_refused_even_if_it_is_only_possible() {
        let info = |num_vcpus, max_vcpus, vcpu_index| VpInfo {
            gpaw: Gpaw::Bits52,
            attributes: TdAttributes::new(),
            num_vcpus,
            max_vcpus,
            vcpu_index,
            sys_rd: true,
        };
        assert_eq!(check(&info(1, 1, 0)), Ok(()));
        for (num, max, index) in [(1, 2, 0), (2, 2, 0), (2, 2, 1), (257, 576, 0), (2, 1, 0)] {
            let error = TooManyProcessors { max, num };
            assert_eq!(check(&info(num, max, index)), Err(error));
        }
    }
}
