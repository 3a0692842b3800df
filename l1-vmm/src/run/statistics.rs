//! What the run loop counts.

use core::fmt;

use l2_exit::mmio::CacheStatistics;
use l2_exit::run_ahead::Figures;
use tdx_defs::vp_enter::{EntryStatus, Outcome};
use x86_defs::exit_reason;

/// One more than the highest basic exit reason that is counted on its own.
const REASONS: usize = 78;

/// Entries and exits of L2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    by_reason: [u64; REASONS],
    /// Exits with a reason that the table has no room for.
    pub other: u64,
    /// Exits that the host had a hand in.
    pub host_routed: u64,
    /// Entries and runs cut short by an interrupt of L1's.
    pub interrupted: u64,
    /// Accesses to the TPM window, by exit or TDVMCALL.
    pub tpm_accesses: u64,
    /// Accesses to the TPM that found it taken by another processor, and were made again.
    pub tpm_busy: u64,
    /// Inter-processor interrupts of L1's, and those of them that were sent again because none heard.
    pub kicks: u64,
    /// See there.
    pub kicks_repeated: u64,
    /// Events injected again because an exit cut their delivery short.
    pub reinjected: u64,
    /// Device accesses whose instruction was known, and those that took more than one TDCALL.
    pub decoded: CacheStatistics,
    /// What L1 executed between accesses to the TPM.
    pub ahead: Figures,
    /// Exits that something was allocated for, but for those that took the TPM: its engine allocates.
    pub allocating: u64,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            by_reason: [0; REASONS],
            other: 0,
            host_routed: 0,
            interrupted: 0,
            tpm_accesses: 0,
            tpm_busy: 0,
            kicks: 0,
            kicks_repeated: 0,
            reinjected: 0,
            decoded: CacheStatistics::default(),
            ahead: Figures::default(),
            allocating: 0,
        }
    }
}

impl Statistics {
    /// Counts one return of TDG.VP.ENTER.
    pub fn count(&mut self, outcome: &Outcome) {
        match outcome.status {
            EntryStatus::PendingInterrupt | EntryStatus::PendingInterruptExit => {
                self.interrupted += 1;
                return;
            }
            EntryStatus::HostRoutedAsync | EntryStatus::HostRoutedTdvmcall => {
                self.host_routed += 1;
            }
            EntryStatus::Exit => {}
        }
        match self
            .by_reason
            .get_mut((outcome.exit_reason & exit_reason::BASIC) as usize)
        {
            Some(count) => *count += 1,
            None => self.other += 1,
        }
    }

    /// Adds what another processor counted.
    pub fn add(&mut self, other: &Self) {
        let Self {
            by_reason,
            other: unnamed,
            host_routed,
            interrupted,
            tpm_accesses,
            tpm_busy,
            kicks,
            kicks_repeated,
            reinjected,
            decoded,
            ahead,
            allocating,
        } = other;
        for (sum, count) in self.by_reason.iter_mut().zip(by_reason) {
            *sum += count;
        }
        self.other += unnamed;
        self.host_routed += host_routed;
        self.interrupted += interrupted;
        self.tpm_accesses += tpm_accesses;
        self.tpm_busy += tpm_busy;
        self.kicks += kicks;
        self.kicks_repeated += kicks_repeated;
        self.reinjected += reinjected;
        self.decoded.hits += decoded.hits;
        self.decoded.misses += decoded.misses;
        self.decoded.stale += decoded.stale;
        self.ahead.add(ahead);
        self.allocating += allocating;
    }

    /// Exits with basic reason `reason`.
    pub fn exits(&self, reason: u16) -> u64 {
        self.by_reason
            .get(usize::from(reason))
            .copied()
            .unwrap_or(0)
    }

    /// All exits.
    pub fn total(&self) -> u64 {
        self.by_reason.iter().sum::<u64>() + self.other
    }

    /// Logs them: as a sentence, and as the record "l2".
    pub fn log(&self) {
        log::info!(
            target: "l2",
            exits = self.total(),
            host_routed = self.host_routed,
            interrupted = self.interrupted,
            reinjected = self.reinjected,
            tpm_accesses = self.tpm_accesses,
            tpm_busy = self.tpm_busy,
            kicks = self.kicks,
            kicks_repeated = self.kicks_repeated,
            instructions_known = self.decoded.hits,
            instructions_decoded = self.decoded.misses,
            instructions_stale = self.decoded.stale,
            allocating = self.allocating,
            ahead_bursts = self.ahead.bursts,
            ahead_instructions = self.ahead.instructions,
            ahead_accesses = self.ahead.accesses;
            "{self}"
        );
    }

    /// Basic reasons that occurred, with how often.
    pub fn reasons(&self) -> impl Iterator<Item = (u16, u64)> {
        (0..).zip(self.by_reason).filter(|(_, count)| *count != 0)
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} L2 exits:", self.total())?;
        for (reason, count) in self.reasons() {
            match exit_reason::name(reason.into()) {
                Some(name) => write!(f, " {name} {count},")?,
                None => write!(f, " reason {reason} {count},")?,
            }
        }
        write!(
            f,
            " host-routed {}, interrupted {}, re-injected {}, TPM accesses {}",
            self.host_routed, self.interrupted, self.reinjected, self.tpm_accesses
        )?;
        let CacheStatistics {
            hits,
            misses,
            stale,
        } = self.decoded;
        write!(
            f,
            ", instructions known {hits}, decoded {misses}, stale {stale}"
        )?;
        if self.ahead.bursts != 0 {
            let Figures {
                bursts,
                instructions,
                accesses,
            } = self.ahead;
            write!(
                f,
                ", ahead {bursts} times, {instructions} instructions, {accesses} accesses"
            )?;
        }
        if self.allocating != 0 {
            write!(f, ", with an allocation {}", self.allocating)?;
        }
        if self.kicks != 0 {
            let (kicks, repeated) = (self.kicks, self.kicks_repeated);
            write!(
                f,
                ", kicks {kicks}, repeated {repeated}, TPM busy {}",
                self.tpm_busy
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use tdx_defs::Registers;

    fn outcome(rax: u64) -> Outcome {
        Outcome::from_registers(&Registers {
            rax,
            ..Registers::default()
        })
        .unwrap()
    }

    #[test]
    fn exits_are_counted_by_reason_and_by_who_told() {
        let mut statistics = Statistics::default();
        for rax in [
            0x0000_0000_0000_001E,
            0x0000_0000_0000_001E,
            0x0000_0000_8000_0021,
            0x0000_1100_0000_0030,
            0x0000_1102_0000_0001,
            0x0000_1120_0000_0000,
            0x0000_0000_0000_00FF,
        ] {
            statistics.count(&outcome(rax));
        }
        assert_eq!(
            statistics.to_string(),
            "5 L2 exits: I/O instruction 2, entry failure: guest state 1, EPT violation 1, \
             host-routed 1, interrupted 2, re-injected 0, TPM accesses 0, \
             instructions known 0, decoded 0, stale 0"
        );
        assert_eq!((statistics.other, statistics.exits(30)), (1, 2));
    }
}
