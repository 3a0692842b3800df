//! What a test can make the module do that a real one does only under load or attack.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Requests that are used up as they come true. All default to none.
#[derive(Debug, Default)]
pub struct Faults {
    busy: BTreeMap<u64, u32>,
    interrupted: BTreeMap<u64, u32>,
    host_routes: BTreeMap<u32, u32>,
    missing_l2_sept: u32,
    holds: Vec<Hold>,
    host_priorities: BTreeMap<u64, (u32, u64)>,
}

/// Calls of a leaf on one virtual processor that are held.
#[derive(Debug)]
struct Hold {
    leaf: u64,
    vcpu: u32,
    every: u64,
    calls: u64,
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

    /// At every so many calls of a TDCALL leaf that takes a lock, the virtual processor `vcpu` stays inside the leaf with
    /// the lock, while others run: what conflicts with it is truly busy.
    pub fn hold(&mut self, leaf: u64, vcpu: u32, every: u64) {
        self.holds.push(Hold {
            leaf,
            vcpu,
            every,
            calls: 0,
        });
    }

    /// The next `times` times that the lock of a TDCALL leaf is free, the host has found it taken before, and calls again
    /// after so many TSC ticks: until then it is busy for the guest.
    pub fn host_priority(&mut self, leaf: u64, times: u32, ticks: u64) {
        self.host_priorities.insert(leaf, (times, ticks));
    }

    pub(crate) fn take_hold(&mut self, leaf: u64, vcpu: u32) -> bool {
        self.holds
            .iter_mut()
            .filter(|hold| hold.leaf == leaf && hold.vcpu == vcpu)
            .any(|hold| {
                hold.calls += 1;
                hold.calls.is_multiple_of(hold.every)
            })
    }

    pub(crate) fn take_host_priority(&mut self, leaf: u64) -> Option<u64> {
        let (times, ticks) = self.host_priorities.get_mut(&leaf)?;
        *times = times.checked_sub(1)?;
        Some(*ticks)
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
