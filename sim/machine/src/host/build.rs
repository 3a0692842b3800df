//! Building the TD from the image's TDX metadata.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use tcg_defs::ptp;

use tdshim_config::metadata::{Content, Metadata, Section, SectionKind};
use tdshim_config::td_hob;
use tdx_defs::Gpaw;
use tdx_defs::field::TdAttributes;
use tdx_defs::status::Status;
use tdx_module::{Module, TdParams};

use super::hostile;
use super::memory::{MemoryError, TdMemory};
use crate::arch::{clock, memory};
use crate::hardware::Hardware;
use crate::options::{Options, Unmeasured, Window};
use crate::pack::File;
use uefi_defs::guid::HOB_PAYLOAD_INFO;
use uefi_defs::hob::{GuidExtension, Header, PayloadInfo};
use x86_defs::paging::PAGE_4K;
use zerocopy::IntoBytes;

/// MR.EXTEND measures this many bytes.
const CHUNK: u64 = 256;

/// What a TD of these options is configured with.
pub(crate) fn parameters(options: &Options) -> TdParams {
    let attributes = TdAttributes::from_bits(TdParams::default().attributes)
        .with_debug(options.debug)
        .into_bits();
    let parameters = TdParams {
        attributes,
        num_l2_vms: options.l2_vms,
        max_vcpus: options.vcpus,
        mrconfigid: options.mrconfigid,
        tsc_frequency: clock::frequency(),
        ..TdParams::default()
    };
    match options.gpaw {
        Gpaw::Bits48 => parameters,
        Gpaw::Bits52 => parameters.with_gpaw_52(),
    }
}

/// Builds the TD: what follows is TDH.VP.ENTER.
pub(crate) fn build(
    module: &mut Module,
    hardware: &mut Hardware,
    td_memory: &mut TdMemory,
    options: &Options,
    image: File,
) -> Result<(), String> {
    let metadata = Metadata::find(image.bytes).map_err(|error| format!("the image: {error}"))?;
    module
        .tdh_mng_init(hardware, &parameters(options))
        .map_err(|status| refused("TDH.MNG.INIT", status))?;

    let sections: Vec<_> = metadata
        .sections()
        .filter(|section| section.kind.has_memory())
        .filter(|section| options.window == Window::Accepted || !in_tpm_window(section))
        .collect();
    let added: Vec<Range<u64>> = sections
        .iter()
        .filter(|section| section.attributes & Section::AUGMENT == 0)
        .map(|section| section.range())
        .collect();

    let mut hob_address = 0;
    for section in sections {
        if section.attributes & Section::AUGMENT != 0 {
            continue;
        }
        if section.kind == SectionKind::TdHob {
            hob_address = section.address;
            let list = td_hob::list(section.address, td_memory.ram(), &added);
            let list = match options.payload_info {
                None => list,
                Some(image_type) => with_payload_info(list, image_type),
            };
            if list.len() as u64 > section.size {
                return Err(format!("the TD HOB needs {} bytes", list.len()));
            }
            let source = Source::Made(&list);
            add_section(module, hardware, td_memory, section, source)?;
        } else {
            let filled = match section.content() {
                Content::HostsChoice => options.unmeasured,
                _ => Unmeasured::AsAsked,
            };
            let source = Source::Section { image, filled };
            add_section(module, hardware, td_memory, section, source)?;
        }
    }
    for _ in 0..options.vcpus {
        module
            .tdh_vp_init(hardware, hob_address)
            .map_err(|status| refused("TDH.VP.INIT", status))?;
    }
    module
        .tdh_mr_finalize()
        .map_err(|status| refused("TDH.MR.FINALIZE", status))?;
    td_memory
        .augment_all(module, hardware)
        .map_err(|error| format!("giving the TD its RAM: {error}"))
}

/// The list with one more HOB before its end: what the payload is, and where it begins (td-shim specification, "Payload
/// GUID HOB").
fn with_payload_info(mut list: Vec<u8>, image_type: u32) -> Vec<u8> {
    const END_OF_HOB_LIST: usize = 48;
    let info = PayloadInfo {
        image_type: image_type.into(),
        reserved: 0.into(),
        entry_point: 0.into(),
    };
    let Some((extension, _)) = GuidExtension::new(HOB_PAYLOAD_INFO, size_of_val(&info)) else {
        return list;
    };
    let end = list.split_off(list.len() - size_of::<Header>());
    list.extend(extension.as_bytes());
    list.extend(info.as_bytes());
    list.extend(end);
    let added = (size_of_val(&extension) + size_of_val(&info)) as u64;
    let place = &mut list[END_OF_HOB_LIST..END_OF_HOB_LIST + 8];
    let mut end = [0; 8];
    end.copy_from_slice(place);
    place.copy_from_slice(&(u64::from_le_bytes(end) + added).to_le_bytes());
    list
}

fn in_tpm_window(section: &Section) -> bool {
    section.range().start < ptp::WINDOW.end && section.range().end > ptp::WINDOW.start
}

/// Where a section's content comes from.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// The section's data in the image file, or what the host puts there instead.
    Section { image: File, filled: Unmeasured },
    /// Made by the host.
    Made(&'a [u8]),
}

fn add_section(
    module: &mut Module,
    hardware: &mut Hardware,
    td_memory: &mut TdMemory,
    section: &Section,
    source: Source<'_>,
) -> Result<(), String> {
    let failed = |error: MemoryError| format!("section {}: {error}", section.kind.name());
    let staging = td_memory.take_frames(PAGE_4K).map_err(failed)?;
    let (data, filled) = match source {
        Source::Section { image, filled } => {
            let start = section.data_offset as usize;
            let end = start + section.raw_data_size as usize;
            let data = image
                .bytes
                .get(start..end)
                .ok_or_else(|| format!("section {} lies outside the image", section.kind.name()))?;
            (data, filled)
        }
        Source::Made(list) => (list, Unmeasured::AsAsked),
    };
    for page in 0..section.size / PAGE_4K {
        let gpa = section.address + page * PAGE_4K;
        let start = ((page * PAGE_4K) as usize).min(data.len());
        let end = (start + PAGE_4K as usize).min(data.len());
        memory::zero(staging, PAGE_4K);
        memory::write(staging, &data[start..end]);
        if let Some(page) = hostile::page(filled, gpa) {
            memory::write(staging, &page);
        }
        let target = td_memory.backing_for_section(gpa).map_err(failed)?;
        module
            .tdh_mem_page_add(hardware, gpa, target, staging)
            .map_err(|status| refused("TDH.MEM.PAGE.ADD", status))?;
        td_memory.added(gpa, target);
        if section.attributes & Section::MEASURE != 0 {
            for chunk in 0..PAGE_4K / CHUNK {
                module
                    .tdh_mr_extend(hardware, gpa + chunk * CHUNK)
                    .map_err(|status| refused("TDH.MR.EXTEND", status))?;
            }
        }
    }
    Ok(())
}

fn refused(leaf: &str, status: Status) -> String {
    format!("{leaf} was refused with {:#018x}", status.0)
}
