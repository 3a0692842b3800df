//! What memory the host says there is, and accepting it.

use crate::fatal::Fatal;
use crate::ram::Ram;
use core::ops::Range;
use tdcall::Td;
use tdcall::hw::Hw;
use tdcall::leaf::AcceptError;
use tdshim_config::hob_list;
use tdshim_config::metadata::Section;
use tdx_defs::{Gpa, PageLevel};
use uefi_defs::hob::{self, Handoff, Resource};
use zerocopy::FromBytes;

const REGIONS: usize = 32;
const FOUR_GIB: u64 = 1 << 32;
/// Memory reported in the last 64 MiB below 4 GiB is firmware, not RAM.
const ROM_START: u64 = FOUR_GIB - (64 << 20);

/// A range of RAM.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    /// First address.
    pub(crate) start: u64,
    /// Just past the last.
    pub(crate) end: u64,
    /// Whether the TD has to accept it.
    pub(crate) unaccepted: bool,
}

/// The RAM of the TD, in the order of the TD HOB.
pub(crate) struct Map {
    regions: [Option<Region>; REGIONS],
}

/// The bytes of the TD HOB list, up to its end marker.
pub(crate) fn td_hob(ram: &Ram, section: &Section) -> Result<&'static [u8], Fatal> {
    let area = ram.bytes(section.address, section.size as usize);
    let (handoff, _) =
        Handoff::ref_from_prefix(area).map_err(|_| Fatal("the TD HOB section is too small"))?;
    let length = handoff
        .end_of_hob_list
        .get()
        .checked_sub(section.address)
        .ok_or(Fatal("the TD HOB list ends before it starts"))?;
    area.get(..length as usize)
        .ok_or(Fatal("the TD HOB list is longer than its section"))
}

impl Map {
    /// The RAM resources of the TD HOB list that lies at `place`.
    pub(crate) fn from_hobs(list: &[u8], place: Range<u64>) -> Result<Self, Fatal> {
        let mut regions = [None; REGIONS];
        let mut count = 0;
        for entry in hob_list::walk(list) {
            let (kind, bytes) = entry.map_err(|_| Fatal("the TD HOB list is malformed"))?;
            if kind != hob::RESOURCE {
                continue;
            }
            let (resource, _) = Resource::ref_from_prefix(bytes)
                .map_err(|_| Fatal("a resource HOB is too short"))?;
            let Some(region) = Region::from_resource(resource)? else {
                continue;
            };
            region.check(regions.iter().flatten(), &place)?;
            *regions
                .get_mut(count)
                .ok_or(Fatal("the TD HOB list has too many memory resources"))? = Some(region);
            count += 1;
        }
        Ok(Self { regions })
    }

    /// The regions of RAM.
    pub(crate) fn regions(&self) -> impl Iterator<Item = &Region> {
        self.regions.iter().flatten()
    }

    /// The end of the highest region below 4 GiB.
    pub(crate) fn top_of_low_memory(&self) -> Option<u64> {
        self.regions()
            .map(|region| region.end)
            .filter(|end| *end < FOUR_GIB)
            .max()
    }

    /// The end of the highest region.
    pub(crate) fn top(&self) -> u64 {
        self.regions().map(|region| region.end).max().unwrap_or(0)
    }
}

impl Region {
    /// Refuses a region whose pages would be accepted while they are in use. To accept a page is to make it zero if the
    /// host has taken it away and given it again, so the firmware, the list itself and what was accepted before stay out
    /// of the host's reach.
    fn check<'a>(
        &self,
        mut others: impl Iterator<Item = &'a Self>,
        list: &Range<u64>,
    ) -> Result<(), Fatal> {
        let overlaps = |range: Range<u64>| self.start < range.end && range.start < self.end;
        if overlaps(ROM_START..FOUR_GIB) {
            return Err(Fatal("the TD HOB has RAM where the firmware is"));
        }
        if self.unaccepted && overlaps(list.clone()) {
            return Err(Fatal("the TD HOB is in memory that it says to accept"));
        }
        if others.any(|other| overlaps(other.start..other.end)) {
            return Err(Fatal("the TD HOB has the same RAM twice"));
        }
        Ok(())
    }

    fn from_resource(resource: &Resource) -> Result<Option<Self>, Fatal> {
        let unaccepted = match resource.resource_type.get() {
            hob::RESOURCE_MEMORY_UNACCEPTED => true,
            hob::RESOURCE_SYSTEM_MEMORY => false,
            _ => return Ok(None),
        };
        let start = resource.start.get();
        let end = start
            .checked_add(resource.length.get())
            .filter(|end| *end <= 1 << 46)
            .ok_or(Fatal("a memory resource is larger than the address space"))?;
        if (start >= ROM_START && end <= FOUR_GIB) || start == end {
            return Ok(None);
        }
        if !start.is_multiple_of(4096) || end % 4096 != 0 {
            return Err(Fatal("a memory resource is not 4 KiB aligned"));
        }
        Ok(Some(Self {
            start,
            end,
            unaccepted,
        }))
    }
}

/// Accepts all RAM that the TD does not own yet: 2 MiB at a time, 4 KiB where that cannot be.
pub(crate) fn accept(td: &Td<Hw>, map: &Map) -> Result<(), Fatal> {
    for region in map.regions().filter(|region| region.unaccepted) {
        let mut at = region.start;
        while at < region.end {
            let large = PageLevel::Page2M.size();
            if at.is_multiple_of(large) && region.end - at >= large && accept_large(td, at)? {
                at += large;
            } else {
                accept_small(td, at)?;
                at += PageLevel::Page4K.size();
            }
        }
    }
    Ok(())
}

/// Accepts one 2 MiB page; false if the host mapped it as 4 KiB pages.
fn accept_large(td: &Td<Hw>, at: u64) -> Result<bool, Fatal> {
    match td.mem_page_accept(Gpa(at), PageLevel::Page2M) {
        Ok(()) | Err(AcceptError::AlreadyAccepted { .. }) => Ok(true),
        Err(AcceptError::SizeMismatch { .. }) => Ok(false),
        Err(_) => Err(Fatal("the TDX module did not accept a 2 MiB page")),
    }
}

fn accept_small(td: &Td<Hw>, at: u64) -> Result<(), Fatal> {
    match td.mem_page_accept(Gpa(at), PageLevel::Page4K) {
        Ok(()) | Err(AcceptError::AlreadyAccepted { .. }) => Ok(()),
        Err(_) => Err(Fatal("the TDX module did not accept a 4 KiB page")),
    }
}
