//! A fw_cfg device as the host serves it, and what L1 makes of it.

use super::*;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use tdx_defs::Registers;

/// How the host misbehaves.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum Fault {
    #[default]
    None,
    NoDma,
    DmaError,
    NeverDone,
    NoPorts,
}

/// The host's fw_cfg device and the memory it shares with L1.
pub(crate) struct Host {
    items: BTreeMap<u16, Vec<u8>>,
    shared: RefCell<Vec<u8>>,
    selected: Cell<u16>,
    offset: Cell<usize>,
    request: Cell<u64>,
    pub(crate) transfers: Cell<usize>,
    fault: Fault,
}

pub(crate) const BUFFER: u64 = 0x3A00_0000;

impl Host {
    pub(crate) fn new(buffer: usize, fault: Fault) -> Self {
        let features = if fault == Fault::NoDma { 1u32 } else { 3 };
        let items = BTreeMap::from([
            (Item::Signature.key(), b"QEMU".to_vec()),
            (Item::Id.key(), features.to_le_bytes().to_vec()),
        ]);
        Self {
            items,
            shared: RefCell::new(vec![0; buffer]),
            selected: Cell::new(0),
            offset: Cell::new(0),
            request: Cell::new(0),
            transfers: Cell::new(0),
            fault,
        }
    }

    pub(crate) fn set(&mut self, item: Item, bytes: &[u8]) {
        self.items.insert(item.key(), bytes.to_vec());
    }

    /// Makes a named file the only one.
    /// Files by name, selector and content.
    pub(crate) fn set_files(&mut self, files: &[(&str, u16, &[u8])]) {
        let mut directory = (files.len() as u32).to_be_bytes().to_vec();
        for (name, key, bytes) in files {
            let mut entry = [0; 64];
            entry[..4].copy_from_slice(&(bytes.len() as u32).to_be_bytes());
            entry[4..6].copy_from_slice(&key.to_be_bytes());
            entry[8..8 + name.len()].copy_from_slice(name.as_bytes());
            directory.extend(entry);
            self.set(Item::File(*key), bytes);
        }
        self.set(Item::FileDirectory, &directory);
    }

    pub(crate) fn set_size(&mut self, item: Item, size: u32) {
        self.set(item, &size.to_le_bytes());
    }

    fn next(&self, length: usize) -> Vec<u8> {
        let item = self.items.get(&self.selected.get());
        let from = self.offset.replace(self.offset.get() + length);
        let rest = item.and_then(|item| item.get(from..)).unwrap_or(&[]);
        let mut bytes = rest[..rest.len().min(length)].to_vec();
        bytes.resize(length, 0);
        bytes
    }

    fn select(&self, key: u16) {
        self.selected.set(key);
        self.offset.set(0);
    }

    fn transfer(&self) {
        assert_eq!(self.request.get(), BUFFER);
        let mut shared = self.shared.borrow_mut();
        let word = |at: usize| u32::from_be_bytes(shared[at..at + 4].try_into().unwrap());
        let (control, length) = (word(0), word(4) as usize);
        let address = u64::from(word(8)) << 32 | u64::from(word(12));
        assert_eq!(control & 0xFFFF & !8, 2, "a read, selecting or not");
        if control & 8 != 0 {
            self.select((control >> 16) as u16);
        }
        let at = (address - BUFFER) as usize;
        shared[at..at + length].copy_from_slice(&self.next(length));
        let done = match self.fault {
            Fault::DmaError => 1u32,
            Fault::NeverDone => control,
            _ => 0,
        };
        shared[..4].copy_from_slice(&done.to_be_bytes());
        self.transfers.set(self.transfers.get() + 1);
    }
}

impl RawTdcall for Host {
    fn tdcall(&self, registers: &mut Registers) {
        assert_eq!((registers.rax, registers.r11), (0, 30), "port I/O only");
        if self.fault == Fault::NoPorts {
            registers.r10 = 0x8000_0000_0000_0000;
            return;
        }
        let value = registers.r15;
        let swapped = u64::from((value as u32).swap_bytes());
        registers.r10 = 0;
        registers.r11 = 0;
        match (registers.r13, registers.r14, registers.r12) {
            (1, 0x510, 2) => self.select(value as u16),
            (0, 0x511, 1) => registers.r11 = u64::from(self.next(1)[0]),
            (1, 0x514, 4) => self.request.set(swapped << 32),
            (1, 0x518, 4) => {
                self.request.set(self.request.get() | swapped);
                self.transfer();
            }
            other => panic!("{other:x?}"),
        }
    }
}

impl SharedBuffer for Host {
    fn gpa(&self) -> u64 {
        BUFFER
    }
    fn length(&self) -> usize {
        self.shared.borrow().len()
    }
    fn read(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.shared.borrow()[offset..offset + into.len()]);
    }
    fn write(&self, offset: usize, from: &[u8]) {
        self.shared.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
    }
}

fn read_all(host: &Host, item: Item, length: u64) -> Result<Vec<u8>, FwCfgError> {
    let td = Td::new(host);
    let device = FwCfg::open(&td, host)?;
    let mut all = Vec::new();
    device.read(item, length, |piece| {
        all.extend_from_slice(piece);
        Ok::<(), FwCfgError>(())
    })?;
    Ok(all)
}

#[test]
fn an_item_arrives_whole_whatever_the_buffer() {
    let file: Vec<u8> = (0..10_000u32).map(|at| (at * 7) as u8).collect();
    for (buffer, transfers) in [
        (64 + 1000, 10),
        (64 + 10_000, 1),
        (64 + 3333, 4),
        (0x1_0000, 1),
    ] {
        let mut host = Host::new(buffer, Fault::None);
        host.set(Item::InitrdData, &file);
        assert_eq!(read_all(&host, Item::InitrdData, 10_000).unwrap(), file);
        assert_eq!(host.transfers.get(), transfers);
    }
}

#[test]
fn no_more_of_the_heap_is_taken_than_a_transfer_where_the_buffer_is_large() {
    let file = vec![0x5A; 0x24_0000];
    let mut host = Host::new(0x100_0000, Fault::None);
    host.set(Item::InitrdData, &file);
    let td = Td::new(&host);
    let device = FwCfg::open(&td, &host).unwrap();
    let mut pieces = Vec::new();
    let read = device.read(Item::InitrdData, 0x24_0000, |piece| {
        pieces.push(piece.len());
        Ok::<(), FwCfgError>(())
    });
    assert_eq!(read, Ok(()));
    assert_eq!(pieces, [0x10_0000, 0x10_0000, 0x4_0000]);
}

#[test]
fn a_size_is_four_little_endian_bytes() {
    let mut host = Host::new(4096, Fault::None);
    host.set_size(Item::KernelSize, 0x8070_6050);
    let td = Td::new(&host);
    let device = FwCfg::open(&td, &host).unwrap();
    assert_eq!(device.size(Item::KernelSize), Ok(0x8070_6050));
    assert_eq!(device.size(Item::InitrdSize), Ok(0));
}

#[test]
fn a_host_that_does_not_play_is_named() {
    for (fault, said) in [
        (
            Fault::NoDma,
            "the host's fw_cfg device has no DMA interface",
        ),
        (
            Fault::DmaError,
            "fw_cfg item InitrdData: the host's device reports a DMA error",
        ),
        (
            Fault::NeverDone,
            "fw_cfg item InitrdData: the host's device does not finish the transfer",
        ),
    ] {
        let error = read_all(&Host::new(4096, fault), Item::InitrdData, 10).unwrap_err();
        assert_eq!(error.to_string(), said);
    }
    let error = read_all(&Host::new(4096, Fault::NoPorts), Item::InitrdData, 10).unwrap_err();
    assert_eq!(error, FwCfgError::Port(VmcallError::InvalidOperand));
    let error = read_all(&Host::new(64, Fault::None), Item::InitrdData, 10).unwrap_err();
    assert_eq!(error, FwCfgError::BufferTooSmall);
    let mut host = Host::new(4096, Fault::None);
    host.set(Item::Signature, &[0xFF; 4]);
    let error = read_all(&host, Item::InitrdData, 10).unwrap_err();
    assert_eq!(error, FwCfgError::NoDevice([0xFF; 4]));
}
