//! L1's drivers for a disk and a console, whole, and the store of the vTPM's states on the disk.

use std::cell::RefCell;
use std::rc::Rc;

use super::host::{Content, Host, SHARED_LENGTH, Shared, Ticks, Wire, window};
use l1_vmm::shared_buffer::{Part, Pool};
use l1_vmm::virtio::block::{self, Limits};
use l1_vmm::virtio::clock::{Clock, Deadline};
use l1_vmm::virtio::devices::{Devices, STATE_DISK, StateDiskError};
use state_store::layout::SECTORS_MIN;
use state_store::{
    Commit, EkTemplate, MachineId, NoLedger, Nonce, OpenError, Opened, Rollback, State, StateKey,
    Store, open,
};
use virtio_host::{Block, Bus, Console, Function, PlannedLie};

type Disk = block::Block<Host, Part<Shared>, Ticks>;

const LIMITS: Limits = Limits {
    attempt: 1_000_000,
    reset: 100_000,
    ..Limits::DISK
};
const MACHINE: MachineId = MachineId([0xA5; 32]);
const NV_SIZE: u32 = 176_832;

/// A host with L1's disk, and what else is said.
fn host(content: &Content, lie: Option<&str>, more: impl IntoIterator<Item = Function>) -> Host {
    let mut disk = Function::new(Block::new(content.clone(), STATE_DISK));
    if let Some(lie) = lie {
        disk = disk.with_lie(PlannedLie::parse(lie).unwrap_or_else(|| panic!("{lie}")));
    }
    let mut bus = Bus::new();
    bus.add(9, disk);
    for (place, function) in (2..).zip(more) {
        bus.add(place, function);
    }
    Host {
        bus: Rc::new(RefCell::new(bus)),
        memory: Shared::new(),
    }
}

fn state_disk(host: &Host) -> Result<Disk, StateDiskError> {
    let mut devices = Devices::find(host, &mut window()).unwrap();
    let mut pool = Pool::new(host.memory.clone());
    let memory = pool.take(SHARED_LENGTH).unwrap();
    devices.state_disk(&memory, &Ticks::default(), LIMITS)
}

#[test]
fn a_disk_that_cannot_be_written_or_flushed_is_no_state_disk() {
    for (lie, expected) in [
        ("read-only", StateDiskError::ReadOnly),
        ("no-flush", StateDiskError::NoFlush),
    ] {
        let host = host(&Content::of_sectors(64), Some(lie), []);
        assert_eq!(state_disk(&host).err(), Some(expected), "{lie}");
    }
}

#[test]
fn l1_finds_its_devices_among_others() {
    let content = Content::of_sectors(64);
    let wire = Wire::default();
    wire.room.set(1_000);
    let others = [
        Function::new(Block::new(Content::of_sectors(8), "root")),
        Function::new(Console::new(wire.clone())),
    ];
    let host = host(&content, None, others);
    let mut devices = Devices::find(&host, &mut window()).unwrap();
    let mut pool = Pool::new(host.memory.clone());
    let clock = Ticks::default();
    let memory = pool.take(0x8000).unwrap();
    let mut disk = devices.state_disk(&memory, &clock, LIMITS).unwrap();
    let memory = pool.take(0x8000).unwrap();
    let console = devices.broker_channel(memory, clock.clone());
    let mut console = console.unwrap();
    assert_eq!(devices.iter().count(), 1);

    let mut read = vec![0; 64 * 512];
    disk.read(0, &mut read).unwrap();
    assert_eq!(read, content.all());
    read.reverse();
    disk.write(0, &read).unwrap();
    disk.flush().unwrap();
    assert_eq!(content.all(), read);

    let deadline = Deadline::after(&clock, 10_000_000);
    console.send(&[7; 900], &deadline).unwrap();
    assert_eq!(*wire.from_l1.borrow(), [7; 900]);
    wire.to_l1.borrow_mut().extend(vec![9; 5_000]);
    let mut received = Vec::new();
    while received.len() < 5_000 {
        let mut part = [0; 700];
        // Somebody has to look whether something has come: in the simulator, each exit does.
        host.poll();
        let count = console.receive(&mut part, &deadline).unwrap();
        received.extend_from_slice(&part[..count]);
    }
    assert_eq!(received, [9; 5_000]);
}

fn state(number: u64) -> State {
    let engine = number.to_le_bytes().into_iter().cycle();
    State {
        engine: engine.take(3_000).collect(),
        ek_templates: Vec::<EkTemplate>::new(),
        journal_epoch: number,
        nv_size: NV_SIZE,
        policy: "require".into(),
        others: vec![],
    }
}

/// Opens the state; gives the store and the number of the state that is there.
fn start(disk: Disk) -> Result<(Store<Disk, NoLedger>, Option<u64>), OpenError> {
    let key = StateKey::take(&mut [0x11; 32]).into();
    let opened = open(disk, NoLedger, &key, MACHINE, NV_SIZE, Rollback::None)?;
    Ok(match opened {
        Opened::Stored { store, state, .. } | Opened::Unacknowledged { store, state, .. } => {
            (store, Some(state.journal_epoch))
        }
        Opened::Fresh(store) => (store, None),
    })
}

/// A disk with state 1.
fn with_a_state() -> Content {
    let content = Content(Rc::new(RefCell::new(vec![0; SECTORS_MIN as usize * 512])));
    let (mut store, found) = start(state_disk(&host(&content, None, [])).unwrap()).unwrap();
    assert_eq!(found, None);
    assert!(matches!(commit(&mut store, 1), Commit::Stored(_)));
    content
}

fn commit(store: &mut Store<Disk, NoLedger>, number: u64) -> Commit {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    store.commit(&state(number), Nonce(nonce))
}

/// Commits states 2 to 4 to a device that lies so, and starts again with one that does not. What was stored last, or
/// one that was not since, is there. Whether all three were stored at the first try.
fn lied_to(lie: &str) -> bool {
    let content = with_a_state();
    let (mut stored, mut under_way) = (1, vec![]);
    let mut all = true;
    let lying = host(&content, Some(lie), []);
    match state_disk(&lying).map(start) {
        Ok(Ok((mut store, found))) => {
            assert_eq!(found, Some(1), "{lie}");
            for number in 2..=4 {
                match commit(&mut store, number) {
                    Commit::Stored(_) => (stored, under_way) = (number, vec![]),
                    Commit::NotStored { .. } => {
                        under_way.push(number);
                        all = false;
                    }
                    other => panic!("{lie}: {other:?}"),
                }
            }
        }
        Ok(Err(OpenError::Device(_))) | Err(_) => all = false,
        Ok(Err(error)) => panic!("{lie}: {error}"),
    }
    let (mut store, found) = start(state_disk(&host(&content, None, [])).unwrap()).unwrap();
    under_way.push(stored);
    assert!(
        found.is_some_and(|found| under_way.contains(&found)),
        "{lie}: {found:?}, of {under_way:?}"
    );
    assert!(matches!(commit(&mut store, 9), Commit::Stored(_)), "{lie}");
    all
}

#[test]
fn the_power_fails_at_every_write_of_a_commit() {
    let losses = ["", ":torn", ":unflushed", ":1", ":1:torn", ":3", ":5:torn"];
    for loss in losses {
        let writes = (1..)
            .take_while(|write| !lied_to(&format!("cut:{write}{loss}")))
            .count();
        // Of a commit, a slot and a commit record.
        assert_eq!(writes, 3 * 2, "{loss}");
    }
}

#[test]
fn one_lie_at_any_request_loses_nothing_that_was_stored() {
    for lie in [
        "used-id:0x10000",
        "used-id:61",
        "used-len:100000",
        "used-jump:9",
        "silent",
        "twice",
        "late",
        "rewrite",
        "mute",
        "vector:0x99",
        "needs-reset",
        "io-error",
    ] {
        let mut at_once = 0;
        for request in 1..30 {
            at_once += u32::from(lied_to(&format!("{lie}@{request}+1")));
        }
        // Flushes are not repeated by the driver, but the store writes again. A device that needs a reset before its
        // first request is not started.
        let expected = if lie == "needs-reset" { 28 } else { 29 };
        assert_eq!(at_once, expected, "{lie}");
    }
}

#[test]
fn a_device_that_never_stops_lying_is_given_up_in_time() {
    for lie in [
        "used-id:0x10000@12",
        "used-len:100000@12",
        "used-jump:9@12",
        "silent@12",
        "io-error@12",
        "vanish@12",
    ] {
        assert!(!lied_to(lie), "{lie}");
    }
    let content = with_a_state();
    let host = host(&content, Some("silent@12"), []);
    let mut disk = state_disk(&host).unwrap();
    let clock = Ticks::default();
    let before = clock.now();
    while disk.write(0, &[0; 512]).is_ok() {}
    assert!(disk.flush().is_err());
    assert!(clock.now() - before < 10_000_000);
}
