//! A kernel file, on disk and as the host gives it.

use attestation::launch::WRITTEN_BY_LOADER;

/// Bytes of one sector of setup code.
const SECTOR: usize = 512;

/// A bzImage of two sectors of setup code and a protected-mode part (Linux, `Documentation/arch/x86/boot.rst`). Nothing
/// executes it.
pub fn bz_image(content: &[u8]) -> Vec<u8> {
    let mut file = vec![0x90; 3 * SECTOR];
    let fields: [(usize, &[u8]); 5] = [
        // setup_sects, boot_flag, jump, header, version.
        (0x1F1, &[2]),
        (0x1FE, &[0x55, 0xAA]),
        (0x200, &[0xEB, 0x66]),
        (0x202, b"HdrS"),
        (0x206, &[0x0F, 0x02]),
    ];
    for (offset, bytes) in fields {
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    file.extend_from_slice(content);
    file
}

/// The file after the host has filled in what a boot loader writes.
pub fn loaded(file: &[u8]) -> Vec<u8> {
    let mut loaded = file.to_vec();
    for field in WRITTEN_BY_LOADER {
        loaded[field].fill(0xB0);
    }
    loaded
}
