//! The firmware: an image, the TD that a host builds of it, and what td-shim measures when it runs.

use std::ops::Range;

use attestation::digest::sha384;
use attestation::event_log::{
    EV_PLATFORM_CONFIG_FLAGS, EV_SEPARATOR, SpecId, TD_HOB_EVENT_NAME, cc_record,
};
use attestation::launch::SEPARATOR;
use tdshim_config::image::{Parts, assemble};
use tdshim_config::layout::{TD_HOB, shim};
use tdshim_config::metadata::{Metadata, Section};
use tdshim_config::{measurement, td_hob};
use tdx_module::test_platform::{ModelTdcall, TestPlatform};
use tdx_module::{Module, Platform, TdParams};
use vtpm::TrustDomain;
use zerocopy::IntoBytes;

const PAGE: usize = 0x1000;
const CHUNK: usize = 0x100;
/// Memory of the TD below its TD HOB.
const MEMORY: u64 = 8 << 20;
/// Room for the log of the firmware, of which it uses a part.
const LOG_AREA: usize = 0x8_0000;

/// A firmware image with L1 inside.
#[derive(Clone)]
pub struct FirmwareImage {
    /// The file.
    pub bytes: Vec<u8>,
    metadata: Metadata,
}

impl FirmwareImage {
    /// An image, assembled as the product's are, with `l1` for L1's file.
    pub fn with_l1(l1: &[u8]) -> FirmwareImage {
        let bytes = assemble(Parts {
            shim: &elf(b"the code of the firmware"),
            payload: l1,
            back_tpm_window: false,
        })
        .expect("these parts make an image");
        let metadata = Metadata::find(&bytes).expect("an image has its metadata");
        FirmwareImage { bytes, metadata }
    }

    /// The MRTD that the image's metadata makes a host give the TD, by the product's prediction.
    pub fn mrtd(&self) -> [u8; 48] {
        measurement::mrtd(&self.bytes, &self.metadata)
    }

    /// The TD HOB list that the host hands over.
    pub fn td_hob(&self) -> Vec<u8> {
        let added: Vec<Range<u64>> = self.sections().map(Section::range).collect();
        td_hob::list(TD_HOB, std::slice::from_ref(&(0..MEMORY)), &added)
    }

    /// The TD, built by the host: each section's pages added, and measured where it says so.
    pub fn build_td(&self, params: &TdParams) -> ModelTdcall {
        ModelTdcall::built(params, MEMORY, |module, platform| {
            self.sections()
                .try_for_each(|section| self.add(module, platform, section))
        })
    }

    fn sections(&self) -> impl Iterator<Item = &Section> {
        self.metadata.sections().filter(|section| {
            section.kind.has_memory() && section.attributes & Section::AUGMENT == 0
        })
    }

    fn add(
        &self,
        module: &mut Module,
        platform: &mut TestPlatform,
        section: &Section,
    ) -> Result<(), tdx_defs::status::Status> {
        let start = section.data_offset as usize;
        let data = &self.bytes[start..start + section.raw_data_size as usize];
        platform.write(section.address, data);
        for page in section.range().step_by(PAGE) {
            module.tdh_mem_page_add(platform, page, page, page)?;
            if section.attributes & Section::MEASURE == 0 {
                continue;
            }
            for chunk in (page..page + PAGE as u64).step_by(CHUNK) {
                module.tdh_mr_extend(platform, chunk)?;
            }
        }
        Ok(())
    }
}

/// What td-shim does before it starts L1, as far as it is measured: the TD HOB into RTMR0, separators into RTMR0 and
/// RTMR1, and what else there is `before` and `behind` the separators. Gives the area of its event log, 0xFF behind the last record.
pub(crate) fn run(
    td: &mut impl TrustDomain,
    hob: &[u8],
    before: &[(u8, u32, Vec<u8>)],
    behind: &[(u8, u32, Vec<u8>)],
) -> Vec<u8> {
    let length = (hob.len() as u32).to_le_bytes();
    let named = [&TD_HOB_EVENT_NAME[..], &length, hob].concat();
    let mut log = SpecId::new(*b"td-shim").as_bytes().to_vec();
    let mut measure = |rtmr, event_type, measured: &[u8], data: &[u8]| {
        let digest = sha384(measured);
        td.extend_rtmr(rtmr, &digest)
            .expect("the module extends RTMRs");
        log.extend(cc_record(rtmr, event_type, digest, data).expect("a small event"));
    };
    measure(0, EV_PLATFORM_CONFIG_FLAGS, hob, &named);
    for (rtmr, event_type, data) in before {
        measure(*rtmr, *event_type, data, data);
    }
    for rtmr in [0, 1] {
        measure(rtmr, EV_SEPARATOR, &SEPARATOR, &SEPARATOR);
    }
    for (rtmr, event_type, data) in behind {
        measure(*rtmr, *event_type, data, data);
    }
    log.resize(LOG_AREA, 0xFF);
    log
}

/// An ELF file with one segment, where the built-in shim has its code (System V ABI, "Object Files").
fn elf(code: &[u8]) -> Vec<u8> {
    const HEADER: u16 = 64;
    const PROGRAM_HEADER: u16 = 56;
    let mut file = b"\x7FELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let header: [(u64, usize); 14] = [
        // e_type, e_machine, e_version: an executable for x86-64.
        (2, 2),
        (62, 2),
        (1, 4),
        // e_entry, e_phoff, e_shoff, e_flags.
        (shim::CODE, 8),
        (u64::from(HEADER), 8),
        (0, 8),
        (0, 4),
        // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx.
        (u64::from(HEADER), 2),
        (u64::from(PROGRAM_HEADER), 2),
        (1, 2),
        (0, 2),
        (0, 2),
        (0, 2),
        // p_type: PT_LOAD.
        (1, 4),
    ];
    let offset = u64::from(HEADER + PROGRAM_HEADER);
    let size = code.len() as u64;
    let segment: [(u64, usize); 7] = [
        // p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align.
        (5, 4),
        (offset, 8),
        (shim::CODE, 8),
        (shim::CODE, 8),
        (size, 8),
        (size, 8),
        (1, 8),
    ];
    for (value, width) in header.into_iter().chain(segment) {
        file.extend_from_slice(&value.to_le_bytes()[..width]);
    }
    file.extend_from_slice(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_measures_what_is_predicted() {
        let image = FirmwareImage::with_l1(b"L1");
        let td = image.build_td(&TdParams::default());
        let mrtd = td.with(|module, _| module.td_info().mrtd);
        assert_eq!(mrtd, image.mrtd());
        assert_ne!(mrtd, FirmwareImage::with_l1(b"L2").mrtd());
    }
}
