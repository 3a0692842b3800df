//! Interrupts, kicks, and what one does for all.

use super::*;

/// While a processor is in L2, the host is asked once to interrupt it, by the host's name for it.
#[test]
fn an_interrupt_to_one_that_is_away_is_one_request_to_the_host() {
    let mut two = Processors::started(2);
    assert!(two.mailbox(1).depart());
    two.command(0, 1 << 32 | 0x41);
    two.command(0, 1 << 32 | 0x42);
    assert_eq!(two.host_msrs(), [kick(1)]);
    two.mailbox(1).arrive();
    two.run(1, &[], HardwareExit::Interrupt).unwrap();
    assert_eq!(two.l2[1].vcpu.apic.status().rvi, 0x42);
    assert_eq!(two.l2[0].own_statistics().kicks, 1);
}

#[test]
fn a_host_that_does_not_interrupt_ends_the_run() {
    let mut two = Processors::started(2);
    assert!(two.mailbox(1).depart());
    two.surroundings.model.set_host(|_, _, _| {
        let mut refused = VpEnterInput::default();
        refused.registers.r10 = 1 << 63;
        refused
    });
    let end = two.wrmsr(0, ICR, 1 << 32 | 0x41);
    assert!(
        matches!(end, Err(End::Failure(Failure::Kick(_)))),
        "{end:?}"
    );
}

#[test]
fn a_kick_that_was_lost_is_repeated() {
    let mut three = Processors::started(3);
    for index in [1, 2] {
        assert!(three.mailbox(index).depart());
    }
    let later = three.surroundings.machine.millisecond();
    let pass = |three: &Processors, ticks: u64| {
        three
            .surroundings
            .model
            .with(|_, platform| platform.tsc += ticks);
    };
    three.command(0, 1 << 32 | 0x41);
    three.run(0, &[], HardwareExit::Interrupt).unwrap();
    assert_eq!(three.host_msrs(), [kick(1)], "too early");
    // Another that is heard in time does not put it off.
    for _ in 0..4 {
        pass(&three, later / 2);
        three.post(0, 2);
        three.mailbox(2).arrive();
        assert!(three.mailbox(2).take().is_some());
        assert!(three.mailbox(2).depart());
    }
    let sent = three.host_msrs();
    let to = |index| sent.iter().filter(|sent| **sent == kick(index)).count();
    assert_eq!(to(2), 4);
    assert!((1..=4).contains(&to(1)), "{sent:x?}");
    assert!(three.l2[0].own_statistics().kicks_repeated > 0);
    three.mailbox(1).arrive();
    pass(&three, later * 2);
    three.run(0, &[], HardwareExit::Interrupt).unwrap();
    assert_eq!(three.host_msrs(), [], "it has come");
}

/// The host loses a kick; the one who gave it makes no exit of its own, the one who is to get it none at all.
#[test]
fn a_lost_kick_is_repeated_in_time_by_one_that_stays_in_l2() {
    let mut two = Processors::started(2);
    let millisecond = two.surroundings.machine.millisecond();
    assert!(two.mailbox(1).depart());
    for round in 1..4 {
        // More of them while one is under way cost nothing.
        two.post(0, 1);
        two.at(0).prepare_entry().unwrap();
        let Deadline::Set(Some(due)) = two.l2[0].vcpu.deadline else {
            panic!("nothing ends L2's run");
        };
        assert_eq!(two.host_msrs().len(), usize::from(round == 1));
        let model = two.surroundings.model.clone();
        let now = model.with(|_, platform| platform.tsc);
        assert!(due > now && due - now <= millisecond);
        model.with(|_, platform| platform.tsc = due);
        two.step(0).unwrap();
        assert_eq!(two.host_msrs(), [kick(1)], "again");
    }
    // That it was heard costs no TDCALL.
    two.at(0).prepare_entry().unwrap();
    let set = two.l2[0].vcpu.deadline;
    assert!(matches!(set, Deadline::Set(Some(_))));
    two.mailbox(1).arrive();
    two.at(0).prepare_entry().unwrap();
    assert_eq!(two.l2[0].vcpu.deadline, set);
}

#[test]
fn a_lost_kick_is_repeated_in_time_by_one_that_halts_or_waits_for_its_start() {
    for init in [false, true] {
        let mut three = Processors::started(3);
        let millisecond = three.surroundings.machine.millisecond();
        assert!(three.mailbox(2).depart());
        three.command(1, 2 << 32 | 0x41);
        assert_eq!(three.host_msrs(), [kick(2)]);
        let model = three.surroundings.model.clone();
        let due = model.with(|_, platform| platform.tsc) + millisecond;
        // It sleeps as long as its timer lets it.
        three.when_halted(1, move || model.with(|_, platform| platform.tsc = due));
        let machine = Arc::clone(&three.surroundings.machine);
        three.when_halted(1, move || {
            let _ = machine.peers.mailbox(1).unwrap().post_stop();
        });
        let end = match init {
            true => {
                three.command(0, 1 << 32 | 0x4500);
                three.step(1).unwrap();
                three.step(1).unwrap();
                three.step(1)
            }
            false => three.halt(1, 0x202),
        };
        assert_eq!(end, Err(End::Stopped));
        let seen = three.host_msrs();
        let armed = seen.iter().find(|(msr, _)| *msr == 0x6E0);
        assert!(armed.is_some_and(|(_, at)| *at <= due), "{seen:x?}");
        assert!(seen.contains(&kick(2)), "again: {seen:x?}");
    }
}

#[test]
fn an_instruction_on_a_tpm_that_another_has_comes_again() {
    let mut two = Processors::started(2);
    let load = |two: &mut Processors| {
        let registers = [
            (Register::Rip, two.code(0, LOAD)),
            (Register::Rbx, TPM + 0xF00),
        ];
        let fault = HardwareExit::NestedPageFault {
            gpa: TPM + 0xF00,
            write: false,
            fetch: false,
            page_walk: false,
        };
        two.run(0, &registers, fault).unwrap();
        two.l2[0].vcpu.vmcs.rip() - UPPER - CODE
    };
    let machine = Arc::clone(&two.surroundings.machine);
    let held = machine.try_tpm();
    assert_eq!(load(&mut two), LOAD);
    assert_eq!(two.seen[0].borrow().tpm, []);
    drop(held);
    assert_eq!(load(&mut two), LOAD + 2);
    assert_eq!(two.seen[0].borrow().tpm.len(), 1);
    assert_eq!(two.l2[0].own_statistics().tpm_busy, 1);
}

/// The TPM's time comes although another processor had it when the one that serves was last entered.
#[test]
fn a_tpm_that_is_given_back_is_seen_to_in_time() {
    let mut two = Processors::started(2);
    two.seen[0].borrow_mut().tpm_due = Some(90_000_000);
    drop(two.surroundings.machine.tpm());
    two.run(0, &[], HardwareExit::Interrupt).unwrap();
    let machine = Arc::clone(&two.surroundings.machine);
    let held = machine.try_tpm();
    two.run(0, &[], HardwareExit::Interrupt).unwrap();
    assert_eq!(two.l2[0].timer_expiry(), None, "not its own to look at");
    assert!(two.mailbox(SERVES).depart());
    drop(held);
    two.at(1).send_kicks().unwrap();
    assert_eq!(two.host_msrs().last(), Some(&kick(0)));
    two.mailbox(SERVES).arrive();
    two.run(0, &[], HardwareExit::Interrupt).unwrap();
    assert_eq!(two.l2[0].vcpu.deadline, Deadline::Set(Some(90_000_000)));
}

/// What another processor changes when the one that serves has looked already, and is about to enter L2.
#[test]
fn a_change_is_not_lost_on_one_that_is_about_to_leave() {
    let mut two = Processors::started(2);
    two.run(0, &[], HardwareExit::Interrupt).unwrap();
    two.at(0).prepare_entry().unwrap();
    let machine = Arc::clone(&two.surroundings.machine);
    machine.notices.devices(Some(77_000_000), false);
    two.at(0).send_kicks().unwrap();
    let stays = !two.mailbox(SERVES).depart();
    two.at(1).send_kicks().unwrap();
    assert!(stays || two.host_msrs().contains(&kick(0)));
}

/// A level-triggered interrupt that reaches another processor before it can know that its end is of interest.
#[test]
fn the_end_of_a_level_interrupt_exits_wherever_it_is_taken() {
    let mut two = Processors::started(2);
    two.run(1, &[], HardwareExit::Interrupt).unwrap();
    let _ = two.mailbox(1).post_vector(0x71, true);
    two.run(1, &[], HardwareExit::Interrupt).unwrap();
    let exits = two.at(1).vcpu.vmcs.read(VmcsField::EOI_EXIT_BITMAP_1);
    assert_eq!(exits, Ok(1 << 0x31));
}

/// The device that interrupts by level is heard again after the processor that it had interrupted was reset.
#[test]
fn a_level_interrupt_that_was_dropped_leaves_its_pin_alive() {
    const PIN: usize = 9;
    const LEVEL: u32 = 1 << 15;
    let mut two = Processors::started(2);
    let machine = Arc::clone(&two.surroundings.machine);
    let set = |two: &mut Processors, destination: u32, level: bool| {
        let mut router = two.l2[0].vcpu.router(&machine);
        let ioapic = &mut machine.devices().ioapic;
        for (index, value) in [
            (0x11 + 2 * PIN as u32, destination << 24),
            (0x10 + 2 * PIN as u32, LEVEL | 0x71),
        ] {
            ioapic.write(0, index, &mut router);
            ioapic.write(0x10, value, &mut router);
        }
        ioapic.set_line(PIN, level, &mut router);
    };
    let remote_irr = || {
        let ioapic = &mut machine.devices().ioapic;
        ioapic.read(0x10) & 1 << 14 != 0
    };
    set(&mut two, 1, true);
    assert!(remote_irr() && two.mailbox(1).is_pending());
    two.command(0, INIT_OTHERS);
    two.step(1).unwrap();
    assert!(!remote_irr(), "nobody has it");
    set(&mut two, 0, true);
    assert_eq!(two.l2[0].vcpu.apic.status().rvi, 0x71);
}

#[test]
fn the_hosts_devices_are_served_by_whom_the_host_interrupts() {
    let mut two = Processors::new(2);
    two.seen[0].borrow_mut().answers = [(0x3FD, 1), (0x3F8, b'x')].to_vec();
    two.seen[1].borrow_mut().interrupts.push_back(Interrupts {
        console: true,
        ..Interrupts::default()
    });
    two.step(1).unwrap();
    assert_eq!(two.seen[0].borrow().answers, []);
}
