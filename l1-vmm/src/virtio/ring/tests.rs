//! The queue against devices that keep the rules, and devices that do not.

extern crate std;

use super::*;
use crate::virtio::model::memory::Shared;
use crate::virtio::model::queue::DeviceQueue;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use proptest::prelude::*;

const BASE: u64 = 0x10_0000;

fn queue(size: u16, suppression: Suppression) -> (Ring<Shared, u32>, DeviceQueue) {
    let memory = Shared::new(BASE, 0x4000);
    let ring = Ring::new(memory.clone(), size, suppression).unwrap();
    let device = DeviceQueue::new(memory, ring.areas());
    (ring, device)
}

fn segment(gpa: u64, length: u32) -> Segment {
    Segment { gpa, length }
}

/// One request of a readable and a writable part.
fn post(ring: &mut Ring<Shared, u32>, token: u32) {
    let (out, into) = ([segment(0x1000, 16)], [segment(0x2000, 64)]);
    ring.post(&out, &into, token).unwrap();
}

#[test]
fn a_request_goes_there_and_back() {
    let (mut ring, mut device) = queue(8, Suppression::Flags);
    let out = [segment(BASE + 0x1000, 4), segment(BASE + 0x3000, 2)];
    let into = [segment(BASE + 0x2000, 64)];
    device.memory.device_write(out[0].gpa, b"ques");
    device.memory.device_write(out[1].gpa, b"ti");
    ring.post(&out, &into, 7).unwrap();
    assert_eq!(ring.take(), Ok(None));
    let request = device.pop().unwrap();
    assert_eq!(request.read(&device.memory), b"questi");
    assert_eq!(request.writable, into);
    let length = request.write(&device.memory, b"answer");
    device.push(request.head.into(), length);
    let completion = ring.take().unwrap().unwrap();
    assert_eq!((completion.token, completion.written), (7, 6));
    assert_eq!((ring.take(), ring.in_flight()), (Ok(None), 0));
}

#[test]
fn what_does_not_fit_is_back_pressure_and_no_loss() {
    let (mut ring, mut device) = queue(4, Suppression::Flags);
    post(&mut ring, 1);
    post(&mut ring, 2);
    let refused = ring.post(&[segment(0, 1)], &[], 3).unwrap_err();
    assert_eq!((refused.error, refused.token), (PostError::Full, 3));
    let first = device.pop().unwrap();
    let second = device.pop().unwrap();
    device.push(second.head.into(), 0);
    assert_eq!(ring.take().unwrap().unwrap().token, 2);
    post(&mut ring, 3);
    assert!(device.pop().is_some());
    device.push(first.head.into(), 0);
    assert_eq!(ring.take().unwrap().unwrap().token, 1);
}

#[test]
fn a_request_has_a_form() {
    let (mut ring, _) = queue(4, Suppression::Flags);
    let two = [segment(0, u32::MAX), segment(0, 1)];
    for (out, into) in [
        (&[][..], &[][..]),
        (&[segment(0, 0)], &[]),
        (&[segment(0, 1); 5], &[]),
        (&[], &two),
    ] {
        let refused = ring.post(out, into, 9).unwrap_err();
        assert_eq!((refused.error, refused.token), (PostError::Form, 9));
    }
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn indices_wrap() {
    for suppression in [Suppression::Flags, Suppression::EventIndex] {
        let (mut ring, mut device) = queue(4, suppression);
        for token in 0..70_000 {
            post(&mut ring, token);
            device.set_available_event(token as u16);
            assert_eq!(ring.notification(), Notification::Needed, "{token}");
            let request = device.pop().unwrap();
            assert_eq!(ring.ask_for_interrupt(), Ok(Pending::No));
            device.push(request.head.into(), 64);
            assert_eq!(ring.take().unwrap().unwrap().token, token);
        }
    }
}

#[test]
fn a_queue_has_room_and_a_size() {
    let memory = Shared::new(BASE, 200);
    let new = |size| Ring::<_, u32>::new(memory.clone(), size, Suppression::Flags).unwrap_err();
    assert_eq!(new(0), RingError::Size(0));
    assert_eq!(new(3), RingError::Size(3));
    assert!(matches!(new(8), RingError::Memory { needed: 222, .. }));
    let odd = Shared::new(BASE + 8, 0x1000);
    let error = Ring::<_, u32>::new(odd, 8, Suppression::Flags).unwrap_err();
    assert_eq!(error, RingError::Alignment(BASE + 8));
}

#[test]
fn a_device_is_notified_when_it_asks() {
    let (mut ring, device) = queue(8, Suppression::EventIndex);
    assert_eq!(ring.notification(), Notification::Suppressed, "nothing new");
    device.set_available_event(1);
    post(&mut ring, 0);
    assert_eq!(ring.notification(), Notification::Suppressed);
    post(&mut ring, 1);
    post(&mut ring, 2);
    assert_eq!(ring.notification(), Notification::Needed, "1 was passed");
    let (mut ring, device) = queue(8, Suppression::Flags);
    device.memory.device_write(device.areas.used, &[1, 0]);
    post(&mut ring, 0);
    assert_eq!(ring.notification(), Notification::Suppressed);
}

#[test]
fn interrupts_are_asked_for_without_a_gap() {
    let (mut ring, mut device) = queue(8, Suppression::EventIndex);
    post(&mut ring, 0);
    ring.ask_for_none();
    assert_eq!(device.used_event(), 0xFFFF);
    let request = device.pop().unwrap();
    device.push(request.head.into(), 1);
    assert_eq!(ring.ask_for_interrupt(), Ok(Pending::Yes));
    assert!(ring.take().unwrap().is_some());
    assert_eq!(ring.ask_for_interrupt(), Ok(Pending::No));
    assert_eq!(device.used_event(), 1);
}

/// Posts two requests, lets the device lie, and gives the rule that it broke; then nothing goes on, and both
/// requests come back from the reset.
fn lie(lie: impl FnOnce(&mut DeviceQueue)) -> Broken {
    let (mut ring, mut device) = queue(8, Suppression::Flags);
    post(&mut ring, 1);
    post(&mut ring, 2);
    lie(&mut device);
    let mut given_back = Vec::new();
    let broken = loop {
        match ring.take() {
            Ok(Some(completion)) => given_back.push(completion.token),
            Ok(None) => panic!("the lie was not seen"),
            Err(broken) => break broken,
        }
    };
    assert_eq!(ring.take(), Err(broken));
    assert_eq!(ring.ask_for_interrupt(), Err(broken));
    let refused = ring.post(&[segment(0, 1)], &[], 9).unwrap_err();
    assert_eq!(
        (refused.error, refused.token),
        (PostError::Broken(broken), 9)
    );
    given_back.extend(ring.reset());
    given_back.sort_unstable();
    assert_eq!(given_back, [1, 2]);
    broken
}

#[test]
fn a_used_id_outside_the_queue_breaks_it() {
    for id in [8, 300, 0xFFFF, 0x1_0000, 0x1_0002, u32::MAX] {
        assert_eq!(lie(|d| d.push(id, 0)), Broken::UsedId { id, size: 8 });
    }
}

#[test]
fn a_used_id_that_is_not_in_flight_breaks_it() {
    // 1 is the middle of the first chain, 5 is free.
    for id in [1, 3, 4, 5, 7] {
        assert_eq!(
            lie(|d| d.push(id, 0)),
            Broken::NotInFlight { id: id as u16 }
        );
    }
}

#[test]
fn a_completion_that_comes_twice_breaks_it() {
    let twice = |device: &mut DeviceQueue| {
        device.push(0, 0);
        device.push(0, 0);
    };
    assert_eq!(lie(twice), Broken::NotInFlight { id: 0 });
}

#[test]
fn a_used_length_above_what_was_posted_breaks_it() {
    for length in [65, 100_000, u32::MAX] {
        let broken = lie(|device| device.push(0, length));
        let writable = 64;
        assert_eq!(broken, Broken::UsedLength { length, writable });
    }
}

#[test]
fn a_used_length_of_zero_is_no_bytes() {
    let (mut ring, mut device) = queue(8, Suppression::Flags);
    post(&mut ring, 1);
    device.push(0, 0);
    assert_eq!(ring.take().unwrap().unwrap().written, 0);
}

#[test]
fn a_used_index_that_jumps_or_goes_back_breaks_it() {
    for index in [3, 8, 9, 0x7FFF, 0xFFFF] {
        let broken = lie(|device| device.set_used_index(index));
        assert!(matches!(broken, Broken::UsedIndex { index: at, .. } if at == index));
    }
    let back = lie(|device| {
        device.push(0, 0);
        // The driver has taken one when it reads this.
        let used = device.areas.used - BASE;
        let mut reads = 0;
        device.memory.before_read(move |memory, offset, _| {
            if offset as u64 == used + 2 {
                reads += 1;
                if reads == 2 {
                    memory[offset..offset + 2].copy_from_slice(&[0, 0]);
                }
            }
        });
    });
    assert!(matches!(
        back,
        Broken::UsedIndex {
            index: 0,
            seen: 1,
            ..
        }
    ));
}

#[test]
fn descriptors_and_the_available_ring_are_never_read_back() {
    let (mut ring, mut device) = queue(8, Suppression::EventIndex);
    let used = (device.areas.used - BASE) as usize;
    device.memory.before_read(move |memory, offset, _| {
        assert!(offset >= used, "a read of what the driver wrote");
        memory[..used].fill(0xFF);
    });
    let mut seen = BTreeSet::new();
    for token in 0..100 {
        post(&mut ring, token);
        let head = device
            .memory
            .device_read_u16(device.areas.available + 4 + 2 * u64::from(token as u16 % 8));
        let _ = ring.notification();
        device
            .memory
            .device_write(device.areas.descriptors, &[0xFF; 128]);
        device.push(head.into(), 64);
        assert!(seen.insert(ring.take().unwrap().unwrap().token));
    }
}

#[test]
fn index_and_element_are_read_once() {
    let (mut ring, mut device) = queue(8, Suppression::Flags);
    post(&mut ring, 1);
    device.push(0, 64);
    let used = (device.areas.used - BASE) as usize;
    let (mut index, mut element) = (0, 0);
    let reads = alloc::rc::Rc::new(core::cell::Cell::new((0, 0)));
    let counted = reads.clone();
    device.memory.before_read(move |memory, offset, length| {
        if offset == used + 2 {
            index += 1;
        } else {
            assert_eq!((offset, length), (used + 4, 8), "an element at once");
            element += 1;
            // Another value as soon as it is read again.
            if element > 1 {
                memory[offset..offset + 8].fill(0xFF);
            }
        }
        counted.set((index, element));
    });
    let completion = ring.take().unwrap().unwrap();
    assert_eq!((completion.token, completion.written), (1, 64));
    assert_eq!(reads.get(), (1, 1));
}

#[test]
fn a_completion_for_the_queue_before_the_reset_finds_nothing() {
    let (mut ring, mut device) = queue(8, Suppression::Flags);
    post(&mut ring, 1);
    let memory = device.memory.clone();
    assert_eq!(ring.reset().collect::<Vec<_>>(), [1]);
    let mut ring = Ring::<_, u32>::new(memory, 8, Suppression::Flags).unwrap();
    device.push(0, 64);
    assert!(matches!(ring.take(), Err(Broken::UsedIndex { .. })));
}

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Post(u8, u8),
    Take,
    Notify,
    Ask,
    AskForNone,
    Complete(u8),
    /// The device writes anything anywhere.
    Write(u16, Vec<u8>),
    Index(u16),
    Element(u8, u32, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u8, 0..3_u8).prop_map(|(a, b)| Step::Post(a, b)),
        4 => Just(Step::Take),
        1 => Just(Step::Notify),
        1 => Just(Step::Ask),
        1 => Just(Step::AskForNone),
        4 => any::<u8>().prop_map(Step::Complete),
        1 => (0..512_u16, prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Step::Write(at, bytes)),
        1 => any::<u16>().prop_map(Step::Index),
        1 => (0..9_u8, 0..9_u32, 0..200_u32).prop_map(|(a, b, c)| Step::Element(a, b, c)),
    ]
}

/// Runs the steps; with `honest`, those that break no rule. Every token comes back exactly once.
fn run(steps: Vec<Step>, honest: bool, suppression: Suppression) -> Result<(), TestCaseError> {
    let (mut ring, mut device) = queue(8, suppression);
    let mut out = BTreeSet::new();
    let mut token = 0;
    let mut writable = alloc::collections::BTreeMap::new();
    let mut taken_by_device = Vec::new();
    for step in steps {
        match step {
            Step::Post(readable, count) => {
                token += 1;
                let parts = |count: u8| alloc::vec![segment(0x1000, 10); count.into()];
                match ring.post(&parts(readable), &parts(count), token) {
                    Ok(()) => {
                        out.insert(token);
                        writable.insert(token, u32::from(count) * 10);
                    }
                    Err(refused) => prop_assert_eq!(refused.token, token),
                }
            }
            Step::Take => match ring.take() {
                Ok(Some(done)) => {
                    prop_assert!(out.remove(&done.token), "twice, or never posted");
                    prop_assert!(done.written <= writable[&done.token]);
                }
                Ok(None) => {}
                Err(_) => prop_assert!(!honest),
            },
            Step::Notify => drop(ring.notification()),
            Step::Ask => drop(ring.ask_for_interrupt()),
            Step::AskForNone => ring.ask_for_none(),
            Step::Complete(which) if honest => {
                while let Some(request) = device.pop() {
                    taken_by_device.push(request);
                }
                if !taken_by_device.is_empty() {
                    let which = usize::from(which) % taken_by_device.len();
                    let request = taken_by_device.swap_remove(which);
                    device.push(request.head.into(), request.writable_length());
                }
            }
            Step::Complete(id) => device.push(u32::from(id) % 8, 0),
            Step::Write(at, bytes) if !honest => device
                .memory
                .device_write(BASE + u64::from(at) % 240, &bytes),
            Step::Index(index) if !honest => device.set_used_index(index % 16),
            Step::Element(slot, id, length) if !honest => {
                let element = u64::from(id) | u64::from(length) << 32;
                let gpa = device.areas.used + 4 + 8 * u64::from(slot % 8);
                device.memory.device_write(gpa, &element.to_le_bytes());
            }
            _ => {}
        }
        prop_assert_eq!(usize::from(ring.in_flight()), out.len());
    }
    let mut rest: Vec<_> = ring.reset().collect();
    rest.sort_unstable();
    prop_assert_eq!(rest, out.into_iter().collect::<Vec<_>>());
    Ok(())
}

proptest! {
    #[test]
    fn an_honest_device_breaks_nothing(steps in prop::collection::vec(step(), 0..200)) {
        run(steps.clone(), true, Suppression::Flags)?;
        run(steps, true, Suppression::EventIndex)?;
    }

    #[test]
    fn whatever_a_device_writes_each_request_comes_back_once(
        steps in prop::collection::vec(step(), 0..200),
    ) {
        run(steps.clone(), false, Suppression::Flags)?;
        run(steps, false, Suppression::EventIndex)?;
    }

    /// The device owns the memory between any two reads.
    #[test]
    fn writes_between_any_two_reads_lose_nothing(seed in any::<u64>(), rounds in 1..200_u32) {
        let (mut ring, device) = queue(8, Suppression::EventIndex);
        let mut state = seed | 1;
        device.memory.before_read(move |memory, offset, length| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Mostly something that could pass.
            let value = match state % 4 {
                0 => state >> 8,
                1 => 0,
                _ => state >> 8 & 0x0000_003F_0000_0007,
            };
            let bytes = value.to_le_bytes();
            let length = length.min(8);
            memory[offset..offset + length].copy_from_slice(&bytes[..length]);
        });
        let mut out = BTreeSet::new();
        for token in 0..rounds {
            if ring.post(&[], &[segment(0, 20)], token).is_ok() {
                out.insert(token);
            }
            let _ = ring.notification();
            while let Ok(Some(done)) = ring.take() {
                prop_assert!(out.remove(&done.token));
                prop_assert!(done.written <= 20);
            }
        }
        prop_assert_eq!(ring.reset().collect::<BTreeSet<_>>(), out);
    }
}
