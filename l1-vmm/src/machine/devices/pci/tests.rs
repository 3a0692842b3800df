//! The bus as a kernel finds it.

use super::super::virtio::entropy::EntropyDevice;
use super::*;
use crate::launch::gpa_range::GpaRange;
use alloc::vec;

const WINDOW: u64 = 0x39C0_0000;
const BARS: u64 = WINDOW + 0x10_0000;

fn data(host: &mut PciHost, address: u32, offset: u32, width: usize) -> u32 {
    host.set_address(address);
    let mut bytes = [0; 4];
    host.read(0xCFC + offset, &mut bytes[..width]);
    u32::from_le_bytes(bytes)
}

fn write(host: &mut PciHost, address: u32, value: u32) {
    host.set_address(address);
    host.write(0xCFC, &value.to_le_bytes());
}

fn memory(host: &mut PciHost, gpa: u64) -> u32 {
    let mut bytes = [0; 4];
    host.read_memory(gpa, &mut bytes);
    u32::from_le_bytes(bytes)
}

fn with_devices(count: usize) -> PciHost {
    let range = GpaRange::with_length(WINDOW, PciWindow::SIZE).unwrap();
    let backends = (0..count).map(|_| {
        Box::new(EntropyDevice::new(|into: &mut [u8]| {
            into.fill(7);
            Ok(())
        })) as Box<dyn Backend>
    });
    PciHost::new(Bus {
        window: PciWindow::new(range).unwrap(),
        backends: backends.collect(),
    })
}

#[test]
fn the_enable_bit_reads_back_as_drivers_probe_it() {
    let mut host: PciHost = PciHost::default();
    host.set_address(0x8000_0000);
    assert_eq!(host.address(), 0x8000_0000);
    host.set_address(u32::MAX);
    assert_eq!(host.address(), 0x80FF_FFFC);
}

#[test]
fn there_is_a_host_bridge_and_nothing_else() {
    let mut host: PciHost = PciHost::default();
    assert_eq!(data(&mut host, 0x8000_0000, 0, 4), 0x29C0_8086);
    assert_eq!(data(&mut host, 0x8000_0000, 2, 2), 0x29C0);
    assert_eq!(data(&mut host, 0x8000_0008, 2, 2), 0x0600);
    assert_eq!(data(&mut host, 0x8000_000C, 2, 1), 0, "one function");
    assert_eq!(data(&mut host, 0x8000_0010, 0, 4), 0, "no BAR");
    for absent in [0x8000_0100, 0x8000_0800, 0x8001_0000, 0x8080_0000, 0] {
        assert_eq!(data(&mut host, absent, 0, 4), u32::MAX, "{absent:#x}");
    }
    for gpa in [0, WINDOW, 0xFFFF_FFFF] {
        assert!(!host.claims(gpa), "no window: {gpa:#x}");
    }
}

#[test]
fn devices_come_behind_the_bridge_by_ports_and_by_memory() {
    let mut host = with_devices(2);
    for (device, bars) in [(1, BARS), (2, BARS + 0x8000)] {
        let at = 0x8000_0000 | device << 11;
        assert_eq!(data(&mut host, at, 0, 4), 0x1044_1AF4);
        assert_eq!(data(&mut host, at | 8, 3, 1), 0xFF, "class");
        assert_eq!(u64::from(data(&mut host, at | 0x10, 0, 4)), bars);
        assert_eq!(data(&mut host, at | 0x100, 0, 4), u32::MAX, "function 1");
        let mapped = WINDOW + (u64::from(device) << 15);
        assert_eq!(memory(&mut host, mapped), 0x1044_1AF4);
        assert_eq!(memory(&mut host, mapped + 0x1000), u32::MAX);
        assert_eq!(
            memory(&mut host, mapped + 0x100),
            u32::MAX,
            "no extended space"
        );
    }
    assert_eq!(memory(&mut host, WINDOW), 0x29C0_8086);
    assert_eq!(memory(&mut host, WINDOW + 0x100), u32::MAX);
    for absent in [0x8000_1800, 0x8001_0800, 0x8000_F800] {
        assert_eq!(data(&mut host, absent, 0, 4), u32::MAX, "{absent:#x}");
    }
}

#[test]
fn a_bar_answers_inside_the_window_only() {
    let mut host = with_devices(1);
    assert_eq!(memory(&mut host, BARS + 0x12), u32::MAX, "not yet");
    write(&mut host, 0x8000_0804, 2);
    assert_eq!(
        memory(&mut host, BARS + 0x12) & 0xFFFF,
        1,
        "number of queues"
    );
    assert_eq!(memory(&mut host, BARS + 0x4800), 0, "pending bits");
    assert_eq!(
        memory(&mut host, BARS + 0x5000),
        u32::MAX,
        "behind the table"
    );
    assert_eq!(memory(&mut host, BARS + 0x8000), u32::MAX);
    // L2's memory, the TPM's window, interrupt controllers: nobody asks the bus for them, wherever a BAR is.
    for place in [0, 0x10_0000, 0xFED4_0000, 0xFEE0_0000, 0xFEC0_0000] {
        write(&mut host, 0x8000_0810, place);
        assert!(!host.claims(place.into()));
        assert_eq!(memory(&mut host, BARS + 0x12), u32::MAX, "moved away");
    }
    // Over configuration space: that comes first.
    write(&mut host, 0x8000_0810, WINDOW as u32);
    assert_eq!(memory(&mut host, WINDOW), 0x29C0_8086);
    host.reset();
    write(&mut host, 0x8000_0804, 2);
    assert_eq!(
        memory(&mut host, BARS + 0x12) & 0xFFFF,
        1,
        "a reset puts it back"
    );
}

#[test]
fn configuration_space_can_be_written_both_ways() {
    let mut host = with_devices(1);
    host.set_address(0x8000_0804);
    host.write(0xCFD, &[4]);
    assert_eq!(data(&mut host, 0x8000_0804, 0, 2), 0x0400);
    host.write_memory(WINDOW + 0x8004, &[6, 0]);
    assert_eq!(data(&mut host, 0x8000_0804, 0, 2), 0x0006);
    host.write_memory(WINDOW + 4, &[6, 0]);
    assert_eq!(data(&mut host, 0x8000_0004, 0, 2), 0, "the bridge's cannot");
}

#[test]
fn registers_are_reached_through_the_access_capability() {
    let mut host = with_devices(1);
    let mut at = data(&mut host, 0x8000_0834, 0, 1);
    while data(&mut host, 0x8000_0800 | at, 3, 1) != 5 {
        at = data(&mut host, 0x8000_0800 | at, 1, 1);
    }
    let access = 0x8000_0800 | at;
    write(&mut host, access + 4, 0);
    write(&mut host, access + 8, 0x12);
    write(&mut host, access + 12, 2);
    assert_eq!(data(&mut host, access + 16, 0, 2), 1, "number of queues");
    write(&mut host, access + 8, 0x14);
    write(&mut host, access + 12, 1);
    host.set_address(access + 16);
    host.write(0xCFC, &[1]);
    assert_eq!(data(&mut host, access + 16, 0, 1), 1, "status");
    for (bar, offset, length) in [(0, 0x4000, 4), (5, 0, 4), (0, u32::MAX, 4), (1, 0xFFD, 4)] {
        write(&mut host, access + 4, bar);
        write(&mut host, access + 8, offset);
        write(&mut host, access + 12, length);
        assert_eq!(data(&mut host, access + 16, 0, 4), 0);
    }
}

#[test]
fn no_more_devices_than_the_bus_has_places() {
    let host = with_devices(40);
    assert_eq!(host.functions().len(), 31);
    let none: PciHost = PciHost::new(Bus {
        window: PciWindow::default(),
        backends: vec![],
    });
    assert!(none.functions().is_empty());
}

#[test]
fn a_window_is_a_large_page_below_4_gib() {
    let window = |start, length| PciWindow::new(GpaRange::with_length(start, length).unwrap());
    assert!(window(0x39C0_0000, 0x20_0000).is_some());
    for (start, length) in [
        (0x39D0_0000, 0x20_0000),
        (0x39C0_0000, 0x10_0000),
        (1 << 32, 0x20_0000),
        (0, 0),
    ] {
        assert_eq!(window(start, length), None);
    }
}
