//! Images as they were before every page was measured, for the attack that this is against.

use anyhow::{Context, Result, ensure};
use tdshim_config::layout::DESCRIPTOR_OFFSET_FROM_END;
use tdshim_config::metadata::{Descriptor, Metadata, RawSection, Section, SectionKind};
use zerocopy::{FromBytes, IntoBytes};

/// The image with what is not code described as td-shim's own metadata does: TempMem sections, zeros for the host to add
/// without MR.EXTEND.
pub(crate) fn with_unmeasured_pages(image: &[u8]) -> Result<Vec<u8>> {
    let mut image = image.to_vec();
    let metadata = Metadata::find(&image)?;
    let payload = metadata
        .section(SectionKind::Bfv)
        .context("no BFV")?
        .address;
    let sections: Vec<RawSection> = metadata
        .sections()
        .map(|section| match section.kind {
            SectionKind::Bfv if section.address != payload => Section {
                data_offset: 0,
                raw_data_size: 0,
                kind: SectionKind::TempMem,
                attributes: 0,
                ..*section
            },
            _ => *section,
        })
        .map(|section| section.to_raw())
        .collect();
    let pointer = image.len() - DESCRIPTOR_OFFSET_FROM_END as usize;
    let descriptor = u32::read_from_bytes(&image[pointer..pointer + 4])
        .ok()
        .context("no pointer to the metadata")?;
    let start = descriptor as usize + size_of::<Descriptor>();
    let bytes = sections.as_bytes();
    image[start..start + bytes.len()].copy_from_slice(bytes);
    ensure!(Metadata::find(&image)?.hosts_choice().is_some());
    Ok(image)
}
