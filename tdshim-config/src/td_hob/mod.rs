//! The TD HOB: how the host tells the firmware what memory there is (UEFI PI 1.8 volume 3, "HOB
//! Code Definitions"; TDX Virtual Firmware Design Guide, "TD Hand-Off Block").
//!
//! The firmware measures it into RTMR0. Another host may write another list for the same machine;
//! this is the one of the simulator, which the prediction of RTMR0 makes as well.

mod check;

pub use check::{TdHobError, check};

use alloc::vec::Vec;
use core::ops::Range;
use uefi_defs::hob::{
    END, HANDOFF, HANDOFF_VERSION, Handoff, Header, RESOURCE_MEMORY_UNACCEPTED,
    RESOURCE_SYSTEM_MEMORY, Resource,
};
use zerocopy::IntoBytes;

/// The list for a TD with this RAM, of which the host has added `added` already. It lies at
/// `address`.
pub fn list(address: u64, ram: &[Range<u64>], added: &[Range<u64>]) -> Vec<u8> {
    let resources: Vec<Resource> = ram
        .iter()
        .flat_map(|range| resources(range, added))
        .collect();
    let length =
        size_of::<Handoff>() + size_of::<Resource>() * resources.len() + size_of::<Header>();
    let handoff = Handoff {
        header: Header::new(HANDOFF, size_of::<Handoff>() as u16),
        version: HANDOFF_VERSION.into(),
        boot_mode: 0.into(),
        memory_top: 0.into(),
        memory_bottom: 0.into(),
        free_memory_top: 0.into(),
        free_memory_bottom: 0.into(),
        end_of_hob_list: (address + length as u64).into(),
    };
    let mut list = Vec::with_capacity(length);
    list.extend_from_slice(handoff.as_bytes());
    for resource in &resources {
        list.extend_from_slice(resource.as_bytes());
    }
    list.extend_from_slice(Header::new(END, size_of::<Header>() as u16).as_bytes());
    list
}

/// One range of RAM, cut where parts of it are added already.
fn resources(range: &Range<u64>, added: &[Range<u64>]) -> Vec<Resource> {
    let mut inside: Vec<_> = added
        .iter()
        .filter(|part| part.start < range.end && part.end > range.start)
        .collect();
    inside.sort_by_key(|part| part.start);
    let mut resources = Vec::new();
    let mut at = range.start;
    for part in inside {
        let start = part.start.max(at);
        let end = part.end.min(range.end);
        if start > at {
            resources.push(Resource::ram(RESOURCE_MEMORY_UNACCEPTED, at, start - at));
        }
        if end > start {
            resources.push(Resource::ram(RESOURCE_SYSTEM_MEMORY, start, end - start));
        }
        at = at.max(end);
    }
    if at < range.end {
        resources.push(Resource::ram(
            RESOURCE_MEMORY_UNACCEPTED,
            at,
            range.end - at,
        ));
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hob_list;
    use core::slice;
    use proptest::prelude::*;
    use uefi_defs::hob;
    use zerocopy::FromBytes;

    fn memory(list: &[u8]) -> Vec<(u32, Range<u64>)> {
        hob_list::walk(list)
            .map(|hob| hob.unwrap())
            .filter(|(kind, _)| *kind == hob::RESOURCE)
            .map(|(_, bytes)| {
                let (resource, _) = Resource::read_from_prefix(bytes).unwrap();
                let start = resource.start.get();
                (
                    resource.resource_type.get(),
                    start..start + resource.length.get(),
                )
            })
            .collect()
    }

    #[test]
    fn what_is_added_is_cut_out() {
        let list = list(
            0x80_0000,
            slice::from_ref(&(0..0x100_0000)),
            slice::from_ref(&(0x80_0000..0x82_0000)),
        );
        assert_eq!(
            memory(&list),
            [
                (RESOURCE_MEMORY_UNACCEPTED, 0..0x80_0000),
                (RESOURCE_SYSTEM_MEMORY, 0x80_0000..0x82_0000),
                (RESOURCE_MEMORY_UNACCEPTED, 0x82_0000..0x100_0000),
            ]
        );
        let (handoff, _) = Handoff::read_from_prefix(&list).unwrap();
        assert_eq!(handoff.end_of_hob_list.get(), 0x80_0000 + list.len() as u64);
    }

    proptest! {
        #[test]
        fn every_byte_of_ram_is_in_exactly_one_resource(
            length in 1u64..0x1_0000,
            parts in proptest::collection::vec((0u64..0x2_0000, 0u64..0x1000), 0..6),
        ) {
            let added: Vec<_> = parts.iter().map(|&(start, size)| start..start + size).collect();
            let list = list(0, slice::from_ref(&(0x1000..0x1000 + length)), &added);
            let mut at = 0x1000;
            for (_, range) in memory(&list) {
                prop_assert_eq!(range.start, at);
                prop_assert!(range.end > at);
                at = range.end;
            }
            prop_assert_eq!(at, 0x1000 + length);
        }
    }
}
