//! The TD HOB: how the host tells the firmware what memory there is (UEFI PI 1.8 volume 3, "HOB
//! Code Definitions"; TDX Virtual Firmware Design Guide, "TD Hand-Off Block").

use alloc::vec::Vec;
use core::ops::Range;

use tdshim_config::hob::{
    END, HANDOFF, Handoff, Header, RESOURCE_MEMORY_UNACCEPTED, RESOURCE_SYSTEM_MEMORY, Resource,
};
use zerocopy::IntoBytes;

/// Version of EFI_HOB_HANDOFF_INFO_TABLE.
const HANDOFF_VERSION: u32 = 9;

/// The list for a TD with this RAM, of which the host has added `added` already. It lies at `gpa`.
pub(crate) fn list(gpa: u64, ram: &[Range<u64>], added: &[Range<u64>]) -> Vec<u8> {
    let mut resources = Vec::new();
    for range in ram {
        let mut at = range.start;
        let mut inside: Vec<_> = added
            .iter()
            .filter(|part| part.start < range.end && part.end > range.start)
            .collect();
        inside.sort_by_key(|part| part.start);
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
    }
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
        end_of_hob_list: (gpa + length as u64).into(),
    };
    let mut list = Vec::with_capacity(length);
    list.extend_from_slice(handoff.as_bytes());
    for resource in &resources {
        list.extend_from_slice(resource.as_bytes());
    }
    list.extend_from_slice(Header::new(END, size_of::<Header>() as u16).as_bytes());
    list
}
