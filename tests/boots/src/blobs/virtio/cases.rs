//! Requests and queues that are wrong in one thing.

use super::{
    AVAILABLE, BROKEN, DATA, DESCRIPTORS, HEADER, QUEUE, SIZE, STATUS, TABLE, USED, WORKS,
};
use crate::blobs::l1_image::L1Image;
use crate::blobs::program::TPM;
use virtio_defs::ring::{
    DESCRIPTOR_INDIRECT as INDIRECT, DESCRIPTOR_NEXT as NEXT, DESCRIPTOR_WRITE as WRITE,
};

/// What a case changes in memory: an address, and the eight bytes there.
pub(super) type Change = (u64, u64);

/// A descriptor's two halves, in the queue's table or another.
pub(super) fn descriptor(
    table: u64,
    index: u64,
    gpa: u64,
    length: u32,
    flags: u16,
    next: u16,
) -> [Change; 2] {
    let at = table + 16 * index;
    let more = u64::from(length) | u64::from(flags) << 32 | u64::from(next) << 48;
    [(at, gpa), (at + 8, more)]
}

/// The request's data at `gpa`.
pub(super) fn data(gpa: u64, length: u32) -> Vec<Change> {
    descriptor(DESCRIPTORS, 1, gpa, length, NEXT | WRITE, 2).to_vec()
}

/// The whole request by a table of so many bytes at `gpa`.
fn table(gpa: u64, length: u32, flags: u16) -> Vec<Change> {
    let mut changes = descriptor(DESCRIPTORS, 0, gpa, length, flags, 1).to_vec();
    for (index, gpa, length, flags) in [
        (0, HEADER, 16, NEXT),
        (1, DATA, 512, NEXT | WRITE),
        (2, STATUS, 1, WRITE),
    ] {
        let next = index as u16 + 1;
        changes.extend(descriptor(TABLE, index, gpa, length, flags, next));
    }
    changes
}

/// An area of the queue, or its size (0), is this.
fn queue(what: u64, value: u64) -> Vec<Change> {
    vec![(QUEUE + 8 * what, value)]
}

/// The available ring has this index and first head.
pub(super) fn available(index: u16, head: u16) -> Vec<Change> {
    vec![(
        AVAILABLE,
        u64::from(index) << 16 | u64::from(head) << 32 | u64::from(head) << 48,
    )]
}

/// What each case is called, what it changes, and what comes of it.
pub(super) fn cases(l1: &L1Image) -> Vec<(&'static str, Vec<Change>, u64)> {
    const SHARED: u64 = 1 << 47;
    let mut cases = vec![
        ("nothing wrong", Vec::new(), WORKS),
        (
            "a chain without an end",
            descriptor(DESCRIPTORS, 2, STATUS, 1, NEXT | WRITE, 2).to_vec(),
            BROKEN,
        ),
        (
            "a descriptor that goes on outside the table",
            descriptor(DESCRIPTORS, 1, DATA, 512, NEXT | WRITE, 200).to_vec(),
            BROKEN,
        ),
        (
            "a readable buffer behind a writable one",
            descriptor(DESCRIPTORS, 2, STATUS, 1, 0, 0).to_vec(),
            BROKEN,
        ),
        ("a table of descriptors", table(TABLE, 48, INDIRECT), WORKS),
        ("a table of none", table(TABLE, 0, INDIRECT), BROKEN),
        (
            "a table of a part of one",
            table(TABLE, 49, INDIRECT),
            BROKEN,
        ),
        (
            "a table of more than the queue has",
            table(TABLE, 16 * 9, INDIRECT),
            BROKEN,
        ),
        (
            "a table of 4 GiB",
            table(TABLE, 0xFFFF_FFF0, INDIRECT),
            BROKEN,
        ),
        (
            "a table with a descriptor behind it",
            table(TABLE, 48, INDIRECT | NEXT),
            BROKEN,
        ),
        (
            "a table in a table",
            [
                table(TABLE, 48, INDIRECT),
                descriptor(TABLE, 0, TABLE, 48, INDIRECT, 0).to_vec(),
            ]
            .concat(),
            BROKEN,
        ),
        (
            "a table in the TPM window",
            table(TPM, 48, INDIRECT),
            BROKEN,
        ),
        (
            "a table in L1's heap",
            table(l1.region, 48, INDIRECT),
            BROKEN,
        ),
        ("no bytes", data(DATA, 0), BROKEN),
        ("4 GiB", data(DATA, u32::MAX), BROKEN),
        (
            "three times 4 GiB",
            [
                data(DATA, u32::MAX),
                descriptor(DESCRIPTORS, 2, DATA, u32::MAX, NEXT | WRITE, 3).to_vec(),
                descriptor(DESCRIPTORS, 3, DATA, u32::MAX, WRITE, 0).to_vec(),
            ]
            .concat(),
            BROKEN,
        ),
        (
            "an index too far ahead",
            available(SIZE as u16 + 1, 0),
            BROKEN,
        ),
        ("an index that went back", available(0xFFFF, 0), BROKEN),
        ("a head that there is not", available(1, 500), BROKEN),
        ("a queue of three descriptors", queue(0, 3), BROKEN),
        ("a queue of none", queue(0, 0), BROKEN),
        ("a queue of 32768", queue(0, 0x8000), BROKEN),
        ("a queue of 1024", queue(0, 1024), BROKEN),
    ];
    let foreign = [
        ("the TPM window", TPM),
        ("L1's image", l1.start),
        ("memory shared with the host", l1.region),
        ("the local APIC", 0xFEE0_0000),
        ("the I/O APIC", 0xFEC0_0000),
        ("beyond all memory", 1 << 40),
        ("a shared address", SHARED | DATA),
        ("the last page of 64 bits", 0xFFFF_FFFF_FFFF_F000),
    ];
    // The order of names is that of `NAMES`.
    for (&(_, gpa), names) in foreign.iter().zip(NAMES) {
        let [buffer, table, available, used] = names;
        cases.push((buffer, data(gpa, 512), BROKEN));
        cases.push((table, queue(1, gpa), BROKEN));
        cases.push((available, queue(2, gpa), BROKEN));
        cases.push((used, queue(3, gpa), BROKEN));
    }
    cases.extend([
        (
            "a buffer that wraps",
            data(0xFFFF_FFFF_FFFF_FF00, 0x200),
            BROKEN,
        ),
        (
            "a buffer that ends in L1's memory",
            data(l1.start - 0x100, 0x200),
            BROKEN,
        ),
        ("a misaligned table", queue(1, DESCRIPTORS + 8), BROKEN),
        (
            "a misaligned available ring",
            queue(2, AVAILABLE + 1),
            BROKEN,
        ),
        ("a misaligned used ring", queue(3, USED + 2), BROKEN),
    ]);
    cases
}

macro_rules! names {
    ($($place:literal),*) => {
        [$([
            concat!("a buffer: ", $place),
            concat!("descriptors: ", $place),
            concat!("an available ring: ", $place),
            concat!("a used ring: ", $place),
        ]),*]
    };
}

const NAMES: [[&str; 4]; 8] = names!(
    "the TPM window",
    "L1's image",
    "memory shared with the host",
    "the local APIC",
    "the I/O APIC",
    "beyond all memory",
    "a shared address",
    "the last page of 64 bits"
);
