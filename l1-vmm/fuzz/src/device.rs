//! A device of L2's, with L2 as its driver.

use super::guest::{Area, Guest};
use super::input::Input;
use l1_vmm::machine::devices::ioapic::{Message, MessageSink};
use l1_vmm::machine::devices::virtio::backend::{
    Answer, Backend, Done, Lost, QueueKind, Request, Submission, Ticket,
};
use l1_vmm::machine::devices::virtio::entropy::EntropyDevice;
use l1_vmm::machine::devices::virtio::function::Function;
use l1_vmm::machine::devices::virtio::queue::Bounds;
use std::cell::RefCell;
use std::rc::Rc;
use virtio_defs::pci as registers;
use virtio_defs::{feature, ring, status};
use x86_defs::pci;

const BARS: u32 = 0xC000_0000;
const NOTIFY: u64 = 0x3000;
const QUEUES: u16 = 2;
const SIZE: u16 = 16;
/// Bytes that a request may have in each direction.
const BYTES: u32 = 0x2000;
/// What L2 does at most.
const STEPS: usize = 200;
/// Requests that one call moves at most: those that were out, and as many new ones as each queue has descriptors.
const REQUESTS: u64 = 2 * (QUEUES * SIZE) as u64;
/// Accesses for a request at most: its head, its descriptors, their table, both directions in two
/// pieces each, its end.
const ACCESSES: u64 = 3 * SIZE as u64 + 12;

/// What is behind the device: it answers as an input says.
struct Behind {
    input: Input,
    guest: Guest,
    out: Vec<(Ticket, u32)>,
    done: Rc<RefCell<Vec<Done>>>,
}

impl Backend for Behind {
    fn kind(&self) -> u16 {
        2
    }

    fn class(&self) -> u32 {
        pci::CLASS_OTHER
    }

    fn features(&self) -> u64 {
        1 << 5
    }

    fn queues(&self) -> &[QueueKind] {
        const KIND: QueueKind = QueueKind {
            size: SIZE,
            bounds: Bounds {
                readable: BYTES,
                writable: BYTES,
            },
        };
        &[KIND; QUEUES as usize]
    }

    fn configuration(&self) -> &[u8] {
        &[1, 2, 3, 4, 5]
    }

    fn changed(&mut self) -> Result<bool, Lost> {
        match self.input.byte() {
            0xFE.. => Err(Lost::Gone),
            byte => Ok(byte >= 0xF0),
        }
    }

    fn start(&mut self, features: u64) -> Result<(), Lost> {
        assert_eq!(features & !self.features(), 0);
        match self.input.byte() {
            0xF0.. => Err(Lost::Gone),
            _ => Ok(()),
        }
    }

    fn submit(&mut self, request: &Request<'_>) -> Result<Submission, Lost> {
        match self.input.byte() {
            0xFC.. => return Err(Lost::Gone),
            0xE0.. => return Ok(Submission::Full),
            _ => {}
        }
        assert!(request.readable() <= BYTES && request.writable() <= BYTES);
        // A little more than there is: it is not read.
        let mut bytes = vec![0; request.readable() as usize + 3];
        let at = bytes.len() * usize::from(self.input.byte()) / 256;
        let (first, second) = bytes.split_at_mut(at);
        let mut given = request.given();
        given.read(first)?;
        given.read(second)?;
        let ticket = request.ticket();
        assert!(self.out.iter().all(|(other, _)| *other != ticket), "twice");
        self.out.push((ticket, request.writable()));
        assert!(self.out.len() <= usize::from(QUEUES * SIZE));
        Ok(Submission::Taken)
    }

    fn take(&mut self) -> Result<Option<Done>, Lost> {
        let choice = self.input.byte();
        let made_up = Done {
            ticket: Ticket {
                queue: u16::from(choice & 3),
                head: u16::from(choice >> 2 & 15),
            },
            written: BYTES,
        };
        match choice {
            0xFE.. => return Err(Lost::Gone),
            0xFA.. => return Ok(Some(made_up)),
            0x80.. => return Ok(None),
            _ if self.out.is_empty() => return Ok(None),
            _ => {}
        }
        let (ticket, room) = self.out.remove(usize::from(choice) % self.out.len());
        let written = if choice & 1 == 0 { room } else { room + 7 };
        Ok(Some(Done { ticket, written }))
    }

    fn give(&mut self, done: &Done, answer: &mut Answer<'_>) -> Result<(), Lost> {
        self.out.retain(|(other, _)| *other != done.ticket);
        self.done.borrow_mut().push(*done);
        let bytes = vec![0x77; done.written as usize];
        let (first, second) = bytes.split_at(bytes.len() * usize::from(self.input.byte()) / 256);
        answer.write(first)?;
        Ok(answer.write(second)?)
    }

    fn reset(&mut self) {
        self.out.clear();
        self.guest.forget();
    }
}

/// Interrupts, which nobody looks at.
struct Messages;

impl MessageSink for Messages {
    fn deliver(&mut self, _: Message) -> bool {
        true
    }
}

/// L2's driver.
struct Driver {
    function: Function,
    guest: Guest,
    available: [u16; QUEUES as usize],
    /// Descriptors of the queues.
    size: u16,
}

impl Driver {
    fn write(&mut self, offset: u64, from: &[u8]) {
        if let Some(place) = self.function.place(u64::from(BARS) + offset, from.len()) {
            self.function.write(place, from);
        }
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) {
        if let Some(place) = self.function.place(u64::from(BARS) + offset, into.len()) {
            self.function.read(place, into);
        }
    }

    fn register(&mut self, register: u32, from: &[u8]) {
        self.write(register.into(), from);
    }

    /// Puts configuration space as it is for a driver, and returns what was there.
    fn decode(&mut self) -> [[u8; 4]; 2] {
        let command = pci::COMMAND_MEMORY | pci::COMMAND_BUS_MASTER;
        let new = [
            (u16::from(pci::COMMAND_STATUS), u32::from(command)),
            (u16::from(pci::BAR), BARS),
        ];
        new.map(|(at, value)| {
            let mut old = [0; 4];
            self.function.read_configuration(at, &mut old);
            self.function.write_configuration(at, &value.to_le_bytes());
            old
        })
    }

    /// The queues that are enabled, as the registers say.
    fn areas(&mut self) -> Vec<Area> {
        let [command, bar] = self.decode();
        let mut select = [0; 2];
        let place = u64::from(registers::COMMON_QUEUE_SELECT);
        self.read(place, &mut select);
        let mut areas = Vec::new();
        for queue in 0..QUEUES {
            self.write(place, &queue.to_le_bytes());
            let mut image = [0; registers::COMMON_SIZE as usize];
            self.read(0, &mut image);
            let word = |at: u32| u16::from_le_bytes([image[at as usize], image[at as usize + 1]]);
            let long = |at: u32| {
                let bytes = image[at as usize..][..8].try_into();
                bytes.map_or(0, u64::from_le_bytes)
            };
            areas.push(match word(registers::COMMON_QUEUE_ENABLE) {
                1 => Area {
                    size: word(registers::COMMON_QUEUE_SIZE).into(),
                    descriptors: long(registers::COMMON_QUEUE_DESC),
                    available: long(registers::COMMON_QUEUE_DRIVER),
                    used: long(registers::COMMON_QUEUE_DEVICE),
                },
                _ => Area::default(),
            });
        }
        self.write(place, &select);
        let command = &command[..2];
        self.function.write_configuration(u16::from(pci::BAR), &bar);
        let at = u16::from(pci::COMMAND_STATUS);
        self.function.write_configuration(at, command);
        areas
    }

    fn places(queue: u16) -> Area {
        let base = 0x1000 + 0x3000 * u64::from(queue);
        Area {
            size: SIZE.into(),
            descriptors: base,
            available: base + 0x1000,
            used: base + 0x2000,
        }
    }

    /// Starts the device as a driver should, with these features.
    fn start(&mut self, features: u64, size: u16) {
        self.decode();
        self.register(registers::COMMON_STATUS, &[0]);
        self.register(
            registers::COMMON_STATUS,
            &[status::ACKNOWLEDGE | status::DRIVER],
        );
        for half in [0_u32, 1] {
            let bits = (features >> (32 * half)) as u32;
            let select = registers::COMMON_DRIVER_FEATURE_SELECT;
            self.register(select, &half.to_le_bytes());
            self.register(registers::COMMON_DRIVER_FEATURE, &bits.to_le_bytes());
        }
        self.register(registers::COMMON_STATUS, &[status::FEATURES_OK]);
        for queue in 0..QUEUES {
            let area = Self::places(queue);
            self.register(registers::COMMON_QUEUE_SELECT, &queue.to_le_bytes());
            self.register(registers::COMMON_QUEUE_SIZE, &size.to_le_bytes());
            for (register, value) in [
                (registers::COMMON_QUEUE_DESC, area.descriptors),
                (registers::COMMON_QUEUE_DRIVER, area.available),
                (registers::COMMON_QUEUE_DEVICE, area.used),
            ] {
                self.register(register, &value.to_le_bytes());
            }
            self.register(registers::COMMON_QUEUE_ENABLE, &[1, 0]);
            for index in 0..SIZE {
                let buffer = 0x8000 + 64 * u64::from(index);
                let flags = ring::DESCRIPTOR_WRITE * (index & 1);
                self.describe(queue, index, (buffer, 64, flags, 0));
            }
            self.guest.put(area.available, &[0; 0x80]);
            self.guest.put(area.used, &[0; 0x100]);
        }
        self.available = [0; QUEUES as usize];
        self.size = size;
        self.register(registers::COMMON_STATUS, &[status::DRIVER_OK]);
    }

    fn describe(&self, queue: u16, index: u16, descriptor: (u64, u32, u16, u16)) {
        let (gpa, length, flags, next) = descriptor;
        let all = u128::from(gpa)
            | u128::from(length) << 64
            | u128::from(flags) << 96
            | u128::from(next) << 112;
        let at = Self::places(queue).descriptors + 16 * u64::from(index);
        self.guest.put(at, &all.to_le_bytes());
    }

    fn offer(&mut self, queue: u16, head: u16) {
        let area = Self::places(queue);
        let available = &mut self.available[usize::from(queue)];
        let slot = u64::from(*available % self.size.max(1));
        self.guest
            .put(area.available + 4 + 2 * slot, &head.to_le_bytes());
        *available = available.wrapping_add(1);
        self.guest.put(area.available + 2, &available.to_le_bytes());
    }

    fn notify(&mut self, queue: u16) {
        self.write(NOTIFY + 4 * u64::from(queue), &queue.to_le_bytes());
    }

    /// What L1 does at the end of an exit: bounded, and only where it may.
    fn serve(&mut self) {
        let areas = self.areas();
        self.guest.watch(areas);
        self.guest.work.set((0, 0));
        self.function.serve(&self.guest, &mut Messages);
        let (accesses, bytes) = self.guest.work.get();
        assert!(accesses <= REQUESTS * ACCESSES, "{accesses} accesses");
        assert!(bytes <= REQUESTS * (3 * u64::from(BYTES)), "{bytes} bytes");
        self.guest.work.set((0, 0));
    }
}

/// A device behind its PCI function, of a driver that does what it likes in any order, also while L1 reads. Whatever
/// that was, the device works after a reset.
pub fn l2_device(data: &[u8]) {
    let input = Input::new(data);
    let guest = Guest::new(&input);
    let done = Rc::default();
    let form = input.byte();
    let backend: Box<dyn Backend> = match form & 1 {
        0 => Box::new(Behind {
            input: input.clone(),
            guest: guest.clone(),
            out: Vec::new(),
            done: Rc::clone(&done),
        }),
        _ => Box::new(EntropyDevice::new(|bytes: &mut [u8]| {
            bytes.fill(9);
            Ok(())
        })),
    };
    let mut driver = Driver {
        function: Function::new(backend, BARS),
        guest: guest.clone(),
        available: [0; QUEUES as usize],
        size: SIZE,
    };
    let features = feature::VERSION_1 | feature::INDIRECT_DESC | feature::EVENT_IDX;
    if form & 0x80 == 0 {
        driver.start(features, if form & 1 == 0 { SIZE } else { 8 });
    }
    for _ in 0..STEPS {
        if input.ended() {
            break;
        }
        step(&mut driver, &input);
        assert_eq!(guest.work.get(), (0, 0), "a register's access to memory");
        driver.serve();
    }
    input.end();
    driver.function.reset();
    guest.forget();
    done.borrow_mut().clear();
    driver.start(features, 8);
    for head in 0..8 {
        let buffer = (0xF000 + 16 * u64::from(head), 16, ring::DESCRIPTOR_WRITE, 0);
        driver.describe(0, head, buffer);
        driver.offer(0, head);
    }
    driver.notify(0);
    driver.serve();
    driver.serve();
    let used = guest.word(Driver::places(0).used + 2);
    assert_eq!(used, 8, "requests after a reset");
}

/// A descriptor, most of the time one that the queue has.
fn index(driver: &Driver, input: &Input) -> u16 {
    match u16::from(input.byte()) {
        beyond @ 0xD0.. => beyond & 31,
        within => within & driver.size.wrapping_sub(1),
    }
}

/// One thing that L2 does.
fn step(driver: &mut Driver, input: &Input) {
    let choice = input.byte();
    let queue = u16::from(choice >> 7);
    let common = |place: u8| u64::from(place) % u64::from(registers::COMMON_SIZE);
    match choice % 16 {
        0 | 1 => {
            // A buffer, most of the time a sound one.
            let at = index(driver, input);
            let form = input.byte();
            let gpa = match form & 0xC0 {
                0xC0 => input.qword(),
                _ => 0x8000 + u64::from(input.word() & 0x7FFF),
            };
            let length = match form & 0x30 {
                0x30 => input.dword(),
                0x20 => 16 * u32::from(input.byte() & 31),
                _ => u32::from(input.byte()) + 1,
            };
            let next = index(driver, input);
            driver.describe(queue, at, (gpa, length, u16::from(form & 7), next));
        }
        2 => {
            // A table's descriptor.
            let at = 0x8000 + 16 * u64::from(input.byte());
            let bytes = input.bytes(16);
            driver.guest.put(at, &bytes);
        }
        3..=5 => {
            let head = index(driver, input);
            driver.offer(queue, head);
            driver.notify(queue);
        }
        6 => {
            let at = Driver::places(queue).available + u64::from(input.byte() & 0x3F);
            driver.guest.put(at, &[input.byte()]);
        }
        7 => driver.notify(input.word()),
        8 => {
            let place = common(input.byte());
            let count = 1 << (input.byte() & 3);
            driver.write(place, &input.bytes(count));
        }
        9 => {
            let place = u64::from(input.word() & 0x7FFF);
            let count = 1 << (input.byte() & 3);
            driver.write(place, &input.bytes(count));
        }
        10 => {
            let place = u64::from(input.word() & 0x7FFF);
            driver.read(place, &mut [0; 8][..1 << (input.byte() & 3)]);
        }
        11 => {
            let at = u16::from(input.byte());
            let count = 1 << (input.byte() & 3);
            driver.function.write_configuration(at, &input.bytes(count));
        }
        12 => {
            let at = u16::from(input.byte());
            let into = &mut [0; 8][..1 << (input.byte() & 3)];
            driver.function.read_configuration(at, into);
        }
        13 => {
            let chosen = input.byte();
            let of = |bit: u8, feature: u64| if chosen & bit == 0 { feature } else { 0 };
            let features = feature::VERSION_1
                | of(1, feature::EVENT_IDX)
                | of(2, feature::INDIRECT_DESC)
                | of(4, 1 << 5);
            driver.start(features, 1 << (input.byte() % 6));
        }
        14 if choice >= 0x80 => driver.function.reset(),
        // L1 is left to serve.
        _ => {}
    }
}
