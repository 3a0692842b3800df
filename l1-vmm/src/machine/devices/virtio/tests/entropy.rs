//! The device that L1 answers itself.

use super::super::entropy::EntropyDevice;
use super::*;
use crate::entropy::EntropyError;
use alloc::boxed::Box;

fn entropy(fill: impl FnMut(&mut [u8]) -> Result<(), EntropyError> + 'static) -> Machine {
    let mut machine = Machine::new();
    machine.function = Function::new(Box::new(EntropyDevice::new(fill)), BARS as u32);
    machine.function.write_configuration(4, &[6, 4]);
    machine.queues[0] = Driver::new(&machine.guest, 0x1_0000, 8);
    machine.write(0x14, &[3]);
    machine.choose(VERSION_1 | EVENT_IDX);
    machine.write(0x14, &[11]);
    machine.msix();
    machine.enable(0);
    machine.write(0x14, &[15]);
    machine
}

#[test]
fn the_entropy_device_fills_what_it_is_given() {
    let mut byte = 0;
    let mut machine = entropy(move |into| {
        for place in into {
            byte += 1;
            *place = byte;
        }
        Ok(())
    });
    assert_eq!(machine.config(0, 4), 0x1044_1AF4);
    machine.queues[0].describe(0, 0x4_0000, 16, WRITE, 0);
    machine.queues[0].describe(1, 0x4_1000, 0x1000, WRITE, 0);
    machine.queues[0].offer(0);
    machine.queues[0].offer(1);
    machine.notify(0);
    assert_eq!(machine.queues[0].done(), Some((0, 16)));
    assert_eq!(machine.queues[0].done(), Some((1, 64)));
    let expected: Vec<u8> = (1..=16).collect();
    assert_eq!(machine.guest.get(0x4_0000, 17)[..16], expected);
    assert_eq!(machine.guest.get(0x4_1000, 1), [17]);
    assert_eq!(machine.guest.get(0x4_1040, 1), [0]);
    assert_eq!(machine.vectors(), [0x41]);
}

#[test]
fn without_entropy_the_device_gives_none() {
    let mut machine = entropy(|_| Err(EntropyError::Repetition));
    machine.queues[0].describe(0, 0x4_0000, 16, WRITE, 0);
    machine.queues[0].offer(0);
    machine.notify(0);
    assert_eq!(machine.status(), 15 | NEEDS_RESET);
    assert_eq!(machine.queues[0].done(), None);
}
