//! fw_cfg's named files (QEMU, docs/specs/fw_cfg.rst, "File Directory").

use super::{FwCfg, FwCfgError, Item};
use alloc::vec::Vec;
use tdcall::{RawTdcall, SharedBuffer};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned, big_endian as be};

/// More files than any host has; QEMU gives a machine 32 slots unless told otherwise.
pub(super) const FILES_MAX: u32 = 1024;

/// `FWCfgFile`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    size: be::U32,
    key: be::U16,
    _reserved: be::U16,
    name: [u8; 56],
}

impl Entry {
    /// The name up to its NUL.
    fn name(&self) -> &[u8] {
        self.name.split(|byte| *byte == 0).next().unwrap_or(&[])
    }
}

/// The host's directory of files, as it was once.
#[derive(Clone, Debug)]
pub struct Directory(Vec<u8>);

impl<R: RawTdcall, B: SharedBuffer> FwCfg<'_, R, B> {
    /// The names, sizes and keys of the host's files.
    pub fn directory(&self) -> Result<Directory, FwCfgError> {
        let count = u32::from_be_bytes(self.read_small(Item::FileDirectory)?);
        if count > FILES_MAX {
            return Err(FwCfgError::TooManyFiles(count));
        }
        let length = size_of::<u32>() as u64 + u64::from(count) * size_of::<Entry>() as u64;
        self.read_whole(Item::FileDirectory, length).map(Directory)
    }

    /// The file called `name`, if the host has one, of at most `most` bytes.
    pub fn file(&self, name: &'static str, most: u32) -> Result<Option<Vec<u8>>, FwCfgError> {
        self.file_of(&self.directory()?, name, most)
    }

    /// The same, of a directory that was read before.
    pub fn file_of(
        &self,
        directory: &Directory,
        name: &'static str,
        most: u32,
    ) -> Result<Option<Vec<u8>>, FwCfgError> {
        let mut entries = directory.0.get(size_of::<u32>()..).unwrap_or(&[]);
        while let Ok((entry, rest)) = Entry::read_from_prefix(entries) {
            entries = rest;
            if entry.name() != name.as_bytes() {
                continue;
            }
            let size = entry.size.get();
            if size > most {
                return Err(FwCfgError::FileTooLarge { name, size, most });
            }
            return self
                .read_whole(Item::File(entry.key.get()), u64::from(size))
                .map(Some);
        }
        Ok(None)
    }

    /// The first `length` bytes of an item; the caller has bounded them.
    pub fn read_whole(&self, item: Item, length: u64) -> Result<Vec<u8>, FwCfgError> {
        let mut bytes = Vec::new();
        self.read(item, length, |piece| {
            bytes.extend_from_slice(piece);
            Ok::<(), FwCfgError>(())
        })?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fault, Host};
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;
    use tdcall::Td;

    fn entry(name: &str, key: u16, size: u32) -> [u8; 64] {
        let mut entry = [0; 64];
        entry[..4].copy_from_slice(&size.to_be_bytes());
        entry[4..6].copy_from_slice(&key.to_be_bytes());
        entry[8..8 + name.len()].copy_from_slice(name.as_bytes());
        entry
    }

    /// A host with these files, by name and key.
    fn host(count: u32, entries: &[[u8; 64]]) -> Host {
        let mut host = Host::new(0x1000, Fault::None);
        let directory = [&count.to_be_bytes()[..], entries.as_flattened()].concat();
        host.set(Item::FileDirectory, &directory);
        host
    }

    fn find(host: &Host, name: &'static str) -> Result<Option<Vec<u8>>, FwCfgError> {
        let td = Td::new(host);
        FwCfg::open(&td, host)?.file(name, 16)
    }

    #[test]
    fn a_file_is_found_by_its_whole_name() {
        let mut host = host(
            3,
            &[
                entry("etc/acpi/tables", 0x20, 0x2_0000),
                entry("opt/nameless", 0x21, 3),
                entry("opt/name", 0x22, 5),
            ],
        );
        host.set(Item::File(0x21), b"abc");
        host.set(Item::File(0x22), b"value and more");
        assert_eq!(find(&host, "opt/name").unwrap().unwrap(), b"value");
        assert_eq!(find(&host, "opt/nam").unwrap(), None);
        assert_eq!(find(&host, "").unwrap(), None);
        let longest: &str = "opt/a-name-that-fills-the-whole-field-of-fifty-six-bytes";
        let mut host = super::tests::host(1, &[entry(longest, 0x20, 1)]);
        host.set(Item::File(0x20), b"x");
        assert_eq!(longest.len(), 56);
        let found = find(
            &host,
            "opt/a-name-that-fills-the-whole-field-of-fifty-six-bytes",
        );
        assert_eq!(found.unwrap().unwrap(), b"x");
    }

    #[test]
    fn a_host_without_files_or_with_too_many_is_understood() {
        let none = Host::new(0x1000, Fault::None);
        assert_eq!(find(&none, "opt/name").unwrap(), None);
        assert_eq!(find(&host(0, &[]), "opt/name").unwrap(), None);
        let error = find(&host(1025, &[]), "opt/name").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the host claims 1025 fw_cfg files; no host has more than 1024"
        );
        let large = host(1, &[entry("opt/name", 0x20, 17)]);
        assert_eq!(
            find(&large, "opt/name").unwrap_err().to_string(),
            "the host's fw_cfg file opt/name has 17 bytes; 16 are the most it may have"
        );
    }

    proptest! {
        #[test]
        fn no_directory_makes_it_panic(
            count in 0u32..40, bytes in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut host = Host::new(0x1000, Fault::None);
            host.set(Item::FileDirectory, &[&count.to_be_bytes()[..], &bytes].concat());
            let _ = find(&host, "opt/name");
        }
    }
}
