//! Images that fit, and what is said of those that do not.

use super::*;
use crate::metadata::{Descriptor, SIGNATURE, VERSION};
use uefi_defs::guid::TDX_METADATA;
use zerocopy::IntoBytes;

#[test]
fn what_is_no_firmware_is_said_to_be_none() {
    let findings = super::image(&[0; 4096]);
    assert!(!fits(&findings));
    assert!(
        findings
            .iter()
            .any(|finding| finding.check == "metadata" && finding.verdict == Verdict::Fail)
    );
}

#[test]
fn a_file_of_odd_size_fails() {
    let findings = super::image(&[0; 100]);
    assert!(
        findings
            .iter()
            .any(|finding| finding.check == "size" && finding.verdict == Verdict::Fail)
    );
}

fn section(kind: SectionKind, address: u64, size: u64, attributes: u32) -> Section {
    Section {
        data_offset: 0,
        raw_data_size: match kind {
            SectionKind::Bfv | SectionKind::Cfv => size as u32,
            _ => 0,
        },
        address,
        size,
        kind,
        attributes,
    }
}

/// An image of 16 KiB with these sections behind a BFV and a TD_HOB section.
fn image_with(more: &[Section]) -> Vec<u8> {
    let mut sections = vec![
        section(SectionKind::Bfv, 0xFFFF_C000, 0x4000, Section::MEASURE),
        section(SectionKind::TdHob, 0x80_0000, 0x2000, 0),
    ];
    sections.extend(more);
    let mut image = vec![0; 0x4000];
    image[0x1000..0x1010].copy_from_slice(&TDX_METADATA);
    let descriptor = Descriptor {
        signature: SIGNATURE,
        length: (16 + 32 * sections.len() as u32).into(),
        version: VERSION.into(),
        section_count: (sections.len() as u32).into(),
    };
    let mut bytes = descriptor.as_bytes().to_vec();
    for section in &sections {
        bytes.extend(section.to_raw().as_bytes());
    }
    image[0x1010..][..bytes.len()].copy_from_slice(&bytes);
    image[0x3FE0..0x3FE4].copy_from_slice(&0x1010u32.to_le_bytes());
    image
}

fn failures(image: &[u8]) -> Vec<(&'static str, String)> {
    super::image(image)
        .into_iter()
        .filter(|finding| finding.verdict == Verdict::Fail && finding.check != "payload")
        .map(|finding| (finding.check, finding.text))
        .collect()
}

/// td-shim's default sections, each by itself: what the host fills and nobody measures is named,
/// with its place and with what the host does there.
#[test]
fn every_section_that_nobody_measures_is_named_with_its_attack() {
    assert_eq!(failures(&image_with(&[])), []);
    for (kind, address, size, says) in [
        (
            SectionKind::TempMem,
            0xFF04_0000,
            0x1000,
            "fills td-shim's mailbox",
        ),
        (
            SectionKind::TempMem,
            0xFF04_1000,
            0x2_0000,
            "before it has written there",
        ),
        (
            SectionKind::Cfv,
            0xFF00_0000,
            0x4000,
            "its own code or keys",
        ),
        (
            SectionKind::Payload,
            0x100_0000,
            0x1000,
            "replaces the payload",
        ),
    ] {
        let found = failures(&image_with(&[section(kind, address, size, 0)]));
        let [(check, text)] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(*check, kind.name());
        assert!(
            text.starts_with(&format!("{address:#x}..{:#x} ", address + size)),
            "{text}"
        );
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn reset_code_with_a_second_boot_processor_is_refused() {
    let mut image = image_with(&[]);
    let code = [
        0x4C, 0x89, 0xC8, 0x48, 0xC1, 0xE8, 0x10, 0x48, 0x25, 0xFF, 0, 0, 0, 0x48, 0x85, 0xC0,
    ];
    image[0x3000..0x3010].copy_from_slice(&code);
    let found = failures(&image);
    assert!(
        found
            .iter()
            .any(|(check, text)| *check == "td-shim" && text.contains("256")),
        "{found:?}"
    );
    // As td-shim.patch makes it.
    image[0x300A] = 0xFF;
    assert_eq!(failures(&image), []);
}

/// The sections that users give to td-shim-ld, with the image that they are of.
#[test]
fn the_metadata_file_leaves_nothing_unmeasured() {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../../metadata.json")).unwrap();
    let number = |row: &serde_json::Value, key: &str| {
        let text = row[key].as_str().unwrap().trim_start_matches("0x");
        u64::from_str_radix(text, 16).unwrap()
    };
    let rows = file["Sections"].as_array().unwrap();
    let mut covered = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let address = number(row, "MemoryAddress");
        let size = number(row, "MemoryDataSize");
        let attributes = number(row, "Attributes");
        match row["Type"].as_str().unwrap() {
            "BFV" => {
                assert_eq!(attributes, u64::from(Section::MEASURE));
                assert_eq!(number(row, "RawDataSize"), size);
                covered.push(address..address + size);
                let in_window = ptp::WINDOW.contains(&address);
                let data = IMAGE_END - IMAGE_SIZE_MAX + number(row, "DataOffset");
                assert!(in_window || data == address, "row {index}");
            }
            kind => assert_eq!((kind, attributes), ("TD_HOB", 0)),
        }
    }
    // td-shim finds its payload at the start of the first.
    assert_eq!(covered[0].start, 0xFF08_1000);
    covered.sort_by_key(|range| range.start);
    let [window, image @ ..] = &covered[..] else {
        panic!("no sections");
    };
    assert_eq!(*window, ptp::WINDOW);
    let mut at = IMAGE_END - IMAGE_SIZE_MAX;
    for range in image {
        assert_eq!(range.start, at);
        at = range.end;
    }
    assert_eq!(at, IMAGE_END);
}
