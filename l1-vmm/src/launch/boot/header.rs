//! The setup header of a bzImage.
//!
//! Source: Linux, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header". The header comes
//! from the host, and QEMU has written into it what *it* would do with the kernel. So only the
//! fields that the kernel itself provides ("read") are taken; those a boot loader writes are L1's
//! own.

use super::format::Format;
use alloc::vec::Vec;
pub use attestation::launch::canonical_setup;
pub(super) use attestation::launch::loader_field as field;
use attestation::launch::without_loader_fields;

/// Offset of the first field in the file and in the zero page.
const START: usize = 0x1F1;
/// The zero page has room for the header up to here.
const END_MAX: usize = 0x290;
/// The 64-bit entry point is this far into the protected-mode code ("64-bit BOOT PROTOCOL").
pub(super) const ENTRY_64: u64 = 0x200;
/// Protocol 2.12 brought `xloadflags`, without which no kernel says it can be entered in 64-bit
/// mode.
const VERSION_MIN: u16 = 0x20C;
const SECTOR: usize = 512;
/// What `syssize` counts.
const PARAGRAPH: u64 = 16;

/// `loadflags`: the protected-mode code goes to 1 MiB or above.
pub(super) const LOADED_HIGH: u8 = 1;
/// `xloadflags`: has the 64-bit entry point.
const XLF_KERNEL_64: u16 = 1;
/// `xloadflags`: kernel, command line and initrd may lie above 4 GiB.
const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 2;

/// Why a file is not a kernel that L1 can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// No boot-sector mark or no "HdrS": the file is something else.
    #[error("the kernel is no bzImage ({0})")]
    NotBzImage(Format),
    /// The boot protocol is too old.
    #[error("the kernel speaks boot protocol {major}.{minor:02}; 2.12 or newer is needed", major = .0 >> 8, minor = .0 & 0xFF)]
    TooOld(u16),
    /// A zImage.
    #[error("the kernel is a zImage, not a bzImage (LOADED_HIGH is clear)")]
    LoadedLow,
    /// No 64-bit entry point.
    #[error("the kernel has no 64-bit entry point (XLF_KERNEL_64 is clear)")]
    Not64Bit,
    /// Header fields that contradict each other or the specification.
    #[error("the kernel's setup header is broken: {0}")]
    BrokenHeader(&'static str),
    /// The host gave another amount of setup code than the header says.
    #[error(
        "the host gives {given} bytes of kernel setup code, but the kernel's header says {said}"
    )]
    SetupSize {
        /// fw_cfg's size.
        given: usize,
        /// The header's.
        said: usize,
    },
    /// The protected-mode code is cut off.
    #[error(
        "the kernel is cut off: {given} bytes of protected-mode code, but its header says {said}"
    )]
    Truncated {
        /// fw_cfg's size.
        given: u64,
        /// The header's `syssize`.
        said: u64,
    },
}

/// The header of a kernel that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupHeader {
    /// The header's bytes, from offset 0x1F1, with the boot loader's fields zeroed.
    bytes: Vec<u8>,
    /// Boot protocol version.
    pub version: u16,
    /// Bytes of the protected-mode code, rounded up to a paragraph of 16 bytes.
    pub code_length: u64,
    /// Where the kernel likes to run.
    pub pref_address: u64,
    /// Alignment of any other place, a power of two.
    pub kernel_alignment: u64,
    /// Whether there may be another place.
    pub relocatable: bool,
    /// Bytes the kernel needs from its start on, before it can read its memory map.
    pub init_size: u64,
    /// Longest command line, without its NUL.
    pub cmdline_size: u32,
    /// Highest address of the initrd's last byte.
    pub initrd_addr_max: u32,
    /// Whether the initrd may lie above 4 GiB.
    pub above_4g: bool,
}

impl SetupHeader {
    /// Checks the header at the start of a kernel's setup code.
    ///
    /// `setup` is the whole setup code: boot sector and `setup_sects` sectors.
    pub fn parse(setup: &[u8]) -> Result<Self, KernelError> {
        let fields = Fields(setup);
        if fields.u16(0x1FE) != Some(0xAA55) || setup.get(0x202..0x206) != Some(b"HdrS") {
            return Err(KernelError::NotBzImage(Format::of(setup)));
        }
        let cut_off = KernelError::BrokenHeader("it is cut off");
        let version = fields.u16(0x206).ok_or(cut_off)?;
        if version < VERSION_MIN {
            return Err(KernelError::TooOld(version));
        }
        if fields.u8(field::LOADFLAGS).ok_or(cut_off)? & LOADED_HIGH == 0 {
            return Err(KernelError::LoadedLow);
        }
        let xloadflags = fields.u16(0x236).ok_or(cut_off)?;
        if xloadflags & XLF_KERNEL_64 == 0 {
            return Err(KernelError::Not64Bit);
        }
        let said = match fields.u8(START).ok_or(cut_off)? {
            0 => 5 * SECTOR,
            sectors => (usize::from(sectors) + 1) * SECTOR,
        };
        if setup.len() != said {
            let given = setup.len();
            return Err(KernelError::SetupSize { given, said });
        }
        // The jump instruction's displacement at 0x201 tells where the header ends.
        let end = 0x202 + usize::from(fields.u8(0x201).ok_or(cut_off)?);
        let bytes = setup.get(START..end.min(END_MAX)).ok_or(cut_off)?;
        if end < 0x268 {
            return Err(KernelError::BrokenHeader("it ends before init_size"));
        }
        let header = Self {
            bytes: without_loader_fields(bytes, START),
            version,
            code_length: u64::from(fields.u32(0x1F4).ok_or(cut_off)?) * PARAGRAPH,
            pref_address: fields.u64(0x258).ok_or(cut_off)?,
            kernel_alignment: u64::from(fields.u32(0x230).ok_or(cut_off)?),
            relocatable: fields.u8(0x234).ok_or(cut_off)? != 0,
            init_size: u64::from(fields.u32(0x260).ok_or(cut_off)?),
            cmdline_size: fields.u32(0x238).ok_or(cut_off)?,
            initrd_addr_max: fields.u32(0x22C).ok_or(cut_off)?,
            above_4g: xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G != 0,
        };
        header.check()?;
        Ok(header)
    }

    /// Whether a file with this many bytes of protected-mode code is whole: its last paragraph may be a part of one.
    pub fn check_code_length(&self, given: u64) -> Result<(), KernelError> {
        let said = self.code_length;
        match given.checked_next_multiple_of(PARAGRAPH) {
            Some(rounded) if rounded < said => Err(KernelError::Truncated { given, said }),
            _ => Ok(()),
        }
    }

    fn check(&self) -> Result<(), KernelError> {
        let rules = [
            (
                self.kernel_alignment.is_power_of_two() && self.kernel_alignment >= 0x1000,
                "kernel_alignment is no power of two of 4 KiB or more",
            ),
            (self.pref_address != 0, "pref_address is 0"),
            (
                self.pref_address.is_multiple_of(0x1000),
                "pref_address is not 4 KiB aligned",
            ),
            (self.init_size != 0, "init_size is 0"),
            (self.cmdline_size != 0, "cmdline_size is 0"),
            (self.initrd_addr_max != 0, "initrd_addr_max is 0"),
            (
                self.code_length > ENTRY_64,
                "syssize has no room for the 64-bit entry point",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(KernelError::BrokenHeader(rule)),
            None => Ok(()),
        }
    }

    /// The header for a zero page, from offset 0x1F1, with the boot loader's fields zeroed.
    pub fn for_zero_page(&self) -> &[u8] {
        &self.bytes
    }

    /// Offset of [`Self::for_zero_page`] in the zero page.
    pub const ZERO_PAGE_OFFSET: usize = START;
}

/// Little-endian fields by offset.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn at<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..)?.first_chunk().copied()
    }
    fn u8(&self, offset: usize) -> Option<u8> {
        self.0.get(offset).copied()
    }
    fn u16(&self, offset: usize) -> Option<u16> {
        self.at(offset).map(u16::from_le_bytes)
    }
    fn u32(&self, offset: usize) -> Option<u32> {
        self.at(offset).map(u32::from_le_bytes)
    }
    fn u64(&self, offset: usize) -> Option<u64> {
        self.at(offset).map(u64::from_le_bytes)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;
    use proptest::prelude::*;

    fn put(setup: &mut [u8], offset: usize, bytes: &[u8]) {
        setup[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Setup code with the header fields of Debian's 6.1 kernel, and `code` bytes of protected-mode
    /// code.
    pub(crate) fn setup(code: u32) -> Vec<u8> {
        let mut setup = vec![0x90; 40 * SECTOR];
        put(&mut setup, 0x1F1, &[39]);
        put(&mut setup, 0x1F4, &code.div_ceil(16).to_le_bytes());
        put(&mut setup, 0x1FE, &[0x55, 0xAA, 0xEB, 0x6A]);
        put(&mut setup, 0x202, b"HdrS");
        put(&mut setup, 0x206, &0x20Fu16.to_le_bytes());
        put(&mut setup, 0x210, &[0xB0, 0x81]);
        put(&mut setup, 0x228, &0x2_0000u32.to_le_bytes());
        put(&mut setup, 0x22C, &0x7FFF_FFFFu32.to_le_bytes());
        put(&mut setup, 0x230, &0x20_0000u32.to_le_bytes());
        put(&mut setup, 0x234, &[1, 21]);
        put(&mut setup, 0x236, &0x7Fu16.to_le_bytes());
        put(&mut setup, 0x238, &2047u32.to_le_bytes());
        put(&mut setup, 0x250, &0u64.to_le_bytes());
        put(&mut setup, 0x258, &0x100_0000u64.to_le_bytes());
        put(&mut setup, 0x260, &0x300_0000u32.to_le_bytes());
        setup
    }

    #[test]
    fn a_kernels_own_fields_are_read() {
        let header = SetupHeader::parse(&setup(0x8000)).unwrap();
        assert_eq!(
            (
                header.version,
                header.code_length,
                header.pref_address,
                header.kernel_alignment
            ),
            (0x20F, 0x8000, 0x100_0000, 0x20_0000)
        );
        assert_eq!(
            (
                header.init_size,
                header.cmdline_size,
                header.initrd_addr_max
            ),
            (0x300_0000, 2047, 0x7FFF_FFFF)
        );
        assert!(header.relocatable && header.above_4g);
        let bytes = header.for_zero_page();
        assert_eq!(bytes.len(), 0x202 + 0x6A - 0x1F1);
        assert_eq!(bytes[0x210 - 0x1F1..0x212 - 0x1F1], [0, 0]);
        assert_eq!(bytes[0x228 - 0x1F1..0x22C - 0x1F1], [0; 4]);
        assert_eq!(bytes[0x202 - 0x1F1..0x206 - 0x1F1], *b"HdrS");
    }

    #[test]
    fn the_code_is_whole_to_the_paragraph() {
        // memtest86+ 6.10: syssize 0x22DC, 142776 bytes of code.
        let header = SetupHeader::parse(&setup(142_784)).unwrap();
        for (given, whole) in [
            (142_784, true),
            (142_776, true),
            (142_769, true),
            (142_768, false),
            (0, false),
            (u64::MAX, true),
        ] {
            assert_eq!(header.check_code_length(given).is_ok(), whole, "{given}");
        }
    }

    #[test]
    fn what_a_boot_loader_writes_does_not_change_the_measured_bytes() {
        let one = setup(0x8000);
        let mut other = one.clone();
        for field in attestation::launch::WRITTEN_BY_LOADER {
            other[field].fill(0x5A);
        }
        assert_eq!(canonical_setup(&one), canonical_setup(&other));
        other[0x258] ^= 1;
        assert_ne!(canonical_setup(&one), canonical_setup(&other));
    }

    #[test]
    fn a_kernel_that_cannot_be_started_says_why() {
        let cases: [(usize, &[u8], &str); 12] = [
            (0x1FE, &[0, 0], "no bzImage"),
            (0x202, b"ELF!", "no bzImage"),
            (0x206, &[0x0B, 2], "boot protocol 2.11;"),
            (0x211, &[0x80], "zImage"),
            (0x236, &[0, 0], "64-bit entry point"),
            (0x1F1, &[12], "the kernel's header says 6656"),
            (0x201, &[0x20], "ends before init_size"),
            (0x230, &[1, 0, 0x20, 0], "kernel_alignment"),
            (0x258, &[0; 8], "pref_address is 0"),
            (0x258, &[8, 0], "pref_address is not"),
            (0x260, &[0; 4], "init_size is 0"),
            (0x1F4, &[0; 4], "syssize"),
        ];
        for (offset, bytes, said) in cases {
            let mut setup = setup(0x8000);
            put(&mut setup, offset, bytes);
            let error = SetupHeader::parse(&setup).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(cut in 0usize..40 * SECTOR, at in 0x1F1usize..0x290, value in any::<u8>()) {
            let mut setup = setup(0x8000);
            setup[at] = value;
            let _ = SetupHeader::parse(&setup);
            let _ = SetupHeader::parse(&setup[..cut]);
            let _ = canonical_setup(&setup[..cut]);
        }
    }
}
