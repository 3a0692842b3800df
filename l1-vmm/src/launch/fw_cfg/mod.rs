//! QEMU's firmware configuration device, through which the host gives the kernel, initrd and
//! command line, and options for L1 as named files.
//!
//! Source: QEMU, docs/specs/fw_cfg.rst. Ports are reached by `TDVMCALL<Instruction.IO>`; data comes
//! by the device's DMA through one buffer of shared memory, because a byte-wise kernel would be
//! millions of TD exits. Only sizes and counts, of four bytes each, are read from the data port.
//!
//! Whatever the host says is hostile: a size is used for nothing before its caller has checked it,
//! data is copied out of the shared buffer once and then belongs to L1.

mod directory;
mod dma;

pub use directory::Directory;
pub use dma::DmaError;

use self::directory::FILES_MAX;
use alloc::vec;
use tdcall::SharedBuffer;
use tdcall::tdvmcall::VmcallError;
use tdcall::{RawTdcall, Td};
use tdx_defs::ghci::Width;

/// Selector register.
const PORT_SELECTOR: u16 = 0x510;
/// Data register.
const PORT_DATA: u16 = 0x511;
/// DMA address register, high half; the low half is 4 above.
const PORT_DMA: u16 = 0x514;

/// What the device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// "QEMU".
    Signature,
    /// Feature bits.
    Id,
    /// Bytes of [`Item::KernelData`].
    KernelSize,
    /// Bytes of [`Item::InitrdData`].
    InitrdSize,
    /// The kernel's protected-mode code: its file without the setup code.
    KernelData,
    /// The initrd.
    InitrdData,
    /// Bytes of [`Item::CmdlineData`].
    CmdlineSize,
    /// The command line with its NUL.
    CmdlineData,
    /// Bytes of [`Item::SetupData`].
    SetupSize,
    /// The kernel's setup code: boot sector and setup sectors.
    SetupData,
    /// The names, sizes and keys of all files.
    FileDirectory,
    /// A file, by the key that the directory gives it.
    File(u16),
}

impl Item {
    /// What is written to the selector.
    pub const fn key(self) -> u16 {
        match self {
            Self::Signature => 0x00,
            Self::Id => 0x01,
            Self::KernelSize => 0x08,
            Self::InitrdSize => 0x0B,
            Self::KernelData => 0x11,
            Self::InitrdData => 0x12,
            Self::CmdlineSize => 0x14,
            Self::CmdlineData => 0x15,
            Self::SetupSize => 0x17,
            Self::SetupData => 0x18,
            Self::FileDirectory => 0x19,
            Self::File(key) => key,
        }
    }
}

/// Feature bit: the DMA interface is there.
const FEATURE_DMA: u32 = 1 << 1;

/// Why nothing could be read from fw_cfg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FwCfgError {
    /// The signature is not "QEMU".
    #[error("the host has no fw_cfg device (its signature reads {0:02x?})")]
    NoDevice([u8; 4]),
    /// The device has no DMA.
    #[error("the host's fw_cfg device has no DMA interface")]
    NoDma,
    /// The shared buffer cannot hold a request and some data.
    #[error("the shared buffer is too small for fw_cfg")]
    BufferTooSmall,
    /// A port could not be read or written.
    #[error("fw_cfg port access: {0}")]
    Port(#[from] VmcallError),
    /// No directory is that long.
    #[error("the host claims {0} fw_cfg files; no host has more than {FILES_MAX}")]
    TooManyFiles(u32),
    /// A file of known purpose is longer than any value that it could hold.
    #[error("the host's fw_cfg file {name} has {size} bytes; {most} are the most it may have")]
    FileTooLarge {
        /// Its name.
        name: &'static str,
        /// Its size.
        size: u32,
        /// The most that is read.
        most: u32,
    },
    /// A transfer failed.
    #[error("fw_cfg item {item:?}: {error}")]
    Dma {
        /// The item.
        item: Item,
        /// What went wrong.
        error: DmaError,
    },
}

/// The device.
pub struct FwCfg<'a, R, B> {
    td: &'a Td<R>,
    buffer: &'a B,
}

impl<'a, R: RawTdcall, B: SharedBuffer> FwCfg<'a, R, B> {
    /// Finds the device and its DMA interface. `buffer` was made shared before.
    pub fn open(td: &'a Td<R>, buffer: &'a B) -> Result<Self, FwCfgError> {
        if dma::room(buffer) == 0 {
            return Err(FwCfgError::BufferTooSmall);
        }
        let device = Self { td, buffer };
        let signature = device.read_small(Item::Signature)?;
        if signature != *b"QEMU" {
            return Err(FwCfgError::NoDevice(signature));
        }
        let features = u32::from_le_bytes(device.read_small(Item::Id)?);
        if features & FEATURE_DMA == 0 {
            return Err(FwCfgError::NoDma);
        }
        Ok(device)
    }

    /// A size item.
    pub fn size(&self, item: Item) -> Result<u64, FwCfgError> {
        Ok(u64::from(u32::from_le_bytes(self.read_small(item)?)))
    }

    /// Reads the first `length` bytes of `item` and passes them on piece by piece, in order.
    ///
    /// A piece is L1's own copy. The device gives zeros behind an item's end, so a host that lied
    /// about a size is found out by what the pieces mean, not here.
    pub fn read<E: From<FwCfgError>>(
        &self,
        item: Item,
        length: u64,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let room = dma::room(self.buffer);
        let mut piece = vec![0; room.min(usize::try_from(length).unwrap_or(usize::MAX))];
        let mut left = length;
        let mut select = Some(item.key());
        while left != 0 {
            let take = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let Some(bytes) = piece.get_mut(..take) else {
                break;
            };
            dma::read(self.td, self.buffer, select.take(), bytes)
                .map_err(|error| FwCfgError::Dma { item, error })?;
            sink(bytes)?;
            left -= take as u64;
        }
        Ok(())
    }

    /// The first four bytes of `item`, from the data port.
    fn read_small(&self, item: Item) -> Result<[u8; 4], FwCfgError> {
        self.td
            .io_write(PORT_SELECTOR, Width::Word, u32::from(item.key()))?;
        let mut bytes = [0; 4];
        for byte in &mut bytes {
            *byte = self.td.io_read(PORT_DATA, Width::Byte)? as u8;
        }
        Ok(bytes)
    }
}

#[cfg(test)]
pub(crate) mod tests;
