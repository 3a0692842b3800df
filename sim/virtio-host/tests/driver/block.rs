//! Disks.

use super::host::{BUFFERS, Content, Driver, Host, VECTOR, segment};
use proptest::prelude::*;
use virtio_defs::block;

const HEADER: u64 = 0;
const DATA: u64 = 0x100;
const STATUS: u64 = 0x7000;

/// A disk's driver.
pub(crate) struct Disk(pub(crate) Driver);

impl Disk {
    pub(crate) fn start(host: &Host) -> Self {
        Self(Driver::start(host, block::DEVICE_TYPE, 0).unwrap())
    }

    fn header(&self, kind: u32, sector: u64) {
        let header = u128::from(kind) | u128::from(sector) << 64;
        self.0
            .host
            .memory
            .put(BUFFERS + HEADER, &header.to_le_bytes());
    }

    /// A request with data in `readable` or room in `writable` pieces; gives the used length and the status.
    fn ask(
        &mut self,
        kind: u32,
        sector: u64,
        readable: &[u32],
        writable: &[u32],
    ) -> Option<(u32, u8)> {
        self.header(kind, sector);
        let memory = self.0.host.memory.clone();
        memory.put(BUFFERS + STATUS, &[0xEE]);
        let mut at = DATA;
        let mut pieces = |lengths: &[u32]| {
            let pieces = lengths.iter().map(|&length| {
                let piece = segment(at, length);
                at += u64::from(length);
                piece
            });
            pieces.collect::<Vec<_>>()
        };
        let mut read = vec![segment(HEADER, 16)];
        read.extend(pieces(readable));
        let mut write = pieces(writable);
        write.push(segment(STATUS, 1));
        self.0.post(&read, &write, 7);
        let done = self.0.done()?;
        assert_eq!(done.token, 7);
        Some((done.written, memory.get(BUFFERS + STATUS, 1)[0]))
    }

    pub(crate) fn read(&mut self, sector: u64, length: u32) -> Result<Vec<u8>, u8> {
        match self.ask(block::TYPE_IN, sector, &[], &[length]) {
            Some((written, block::STATUS_OK)) => {
                assert_eq!(written, length + 1);
                Ok(self.0.host.memory.get(BUFFERS + DATA, length as usize))
            }
            Some((written, status)) => {
                assert_eq!(written, 1);
                Err(status)
            }
            None => Err(0xFF),
        }
    }

    /// The status; 0xFF if the request was not completed.
    pub(crate) fn write(&mut self, sector: u64, bytes: &[u8]) -> u8 {
        self.0.host.memory.put(BUFFERS + DATA, bytes);
        let done = self.ask(block::TYPE_OUT, sector, &[bytes.len() as u32], &[]);
        done.map_or(0xFF, |(_, status)| status)
    }

    pub(crate) fn flush(&mut self) -> u8 {
        let done = self.ask(block::TYPE_FLUSH, 0, &[], &[]);
        done.map_or(0xFF, |(_, status)| status)
    }

    fn segments(&mut self, kind: u32, segments: &[(u64, u32, u32)]) -> u8 {
        let bytes: Vec<u8> = segments
            .iter()
            .flat_map(|&(sector, count, flags)| {
                (u128::from(sector) | u128::from(count) << 64 | u128::from(flags) << 96)
                    .to_le_bytes()
            })
            .collect();
        self.0.host.memory.put(BUFFERS + DATA, &bytes);
        let done = self.ask(kind, 0, &[bytes.len() as u32], &[]);
        done.unwrap().1
    }
}

#[test]
fn what_is_written_is_read_and_in_the_store() {
    let content = Content::of_sectors(16);
    let host = Host::disk(&content, &[]);
    let mut disk = Disk::start(&host);
    let before = content.all();
    assert_eq!(disk.read(3, 1024), Ok(before[3 * 512..5 * 512].to_vec()));
    assert_eq!(disk.write(4, &[0x77; 1024]), block::STATUS_OK);
    assert_eq!(disk.flush(), block::STATUS_OK);
    let mut expected = before;
    expected[4 * 512..6 * 512].fill(0x77);
    assert_eq!(content.all(), expected);
    assert_eq!(disk.read(0, 16 * 512), Ok(expected));
    assert_eq!(host.interrupts(), [Some(VECTOR); 4]);
    let told = host.statistics();
    assert_eq!((told.requests, told.completions), (4, 4));
    assert_eq!(told.violations, 0);
}

#[test]
fn the_configuration_tells_the_size_and_the_name_is_told() {
    let host = Host::disk(&Content::of_sectors(16), &[]);
    let mut disk = Disk::start(&host);
    let mut capacity = [0; 8];
    disk.0.device.read_configuration(0, &mut capacity).unwrap();
    assert_eq!(u64::from_le_bytes(capacity), 16);
    let done = disk.ask(block::TYPE_GET_ID, 0, &[], &[20]);
    assert_eq!(done, Some((21, block::STATUS_OK)));
    let name = host.memory.get(BUFFERS + DATA, 20);
    assert_eq!(&name, b"tdp-vtpm-state\0\0\0\0\0\0");
}

#[test]
fn sectors_become_zero() {
    let content = Content::of_sectors(16);
    let mut disk = Disk::start(&Host::disk(&content, &[]));
    let mut expected = content.all();
    let two = [(1, 2, 0), (15, 1, 0)];
    assert_eq!(
        disk.segments(block::TYPE_WRITE_ZEROES, &two),
        block::STATUS_OK
    );
    expected[512..3 * 512].fill(0);
    expected[15 * 512..].fill(0);
    assert_eq!(content.all(), expected);
    assert_eq!(
        disk.segments(block::TYPE_DISCARD, &[(8, 1, 0)]),
        block::STATUS_OK
    );
    expected[8 * 512..9 * 512].fill(0);
    assert_eq!(content.all(), expected);
    let unmap = [(4, 1, block::SEGMENT_UNMAP)];
    assert_eq!(
        disk.segments(block::TYPE_WRITE_ZEROES, &unmap),
        block::STATUS_OK
    );
    expected[4 * 512..5 * 512].fill(0);
    for (kind, segments, status) in [
        (
            block::TYPE_DISCARD,
            vec![(4, 1, block::SEGMENT_UNMAP)],
            block::STATUS_UNSUPP,
        ),
        (
            block::TYPE_WRITE_ZEROES,
            vec![(4, 1, 2)],
            block::STATUS_UNSUPP,
        ),
        (
            block::TYPE_WRITE_ZEROES,
            vec![(0, 1, 0), (16, 1, 0)],
            block::STATUS_IOERR,
        ),
        (
            block::TYPE_WRITE_ZEROES,
            vec![(u64::MAX, 1, 0)],
            block::STATUS_IOERR,
        ),
        (
            block::TYPE_DISCARD,
            vec![(0, 1, 0); 17],
            block::STATUS_IOERR,
        ),
    ] {
        assert_eq!(disk.segments(kind, &segments), status, "{segments:?}");
    }
    assert_eq!(content.all(), expected, "a refused request changes nothing");
}

#[test]
fn what_is_not_on_the_disk_is_an_error() {
    let content = Content::of_sectors(16);
    let mut disk = Disk::start(&Host::disk(&content, &[]));
    let before = content.all();
    for (sector, length) in [
        (16, 512),
        (15, 1024),
        (u64::MAX, 512),
        (0, 511),
        (1 << 55, 512),
    ] {
        assert_eq!(disk.read(sector, length), Err(block::STATUS_IOERR));
        let bytes = vec![1; length as usize];
        assert_eq!(disk.write(sector, &bytes), block::STATUS_IOERR);
    }
    let done = disk.ask(99, 0, &[], &[]);
    assert_eq!(done, Some((1, block::STATUS_UNSUPP)));
    assert_eq!(content.all(), before);
    assert_eq!(disk.read(15, 512).map(|_| ()), Ok(()));
}

#[test]
fn a_request_is_the_same_however_it_is_cut() {
    let content = Content::of_sectors(16);
    let mut disk = Disk::start(&Host::disk(&content, &[]));
    let done = disk.ask(block::TYPE_IN, 2, &[], &[1, 511, 700, 324]);
    assert_eq!(done, Some((1537, block::STATUS_OK)));
    let read = disk.0.host.memory.get(BUFFERS + DATA, 1536);
    assert_eq!(read, content.all()[1024..1024 + 1536]);
    let bytes: Vec<u8> = (0..1024_u32).map(|at| (at / 3) as u8).collect();
    disk.0.host.memory.put(BUFFERS + DATA, &bytes);
    let done = disk.ask(block::TYPE_OUT, 9, &[3, 600, 421], &[]);
    assert_eq!(done, Some((1, block::STATUS_OK)));
    assert_eq!(content.all()[9 * 512..11 * 512], bytes);
}

#[test]
fn many_requests_wait_for_one_notification() {
    let content = Content::of_sectors(16);
    let host = Host::disk(&content, &[]);
    let mut disk = Disk::start(&host);
    disk.header(block::TYPE_IN, 5);
    for token in 0..5 {
        let place = DATA + u64::from(token) * 512;
        let room = [segment(place, 512), segment(STATUS, 1)];
        disk.0
            .ring
            .post(&[segment(HEADER, 16)], &room, token)
            .unwrap();
    }
    let _ = disk.0.ring.notification();
    disk.0.device.notify(&disk.0.doorbell).unwrap();
    for token in 0..5 {
        assert_eq!(disk.0.done().map(|done| done.token), Some(token));
    }
    assert_eq!(disk.0.done().map(|done| done.token), None);
    assert_eq!(host.interrupts(), [Some(VECTOR)], "one for all");
    let statistics = host.statistics();
    assert_eq!((statistics.notifications, statistics.interrupts), (1, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any sequence of reads, writes and zeroes does to the disk what it does to an array.
    #[test]
    fn a_disk_is_an_array_of_sectors(
        steps in prop::collection::vec((0..3_u8, 0..20_u64, 1..5_u32, any::<u8>()), 1..40),
    ) {
        let content = Content::of_sectors(16);
        let mut disk = Disk::start(&Host::disk(&content, &[]));
        let mut model = content.all();
        for (what, sector, count, fill) in steps {
            let (start, length) = (sector as usize * 512, count as usize * 512);
            let inside = start + length <= model.len();
            match what {
                0 => {
                    let read = disk.read(sector, count * 512);
                    let expected = match inside {
                        true => Ok(model[start..start + length].to_vec()),
                        false => Err(block::STATUS_IOERR),
                    };
                    prop_assert_eq!(read, expected);
                }
                1 => {
                    let status = disk.write(sector, &vec![fill; length]);
                    prop_assert_eq!(status == block::STATUS_OK, inside);
                    if inside {
                        model[start..start + length].fill(fill);
                    }
                }
                _ => {
                    let status = disk.segments(block::TYPE_WRITE_ZEROES, &[(sector, count, 0)]);
                    prop_assert_eq!(status == block::STATUS_OK, inside);
                    if inside {
                        model[start..start + length].fill(0);
                    }
                }
            }
        }
        prop_assert_eq!(content.all(), model);
    }
}
