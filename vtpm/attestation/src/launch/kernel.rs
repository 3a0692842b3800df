//! The kernel file as it is measured.
//!
//! Source: Linux, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".

use crate::digest::{Digests, Hasher};
use crate::pcr::PcrBanks;
use alloc::vec::Vec;
use core::ops::Range;

/// Fields of the setup header that are written to, by offset.
pub mod loader_field {
    /// vid_mode.
    pub const VID_MODE: usize = 0x1FA;
    /// type_of_loader.
    pub const TYPE_OF_LOADER: usize = 0x210;
    /// loadflags.
    pub const LOADFLAGS: usize = 0x211;
    /// setup_move_size.
    pub const SETUP_MOVE_SIZE: usize = 0x212;
    /// code32_start.
    pub const CODE32_START: usize = 0x214;
    /// ramdisk_image.
    pub const RAMDISK_IMAGE: usize = 0x218;
    /// ramdisk_size.
    pub const RAMDISK_SIZE: usize = 0x21C;
    /// heap_end_ptr.
    pub const HEAP_END_PTR: usize = 0x224;
    /// ext_loader_ver.
    pub const EXT_LOADER_VER: usize = 0x226;
    /// ext_loader_type.
    pub const EXT_LOADER_TYPE: usize = 0x227;
    /// cmd_line_ptr.
    pub const CMD_LINE_PTR: usize = 0x228;
    /// setup_data.
    pub const SETUP_DATA: usize = 0x250;
}

/// What a boot loader writes: offset and bytes of each field.
pub const WRITTEN_BY_LOADER: [Range<usize>; 11] = [
    loader_field::VID_MODE..loader_field::VID_MODE + 2,
    loader_field::TYPE_OF_LOADER..loader_field::TYPE_OF_LOADER + 1,
    loader_field::LOADFLAGS..loader_field::LOADFLAGS + 1,
    loader_field::SETUP_MOVE_SIZE..loader_field::SETUP_MOVE_SIZE + 2,
    loader_field::CODE32_START..loader_field::CODE32_START + 4,
    loader_field::RAMDISK_IMAGE..loader_field::RAMDISK_IMAGE + 4,
    loader_field::RAMDISK_SIZE..loader_field::RAMDISK_SIZE + 4,
    loader_field::HEAP_END_PTR..loader_field::HEAP_END_PTR + 2,
    loader_field::EXT_LOADER_VER..loader_field::EXT_LOADER_TYPE + 1,
    loader_field::CMD_LINE_PTR..loader_field::CMD_LINE_PTR + 4,
    loader_field::SETUP_DATA..loader_field::SETUP_DATA + 8,
];

/// Bytes of a file in which all of [`WRITTEN_BY_LOADER`] lies.
const HEADER_END: usize = loader_field::SETUP_DATA + 8;

/// The setup code as it is measured: with the fields zeroed that any boot loader overwrites.
///
/// QEMU fills them in before L1 sees them, and L1 uses none of the host's values; zeroed, the
/// digest follows from the kernel file alone.
pub fn canonical_setup(setup: &[u8]) -> Vec<u8> {
    without_loader_fields(setup, 0)
}

/// Bytes that begin at offset `start` of the file, with the boot loader's fields zeroed.
pub fn without_loader_fields(bytes: &[u8], start: usize) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    for field in WRITTEN_BY_LOADER {
        let place = field
            .start
            .checked_sub(start)
            .zip(field.end.checked_sub(start));
        if let Some(place) = place.and_then(|(from, to)| copy.get_mut(from..to)) {
            place.fill(0);
        }
    }
    copy
}

/// The digests of a kernel file, from its bytes on disk, in all four algorithms.
pub fn kernel_digests(file: &[u8]) -> Digests {
    let (start, rest) = file.split_at_checked(HEADER_END).unwrap_or((file, &[]));
    let mut hasher = Hasher::new(PcrBanks::ALL);
    hasher.update(&canonical_setup(start));
    hasher.update(rest);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    /// Offset and size as in Linux, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
    #[test]
    fn the_loaders_fields_are_where_the_boot_protocol_has_them() {
        let rows = [
            (0x1FA, 2), // vid_mode
            (0x210, 1), // type_of_loader
            (0x211, 1), // loadflags
            (0x212, 2), // setup_move_size
            (0x214, 4), // code32_start
            (0x218, 4), // ramdisk_image
            (0x21C, 4), // ramdisk_size
            (0x224, 2), // heap_end_ptr
            (0x226, 2), // ext_loader_ver, ext_loader_type
            (0x228, 4), // cmd_line_ptr
            (0x250, 8), // setup_data
        ];
        assert_eq!(
            WRITTEN_BY_LOADER,
            rows.map(|(start, size)| start..start + size)
        );
    }

    #[test]
    fn what_a_boot_loader_writes_is_not_measured() {
        let file = vec![0x90; 0x1000];
        let mut loaded = file.clone();
        for field in WRITTEN_BY_LOADER {
            loaded[field].fill(0x5A);
        }
        assert_eq!(kernel_digests(&file), kernel_digests(&loaded));
        for place in [0x1F1, 0x1FC, 0x20F, 0x22C, 0x24F, HEADER_END] {
            let mut other = file.clone();
            other[place] ^= 1;
            assert_ne!(kernel_digests(&file), kernel_digests(&other), "{place:#x}");
        }
    }

    proptest! {
        /// L1 hashes the setup code and the rest as it loads them, wherever the one ends.
        #[test]
        fn the_digest_is_that_of_canonical_setup_and_the_rest(length in 0usize..0x500, setup in HEADER_END..0x500) {
            let file: Vec<u8> = (0..=255).cycle().take(length).collect();
            let (setup, rest) = file.split_at(setup.min(length));
            let measured = [canonical_setup(setup), rest.to_vec()].concat();
            prop_assert_eq!(kernel_digests(&file), Digests::of(&measured));
        }
    }
}
