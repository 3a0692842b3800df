//! From L2's driver through L1 to a disk of the host's, which keeps the rules or does not.

mod changes;

use super::*;
use crate::machine::devices::ioapic::{self, MessageSink};
use crate::machine::devices::virtio::device::Traffic;
use crate::machine::devices::virtio::function::Function as Pci;
use crate::machine::devices::virtio::model::{Driver, Guest, NEXT, WRITE};
use crate::machine::devices::virtio::queue::{Queue, Terms};
use crate::virtio::model::ModelClock;
use crate::virtio::model::device::{FUNCTION, ModelHost, window};
use crate::virtio::model::disk::{self, Disk};
use crate::virtio::model::memory::Shared;
use crate::virtio::model::queue::Request as HostRequest;
use crate::virtio::pci::Message;
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::sync::atomic::AtomicU32;
use virtio_defs::vsock;

mod large;
mod short;

const BARS: u64 = 0xC000_0000;
const SHARED: u64 = 0x10_0000;
/// How a device interrupts, in a machine of its own.
pub(super) fn interrupts() -> Interrupts {
    let message = |data| Message {
        address: 0xFEE0_0000,
        data,
    };
    Interrupts {
        queues: message(0xE2),
        configuration: message(0xE3),
        changes: Box::leak(Box::new(AtomicU32::new(0))),
    }
}

const NEEDS_RESET: u8 = 64;

struct Apic(u32);

impl MessageSink for Apic {
    fn deliver(&mut self, _: ioapic::Message) -> bool {
        self.0 += 1;
        true
    }
}

/// L2 with a disk.
struct Machine {
    function: Pci,
    guest: Guest,
    driver: Driver,
    apic: Apic,
    host: ModelHost,
    disk: Disk,
    changes: &'static AtomicU32,
    /// The lower half of what the driver accepts.
    features: u32,
}

fn open(
    memory: &Shared,
) -> (
    Result<Bridge<ModelHost, Shared, ModelClock>, BridgeError>,
    ModelHost,
    Disk,
) {
    open_with(memory, interrupts())
}

fn open_with(
    memory: &Shared,
    interrupts: Interrupts,
) -> (
    Result<Bridge<ModelHost, Shared, ModelClock>, BridgeError>,
    ModelHost,
    Disk,
) {
    let (host, disk) = disk::host(memory);
    let device = Device::find(host.clone(), FUNCTION, 2, &mut window()).unwrap();
    let bridge = Bridge::open(
        device,
        memory,
        ModelClock::default(),
        Kind::Block,
        feature::ACCESS_PLATFORM,
        interrupts,
    );
    (bridge, host, disk)
}

impl Machine {
    fn new() -> Self {
        Self::with(0x8_0000)
    }

    /// With as much memory shared with the host.
    fn with(length: usize) -> Self {
        let interrupts = interrupts();
        let (bridge, host, disk) = open_with(&Shared::new(SHARED, length), interrupts);
        Self::of(bridge, (host, disk), interrupts, 1 << 28 | 1 << 9)
    }

    /// With sockets in place of the disk.
    fn with_sockets() -> Self {
        let (interrupts, memory) = (interrupts(), Shared::new(SHARED, 0x8_0000));
        let offered = feature::VERSION_1 | feature::ACCESS_PLATFORM | feature::EVENT_IDX;
        let host = ModelHost::new(vsock::DEVICE_TYPE, 3, offered, &memory);
        host.model().device_config[..8].copy_from_slice(&3_u64.to_le_bytes());
        let device =
            Device::find(host.clone(), FUNCTION, vsock::DEVICE_TYPE, &mut window()).unwrap();
        let clock = ModelClock::default();
        let asked = feature::ACCESS_PLATFORM;
        let bridge = Bridge::open(device, &memory, clock, Kind::Sockets, asked, interrupts);
        Self::of(bridge, (host, Disk::default()), interrupts, 1 << 28)
    }

    /// With this device, whose driver accepts `features` of the lower half.
    fn of(
        bridge: Result<Bridge<ModelHost, Shared, ModelClock>, BridgeError>,
        (host, disk): (ModelHost, Disk),
        interrupts: Interrupts,
        features: u32,
    ) -> Self {
        let guest = Guest::new();
        let mut machine = Self {
            function: Pci::new(Box::new(bridge.unwrap()), BARS as u32),
            driver: Driver::new(&guest, 0x1_0000, 128),
            guest,
            apic: Apic(0),
            host,
            disk,
            changes: interrupts.changes,
            features,
        };
        machine.function.write_configuration(4, &[6, 4]);
        machine.set_up();
        machine
    }

    fn set_up(&mut self) {
        self.guest.put(0x1_0000, &[0; 0x3000]);
        self.driver = Driver::new(&self.guest, 0x1_0000, self.driver.places.size);
        self.write(0x14, &[0]);
        self.write(0x14, &[3]);
        for (half, bits) in [(0, self.features), (1, 1)] {
            self.write(8, &[half, 0, 0, 0]);
            self.write(0xC, &bits.to_le_bytes());
        }
        self.write(0x14, &[11]);
        let places = self.driver.places;
        for (at, gpa) in [
            (0x20, places.descriptors),
            (0x28, places.available),
            (0x30, places.used),
        ] {
            self.write(at, &gpa.to_le_bytes());
        }
        self.write(0x18, &places.size.to_le_bytes());
        self.write(0x1C, &[1, 0]);
        self.write(0x14, &[15]);
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let place = self.function.place(BARS + offset, bytes.len()).unwrap();
        self.function.write(place, bytes);
        self.serve();
    }

    fn serve(&mut self) {
        self.function.serve(&self.guest, &mut self.apic);
    }

    fn status(&mut self) -> u8 {
        let mut status = [0];
        let place = self.function.place(BARS + 0x14, 1).unwrap();
        self.function.read(place, &mut status);
        status[0]
    }

    fn notify(&mut self) {
        self.write(0x3000, &[0, 0]);
    }

    /// A request of type `kind` by the descriptors from 3 `number` on, with data of 1,024 bytes in two pieces.
    fn offer(&mut self, number: u16, kind: u32, sector: u64) {
        let (head, base) = (3 * number, Self::data(number));
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        self.guest.put(base + 0x800, &header);
        self.guest.put(base + 0xC00, &[0xFF]);
        let driver = &mut self.driver;
        driver.describe(head, base + 0x800, 16, NEXT, head + 1);
        let flags = if kind == 0 { WRITE | NEXT } else { NEXT };
        driver.describe(head + 1, base, 1024, flags, head + 2);
        driver.describe(head + 2, base + 0xC00, 1, WRITE, 0);
        driver.offer(head);
    }

    fn data(number: u16) -> u64 {
        0x2_0000 + 0x1000 * u64::from(number)
    }

    /// The status byte of a request.
    fn result(&self, number: u16) -> u8 {
        self.guest.get(Self::data(number) + 0xC00, 1)[0]
    }

    /// Lets requests lie at the host, and gives them.
    fn hold(&self) -> Rc<RefCell<Vec<HostRequest>>> {
        let held = Rc::new(RefCell::new(Vec::new()));
        let keep = held.clone();
        self.host.model().work = Box::new(move |_, _, request| {
            keep.borrow_mut().push(request.clone());
            None
        });
        held
    }

    /// The host is done with a request: any id and length.
    fn push(&self, id: u32, length: u32) {
        let mut model = self.host.model();
        model.queues[0].side.as_mut().unwrap().push(id, length);
    }
}

#[test]
fn what_l2_writes_is_on_the_hosts_disk_and_what_it_reads_comes_from_there() {
    let mut machine = Machine::new();
    assert_eq!(machine.status(), 15);
    machine.guest.put(Machine::data(0), &[0xAB; 1024]);
    machine.offer(0, 1, 2);
    machine.notify();
    assert_eq!(
        (machine.driver.done(), machine.result(0)),
        (Some((0, 1)), 0)
    );
    assert_eq!(machine.disk.borrow()[1024..2048], [0xAB; 1024]);
    machine.offer(1, 0, 3);
    machine.offer(2, 4, 0);
    machine.notify();
    assert_eq!(
        (machine.driver.done(), machine.result(1)),
        (Some((3, 1025)), 0)
    );
    assert_eq!(machine.guest.get(Machine::data(1), 512), [0xAB; 512]);
    assert_eq!(machine.guest.get(Machine::data(1) + 512, 512), [0; 512]);
    assert_eq!(
        (machine.driver.done(), machine.result(2)),
        (Some((6, 1)), 0),
        "flush"
    );
    assert_eq!(
        machine.host.model().settled,
        1 << 9 | 1 << 29 | 1 << 32 | 1 << 33
    );
}

#[test]
fn the_host_sees_two_segments_and_nothing_of_l2s_addresses() {
    let mut machine = Machine::new();
    let held = machine.hold();
    machine.offer(0, 0, 0);
    machine.notify();
    let request = held.borrow()[0].clone();
    let lengths = |segments: &[Segment]| -> Vec<u32> {
        segments.iter().map(|segment| segment.length).collect()
    };
    assert_eq!(lengths(&request.readable), [16]);
    assert_eq!(lengths(&request.writable), [1025]);
    for segment in request.readable.iter().chain(&request.writable) {
        let end = segment.gpa + u64::from(segment.length);
        assert!(segment.gpa >= SHARED && end <= SHARED + 0x8_0000);
    }
}

#[test]
fn a_batch_costs_one_notification_each_way_and_one_interrupt() {
    let mut machine = Machine::new();
    for number in 0..8 {
        machine.offer(number, 0, 0);
    }
    let before = machine.function.device().traffic();
    machine.notify();
    for head in 0..8 {
        assert_eq!(machine.driver.done(), Some((3 * head, 1025)));
    }
    let after = machine.function.device().traffic();
    let bytes = 8 * (16 + 1025);
    let expected = Traffic {
        notifications: before.notifications + 1,
        requests: before.requests + 8,
        bytes: before.bytes + bytes,
        // The model's memories are no neighbours.
        copied: before.copied + 2 * bytes,
        interrupts: before.interrupts + 1,
        host_notifications: before.host_notifications + 1,
    };
    assert_eq!(after, expected);
}

#[test]
fn many_are_in_flight_and_come_back_in_any_order() {
    let mut machine = Machine::new();
    let held = machine.hold();
    for number in 0..7 {
        machine.offer(number, 0, 0);
    }
    machine.notify();
    let requests = held.borrow().clone();
    assert_eq!(requests.len(), 7);
    let interrupt_at = |machine: &Machine| {
        let model = machine.host.model();
        model.queues[0].side.as_ref().unwrap().used_event()
    };
    for (done, index) in (0..).zip([3, 0, 6, 5, 1, 2, 4]) {
        assert_eq!(interrupt_at(&machine), done, "the next completion wakes L1");
        let memory = machine.host.model().memory.clone();
        let mut bytes = alloc::vec![index as u8; 1024];
        bytes.push(0);
        requests[index].write(&memory, &bytes);
        machine.push(requests[index].head.into(), 1025);
        machine.serve();
        assert_eq!(machine.driver.done(), Some((3 * index as u32, 1025)));
        let data = machine.guest.get(Machine::data(index as u16), 1024);
        assert_eq!(data, [index as u8; 1024]);
    }
}

#[test]
fn what_the_host_has_no_room_for_waits() {
    // The queue, and buffers for one of the largest requests.
    let mut machine = Machine::with(0x4_0A00);
    let held = machine.hold();
    for number in 0..42 {
        machine.offer(number, 0, 0);
    }
    machine.notify();
    let first = held.borrow().len();
    // As many as the host's 16 descriptors allow, two each.
    assert_eq!(first, 8);
    for served in 0..42 {
        let request = held.borrow()[served].clone();
        machine.push(request.head.into(), 1025);
        machine.serve();
        assert!(machine.driver.done().is_some());
    }
    assert_eq!((held.borrow().len(), machine.driver.done()), (42, None));
    assert_eq!(machine.status(), 15);
}

#[test]
fn a_host_that_breaks_a_rule_costs_l2_a_reset_of_the_device() {
    let lies: [fn(&Machine, u32); 6] = [
        |machine, _| machine.push(200, 1),
        |machine, head| machine.push(head + 1, 1),
        |machine, head| machine.push(head | 0x1_0000, 1),
        |machine, head| machine.push(head, 1026),
        |machine, head| machine.push(head, u32::MAX),
        |machine, _| {
            machine.host.model().queues[0]
                .side
                .as_mut()
                .unwrap()
                .set_used_index(9)
        },
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let mut machine = Machine::new();
        let held = machine.hold();
        machine.offer(0, 0, 0);
        machine.notify();
        machine.guest.put(Machine::data(0), &[0x11; 1024]);
        machine.guest.writes.borrow_mut().clear();
        let head = held.borrow()[0].head;
        lie(&machine, head.into());
        machine.serve();
        assert_eq!(machine.status(), 15 | NEEDS_RESET, "lie {number}");
        assert!(machine.guest.writes.borrow().is_empty());
        let disk = machine.disk.clone();
        disk::honest(&machine.host, &disk);
        machine.set_up();
        machine.offer(1, 0, 0);
        machine.notify();
        assert_eq!(machine.result(1), 0, "it works again");
    }
}

#[test]
fn what_the_host_answers_after_a_reset_reaches_nobody() {
    let mut machine = Machine::new();
    let held = machine.hold();
    machine.offer(0, 0, 0);
    machine.notify();
    let late = held.borrow()[0].clone();
    machine.set_up();
    let memory = machine.host.model().memory.clone();
    late.write(&memory, &[0xEE; 1025]);
    machine.serve();
    assert_eq!(machine.driver.done(), None);
    machine.push(late.head.into(), 1025);
    machine.serve();
    assert_eq!((machine.driver.done(), machine.status()), (None, 15));
    assert_eq!(machine.guest.get(Machine::data(0), 1024), [0; 1024]);
}

#[test]
fn a_host_that_does_not_reset_has_lost_the_device() {
    let mut machine = Machine::new();
    machine.host.model().lie = Some(Box::new(|offset, value| match offset {
        0x14 => 15,
        _ => value,
    }));
    machine.set_up();
    assert_eq!(machine.status() & 12, 0, "no FEATURES_OK");
    machine.host.model().lie = None;
    machine.set_up();
    assert_eq!(machine.status() & 12, 0, "for good");
}

#[test]
fn a_host_that_vanishes_costs_a_reset() {
    let mut machine = Machine::new();
    machine.host.model().gone = true;
    machine.offer(0, 0, 0);
    machine.notify();
    assert_eq!(machine.status(), 15 | NEEDS_RESET);
}

#[test]
fn a_device_that_cannot_be_bridged_is_refused_by_name() {
    let (little, ..) = open(&Shared::new(SHARED, 0x2_0000));
    assert_eq!(little.unwrap_err(), BridgeError::Memory(0x2_0000));
    let memory = Shared::new(SHARED, 0x8_0000);
    let (host, _) = disk::host(&memory);
    host.model().device_config[7] = 0xFF;
    let device = Device::find(host, FUNCTION, 2, &mut window()).unwrap();
    let clock = ModelClock::default();
    let error = Bridge::open(device, &memory, clock, Kind::Block, 0, interrupts()).unwrap_err();
    assert!(
        matches!(error, BridgeError::Kind(KindError::Capacity(_))),
        "{error}"
    );
}

#[test]
fn every_buffer_comes_back() {
    let (bridge, host, _) = open(&Shared::new(SHARED, 0x8_0000));
    let mut bridge = bridge.unwrap();
    let guest = Guest::new();
    let mut driver = Driver::new(&guest, 0x1_0000, 128);
    host.model().work = Box::new(|_, _, _| None);
    for round in 0..3 {
        bridge.start(0).unwrap();
        let terms = Terms {
            suppression: Suppression::Flags,
            indirect: false,
            bounds: bridge.queues()[0].bounds,
        };
        guest.put(0x1_0000, &[0; 0x3000]);
        driver.available = 0;
        let mut queue = Queue::new(driver.places, 128, terms, &guest).unwrap();
        for head in 0..5 {
            driver.describe(head, 0x4000, 100, 0, 0);
            driver.offer(head);
            let chain = queue.take(&guest).unwrap().unwrap();
            let request = Request::new(&guest, 0, &chain);
            assert_eq!(bridge.submit(&request), Ok(Submission::Taken));
        }
        bridge.flush().unwrap();
        if round == 1 {
            host.model().queues[0].side.as_mut().unwrap().push(0, 0);
            assert!(bridge.take().unwrap().is_some());
        }
        bridge.reset();
        assert!(bridge.buffers.iter().all(Bounce::is_free));
    }
}

#[test]
fn what_waits_for_the_world_is_not_scattered_between_what_does_not() {
    let memory = Shared::new(SHARED, 0x2_6000);
    let host = ModelHost::new(1, 2, 1 << 32 | 1 << 33, &memory);
    host.model().work = Box::new(|_, queue, _| (queue == 1).then_some(0));
    let device = Device::find(host, FUNCTION, 1, &mut window()).unwrap();
    let clock = ModelClock::default();
    let mut bridge = Bridge::open(device, &memory, clock, Kind::Network, 0, interrupts()).unwrap();
    bridge.start(0).unwrap();
    let guest = Guest::new();
    let largest = bridge.queues()[1].bounds.readable;
    let chain_of = |bridge: &Bridge<_, _, _>, number: usize, length: u32| {
        let mut driver = Driver::new(&guest, 0x1_0000, 16);
        guest.put(0x1_0000, &[0; 0x3000]);
        let terms = Terms {
            suppression: Suppression::Flags,
            indirect: false,
            bounds: bridge.queues()[number].bounds,
        };
        let flags = if number == 0 { WRITE } else { 0 };
        driver.describe(0, 0x4_0000, length, flags, 0);
        driver.offer(0);
        let mut queue = Queue::new(driver.places, 16, terms, &guest).unwrap();
        queue.take(&guest).unwrap().unwrap()
    };
    // A packet may come between any two that go.
    for _ in 0..12 {
        for number in [0, 1] {
            let chain = chain_of(&bridge, number, 0x1000);
            let request = Request::new(&guest, number as u16, &chain);
            assert_eq!(bridge.submit(&request), Ok(Submission::Taken));
        }
        bridge.flush().unwrap();
        let done = bridge.take().unwrap().unwrap();
        assert_eq!(done.ticket.queue, 1);
        let chain = chain_of(&bridge, 1, 1);
        bridge
            .give(&done, &mut Answer::new(&guest, &chain))
            .unwrap();
    }
    let chain = chain_of(&bridge, 1, largest);
    let request = Request::new(&guest, 1, &chain);
    assert_eq!(bridge.submit(&request), Ok(Submission::Taken));
}

#[test]
fn a_queue_that_waits_for_the_world_leaves_the_others_their_buffers() {
    let memory = Shared::new(SHARED, 0x2_2000 + 0x400);
    let host = ModelHost::new(1, 2, 1 << 32 | 1 << 33, &memory);
    host.model().work = Box::new(|_, queue, _| (queue == 1).then_some(0));
    let device = Device::find(host, FUNCTION, 1, &mut window()).unwrap();
    let clock = ModelClock::default();
    let mut bridge = Bridge::open(device, &memory, clock, Kind::Network, 0, interrupts()).unwrap();
    bridge.start(0).unwrap();
    let guest = Guest::new();
    let mut chains = [0, 1].map(|number| {
        let mut driver = Driver::new(&guest, 0x1_0000 + 0x8000 * number, 16);
        let terms = Terms {
            suppression: Suppression::Flags,
            indirect: false,
            bounds: bridge.queues()[number as usize].bounds,
        };
        let mut queue = Queue::new(driver.places, 16, terms, &guest).unwrap();
        let flags = if number == 0 { WRITE } else { 0 };
        (0..4)
            .map(|head| {
                driver.describe(head, 0x4_0000, 0x8000, flags, 0);
                driver.offer(head);
                queue.take(&guest).unwrap().unwrap()
            })
            .collect::<Vec<_>>()
    });
    let mut submit = |bridge: &mut Bridge<_, _, _>, queue: u16| {
        let chain = chains[usize::from(queue)].pop().unwrap();
        let submitted = bridge.submit(&Request::new(&guest, queue, &chain));
        (submitted.unwrap(), chain)
    };
    for expected in [Submission::Taken, Submission::Taken, Submission::Full] {
        assert_eq!(
            submit(&mut bridge, 0).0,
            expected,
            "a queue's share is 68 KiB"
        );
    }
    for _ in 0..3 {
        let (submitted, chain) = submit(&mut bridge, 1);
        assert_eq!(submitted, Submission::Taken);
        bridge.flush().unwrap();
        let done = bridge.take().unwrap().unwrap();
        assert_eq!(done.ticket.queue, 1);
        bridge
            .give(&done, &mut Answer::new(&guest, &chain))
            .unwrap();
    }
    bridge.reset();
    assert!(bridge.buffers.iter().all(Bounce::is_free));
}
