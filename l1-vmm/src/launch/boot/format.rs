//! What a file is that is no bzImage, and what of it would boot: for the refusal's text, and for nothing else.

use core::fmt;

/// A kernel's other formats, and what is often taken for a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Nothing that is known.
    Unknown,
    /// ELF: Linux's `vmlinux`, with or without a PVH entry point; other systems' kernels.
    Elf,
    /// A PE file with a kernel in the section `.linux` (UAPI Group Specification, "Unified Kernel Image").
    UnifiedKernelImage,
    /// Linux's compressed image that only firmware can start (`vmlinuz.efi`).
    EfiZboot,
    /// Another PE file: a boot loader, or a kernel that only firmware can start.
    Efi,
    /// Compressed by this program.
    Compressed(&'static str),
}

/// The first bytes of compressed files (RFC 1952; RFC 8878; the formats of xz, bzip2, LZ4 and LZOP).
const COMPRESSED: [(&[u8], &str); 7] = [
    (&[0x1F, 0x8B], "gzip"),
    (&[0x28, 0xB5, 0x2F, 0xFD], "zstd"),
    (&[0xFD, b'7', b'z', b'X', b'Z', 0], "xz"),
    (b"BZh", "bzip2"),
    (&[0x04, 0x22, 0x4D, 0x18], "lz4"),
    (&[0x02, 0x21, 0x4C, 0x18], "lz4"),
    (&[0x89, b'L', b'Z', b'O'], "lzop"),
];

impl Format {
    /// What a file is that begins with these bytes, of which a few hundred are enough.
    pub fn of(start: &[u8]) -> Self {
        if start.starts_with(b"\x7FELF") {
            return Self::Elf;
        }
        if start.starts_with(b"MZ") {
            return Self::of_pe(start);
        }
        let compressed = COMPRESSED.iter().find(|(mark, _)| start.starts_with(mark));
        compressed.map_or(Self::Unknown, |(_, by)| Self::Compressed(by))
    }

    fn of_pe(start: &[u8]) -> Self {
        // The section headers follow the other headers, in the first pages of any image.
        const SECTION_NAME: &[u8; 8] = b".linux\0\0";
        if start.get(4..8) == Some(b"zimg") {
            Self::EfiZboot
        } else if start.windows(8).any(|name| name == SECTION_NAME) {
            Self::UnifiedKernelImage
        } else {
            Self::Efi
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no boot sector mark and \"HdrS\" signature"),
            Self::Elf => f.write_str(
                "it is an ELF file, as vmlinux and PVH kernels are; the same build's arch/x86/boot/bzImage boots",
            ),
            Self::UnifiedKernelImage => f.write_str(
                "it is a unified kernel image; its kernel boots: objcopy -O binary --only-section=.linux UKI KERNEL",
            ),
            Self::EfiZboot => f.write_str(
                "it is an EFI zboot image, which needs UEFI firmware; the same build's bzImage boots",
            ),
            Self::Efi => f.write_str(
                "it is an EFI application, which needs UEFI firmware; a bzImage boots, with EFI stub or without",
            ),
            Self::Compressed(by) => {
                write!(f, "it is compressed by {by}; if a bzImage is in it, that boots")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    fn pe(section: &[u8]) -> Vec<u8> {
        let mut file = b"MZ".to_vec();
        file.resize(0x80, 0);
        file.extend_from_slice(b"PE\0\0");
        file.resize(0x188, 0);
        file.extend_from_slice(section);
        file.resize(1024, 0);
        file
    }

    #[test]
    fn what_is_no_bzimage_is_named_with_what_would_boot() {
        for (start, format, says) in [
            (&b"\x7FELF\x02\x01"[..], Format::Elf, "bzImage boots"),
            (&pe(b".linux\0\0"), Format::UnifiedKernelImage, "objcopy"),
            (&pe(b".text\0\0\0"), Format::Efi, "UEFI firmware"),
            (b"MZ\0\0zimg", Format::EfiZboot, "zboot"),
            (&[0x1F, 0x8B, 8], Format::Compressed("gzip"), "by gzip"),
            (b"BZh9", Format::Compressed("bzip2"), "by bzip2"),
            (b"", Format::Unknown, "HdrS"),
            (b"M", Format::Unknown, "HdrS"),
        ] {
            assert_eq!(Format::of(start), format);
            assert!(format.to_string().contains(says), "{format}");
        }
    }
}
