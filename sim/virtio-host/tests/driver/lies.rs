//! What L1's driver makes of each lie: a device that lies is of use only if the driver's tests see the lie.

use super::block::Disk;
use super::host::{Content, Driver, Host, SHARED, WINDOW, segment};
use l1_vmm::virtio::pci::{PciError, Structure};
use l1_vmm::virtio::ring::Broken;
use virtio_defs::{block, feature};

/// The error with which the device is refused.
fn refused(lie: &str) -> PciError {
    let host = Host::disk(&Content::of_sectors(4), &[lie]);
    match Driver::start(&host, block::DEVICE_TYPE, 0) {
        Err(error) => error,
        Ok(_) => panic!("{lie}: it was started"),
    }
}

/// How the queue breaks at a write.
fn breaks(lie: &str) -> Broken {
    let host = Host::disk(&Content::of_sectors(4), &[lie]);
    let mut disk = Disk::start(&host);
    disk.0.post(&[segment(0, 16)], &[segment(0x100, 1)], 1);
    for _ in 0..4 {
        match disk.0.ring.take() {
            Err(broken) => return broken,
            Ok(done) => assert!(done.is_some(), "{lie}: nothing came"),
        }
    }
    panic!("{lie}: the queue still works")
}

#[test]
fn the_ring_sees_completions_that_lie() {
    assert_eq!(
        breaks("used-id:0x10000"),
        Broken::UsedId {
            id: 0x1_0000,
            size: 16
        }
    );
    assert_eq!(breaks("used-id:9"), Broken::NotInFlight { id: 9 });
    assert_eq!(
        breaks("used-len:100000"),
        Broken::UsedLength {
            length: 100_000,
            writable: 1
        }
    );
    assert!(matches!(breaks("twice"), Broken::UsedIndex { .. }));
    assert!(matches!(breaks("used-jump:9"), Broken::UsedIndex { .. }));
}

#[test]
fn the_transport_sees_registers_that_lie() {
    assert_eq!(refused("features-refused"), PciError::FeaturesRefused);
    assert_eq!(
        refused("no-version-1"),
        PciError::Features(feature::VERSION_1)
    );
    assert_eq!(refused("vanish"), PciError::Absent);
    assert_eq!(refused("register:0x12:0"), PciError::NoQueue(0));
    assert_eq!(
        refused("register:0x18:3"),
        PciError::QueueSize { queue: 0, size: 3 }
    );
    assert_eq!(refused("register:0x1E:0x7FFF"), PciError::NotifyPlace(0));
    assert_eq!(refused("register:0x1A:0xFFFF"), PciError::Vector(0));
    assert_eq!(
        refused("config:0x44:7"),
        PciError::Missing(Structure::Common)
    );
    assert_eq!(refused("config:0x41:0x40"), PciError::CapabilityLoop);
}

#[test]
fn a_device_lies_in_its_status_and_configuration() {
    let host = Host::disk(&Content::of_sectors(4), &["needs-reset@2"]);
    let mut disk = Disk::start(&host);
    assert_eq!(disk.0.device.check(), Ok(()));
    assert_eq!(disk.flush(), block::STATUS_OK);
    assert_eq!(disk.flush(), block::STATUS_OK);
    assert_eq!(disk.0.device.check(), Err(PciError::NeedsReset));
    let host = Host::disk(&Content::of_sectors(4), &["config-flip"]);
    let disk = Disk::start(&host);
    let mut into = [0; 8];
    let unstable = disk.0.device.read_configuration(0, &mut into);
    assert_eq!(unstable, Err(PciError::ConfigurationUnstable));
    let host = Host::disk(&Content::of_sectors(4), &["device-config:7:0xFF"]);
    let disk = Disk::start(&host);
    disk.0.device.read_configuration(0, &mut into).unwrap();
    assert_eq!(into, [4, 0, 0, 0, 0, 0, 0, 0xFF]);
}

#[test]
fn a_status_that_stays_is_a_reset_that_never_ends() {
    let host = Host::disk(&Content::of_sectors(4), &["reset-never"]);
    // The first finds it as it is after power-on.
    assert!(Driver::start(&host, block::DEVICE_TYPE, 0).is_ok());
    let again = Driver::start(&host, block::DEVICE_TYPE, 0);
    assert_eq!(again.err(), Some(PciError::Reset));
}

#[test]
fn offered_features_are_other_ones_now_and_then() {
    let host = Host::disk(&Content::of_sectors(4), &["features-flip"]);
    let errors = [(); 3].map(|()| Driver::start(&host, block::DEVICE_TYPE, 0).err());
    // The third start is the first whose upper half is inverted.
    let missing = PciError::Features(feature::VERSION_1 | feature::ACCESS_PLATFORM);
    assert_eq!(errors, [None, None, Some(missing)]);
}

#[test]
fn requests_are_silent_late_or_mute() {
    let content = Content::of_sectors(4);
    let host = Host::disk(&content, &["silent@2+1"]);
    let mut disk = Disk::start(&host);
    assert_eq!(disk.write(0, &[1; 512]), block::STATUS_OK);
    assert_eq!(disk.write(0, &[2; 512]), 0xFF);
    assert_eq!(content.all()[..512], [2; 512], "it was done all the same");

    let host = Host::disk(&content, &["late@1+1"]);
    let mut disk = Disk::start(&host);
    assert_eq!(disk.flush(), 0xFF);
    let mut disk = Disk::start(&host);
    assert_eq!(disk.0.ring.in_flight(), 0);
    let broken = disk.0.ring.take().unwrap_err();
    assert!(matches!(broken, Broken::UsedIndex { .. }), "{broken:?}");

    let host = Host::disk(&content, &["mute"]);
    let mut disk = Disk::start(&host);
    assert_eq!(disk.flush(), block::STATUS_OK);
    assert_eq!(host.interrupts(), []);

    let host = Host::disk(&content, &["vector:0x99"]);
    let mut disk = Disk::start(&host);
    assert_eq!(disk.flush(), block::STATUS_OK);
    assert_eq!(host.interrupts(), [Some(0x99)]);
}

#[test]
fn a_storm_comes_at_exits() {
    let host = Host::disk(&Content::of_sectors(4), &["storm:3"]);
    let _disk = Disk::start(&host);
    let came = [(); 7].map(|()| {
        host.bus.borrow_mut().exited();
        host.interrupts().len()
    });
    assert_eq!(came, [0, 0, 1, 0, 0, 1, 0]);
}

/// The driver's own records are not in what the device overwrites.
#[test]
fn the_driver_works_on_when_its_ring_is_rewritten() {
    let content = Content::of_sectors(4);
    let host = Host::disk(&content, &["rewrite"]);
    let mut disk = Disk::start(&host);
    for fill in 0..40 {
        assert_eq!(disk.write(1, &[fill; 512]), block::STATUS_OK);
        let descriptors = host.memory.get(SHARED, 256);
        assert!(descriptors.windows(16).any(|bytes| bytes == [0xFF; 16]));
    }
    assert_eq!(content.all()[512..1024], [39; 512]);
}

#[test]
fn a_disk_fails_forgets_and_makes_things_up() {
    let content = Content::of_sectors(4);
    let before = content.all();
    let mut disk = Disk::start(&Host::disk(&content, &["io-error@2+2"]));
    let statuses = [0; 4].map(|_| disk.flush());
    let (good, bad) = (block::STATUS_OK, block::STATUS_IOERR);
    assert_eq!(statuses, [good, bad, bad, good]);
    let mut disk = Disk::start(&Host::disk(&content, &["forget"]));
    assert_eq!(disk.write(0, &[9; 512]), block::STATUS_OK);
    assert_eq!(content.all(), before);
    let mut disk = Disk::start(&Host::disk(&content, &["garbage"]));
    let read = disk.read(0, 512).unwrap();
    assert_ne!(read, before[..512]);
    assert_eq!(content.all(), before);
}

#[test]
fn a_disk_cannot_be_written_flushed_or_used_by_512_bytes() {
    let content = Content::of_sectors(16);
    let before = content.all();
    let mut disk = Disk::start(&Host::disk(&content, &["read-only"]));
    assert_eq!(disk.write(0, &[9; 512]), block::STATUS_IOERR);
    assert_eq!(disk.flush(), block::STATUS_OK);
    let mut disk = Disk::start(&Host::disk(&content, &["sector-size:4096"]));
    assert_eq!(disk.write(0, &[9; 512]), block::STATUS_IOERR);
    assert_eq!(disk.read(1, 4096), Err(block::STATUS_IOERR));
    assert_eq!(content.all(), before);
    assert_eq!(disk.write(8, &[9; 4096]), block::STATUS_OK);
    assert_eq!(disk.read(8, 4096).unwrap(), [9; 4096]);
}

#[test]
fn a_slow_device_takes_its_time_at_each_read() {
    let content = Content::of_sectors(4);
    let host = Host::disk(&content, &["slow:300"]);
    let _disk = Disk::start(&host);
    let times = (0..0x10_000).map(|offset| host.bus.borrow().read_time(WINDOW + offset, 1));
    let slow = times.filter(|time| *time == 300).count();
    // Both BARs.
    assert_eq!(slow, 0x1000 + 0x4000);
}

#[test]
fn a_configuration_that_changes_at_a_mark_interrupts() {
    let lies = ["device-config:0:9@mark:1-2", "needs-reset@mark:3"];
    let host = Host::disk(&Content::of_sectors(4), &lies);
    let disk = Disk::start(&host);
    disk.0.device.set_configuration_vector(0).unwrap();
    host.interrupts();
    let mark = |value| {
        host.bus.borrow_mut().mark(value);
        host.interrupts().len()
    };
    let read = || {
        let mut capacity = [0; 8];
        let result = disk.0.device.read_configuration(0, &mut capacity);
        result.map(|()| u64::from_le_bytes(capacity))
    };
    assert_eq!((mark(1), read()), (1, Ok(9)));
    assert_eq!(mark(7), 0, "nothing new");
    assert_eq!((mark(2), read()), (1, Ok(4)));
    assert_eq!(disk.0.device.check(), Ok(()));
    assert_eq!(mark(3), 1);
    assert_eq!(disk.0.device.check(), Err(PciError::NeedsReset));
}

#[test]
fn a_device_that_resets_itself_does_nothing_more() {
    let host = Host::disk(&Content::of_sectors(4), &["reset-itself@mark:1"]);
    let mut disk = Disk::start(&host);
    assert_eq!(disk.flush(), block::STATUS_OK);
    host.bus.borrow_mut().mark(1);
    assert_eq!(disk.flush(), 0xFF, "no answer");
    assert_eq!(host.statistics().violations, 0);
}
