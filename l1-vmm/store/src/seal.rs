//! A state as a slot, and a slot as a state or as what is wrong with it.
//!
//! The AEAD is AES-256-GCM-SIV (RFC 8452) over all records at once. A nonce that comes twice (a host that stops
//! the machine in a commit, random numbers that repeat after a restore) tells the host that two states are equal
//! if they are, and nothing else; with AES-GCM it would give away the key of the authentication. It does not bind
//! a ciphertext to one key: the keyed digest of the records in the header does.

use aes_gcm_siv::AeadInOut;
use alloc::vec::Vec;
use zerocopy::IntoBytes;
use zeroize::Zeroizing;

use crate::device::{self, Device, DeviceError};
use crate::key::{Keys, MachineId, Ring};
use crate::layout::{
    CommitRecord, Fault, SECTOR, Sha, Slot, SlotHeader, SlotSector, VERSION, magic, sha384,
};
use crate::ledger::Point;

/// The AEAD's nonce: 96 random bits for each commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce(pub [u8; 12]);

/// Whose state is sealed, by whom, and as which commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seal {
    pub(crate) machine: MachineId,
    pub(crate) epoch: u64,
    pub(crate) counter: u64,
    pub(crate) nv_size: u32,
    pub(crate) nonce: Nonce,
}

/// What is wrong with a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlotFault {
    /// It was never written.
    #[error("it was never written")]
    Blank,
    /// It does not begin as a slot.
    #[error("it does not begin as a slot")]
    NotASlot,
    /// Another version of the format.
    #[error("its format has version {0}")]
    Version(u16),
    /// Its digest is not that of its bytes, a length is impossible, or a byte is not zero that must be.
    #[error("its bytes are not what its digest says")]
    Damaged,
    /// It is whole, and was written into the other slot.
    #[error("it belongs into the other slot")]
    Misplaced,
    /// It is whole, and of another commit than the one that counts.
    #[error("it is of another commit than the one that counts")]
    OtherCommit,
    /// It is whole, and another machine's.
    #[error("it is another machine's")]
    OtherMachine(MachineId),
    /// It is whole, and was sealed with another key.
    #[error("it was sealed with another key")]
    OtherKey,
    /// It is whole, and was not sealed with our key: someone made it.
    #[error("it was not sealed by who has the key")]
    Forged,
}

impl From<Fault> for SlotFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Blank => Self::Blank,
            Fault::Magic => Self::NotASlot,
            Fault::Version(version) => Self::Version(version),
            Fault::Damaged => Self::Damaged,
        }
    }
}

/// A slot whose bytes are what its digest says. Not yet what the AEAD passed.
#[derive(Debug)]
pub(crate) struct Whole {
    first: SlotSector,
    ciphertext: Vec<u8>,
}

/// A slot that the key's owner sealed for this machine.
pub(crate) struct Sealed {
    pub(crate) point: Point,
    pub(crate) nv_size: u32,
    pub(crate) state_digest: Sha,
    /// Whether the key of now sealed it.
    pub(crate) current: bool,
    pub(crate) records: Zeroizing<Vec<u8>>,
}

impl Whole {
    /// What a ledger knows this slot by, if it is what its header says.
    pub(crate) fn point(&self) -> Point {
        Point {
            epoch: self.first.header.epoch.get(),
            counter: self.first.header.counter.get(),
            digest: self.first.digest,
        }
    }

    pub(crate) fn header(&self) -> &SlotHeader {
        &self.first.header
    }

    /// The state in it, if its header names this machine and this key, and who has the key sealed it under this
    /// header.
    pub(crate) fn open(self, machine: MachineId, ring: &Ring) -> Result<Sealed, SlotFault> {
        let point = self.point();
        let header = &self.first.header;
        if header.machine != machine.0 {
            return Err(SlotFault::OtherMachine(MachineId(header.machine)));
        }
        let keys = ring.named(&header.key_id).ok_or(SlotFault::OtherKey)?;
        let mut records = Zeroizing::new(self.ciphertext);
        keys.slot
            .decrypt_inout_detached(
                &header.nonce.into(),
                header.as_bytes(),
                records.as_mut_slice().into(),
                &self.first.tag.into(),
            )
            .map_err(|_| SlotFault::Forged)?;
        if !keys.digest_holds(&records, &header.state_digest) {
            return Err(SlotFault::Forged);
        }
        Ok(Sealed {
            point,
            nv_size: header.nv_size.get(),
            state_digest: header.state_digest,
            current: header.key_id == ring.current().key_id,
            records,
        })
    }
}

/// Reads a slot once, into memory of our own, and looks at everything that needs no key: whether its bytes are
/// what its digest says, and whether it is in its place.
pub(crate) fn read<D: Device>(
    device: &mut D,
    slot: Slot,
) -> Result<Result<Whole, SlotFault>, DeviceError> {
    let sector = device::sector(device, slot.sector())?;
    let first = match SlotSector::parse(&sector) {
        Ok(first) => first,
        Err(fault) => return Ok(Err(fault.into())),
    };
    let Some(length) = first.length() else {
        return Ok(Err(SlotFault::Damaged));
    };
    let mut ciphertext = alloc::vec![0; length.next_multiple_of(SECTOR)];
    device::read(device, slot.sector() + 1, &mut ciphertext)?;
    let padding = ciphertext.split_off(length);
    if padding.iter().any(|byte| *byte != 0) || !first.holds(&ciphertext) {
        return Ok(Err(SlotFault::Damaged));
    }
    if first.header.slot.get() != slot.index() || Slot::of(first.header.counter.get()) != slot {
        return Ok(Err(SlotFault::Misplaced));
    }
    Ok(Ok(Whole { first, ciphertext }))
}

/// The bytes of a slot, whole sectors, and what the ledger knows it by. `None` if the records have no room.
pub(crate) fn seal(
    ring: &Ring,
    seal: &Seal,
    mut records: Zeroizing<Vec<u8>>,
) -> Option<(Vec<u8>, Point)> {
    let keys = ring.current();
    let mut first = SlotSector {
        header: SlotHeader {
            magic: magic::SLOT,
            version: VERSION.into(),
            slot: Slot::of(seal.counter).index().into(),
            reserved: [0; 4],
            machine: seal.machine.0,
            epoch: seal.epoch.into(),
            counter: seal.counter.into(),
            length: u32::try_from(records.len()).ok()?.into(),
            nv_size: seal.nv_size.into(),
            nonce: seal.nonce.0,
            reserved_2: [0; 12],
            state_digest: keys.state_digest(&records),
            key_id: keys.key_id,
            tcb: ring.tcb,
            rest: [0; 0x40],
        },
        tag: [0; 16],
        digest: [0; 48],
        rest: [0; 0xC0],
    };
    first.length()?;
    let tag = keys.slot.encrypt_inout_detached(
        &seal.nonce.0.into(),
        first.header.as_bytes(),
        records.as_mut_slice().into(),
    );
    first.tag = tag.ok()?.into();
    first.digest = first.computed(&records);
    let mut bytes = Vec::with_capacity(SECTOR + records.len().next_multiple_of(SECTOR));
    bytes.extend(first.as_bytes());
    bytes.extend(records.as_slice());
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    let point = Point {
        epoch: seal.epoch,
        counter: seal.counter,
        digest: first.digest,
    };
    Some((bytes, point))
}

/// The commit record of a slot.
pub(crate) fn commit_record(keys: &Keys, machine: MachineId, point: Point) -> CommitRecord {
    let mut record = CommitRecord {
        magic: magic::COMMIT,
        version: VERSION.into(),
        slot: Slot::of(point.counter).index().into(),
        reserved: [0; 4],
        machine: machine.0,
        epoch: point.epoch.into(),
        counter: point.counter.into(),
        slot_digest: point.digest,
        digest: [0; 48],
        mac: [0; 48],
        rest: [0; 0x130],
    };
    record.digest = sha384(&[record.covered()]);
    record.mac = keys.commit_mac(record.covered());
    record
}

/// The commit that the record in the sector of `slot` tells of, if we wrote it.
pub(crate) fn committed(
    ring: &Ring,
    machine: MachineId,
    slot: Slot,
    sector: &[u8; SECTOR],
) -> Result<Point, Fault> {
    let record = CommitRecord::parse(sector, slot)?;
    let mut keys = ring.all();
    let ours = record.machine == machine.0
        && keys.any(|keys| keys.commit_holds(record.covered(), &record.mac));
    ours.then_some(Point {
        epoch: record.epoch.get(),
        counter: record.counter.get(),
        digest: record.slot_digest,
    })
    .ok_or(Fault::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyRing, StateKey};

    const MACHINE: MachineId = MachineId([3; 32]);

    /// The bytes of a slot as it is read.
    fn whole(bytes: &[u8], length: usize) -> Whole {
        let (first, rest) = bytes.split_first_chunk().unwrap();
        Whole {
            first: SlotSector::parse(first).unwrap(),
            ciphertext: rest[..length].to_vec(),
        }
    }

    fn ring(byte: u8) -> Ring {
        Ring::new(&KeyRing::from(StateKey::take(&mut [byte; 32])), MACHINE)
    }

    /// AES-GCM-SIV does not commit to a key: a slot can be made that two keys open. The keyed digest is of one key.
    #[test]
    fn a_slot_that_the_aead_passes_and_the_digest_does_not_is_forged() {
        let seal = Seal {
            machine: MACHINE,
            epoch: 1,
            counter: 1,
            nv_size: 0,
            nonce: Nonce([0; 12]),
        };
        let ours = ring(1);
        let mut both = ring(2);
        both.current_mut().slot = ring(1).current_mut().slot.clone();
        both.current_mut().key_id = ours.current().key_id;
        for (sealer, expected) in [(&ours, Ok(())), (&both, Err(SlotFault::Forged))] {
            let records = Zeroizing::new(alloc::vec![7; 40]);
            let (bytes, point) = super::seal(sealer, &seal, records).unwrap();
            let opened = whole(&bytes, 40).open(MACHINE, &ours);
            assert_eq!(
                opened.map(|sealed| assert_eq!(sealed.point, point)),
                expected
            );
        }
    }
}
