//! Which memory is L1's and which is L2's.
//!
//! L1 keeps everything td-shim did not call RAM (its own image, td-shim's page tables, mailbox,
//! event log and HOB list) and a region at the top of the RAM below 4 GiB for its heap, stacks,
//! page tables, guest-state and VAPIC pages and bounce buffer. The firmware window below 4 GiB and
//! the TPM window are in no E820 entry and so are never L2's. L2 gets the rest.
//!
//! td-shim accepted RAM in 2 MiB pages, and a 2 MiB page of the secure EPT cannot be given in part
//! without the host's help. So whatever L1 keeps is rounded outward to 2 MiB before L2 gets the
//! remainder.

use super::e820::{E820Kind, E820Map, E820MapError};
use super::gpa_range::{GpaRange, GpaRanges, TooManyRanges};
use tdx_defs::Gpaw;
use x86_defs::paging::{PAGE_2M, PAGE_4K};

/// Addresses below 4 GiB.
const LOW: GpaRange = match GpaRange::new(0, 1 << 32) {
    Some(range) => range,
    None => GpaRange::EMPTY,
};

/// The first MiB: L2's boot structures, and what a PC keeps from the OS.
const FIRST_MIB: GpaRange = match GpaRange::new(0, 0x10_0000) {
    Some(range) => range,
    None => GpaRange::EMPTY,
};

/// Firmware image, TPM window, I/O APIC and local APIC. td-shim drops RAM that a host reports here.
const DEVICES: GpaRange = match GpaRange::new(0xFC00_0000, 1 << 32) {
    Some(range) => range,
    None => GpaRange::EMPTY,
};

/// L2 gets no less than this below 4 GiB; whether a kernel fits is checked when its size is known.
pub const L2_LOW_MINIMUM: u64 = 64 << 20;

/// What the image's main tells the plan.
#[derive(Clone, Debug)]
pub struct PlanRequest<'a> {
    /// td-shim's memory map.
    pub e820: &'a E820Map,
    /// Where the shared bit is; no private address has it.
    pub gpaw: Gpaw,
    /// What L1 uses already: its loaded image, the HOB list, the event log.
    pub l1_in_use: &'a [GpaRange],
    /// How much memory L1 needs besides.
    pub l1_region_length: u64,
}

/// Why there is no memory plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The memory map does not hold together.
    #[error(transparent)]
    E820(#[from] E820MapError),
    /// RAM where there can be none.
    #[error("the memory map has RAM at {0}, beyond the TD's private addresses")]
    BeyondPrivate(GpaRange),
    /// RAM where the firmware image and the devices are.
    #[error("the memory map has RAM at {0}, where firmware and devices are ({DEVICES})")]
    OverDevices(GpaRange),
    /// No RAM from 0 to 1 MiB, where the kernel's boot structures go.
    #[error("the memory map has no RAM in the first MiB")]
    NoFirstMib,
    /// Not enough memory.
    #[error(
        "too little memory: {available} MiB of RAM below 4 GiB, but L1 takes {l1} MiB and L2 needs {l2} MiB at least",
        available = available >> 20, l1 = l1 >> 20, l2 = L2_LOW_MINIMUM >> 20
    )]
    TooLittleMemory {
        /// Bytes of RAM below 4 GiB.
        available: u64,
        /// Bytes that L1 takes of it.
        l1: u64,
    },
    /// The memory is in too many pieces.
    #[error(transparent)]
    TooManyRanges(#[from] TooManyRanges),
}

/// Which memory is whose.
///
/// The only source of [`Grant`]s: what a plan does not give, L2 cannot get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    l1_region: GpaRange,
    l2: GpaRanges,
}

impl MemoryPlan {
    /// Divides the memory.
    pub fn new(request: &PlanRequest<'_>) -> Result<Self, PlanError> {
        let ram = request.e820.ram()?;
        for range in ram.iter() {
            if range.end() > request.gpaw.shared_bit() {
                return Err(PlanError::BeyondPrivate(range));
            }
            if range.overlaps(&DEVICES) {
                return Err(PlanError::OverDevices(range));
            }
        }
        let mut l2 = ram.clone();
        for entry in request
            .e820
            .entries()
            .filter(|e| e.kind != E820Kind::Memory)
        {
            l2.remove(entry.range.align_outward(PAGE_2M))?;
        }
        for range in request.l1_in_use {
            l2.remove(range.align_outward(PAGE_2M))?;
        }
        let available = below_4g(&ram);
        let l1_length = request
            .l1_region_length
            .checked_next_multiple_of(PAGE_2M)
            .unwrap_or(u64::MAX);
        let too_little = PlanError::TooLittleMemory {
            available,
            l1: l1_length,
        };
        let l1_region = l2
            .iter()
            .rev()
            .map(|range| range.intersection(&LOW).align_inward(PAGE_2M))
            .find(|range| range.length() >= l1_length)
            .and_then(|range| GpaRange::new(range.end() - l1_length, range.end()))
            .ok_or(too_little)?;
        l2.remove(l1_region)?;
        let whole_pages = l2.clone();
        for range in whole_pages.iter() {
            l2.remove(range)?;
            l2.insert(range.align_inward(PAGE_4K))?;
        }
        if !l2.contains(&FIRST_MIB) {
            return Err(PlanError::NoFirstMib);
        }
        if below_4g(&l2) < L2_LOW_MINIMUM {
            return Err(too_little);
        }
        Ok(Self { l1_region, l2 })
    }

    /// L1's own region: accepted private memory, 2 MiB aligned, contents undefined.
    pub fn l1_region(&self) -> GpaRange {
        self.l1_region
    }

    /// Takes one more large page out of L2's memory below 4 GiB, the highest that is left: before any of it is given.
    pub fn take_large_page(&mut self) -> Result<GpaRange, PlanError> {
        let too_little = PlanError::TooLittleMemory {
            available: below_4g(&self.l2),
            l1: PAGE_2M,
        };
        let page = self
            .l2
            .iter()
            .rev()
            .map(|range| range.intersection(&LOW).align_inward(PAGE_2M))
            .find(|range| !range.is_empty())
            .and_then(|range| GpaRange::with_length(range.end() - PAGE_2M, PAGE_2M))
            .ok_or(too_little)?;
        self.l2.remove(page)?;
        match below_4g(&self.l2) < L2_LOW_MINIMUM || !self.l2.contains(&FIRST_MIB) {
            true => Err(too_little),
            false => Ok(page),
        }
    }

    /// L2's memory, whole 4 KiB pages, lowest first.
    pub fn l2(&self) -> &GpaRanges {
        &self.l2
    }

    /// L2's memory in the form that can be given.
    pub fn grants(&self) -> impl Iterator<Item = Grant> {
        self.l2.iter().map(|range| Grant { range })
    }

    /// A part of L2's memory, whole 4 KiB pages; `None` if any of it is not L2's.
    pub fn grant(&self, range: GpaRange) -> Option<Grant> {
        let whole = range.align_inward(PAGE_4K) == range;
        (whole && self.l2.contains(&range)).then_some(Grant { range })
    }
}

/// Pages that a [`MemoryPlan`] gave to L2. Holding one proves that no page in it is L1's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    range: GpaRange,
}

impl Grant {
    /// The pages.
    pub fn range(&self) -> GpaRange {
        self.range
    }
}

fn below_4g(ranges: &GpaRanges) -> u64 {
    ranges.iter().map(|r| r.intersection(&LOW).length()).sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::launch::payload_hob::PayloadHobs;
    use crate::launch::payload_hob::tests::{td_shim_e820, td_shim_list};
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use x86_defs::e820::Entry as RawEntry;
    use zerocopy::IntoBytes;

    const MIB: u64 = 1 << 20;

    pub(crate) fn plan(low: u64, high: u64, l1: u64) -> Result<MemoryPlan, PlanError> {
        let (list, start) = td_shim_list(low, high);
        let hobs = PayloadHobs::parse(&list, start).unwrap();
        MemoryPlan::new(&PlanRequest {
            e820: &hobs.e820,
            gpaw: Gpaw::Bits48,
            l1_in_use: &[hobs.range, hobs.event_log.unwrap().range],
            l1_region_length: l1,
        })
    }

    fn ranges(plan: &MemoryPlan) -> Vec<(u64, u64)> {
        plan.l2().iter().map(|r| (r.start(), r.end())).collect()
    }

    #[test]
    fn l1_takes_the_top_of_low_ram_and_l2_the_rest() {
        let plan = plan(0x4000_0000, 0x4000_0000, 64 * MIB).unwrap();
        // td-shim's event log begins at 0x3DDDE000, so its 2 MiB page is not L2's.
        assert_eq!(
            plan.l1_region(),
            GpaRange::new(0x39C0_0000, 0x3DC0_0000).unwrap()
        );
        assert_eq!(
            ranges(&plan),
            [(0, 0x39C0_0000), (1 << 32, (1 << 32) + 0x4000_0000)]
        );
    }

    #[test]
    fn a_page_that_is_taken_is_l2s_no_more() {
        let mut plan = plan(0x4000_0000, 0x4000_0000, 64 * MIB).unwrap();
        let page = plan.take_large_page().unwrap();
        assert_eq!(page, GpaRange::new(0x39A0_0000, 0x39C0_0000).unwrap());
        assert!(plan.grant(page).is_none() && !plan.l2().overlaps(&page));
        assert_eq!(plan.l2().length(), 0x39A0_0000 + 0x4000_0000);
        while plan.take_large_page().is_ok() {}
        assert!(below_4g(plan.l2()) >= L2_LOW_MINIMUM - PAGE_2M);
    }

    #[test]
    fn too_little_memory_says_how_much_there_is() {
        let error = plan(128 * MIB, 0x4000_0000, 64 * MIB).unwrap_err();
        assert_eq!(
            alloc::format!("{error}"),
            "too little memory: 93 MiB of RAM below 4 GiB, but L1 takes 64 MiB and L2 needs 64 MiB at least"
        );
        assert!(matches!(
            plan(128 * MIB, 0, u64::MAX),
            Err(PlanError::TooLittleMemory { .. })
        ));
    }

    #[test]
    fn impossible_ram_is_refused() {
        let with = |address: u64, size: u64| {
            let mut entries = td_shim_e820(0x4000_0000, 0);
            entries.push(RawEntry {
                address: address.into(),
                size: size.into(),
                kind: 1.into(),
            });
            let e820 = E820Map::parse(entries.as_bytes()).unwrap();
            MemoryPlan::new(&PlanRequest {
                e820: &e820,
                gpaw: Gpaw::Bits48,
                l1_in_use: &[],
                l1_region_length: MIB,
            })
        };
        assert!(matches!(
            with(1 << 47, 0x1000),
            Err(PlanError::BeyondPrivate(_))
        ));
        for devices in [0xFED4_4000, 0xFEE0_0000, 0xFFFF_F000] {
            let error = with(devices, 0x1000);
            assert!(matches!(error, Err(PlanError::OverDevices(_))));
        }
        assert!(with(1 << 32, 0x1000).is_ok());
        let no_start = E820Map::parse(
            RawEntry {
                address: (2 * MIB).into(),
                size: (512 * MIB).into(),
                kind: 1.into(),
            }
            .as_bytes(),
        )
        .unwrap();
        let request = PlanRequest {
            e820: &no_start,
            gpaw: Gpaw::Bits48,
            l1_in_use: &[],
            l1_region_length: MIB,
        };
        assert_eq!(MemoryPlan::new(&request), Err(PlanError::NoFirstMib));
    }

    #[test]
    fn nothing_but_l2s_memory_can_be_granted() {
        let plan = plan(0x4000_0000, 0, 64 * MIB).unwrap();
        let region = plan.l1_region();
        let range = |start, end| GpaRange::new(start, end).unwrap();
        assert!(plan.grant(range(0x1000, 0x3000)).is_some());
        for refused in [
            range(region.start() - 0x1000, region.start() + 0x1000),
            range(region.end() - 0x1000, region.end()),
            range(0x1000, 0x1800),
            range(0xFED4_0000, 0xFED4_1000),
            range(1 << 32, (1 << 32) + 0x1000),
        ] {
            assert_eq!(plan.grant(refused), None, "{refused}");
        }
    }

    proptest! {
        /// Whatever the map and L1's needs: no grant touches what L1 uses, what is not RAM, or
        /// shares a 2 MiB page with either, but for pages at the end of RAM.
        #[test]
        fn no_grant_is_l1s(
            entries in proptest::collection::vec((0u64..0x1_8000, 0u64..0x6000, 1u32..5), 0..12),
            in_use in proptest::collection::vec((0u64..0x1_8000, 1u64..0x800), 0..4),
            l1 in 0u64..(256 << 20),
        ) {
            let mut raw = vec![RawEntry { address: 0.into(), size: (1u64 << 30).into(), kind: 1.into() }];
            raw.extend(entries.iter().map(|(page, pages, kind)| RawEntry {
                address: (page * 0x1_0000).into(),
                size: (pages * 0x1_0000).into(),
                kind: (*kind).into(),
            }));
            let e820 = E820Map::parse(raw.as_bytes()).unwrap();
            let in_use: Vec<_> = in_use
                .iter()
                .map(|(page, pages)| GpaRange::with_length(page * 0x1_0000, pages * 0x1_0000).unwrap())
                .collect();
            let request = PlanRequest { e820: &e820, gpaw: Gpaw::Bits52, l1_in_use: &in_use, l1_region_length: l1 };
            if let Ok(plan) = MemoryPlan::new(&request) {
                let ram = e820.ram().unwrap();
                prop_assert!(ram.contains(&plan.l1_region()));
                for grant in plan.grants() {
                    prop_assert!(ram.contains(&grant.range()));
                    prop_assert!(!plan.l1_region().overlaps(&grant.range()));
                    let pages = grant.range().align_outward(PAGE_2M);
                    prop_assert!(!plan.l1_region().overlaps(&pages) || plan.l1_region().is_empty());
                    for used in &in_use {
                        prop_assert!(!used.overlaps(&pages));
                    }
                }
            }
        }
    }
}
