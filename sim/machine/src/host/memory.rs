//! The host's side of the TD's memory: what backs each GPA, and whether it is private or shared.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use tdx_defs::PageLevel;
use tdx_defs::status::Status;
use tdx_module::Module;

use crate::arch::memory;
use crate::hardware::Hardware;
use x86_defs::paging::PAGE_4K;

const LARGE_PAGE: u64 = 2 << 20;
const GIB4: u64 = 1 << 32;

/// Machine addresses that are no RAM on a PC, whatever the TD has there.
const LEGACY_HOLE: Range<u64> = 0xA_0000..0x10_0000;

/// The end of low RAM that the host gives in small pages, as a host whose memory is fragmented
/// would. Few, because accepting and aliasing each takes a call.
const SMALL_PAGES: u64 = 4 << 20;
/// A TD with less RAM than this has large pages only.
const SMALL_PAGES_FROM: u64 = 128 << 20;

/// Machine pages that the host may still give away.
#[derive(Clone, Debug)]
pub(crate) struct Frames(Range<u64>);

impl Frames {
    pub(crate) fn new(range: Range<u64>) -> Self {
        Self(range.start.next_multiple_of(PAGE_4K)..range.end / PAGE_4K * PAGE_4K)
    }

    /// Takes `length` bytes, a multiple of 4 KiB.
    pub(crate) fn take(&mut self, length: u64) -> Option<u64> {
        let start = self.0.start;
        let end = start.checked_add(length)?;
        (end <= self.0.end).then(|| {
            self.0.start = end;
            start
        })
    }
}

/// What the host has given to the TD at a GPA.
#[derive(Clone, Copy, Debug)]
struct Given {
    level: PageLevel,
    hpa: u64,
    shared: bool,
}

/// Why memory could not be given or converted.
#[derive(Clone, Debug)]
pub(crate) enum MemoryError {
    /// The machine has no RAM there: QEMU needs a larger `-m`.
    MissingRam(Range<u64>),
    /// The GPA is not the TD's RAM.
    NotRam,
    /// Only a part of a 2 MiB page would be converted.
    PartOfLargePage,
    /// The host has no machine memory left.
    Exhausted,
    /// The module refused.
    Module(Status),
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingRam(range) => write!(
                f,
                "QEMU has no RAM at {:#x}-{:#x}: it needs a larger -m",
                range.start, range.end
            ),
            Self::NotRam => f.write_str("it is not the TD's RAM"),
            Self::PartOfLargePage => f.write_str("it is a part of a 2 MiB page"),
            Self::Exhausted => f.write_str("the host has no memory left"),
            Self::Module(status) => write!(f, "the TDX module refused with {:#018x}", status.0),
        }
    }
}

/// The TD's memory as the host keeps it.
#[derive(Debug)]
pub(crate) struct TdMemory {
    ram: Vec<Range<u64>>,
    given: BTreeMap<u64, Given>,
    frames: Frames,
    legacy: u64,
}

impl TdMemory {
    /// RAM of `size` bytes: low up to the simulator's own region, the rest from 4 GiB.
    pub(crate) fn new(size: u64, mut frames: Frames) -> Result<Self, MemoryError> {
        let low = size.min(memory::POOL_START) / LARGE_PAGE * LARGE_PAGE;
        let mut ram = Vec::new();
        ram.push(0..low);
        if size > memory::POOL_START {
            ram.push(GIB4..GIB4 + (size - low) / LARGE_PAGE * LARGE_PAGE);
        }
        if let Some(missing) = ram
            .iter()
            .find(|range| !memory::is_ram(range.start, range.end - range.start))
        {
            return Err(MemoryError::MissingRam(missing.clone()));
        }
        let legacy = frames
            .take(LEGACY_HOLE.end - LEGACY_HOLE.start)
            .ok_or(MemoryError::Exhausted)?;
        Ok(Self {
            ram,
            given: BTreeMap::new(),
            frames,
            legacy,
        })
    }

    /// The TD's RAM, by GPA.
    pub(crate) fn ram(&self) -> &[Range<u64>] {
        &self.ram
    }

    /// Machine pages for whatever the host needs.
    pub(crate) fn take_frames(&mut self, length: u64) -> Result<u64, MemoryError> {
        self.frames.take(length).ok_or(MemoryError::Exhausted)
    }

    fn is_ram(&self, gpa: u64) -> bool {
        self.ram.iter().any(|range| range.contains(&gpa))
    }

    /// The machine page behind a page of RAM.
    fn backing(&self, gpa: u64) -> Option<u64> {
        if LEGACY_HOLE.contains(&gpa) {
            return Some(self.legacy + (gpa - LEGACY_HOLE.start));
        }
        self.is_ram(gpa).then_some(gpa)
    }

    /// The machine page for a page of an image section, in RAM or outside.
    pub(crate) fn backing_for_section(&mut self, gpa: u64) -> Result<u64, MemoryError> {
        match self.backing(gpa) {
            Some(hpa) => Ok(hpa),
            None => self.take_frames(PAGE_4K),
        }
    }

    /// Notes a 4 KiB page that the host has given.
    pub(crate) fn added(&mut self, gpa: u64, hpa: u64) {
        self.given.insert(
            gpa,
            Given {
                level: PageLevel::Page4K,
                hpa,
                shared: false,
            },
        );
    }

    /// What was given that covers a GPA.
    fn given_at(&self, gpa: u64) -> Option<(u64, Given)> {
        let (&start, &given) = self.given.range(..=gpa).next_back()?;
        (gpa - start < given.level.size()).then_some((start, given))
    }

    /// Whether anything was given in a range.
    fn any_given(&self, range: Range<u64>) -> bool {
        self.given_at(range.start).is_some() || self.given.range(range).next().is_some()
    }

    /// The level at which the host would give a GPA.
    fn preferred_level(&self, gpa: u64) -> PageLevel {
        let start = gpa / LARGE_PAGE * LARGE_PAGE;
        let end = start + LARGE_PAGE;
        let low_end = self.ram.first().map_or(0, |range| range.end);
        let small = low_end >= SMALL_PAGES_FROM && end > low_end - SMALL_PAGES && end <= low_end;
        let touches_hole = start < LEGACY_HOLE.end;
        if small || touches_hole || !self.is_ram(end - 1) || self.any_given(start..end) {
            PageLevel::Page4K
        } else {
            PageLevel::Page2M
        }
    }

    /// TDH.MEM.PAGE.AUG of the page at `gpa`, at the level that fits.
    pub(crate) fn augment(
        &mut self,
        module: &mut Module,
        hardware: &mut Hardware,
        gpa: u64,
    ) -> Result<PageLevel, MemoryError> {
        let level = self.preferred_level(gpa);
        let gpa = gpa & !(level.size() - 1);
        let hpa = self.backing(gpa).ok_or(MemoryError::NotRam)?;
        module
            .tdh_mem_page_aug(hardware, gpa, level, hpa)
            .map_err(MemoryError::Module)?;
        self.given.insert(
            gpa,
            Given {
                level,
                hpa,
                shared: false,
            },
        );
        Ok(level)
    }

    /// Augments all of RAM that has not been given yet.
    pub(crate) fn augment_all(
        &mut self,
        module: &mut Module,
        hardware: &mut Hardware,
    ) -> Result<(), MemoryError> {
        for range in self.ram.clone() {
            let mut gpa = range.start;
            while gpa < range.end {
                gpa = match self.given_at(gpa) {
                    Some((start, given)) => start + given.level.size(),
                    None => {
                        let level = self.augment(module, hardware, gpa)?;
                        gpa + level.size()
                    }
                };
            }
        }
        Ok(())
    }

    /// Makes a range of RAM shared: what was private there is lost.
    pub(crate) fn make_shared(
        &mut self,
        module: &mut Module,
        hardware: &mut Hardware,
        range: Range<u64>,
    ) -> Result<(), MemoryError> {
        let mut gpa = range.start;
        while gpa < range.end {
            let hpa = self.backing(gpa).ok_or(MemoryError::NotRam)?;
            let level = match self.given_at(gpa) {
                Some((start, given)) if given.shared => {
                    gpa = start + given.level.size();
                    continue;
                }
                Some((start, given)) => {
                    if start < range.start || start + given.level.size() > range.end {
                        return Err(MemoryError::PartOfLargePage);
                    }
                    module
                        .tdh_mem_range_block(hardware, start, given.level)
                        .and_then(|()| module.tdh_mem_track())
                        .and_then(|()| module.tdh_mem_page_remove(hardware, start, given.level))
                        .map_err(MemoryError::Module)?;
                    given.level
                }
                None => PageLevel::Page4K,
            };
            memory::zero(hpa, level.size());
            hardware.share(gpa, level, hpa);
            self.given.insert(
                gpa,
                Given {
                    level,
                    hpa,
                    shared: true,
                },
            );
            gpa += level.size();
        }
        Ok(())
    }

    /// Gives a 2 MiB page that the TD has not accepted yet as 4 KiB pages, because it accepts
    /// those. Answers whether there was such a page.
    pub(crate) fn split_pending(
        &mut self,
        module: &mut Module,
        hardware: &mut Hardware,
        gpa: u64,
    ) -> Result<bool, MemoryError> {
        let Some((start, given)) = self.given_at(gpa) else {
            return Ok(false);
        };
        if given.shared || given.level != PageLevel::Page2M {
            return Ok(false);
        }
        module
            .tdh_mem_range_block(hardware, start, given.level)
            .and_then(|()| module.tdh_mem_track())
            .and_then(|()| module.tdh_mem_page_remove(hardware, start, given.level))
            .map_err(MemoryError::Module)?;
        self.given.remove(&start);
        for offset in (0..given.level.size()).step_by(PAGE_4K as usize) {
            let (gpa, hpa) = (start + offset, given.hpa + offset);
            module
                .tdh_mem_page_aug(hardware, gpa, PageLevel::Page4K, hpa)
                .map_err(MemoryError::Module)?;
            self.added(gpa, hpa);
        }
        Ok(true)
    }

    /// Makes a range of RAM private again: the TD has to accept it.
    pub(crate) fn make_private(
        &mut self,
        module: &mut Module,
        hardware: &mut Hardware,
        range: Range<u64>,
    ) -> Result<(), MemoryError> {
        let mut gpa = range.start;
        while gpa < range.end {
            if self.backing(gpa).is_none() {
                return Err(MemoryError::NotRam);
            }
            let level = match self.given_at(gpa) {
                Some((start, given)) if !given.shared => {
                    gpa = start + given.level.size();
                    continue;
                }
                Some((start, given)) => {
                    if start < range.start || start + given.level.size() > range.end {
                        return Err(MemoryError::PartOfLargePage);
                    }
                    hardware.unshare(start);
                    self.given.remove(&start);
                    given.level
                }
                None => PageLevel::Page4K,
            };
            let end = gpa + level.size();
            while gpa < end {
                gpa += self.augment(module, hardware, gpa)?.size();
            }
        }
        Ok(())
    }

    /// The machine address of a shared GPA (without the shared bit), with the bytes that follow it
    /// in the same page. The host can reach nothing else of the TD.
    pub(crate) fn shared(&self, gpa: u64) -> Option<(u64, u64)> {
        let (start, given) = self.given_at(gpa)?;
        let offset = gpa - start;
        given
            .shared
            .then(|| (given.hpa + offset, given.level.size() - offset))
    }

    /// The machine address of a private GPA: no host's to read, but a run's that tells what a host must not see.
    pub(crate) fn private(&self, gpa: u64) -> Option<u64> {
        let (start, given) = self.given_at(gpa)?;
        (!given.shared).then(|| given.hpa + (gpa - start))
    }

    /// The machine memory that is shared: where each piece begins, and its bytes.
    pub(crate) fn shared_pieces(&self) -> Vec<(u64, u64)> {
        let mut pieces: Vec<(u64, u64)> = Vec::new();
        for given in self.given.values().filter(|given| given.shared) {
            match pieces.last_mut() {
                Some((start, length)) if *start + *length == given.hpa => {
                    *length += given.level.size();
                }
                _ => pieces.push((given.hpa, given.level.size())),
            }
        }
        pieces
    }

    /// Whether the host may answer an EPT violation by giving a page.
    pub(crate) fn can_give(&self, gpa: u64) -> bool {
        self.is_ram(gpa) && self.given_at(gpa).is_none()
    }
}
