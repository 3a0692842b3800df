//! What the interface was used for. Kept by a few additions an access.

/// Of one command code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandStatistics {
    /// How many such commands were executed.
    pub commands: u64,
    /// Register accesses they took: everything from the end of the command before, that is with
    /// the guest's way of asking for its locality, to the end of reading the response.
    pub accesses: u64,
    /// How many were answered with an error.
    pub errors: u64,
}

/// Command codes of the TPM 2.0 Library: TPM_CC_FIRST to some way behind TPM_CC_LAST.
const FIRST: u32 = 0x11f;
const CODES: usize = 128;

/// Counters since the interface was made; a reset does not clear them.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// Register reads.
    pub reads: u64,
    /// Register writes.
    pub writes: u64,
    /// Accesses when the last command ended.
    accounted: u64,
    /// Slot of the command whose response is being read.
    current: Option<usize>,
    /// By code from [`FIRST`]; the last slot is for every other code.
    commands: [CommandStatistics; CODES + 1],
}

impl Statistics {
    pub(super) const fn new() -> Self {
        Self {
            reads: 0,
            writes: 0,
            accounted: 0,
            current: None,
            commands: [CommandStatistics {
                commands: 0,
                accesses: 0,
                errors: 0,
            }; CODES + 1],
        }
    }

    /// The command codes that were executed, ascending, each with its numbers. `None` stands for
    /// all codes that the library does not define.
    pub fn commands(&self) -> impl Iterator<Item = (Option<u32>, CommandStatistics)> + '_ {
        let codes = (FIRST..).take(CODES).map(Some).chain([None]);
        codes
            .zip(self.commands)
            .filter(|(_, statistics)| statistics.commands != 0)
    }

    /// Of one command code.
    pub fn command(&self, code: u32) -> CommandStatistics {
        slot(code)
            .and_then(|slot| self.commands.get(slot))
            .copied()
            .unwrap_or_default()
    }

    /// A command was executed and has its response.
    pub(super) fn executed(&mut self, code: Option<u32>, failed: bool) {
        let slot = code.and_then(slot).unwrap_or(CODES);
        if let Some(statistics) = self.commands.get_mut(slot) {
            statistics.commands += 1;
            statistics.errors += u64::from(failed);
        }
        self.current = Some(slot);
    }

    /// The response of the last command is done with.
    pub(super) fn finished(&mut self) {
        let accesses = self.reads + self.writes;
        if let Some(slot) = self.current.take()
            && let Some(statistics) = self.commands.get_mut(slot)
        {
            statistics.accesses += accesses - self.accounted;
            self.accounted = accesses;
        }
    }
}

fn slot(code: u32) -> Option<usize> {
    let slot = usize::try_from(code.checked_sub(FIRST)?).ok()?;
    (slot < CODES).then_some(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_belong_to_the_command_they_end_with() {
        let mut statistics = Statistics::new();
        statistics.writes += 5;
        statistics.executed(Some(0x17b), false);
        statistics.reads += 4;
        statistics.finished();
        // What comes after belongs to the next.
        statistics.writes += 1;
        statistics.finished();
        statistics.executed(Some(0xffff_ffff), true);
        statistics.finished();
        let expected = [
            (
                Some(0x17b),
                CommandStatistics {
                    commands: 1,
                    accesses: 9,
                    errors: 0,
                },
            ),
            (
                None,
                CommandStatistics {
                    commands: 1,
                    accesses: 1,
                    errors: 1,
                },
            ),
        ];
        assert!(statistics.commands().eq(expected));
        assert_eq!(statistics.command(0x17b).accesses, 9);
        assert_eq!(statistics.command(0x11e), CommandStatistics::default());
    }
}
