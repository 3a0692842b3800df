//! A bus with several devices.

use super::*;
use crate::virtio::buffers::QueueError;
use crate::virtio::model::ModelClock;
use crate::virtio::model::device::{FUNCTION, ModelHost, window};
use crate::virtio::model::memory::Shared;
use crate::virtio::model::socket;
use crate::virtio::pci::Structure;
use crate::virtio::stream::StreamError;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use core::cell::{Cell, RefCell};
use tdcall::tdvmcall::VmcallError;
use tdx_defs::ghci::MmioWidth;
use virtio_defs::feature;

const FEATURES: u64 = feature::VERSION_1 | block::FEATURE_FLUSH;
const LIMITS: Limits = Limits {
    attempt: 10_000_000,
    ..Limits::DISK
};

/// A bus: clones are the same one.
#[derive(Clone, Debug, Default)]
struct Bus {
    models: Rc<RefCell<Vec<(Function, ModelHost)>>>,
    reads: Rc<Cell<u32>>,
}

impl Bus {
    fn at(&self, function: Function) -> Option<ModelHost> {
        let models = self.models.borrow();
        let mut all = models.iter();
        all.find(|(place, _)| *place == function)
            .map(|(_, model)| model.clone())
    }

    fn of(&self, gpa: u64) -> ModelHost {
        let models = self.models.borrow();
        let mut all = models.iter().map(|(_, model)| model);
        let found = all.find(|model| model.model().answers_at(gpa));
        found.expect("an address of a device").clone()
    }

    fn add(&self, place: Function, model: ModelHost) {
        self.models.borrow_mut().push((place, model));
    }
}

impl HostPci for Bus {
    fn config_read(&self, function: Function, offset: u8) -> Result<u32, VmcallError> {
        self.reads.set(self.reads.get() + 1);
        match self.at(function) {
            Some(model) => model.config_read(FUNCTION, offset),
            None => Ok(u32::MAX),
        }
    }
    fn config_write(&self, function: Function, offset: u8, value: u32) -> Result<(), VmcallError> {
        match self.at(function) {
            Some(model) => model.config_write(FUNCTION, offset, value),
            None => Ok(()),
        }
    }
    fn register_read(&self, gpa: u64, width: MmioWidth) -> Result<u64, VmcallError> {
        self.of(gpa).register_read(gpa, width)
    }
    fn register_write(&self, gpa: u64, width: MmioWidth, value: u64) -> Result<(), VmcallError> {
        self.of(gpa).register_write(gpa, width, value)
    }
}

const fn place(device: u8, function: u8) -> Function {
    Function {
        bus: 0,
        device_function: device << 3 | function,
    }
}

/// A block device of 8 sectors that says a name.
fn disk(memory: &Shared, name: &[u8], offered: u64) -> ModelHost {
    let host = ModelHost::new(2, 1, offered, memory);
    let mut answer = vec![0; block::ID_LENGTH + 1];
    answer[..name.len()].copy_from_slice(name);
    let mut model = host.model();
    model.device_config[0] = 8;
    model.work = Box::new(move |memory, _, request| {
        let header = request.read(memory);
        match header[0] {
            8 => Some(request.write(memory, &answer)),
            _ => Some(request.write(memory, &[0; 513])),
        }
    });
    drop(model);
    host
}

fn console(memory: &Shared) -> ModelHost {
    ModelHost::new(3, 2, feature::VERSION_1, memory)
}

/// Memory, and a bus with a host bridge, two disks, a console and a network device.
fn bus() -> (Bus, Shared) {
    let memory = Shared::new(0x10_0000, 0x2_0000);
    let bus = Bus::default();
    let bridge = ModelHost::new(0, 1, 0, &memory);
    bridge.model().config[..4].copy_from_slice(&[0x86, 0x80, 0xC0, 0x29]);
    bus.add(place(0, 0), bridge);
    bus.add(place(2, 0), disk(&memory, b"root", FEATURES));
    bus.add(place(3, 0), console(&memory));
    bus.at(place(3, 0)).unwrap().model().config[0xE] = registers::HEADER_MULTI_FUNCTION;
    bus.add(
        place(3, 5),
        disk(&memory, STATE_DISK.as_bytes(), FEATURES | 1 << 40),
    );
    bus.add(
        place(31, 0),
        ModelHost::new(1, 2, feature::VERSION_1, &memory),
    );
    (bus, memory)
}

fn find(bus: &Bus) -> Devices<Bus> {
    Devices::find(bus, &mut window()).unwrap()
}

fn state_disk(
    devices: &mut Devices<Bus>,
    memory: &Shared,
) -> Result<Block<Bus, Shared, ModelClock>, StateDiskError> {
    devices.state_disk(memory, &ModelClock::default(), LIMITS)
}

fn kinds(devices: &Devices<Bus>) -> Vec<(Function, u16)> {
    devices.iter().map(|f| (f.function, f.kind)).collect()
}

#[test]
fn devices_are_found_and_those_of_l1_taken() {
    let (bus, memory) = bus();
    let mut devices = find(&bus);
    assert!(bus.reads.get() < 300, "{}", bus.reads.get());
    let all = [
        (place(2, 0), 2),
        (place(3, 0), 3),
        (place(3, 5), 2),
        (place(31, 0), 1),
    ];
    assert_eq!(kinds(&devices), all);
    let mut disk = state_disk(&mut devices, &memory).unwrap();
    assert_eq!(disk.sectors(), 8);
    disk.read(7, &mut [0; 512]).unwrap();
    let memory = Shared::new(0x20_0000, 0x8000);
    let clock = ModelClock::default();
    for host in bus.models.borrow().iter() {
        host.1.model().memory = memory.clone();
    }
    devices.broker_channel(memory, clock).unwrap();
    assert_eq!(kinds(&devices), [all[0], all[3]], "the others are left");
    // What nobody drives is in reset.
    assert_eq!(bus.at(place(2, 0)).unwrap().model().status, 0);
}

#[test]
fn types_are_told_and_nothing_is_done_to_the_devices() {
    let (bus, _) = bus();
    assert_eq!(types(&bus), [2, 3, 2, 1]);
    for (_, host) in bus.models.borrow().iter() {
        assert_eq!(host.model().status, 0);
    }
    assert!(bus.reads.get() < 60, "{}", bus.reads.get());
    assert!(types(&Bus::default()).is_empty());
    let config = |bus: &Bus| bus.at(place(2, 0)).unwrap().model().config;
    let before = config(&bus);
    types(&bus);
    assert_eq!(config(&bus), before);
}

#[test]
fn a_disk_is_the_state_disk_by_its_whole_name() {
    for (name, works) in [
        (&b"tdp-vtpm-state"[..], true),
        (b"tdp-vtpm-stat", false),
        (b"tdp-vtpm-state2", false),
        (b"tdp-vtpm-state\0disk", true),
        (b"", false),
        (b"tdp-vtpm-stateABCDEF", false),
    ] {
        let memory = Shared::new(0x10_0000, 0x2_0000);
        let bus = Bus::default();
        bus.add(place(1, 0), disk(&memory, name, FEATURES));
        let mut devices = find(&bus);
        let found = state_disk(&mut devices, &memory);
        match works {
            true => assert!(found.is_ok(), "{name:?}"),
            false => {
                assert_eq!(found.unwrap_err(), StateDiskError::Absent);
                assert_eq!(kinds(&devices), [(place(1, 0), 2)]);
            }
        }
    }
}

#[test]
fn a_state_disk_can_be_written_and_flushed() {
    for (offered, expected) in [
        (feature::VERSION_1, StateDiskError::NoFlush),
        (FEATURES | block::FEATURE_RO, StateDiskError::ReadOnly),
    ] {
        let memory = Shared::new(0x10_0000, 0x2_0000);
        let bus = Bus::default();
        bus.add(place(1, 0), disk(&memory, STATE_DISK.as_bytes(), offered));
        let mut devices = find(&bus);
        let found = state_disk(&mut devices, &memory);
        assert_eq!(found.unwrap_err(), expected);
        // Another one of that name may do.
        bus.add(place(4, 0), disk(&memory, STATE_DISK.as_bytes(), FEATURES));
        assert!(state_disk(&mut find(&bus), &memory).is_ok());
    }
}

#[test]
fn a_disk_that_does_not_tell_its_name_is_passed_over() {
    let (bus, memory) = bus();
    bus.at(place(2, 0)).unwrap().model().work = Box::new(|_, _, _| None);
    let mut devices = find(&bus);
    assert!(state_disk(&mut devices, &memory).is_ok());
    let (bus, memory) = self::bus();
    bus.at(place(2, 0)).unwrap().model().offered = 0;
    bus.at(place(3, 5)).unwrap().model().work = Box::new(|_, _, _| None);
    let mut devices = find(&bus);
    let error = state_disk(&mut devices, &memory).unwrap_err();
    assert_eq!(error, StateDiskError::Absent);
    assert_eq!(devices.iter().count(), 4);
}

#[test]
fn the_first_console_or_socket_is_the_channel() {
    let clock = ModelClock::default();
    let (bus, memory) = bus();
    bus.add(place(6, 0), socket::host(&memory, 3).0);
    bus.add(place(7, 0), console(&memory));
    let mut devices = find(&bus);
    let small = Shared::new(0x10_0000, 0x200);
    let channel = devices.broker_channel(small.clone(), clock.clone());
    assert_eq!(
        channel.unwrap_err(),
        ChannelError::Console(StreamError::Queue(QueueError::Memory))
    );
    assert_eq!(devices.iter().count(), 6, "it was put back");
    let channel = devices.broker_channel(memory.clone(), clock.clone());
    assert!(matches!(channel.unwrap(), BrokerChannel::Console(_)));
    let channel = devices.broker_channel(small, clock.clone());
    assert_eq!(
        channel.unwrap_err(),
        ChannelError::Vsock(StreamError::Queue(QueueError::Memory))
    );
    let channel = devices.broker_channel(memory.clone(), clock.clone());
    assert!(matches!(channel.unwrap(), BrokerChannel::Vsock(_)));
    let channel = devices.broker_channel(memory.clone(), clock.clone());
    assert!(matches!(channel.unwrap(), BrokerChannel::Console(_)));
    let channel = devices.broker_channel(memory, clock);
    assert_eq!(channel.unwrap_err(), ChannelError::Absent);
}

#[test]
fn a_device_that_breaks_a_rule_is_left_out() {
    let (bus, _) = bus();
    bus.at(place(3, 0)).unwrap().model().config[0x44] = 7;
    let devices = find(&bus);
    assert_eq!(devices.iter().count(), 3);
    let error = Device::find(bus, place(3, 0), 3, &mut window()).unwrap_err();
    assert_eq!(error, PciError::Missing(Structure::Common));
}

#[test]
fn a_transitional_device_is_driven_without_its_legacy_interface() {
    let (bus, memory) = bus();
    let old = bus.at(place(3, 5)).unwrap();
    old.model().config[2..4].copy_from_slice(&0x1001_u16.to_le_bytes());
    old.model().config[0x2E] = 2;
    let mut devices = find(&bus);
    assert!(state_disk(&mut devices, &memory).is_ok());
    assert_eq!(old.model().settled, FEATURES);
}

#[test]
fn a_bus_full_of_nonsense_takes_a_bounded_time() {
    let bus = Bus::default();
    let memory = Shared::new(0x10_0000, 0x1000);
    for device in 0..32 {
        for function in 0..8 {
            let model = ModelHost::new(2, 1, FEATURES, &memory);
            model.model().config[0xE] = 0x80;
            // Nothing but capabilities, in a circle.
            model.model().config[0x75] = 0x40;
            bus.add(place(device, function), model);
        }
    }
    assert_eq!(find(&bus).iter().count(), 0);
    assert!(bus.reads.get() < 256 * 20, "{}", bus.reads.get());
}
