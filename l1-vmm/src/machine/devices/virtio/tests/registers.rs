//! What a driver finds in registers, and writes there.

use super::*;

#[test]
fn a_driver_finds_what_the_specification_says() {
    let mut machine = Machine::new();
    assert_eq!(machine.config(0, 4), 0x1042_1AF4);
    assert_eq!(machine.config(8, 4), 0x0180_0001);
    assert!(machine.config(0x2E, 2) >= 0x40);
    for (kind, offset, length) in [(1, 0, 0x38), (2, 0x3000, 8), (3, 0x1000, 1), (4, 0x2000, 8)] {
        let at = machine.capability(9, Some(kind));
        assert_eq!(machine.config(at + 4, 1), 0, "BAR");
        assert_eq!(machine.config(at + 8, 4), offset);
        assert!(machine.config(at + 12, 4) >= length);
    }
    let notify = machine.capability(9, Some(2));
    assert_eq!(
        (
            machine.config(notify + 2, 1),
            machine.config(notify + 16, 4)
        ),
        (20, 4)
    );
    machine.capability(9, Some(5));
    let msix = machine.capability(0x11, None);
    assert_eq!(machine.config(msix + 2, 2), 2, "three entries");
    assert_eq!(
        (machine.config(msix + 4, 4), machine.config(msix + 8, 4)),
        (1, 0x801)
    );
    let mut offered = 0;
    for half in 0..3_u32 {
        machine.write(0, &half.to_le_bytes());
        offered |= u128::from(machine.read(4, 4)) << (32 * half);
    }
    assert_eq!(
        offered,
        u128::from(VERSION_1 | EVENT_IDX | INDIRECT | FEATURE)
    );
    assert_eq!(machine.read(0x12, 2), 2);
    machine.write(0x16, &1_u16.to_le_bytes());
    assert_eq!((machine.read(0x18, 2), machine.read(0x1E, 2)), (16, 1));
    machine.write(0x16, &2_u16.to_le_bytes());
    assert_eq!(
        (machine.read(0x18, 2), machine.read(0x1C, 2)),
        (0, 0),
        "no such queue"
    );
    assert_eq!(machine.read(0x2000, 8), 0x0807_0605_0403_0201);
    assert_eq!(machine.read(0x2004, 8), 0x0000_0000_0807_0605);
}

#[test]
fn features_that_are_not_offered_or_without_version_1_are_refused() {
    for (chosen, ok) in [
        (VERSION_1, true),
        (0, false),
        (VERSION_1 | 1 << 34, false),
        (VERSION_1 | 1 << 33, false),
        (VERSION_1 | 1 << 6, false),
        (FEATURE | EVENT_IDX, false),
    ] {
        let mut machine = Machine::new();
        machine.write(0x14, &[3]);
        machine.choose(chosen);
        machine.write(0x14, &[11]);
        assert_eq!(machine.status() & 8 != 0, ok, "{chosen:#x}");
        machine.write(0x14, &[15]);
        assert_eq!(
            machine.status() & 4 != 0,
            ok,
            "no DRIVER_OK without FEATURES_OK"
        );
    }
    let mut machine = Machine::new();
    machine.behind.0.borrow_mut().lost = true;
    machine.choose(VERSION_1);
    machine.write(0x14, &[11]);
    assert_eq!(machine.status(), 3, "nothing behind it");
}

#[test]
fn a_driver_that_does_not_keep_the_order_changes_nothing() {
    let mut machine = Machine::new();
    machine.enable(0);
    assert_eq!(machine.read(0x1C, 2), 0, "before FEATURES_OK");
    machine.write(0x14, &[4]);
    assert_eq!(machine.status(), 0);
    machine.set_up(0);
    machine.choose(FEATURE);
    machine.write(0x16, &[0, 0]);
    machine.write(0x18, &[4, 0]);
    machine.write(0x1C, &[0, 0]);
    machine.write(0x20, &[0xFF; 8]);
    machine.write(0x14, &[1]);
    machine.write(0x14, &[64]);
    let places = machine.queues[0].places;
    assert_eq!(machine.read(0xC, 4), 1, "VERSION_1, in the upper half");
    assert_eq!((machine.read(0x18, 2), machine.read(0x1C, 2)), (16, 1));
    assert_eq!(machine.read(0x20, 8), places.descriptors);
    assert_eq!(machine.status(), 15);
    machine.write(0x14, &[128]);
    machine.request(0, 0);
    machine.notify(0);
    assert!(machine.submitted().is_empty(), "the driver gave up");
}

#[test]
fn misfit_accesses_are_answered_and_do_nothing() {
    let mut machine = Machine::running(0);
    machine.request(0, 0);
    for (offset, bytes) in [
        (0x3001, &[0, 0][..]),
        (0x3000, &[0]),
        (0x3008, &[2, 0]),
        (0x3FFC, &[0, 0, 0, 0]),
        (0x14, &[0, 0]),
        (0x15, &[9]),
        (0x12, &[9, 0]),
        (0x11, &[0, 0]),
        (0x16, &[0, 0, 0, 0]),
        (0x37, &[0]),
        (0x38, &[0; 8]),
        (0x1000, &[3]),
    ] {
        machine.write(offset, bytes);
    }
    assert!(machine.submitted().is_empty());
    assert_eq!((machine.status(), machine.read(0x12, 2)), (15, 2));
    for width in [1, 2, 4, 8] {
        for offset in 0..0x40 {
            machine.read(offset, width);
        }
        assert_eq!(machine.read(0x1800, width), 0);
        assert_eq!(machine.read(0x3000, width), 0);
        assert_eq!(machine.read(0x2FFF - 7, width), 0);
    }
    // A doubleword is a notification as well.
    machine.write(0x3000, &[0; 4]);
    assert_eq!(machine.submitted(), [0]);
}

#[test]
fn a_new_configuration_has_a_new_generation_and_an_interrupt() {
    let mut machine = Machine::running(0);
    let before = machine.read(0x15, 1);
    {
        let mut state = machine.behind.0.borrow_mut();
        state.configuration = vec![9; 8];
        state.changed = true;
    }
    machine.serve();
    assert_eq!(
        (machine.vectors(), machine.read(0x1000, 1)),
        (vec![0x40], 2)
    );
    assert_eq!(machine.read(0x15, 1), before + 1);
    assert_eq!(machine.read(0x2000, 4), 0x0909_0909);
    machine.write(0x2004, &[7]);
    assert_eq!(machine.behind.0.borrow().configured, [(4, vec![7])]);
}

#[test]
fn a_function_that_may_not_access_memory_does_not() {
    let mut machine = Machine::running(0);
    machine.function.write_configuration(4, &[2, 0]);
    machine.request(0, 0);
    machine.notify(0);
    assert!(machine.submitted().is_empty());
    machine.function.write_configuration(4, &[6, 0]);
    machine.serve();
    assert_eq!(machine.submitted(), [0]);
}

#[test]
fn vectors_that_the_table_does_not_have_are_refused() {
    let mut machine = Machine::running(0);
    for offset in [0x10, 0x1A] {
        machine.write(offset, &2_u16.to_le_bytes());
        assert_eq!(machine.read(offset, 2), 2);
        machine.write(offset, &3_u16.to_le_bytes());
        assert_eq!(machine.read(offset, 2), 0xFFFF);
    }
}

#[test]
fn a_reset_of_the_machine_is_one_of_the_device() {
    let mut machine = Machine::running(0);
    machine.request(0, 0);
    machine.notify(0);
    machine.function.reset();
    assert_eq!(machine.behind.0.borrow().resets, 1);
    assert_eq!(machine.config(4, 2), 0, "command");
    assert_eq!(machine.config(0x10, 4), BARS as u32);
    let at = machine.capability(0x11, None);
    assert_eq!(machine.config(at + 2, 2), 2, "MSI-X is off");
    machine.function.write_configuration(4, &[6, 0]);
    assert_eq!(machine.status(), 0);
}
