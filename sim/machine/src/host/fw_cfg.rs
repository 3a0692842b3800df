//! QEMU's firmware configuration device, as the host VMM offers it to the TD (QEMU:
//! docs/specs/fw_cfg.rst). Kernel, initrd and command line reach L1 through it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use tdx_defs::ghci::Width;

use super::memory::TdMemory;
use crate::arch::memory;
use crate::console::say;
use crate::options::{Fault, Options};
use crate::pack::Pack;

/// Ports of the device.
pub(crate) mod port {
    pub(crate) const SELECTOR: u16 = 0x510;
    pub(crate) const DATA: u16 = 0x511;
    pub(crate) const DMA_HIGH: u16 = 0x514;
    pub(crate) const DMA_LOW: u16 = 0x518;
}

/// Keys of items (QEMU: include/standard-headers/linux/qemu_fw_cfg.h).
mod key {
    pub(super) const SIGNATURE: u16 = 0x00;
    pub(super) const ID: u16 = 0x01;
    pub(super) const KERNEL_SIZE: u16 = 0x08;
    pub(super) const INITRD_SIZE: u16 = 0x0B;
    pub(super) const KERNEL_DATA: u16 = 0x11;
    pub(super) const INITRD_DATA: u16 = 0x12;
    pub(super) const CMDLINE_SIZE: u16 = 0x14;
    pub(super) const CMDLINE_DATA: u16 = 0x15;
    pub(super) const SETUP_SIZE: u16 = 0x17;
    pub(super) const SETUP_DATA: u16 = 0x18;
    pub(super) const FILE_DIRECTORY: u16 = 0x19;
    /// The first file's; the others follow.
    pub(super) const FIRST_FILE: u16 = 0x20;
}

/// The traditional interface and DMA.
const ID_TRADITIONAL_AND_DMA: u32 = 0b11;
/// What reads of the DMA register give: "QEMU CFG".
const DMA_SIGNATURE: [u8; 8] = *b"QEMU CFG";

/// FWCfgDmaAccess.control, low half.
mod control {
    pub(super) const ERROR: u32 = 1 << 0;
    pub(super) const READ: u32 = 1 << 1;
    pub(super) const SKIP: u32 = 1 << 2;
    pub(super) const SELECT: u32 = 1 << 3;
    pub(super) const WRITE: u32 = 1 << 4;
}

/// A memory page's worth of DMA at a time.
const BLOCK: usize = 4096;

/// Content of an item.
#[derive(Clone, Debug)]
enum Item {
    Made(Vec<u8>),
    /// Part of the pack.
    File(&'static [u8]),
}

impl Item {
    fn bytes(&self) -> &[u8] {
        match self {
            Item::Made(bytes) => bytes,
            Item::File(bytes) => bytes,
        }
    }
}

/// The file that L1 reads the document of MRCONFIGID from (`docs/init-data.md`).
const INIT_DATA: &str = "opt/org.tdp-vtpm/initdata";

/// The device.
#[derive(Debug)]
pub(crate) struct FwCfg {
    items: BTreeMap<u16, Item>,
    selected: u16,
    offset: usize,
    dma_high: u32,
    /// An item that changes, and by how much its last byte has.
    changes: Option<(u16, u8)>,
}

impl FwCfg {
    /// The device with the pack's kernel, initrd and command line; none if a fault says so.
    pub(crate) fn new(pack: &Pack, options: &Options) -> Option<Self> {
        if options.faults.contains(&Fault::NoFwCfg) {
            return None;
        }
        let texts = options.fw_cfg_files.iter();
        let mut files: Vec<(&str, &[u8])> = texts
            .map(|(name, text)| (name.as_str(), text.as_bytes()))
            .collect();
        let init_data = pack.file("initdata");
        files.extend(init_data.map(|file| (INIT_DATA, file.bytes)));
        let mut items = BTreeMap::from([
            (key::SIGNATURE, Item::File(b"QEMU")),
            (key::ID, number(ID_TRADITIONAL_AND_DMA)),
            (key::FILE_DIRECTORY, directory(&files)),
        ]);
        if let Some(kernel) = pack.file("kernel") {
            let setup_size = setup_size(kernel.bytes);
            let (setup, rest) = kernel.bytes.split_at(setup_size);
            items.insert(key::SETUP_SIZE, size(setup));
            items.insert(key::SETUP_DATA, Item::File(setup));
            items.insert(key::KERNEL_SIZE, size(rest));
            items.insert(key::KERNEL_DATA, Item::File(rest));
        }
        if let Some(initrd) = pack.file("initrd") {
            items.insert(key::INITRD_SIZE, size(initrd.bytes));
            items.insert(key::INITRD_DATA, Item::File(initrd.bytes));
        }
        let mut command_line = pack
            .file("cmdline")
            .map_or(Vec::new(), |file| file.bytes.to_vec());
        command_line.push(0);
        items.insert(key::CMDLINE_SIZE, size(&command_line));
        items.insert(key::CMDLINE_DATA, Item::Made(command_line));
        for (key, (_, content)) in (key::FIRST_FILE..).zip(files) {
            items.insert(key, Item::Made(content.to_vec()));
        }
        for fault in &options.faults {
            if let Fault::FwCfgSize { item, value } = fault {
                items.insert(*item, number(*value));
            }
        }
        Some(Self {
            items,
            selected: 0,
            offset: 0,
            dma_high: 0,
            changes: options.faults.iter().find_map(|fault| match fault {
                Fault::FwCfgChanges { item } => Some((*item, u8::MAX)),
                _ => None,
            }),
        })
    }

    /// A port read.
    pub(crate) fn read(&mut self, port: u16, width: Width) -> Option<u32> {
        match (port, width) {
            (port::DATA, Width::Byte) => {
                let mut byte = [0];
                self.take(&mut byte);
                Some(byte[0].into())
            }
            // The register is big-endian.
            (port::DMA_HIGH, Width::Dword) => signature_half(0),
            (port::DMA_LOW, Width::Dword) => signature_half(4),
            _ => None,
        }
    }

    /// A port write. Answers whether the port is the device's.
    pub(crate) fn write(
        &mut self,
        port: u16,
        width: Width,
        value: u32,
        td_memory: &TdMemory,
        shared_bit: u64,
    ) -> bool {
        match (port, width) {
            (port::SELECTOR, Width::Word) => self.select(value as u16),
            (port::DMA_HIGH, Width::Dword) => self.dma_high = value.swap_bytes(),
            (port::DMA_LOW, Width::Dword) => {
                let address = u64::from(self.dma_high) << 32 | u64::from(value.swap_bytes());
                self.dma_high = 0;
                self.dma(address & !shared_bit, td_memory, shared_bit);
            }
            _ => return false,
        }
        true
    }

    fn select(&mut self, item: u16) {
        self.selected = item;
        self.offset = 0;
    }

    /// Takes the next bytes of the selected item; zeros behind its end.
    fn take(&mut self, into: &mut [u8]) {
        let bytes = self.items.get(&self.selected).map_or(&[][..], Item::bytes);
        let rest = bytes.get(self.offset..).unwrap_or(&[]);
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        into[length..].fill(0);
        if let Some((item, by)) = self.changes
            && item == self.selected
            && (1..=into.len()).contains(&rest.len())
        {
            into[rest.len() - 1] = into[rest.len() - 1].wrapping_add(by);
        }
        self.offset = self.offset.saturating_add(into.len());
    }

    /// One DMA transfer, described by an FWCfgDmaAccess in shared memory.
    fn dma(&mut self, access: u64, td_memory: &TdMemory, shared_bit: u64) {
        let mut fields = [0; 16];
        let Some(structure) = shared(td_memory, access, fields.len()) else {
            say!("fw_cfg: the DMA structure at {access:#x} is not in shared memory");
            return;
        };
        memory::read(structure, &mut fields);
        let [c0, c1, c2, c3, l0, l1, l2, l3, a @ ..] = fields;
        let mut request = u32::from_be_bytes([c0, c1, c2, c3]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let address = u64::from_be_bytes(a) & !shared_bit;
        if request & control::SELECT != 0 {
            self.select((request >> 16) as u16);
            if let Some((_, by)) = self
                .changes
                .as_mut()
                .filter(|(item, _)| *item == self.selected)
            {
                *by = by.wrapping_add(1);
            }
        }
        request = if request & control::READ != 0 {
            match self.dma_read(address, length, td_memory) {
                Ok(()) => 0,
                Err(()) => control::ERROR,
            }
        } else if request & control::WRITE != 0 {
            // No item here can be written.
            control::ERROR
        } else {
            if request & control::SKIP != 0 {
                self.offset = self.offset.saturating_add(length);
            }
            0
        };
        memory::write(structure, &request.to_be_bytes());
    }

    fn dma_read(&mut self, address: u64, length: usize, td_memory: &TdMemory) -> Result<(), ()> {
        let mut block = [0; BLOCK];
        let mut done = 0;
        while done < length {
            let at = address + done as u64;
            let step = (BLOCK - (at as usize % BLOCK)).min(length - done);
            let Some(target) = shared(td_memory, at, step) else {
                say!("fw_cfg: DMA to {at:#x}, which is not shared memory");
                return Err(());
            };
            self.take(&mut block[..step]);
            memory::write(target, &block[..step]);
            done += step;
        }
        Ok(())
    }
}

/// The machine address of a range that is shared and in one page.
fn shared(td_memory: &TdMemory, gpa: u64, length: usize) -> Option<u64> {
    let (hpa, rest) = td_memory.shared(gpa)?;
    (length as u64 <= rest).then_some(hpa)
}

/// FWCfgFiles: a count, and for each file its size, key and name. Integers are big-endian.
fn directory(files: &[(&str, &[u8])]) -> Item {
    const NAME_SIZE: usize = 56;
    let mut directory = (files.len() as u32).to_be_bytes().to_vec();
    for (key, (name, content)) in (key::FIRST_FILE..).zip(files) {
        directory.extend_from_slice(&(content.len() as u32).to_be_bytes());
        directory.extend_from_slice(&key.to_be_bytes());
        directory.extend_from_slice(&[0; 2]);
        let mut padded = [0; NAME_SIZE];
        for (to, from) in padded[..NAME_SIZE - 1].iter_mut().zip(name.bytes()) {
            *to = from;
        }
        directory.extend_from_slice(&padded);
    }
    Item::Made(directory)
}

fn number(value: u32) -> Item {
    Item::Made(value.to_le_bytes().to_vec())
}

fn size(bytes: &[u8]) -> Item {
    number(bytes.len() as u32)
}

fn signature_half(at: usize) -> Option<u32> {
    let half = DMA_SIGNATURE.get(at..at + 4)?;
    Some(u32::from_le_bytes(half.try_into().ok()?))
}

/// Bytes of a kernel file before its protected-mode part, as QEMU counts them (Linux:
/// Documentation/arch/x86/boot.rst, "setup_sects").
///
/// A host serves a file without the header as well: what it is, is for L1 to find out.
fn setup_size(kernel: &[u8]) -> usize {
    const SETUP_SECTS: usize = 0x1F1;
    const SECTOR: usize = 512;
    let sectors = match kernel.get(SETUP_SECTS) {
        None | Some(0) => 4,
        Some(&sectors) => usize::from(sectors),
    };
    ((sectors + 1) * SECTOR).min(kernel.len())
}
