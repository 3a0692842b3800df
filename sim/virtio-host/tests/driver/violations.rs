//! A driver that breaks rules: the device says that it needs a reset, and has touched nothing that is not shared.

use super::block::Disk;
use super::host::{BUFFERS, Content, Host, SHARED, SHARED_LENGTH};
use l1_vmm::virtio::pci::PciError;
use proptest::prelude::*;
use virtio_defs::{block, ring};

/// Offsets of the areas of L1's ring of 16 descriptors.
struct Areas {
    descriptors: u64,
    available: u64,
}

fn start() -> (Host, Content, Disk, Areas) {
    let content = Content::of_sectors(4);
    let host = Host::disk(&content, &[]);
    let disk = Disk::start(&host);
    let areas = disk.0.ring.areas();
    let areas = Areas {
        descriptors: areas.descriptors,
        available: areas.available,
    };
    (host, content, disk, areas)
}

type Table = Vec<[u8; 16]>;

/// A descriptor's bytes.
fn descriptor(gpa: u64, length: u32, flags: u16, next: u16) -> [u8; 16] {
    let low = u128::from(gpa) | u128::from(length) << 64;
    (low | u128::from(flags) << 96 | u128::from(next) << 112).to_le_bytes()
}

/// Makes descriptor 0 available, with these descriptors; the device's statistics of it.
fn submit(descriptors: &[[u8; 16]], indirect: &[[u8; 16]]) -> (Host, Disk) {
    let (host, content, disk, areas) = start();
    host.memory.put(areas.descriptors, &descriptors.concat());
    host.memory.put(BUFFERS + 0x4000, &indirect.concat());
    // Flags, index, the first head.
    host.memory.put(areas.available, &[0, 0, 1, 0, 0, 0]);
    let header = u128::from(block::TYPE_IN).to_le_bytes();
    host.memory.put(BUFFERS, &header);
    disk.0.device.notify(&disk.0.doorbell).unwrap();
    assert_eq!(content.all(), Content::of_sectors(4).all());
    (host, disk)
}

const NEXT: u16 = ring::DESCRIPTOR_NEXT;
const WRITE: u16 = ring::DESCRIPTOR_WRITE;
const INDIRECT: u16 = ring::DESCRIPTOR_INDIRECT;

#[test]
fn an_indirect_table_is_followed() {
    let table = [
        descriptor(BUFFERS, 16, NEXT, 2),
        descriptor(BUFFERS + 0x900, 1, WRITE, 0),
        descriptor(BUFFERS + 0x100, 512, WRITE | NEXT, 1),
    ];
    let length = size_of_val(&table) as u32;
    let (host, disk) = submit(&[descriptor(BUFFERS + 0x4000, length, INDIRECT, 0)], &table);
    assert_eq!(disk.0.device.check(), Ok(()));
    let sector = Content::of_sectors(1).all();
    assert_eq!(host.memory.get(BUFFERS + 0x100, 512), sector);
    assert_eq!(host.memory.get(BUFFERS + 0x900, 1), [block::STATUS_OK]);
}

#[test]
fn chains_that_cannot_be_need_a_reset() {
    let table = BUFFERS + 0x4000;
    let good = descriptor(BUFFERS, 16, 0, 0);
    let cases: [(&str, Table, Table); 12] = [
        ("a loop", vec![descriptor(BUFFERS, 16, NEXT, 0)], vec![]),
        ("next", vec![descriptor(BUFFERS, 16, NEXT, 16)], vec![]),
        (
            "read after write",
            vec![
                descriptor(BUFFERS, 16, WRITE | NEXT, 1),
                descriptor(BUFFERS, 16, 0, 0),
            ],
            vec![],
        ),
        (
            "no room for a status",
            vec![descriptor(BUFFERS, 16, 0, 0)],
            vec![],
        ),
        (
            "a short header",
            vec![
                descriptor(BUFFERS, 15, NEXT, 1),
                descriptor(BUFFERS, 1, WRITE, 0),
            ],
            vec![],
        ),
        (
            "an indirect table of no length",
            vec![descriptor(table, 0, INDIRECT, 0)],
            vec![good],
        ),
        (
            "an indirect table of a length",
            vec![descriptor(table, 17, INDIRECT, 0)],
            vec![good],
        ),
        (
            "an indirect table that is too long",
            vec![descriptor(table, 16 * 17, INDIRECT, 0)],
            vec![good],
        ),
        (
            "an indirect table with a next",
            vec![descriptor(table, 16, INDIRECT | NEXT, 1), good],
            vec![good],
        ),
        (
            "a table in a table",
            vec![descriptor(table, 16, INDIRECT, 0)],
            vec![descriptor(table, 16, INDIRECT, 0)],
        ),
        (
            "a loop in a table",
            vec![descriptor(table, 16, INDIRECT, 0)],
            vec![descriptor(BUFFERS, 16, NEXT, 0)],
        ),
        (
            "beyond a table",
            vec![descriptor(table, 16, INDIRECT, 0)],
            vec![descriptor(BUFFERS, 16, NEXT, 1)],
        ),
    ];
    for (name, descriptors, indirect) in cases {
        let (host, disk) = submit(&descriptors, &indirect);
        let state = disk.0.device.check();
        assert_eq!(state, Err(PciError::NeedsReset), "{name}");
        assert_eq!(host.statistics().violations, 1, "{name}");
        assert_eq!(host.statistics().completions, 0, "{name}");
    }
}

#[test]
fn what_is_not_shared_is_not_touched() {
    let private = [
        0,
        SHARED - 1,
        SHARED - 511,
        SHARED + SHARED_LENGTH as u64 - 511,
        SHARED + SHARED_LENGTH as u64,
        u64::MAX - 100,
    ];
    for gpa in private {
        let (host, disk) = submit(
            &[
                descriptor(BUFFERS, 16, NEXT, 1),
                descriptor(gpa, 512, WRITE | NEXT, 2),
                descriptor(BUFFERS + 0x900, 1, WRITE, 0),
            ],
            &[],
        );
        let state = disk.0.device.check();
        assert_eq!(state, Err(PciError::NeedsReset), "{gpa:#x}");
        assert_eq!(host.memory.get(BUFFERS + 0x900, 1), [0xA5]);
        // The interrupt says so, if the configuration had a vector; L1 gives it none.
        assert_eq!(host.interrupts(), []);
    }
}

#[test]
fn an_available_index_that_jumps_needs_a_reset() {
    let (host, _, disk, areas) = start();
    host.memory.put(areas.available, &[0, 0, 17, 0]);
    disk.0.device.notify(&disk.0.doorbell).unwrap();
    assert_eq!(disk.0.device.check(), Err(PciError::NeedsReset));
}

#[test]
fn a_reset_brings_the_device_back() {
    let (host, disk) = submit(&[descriptor(BUFFERS, 16, NEXT, 0)], &[]);
    assert_eq!(disk.0.device.check(), Err(PciError::NeedsReset));
    let mut disk = Disk::start(&host);
    assert_eq!(disk.read(0, 512).map(|bytes| bytes.len()), Ok(512));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is in the ring and behind it, and whatever is written to registers: the device ends its work, and the
    /// bus is none the worse.
    #[test]
    fn no_driver_is_too_odd(
        bytes in prop::collection::vec(any::<u8>(), 0x800),
        places in prop::collection::vec((0..0x8000_u64, 0..4_u8, any::<u64>()), 0..40),
        index in any::<u16>(),
    ) {
        let (host, _, disk, areas) = start();
        let low = u64::from(host.config_low());
        let mut bytes = bytes;
        // Most descriptors are of shared memory, or none gets far.
        for descriptor in bytes.chunks_mut(16).take(16) {
            descriptor[2..8].copy_from_slice(&[0x10, 0, 0, 0, 0, 0]);
            descriptor[10..12].fill(0);
            descriptor[13] = 0;
            descriptor[14] &= 0x1F;
            descriptor[15] = 0;
        }
        host.memory.put(areas.descriptors, &bytes);
        host.memory.put(areas.available + 2, &(index % 20).to_le_bytes());
        disk.0.device.notify(&disk.0.doorbell).unwrap();
        for (offset, width, value) in places {
            let width = 1 << width;
            let mut bus = host.bus.borrow_mut();
            let _ = bus.write(low + offset, width, value, &host.memory);
            let _ = bus.read(low + offset, width);
        }
        host.poll();
        let mut disk = Disk::start(&host);
        prop_assert_eq!(disk.flush(), block::STATUS_OK);
    }
}
