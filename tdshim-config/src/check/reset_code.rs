//! td-shim's reset code, which starts every virtual processor.

use crate::layout::IMAGE_END;

/// Bytes of td-shim's reset code, at the image's end.
const RESET_CODE: usize = 0x8000;

/// `mov rax, r9; shr rax, 16; and rax, 0xff; test rax, rax`: td-shim's choice of the boot processor
/// (`ResetVector/Main.asm`), by the low byte of the virtual processor's index alone.
const INDEX_CUT_TO_A_BYTE: [u8; 16] = [
    0x4C, 0x89, 0xC8, 0x48, 0xC1, 0xE8, 0x10, 0x48, 0x25, 0xFF, 0x00, 0x00, 0x00, 0x48, 0x85, 0xC0,
];

/// Whether virtual processor 256 starts as a boot processor, beside number 0 and on its stack.
pub(super) fn has_more_boot_processors(image: &[u8]) -> bool {
    let start = image.len().saturating_sub(RESET_CODE);
    image
        .get(start..)
        .unwrap_or_default()
        .windows(INDEX_CUT_TO_A_BYTE.len())
        .any(|window| window == INDEX_CUT_TO_A_BYTE)
}

/// File offset and length of the program that td-shim's reset code copies: the two u32 at the
/// image's end - 0x50 (td-shim, `ResetVectorParams`). `None` if this is not td-shim's reset code.
pub(super) fn reset_vector_parameters(image: &[u8]) -> Option<(usize, u64)> {
    let at = image.len().checked_sub(0x50)?;
    let [a, b, c, d, e, f, g, h] = *image.get(at..)?.first_chunk()?;
    let base = u64::from(u32::from_le_bytes([a, b, c, d]));
    let length = u64::from(u32::from_le_bytes([e, f, g, h]));
    let start = (base + image.len() as u64).checked_sub(IMAGE_END)?;
    (length != 0).then_some((start as usize, length))
}
