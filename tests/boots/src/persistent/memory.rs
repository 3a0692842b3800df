//! The TD's memory when its run has ended: what of it the host can see, and what it cannot.

use super::small::MEMORY_MIB;
use anyhow::{Context, Result, bail, ensure};
use simulator::Run;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

const PAGE: usize = 4096;

/// The TD's memory when its run has ended.
pub(super) struct Memory {
    bytes: Vec<u8>,
    /// Which of it the TD shares with the host.
    shared: Vec<Range<usize>>,
}

/// How often something is in it.
pub(super) struct Found {
    pub(super) shared: usize,
    pub(super) private: usize,
}

impl Memory {
    /// What the simulator's machine kept in `file`.
    pub(super) fn read(file: &Path, run: &Run) -> Result<Self> {
        let length = MEMORY_MIB << 20;
        let mut bytes = Vec::new();
        File::open(file)?.take(length).read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 == length, "the memory is not whole");
        let mut records = run.transcript.records.iter();
        let pieces = records.find_map(|record| record["shared_memory"].as_object());
        let mut shared = Vec::new();
        for (start, piece) in pieces.context("the simulator does not say what is shared")? {
            let start: usize = start.parse()?;
            let piece = piece.as_u64().context("no length")? as usize;
            if start + piece > bytes.len() {
                bail!("{start:#x} + {piece:#x} is shared, and was not kept");
            }
            shared.push(start..start + piece);
        }
        ensure!(!shared.is_empty(), "nothing is shared");
        Ok(Self { bytes, shared })
    }

    /// What `look` comes to while `bytes` are in shared memory, in place of what is there.
    pub(super) fn planted<T>(&mut self, bytes: &[u8], look: impl FnOnce(&Self) -> T) -> Option<T> {
        let start = self.shared.first()?.start;
        let place = start..start.checked_add(bytes.len())?;
        let before = self.bytes.get(place.clone())?.to_vec();
        self.bytes.get_mut(place.clone())?.copy_from_slice(bytes);
        let found = look(self);
        self.bytes.get_mut(place)?.copy_from_slice(&before);
        Some(found)
    }

    fn is_shared(&self, at: usize) -> bool {
        self.shared.iter().any(|range| range.contains(&at))
    }

    /// How often `wanted`, which begins and ends with no zero, is there.
    pub(super) fn count(&self, wanted: &[u8]) -> Found {
        self.count_by(&|bytes| count(bytes, wanted))
    }

    /// What `count` comes to.
    pub(super) fn count_by(&self, count: &dyn Fn(&[u8]) -> usize) -> Found {
        let mut found = Found {
            shared: 0,
            private: 0,
        };
        let pages = self.bytes.len() / PAGE;
        let mut page = 0;
        while page < pages {
            let start = page;
            let shared = self.is_shared(start * PAGE);
            // Pages of one kind with something on them, as many as there are in a row.
            while page < pages
                && self.is_shared(page * PAGE) == shared
                && self.bytes[page * PAGE..][..PAGE] != [0; PAGE]
            {
                page += 1;
            }
            let times = count(&self.bytes[start * PAGE..page * PAGE]);
            match shared {
                true => found.shared += times,
                false => found.private += times,
            }
            page = page.max(start + 1);
        }
        found
    }
}

/// How often `wanted`, which is not empty, is in `bytes`.
pub(super) fn count(bytes: &[u8], wanted: &[u8]) -> usize {
    let first = wanted.first();
    let places = bytes.iter().enumerate();
    places
        .filter(|&(at, byte)| Some(byte) == first && bytes[at..].starts_with(wanted))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_and_what_is_private_is_told_apart() {
        let mut memory = Memory {
            bytes: vec![0; 8 * PAGE],
            shared: vec![2 * PAGE..3 * PAGE, 3 * PAGE..4 * PAGE],
        };
        let mut put = |at: usize| memory.bytes[at..][..4].copy_from_slice(b"4242");
        put(0);
        // Over the end of a page, and of one kind.
        put(3 * PAGE - 2);
        put(6 * PAGE - 2);
        put(8 * PAGE - 4);
        // Over the end of what is shared: it is in neither.
        put(4 * PAGE - 2);
        let found = memory.count(b"4242");
        assert_eq!((found.shared, found.private), (1, 3));
        assert_eq!(count(b"424242", b"4242"), 2);
        assert_eq!(memory.count(b"4243").private, 0);
    }
}
