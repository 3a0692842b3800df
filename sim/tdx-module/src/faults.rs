//! What a test can make the module do that a real one does only under load or attack.

use alloc::collections::BTreeMap;

/// Requests that are used up as they come true. All default to none.
#[derive(Debug, Default)]
pub struct Faults {
    busy: BTreeMap<u64, u32>,
    interrupted: BTreeMap<u64, u32>,
    host_routes: BTreeMap<u32, u32>,
    missing_l2_sept: u32,
}

impl Faults {
    /// The next `times` calls of a TDCALL leaf that takes a lock find it taken: OPERAND_BUSY.
    pub fn busy(&mut self, leaf: u64, times: u32) {
        *self.busy.entry(leaf).or_default() += times;
    }

    /// The next `times` calls of an interruptible TDCALL leaf are cut short: L1 resumes at the same
    /// TDCALL.
    pub fn interrupt(&mut self, leaf: u64, times: u32) {
        *self.interrupted.entry(leaf).or_default() += times;
    }

    /// The next L2 exit with this basic exit reason becomes a TD exit, wherever it belongs.
    pub fn route_to_host(&mut self, exit_reason: u32) {
        *self.host_routes.entry(exit_reason).or_default() += 1;
    }

    /// The host has not added L2 secure-EPT pages for the next `times` calls of
    /// TDG.MEM.PAGE.ATTR.WR that need one.
    pub fn missing_l2_sept(&mut self, times: u32) {
        self.missing_l2_sept += times;
    }

    pub(crate) fn take_busy(&mut self, leaf: u64) -> bool {
        take(&mut self.busy, leaf)
    }

    pub(crate) fn take_interrupt(&mut self, leaf: u64) -> bool {
        take(&mut self.interrupted, leaf)
    }

    pub(crate) fn take_host_route(&mut self, exit_reason: u32) -> bool {
        take(&mut self.host_routes, exit_reason)
    }

    pub(crate) fn take_missing_l2_sept(&mut self) -> bool {
        let missing = self.missing_l2_sept != 0;
        self.missing_l2_sept = self.missing_l2_sept.saturating_sub(1);
        missing
    }
}

fn take<K: Ord>(requests: &mut BTreeMap<K, u32>, key: K) -> bool {
    match requests.get_mut(&key) {
        Some(times) if *times > 0 => {
            *times -= 1;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_true_as_often_as_asked_and_for_its_leaf_only() {
        let mut faults = Faults::default();
        faults.busy(2, 2);
        assert!(!faults.take_busy(24));
        assert!(faults.take_busy(2));
        assert!(faults.take_busy(2));
        assert!(!faults.take_busy(2));
    }
}
