//! The host's virtio devices, by TDVMCALLs: what `virtio-host` has no test for is the way there.

use alloc::vec::Vec;

use tdx_defs::ghci::{CompletionStatus, DIRECTION_READ, DIRECTION_WRITE, sub_function};
use tdx_defs::tdg;
use tdx_defs::vp_enter::Gpr;
use virtio_defs::{block, console, pci as virtio, ring, status};
use x86_defs::pc::{PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA};
use x86_defs::pci;

use super::calls::{call, io};
use super::firmware::Code;
use super::l2::{expect, store};
use super::layout;
use super::script::Step;
use super::{Setup, Test};
use crate::host::End;
use crate::options::{Backing, Disk, Fault, Options, Wire};
use virtio_host::PlannedLie;

/// Device numbers.
const STATE_DISK: u8 = 1;
const CONSOLE: u8 = 2;
/// Where the BARs are put.
const REGISTERS: u64 = 0xD000_0000;
const NOTIFY: u64 = REGISTERS + 0x3000;
const TABLE: u64 = 0xD001_0000;
/// Offset of the MSI-X capability: of the host's own devices, and of QEMU's.
const MSIX: u8 = 0x84;
const QEMU_MSIX: u8 = 0x98;
const VECTOR: u8 = 0x52;

/// Shared memory: its GPA, and L1's address of it.
const MEMORY: u64 = layout::CONVERTIBLE;
const ALIAS: u64 = layout::SHARED_ALIAS + layout::CONVERTIBLE;
/// Offsets in it.
const DESCRIPTORS: u64 = 0;
const AVAILABLE: u64 = 0x100;
const USED: u64 = 0x200;
const HEADER: u64 = 0x1000;
const DATA: u64 = 0x2000;
const STATUS: u64 = 0x3000;
const QUEUE_SIZE: u64 = 8;
const VALUE: u64 = 0x1122_3344_5566_7788;

pub(super) fn tests() -> Vec<Test> {
    let disk = |options: &mut Options| {
        // What was asked for is taken: a file that shows what was written, a console that somebody hears.
        options.state_disk.get_or_insert(Disk {
            backing: Backing::Ram,
            length: 0x1_0000,
        });
    };
    let power_cut = PlannedLie::parse("cut:2").map(|lie| Fault::Virtio {
        device: "state".into(),
        lie,
    });
    let mut tests = Vec::from([
        Test::new("virtio-bus", bus).with_options(disk),
        Test::new("virtio-block", write_and_read).with_options(disk),
        Test::new("virtio-private", private).with_options(disk),
        Test::new("virtio-console", echo).with_options(|options| {
            options.console.get_or_insert(Wire::Echo);
        }),
    ]);
    tests.extend(power_cut.map(|fault| {
        Test::new("virtio-power-cut", write_twice)
            .with_options(disk)
            .with_fault(fault)
            .ending(|end| *end == End::PowerCut)
    }));
    tests
}

/// Tests of a disk of QEMU's, if one was given to the TD.
pub(super) fn tests_of_qemu(options: &Options) -> Vec<Test> {
    let disk = options.assigned.first().copied();
    let tests = disk.map(|disk| {
        [
            Test::new("virtio-qemu-block", move |setup| {
                write_and_read_of(setup, disk, QEMU_MSIX)
            }),
            Test::new("virtio-qemu-private", move |setup| {
                qemu_private(setup, disk)
            }),
            Test::new("virtio-qemu-converted", move |setup| {
                qemu_converted(setup, disk)
            }),
        ]
    });
    // QEMU's disk is at work in a thread of its own, for which nothing waits but the guest.
    let patient = |test: Test| test.with_options(|options| options.watchdog = 20_000);
    tests.into_iter().flatten().map(patient).collect()
}

fn select(device: u8, offset: u8) -> Step {
    let place = pci::CONFIG_ENABLE | u32::from(device) << 11 | u32::from(offset);
    io(
        "select",
        4,
        DIRECTION_WRITE,
        PCI_CONFIG_ADDRESS.into(),
        place.into(),
    )
}

fn configuration(device: u8, offset: u8, value: u32) -> [Step; 2] {
    let port = PCI_CONFIG_DATA.into();
    [
        select(device, offset),
        io("configure", 4, DIRECTION_WRITE, port, value.into()),
    ]
}

fn configured(what: &'static str, device: u8, offset: u8, value: u32) -> [Step; 2] {
    let read = io(what, 4, DIRECTION_READ, PCI_CONFIG_DATA.into(), 0);
    [select(device, offset), read.want(Gpr::R11, value.into())]
}

fn register(what: &'static str, gpa: u64, width: u64, value: u64) -> Step {
    call(what, sub_function::MMIO, CompletionStatus::Success)
        .set(Gpr::R12, width)
        .set(Gpr::R13, DIRECTION_WRITE)
        .set(Gpr::R14, gpa)
        .set(Gpr::R15, value)
}

fn register_is(what: &'static str, gpa: u64, width: u64, value: u64) -> Step {
    call(what, sub_function::MMIO, CompletionStatus::Success)
        .set(Gpr::R12, width)
        .set(Gpr::R13, DIRECTION_READ)
        .set(Gpr::R14, gpa)
        .set(Gpr::R15, 0)
        .want(Gpr::R11, value)
}

fn common(what: &'static str, offset: u32, width: u64, value: u64) -> Step {
    register(what, REGISTERS + u64::from(offset), width, value)
}

/// The bus has what was asked for, and nothing else.
fn bus(_: &Setup) -> Vec<Step> {
    let mut steps = Vec::new();
    let disk = 0x1042_1AF4;
    steps.extend(configured("a disk", STATE_DISK, pci::VENDOR_DEVICE, disk));
    steps.extend(configured(
        "no console",
        CONSOLE,
        pci::VENDOR_DEVICE,
        u32::MAX,
    ));
    steps.extend(configuration(STATE_DISK, pci::BAR + 16, u32::MAX));
    steps.extend(configured("16 KiB", STATE_DISK, pci::BAR + 16, 0xFFFF_C00C));
    steps.push(register_is("no BAR is on", REGISTERS, 4, 0xFFFF_FFFF));
    steps
}

/// Places the BARs, settles features, and sets queue 0 and, if there are, more up on rings one after the other.
fn start(setup: &Setup, device: u8, msix: u8, queues: u64) -> Vec<Step> {
    let (driver, ready) = (
        status::ACKNOWLEDGE | status::DRIVER,
        status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK,
    );
    let mut steps = Vec::from([call(
        "share memory",
        sub_function::MAP_GPA,
        CompletionStatus::Success,
    )
    .set(Gpr::R12, MEMORY | setup.shared_bit)
    .set(Gpr::R13, 2 << 20)]);
    let command = pci::COMMAND_MEMORY | pci::COMMAND_BUS_MASTER;
    let enable = u32::from(pci::MSIX_ENABLE) << 16;
    for (offset, value) in [
        (pci::BAR + 4, TABLE as u32),
        (pci::BAR + 16, REGISTERS as u32),
        (pci::BAR + 20, 0),
        (pci::COMMAND_STATUS, command.into()),
        (msix, enable),
    ] {
        steps.extend(configuration(device, offset, value));
    }
    steps.extend([
        register("address", TABLE, 8, 0xFEE0_0000),
        register("data, not masked", TABLE + 8, 8, VECTOR.into()),
        common("reset", virtio::COMMON_STATUS, 1, 0),
        common("driver", virtio::COMMON_STATUS, 1, driver.into()),
        common("upper half", virtio::COMMON_DRIVER_FEATURE_SELECT, 4, 1),
        common("features", virtio::COMMON_DRIVER_FEATURE, 4, 0b11),
        common("features", virtio::COMMON_STATUS, 1, ready.into()),
        register_is(
            "features",
            REGISTERS + u64::from(virtio::COMMON_STATUS),
            1,
            ready.into(),
        ),
    ]);
    for queue in 0..queues {
        let base = MEMORY + queue * 0x400;
        // The interrupt of a test is for what queue 0 brings.
        let vector = if queue == 0 { 0 } else { virtio::NO_VECTOR };
        steps.extend([
            common("queue", virtio::COMMON_QUEUE_SELECT, 2, queue),
            common("size", virtio::COMMON_QUEUE_SIZE, 2, QUEUE_SIZE),
            common("vector", virtio::COMMON_QUEUE_VECTOR, 2, vector.into()),
            common("ring", virtio::COMMON_QUEUE_DESC, 8, base + DESCRIPTORS),
            common("ring", virtio::COMMON_QUEUE_DRIVER, 8, base + AVAILABLE),
            common("ring", virtio::COMMON_QUEUE_DEVICE, 8, base + USED),
            common("enable", virtio::COMMON_QUEUE_ENABLE, 2, 1),
        ]);
    }
    let running = ready | status::DRIVER_OK;
    steps.push(common("run", virtio::COMMON_STATUS, 1, running.into()));
    steps
}

/// A descriptor of a queue.
fn descriptor(queue: u64, index: u64, gpa: u64, length: u64, flags: u16, next: u64) -> [Step; 2] {
    let at = ALIAS + queue * 0x400 + DESCRIPTORS + 16 * index;
    [
        store("address", at, gpa),
        store(
            "length",
            at + 8,
            length | u64::from(flags) << 32 | next << 48,
        ),
    ]
}

/// A request of a disk, and the wait for its interrupt; `available` is how many there were then.
fn request(kind: u32, sector: u64, data: u64, available: u64) -> Vec<Step> {
    let write = match kind {
        block::TYPE_IN => ring::DESCRIPTOR_WRITE,
        _ => 0,
    };
    let (next, status) = (ring::DESCRIPTOR_NEXT, ring::DESCRIPTOR_WRITE);
    let mut steps = Vec::from([
        store("kind", ALIAS + HEADER, kind.into()),
        store("sector", ALIAS + HEADER + 8, sector),
        store("no status", ALIAS + STATUS, 0xFF),
    ]);
    steps.extend(descriptor(0, 0, MEMORY + HEADER, 16, next, 1));
    steps.extend(descriptor(0, 1, data, 512, next | write, 2));
    steps.extend(descriptor(0, 2, MEMORY + STATUS, 1, status, 0));
    // Flags, index, heads: all of chain 0.
    steps.push(store("available", ALIAS + AVAILABLE, available << 16));
    steps.push(register("notify", NOTIFY, 2, 0));
    steps
}

/// The interrupt comes.
fn interrupt() -> Step {
    call("wait", sub_function::HLT, CompletionStatus::Success)
        .set(Gpr::R12, 0)
        .with_code(Code::StiTdcall)
        .interrupted(VECTOR)
}

fn write_and_read(setup: &Setup) -> Vec<Step> {
    write_and_read_of(setup, STATE_DISK, MSIX)
}

fn write_and_read_of(setup: &Setup, device: u8, msix: u8) -> Vec<Step> {
    let mut steps = start(setup, device, msix, 1);
    steps.push(store("data", ALIAS + DATA, VALUE));
    steps.push(store("data", ALIAS + DATA + 504, !VALUE));
    steps.extend(request(block::TYPE_OUT, 2, MEMORY + DATA, 1));
    steps.push(interrupt());
    steps.push(expect("written", ALIAS + STATUS, 0));
    steps.push(expect("used", ALIAS + USED, 1 << 16));
    steps.push(store("data", ALIAS + DATA, 0));
    steps.push(store("data", ALIAS + DATA + 504, 0));
    steps.extend(request(block::TYPE_IN, 2, MEMORY + DATA, 2));
    steps.push(interrupt());
    steps.push(expect("read", ALIAS + STATUS, 0));
    steps.push(expect("data", ALIAS + DATA, VALUE));
    steps.push(expect("data", ALIAS + DATA + 504, !VALUE));
    steps.push(expect("used", ALIAS + USED, 2 << 16));
    steps
}

/// The host has no access to what is private, whatever L1 tells its device.
fn private(setup: &Setup) -> Vec<Step> {
    let mut steps = start(setup, STATE_DISK, MSIX, 1);
    steps.push(store("private data", layout::DATA, VALUE));
    steps.extend(request(block::TYPE_IN, 0, layout::DATA, 1));
    let place = REGISTERS + u64::from(virtio::COMMON_STATUS);
    steps.push(register_is("it needs a reset", place, 1, 0x4F));
    steps.push(expect("private data", layout::DATA, VALUE));
    steps.push(expect("no status", ALIAS + STATUS, 0xFF));
    steps.push(expect("not used", ALIAS + USED, 0));
    steps
}

/// QEMU's device does as it is told, and the IOMMU does not let it: the device says that all went well.
fn qemu_private(setup: &Setup, disk: u8) -> Vec<Step> {
    let mut steps = start(setup, disk, QEMU_MSIX, 1);
    steps.push(store("private data", layout::DATA, VALUE));
    steps.extend(request(block::TYPE_IN, 0, layout::DATA, 1));
    steps.push(interrupt());
    steps.push(expect("private data", layout::DATA, VALUE));
    steps
}

/// A page that was shared, and is private again, is out of a device's reach.
fn qemu_converted(setup: &Setup, disk: u8) -> Vec<Step> {
    const OTHER: u64 = MEMORY + (2 << 20);
    let mut steps = start(setup, disk, QEMU_MSIX, 1);
    let map = |what, gpa| {
        call(what, sub_function::MAP_GPA, CompletionStatus::Success)
            .set(Gpr::R12, gpa)
            .set(Gpr::R13, 2 << 20)
    };
    let alias = layout::SHARED_ALIAS + OTHER;
    steps.push(map("share more", OTHER | setup.shared_bit));
    steps.push(store("shared data", alias, VALUE));
    steps.extend(request(block::TYPE_IN, 0, OTHER, 1));
    steps.push(interrupt());
    steps.push(expect("read", alias, 0));
    steps.push(map("private again", OTHER));
    steps.push(
        Step::tdcall("accept", tdg::MEM_PAGE_ACCEPT)
            .set(Gpr::Rcx, OTHER | 1)
            .want(Gpr::Rax, 0),
    );
    steps.push(store("private data", OTHER, VALUE));
    steps.extend(request(block::TYPE_IN, 0, OTHER, 2));
    steps.push(interrupt());
    steps.push(expect("private data", OTHER, VALUE));
    steps
}

/// The power fails at the second request that writes, within the notification.
fn write_twice(setup: &Setup) -> Vec<Step> {
    let mut steps = start(setup, STATE_DISK, MSIX, 1);
    steps.extend(request(block::TYPE_OUT, 2, MEMORY + DATA, 1));
    steps.push(interrupt());
    steps.extend(request(block::TYPE_OUT, 3, MEMORY + DATA, 2));
    steps
}

/// What the console sends comes back: one byte, because more may come one by one.
fn echo(setup: &Setup) -> Vec<Step> {
    let (receive, transmit) = (
        u64::from(console::QUEUE_RECEIVE),
        u64::from(console::QUEUE_TRANSMIT),
    );
    let available = |queue: u64| {
        let at = ALIAS + queue * 0x400 + AVAILABLE;
        store("available", at, 1 << 16)
    };
    let mut steps = start(setup, CONSOLE, MSIX, 2);
    let writable = ring::DESCRIPTOR_WRITE;
    steps.extend(descriptor(receive, 0, MEMORY + DATA, 64, writable, 0));
    steps.push(available(receive));
    steps.push(register("notify", NOTIFY, 2, receive));
    steps.push(store("a byte", ALIAS + HEADER, b'!'.into()));
    steps.push(store("room", ALIAS + DATA, 0));
    steps.extend(descriptor(transmit, 0, MEMORY + HEADER, 1, 0, 0));
    steps.push(available(transmit));
    steps.push(register("notify", NOTIFY + 4, 2, transmit));
    steps.push(interrupt());
    steps.push(expect("it comes back", ALIAS + DATA, b'!'.into()));
    steps.push(expect("length", ALIAS + USED + 8, 1));
    steps
}
