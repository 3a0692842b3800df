//! Nobody waits for ever: L2, L1 and the host take turns, and each does something only when another has woken it.
//!
//! * L2 posts requests, and notifies if its queue says that the device wants that; it looks for what is done when it is
//!   interrupted.
//! * The host looks for requests when it was notified, is done with them in any order and at any moment, between any two of
//!   L1's accesses too, and interrupts if the queue says that L1 wants that.
//! * L1 serves the device when it was notified or interrupted, and never besides: there is no timer, and no other exit.
//!
//! When nobody has anything to do, every request has come back.

mod host;
mod l2;

use super::tests::interrupts;
use super::*;
use crate::machine::devices::ioapic::{self, MessageSink};
use crate::machine::devices::virtio::function::Function as Pci;
use crate::machine::devices::virtio::model::{Driver, Guest, INDIRECT, NEXT, WRITE};
use crate::virtio::model::ModelClock;
use crate::virtio::model::device::{FUNCTION, numbers, window};
use crate::virtio::model::disk;
use crate::virtio::model::memory::Shared;
use crate::virtio::ring::passed;
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use host::{Host, Looking};
use l2::L2;

const BARS: u64 = 0xC000_0000;
const SHARED: u64 = 0x10_0000;
/// Descriptors of L2's queue.
const SIZE: u16 = 256;
/// Descriptors of a request that has no table of its own.
const DIRECT: u16 = 4;
/// Bytes of a piece of data at most.
const PIECE: u32 = 0x2_0000;
/// Where L2 has its queue, what is of a request's own, and what all read from and write to: a large request the same bytes
/// several times.
const QUEUE: u64 = 0x1_0000;
const OWN: u64 = 0x2_0000;
/// Bytes of what is of a request's own: header and status, and a table of descriptors.
const OWN_LENGTH: u64 = 0x200;
const TABLE: u64 = 0x40;
const GIVEN: u64 = 0x4_0000;
const ROOM: u64 = 0x8_0000;
/// The bit of VIRTIO_F_EVENT_IDX, and that of VIRTIO_F_INDIRECT_DESC, in the lower half.
const EVENTS: u32 = 1 << 29;
const TABLES: u32 = 1 << 28;

struct Nobody;

impl MessageSink for Nobody {
    fn deliver(&mut self, _: ioapic::Message) -> bool {
        true
    }
}

fn get(memory: &[u8], at: u64) -> u16 {
    u16::from_le_bytes([memory[at as usize], memory[at as usize + 1]])
}

fn put(memory: &mut [u8], at: u64, bytes: &[u8]) {
    memory[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
}

/// What L2's machine is like.
#[derive(Clone, Copy, Debug)]
struct Setting {
    seed: u64,
    /// Bytes that L1 shares with the host.
    memory: usize,
    /// Descriptors of the host's queue.
    host_size: u16,
    host_events: bool,
    l2_events: bool,
    /// L2 puts descriptors into tables.
    tables: bool,
    pace: Pace,
    /// At one of so many accesses of L1's the others are at work, where they may be.
    tempo: u64,
    /// Requests in all, and how many of them may have much data: one of so many.
    requests: u32,
    large: u64,
}

/// When the host works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// While L1 does not.
    Apart,
    /// At any moment.
    Any,
    /// It is done with everything before a notification returns.
    AtOnce,
}

/// All three.
struct Scene {
    setting: Setting,
    function: Pci,
    guest: Guest,
    memory: Shared,
    l2: Rc<RefCell<L2>>,
    host: Rc<RefCell<Host>>,
    /// Interrupts of L2's that it has seen to.
    interrupts: u64,
}

impl Scene {
    fn new(setting: Setting) -> Self {
        let memory = Shared::new(SHARED, setting.memory);
        let (model, _) = disk::host(&memory);
        let bell = Rc::new(Cell::new(false));
        model.model().bell = Some(bell.clone());
        model.model().queues[0].most = setting.host_size;
        if !setting.host_events {
            model.model().offered &= !u64::from(EVENTS);
        }
        let device = Device::find(model.clone(), FUNCTION, 2, &mut window()).unwrap();
        let clock = ModelClock::default();
        let bridge = Bridge::open(device, &memory, clock, Kind::Block, 0, interrupts()).unwrap();
        let data = bridge.queues()[0].bounds.writable - 1;
        let guest = Guest::new();
        let places = Driver::new(&guest, QUEUE, SIZE).places;
        let backend: Box<dyn Backend> = Box::new(bridge);
        let mut function = Pci::new(backend, BARS as u32);
        function.write_configuration(4, &[6, 4]);
        let slots = if setting.tables { SIZE } else { SIZE / DIRECT };
        let l2 = Rc::new(RefCell::new(L2 {
            setting,
            data: if setting.tables { data } else { PIECE },
            numbers: Box::new(numbers(setting.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))),
            places,
            available: 0,
            said: 0,
            used: 0,
            free: (0..slots).collect(),
            left: setting.requests,
            out: 0,
            notification: false,
        }));
        let mut write = |offset: u64, bytes: &[u8]| {
            let place = function.place(BARS + offset, bytes.len()).unwrap();
            function.write(place, bytes);
        };
        write(0x14, &[3]);
        let mut features = 0;
        features |= if setting.l2_events { EVENTS } else { 0 };
        features |= if setting.tables { TABLES } else { 0 };
        for (half, bits) in [(0, features), (1, 1)] {
            write(8, &[half, 0, 0, 0]);
            write(0xC, &bits.to_le_bytes());
        }
        write(0x14, &[11]);
        for (at, gpa) in [
            (0x20, places.descriptors),
            (0x28, places.available),
            (0x30, places.used),
        ] {
            write(at, &gpa.to_le_bytes());
        }
        write(0x18, &SIZE.to_le_bytes());
        write(0x1C, &[1, 0]);
        write(0x14, &[15]);
        let areas = model.model().queues[0].side.as_ref().unwrap().areas;
        let host = Rc::new(RefCell::new(Host {
            areas,
            events: setting.host_events,
            pace: setting.pace,
            tempo: setting.tempo,
            numbers: Box::new(numbers(setting.seed.wrapping_mul(0xD134_2543_DE82_EF95))),
            bell,
            looking: Looking::No,
            seen: 0,
            used: 0,
            said: 0,
            has: Vec::new(),
            interrupt: false,
        }));
        let beside = host.clone();
        memory.before_read(move |bytes, _, _| beside.borrow_mut().meanwhile(bytes));
        let beside = host.clone();
        memory.before_write(move |bytes, _, _| beside.borrow_mut().meanwhile(bytes));
        let mut scene = Self {
            setting,
            function,
            guest,
            memory,
            l2,
            host,
            interrupts: 0,
        };
        scene.serve();
        scene
    }

    fn serve(&mut self) {
        self.function.serve(&self.guest, &mut Nobody);
        self.guest.reads.borrow_mut().clear();
        self.guest.writes.borrow_mut().clear();
    }

    fn notify(&mut self) {
        let place = self.function.place(BARS + 0x3000, 2).unwrap();
        self.function.write(place, &[0, 0]);
        self.serve();
    }

    /// Lets another processor of L2's be at work between any two of L1's accesses to L2's memory.
    fn with_another_processor(self) -> Self {
        let beside = |l2: &Rc<RefCell<L2>>| {
            let l2 = l2.clone();
            move |ram: &mut [u8], _: u64, _: usize| {
                let mut l2 = l2.borrow_mut();
                let (tempo, chance) = (l2.setting.tempo, (l2.numbers)());
                if (chance >> 8).is_multiple_of(tempo) {
                    match chance & 3 {
                        0 => l2.post(ram),
                        1 => l2.interrupted(ram),
                        _ => {}
                    }
                }
            }
        };
        self.guest.before_read(beside(&self.l2));
        self.guest.before_write(beside(&self.l2));
        self
    }

    fn run(mut self) {
        let mut chances = numbers(self.setting.seed.wrapping_add(1) << 8);
        loop {
            let sent = self.function.device().traffic().interrupts;
            let can_post = {
                let l2 = self.l2.borrow();
                l2.left != 0 && !l2.free.is_empty()
            };
            let host_interrupts = self.host.borrow().interrupt;
            let l2_notifies = self.l2.borrow().notification;
            let host_works = self.host.borrow().busy();
            let l2_is_interrupted = sent != self.interrupts;
            let somebody = host_interrupts || l2_notifies || host_works || l2_is_interrupted;
            if !somebody {
                let l2 = self.l2.borrow();
                assert_eq!(l2.out, 0, "nobody wakes anybody: {:?}", self.setting);
                if l2.left == 0 {
                    return;
                }
            }
            match chances() >> 16 & 7 {
                0 | 1 if can_post => {
                    let l2 = self.l2.clone();
                    self.guest.with(|ram| l2.borrow_mut().post(ram));
                }
                2 if l2_notifies => {
                    self.l2.borrow_mut().notification = false;
                    self.notify();
                }
                3 if host_interrupts => {
                    self.host.borrow_mut().interrupt = false;
                    self.serve();
                }
                4 if l2_is_interrupted => {
                    self.interrupts = sent;
                    let l2 = self.l2.clone();
                    self.guest.with(|ram| l2.borrow_mut().interrupted(ram));
                }
                5.. if host_works => {
                    let host = self.host.clone();
                    self.memory
                        .with_device(|bytes| host.borrow_mut().step(bytes));
                }
                _ => {}
            }
        }
    }
}

/// Every setting in turn, and all else by the seed.
fn setting(seed: u64) -> Setting {
    let bit = |bit: u32| seed >> bit & 1 != 0;
    Setting {
        seed,
        // Of the last, no more than one request of the largest has room.
        memory: [Kind::Block.memory(), 0x8_0000, 0x4_4000][(seed / 48 % 3) as usize],
        host_size: [16, 256, 2][(seed / 16 % 3) as usize],
        host_events: !bit(0),
        l2_events: !bit(1),
        tables: bit(2),
        pace: [Pace::Apart, Pace::Any, Pace::AtOnce][(seed / 8 % 3) as usize],
        tempo: [1, 8, 64][(seed / 144 % 3) as usize],
        requests: 200,
        large: 16,
    }
}

const SEEDS: u64 = 432;

#[test]
fn whoever_has_something_to_do_is_woken() {
    for seed in 0..SEEDS {
        Scene::new(setting(seed)).run();
    }
}

#[test]
fn nothing_is_lost_while_another_processor_of_l2s_is_at_work() {
    for seed in 0..SEEDS {
        // No more than L1 takes at an exit.
        let few = Setting {
            requests: u32::from(SIZE),
            ..setting(seed)
        };
        Scene::new(few).with_another_processor().run();
    }
}

#[test]
fn indices_that_wrap_wake_as_others_do() {
    for pace in [Pace::Any, Pace::AtOnce] {
        let wraps = Setting {
            pace,
            requests: 0x1_0400,
            large: u64::MAX,
            memory: 0x4_4000,
            ..setting(4)
        };
        Scene::new(wraps).run();
    }
}

#[test]
fn requests_without_end_do_not_keep_l1() {
    let mut scene = Scene::new(Setting {
        pace: Pace::AtOnce,
        requests: 2000,
        large: u64::MAX,
        ..setting(4)
    });
    let l2 = scene.l2.clone();
    scene.guest.before_read(move |ram, _, _| {
        let mut l2 = l2.borrow_mut();
        l2.interrupted(ram);
        l2.post(ram);
    });
    let (mut done, mut exits) = (0, 0);
    while done != 2000 {
        scene.notify();
        let requests = scene.function.device().traffic().requests;
        assert!(requests > done && requests - done <= u64::from(SIZE) + 1);
        done = requests;
        exits += 1;
    }
    assert!(exits > 2000 / u32::from(SIZE), "{exits}");
}
