//! The TDX metadata of a firmware image: which pages the host gives the TD before it starts.
//!
//! Source: "Intel TDX Virtual Firmware Design Guide", section "TDVF Metadata", as td-shim extends it
//! (sections `PermMem`, `Payload`, `PayloadParam`, `TdInfo`, `TdParams`).

use crate::layout::DESCRIPTOR_OFFSET_FROM_END;
use tcg_defs::ptp;
use uefi_defs::guid::{Guid, TDX_METADATA};
use x86_defs::paging::PAGE_4K;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// "TDVF", the descriptor's signature.
pub const SIGNATURE: [u8; 4] = *b"TDVF";
/// The only version there is.
pub const VERSION: u32 = 1;
/// No image has more sections than this; td-shim's own have seven.
pub const SECTIONS_MAX: usize = 64;

/// The descriptor before its sections.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Descriptor {
    /// [`SIGNATURE`].
    pub signature: [u8; 4],
    /// Bytes from the signature to the end of the last section.
    pub length: le::U32,
    /// [`VERSION`].
    pub version: le::U32,
    /// How many [`RawSection`]s follow.
    pub section_count: le::U32,
}

/// A section as it stands in the image.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawSection {
    /// File offset of the section's data.
    pub data_offset: le::U32,
    /// Bytes of data in the file.
    pub raw_data_size: le::U32,
    /// Guest physical address.
    pub memory_address: le::U64,
    /// Bytes in memory; zeros follow the data.
    pub memory_data_size: le::U64,
    /// [`SectionKind`].
    pub kind: le::U32,
    /// [`Section::MEASURE`], [`Section::AUGMENT`].
    pub attributes: le::U32,
}

/// What a section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SectionKind {
    /// Boot firmware volume: added and measured into MRTD.
    Bfv = 0,
    /// Configuration firmware volume: added, not measured. An image of ours has none.
    Cfv = 1,
    /// Filled by the host with the TD HOB.
    TdHob = 2,
    /// Pages for the firmware's use before it has memory: added, not measured. The host is asked to make them zero, and
    /// nothing makes it. An image of ours has none.
    TempMem = 3,
    /// RAM that the host augments and the TD accepts.
    PermMem = 4,
    /// The payload, loaded by the host or from the image.
    Payload = 5,
    /// The payload's parameters.
    PayloadParam = 6,
    /// A table inside the BFV; no memory of its own.
    TdInfo = 7,
    /// TD_PARAMS inside the BFV; no memory of its own.
    TdParams = 8,
}

impl SectionKind {
    /// The kind with this number.
    pub const fn from_u32(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Bfv,
            1 => Self::Cfv,
            2 => Self::TdHob,
            3 => Self::TempMem,
            4 => Self::PermMem,
            5 => Self::Payload,
            6 => Self::PayloadParam,
            7 => Self::TdInfo,
            8 => Self::TdParams,
            _ => return None,
        })
    }

    /// The name td-shim's metadata files use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bfv => "BFV",
            Self::Cfv => "CFV",
            Self::TdHob => "TD_HOB",
            Self::TempMem => "TempMem",
            Self::PermMem => "PermMem",
            Self::Payload => "Payload",
            Self::PayloadParam => "PayloadParam",
            Self::TdInfo => "TdInfo",
            Self::TdParams => "TdParams",
        }
    }

    /// Whether the section describes memory of the TD.
    pub const fn has_memory(self) -> bool {
        !matches!(self, Self::TdInfo | Self::TdParams)
    }
}

/// Who decides what a section's pages hold when the TD's first instruction runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The image: MRTD is extended with every byte (TDH.MR.EXTEND).
    Measured,
    /// The host, and the firmware extends RTMR0 with it: the TD HOB.
    TdHob,
    /// The TDX module: the pages are zero when the TD accepts them.
    Accepted,
    /// Nobody: the section has no memory of its own.
    NoMemory,
    /// The host, and no register tells.
    HostsChoice,
}

/// A section whose own rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// File offset of the data.
    pub data_offset: u32,
    /// Bytes of data in the file.
    pub raw_data_size: u32,
    /// Guest physical address, 4 KiB aligned.
    pub address: u64,
    /// Bytes in memory, a multiple of 4 KiB.
    pub size: u64,
    /// What it is for.
    pub kind: SectionKind,
    /// [`Self::MEASURE`], [`Self::AUGMENT`].
    pub attributes: u32,
}

impl Section {
    /// The host extends MRTD with the section's data (TDH.MR.EXTEND).
    pub const MEASURE: u32 = 1;
    /// The host augments the pages instead of adding them (TDH.MEM.PAGE.AUG).
    pub const AUGMENT: u32 = 2;

    /// Guest physical addresses of the section.
    pub const fn range(&self) -> core::ops::Range<u64> {
        self.address..self.address + self.size
    }

    /// Who decides what its pages hold.
    pub const fn content(&self) -> Content {
        if !self.kind.has_memory() {
            Content::NoMemory
        } else if self.attributes & Self::AUGMENT != 0 {
            Content::Accepted
        } else if self.attributes & Self::MEASURE != 0 {
            Content::Measured
        } else if matches!(self.kind, SectionKind::TdHob) {
            Content::TdHob
        } else {
            Content::HostsChoice
        }
    }

    /// The section as it stands in an image.
    pub fn to_raw(&self) -> RawSection {
        RawSection {
            data_offset: self.data_offset.into(),
            raw_data_size: self.raw_data_size.into(),
            memory_address: self.address.into(),
            memory_data_size: self.size.into(),
            kind: (self.kind as u32).into(),
            attributes: self.attributes.into(),
        }
    }
}

/// What is wrong with an image's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The file has no room for the pointer at its end.
    #[error("the image is {0} bytes: too short to be firmware")]
    TooShort(u64),
    /// The pointer at the image's end leads outside it.
    #[error("the metadata pointer {offset:#x} (at the image's end - 0x20) leads outside the image")]
    PointerOutside {
        /// The file offset it holds.
        offset: u64,
    },
    /// No TDX metadata GUID before the descriptor.
    #[error("no TDX metadata GUID before offset {offset:#x}: this is no TDX firmware image")]
    NoGuid {
        /// Where the descriptor would be.
        offset: u64,
    },
    /// The descriptor does not start with "TDVF".
    #[error("the metadata descriptor at {offset:#x} is not signed \"TDVF\"")]
    BadSignature {
        /// Where it is.
        offset: u64,
    },
    /// A version other than 1.
    #[error("metadata version {0}; only version 1 exists")]
    BadVersion(u32),
    /// The length does not match the number of sections.
    #[error("metadata length {length} does not hold its {count} sections")]
    BadLength {
        /// The length field.
        length: u32,
        /// The section count field.
        count: u32,
    },
    /// A section of an unknown type.
    #[error("section {index} has the unknown type {kind}")]
    UnknownKind {
        /// Index in the table.
        index: usize,
        /// The type field.
        kind: u32,
    },
    /// A section breaks the rules for its type.
    #[error("section {index} ({name}): {rule}", name = kind.name())]
    Rule {
        /// Index in the table.
        index: usize,
        /// Its type.
        kind: SectionKind,
        /// The rule that does not hold.
        rule: &'static str,
    },
    /// Two sections share memory.
    #[error("sections {first} and {second} overlap in memory")]
    Overlap {
        /// The earlier one.
        first: usize,
        /// The later one.
        second: usize,
    },
    /// A rule over all sections does not hold.
    #[error("{0}")]
    Table(&'static str),
}

/// The sections of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    sections: [Option<Section>; SECTIONS_MAX],
}

impl Metadata {
    /// Finds and checks the metadata of a firmware image file.
    pub fn find(image: &[u8]) -> Result<Self, MetadataError> {
        let length = image.len() as u64;
        let too_short = MetadataError::TooShort(length);
        let pointer_at = length
            .checked_sub(DESCRIPTOR_OFFSET_FROM_END)
            .ok_or(too_short)?;
        let pointer = image.get(pointer_at as usize..).ok_or(too_short)?;
        let (pointer, _) = le::U32::read_from_prefix(pointer).map_err(|_| too_short)?;
        let offset = u64::from(pointer.get());
        let outside = MetadataError::PointerOutside { offset };
        let guid_at = offset
            .checked_sub(size_of::<Guid>() as u64)
            .ok_or(outside)?;
        let guid = image
            .get(guid_at as usize..offset as usize)
            .ok_or(outside)?;
        if guid != TDX_METADATA {
            return Err(MetadataError::NoGuid { offset });
        }
        Self::parse(image.get(offset as usize..).ok_or(outside)?, offset, length)
    }

    /// The most bytes that a descriptor and its sections have.
    pub const LENGTH_MAX: usize = size_of::<Descriptor>() + SECTIONS_MAX * size_of::<RawSection>();

    /// Checks a descriptor, which begins `bytes`, and its sections; `offset` says where it was, for
    /// errors, and `image_size` bounds the data in the file.
    pub fn parse(bytes: &[u8], offset: u64, image_size: u64) -> Result<Self, MetadataError> {
        let (descriptor, rest) = Descriptor::read_from_prefix(bytes)
            .map_err(|_| MetadataError::PointerOutside { offset })?;
        if descriptor.signature != SIGNATURE {
            return Err(MetadataError::BadSignature { offset });
        }
        if descriptor.version.get() != VERSION {
            return Err(MetadataError::BadVersion(descriptor.version.get()));
        }
        let count = descriptor.section_count.get();
        let bad_length = MetadataError::BadLength {
            length: descriptor.length.get(),
            count,
        };
        let wanted = (count as usize)
            .checked_mul(size_of::<RawSection>())
            .ok_or(bad_length)?;
        if count as usize > SECTIONS_MAX
            || descriptor.length.get() as usize != size_of::<Descriptor>() + wanted
        {
            return Err(bad_length);
        }
        let mut table = rest.get(..wanted).ok_or(bad_length)?;
        let mut sections = [None; SECTIONS_MAX];
        for (index, slot) in sections.iter_mut().enumerate().take(count as usize) {
            let (raw, following) = RawSection::read_from_prefix(table).map_err(|_| bad_length)?;
            table = following;
            *slot = Some(check_section(index, &raw, image_size)?);
        }
        let metadata = Self { sections };
        metadata.check_table()?;
        Ok(metadata)
    }

    /// The sections in the table's order, which is the order of the MRTD build.
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter().flatten()
    }

    /// The first section of a kind.
    pub fn section(&self, kind: SectionKind) -> Option<&Section> {
        self.sections().find(|section| section.kind == kind)
    }

    /// Whether the host backs the TPM window with private pages, so that the TDX module gives L2's
    /// accesses straight to L1.
    pub fn backs_tpm_window(&self) -> bool {
        self.sections().any(|section| {
            matches!(section.content(), Content::Measured | Content::HostsChoice)
                && section.address <= ptp::WINDOW.start
                && section.range().end >= ptp::WINDOW.end
        })
    }

    /// The first section whose pages hold what the host likes, unknown to MRTD and RTMRs.
    pub fn hosts_choice(&self) -> Option<&Section> {
        self.sections()
            .find(|section| section.content() == Content::HostsChoice)
    }

    fn check_table(&self) -> Result<(), MetadataError> {
        for (first, one) in self.sections().enumerate() {
            for (second, other) in self.sections().enumerate().skip(first + 1) {
                let share =
                    one.range().start < other.range().end && other.range().start < one.range().end;
                if share && one.kind.has_memory() && other.kind.has_memory() {
                    return Err(MetadataError::Overlap { first, second });
                }
            }
        }
        let count = |kind| self.sections().filter(|s| s.kind == kind).count();
        let rules = [
            (
                count(SectionKind::Bfv) >= 1,
                "there is no BFV section: nothing is measured",
            ),
            (
                count(SectionKind::TdHob) <= 1,
                "there is more than one TD_HOB section",
            ),
            (
                count(SectionKind::Payload) <= 1,
                "there is more than one Payload section",
            ),
            (
                count(SectionKind::TdHob) + count(SectionKind::PermMem) >= 1,
                "there is neither a TD_HOB nor a PermMem section: the TD would have no memory",
            ),
            (
                count(SectionKind::PayloadParam) == 0 || count(SectionKind::Payload) == 1,
                "there is a PayloadParam section but no Payload section",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(MetadataError::Table(rule)),
            None => Ok(()),
        }
    }
}

/// td-shim's rules for one section (`td-shim-interface`, `validate_sections`).
fn check_section(
    index: usize,
    raw: &RawSection,
    image_size: u64,
) -> Result<Section, MetadataError> {
    let number = raw.kind.get();
    let kind = SectionKind::from_u32(number).ok_or(MetadataError::UnknownKind {
        index,
        kind: number,
    })?;
    let section = Section {
        data_offset: raw.data_offset.get(),
        raw_data_size: raw.raw_data_size.get(),
        address: raw.memory_address.get(),
        size: raw.memory_data_size.get(),
        kind,
        attributes: raw.attributes.get(),
    };
    let has_data = section.raw_data_size != 0;
    let data_end = u64::from(section.data_offset) + u64::from(section.raw_data_size);
    let attributes_fit = match kind {
        SectionKind::Bfv => section.attributes == Section::MEASURE,
        SectionKind::PermMem => section.attributes == Section::AUGMENT,
        SectionKind::Payload => section.attributes & !Section::MEASURE == 0,
        _ => section.attributes == 0,
    };
    let data_fits = match kind {
        SectionKind::Bfv | SectionKind::Cfv => has_data,
        SectionKind::TdHob => !has_data && section.data_offset == 0,
        SectionKind::TempMem | SectionKind::PermMem => !has_data,
        _ => true,
    };
    let rules = [
        (attributes_fit, "its attributes do not fit its type"),
        (data_fits, "its data size does not fit its type"),
        (
            !has_data || data_end <= image_size,
            "its data lies outside the image",
        ),
        (
            section.address.is_multiple_of(PAGE_4K) && section.size.is_multiple_of(PAGE_4K),
            "its memory is not 4 KiB aligned",
        ),
        (
            !kind.has_memory() || section.size >= u64::from(section.raw_data_size),
            "its memory is smaller than its data",
        ),
        (
            section
                .address
                .checked_add(section.size)
                .is_some_and(|end| end <= 1 << 47),
            "its memory lies beyond the guest's address space",
        ),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        Some((_, rule)) => Err(MetadataError::Rule { index, kind, rule }),
        None => Ok(section),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image(sections: &[Section]) -> Vec<u8> {
        let mut image = vec![0; 0x1000];
        image.extend(TDX_METADATA);
        let offset = image.len() as u32;
        let descriptor = Descriptor {
            signature: SIGNATURE,
            length: (16 + 32 * sections.len() as u32).into(),
            version: VERSION.into(),
            section_count: (sections.len() as u32).into(),
        };
        image.extend(descriptor.as_bytes());
        for section in sections {
            image.extend(section.to_raw().as_bytes());
        }
        image.resize(0x3000, 0);
        let end = image.len();
        image[end - 0x20..end - 0x1c].copy_from_slice(&offset.to_le_bytes());
        image
    }

    fn section(kind: SectionKind, address: u64, attributes: u32, raw: u32) -> Section {
        Section {
            data_offset: 0,
            raw_data_size: raw,
            address,
            size: 0x1000,
            kind,
            attributes,
        }
    }

    fn good() -> Vec<Section> {
        vec![
            section(SectionKind::Bfv, 0xFFFF_F000, Section::MEASURE, 0x1000),
            section(SectionKind::TdHob, 0x80_0000, 0, 0),
        ]
    }

    #[test]
    fn a_good_image_gives_its_sections_in_order() {
        let metadata = Metadata::find(&image(&good())).unwrap();
        assert_eq!(metadata.sections().copied().collect::<Vec<_>>(), good());
        assert!(!metadata.backs_tpm_window());
    }

    #[test]
    fn the_window_section_is_seen() {
        let mut sections = good();
        sections.push(Section {
            size: 0x5000,
            ..section(SectionKind::TempMem, ptp::WINDOW.start, 0, 0)
        });
        assert!(
            Metadata::find(&image(&sections))
                .unwrap()
                .backs_tpm_window()
        );
    }

    #[test]
    fn broken_rules_are_named() {
        let mut unmeasured = good();
        unmeasured[0].attributes = 0;
        let mut doubled = good();
        doubled[1].address = 0xFFFF_F000;
        let mut no_memory = good();
        no_memory.pop();
        for (sections, wanted) in [
            (unmeasured, "attributes"),
            (doubled, "overlap"),
            (no_memory, "no memory"),
        ] {
            let error = Metadata::find(&image(&sections)).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        assert_eq!(
            Metadata::find(&[0; 0x2000]),
            Err(MetadataError::PointerOutside { offset: 0 })
        );
    }

    proptest! {
        #[test]
        fn no_image_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300),
                                           at in 0usize..8192, value in any::<u8>()) {
            let _ = Metadata::find(&bytes);
            let mut image = image(&good());
            let at = at % image.len();
            image[at] = value;
            let _ = Metadata::find(&image);
        }
    }
}
