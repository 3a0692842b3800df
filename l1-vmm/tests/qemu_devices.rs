//! L1's drivers on QEMU's devices: code of other people for the other end, so that no misreading of VIRTIO is in both.
//!
//! QEMU's processor halts. Ports, registers and memory are reached by qtest, in place of the TDVMCALLs and the
//! shared pages of a TD.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test"
)]

use clients::qemu::Machine;
use l1_vmm::launch::e820::{E820Entry, E820Kind, E820Map};
use l1_vmm::launch::gpa_range::GpaRange;
use l1_vmm::virtio::block::{Block, BlockError, Limits};
use l1_vmm::virtio::clock::{Deadline, Nanoseconds};
use l1_vmm::virtio::console::Console;
use l1_vmm::virtio::devices::{Devices, STATE_DISK, StateDiskError};
use l1_vmm::virtio::pci::{BarWindow, Function, HostPci};
use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::rc::Rc;
use std::sync::LazyLock;
use std::thread;
use std::time::Instant;
use tdcall::SharedBuffer;
use tdcall::tdvmcall::VmcallError;
use tdx_defs::ghci::MmioWidth;
use x86_defs::pc::{PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA};

const MEMORY: u64 = 64 << 20;
/// Where queues and buffers are.
const POOL: u64 = 1 << 20;
const SECTORS: u64 = 4096;
/// Generous: a machine that runs other tests as well.
const LIMITS: Limits = Limits {
    attempt: 30_000_000_000,
    reset: 30_000_000_000,
    ..Limits::DISK
};

type Disk = Block<Host, Memory, Nanoseconds>;
type Port = Console<Host, Memory, Nanoseconds>;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
const CLOCK: Nanoseconds = Nanoseconds(|| START.elapsed().as_nanos() as u64);

#[derive(Clone, Debug)]
struct Host(Rc<RefCell<Machine>>);

impl Host {
    fn select(&self, function: Function, offset: u8) {
        let place = u32::from_be_bytes([0x80, function.bus, function.device_function, offset]);
        let mut machine = self.0.borrow_mut();
        machine.port_write(PCI_CONFIG_ADDRESS, place).unwrap();
    }
}

impl HostPci for Host {
    fn config_read(&self, function: Function, offset: u8) -> Result<u32, VmcallError> {
        self.select(function, offset);
        Ok(self.0.borrow_mut().port_read(PCI_CONFIG_DATA).unwrap())
    }
    fn config_write(&self, function: Function, offset: u8, value: u32) -> Result<(), VmcallError> {
        self.select(function, offset);
        let mut machine = self.0.borrow_mut();
        machine.port_write(PCI_CONFIG_DATA, value).unwrap();
        Ok(())
    }
    fn register_read(&self, gpa: u64, width: MmioWidth) -> Result<u64, VmcallError> {
        let mut machine = self.0.borrow_mut();
        Ok(machine.register_read(gpa, width.bytes()).unwrap())
    }
    fn register_write(&self, gpa: u64, width: MmioWidth, value: u64) -> Result<(), VmcallError> {
        let mut machine = self.0.borrow_mut();
        machine.register_write(gpa, width.bytes(), value).unwrap();
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Memory {
    host: Host,
    gpa: u64,
    length: usize,
}

impl SharedBuffer for Memory {
    fn gpa(&self) -> u64 {
        self.gpa
    }
    fn length(&self) -> usize {
        self.length
    }
    fn read(&self, offset: usize, into: &mut [u8]) {
        assert!(offset + into.len() <= self.length);
        let mut machine = self.host.0.borrow_mut();
        machine.memory_read(self.gpa + offset as u64, into).unwrap();
    }
    fn write(&self, offset: usize, from: &[u8]) {
        assert!(offset + from.len() <= self.length);
        let mut machine = self.host.0.borrow_mut();
        machine
            .memory_write(self.gpa + offset as u64, from)
            .unwrap();
    }
}

/// A machine with the devices that the arguments name.
fn machine(arguments: &[&str]) -> (Host, Devices<Host>) {
    let host = Host(Rc::new(RefCell::new(Machine::start(arguments).unwrap())));
    let devices = find(&host);
    (host, devices)
}

fn find(host: &Host) -> Devices<Host> {
    let mut map = E820Map::new();
    map.push(E820Entry {
        range: GpaRange::new(0, MEMORY).unwrap(),
        kind: E820Kind::Memory,
    })
    .unwrap();
    Devices::find(host, &mut BarWindow::beside_memory(&map, &[])).unwrap()
}

fn memory(host: &Host, length: usize) -> Memory {
    Memory {
        host: host.clone(),
        gpa: POOL,
        length,
    }
}

fn state_disk(host: &Host, devices: &mut Devices<Host>) -> Result<Disk, StateDiskError> {
    devices.state_disk(&memory(host, Disk::MEMORY_MAX), &CLOCK, LIMITS)
}

/// The arguments for a disk of this file.
fn drive(file: &Path, options: &str) -> String {
    let file = file.display();
    format!("if=none,id=state,format=raw,cache=writeback,file={file}{options}")
}

fn device(options: &str) -> String {
    format!("virtio-blk-pci,drive=state,serial={STATE_DISK},addr=4{options}")
}

#[test]
fn a_disk_is_found_by_its_name_and_keeps_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (root, state) = (folder.path().join("root"), folder.path().join("state"));
    for file in [&root, &state] {
        fs::write(file, vec![0; SECTORS as usize * 512]).unwrap();
    }
    // On the root bus QEMU's devices are transitional unless told otherwise; with iommu_platform they ask for
    // ACCESS_PLATFORM.
    for kind in [
        "",
        ",disable-legacy=on",
        ",iommu_platform=on,disable-legacy=on",
        ",event_idx=off,indirect_desc=off",
        ",queue-size=4,packed=on",
    ] {
        let other = format!("if=none,id=root,format=raw,file={}", root.display());
        let (host, mut devices) = machine(&[
            "-drive",
            &other,
            "-device",
            "virtio-blk-pci,drive=root,serial=tdp-vtpm-statx,addr=2",
            "-drive",
            &drive(&state, ""),
            "-device",
            &device(kind),
        ]);
        let mut disk = state_disk(&host, &mut devices).unwrap();
        let left: Vec<_> = devices.iter().map(|found| found.function).collect();
        assert_eq!(left.len(), 1, "{kind}");
        assert_eq!(left[0].to_string(), "00:02.0");
        assert_eq!(disk.sectors(), SECTORS);
        // More than the buffers hold, at a place that no page begins at.
        let bytes: Vec<u8> = (0..200 * 512_u32)
            .map(|i| (i % 253) as u8 ^ kind.len() as u8)
            .collect();
        disk.write(7, &bytes).unwrap();
        disk.flush().unwrap();
        let stored = fs::read(&state).unwrap();
        assert_eq!(stored[7 * 512..207 * 512], bytes, "{kind}");
        let mut read = vec![0; bytes.len()];
        disk.read(7, &mut read).unwrap();
        assert_eq!(read, bytes, "{kind}");
        let mut last = [1; 512];
        disk.read(SECTORS - 1, &mut last).unwrap();
        assert_eq!(last, [0; 512]);
        let range = disk.read(SECTORS, &mut last);
        assert!(matches!(range, Err(BlockError::Range { .. })));
        // Reset, and started again.
        let mut disk = Block::open(
            disk.close(),
            memory(&host, Disk::MEMORY_MIN),
            CLOCK,
            "disk",
            0,
            LIMITS,
        )
        .map_err(|returned| returned.error)
        .unwrap();
        disk.read(7, &mut read).unwrap();
        assert_eq!(read, bytes, "{kind}, one request at a time");
    }
    assert_eq!(fs::read(&root).unwrap(), vec![0; SECTORS as usize * 512]);
}

#[test]
fn a_disk_that_cannot_be_written_is_no_state_disk() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::write(&state, vec![0; SECTORS as usize * 512]).unwrap();
    let (host, mut devices) = machine(&[
        "-drive",
        &drive(&state, ",readonly=on"),
        "-device",
        &device(""),
    ]);
    let error = state_disk(&host, &mut devices).unwrap_err();
    assert_eq!(error, StateDiskError::ReadOnly);
    let (host, mut devices) = machine(&[]);
    let error = state_disk(&host, &mut devices).unwrap_err();
    assert_eq!(error, StateDiskError::Absent);
    assert_eq!(devices.iter().count(), 0);
}

#[test]
fn errors_of_the_disk_below_are_told_and_pass() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::write(&state, vec![0; SECTORS as usize * 512]).unwrap();
    // The first read fails, and the first flush.
    let rules = folder.path().join("rules");
    let rule = |kind| {
        format!(
            "[inject-error]\nevent = \"none\"\niotype = \"{kind}\"\nerrno = \"5\"\nonce = \"on\"\n"
        )
    };
    fs::write(&rules, rule("read") + &rule("flush")).unwrap();
    let blkdebug = format!(
        "if=none,id=state,driver=raw,file.driver=blkdebug,file.config={},file.image.driver=file,\
         file.image.filename={},rerror=report,werror=report",
        rules.display(),
        state.display()
    );
    let (host, mut devices) = machine(&["-drive", &blkdebug, "-device", &device("")]);
    let mut disk = state_disk(&host, &mut devices).unwrap();
    let mut sector = [1; 512];
    disk.read(0, &mut sector).unwrap();
    assert_eq!(sector, [0; 512], "the second attempt");
    disk.write(0, &[3; 512]).unwrap();
    assert_eq!(disk.flush(), Err(BlockError::Io));
    disk.flush().unwrap();
}

#[test]
fn bytes_go_over_a_console_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    // QEMU connects: as a server it would drop what comes before somebody is there.
    let listener = UnixListener::bind(&socket).unwrap();
    let far_end = format!("socket,id=broker,path={}", socket.display());
    for ports in ["max_ports=1", "max_ports=4"] {
        let console = format!("virtio-serial-pci,id=serial,addr=6,{ports}");
        let (host, mut devices) = machine(&[
            "-chardev",
            &far_end,
            "-device",
            &console,
            "-device",
            "virtconsole,bus=serial.0,nr=0,chardev=broker",
        ]);
        let (mut stream, _) = listener.accept().unwrap();
        // Each message comes back, turned round.
        let far = thread::spawn(move || {
            let mut length = [0; 4];
            while stream.read_exact(&mut length).is_ok() {
                let mut message = vec![0; u32::from_le_bytes(length) as usize];
                stream.read_exact(&mut message).unwrap();
                message.reverse();
                stream.write_all(&message).unwrap();
            }
        });
        let memory = memory(&host, Port::MEMORY_MAX);
        let mut port = devices.broker_channel(memory, CLOCK).unwrap();
        for length in [1, 100, 100_000_u32] {
            let message: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let deadline = Deadline::after(&CLOCK, LIMITS.attempt);
            let framed = [&length.to_le_bytes()[..], &message].concat();
            port.send(&framed, &deadline).unwrap();
            let mut answer = Vec::new();
            while answer.len() < message.len() {
                let mut part = [0; 5000];
                let count = port.receive(&mut part, &deadline).unwrap();
                answer.extend_from_slice(&part[..count]);
            }
            answer.reverse();
            assert_eq!(answer, message, "{ports}");
        }
        let deadline = Deadline::after(&CLOCK, 1_000_000);
        let nothing = port.receive(&mut [0], &deadline);
        assert!(nothing.is_err_and(|error| error.is_time_out()));
        port.restart().unwrap();
        drop((port, host, devices));
        far.join().unwrap();
    }
}
