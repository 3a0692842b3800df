//! What the module counted: the currency of the simulator's reports.

use alloc::collections::BTreeMap;

/// Who got an L2 exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// The module itself; L2 was resumed.
    Module,
    /// L1, directly.
    L1,
    /// The host; L1 may hear of it through RESUME_L1.
    Host,
}

/// What happened on one virtual processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuStatistics {
    /// TDCALLs of L1.
    pub tdcalls: u64,
    /// Exits of its L2 VMs, whoever got them.
    pub l2_exits: u64,
    /// TD exits.
    pub td_exits: u64,
}

/// Counters since the TD was built, of all virtual processors together. All are exact, so that two equal runs give equal counters.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    tdcalls: Counters,
    tdvmcalls: BTreeMap<u64, u64>,
    /// By reason and, in the lower two bits, route.
    l2_exits: Counters,
    td_exits: BTreeMap<u32, u64>,
    virtualization_exceptions: BTreeMap<u32, u64>,
}

/// Counters by number, for what is counted at each exit: those of small numbers take no search.
#[derive(Clone, Debug)]
struct Counters {
    all: u64,
    small: [u64; Self::SMALL],
    others: BTreeMap<u64, u64>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            all: 0,
            small: [0; Self::SMALL],
            others: BTreeMap::new(),
        }
    }
}

impl Counters {
    /// All leaves, and all basic exit reasons with their routes (SDM volume 3, appendix C).
    const SMALL: usize = 512;

    fn count(&mut self, number: u64) {
        self.all += 1;
        match self.small.get_mut(number as usize) {
            Some(counter) => *counter += 1,
            None => *self.others.entry(number).or_default() += 1,
        }
    }

    fn get(&self, number: u64) -> u64 {
        match self.small.get(number as usize) {
            Some(&counter) => counter,
            None => self.others.get(&number).copied().unwrap_or(0),
        }
    }

    /// Those that have counted anything.
    fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        let small = (0..).zip(self.small).filter(|&(_, count)| count != 0);
        small.chain(self.others.iter().map(|(&number, &count)| (number, count)))
    }
}

const ROUTES: [Route; 3] = [Route::Module, Route::L1, Route::Host];

const fn exit_number(reason: u32, route: Route) -> u64 {
    (reason as u64) << 2 | route as u64
}

impl Statistics {
    /// TDCALLs of L1 by leaf.
    pub fn tdcalls(&self) -> BTreeMap<u64, u64> {
        self.tdcalls.iter().collect()
    }

    /// TDCALLs of L1 to any.
    pub fn all_tdcalls(&self) -> u64 {
        self.tdcalls.all
    }

    /// TDCALLs of L1 to one leaf.
    pub fn tdcalls_to(&self, leaf: u64) -> u64 {
        self.tdcalls.get(leaf)
    }

    /// TDG.VP.VMCALLs that reached the host, by sub-function (R11 of a standard call).
    pub fn tdvmcalls(&self) -> &BTreeMap<u64, u64> {
        &self.tdvmcalls
    }

    /// L2 exits by basic exit reason and by who got them.
    pub fn l2_exits(&self) -> BTreeMap<(u32, Route), u64> {
        let exits = self.l2_exits.iter();
        exits
            .map(|(number, count)| {
                let route = ROUTES[(number & 3) as usize];
                (((number >> 2) as u32, route), count)
            })
            .collect()
    }

    /// L2 exits of one basic exit reason that went there.
    pub fn l2_exits_to(&self, reason: u32, route: Route) -> u64 {
        self.l2_exits.get(exit_number(reason, route))
    }

    /// TD exits by basic exit reason.
    pub fn td_exits(&self) -> &BTreeMap<u32, u64> {
        &self.td_exits
    }

    /// #VEs injected into L1 by exit reason.
    pub fn virtualization_exceptions(&self) -> &BTreeMap<u32, u64> {
        &self.virtualization_exceptions
    }

    pub(crate) fn count_tdcall(&mut self, leaf: u64) {
        self.tdcalls.count(leaf);
    }

    pub(crate) fn count_tdvmcall(&mut self, sub_function: u64) {
        *self.tdvmcalls.entry(sub_function).or_default() += 1;
    }

    pub(crate) fn count_l2_exit(&mut self, reason: u32, route: Route) {
        self.l2_exits.count(exit_number(reason, route));
    }

    pub(crate) fn count_td_exit(&mut self, reason: u32) {
        *self.td_exits.entry(reason).or_default() += 1;
    }

    pub(crate) fn count_virtualization_exception(&mut self, reason: u32) {
        *self.virtualization_exceptions.entry(reason).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told_small_numbers_and_others() {
        let mut statistics = Statistics::default();
        let failed_entry = 33 | 1 << 31;
        for (reason, route) in [
            (48, Route::L1),
            (48, Route::L1),
            (48, Route::Host),
            (failed_entry, Route::Module),
        ] {
            statistics.count_l2_exit(reason, route);
        }
        let exits = statistics.l2_exits();
        let expected = [
            ((48, Route::L1), 2),
            ((48, Route::Host), 1),
            ((failed_entry, Route::Module), 1),
        ];
        assert_eq!(exits, BTreeMap::from(expected));
        for ((reason, route), count) in expected {
            assert_eq!(statistics.l2_exits_to(reason, route), count);
        }
        statistics.count_tdcall(25);
        statistics.count_tdcall(0xffff);
        assert_eq!(statistics.tdcalls(), BTreeMap::from([(25, 1), (0xffff, 1)]));
        assert_eq!(
            (statistics.tdcalls_to(25), statistics.tdcalls_to(24)),
            (1, 0)
        );
    }
}
