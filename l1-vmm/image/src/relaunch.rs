//! L2's reset: its memory is emptied, and what it was launched with is launched again.
//!
//! The files are the host's to give again. L1 keeps none: what it would keep is as long as they are. What it has is their
//! digests, and it takes no others: PCRs, event logs and RTMRs say of L2 what they said at first.

use l1_vmm::launch::fw_cfg::FwCfg;
use l1_vmm::launch::options::{OnReset, Options};
use l1_vmm::launch::stopwatch::Stopwatch;
use l1_vmm::launch::tcg_log::put_tcg_log;
use l1_vmm::launch::{LoadedGuest, MemoryPlan, load};
use l1_vmm::machine::devices::pci::window::PciWindow;
use l1_vmm::run::{End, L2};
use l1_vmm::shared_buffer::Part;

use crate::arch::memory::{Bounce, L2Ram};
use crate::arch::{clock, td};
use crate::choices;
use crate::environment::Image;
use crate::fatal::{FatalCode, OrFatal, fatal};
use crate::heap;

/// What it takes to launch L2 again.
pub(crate) struct Relaunch {
    /// Shared memory for files, which nothing else uses.
    pub(crate) files: Part<Bounce>,
    /// What is L2's memory.
    pub(crate) plan: MemoryPlan,
    /// Access to it.
    pub(crate) memory: L2Ram,
    /// What the host has chosen.
    pub(crate) options: Options,
    /// The addresses of L2's PCI bus.
    pub(crate) pci: Option<PciWindow>,
    /// How many processors L2 has.
    pub(crate) processors: u32,
    /// What was launched first.
    pub(crate) launched: LoadedGuest,
}

impl Relaunch {
    /// Whether L2 goes on after this `end` of its run on `l2`.
    pub(crate) fn follows(&self, end: &End, l2: &L2<'_, Image>) -> bool {
        if self.options.reset == OnReset::End || !end.is_reset() {
            return false;
        }
        let alone = l2.is_alone();
        if !alone {
            log::warn!("{end}, and not all of its processors have stopped: the TD ends");
        }
        alone
    }

    /// L2's run has ended so on all processors, and its devices and the TPM were reset: L2's memory becomes what it was
    /// before its first instruction.
    pub(crate) fn relaunch(&self, l2: &mut L2<'_, Image>, end: &End) {
        let begin = clock::nanoseconds();
        self.memory.clear();
        let cleared = clock::nanoseconds();
        let hashing = Stopwatch::new(clock::nanoseconds);
        let choices = choices(&self.options, self.pci.as_ref(), self.processors, &hashing);
        let td = td();
        let fw_cfg = FwCfg::open(&td, &self.files).or_fatal(FatalCode::Launch);
        let guest = load(&fw_cfg, &self.plan, &self.memory, &choices).or_fatal(FatalCode::Launch);
        if guest != self.launched {
            fatal(
                FatalCode::Launch,
                format_args!("{end}, and the host gives other files than L2 was launched with"),
            );
        }
        let area = self.launched.layout.event_logs.tcg;
        l2.with_tpm(|tpm| {
            tpm.publish_log();
            put_tcg_log(&self.memory, area, tpm.tcg_log())
        })
        .or_fatal(FatalCode::Launch);
        l2.restart();
        let end_time = clock::nanoseconds();
        let [clear, launch] = [
            cleared.saturating_sub(begin),
            end_time.saturating_sub(cleared),
        ];
        let heap = heap::usage().used;
        log::info!(
            target: "reset",
            clear, launch, heap;
            "{end}: it starts again, its memory emptied in {clear} ns and its files launched in {launch} ns"
        );
    }
}
