//! The registers and PCRs of a configuration.

use anyhow::{Context, Result, bail, ensure};
use attestation::digest::{Digests, extend_sha384, sha384};
use attestation::launch::{Launch, SEPARATOR, kernel_digests};
use attestation::pcr::{Bank, PcrBanks};
use std::ops::Range;
use tdshim_config::hob_list;
use tdshim_config::metadata::{Metadata, Section, SectionKind};
use tdshim_config::{measurement, td_hob};
use uefi_defs::hob;

/// The version that L1 measures: all packages of the workspace have one.
const L1_VERSION: &str = env!("CARGO_PKG_VERSION");
/// A register before its first extend.
const ZERO: [u8; 48] = [0; 48];

/// How the host describes the machine to the firmware.
#[derive(Clone, Copy, Debug)]
pub enum Description<'a> {
    /// As the simulator does, by the TD's RAM.
    Ram(&'a [Range<u64>]),
    /// The TD HOB as the host hands it over, whatever follows the list's end.
    TdHob(&'a [u8]),
}

/// Everything that is measured before L2 runs.
pub struct Configuration<'a> {
    /// The firmware image with L1 in it.
    pub image: &'a [u8],
    /// What the host says of the machine.
    pub host: Description<'a>,
    /// The bzImage that boots as L2.
    pub kernel: &'a [u8],
    /// Its initrd.
    pub initrd: Option<&'a [u8]>,
    /// Its whole command line.
    pub command_line: &'a str,
    /// The TPM's PCR banks.
    pub banks: PcrBanks,
}

/// The values.
pub struct Prediction {
    /// The TPM engine in the image, as the journal names it; absent if L1 is not in the image as it is
    /// built. Not measured by itself: part of the image, so another one is another MRTD.
    pub engine: Option<String>,
    /// MRTD.
    pub mrtd: [u8; 48],
    /// SHA-384 of the TD HOB, if the image has a place for one.
    pub td_hob: Option<[u8; 48]>,
    /// RTMR0 to RTMR2.
    pub rtmrs: [[u8; 48]; 3],
    /// Of the kernel's file as L1 measures it.
    pub kernel: Digests,
    /// Of the command line.
    pub command_line: Digests,
    /// Of the initrd.
    pub initrd: Option<Digests>,
    /// As L2's first instruction finds them.
    pub banks: Vec<Bank>,
}

/// Predicts. An error says what is wrong with the image or the TD HOB.
pub fn predict(configuration: &Configuration<'_>) -> Result<Prediction> {
    let metadata = Metadata::find(configuration.image).context("the firmware image")?;
    refuse_what_the_host_fills(&metadata)?;
    let mrtd = measurement::mrtd(configuration.image, &metadata);
    let td_hob = measured_hob(&configuration.host, &metadata)?;
    let separator = sha384(&SEPARATOR);
    let hob_measured = td_hob.map_or(ZERO, |digest| extend_sha384(&ZERO, &digest));
    let rtmr0 = extend_sha384(&hob_measured, &separator);

    let kernel = kernel_digests(configuration.kernel);
    let initrd = configuration.initrd.map(Digests::of);
    let launch = Launch {
        version: L1_VERSION,
        mrtd: &mrtd,
        rtmr0: &rtmr0,
        kernel,
        command_line: configuration.command_line.as_bytes(),
        initrd,
    };
    let mut rtmrs = [rtmr0, extend_sha384(&ZERO, &separator), ZERO];
    for (index, event) in launch.rtmr_events() {
        let register = rtmrs
            .get_mut(usize::from(index))
            .context("the launch extends an RTMR of the journal")?;
        *register = extend_sha384(register, &event.digests.sha384);
    }
    let mut banks = configuration.banks.at_startup();
    for bank in &mut banks {
        for (pcr, event) in launch.pcr_events() {
            let digest = event.digests.get(bank.algorithm());
            bank.extend(u32::from(pcr), &digest.context("a digest for each bank")?)?;
        }
    }
    Ok(Prediction {
        mrtd,
        engine: engine(configuration.image),
        td_hob,
        rtmrs,
        kernel,
        command_line: Digests::of(configuration.command_line.as_bytes()),
        initrd,
        banks,
    })
}

/// What MRTD does not cover is the host's: a value of MRTD that says nothing of it must not become policy.
fn refuse_what_the_host_fills(metadata: &Metadata) -> Result<()> {
    match metadata.hosts_choice() {
        None => Ok(()),
        Some(section) => bail!(
            "the image's {} section at {:#x} is not measured into MRTD, so its MRTD says nothing of what runs; link the image as `cargo xtask check-image` says",
            section.kind.name(),
            section.address
        ),
    }
}

/// The digest of the list that the firmware measures.
fn measured_hob(host: &Description<'_>, metadata: &Metadata) -> Result<Option<[u8; 48]>> {
    let Some(place) = metadata.section(SectionKind::TdHob) else {
        return Ok(None);
    };
    let list = match host {
        Description::Ram(ram) => {
            let added: Vec<Range<u64>> = metadata
                .sections()
                .filter(|section| section.kind.has_memory())
                .filter(|section| section.attributes & Section::AUGMENT == 0)
                .map(Section::range)
                .collect();
            td_hob::list(place.address, ram, &added)
        }
        Description::TdHob(bytes) => list_of(bytes)?.to_vec(),
    };
    Ok(Some(sha384(&list)))
}

/// The list in a file that may be the whole section: up to and with the END HOB.
fn list_of(bytes: &[u8]) -> Result<&[u8]> {
    let mut end = size_of::<hob::Header>();
    for hob in hob_list::walk(bytes) {
        let (_, hob) = hob.context("the TD HOB")?;
        end += hob.len();
    }
    let list = bytes.get(..end).context("the TD HOB has no END HOB")?;
    ensure!(
        list.ends_with(&[0xFF, 0xFF, 8, 0, 0, 0, 0, 0]),
        "the TD HOB has no END HOB"
    );
    Ok(list)
}

/// What is around the engine's name in L1 (`tpm2_ref_sys::ENGINE`).
const ENGINE_MARKS: (&[u8], u8) = (b"[TPM engine: ", b']');

/// Bytes that a name has at most.
const LONGEST_ENGINE: usize = 100;

/// The TPM engine's name in an image.
pub fn engine(image: &[u8]) -> Option<String> {
    let (before, after) = ENGINE_MARKS;
    let found = image
        .windows(before.len())
        .position(|window| window == before)?;
    let name = image.get(found.checked_add(before.len())?..)?;
    let end = name
        .iter()
        .take(LONGEST_ENGINE)
        .position(|byte| *byte == after)?;
    let name = core::str::from_utf8(name.get(..end)?).ok()?;
    (!name.contains(|character: char| {
        !(' '..='~').contains(&character) || matches!(character, '"' | '\\')
    }))
    .then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image whose mailbox the host fills has an MRTD that names no program.
    #[test]
    fn what_the_host_fills_is_not_predicted() {
        let image = |mailbox: Section| {
            let bfv = Section {
                data_offset: 0,
                raw_data_size: 0x1000,
                address: 0xFFFF_F000,
                size: 0x1000,
                kind: SectionKind::Bfv,
                attributes: Section::MEASURE,
            };
            let hob = Section {
                raw_data_size: 0,
                address: 0x80_0000,
                kind: SectionKind::TdHob,
                attributes: 0,
                ..bfv
            };
            let sections = [bfv, hob, mailbox];
            let mut image = vec![0; 0x1000];
            image[..16].copy_from_slice(&uefi_defs::guid::TDX_METADATA);
            image[16..20].copy_from_slice(b"TDVF");
            for (index, value) in [16 + 32 * 3, 1, 3u32].into_iter().enumerate() {
                image[20 + 4 * index..][..4].copy_from_slice(&value.to_le_bytes());
            }
            for (index, section) in sections.iter().enumerate() {
                let raw = section.to_raw();
                image[32 + 32 * index..][..32].copy_from_slice(zerocopy::IntoBytes::as_bytes(&raw));
            }
            image[0xFE0] = 16;
            Metadata::find(&image).unwrap()
        };
        let measured = Section {
            data_offset: 0,
            raw_data_size: 0x1000,
            address: 0xFF04_0000,
            size: 0x1000,
            kind: SectionKind::Bfv,
            attributes: Section::MEASURE,
        };
        assert!(refuse_what_the_host_fills(&image(measured)).is_ok());
        let filled = Section {
            raw_data_size: 0,
            kind: SectionKind::TempMem,
            attributes: 0,
            ..measured
        };
        let error = refuse_what_the_host_fills(&image(filled)).unwrap_err();
        assert!(
            error.to_string().contains("TempMem section at 0xff040000"),
            "{error}"
        );
    }

    #[test]
    fn a_hob_list_ends_with_its_end_hob() {
        let list = td_hob::list(0x80_0000, std::slice::from_ref(&(0..0x1000_0000)), &[]);
        let mut section = list.clone();
        section.resize(0x2_0000, 0);
        assert_eq!(list_of(&section).unwrap(), list);
        assert!(list_of(&list[..list.len() - 1]).is_err());
        assert!(list_of(&[]).is_err());
    }

    #[test]
    fn the_engine_is_named_in_the_image() {
        let named = b"...[TPM engine: libtpms 0.10.2-5]...";
        assert_eq!(engine(named).as_deref(), Some("libtpms 0.10.2-5"));
        let endless = [&named[..20], &[b'x'; 200], b"]"].concat();
        for image in [
            &b""[..],
            b"[TPM engine: ",
            b"[TPM engine: a\nb]",
            b"[TPM engine: \"]",
            &endless,
        ] {
            assert_eq!(engine(image), None, "{image:?}");
        }
    }
}
