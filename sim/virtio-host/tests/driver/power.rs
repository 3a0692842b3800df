//! Power cuts.

use super::block::Disk;
use super::host::{Content, Host};
use virtio_defs::block;

/// Writes sectors one at a time and in pairs, with a flush after every second request, until the power fails; gives the
/// disk's content and how many requests were answered.
fn run(lie: &str) -> (Vec<u8>, usize) {
    let content = Content::of_sectors(16);
    let host = Host::disk(&content, &[lie]);
    let mut disk = Disk::start(&host);
    let mut answered = 0;
    for number in 0..8_u8 {
        let bytes = vec![0xF0 | number; 512 * (1 + usize::from(number % 2))];
        if disk.write(u64::from(number) * 2, &bytes) != block::STATUS_OK {
            assert!(!host.bus.borrow().has_power());
            return (content.all(), answered);
        }
        answered += 1;
        if number % 2 == 1 && disk.flush() != block::STATUS_OK {
            assert!(!host.bus.borrow().has_power());
            return (content.all(), answered);
        }
    }
    assert!(host.bus.borrow().has_power());
    (content.all(), answered)
}

/// What the disk is after the first `writes` requests.
fn after(writes: u8) -> Vec<u8> {
    let mut bytes = Content::of_sectors(16).all();
    for number in 0..writes {
        let start = usize::from(number) * 1024;
        let length = 512 * (1 + usize::from(number % 2));
        bytes[start..start + length].fill(0xF0 | number);
    }
    bytes
}

#[test]
fn the_power_fails_at_any_write() {
    for write in 1..=8 {
        let (content, answered) = run(&format!("cut:{write}"));
        assert_eq!(answered, usize::from(write) - 1);
        assert!(content == after(write - 1), "{write}");
    }
    let (content, answered) = run("cut:9");
    assert_eq!(answered, 8);
    assert!(content == after(8));
}

#[test]
fn a_request_is_written_in_part() {
    let (content, answered) = run("cut:2:1");
    let mut expected = after(1);
    expected[1024..1536].fill(0xF1);
    assert!(content == expected);
    assert_eq!(answered, 1);
    let (content, _) = run("cut:2:1:torn");
    expected[1536..1536 + 256].fill(0xF1);
    assert!(content == expected);
    let (content, _) = run("cut:2:torn");
    let mut expected = after(1);
    expected[1024..1024 + 256].fill(0xF1);
    assert!(content == expected);
}

#[test]
fn what_was_not_flushed_is_lost() {
    for write in 1..=8_u8 {
        let (content, answered) = run(&format!("cut:{write}:unflushed"));
        assert_eq!(answered, usize::from(write) - 1);
        let flushed = (write - 1) / 2 * 2;
        assert!(content == after(flushed), "{write}");
    }
}

#[test]
fn the_power_fails_at_any_flush() {
    for flush in 1..=4_u8 {
        let (content, answered) = run(&format!("cut-flush:{flush}"));
        assert_eq!(answered, usize::from(flush) * 2);
        assert!(content == after(2 * flush), "{flush}");
        let (content, _) = run(&format!("cut-flush:{flush}:unflushed"));
        assert!(content == after(2 * flush - 2), "{flush}");
    }
}

#[test]
fn a_cut_by_a_mark_counts_from_there() {
    for (lie, flushed) in [("cut:2@mark:7", 1), ("cut-flush:2@mark:7", 2)] {
        let content = Content::of_sectors(16);
        let host = Host::disk(&content, &[lie]);
        let mut disk = Disk::start(&host);
        let mut write = |number: u8| {
            let status = disk.write(number.into(), &[0xE0 | number; 512]);
            if status == block::STATUS_OK {
                let _ = disk.flush();
            }
            status == block::STATUS_OK && host.bus.borrow().has_power()
        };
        assert!((1..4).all(&mut write));
        host.bus.borrow_mut().mark(6);
        assert!(write(4));
        host.bus.borrow_mut().mark(7);
        assert!(write(5));
        host.bus.borrow_mut().mark(8);
        assert!(!write(6));
        let written = content.all().chunks(512).filter(|s| s[0] == 0xE6).count();
        assert_eq!(written, flushed - 1);
    }
}

#[test]
fn without_power_nothing_answers() {
    let content = Content::of_sectors(16);
    let host = Host::disk(&content, &["cut:1"]);
    let mut disk = Disk::start(&host);
    assert_eq!(disk.write(0, &[1; 512]), 0xFF);
    let before = host.memory.all();
    host.poll();
    disk.0.device.notify(&disk.0.doorbell).unwrap();
    assert_eq!(host.memory.all(), before);
    assert_eq!(host.interrupts(), []);
}
