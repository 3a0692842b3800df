//! The bytes on the disk. Numbers are little-endian; what has no name is zero, and is checked to be.
//!
//! | offset | what |
//! | --- | --- |
//! | 0 | [`Label`], written once |
//! | 0x200 | [`KeyRecord`], which version 1 wrote where the hardware has a part in the key |
//! | 0x1000, 0x2000 | [`CommitRecord`] of slot 0 and of slot 1 |
//! | 0x10_0000, 0x20_0000 | slot 0 and slot 1: a [`SlotSector`], then the ciphertext, zero up to a whole sector |
//!
//! A commit of counter *n* uses slot *n* mod 2 and its commit record.

use sha2::{Digest, Sha384};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a sector, the unit of a device's reads and writes.
pub const SECTOR: usize = 512;
/// The version of the format that this code writes. It reads each from [`FIRST_VERSION`] on.
pub const VERSION: u16 = 2;
/// The first version that there was.
pub const FIRST_VERSION: u16 = 1;
/// Sectors that a device must have at least: 3 MiB.
pub const SECTORS_MIN: u64 = SLOT_SECTOR + 2 * SLOT_STRIDE;
/// Where the label is, in sectors.
pub const LABEL_SECTOR: u64 = 0;
/// Where the key's record is, in sectors.
pub const KEY_SECTOR: u64 = 1;
/// Where the commit record of slot 0 is, in sectors.
pub const COMMIT_SECTOR: u64 = 8;
/// From one commit record to the other, in sectors: 4 KiB, so that no physical sector has both.
pub const COMMIT_STRIDE: u64 = 8;
/// Where slot 0 is, in sectors.
pub const SLOT_SECTOR: u64 = 2048;
/// From one slot to the other, and the room of one, in sectors: 1 MiB.
pub const SLOT_STRIDE: u64 = 2048;
/// The longest ciphertext, in bytes: a slot without its first sector.
pub const CIPHERTEXT_MAX: usize = (SLOT_STRIDE as usize - 1) * SECTOR;

/// The first bytes of each structure.
pub mod magic {
    /// Of the label.
    pub const LABEL: [u8; 8] = *b"TDPVTPML";
    /// Of the key's record.
    pub const KEY: [u8; 8] = *b"TDPVTPMK";
    /// Of a commit record.
    pub const COMMIT: [u8; 8] = *b"TDPVTPMC";
    /// Of a slot.
    pub const SLOT: [u8; 8] = *b"TDPVTPMS";
}

/// A SHA-384.
pub type Sha = [u8; 48];

/// One of the two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// That of even counters.
    Even,
    /// That of odd counters.
    Odd,
}

impl Slot {
    /// Both, in the disk's order.
    pub const BOTH: [Self; 2] = [Self::Even, Self::Odd];

    /// The slot that a commit of this counter uses.
    pub fn of(counter: u64) -> Self {
        if counter.is_multiple_of(2) {
            Self::Even
        } else {
            Self::Odd
        }
    }

    /// The slot's number in the structures.
    pub fn index(self) -> u16 {
        match self {
            Self::Even => 0,
            Self::Odd => 1,
        }
    }

    /// Of two things, in the disk's order, the one of this slot.
    pub fn of_both<T>(self, [even, odd]: [T; 2]) -> T {
        match self {
            Self::Even => even,
            Self::Odd => odd,
        }
    }

    /// Its first sector.
    pub fn sector(self) -> u64 {
        SLOT_SECTOR + u64::from(self.index()) * SLOT_STRIDE
    }

    /// The sector of its commit record.
    pub fn commit_sector(self) -> u64 {
        COMMIT_SECTOR + u64::from(self.index()) * COMMIT_STRIDE
    }
}

/// The label: whose disk this is. Written before anything else, and never again.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Label {
    /// 0x000: [`magic::LABEL`].
    pub magic: [u8; 8],
    /// 0x008: [`VERSION`].
    pub version: U16,
    /// 0x00A: zero.
    pub reserved: [u8; 6],
    /// 0x010: whose state it is.
    pub machine: [u8; 32],
    /// 0x030: which key, without telling anything of it.
    pub key_id: [u8; 16],
    /// 0x040: SHA-384 of the bytes before.
    pub digest: Sha,
    /// 0x070: zero.
    pub rest: [u8; 0x190],
}

/// A commit record: this slot counts.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CommitRecord {
    /// 0x000: [`magic::COMMIT`].
    pub magic: [u8; 8],
    /// 0x008: [`VERSION`].
    pub version: U16,
    /// 0x00A: the slot's number, 0 or 1.
    pub slot: U16,
    /// 0x00C: zero.
    pub reserved: [u8; 4],
    /// 0x010: whose state it is.
    pub machine: [u8; 32],
    /// 0x030: the epoch that wrote the slot.
    pub epoch: U64,
    /// 0x038: the commit's counter.
    pub counter: U64,
    /// 0x040: the slot's digest ([`SlotSector::digest`]).
    pub slot_digest: Sha,
    /// 0x070: SHA-384 of the bytes before.
    pub digest: Sha,
    /// 0x0A0: HMAC-SHA-384 of bytes 0 to 0x70, with the key of commit records.
    pub mac: Sha,
    /// 0x0D0: zero.
    pub rest: [u8; 0x130],
}

/// Of which TCB the hardware's half of the key is, of slots of version 1 ([`key_record`](crate::key_record)). There is no
/// other version of this record.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct KeyRecord {
    /// 0x000: [`magic::KEY`].
    pub magic: [u8; 8],
    /// 0x008: [`FIRST_VERSION`].
    pub version: U16,
    /// 0x00A: zero.
    pub reserved: [u8; 6],
    /// 0x010: CPUSVN of the processor.
    pub cpusvn: [u8; 16],
    /// 0x020: TEE_TCB_SVN of the TDX module.
    pub tee_tcb_svn: [u8; 16],
    /// 0x030: SHA-384 of the bytes before.
    pub digest: Sha,
    /// 0x060: zero.
    pub rest: [u8; 0x1A0],
}

/// The TCB that a sealing key is of.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Tcb {
    /// CPUSVN of the processor.
    pub cpusvn: [u8; 16],
    /// TEE_TCB_SVN of the TDX module; never zero.
    pub tee_tcb_svn: [u8; 16],
}

impl Tcb {
    /// Of a key that the hardware has no part in.
    pub const NONE: Self = Self {
        cpusvn: [0; 16],
        tee_tcb_svn: [0; 16],
    };
}

/// What is associated data of a slot's AEAD.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SlotHeader {
    /// 0x000: [`magic::SLOT`].
    pub magic: [u8; 8],
    /// 0x008: [`VERSION`].
    pub version: U16,
    /// 0x00A: the slot's number, 0 or 1.
    pub slot: U16,
    /// 0x00C: zero.
    pub reserved: [u8; 4],
    /// 0x010: whose state it is.
    pub machine: [u8; 32],
    /// 0x030: the epoch that wrote it.
    pub epoch: U64,
    /// 0x038: the commit's counter, from 1.
    pub counter: U64,
    /// 0x040: bytes of ciphertext, as many as of records.
    pub length: U32,
    /// 0x044: bytes of NV memory of the engine whose state it is.
    pub nv_size: U32,
    /// 0x048: the AEAD's nonce.
    pub nonce: [u8; 12],
    /// 0x054: zero.
    pub reserved_2: [u8; 12],
    /// 0x060: HMAC-SHA-384 of the records, with the key of state digests.
    pub state_digest: Sha,
    /// 0x090: which key, without telling anything of it.
    pub key_id: [u8; 16],
    /// 0x0A0: of which TCB the hardware's half of the key is; zero where the hardware has no part, and in version 1.
    pub tcb: Tcb,
    /// 0x0C0: zero.
    pub rest: [u8; 0x40],
}

/// A slot's first sector.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SlotSector {
    /// 0x000: the AEAD's associated data.
    pub header: SlotHeader,
    /// 0x100: the AEAD's tag.
    pub tag: [u8; 16],
    /// 0x110: SHA-384 of header, tag and ciphertext: what the ledger and the commit record know a slot by.
    pub digest: Sha,
    /// 0x140: zero.
    pub rest: [u8; 0xC0],
}

/// What is wrong with a structure, told by its own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// All of it is zero: never written.
    Blank,
    /// It does not begin with its magic.
    Magic,
    /// A version that is not ours.
    Version(u16),
    /// A digest, a length, or a byte that must be zero.
    Damaged,
}

/// Magic and version of a sector, checked before anything that a version could lay out otherwise.
pub fn preamble(sector: &[u8; SECTOR], magic: [u8; 8]) -> Result<(), Fault> {
    if *sector == [0; SECTOR] {
        return Err(Fault::Blank);
    }
    let (found, rest) = sector.split_first_chunk::<8>().ok_or(Fault::Magic)?;
    if *found != magic {
        return Err(Fault::Magic);
    }
    let version = rest.first_chunk().map_or(0, |two| u16::from_le_bytes(*two));
    if !(FIRST_VERSION..=VERSION).contains(&version) {
        return Err(Fault::Version(version));
    }
    Ok(())
}

/// The SHA-384 of parts, one after the other.
pub fn sha384(parts: &[&[u8]]) -> Sha {
    let mut hash = Sha384::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// Whether every byte is zero.
fn zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

impl Label {
    /// The label of this machine and key.
    pub fn new(machine: [u8; 32], key_id: [u8; 16]) -> Self {
        Self::of_version(VERSION, machine, key_id)
    }

    /// The label as that version wrote it.
    pub fn of_version(version: u16, machine: [u8; 32], key_id: [u8; 16]) -> Self {
        let mut label = Self {
            magic: magic::LABEL,
            version: version.into(),
            reserved: [0; 6],
            machine,
            key_id,
            digest: [0; 48],
            rest: [0; 0x190],
        };
        label.digest = label.computed();
        label
    }

    fn computed(&self) -> Sha {
        sha384(&[
            &self.magic,
            self.version.as_bytes(),
            &self.reserved,
            &self.machine,
            &self.key_id,
        ])
    }

    /// The label in a sector, if it is whole.
    pub fn parse(sector: &[u8; SECTOR]) -> Result<Self, Fault> {
        preamble(sector, magic::LABEL)?;
        let label = Self::read_from_bytes(sector).map_err(|_| Fault::Damaged)?;
        let whole = label.digest == label.computed() && zero(&label.reserved) && zero(&label.rest);
        whole.then_some(label).ok_or(Fault::Damaged)
    }
}

impl KeyRecord {
    /// The record of this TCB.
    pub fn new(cpusvn: [u8; 16], tee_tcb_svn: [u8; 16]) -> Self {
        let mut record = Self {
            magic: magic::KEY,
            version: FIRST_VERSION.into(),
            reserved: [0; 6],
            cpusvn,
            tee_tcb_svn,
            digest: [0; 48],
            rest: [0; 0x1A0],
        };
        record.digest = record.computed();
        record
    }

    fn computed(&self) -> Sha {
        sha384(&[self.as_bytes().get(..0x30).unwrap_or_default()])
    }

    /// Reads a sector.
    pub fn parse(sector: &[u8; SECTOR]) -> Result<Self, Fault> {
        preamble(sector, magic::KEY)?;
        let record = Self::read_from_bytes(sector).map_err(|_| Fault::Damaged)?;
        let whole = record.version.get() == FIRST_VERSION
            && record.digest == record.computed()
            && zero(&record.reserved)
            && zero(&record.rest);
        whole.then_some(record).ok_or(Fault::Damaged)
    }
}

impl CommitRecord {
    /// What digest and MAC are of.
    pub fn covered(&self) -> &[u8] {
        self.as_bytes().get(..0x70).unwrap_or_default()
    }

    /// The commit record in the sector of `slot`, if it is whole. Its MAC is not looked at.
    pub fn parse(sector: &[u8; SECTOR], slot: Slot) -> Result<Self, Fault> {
        preamble(sector, magic::COMMIT)?;
        let record = Self::read_from_bytes(sector).map_err(|_| Fault::Damaged)?;
        let whole = record.digest == sha384(&[record.covered()])
            && record.slot.get() == slot.index()
            && Slot::of(record.counter.get()) == slot
            && zero(&record.reserved)
            && zero(&record.rest);
        whole.then_some(record).ok_or(Fault::Damaged)
    }
}

impl SlotSector {
    /// A slot's first sector, if it can be one. Its digest is not looked at: see [`SlotSector::holds`].
    pub fn parse(sector: &[u8; SECTOR]) -> Result<Self, Fault> {
        preamble(sector, magic::SLOT)?;
        let first = Self::read_from_bytes(sector).map_err(|_| Fault::Damaged)?;
        let header = &first.header;
        let whole = zero(&header.reserved)
            && zero(&header.reserved_2)
            && zero(&header.rest)
            && (header.version.get() != FIRST_VERSION || header.tcb == Tcb::NONE)
            && zero(&first.rest)
            && first.length().is_some();
        whole.then_some(first).ok_or(Fault::Damaged)
    }

    /// Bytes of the ciphertext, if a slot has room for them.
    pub fn length(&self) -> Option<usize> {
        let length = usize::try_from(self.header.length.get()).ok()?;
        (length <= CIPHERTEXT_MAX).then_some(length)
    }

    /// Whether the digest is that of header, tag and this ciphertext.
    pub fn holds(&self, ciphertext: &[u8]) -> bool {
        self.digest == self.computed(ciphertext)
    }

    /// The digest as it must be.
    pub fn computed(&self, ciphertext: &[u8]) -> Sha {
        sha384(&[self.header.as_bytes(), &self.tag, ciphertext])
    }
}

const _: () = assert!(
    size_of::<Label>() == SECTOR
        && size_of::<KeyRecord>() == SECTOR
        && size_of::<CommitRecord>() == SECTOR
        && size_of::<SlotHeader>() == 0x100
        && size_of::<SlotSector>() == SECTOR
);
