//! What the TDX metadata of our own firmware image promises: is MRTD of every page, and does the
//! TPM window have private pages?
//!
//! The image lies below 4 GiB, where the host put it and MRTD measured it. An image with pages that
//! the host fills and nobody measures is refused: its MRTD names no program. It is too late then
//! against a host that used them, and early enough for the tenant, who learns of it at the first
//! boot. Then L1 asks whether a section covers the whole TPM window. If so, and if
//! the host did, the TDX module gives L2's accesses there to L1 directly; otherwise the host sees
//! the EPT violation first and routes it back (TDX Module ABI, "L2 EPT Violation"). L1 serves both,
//! so a host that does not keep the promise takes nothing but its own time.

use super::gpa_range::GpaRange;
use tcg_defs::ptp;
use tdshim_config::layout::{DESCRIPTOR_OFFSET_FROM_END, IMAGE_END, IMAGE_SIZE_MAX};
use tdshim_config::metadata::{Metadata, MetadataError, SectionKind};
use uefi_defs::guid::{GUIDED_TABLE_FOOTER, Guid, TDX_METADATA, TDX_METADATA_OFFSET};
use zerocopy::{FromBytes, little_endian as le};

/// The bytes at the image's end that hold the GUIDed table with td-shim's one entry, and the
/// pointer.
const TAIL: usize = 0x48;

/// Read access to the firmware image below 4 GiB, in L1's private memory.
pub trait FirmwareMemory {
    /// Copies `into.len()` bytes at `gpa`, which lie between the metadata descriptor and 4 GiB.
    fn read(&self, gpa: u64, into: &mut [u8]);
}

/// Who sees L2's accesses to the TPM window first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TpmWindow {
    /// The image asks for private pages there: exits come straight to L1.
    Private,
    /// Nothing is there: the host routes the exits to L1.
    HostRouted,
}

impl TpmWindow {
    /// The window's addresses.
    pub fn range() -> GpaRange {
        GpaRange::new(ptp::WINDOW.start, ptp::WINDOW.end).unwrap_or(GpaRange::EMPTY)
    }
}

/// Why the metadata could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FirmwareImageError {
    /// Neither the image's GUIDed table nor a firmware-volume HOB tells where it begins.
    #[error("no way to tell where the firmware image begins")]
    UnknownStart,
    /// The pointer at the image's end leads out of it.
    #[error("the firmware image's metadata pointer leads to {0:#x}, outside the image")]
    PointerOutside(u64),
    /// There is no TDX metadata where the pointer leads.
    #[error("there is no TDX metadata at {0:#x}, where the firmware image's pointer leads")]
    NoMetadata(u64),
    /// A page holds what the host likes, and MRTD is the same.
    #[error("the firmware image has a {} section at {address:#x} that nobody measures: cargo xtask check-image", kind.name())]
    HostsChoice {
        /// The section's type.
        kind: SectionKind,
        /// Its first page.
        address: u64,
    },
    /// td-shim and the host would have refused such metadata.
    #[error("the firmware image's metadata: {0}")]
    Metadata(#[from] MetadataError),
}

/// Reads the metadata of the firmware image that ends at 4 GiB.
///
/// `payload_volume` is the firmware volume of the payload HOB list. It begins the image of the
/// built-in shim; td-shim's own images say in their GUIDed table where the metadata is.
pub fn tpm_window(
    memory: &impl FirmwareMemory,
    payload_volume: Option<GpaRange>,
) -> Result<TpmWindow, FirmwareImageError> {
    let mut tail = [0; TAIL];
    memory.read(IMAGE_END - TAIL as u64, &mut tail);
    let descriptor = match distance_in_table(&tail) {
        Some(distance) => IMAGE_END.checked_sub(u64::from(distance)),
        None => {
            let volume = payload_volume.ok_or(FirmwareImageError::UnknownStart)?;
            let pointer = tail
                .get(TAIL - DESCRIPTOR_OFFSET_FROM_END as usize..)
                .and_then(|rest| le::U32::read_from_prefix(rest).ok())
                .map_or(0, |(pointer, _)| pointer.get());
            volume.start().checked_add(u64::from(pointer))
        }
    };
    let descriptor = descriptor.unwrap_or(0);
    let outside = FirmwareImageError::PointerOutside(descriptor);
    let room = GpaRange::new(descriptor, IMAGE_END - TAIL as u64).ok_or(outside)?;
    let mut guid = Guid::default();
    let guid_at = descriptor.checked_sub(guid.len() as u64).ok_or(outside)?;
    // Below this, no private page need be: a read there would end in the host.
    if guid_at < IMAGE_END - IMAGE_SIZE_MAX {
        return Err(outside);
    }
    memory.read(guid_at, &mut guid);
    if guid != TDX_METADATA {
        return Err(FirmwareImageError::NoMetadata(descriptor));
    }
    let mut bytes = [0; Metadata::LENGTH_MAX];
    let length = usize::try_from(room.length()).map_or(bytes.len(), |room| room.min(bytes.len()));
    let bytes = bytes.get_mut(..length).ok_or(outside)?;
    memory.read(descriptor, bytes);
    let metadata = Metadata::parse(bytes, descriptor, IMAGE_SIZE_MAX)?;
    if let Some(section) = metadata.hosts_choice() {
        return Err(FirmwareImageError::HostsChoice {
            kind: section.kind,
            address: section.address,
        });
    }
    Ok(if metadata.backs_tpm_window() {
        TpmWindow::Private
    } else {
        TpmWindow::HostRouted
    })
}

/// The distance from the image's end of the descriptor, if the GUIDed table has it first.
fn distance_in_table(tail: &[u8; TAIL]) -> Option<u32> {
    let before_pointer = tail.get(..TAIL - DESCRIPTOR_OFFSET_FROM_END as usize)?;
    let (rest, footer) = Guid::read_from_suffix(before_pointer).ok()?;
    let (rest, _table_length) = le::U16::read_from_suffix(rest).ok()?;
    let (rest, entry) = Guid::read_from_suffix(rest).ok()?;
    let (rest, _entry_length) = le::U16::read_from_suffix(rest).ok()?;
    let (_, distance) = le::U32::read_from_suffix(rest).ok()?;
    (footer == GUIDED_TABLE_FOOTER && entry == TDX_METADATA_OFFSET).then_some(distance.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use tdshim_config::metadata::{Descriptor, SIGNATURE, Section, VERSION};
    use zerocopy::IntoBytes;

    /// An image's bytes up to 4 GiB; a read of anything else fails the test.
    struct Image(Vec<u8>);

    impl FirmwareMemory for Image {
        fn read(&self, gpa: u64, into: &mut [u8]) {
            let start = IMAGE_END - self.0.len() as u64;
            assert!(
                gpa >= start && gpa + into.len() as u64 <= IMAGE_END,
                "{gpa:#x}"
            );
            let at = (gpa - start) as usize;
            into.copy_from_slice(&self.0[at..at + into.len()]);
        }
    }

    const SIZE: usize = 0x8000;
    const DESCRIPTOR_AT: usize = 0x2010;

    fn image(window: u64, size: u64, with_table: bool) -> Image {
        let mut bytes = vec![0; SIZE];
        bytes[DESCRIPTOR_AT - 16..DESCRIPTOR_AT].copy_from_slice(&TDX_METADATA);
        let sections = [
            Section {
                data_offset: 0,
                raw_data_size: SIZE as u32,
                address: IMAGE_END - SIZE as u64,
                size: SIZE as u64,
                kind: SectionKind::Bfv,
                attributes: 1,
            },
            Section {
                data_offset: 0,
                raw_data_size: 0,
                address: 0x80_0000,
                size: 0x1000,
                kind: SectionKind::TdHob,
                attributes: 0,
            },
            Section {
                data_offset: 0,
                raw_data_size: 0x1000.min(size) as u32,
                address: window,
                size,
                kind: SectionKind::Bfv,
                attributes: 1,
            },
        ];
        let descriptor = Descriptor {
            signature: SIGNATURE,
            length: (16 + 32 * sections.len() as u32).into(),
            version: VERSION.into(),
            section_count: (sections.len() as u32).into(),
        };
        let mut metadata = descriptor.as_bytes().to_vec();
        for section in &sections {
            metadata.extend(section.to_raw().as_bytes());
        }
        bytes[DESCRIPTOR_AT..DESCRIPTOR_AT + metadata.len()].copy_from_slice(&metadata);
        bytes[SIZE - 0x20..SIZE - 0x1C].copy_from_slice(&(DESCRIPTOR_AT as u32).to_le_bytes());
        if with_table {
            let mut table = ((SIZE - DESCRIPTOR_AT) as u32).to_le_bytes().to_vec();
            table.extend(0x16u16.to_le_bytes());
            table.extend(TDX_METADATA_OFFSET);
            table.extend(0x28u16.to_le_bytes());
            table.extend(GUIDED_TABLE_FOOTER);
            bytes[SIZE - 0x20 - table.len()..SIZE - 0x20].copy_from_slice(&table);
        }
        Image(bytes)
    }

    fn volume() -> Option<GpaRange> {
        GpaRange::with_length(IMAGE_END - SIZE as u64, 0x2000)
    }

    #[test]
    fn the_window_is_private_only_where_one_section_covers_it_whole() {
        for (window, size, expected) in [
            (0xFED4_0000, 0x5000, TpmWindow::Private),
            (0xFED0_0000, 0x10_0000, TpmWindow::Private),
            (0xFED4_0000, 0x4000, TpmWindow::HostRouted),
            (0xFED4_1000, 0x5000, TpmWindow::HostRouted),
        ] {
            assert_eq!(tpm_window(&image(window, size, true), None), Ok(expected));
            assert_eq!(
                tpm_window(&image(window, size, false), volume()),
                Ok(expected)
            );
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let bare = image(0, 0, false);
        assert_eq!(
            tpm_window(&bare, None),
            Err(FirmwareImageError::UnknownStart)
        );
        let mut filled = image(0xFED4_0000, 0x5000, true);
        let raw = Section {
            data_offset: 0,
            raw_data_size: 0,
            address: 0xFED4_0000,
            size: 0x5000,
            kind: SectionKind::TempMem,
            attributes: 0,
        };
        filled.0[DESCRIPTOR_AT + 16 + 2 * 32..][..32].copy_from_slice(raw.to_raw().as_bytes());
        assert_eq!(
            tpm_window(&filled, None),
            Err(FirmwareImageError::HostsChoice {
                kind: SectionKind::TempMem,
                address: 0xFED4_0000
            })
        );
        let low = GpaRange::with_length(0x1000, 0x1000);
        assert_eq!(
            tpm_window(&bare, low),
            Err(FirmwareImageError::PointerOutside(
                0x1000 + DESCRIPTOR_AT as u64
            ))
        );
        let mut unsigned = image(0, 0, true);
        unsigned.0[DESCRIPTOR_AT - 1] ^= 1;
        let at = IMAGE_END - (SIZE - DESCRIPTOR_AT) as u64;
        assert_eq!(
            tpm_window(&unsigned, None),
            Err(FirmwareImageError::NoMetadata(at))
        );
        assert!(matches!(
            tpm_window(&image(!0xFFF, 0x5000, true), None),
            Err(FirmwareImageError::Metadata(MetadataError::Rule {
                index: 2,
                ..
            }))
        ));
    }

    proptest! {
        /// A broken image leads to an answer or an error, and never to a read outside it, as long
        /// as the pointers stay inside.
        #[test]
        fn a_broken_descriptor_is_survived(at in 0usize..128, value in any::<u8>()) {
            let mut image = image(0xFED4_0000, 0x5000, true);
            image.0[DESCRIPTOR_AT - 16 + at] = value;
            let _ = tpm_window(&image, None);
        }
    }
}
