//! L1's drivers of a disk, a console and a socket.

use super::host::{FUNCTION, Host, PORT, Pace, SECTORS, Shared, Ticks, window};
use super::input::Input;
use l1_vmm::virtio::block::{Block, BlockError, Limits};
use l1_vmm::virtio::clock::{Clock, Deadline};
use l1_vmm::virtio::console::Console;
use l1_vmm::virtio::pci::Device;
use l1_vmm::virtio::stream::StreamError;
use l1_vmm::virtio::vsock::Vsock;
use virtio_defs::{block, console, vsock};

/// Calls of a driver at most.
const CALLS: usize = 64;
/// Nanoseconds that a call may wait for a device.
const PATIENCE: u64 = 5_000_000;
/// Nanoseconds that a start may take: resets, which a console gives 100 milliseconds.
const START: u64 = 101_000_000;
/// Nanoseconds beyond a deadline: looks at the clock after it.
const SLACK: u64 = 100_000;
/// Accesses of memory or calls to the host at most, for each look at the clock; a fixed part is for starts.
const WORK: u64 = 64;

const LIMITS: Limits = Limits {
    attempt: PATIENCE,
    reset: 1_000_000,
    attempts: 3,
    faults: 8,
};
/// Three attempts, each with two resets and a start, and looks.
const BLOCK_CALL: u64 = 3 * (LIMITS.attempt + 2 * LIMITS.reset) + SLACK;

/// The host, what is shared with it, and the time.
struct Bench {
    host: Host,
    memory: Shared,
    clock: Ticks,
    input: Input,
}

impl Bench {
    fn new(kind: u16, length: usize, data: &[u8]) -> Self {
        let input = Input::new(data);
        let memory = Shared::new(length, &input);
        Self {
            host: Host::new(kind, &memory, &input),
            memory,
            clock: Ticks::default(),
            input,
        }
    }

    /// The device, if it is found, and whether what was found is true.
    fn find(&self, kind: u16) -> Option<(Device<Host>, Found)> {
        let host = self.host.clone();
        let found = self.bounded(0, || Device::find(host, FUNCTION, kind, &mut window()));
        let honest = match self.host.model().lies {
            0 => Found::True,
            _ => Found::Lied,
        };
        Some((found.ok()?, honest))
    }

    fn work(&self) -> u64 {
        self.host.model().calls + self.memory.accesses.get()
    }

    /// Makes a call that may take so many nanoseconds, and so much work.
    fn bounded<T>(&self, nanoseconds: u64, call: impl FnOnce() -> T) -> T {
        let (start, before) = (self.clock.now(), self.work());
        let result = call();
        let took = self.clock.now() - start;
        assert!(took <= nanoseconds + SLACK, "{took} ns");
        let work = self.work() - before;
        assert!(work <= WORK * (64 + took / 10_000), "{work} accesses");
        result
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(&self.clock, PATIENCE)
    }
}

/// Whether the host has lied when the device was looked for: a driver is held to what it found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    True,
    Lied,
}

type Disk<'a> = Block<Host, Shared, &'a Ticks>;

/// A disk. Where the host keeps the rules at last, the driver has all of its buffers.
pub fn host_block(data: &[u8]) {
    let kind = block::DEVICE_TYPE;
    let bench = Bench::new(kind, Disk::MEMORY_MAX, data);
    let Some((device, found)) = bench.find(kind) else {
        return;
    };
    let (memory, clock) = (bench.memory.clone(), &bench.clock);
    let opened = bench.bounded(BLOCK_CALL, || {
        Block::open(device, memory, clock, "disk", 0, LIMITS)
    });
    let Ok(mut disk) = opened else {
        return;
    };
    for _ in 0..CALLS {
        if bench.input.ended() {
            break;
        }
        let choice = bench.input.byte();
        let sector = u64::from(bench.input.byte());
        let mut bytes = vec![0x5A; 512 * (1 + usize::from(choice >> 3))];
        let _ = bench.bounded(BLOCK_CALL, || match choice & 7 {
            0..=3 => disk.read(sector, &mut bytes),
            4 | 5 => disk.write(sector, &bytes),
            6 => disk.flush(),
            _ => disk.identify().map(drop),
        });
    }
    if found == Found::Lied {
        return;
    }
    let mut model = bench.host.model();
    model.becomes_honest();
    model.pace = Pace::Late;
    // So that what it has broken in its memory is gone.
    model.needs_reset = true;
    drop(model);
    let mut bytes = vec![0; 64 * 4096];
    for _ in 0..2 {
        match bench.bounded(BLOCK_CALL, || disk.read(0, &mut bytes)) {
            Ok(()) => {
                let most = bench.host.model().held_most;
                assert_eq!(most, 21, "buffers that are left");
                return;
            }
            // It was another one before.
            Err(BlockError::Changed | BlockError::GivenUp) => return,
            Err(BlockError::Range { .. }) if disk.sectors() < SECTORS => return,
            Err(_) => {}
        }
    }
    panic!("an honest disk does not work");
}

/// A console. A stream that is open has all of its buffers, and one that is started again works.
pub fn host_console(data: &[u8]) {
    type Port<'a> = Console<Host, Shared, &'a Ticks>;
    let kind = console::DEVICE_TYPE;
    let bench = Bench::new(kind, Port::MEMORY_MAX, data);
    let Some((device, found)) = bench.find(kind) else {
        return;
    };
    let (memory, clock) = (bench.memory.clone(), &bench.clock);
    let opened = bench.bounded(START, || Console::open(device, memory, clock, "port"));
    let Ok(mut port) = opened else {
        return;
    };
    let mut restarts = 0;
    let mut into = [0; 3000];
    for _ in 0..CALLS {
        if bench.input.ended() {
            break;
        }
        let choice = bench.input.byte();
        let length = usize::from(choice >> 2) * 47;
        let deadline = bench.deadline();
        match choice & 3 {
            0 | 1 => {
                let received =
                    bench.bounded(PATIENCE, || port.receive(&mut into[..length], &deadline));
                assert!(received.is_ok_and(|count| count <= length) || received.is_err());
            }
            2 => {
                let bytes = &[3; 24_000][..8 * length];
                let _ = bench.bounded(PATIENCE, || port.send(bytes, &deadline));
            }
            _ => {
                restarts += 1;
                let _ = bench.bounded(START, || port.restart());
            }
        }
    }
    bench.host.model().becomes_honest();
    let mut receive = |port: &mut Port<'_>| {
        let deadline = bench.deadline();
        bench.bounded(PATIENCE, || port.receive(&mut into, &deadline))
    };
    let mut last = Ok(0);
    for _ in 0..20 {
        last = receive(&mut port);
        if last.is_err() {
            break;
        }
    }
    if found == Found::Lied {
        return;
    }
    if last == Err(StreamError::TimeOut)
        && let Some((held, all)) = bench.host.model().held(console::QUEUE_RECEIVE)
    {
        assert_eq!(held, usize::from(all), "buffers that are left");
    }
    if bench.bounded(START, || port.restart()).is_err() {
        assert!(restarts >= 8, "it starts no more");
        return;
    }
    bench.host.model().to_send.push_back(b"answer".to_vec());
    assert_eq!(receive(&mut port), Ok(6));
    let deadline = bench.deadline();
    assert_eq!(port.send(&[1; 50_000], &deadline), Ok(()));
    let held = bench.host.model().held(console::QUEUE_RECEIVE);
    assert_eq!(held, Some((8, 8)), "buffers that are left");
}

/// A socket, as a console.
pub fn host_vsock(data: &[u8]) {
    type Socket<'a> = Vsock<Host, Shared, &'a Ticks>;
    let kind = vsock::DEVICE_TYPE;
    let bench = Bench::new(kind, Socket::MEMORY_MAX, data);
    let Some((device, found)) = bench.find(kind) else {
        return;
    };
    let (memory, clock) = (bench.memory.clone(), &bench.clock);
    let opened = bench.bounded(START, || Vsock::open(device, memory, clock, PORT));
    let Ok(mut socket) = opened else {
        return;
    };
    let mut restarts = 0;
    let mut into = [0; 3000];
    for _ in 0..CALLS {
        if bench.input.ended() {
            break;
        }
        let choice = bench.input.byte();
        let length = usize::from(choice >> 2) * 47;
        let deadline = bench.deadline();
        match choice & 3 {
            0 => {
                let received =
                    bench.bounded(PATIENCE, || socket.receive(&mut into[..length], &deadline));
                assert!(received.is_ok_and(|count| count <= length) || received.is_err());
            }
            1 | 2 => {
                let bytes = &[3; 3000][..length];
                let _ = bench.bounded(PATIENCE, || socket.send(bytes, &deadline));
            }
            _ => {
                restarts += 1;
                let _ = bench.bounded(START, || socket.restart());
            }
        }
    }
    bench.host.model().becomes_honest();
    let mut receive = |socket: &mut Socket<'_>| {
        let deadline = bench.deadline();
        bench.bounded(PATIENCE, || socket.receive(&mut into, &deadline))
    };
    let mut last = Ok(0);
    for _ in 0..20 {
        last = receive(&mut socket);
        if last.is_err() {
            break;
        }
    }
    if found == Found::Lied {
        return;
    }
    if last == Err(StreamError::TimeOut) {
        for queue in [vsock::QUEUE_RECEIVE, vsock::QUEUE_EVENT] {
            if let Some((held, all)) = bench.host.model().held(queue) {
                let all = if queue == vsock::QUEUE_EVENT {
                    1
                } else {
                    usize::from(all)
                };
                assert_eq!(held, all, "buffers that are left of queue {queue}");
            }
        }
    }
    if bench.bounded(START, || socket.restart()).is_err() {
        assert!(restarts >= 8, "it starts no more");
        return;
    }
    let deadline = bench.deadline();
    assert_eq!(socket.send(&[1; 50_000], &deadline), Ok(()));
    let mut model = bench.host.model();
    let answer = model.packet(vsock::OPERATION_DATA, b"answer");
    model.to_send.push_back(answer);
    drop(model);
    assert_eq!(receive(&mut socket), Ok(6));
}
