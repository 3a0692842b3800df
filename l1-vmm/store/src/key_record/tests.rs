//! What is written where, and where nothing is.

use super::*;
use crate::layout::{SECTOR, SECTORS_MIN};
use alloc::vec;
use alloc::vec::Vec;

const MACHINE: MachineId = MachineId([1; 32]);

struct Memory(Vec<u8>);

impl Memory {
    fn blank() -> Self {
        Self(vec![0; SECTORS_MIN as usize * SECTOR])
    }
}

impl Device for Memory {
    fn sectors(&self) -> u64 {
        (self.0.len() / SECTOR) as u64
    }
    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        let at = sector as usize * SECTOR;
        into.copy_from_slice(&self.0[at..at + into.len()]);
        Ok(())
    }
    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), DeviceError> {
        let at = sector as usize * SECTOR;
        self.0[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }
    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

fn labelled(machine: [u8; 32]) -> Memory {
    let mut disk = Memory::blank();
    let label = Label::new(machine, [2; 16]);
    disk.0[..SECTOR].copy_from_slice(label.as_bytes());
    disk
}

fn record() -> KeyRecord {
    KeyRecord::new([0xC0; 16], [0xE0; 16])
}

#[test]
fn what_was_written_is_read_and_the_disk_is_blank_still() {
    let mut disk = Memory::blank();
    assert_eq!(read(&mut disk, MACHINE), Ok(None));
    write(&mut disk, MACHINE, &record()).unwrap();
    assert_eq!(read(&mut disk, MACHINE), Ok(None), "there is no state yet");
    let mut with_state = labelled(MACHINE.0);
    with_state.0[SECTOR..2 * SECTOR].copy_from_slice(&disk.0[SECTOR..2 * SECTOR]);
    let found = read(&mut with_state, MACHINE).unwrap().unwrap();
    assert_eq!((found.cpusvn, found.tee_tcb_svn), ([0xC0; 16], [0xE0; 16]));
    assert_eq!(read(&mut with_state, MachineId([2; 32])), Ok(None));
    // The layout, byte by byte.
    let sector = &disk.0[SECTOR..2 * SECTOR];
    assert_eq!(sector[..16], *b"TDPVTPMK\x01\0\0\0\0\0\0\0");
    assert_eq!(sector[16..32], [0xC0; 16]);
    assert_eq!(sector[32..48], [0xE0; 16]);
    assert_eq!(sector[48..96], crate::layout::sha384(&[&sector[..48]]));
    assert_eq!(sector[96..], [0; 416]);
    assert!(is_blank(&mut disk).unwrap());
}

#[test]
fn every_changed_bit_makes_it_none() {
    let mut disk = labelled(MACHINE.0);
    write(&mut disk, MACHINE, &record()).unwrap();
    for bit in 0..8 * SECTOR {
        disk.0[SECTOR + bit / 8] ^= 1 << (bit % 8);
        assert_eq!(read(&mut disk, MACHINE), Ok(None), "bit {bit}");
        disk.0[SECTOR + bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn nothing_is_written_to_a_disk_of_somebody_elses() {
    let mut ours = labelled(MACHINE.0);
    assert_eq!(write(&mut ours, MACHINE, &record()), Ok(()));
    let mut others = labelled([9; 32]);
    let found = MachineId([9; 32]);
    let refused = write(&mut others, MACHINE, &record());
    assert_eq!(refused, Err(OpenError::OtherMachine { found }));
    for at in [0, SECTOR, 3 * SECTOR, SECTORS_MIN as usize * SECTOR - 1] {
        let mut used = Memory::blank();
        used.0[at] = 1;
        let refused = write(&mut used, MACHINE, &record());
        assert_eq!(refused, Err(OpenError::NotAStateDisk), "byte {at}");
        assert_eq!(used.0.iter().filter(|byte| **byte != 0).count(), 1);
    }
    let mut small = Memory(vec![0; SECTOR]);
    let refused = write(&mut small, MACHINE, &record());
    assert_eq!(refused, Err(OpenError::TooSmall { sectors: 1 }));
}
