//! The files of a run, in one file that QEMU loads with `-initrd`.
//!
//! `"TDXPACK\0"`, a u64 count, then for each file a 32-byte name and the u64 offset and size of its
//! body; bodies are 4 KiB aligned. All numbers are little-endian.

const MAGIC: &[u8] = b"TDXPACK\0";
const ENTRY: usize = 48;
const NAME: usize = 32;

/// The pack, in machine memory that nothing writes.
#[derive(Clone, Debug)]
pub(crate) struct Pack {
    bytes: &'static [u8],
}

/// A file of the pack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File {
    pub(crate) bytes: &'static [u8],
}

impl Pack {
    /// A pack without files.
    pub(crate) const EMPTY: Self = Self {
        bytes: b"TDXPACK\0\0\0\0\0\0\0\0\0",
    };

    /// Takes bytes that start as a pack does.
    pub(crate) fn new(bytes: &'static [u8]) -> Option<Self> {
        bytes.starts_with(MAGIC).then_some(Self { bytes })
    }

    /// The file of that name.
    pub(crate) fn file(&self, name: &str) -> Option<File> {
        let count = self.number(MAGIC.len())?;
        (0..count).find_map(|index| {
            let at = MAGIC.len() + 8 + usize::try_from(index).ok()? * ENTRY;
            let stored = self.bytes.get(at..at + NAME)?;
            let length = stored.iter().position(|&byte| byte == 0).unwrap_or(NAME);
            if stored.get(..length)? != name.as_bytes() {
                return None;
            }
            let offset = self.number(at + NAME)?;
            let size = self.number(at + NAME + 8)?;
            let end = offset.checked_add(size)?;
            let bytes = self.bytes.get(offset as usize..end as usize)?;
            Some(File { bytes })
        })
    }

    fn number(&self, at: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }
}
