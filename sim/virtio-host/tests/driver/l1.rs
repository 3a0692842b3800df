//! L1's drivers of a disk and of a console on these devices: what works, and that every lie comes to an end.

use super::host::{Content, FUNCTION, Host, Ticks, Wire, window};
use l1_vmm::virtio::block::{Block, BlockError, Limits};
use l1_vmm::virtio::clock::Deadline;
use l1_vmm::virtio::console::Console;
use l1_vmm::virtio::devices::Devices;
use l1_vmm::virtio::pci::Device;
use virtio_defs::{block, console};

/// The device is one of an emulated clock: a wait is short.
const LIMITS: Limits = Limits {
    attempt: 1_000_000,
    reset: 1_000_000,
    attempts: 3,
    faults: 8,
};

type Disk<'a> = Block<Host, super::host::Shared, &'a Ticks>;

fn open<'a>(host: &Host, clock: &'a Ticks) -> Option<Disk<'a>> {
    let kind = block::DEVICE_TYPE;
    let device = Device::find(host.clone(), FUNCTION, kind, &mut window()).ok()?;
    Block::open(device, host.memory.clone(), clock, "disk", 0, LIMITS).ok()
}

#[test]
fn a_disk_keeps_what_l1_writes() {
    let content = Content::of_sectors(64);
    let host = Host::disk(&content, &[]);
    let clock = Ticks::default();
    let mut disk = open(&host, &clock).unwrap();
    assert_eq!(disk.sectors(), 64);
    assert_eq!(disk.identify().unwrap(), *b"tdp-vtpm-state\0\0\0\0\0\0");
    let bytes: Vec<u8> = (0..40 * 512_u32).map(|at| (at / 7) as u8).collect();
    disk.write(3, &bytes).unwrap();
    disk.flush().unwrap();
    let mut back = vec![0; bytes.len()];
    disk.read(3, &mut back).unwrap();
    assert!(back == bytes);
    assert!(content.all()[3 * 512..43 * 512] == bytes);
    assert_eq!(host.statistics().violations, 0);
}

/// Reads, writes and flushes, some of it more than once.
fn use_it(disk: &mut Disk<'_>) -> Result<(), BlockError> {
    for round in 0..4 {
        disk.write(2, &[round; 2048])?;
        disk.flush()?;
        let mut back = [0; 2048];
        disk.read(2, &mut back)?;
    }
    Ok(())
}

#[test]
fn every_lie_of_a_disk_comes_to_an_end() {
    let lies = [
        "used-id:0x10000@3",
        "used-id:63@3",
        "used-len:100000@3",
        "used-len:0@3",
        "used-jump:5@3",
        "silent@3",
        "silent@3+1",
        "twice@3",
        "late@3",
        "late@3+1",
        "rewrite",
        "mute",
        "storm:1",
        "reset-never@3",
        "features-refused",
        "features-refused@3",
        "features-flip",
        "no-version-1",
        "needs-reset@3",
        "vanish@3",
        "config-flip",
        "register:0x12:0",
        "register:0x18:0xFFFF",
        "device-config:7:0xFF",
        "io-error@3",
        "io-error@3+1",
        "cut:2",
    ];
    // What L1 need not notice, or gets over by a reset.
    let harmless = [
        "silent@3+1",
        "late@3+1",
        "rewrite",
        "mute",
        "storm:1",
        "io-error@3+1",
        "device-config:7:0xFF",
        // Nothing is reset, and features are settled once.
        "reset-never@3",
        "features-refused@3",
        "features-flip",
        // It works on.
        "needs-reset@3",
    ];
    let other: Vec<_> = lies
        .into_iter()
        .filter(|lie| {
            let host = Host::disk(&Content::of_sectors(64), &[lie]);
            let clock = Ticks::default();
            let worked = open(&host, &clock).is_some_and(|mut disk| use_it(&mut disk).is_ok());
            worked != harmless.contains(lie)
        })
        .collect();
    assert!(other.is_empty(), "{other:?}");
}

#[test]
fn l1_finds_its_devices_on_the_bus() {
    let host = Host::disk(&Content::of_sectors(64), &[]);
    let wire = Wire::default();
    let console = virtio_host::Function::new(virtio_host::Console::new(wire));
    host.bus.borrow_mut().add(2, console);
    let found = Devices::find(&host, &mut window()).unwrap();
    let kinds: Vec<_> = found.iter().map(|found| found.kind).collect();
    assert_eq!(kinds, [console::DEVICE_TYPE, block::DEVICE_TYPE]);
}

#[test]
fn a_console_carries_what_l1_sends_and_what_comes() {
    let wire = Wire::default();
    wire.room.set(100_000);
    let host = Host::new(virtio_host::Console::new(wire.clone()), &[]);
    let clock = Ticks::default();
    let kind = console::DEVICE_TYPE;
    let device = Device::find(host.clone(), FUNCTION, kind, &mut window()).unwrap();
    let mut console = Console::open(device, host.memory.clone(), &clock, "console").unwrap();
    let sent: Vec<u8> = (0..20_000_u32).map(|at| (at / 3) as u8).collect();
    let soon = Deadline::after(&&clock, 1_000_000_000);
    console.send(&sent, &soon).unwrap();
    assert!(*wire.from_l1.borrow() == sent);
    wire.to_l1.borrow_mut().extend(&sent);
    let mut came: Vec<u8> = Vec::new();
    while came.len() < sent.len() {
        host.poll();
        let mut bytes = [0; 1000];
        let count = console.receive(&mut bytes, &soon).unwrap();
        came.extend(&bytes[..count]);
    }
    assert!(came == sent);
}
