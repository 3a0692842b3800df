//! A bzImage of a few hundred bytes: the setup header that the boot protocol asks for, and a
//! program at its 64-bit entry point.

/// Where a blob's protected-mode code is loaded: it is not relocatable.
pub(super) const BASE: u64 = 0x100_0000;
/// The 64-bit entry point (Linux, Documentation/arch/x86/boot.rst, "64-bit BOOT PROTOCOL").
pub(super) const ENTRY: u64 = BASE + 0x200;

const SECTOR: usize = 512;
/// Boot sector and one sector of setup code, the least there can be.
const SETUP: usize = 2 * SECTOR;
/// Protocol 2.15.
const VERSION: u16 = 0x20F;
/// `loadflags`: LOADED_HIGH.
const LOADED_HIGH: u8 = 1;
/// `xloadflags`: XLF_KERNEL_64.
const KERNEL_64: u16 = 1;
/// `init_size`: the program may use this much memory from [`BASE`] on.
const INIT_SIZE: u32 = 0x40_0000;

/// The kernel file with `code`, which starts at [`BASE`].
pub(super) fn bz_image(code: &[u8]) -> Vec<u8> {
    let mut code = code.to_vec();
    code.resize(code.len().next_multiple_of(16), 0);
    let mut file = vec![0; SETUP];
    let mut put =
        |offset: usize, bytes: &[u8]| file[offset..offset + bytes.len()].copy_from_slice(bytes);
    // setup_sects, syssize, boot_flag, jump (its displacement tells where the header ends).
    put(0x1F1, &[(SETUP / SECTOR - 1) as u8]);
    put(0x1F4, &((code.len() / 16) as u32).to_le_bytes());
    put(0x1FE, &[0x55, 0xAA, 0xEB, 0x6A]);
    put(0x202, b"HdrS");
    put(0x206, &VERSION.to_le_bytes());
    put(0x211, &[LOADED_HIGH]);
    // initrd_addr_max, kernel_alignment, relocatable_kernel, xloadflags, cmdline_size.
    put(0x22C, &0x7FFF_FFFF_u32.to_le_bytes());
    put(0x230, &0x20_0000_u32.to_le_bytes());
    put(0x234, &[0, 21]);
    put(0x236, &KERNEL_64.to_le_bytes());
    put(0x238, &255_u32.to_le_bytes());
    // pref_address, init_size.
    put(0x258, &BASE.to_le_bytes());
    put(0x260, &INIT_SIZE.to_le_bytes());
    file.extend_from_slice(&code);
    file
}
