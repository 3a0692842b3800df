//! Where L1 is, for guests that attack it.

use super::ends;
use super::guest::Guest;
use crate::Setup;
use anyhow::{Context, Result};
use std::process::Command;

/// Where L1's image has what, in a TD of the blobs' memory.
pub(super) struct L1Image {
    /// First address, from L1's record `layout`.
    pub(super) start: u64,
    /// Addresses of the linker script's symbols, from the start.
    symbols: Vec<(String, u64)>,
    /// The memory that L1 takes besides.
    pub(super) region: u64,
    /// How many virtual processors the TD has.
    pub(super) processors: u32,
}

impl L1Image {
    /// Asks a guest that does nothing.
    pub(super) fn new(setup: &Setup) -> Result<Self> {
        let output = Command::new("nm")
            .arg("--defined-only")
            .arg(&setup.l1_vmm)
            .output()
            .context("cannot run nm (package binutils)")?;
        let symbols = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let value = u64::from_str_radix(words.next()?, 16).ok()?;
                Some((words.nth(1)?.to_owned(), value))
            })
            .filter(|(name, _)| name.starts_with("image_"))
            .collect();
        let nowhere = Self {
            start: 0,
            symbols,
            region: 0,
            processors: setup.processors,
        };
        let (run, _) = Guest::new("locate", ends::power_off).boot(setup, &nowhere, 0)?;
        let layout = run
            .transcript
            .l1("layout")
            .with_context(|| format!("L1 does not say where it is: {}", run.transcript.result()))?;
        Ok(Self {
            start: layout
                .number("image")
                .context("L1's image has no address")?,
            region: layout
                .number("region")
                .context("L1's region has no address")?,
            ..nowhere
        })
    }

    /// The address of a symbol of the linker script.
    pub(super) fn symbol(&self, name: &str) -> Result<u64> {
        let (_, offset) = self
            .symbols
            .iter()
            .find(|(own, _)| own == name)
            .with_context(|| format!("the L1 image has no symbol {name}"))?;
        Ok(self.start + offset)
    }
}
