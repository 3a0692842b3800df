//! The host's virtio devices (`virtio-host`): where their bytes are, and how their interrupts get to L1.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use x86_defs::pc::{PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA};
use x86_defs::pci::{self, lpc};

use virtio_host::{
    Block, Bus, Channel, Console, Function, Lie, Memory, Network, NotShared, Services, Sockets,
    Store, When,
};

use super::assigned::AssignedFunctions;
use super::memory::TdMemory;
use super::{End, Host};
use crate::arch::cpu::rdtsc;
use crate::arch::memory::{self, DeviceMemory};
use crate::arch::pci::Window;
use crate::arch::serial::Serial;
use crate::hardware::Timer;
use crate::json::Object;
use crate::options::{self, Backing, Disk, Fault, Options, Wire};

/// Device numbers on the bus that L1 sees; the state disk's is an option. Sockets for the key broker are in the console's
/// place.
const CONSOLE: u8 = 2;
const NETWORK: u8 = 3;
const FIRST_DISK: u8 = 4;
const LAST_DISK: u8 = 26;
/// Behind the console of L1's own, which is the first.
const FIRST_GUEST_CONSOLE: u8 = 27;
const LAST_GUEST_CONSOLE: u8 = 29;
const VSOCK: u8 = 30;

/// L1's own address, and the port that it reaches the key broker at.
const BROKER_CID: u64 = 4;
const BROKER_PORT: u32 = 7470;

/// The Ethernet address of the TD's side of the network.
const ETHERNET: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// The LPC bridge.
const LPC: u8 = 31;

/// What GET_ID says of the state disk; of the guest's disks, `disk` and a number.
const STATE_DISK_NAME: &str = "tdp-vtpm-state";

/// The bus with its devices.
#[derive(Debug)]
pub(super) struct Devices {
    bus: Bus,
    /// Names for options and records.
    names: Vec<(u8, String)>,
    assigned: AssignedFunctions,
    /// CONFIG_ADDRESS, which functions of either kind are found by.
    address: u32,
    /// PMBASE of the LPC bridge, as nobody has set it after a reset.
    power_management: u32,
    /// Exits are counted for a storm of interrupts.
    storm: bool,
    /// A device lies by the guest's marks.
    marks: bool,
}

impl Devices {
    /// The devices that the options ask for.
    pub(super) fn new(options: &Options, memory: &mut TdMemory) -> Result<Self, String> {
        let mut devices = Self {
            bus: Bus::new(),
            names: Vec::new(),
            assigned: AssignedFunctions::new(&options.assigned, memory)?,
            address: 0,
            power_management: 0,
            storm: false,
            marks: false,
        };
        let mut window = Window::new();
        let mut disk = |disk: &Disk, name: &str| {
            let content = Content::open(disk, memory, &mut window)?;
            Ok::<_, String>(Function::new(Block::new(content, name)))
        };
        if let Some(state) = &options.state_disk {
            let function = disk(state, STATE_DISK_NAME)?;
            devices.add(options.state_place, "state".into(), function, options);
        }
        for (place, (number, guest)) in
            (FIRST_DISK..=LAST_DISK).zip(options.disks.iter().enumerate())
        {
            let name = format!("disk{number}");
            let told = options.disk_name.as_ref().filter(|_| number == 0);
            let function = disk(guest, told.unwrap_or(&name))?;
            devices.add(place, name, function, options);
        }
        if options.console.is_some() && options.broker_vsock.is_some() {
            return Err("console= and broker-vsock= are the same channel".into());
        }
        if let Some(wire) = options.console {
            devices.add(CONSOLE, "console".into(), console(wire), options);
        }
        if let Some(wire) = options.broker_vsock {
            let sockets = Sockets::new(BROKER_CID);
            let sockets = match wire {
                Wire::Serial(line) => sockets.with_channel(BROKER_PORT, Serial::start(line)),
                Wire::Echo => sockets.with_channel(BROKER_PORT, Echo::default()),
                Wire::Nobody => sockets.with_channel(BROKER_PORT, Nobody),
            };
            let function = Function::new(sockets);
            devices.add(CONSOLE, "broker-vsock".into(), function, options);
        }
        for (place, (number, &wire)) in (FIRST_GUEST_CONSOLE..=LAST_GUEST_CONSOLE)
            .zip(options.guest_consoles.iter().enumerate())
        {
            let name = format!("guest-console{number}");
            devices.add(place, name, console(wire), options);
        }
        match options.network {
            None => {}
            Some(options::Network::Services) => {
                // A tick is a nanosecond.
                let network = Network::new(Services::new(rdtsc), ETHERNET);
                devices.add(NETWORK, "network".into(), Function::new(network), options);
            }
        }
        if let Some(cid) = options.vsock {
            let sockets = Function::new(Sockets::new(cid));
            devices.add(VSOCK, "vsock".into(), sockets, options);
        }
        for fault in &options.faults {
            if let Fault::Virtio { device, .. } = fault
                && !devices.names.iter().any(|(_, name)| name == device)
            {
                return Err(format!("there is no virtio device {device:?} to misbehave"));
            }
        }
        Ok(devices)
    }

    fn add(&mut self, place: u8, name: String, mut function: Function, options: &Options) {
        for fault in &options.faults {
            if let Fault::Virtio { device, lie } = fault
                && *device == name
            {
                self.storm |= matches!(lie.lie, Lie::Storm(_));
                self.marks |= matches!(lie.when, When::Marks { .. });
                function = function.with_lie(*lie);
            }
        }
        self.bus.add(place, function);
        self.names.push((place, name));
    }

    /// A doubleword of the LPC bridge, which every q35 machine has; none if `device` is another.
    fn bridge(&self, device: u8, offset: u8) -> Option<u32> {
        const ISA_BRIDGE: u32 = 0x06_0100;
        (device == LPC).then_some(match offset {
            pci::VENDOR_DEVICE => pci::ICH9_LPC,
            pci::CLASS_REVISION => ISA_BRIDGE << 8,
            lpc::PMBASE => self.power_management | lpc::PMBASE_IO,
            _ => 0,
        })
    }

    /// The port that is PM1_CNT, once somebody has said where the power management block is (QEMU: hw/isa/lpc_ich9.c).
    pub(super) fn pm1_control(&self) -> Option<u16> {
        let base = self.power_management as u16;
        (base != 0).then(|| base + lpc::PM1_CNT)
    }

    /// IN; none if the port is not the bus's.
    pub(super) fn port_read(&mut self, port: u16, bytes: u32) -> Option<u32> {
        if let Some((device, offset, shift)) = self.assigned_place(port, bytes)
            && let Some(value) = self.bridge(device, offset)
        {
            return Some(value >> shift & (u32::MAX >> (32 - 8 * bytes)));
        }
        if let Some((device, offset, shift)) = self.assigned_place(port, bytes)
            && let Some(value) = self.assigned.configuration_read(device, offset)
        {
            return Some(value >> shift & (u32::MAX >> (32 - 8 * bytes)));
        }
        self.bus.port_read(port, bytes)
    }

    /// Writes configuration space of an assigned function, if the access is one.
    fn assigned_write(&mut self, port: u16, bytes: u32, value: u32) -> Option<()> {
        if (port, bytes) == (PCI_CONFIG_ADDRESS, 4) {
            self.address = value;
            // The bus keeps it as well.
            return None;
        }
        let (device, offset, shift) = self.assigned_place(port, bytes)?;
        if (device, offset, bytes) == (LPC, lpc::PMBASE, 4) {
            self.power_management = value & lpc::PMBASE_ADDRESS;
        }
        if device == LPC {
            return Some(());
        }
        let now = self.assigned.configuration_read(device, offset)?;
        let mask = (u32::MAX >> (32 - 8 * bytes)) << shift;
        let value = now & !mask | value << shift & mask;
        self.assigned.configuration_write(device, offset, value)
    }

    /// Device number, offset of the doubleword and bits to shift of an access to CONFIG_DATA.
    fn assigned_place(&self, port: u16, bytes: u32) -> Option<(u8, u8, u32)> {
        let at = u32::from(port.checked_sub(PCI_CONFIG_DATA)?);
        let [offset, device_function, bus, enable] = self.address.to_le_bytes();
        let enabled = enable == (pci::CONFIG_ENABLE >> 24) as u8;
        let here = enabled && bus == 0 && device_function & 7 == 0 && at + bytes <= 4;
        here.then_some((device_function >> 3, offset & !3, 8 * at))
    }

    /// Whether a device wants to know of the guest's marks.
    pub(super) fn hear_marks(&self) -> bool {
        self.marks
    }

    /// Whether input may come that has an interrupt.
    pub(super) fn can_wake(&self) -> bool {
        self.bus.hears_the_outside() || self.assigned.can_wake()
    }

    /// What each device did, for the record at the end; none without devices.
    pub(super) fn figures(&self) -> Option<Object> {
        let functions = self.names.iter().filter_map(|(place, name)| {
            let function = self.bus.function(*place)?;
            Some((name, function.statistics()))
        });
        let all = functions.fold(Object::new(), |all, (name, did)| {
            let figures = Object::new()
                .number("notifications", did.notifications)
                .number("requests", did.requests)
                .number("completions", did.completions)
                .number("bytes", did.bytes)
                .number("interrupts", did.interrupts)
                .number("resets", did.resets)
                .number("violations", did.violations);
            all.object(name, figures)
        });
        (!self.names.is_empty()).then_some(all)
    }
}

impl Host {
    /// OUT to the bus; false if the port is not the bus's.
    pub(super) fn device_port_write(&mut self, port: u16, bytes: u32, value: u32) -> bool {
        if let Some(()) = self.devices.assigned_write(port, bytes, value) {
            return true;
        }
        let memory = Shared(&self.memory);
        let written = self.devices.bus.port_write(port, bytes, value, &memory);
        self.deliver();
        written.is_some()
    }

    /// A read of a BAR; none if there is none.
    pub(super) fn device_read(&mut self, gpa: u64, bytes: u32) -> Option<u64> {
        self.wait_for_device(gpa, bytes);
        let own = self.devices.bus.read(gpa, bytes);
        own.or_else(|| self.devices.assigned.read(gpa, bytes))
    }

    /// Nothing happens until a slow device answers to a read.
    fn wait_for_device(&mut self, gpa: u64, bytes: u32) {
        let nanoseconds = self.devices.bus.read_time(gpa, bytes);
        if nanoseconds == 0 {
            return;
        }
        // A tick is a nanosecond.
        let until = rdtsc().saturating_add(nanoseconds);
        self.hardware.set_deadline(Timer::Device, Some(until));
        while rdtsc() < until {
            self.hardware.wait();
        }
        self.hardware.set_deadline(Timer::Device, None);
    }

    /// A write to a BAR, if there is one.
    pub(super) fn device_write(&mut self, gpa: u64, bytes: u32, value: u64) {
        let memory = Shared(&self.memory);
        let own = self.devices.bus.write(gpa, bytes, value, &memory);
        let written = own.or_else(|| self.devices.assigned.write(gpa, bytes, value));
        if written.is_some() {
            self.ports.note_progress();
            self.deliver();
        }
    }

    /// QEMU's devices sent messages.
    pub(super) fn pass_messages(&mut self, came: u64) {
        for message in self.devices.assigned.messages(came) {
            if let Some((apic_id, vector)) = message.interrupt() {
                self.post_to_apic(apic_id.into(), vector);
            }
        }
    }

    /// Lets QEMU's devices reach what has become shared of a range.
    pub(super) fn give_to_devices(&mut self, range: Range<u64>) -> Result<(), String> {
        self.devices.assigned.shared(range, &mut self.memory)
    }

    /// Takes from QEMU's devices what is to become private.
    pub(super) fn take_from_devices(&mut self, range: Range<u64>) -> Result<(), String> {
        self.devices.assigned.private(range)
    }

    /// Something came from outside.
    pub(super) fn poll_devices(&mut self) {
        self.devices.bus.poll(&Shared(&self.memory));
        self.deliver();
    }

    /// The guest makes a mark.
    pub(super) fn mark_devices(&mut self, value: u8) {
        self.devices.bus.mark(value);
        self.deliver();
    }

    /// The TD has left to the host.
    pub(super) fn count_exit_for_devices(&mut self) {
        if self.devices.storm {
            self.devices.bus.exited();
            self.deliver();
        }
    }

    /// The end of the run, if a disk has cut the power.
    pub(super) fn power_cut(&self) -> Option<End> {
        (!self.devices.bus.has_power()).then_some(End::PowerCut)
    }

    fn deliver(&mut self) {
        for message in self.devices.bus.take_messages() {
            if let Some((apic_id, vector)) = message.interrupt() {
                self.post_to_apic(apic_id.into(), vector);
            }
        }
    }
}

/// What the TD shares with the host.
struct Shared<'a>(&'a TdMemory);

impl Shared<'_> {
    /// Calls `access` with machine address, offset and length of each piece.
    fn pieces(
        &self,
        gpa: u64,
        length: usize,
        mut access: impl FnMut(u64, usize, usize),
    ) -> Result<(), NotShared> {
        let mut done = 0;
        while done < length {
            let at = gpa.checked_add(done as u64).ok_or(NotShared(gpa))?;
            let (hpa, room) = self.0.shared(at).ok_or(NotShared(at))?;
            let piece = (length - done).min(room as usize);
            access(hpa, done, piece);
            done += piece;
        }
        Ok(())
    }
}

impl Memory for Shared<'_> {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), NotShared> {
        self.pieces(gpa, into.len(), |hpa, at, length| {
            memory::read(hpa, &mut into[at..at + length]);
        })
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), NotShared> {
        self.pieces(gpa, from.len(), |hpa, at, length| {
            memory::write(hpa, &from[at..at + length]);
        })
    }
}

/// Where the bytes of a disk are.
#[derive(Debug)]
enum Content {
    /// In the machine's memory: they are lost with the run.
    Ram { hpa: u64, length: u64 },
    /// In a file that QEMU maps.
    File { memory: DeviceMemory, length: u64 },
}

impl Content {
    fn open(disk: &Disk, memory: &mut TdMemory, window: &mut Window) -> Result<Self, String> {
        let length = disk.length;
        match disk.backing {
            Backing::Ram => {
                let hpa = memory
                    .take_frames(length)
                    .map_err(|error| format!("a disk of {length} bytes: {error}"))?;
                crate::arch::memory::zero(hpa, length);
                Ok(Self::Ram { hpa, length })
            }
            Backing::File { device } => {
                let memory = window.shared_memory(device);
                let memory = memory.filter(|memory| memory.length() >= length);
                let memory = memory.ok_or_else(|| {
                    format!("QEMU has no ivshmem-plain of {length} bytes at 00:{device:02x}.0")
                })?;
                Ok(Self::File { memory, length })
            }
        }
    }
}

impl Store for Content {
    fn length(&self) -> u64 {
        let (Self::Ram { length, .. } | Self::File { length, .. }) = self;
        *length
    }

    fn read(&self, offset: u64, into: &mut [u8]) {
        match self {
            Self::Ram { hpa, .. } => memory::read(hpa + offset, into),
            Self::File { memory, .. } => memory.read(offset, into),
        }
    }

    fn write(&mut self, offset: u64, from: &[u8]) {
        match self {
            Self::Ram { hpa, .. } => memory::write(*hpa + offset, from),
            Self::File { memory, .. } => memory.write(offset, from),
        }
    }
}

/// A console, connected.
fn console(wire: Wire) -> Function {
    match wire {
        Wire::Serial(line) => Function::new(Console::new(Serial::start(line))),
        Wire::Echo => Function::new(Console::new(Echo::default())),
        Wire::Nobody => Function::new(Console::new(Nobody)),
    }
}

impl Channel for Serial {
    fn send(&mut self, byte: u8) -> bool {
        self.send(byte)
    }

    fn receive(&mut self) -> Option<u8> {
        self.receive()
    }
}

/// A wire whose ends are connected.
#[derive(Debug, Default)]
struct Echo(VecDeque<u8>);

impl Channel for Echo {
    fn send(&mut self, byte: u8) -> bool {
        self.0.push_back(byte);
        true
    }

    fn receive(&mut self) -> Option<u8> {
        self.0.pop_front()
    }
}

/// A wire that nobody is at the other end of.
#[derive(Debug)]
struct Nobody;

impl Channel for Nobody {
    fn send(&mut self, _byte: u8) -> bool {
        true
    }

    fn receive(&mut self) -> Option<u8> {
        None
    }
}
