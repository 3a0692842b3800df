//! Where the virtual time goes: in L1, in L2, idle, and below both.
//!
//! Under `-icount shift=0` the TSC counts instructions, so that these are instruction counts. What
//! a run costs by itself was measured and is taken off.

use alloc::vec::Vec;
use tcg_defs::ptp;
use tdx_module::{HardwareExit, Vm};

/// What L1 spent on a virtual processor between an L2 exit and the next L2 entry.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Interval {
    instructions: u64,
    tdcalls: u32,
    tpm_window: bool,
}

/// Intervals, sorted when asked for.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<u32>);

/// Minimum, quartiles and maximum of samples.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) count: usize,
    pub(crate) minimum: u32,
    pub(crate) median: u32,
    pub(crate) percentile90: u32,
    pub(crate) maximum: u32,
}

impl Samples {
    fn push(&mut self, value: u64) {
        self.0.push(u32::try_from(value).unwrap_or(u32::MAX));
    }

    pub(crate) fn summary(&mut self) -> Summary {
        self.0.sort_unstable();
        let at = |part: usize| self.0.get((self.0.len().saturating_sub(1)) * part / 100);
        let value = |part| at(part).copied().unwrap_or(0);
        Summary {
            count: self.0.len(),
            minimum: value(0),
            median: value(50),
            percentile90: value(90),
            maximum: value(100),
        }
    }

    /// How many samples lie below each power of two and not below the one before.
    pub(crate) fn histogram(&self) -> [u32; 33] {
        let mut buckets = [0; 33];
        for sample in &self.0 {
            buckets[(u32::BITS - sample.leading_zeros()) as usize] += 1;
        }
        buckets
    }
}

/// The figures of a run.
#[derive(Debug)]
pub(crate) struct Profile {
    entry_cost: u64,
    pub(crate) l1: u64,
    pub(crate) l2: u64,
    pub(crate) idle: u64,
    open: Option<Interval>,
    /// Instructions of L1 between an L2 exit and the next entry.
    pub(crate) other_exits: Samples,
    /// The same for exits to the TPM window.
    pub(crate) tpm_exits: Samples,
    /// TDCALLs for each of those, the VP.ENTER that ends the interval among them.
    pub(crate) tpm_tdcalls: Samples,
    pub(crate) first_l2_entry: Option<u64>,
    pub(crate) l2_exits: u64,
    pub(crate) tpm_exit_count: u64,
    /// The longest of L1's intervals for the window since [`Profile::take_longest_tpm_exit`].
    longest_tpm_exit: u64,
}

impl Profile {
    /// What L1 spent at most on one exit for the TPM window since this was last asked.
    pub(crate) fn take_longest_tpm_exit(&mut self) -> u64 {
        core::mem::take(&mut self.longest_tpm_exit)
    }

    pub(crate) fn new(entry_cost: u64) -> Self {
        Self {
            entry_cost,
            l1: 0,
            l2: 0,
            idle: 0,
            open: None,
            other_exits: Samples::default(),
            tpm_exits: Samples::default(),
            tpm_tdcalls: Samples::default(),
            first_l2_entry: None,
            l2_exits: 0,
            tpm_exit_count: 0,
            longest_tpm_exit: 0,
        }
    }

    /// The interval of the virtual processor that runs is another one from now on.
    pub(crate) fn swap_interval(&mut self, interval: &mut Option<Interval>) {
        core::mem::swap(&mut self.open, interval);
    }

    /// A run of a VM from TSC `entered` to TSC `left`.
    pub(crate) fn ran(&mut self, vm: Vm, entered: u64, left: u64, exit: &HardwareExit) {
        let spent = (left - entered).saturating_sub(self.entry_cost);
        match vm {
            Vm::L1 => {
                self.l1 += spent;
                if let Some(interval) = &mut self.open {
                    interval.instructions += spent;
                    if matches!(exit, HardwareExit::Exception { vector: 6, .. }) {
                        interval.tdcalls += 1;
                    }
                }
            }
            Vm::L2(_) => {
                self.first_l2_entry.get_or_insert(entered);
                self.close();
                self.l2 += spent;
                self.l2_exits += 1;
                let tpm_window = matches!(exit, HardwareExit::NestedPageFault { gpa, .. }
                    if ptp::WINDOW.contains(gpa));
                self.tpm_exit_count += u64::from(tpm_window);
                self.open = Some(Interval {
                    tpm_window,
                    ..Interval::default()
                });
            }
        }
    }

    /// L2 is entered: an interval in which L1 ran at all has ended.
    fn close(&mut self) {
        let Some(interval) = self.open.take() else {
            return;
        };
        if interval.tdcalls == 0 {
            return;
        }
        if interval.tpm_window {
            self.longest_tpm_exit = self.longest_tpm_exit.max(interval.instructions);
            self.tpm_exits.push(interval.instructions);
            self.tpm_tdcalls.push(interval.tdcalls.into());
        } else {
            self.other_exits.push(interval.instructions);
        }
    }

    /// What all VMs have executed.
    pub(crate) fn guest_time(&self) -> u64 {
        self.l1 + self.l2
    }

    /// Virtual time without a VM to run.
    pub(crate) fn idle(&mut self, spent: u64) {
        self.idle += spent;
    }

    /// The instructions a run takes of its own.
    pub(crate) fn entry_cost(&self) -> u64 {
        self.entry_cost
    }
}
