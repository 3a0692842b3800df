//! Several virtual processors on one machine, in turns: each step of one runs to its end before the next of any.

use super::*;
use crate::machine::notices::SERVES;
use crate::run::environment::Interrupts;
use crate::vcpu::processor::{Activity, Deadline};
use x86_defs::apic::Register as Apic;

/// HLT, at the start of [`CODE`]: where start-up with vector 20H leads as well.
const HLT: u64 = 0;
/// WRMSR.
const WRMSR: u64 = 0x10;
/// MOV EAX, [RBX].
const LOAD: u64 = 0x20;
/// OUT DX, AL.
const OUT: u64 = 0x30;
const START_UP: u64 = CODE >> 12;

const ICR: u32 = 0x830;
/// An x2APIC's command: INIT, to all others.
const INIT_OTHERS: u64 = 0x000C_4500;
/// Start-up at [`CODE`], to all others.
const START_UP_OTHERS: u64 = 0x000C_4600 | START_UP;
const NMI_OTHERS: u64 = 0x000C_4400;

/// The host's word for an interrupt to processor `index`.
fn kick(index: u32) -> (u32, u64) {
    (ICR, u64::from(HOST_IDS * index) << 32 | 0x40E4)
}

struct Processors {
    surroundings: Surroundings,
    /// What each has seen; the first one's is the host's and the TPM's as well.
    seen: Vec<Rc<RefCell<Seen>>>,
    l2: Vec<L2<'static, Modelled>>,
}

impl Processors {
    /// The first with an x2APIC that is enabled, the others waiting to be started.
    fn new(count: u8) -> Self {
        let mut code = [0x90; 0x40];
        code[HLT as usize] = 0xF4;
        code[WRMSR as usize..][..2].copy_from_slice(&[0x0F, 0x30]);
        code[LOAD as usize..][..2].copy_from_slice(&[0x8B, 0x03]);
        code[OUT as usize] = 0xEE;
        let surroundings = Surroundings::new(&code, true, count.into());
        let own = || {
            Rc::new(RefCell::new(Seen {
                xcr0: 1,
                ..Seen::default()
            }))
        };
        let mut seen: Vec<_> = (1..count).map(|_| own()).collect();
        seen.insert(0, Rc::clone(&surroundings.seen));
        let l2 = (0..count).zip(&seen);
        let l2 = l2.map(|(index, seen)| surroundings.processor(index, Rc::clone(seen)));
        let l2: Vec<_> = l2.collect();
        let mut processors = Self {
            surroundings,
            seen,
            l2,
        };
        processors.enable_apic(0);
        processors
    }

    /// All of them started.
    fn started(count: u8) -> Self {
        let mut processors = Self::new(count);
        processors.command(0, INIT_OTHERS);
        processors.command(0, START_UP_OTHERS);
        for index in 1..usize::from(count) {
            processors.run(index, &[], HardwareExit::Interrupt).unwrap();
            processors.enable_apic(index);
        }
        processors.host_msrs();
        processors
    }

    fn enable_apic(&mut self, index: usize) {
        let apic = &mut self.l2[index].vcpu.apic;
        apic.set_base(apic.base() | 0xC00).unwrap();
        apic.write_msr(Apic::SVR, 0x1FF, 0).unwrap();
        self.at(index).prepare_entry().unwrap();
    }

    /// The processor, and the test is on its virtual processor of the TD.
    fn at(&mut self, index: usize) -> &mut L2<'static, Modelled> {
        self.surroundings.current.set(index as u32);
        &mut self.l2[index]
    }

    fn step(&mut self, index: usize) -> Result<(), End> {
        self.at(index).step()
    }

    /// Runs the processor, which has these registers when it exits.
    fn run(
        &mut self,
        index: usize,
        registers: &[(Register, u64)],
        exit: HardwareExit,
    ) -> Result<(), End> {
        let model = self.surroundings.model.on_vcpu(index as u32);
        let registers = registers.to_vec();
        model.push_run(move |platform, vm| {
            for (register, value) in &registers {
                platform.set_register(vm, *register, *value);
            }
            exit.into()
        });
        self.step(index)
    }

    /// RIP for some of the code, in the mode that the processor is in.
    fn code(&self, index: usize, offset: u64) -> u64 {
        match index {
            0 => UPPER + CODE + offset,
            _ => offset,
        }
    }

    fn wrmsr(&mut self, index: usize, msr: u32, value: u64) -> Result<(), End> {
        let registers = [
            (Register::Rip, self.code(index, WRMSR)),
            (Register::Rcx, msr.into()),
            (Register::Rax, value & 0xFFFF_FFFF),
            (Register::Rdx, value >> 32),
        ];
        self.run(index, &registers, HardwareExit::WriteMsr)
    }

    /// Writes the processor's ICR.
    fn command(&mut self, index: usize, command: u64) {
        self.wrmsr(index, ICR, command).unwrap();
    }

    /// HLT.
    fn halt(&mut self, index: usize, rflags: u64) -> Result<(), End> {
        let registers = [
            (Register::Rip, self.code(index, HLT)),
            (Register::Rflags, rflags),
        ];
        self.run(index, &registers, HardwareExit::Hlt)
    }

    /// The run has ended on the processor. Nobody else runs: that they do not stop takes 2 s of a fast clock.
    fn conclude(&mut self, index: usize, end: End) -> Option<End> {
        self.seen[index].borrow_mut().tsc_step = 10_000_000;
        self.at(index).conclude(end)
    }

    /// What the host was asked to write to MSRs since this was last called.
    fn host_msrs(&self) -> Vec<(u32, u64)> {
        core::mem::take(&mut self.seen[0].borrow_mut().msrs)
    }

    /// Calls `act` when the processor next waits in the host.
    fn when_halted(&self, index: usize, act: impl FnOnce() + 'static) {
        let hook: Box<dyn FnOnce()> = Box::new(act);
        self.seen[index].borrow_mut().when_halted.push_back(hook);
    }

    fn mailbox(&self, index: usize) -> &vcpu_signals::Mailbox {
        self.surroundings.machine.peers.mailbox(index).unwrap()
    }
}

#[test]
fn init_and_start_up_set_a_processor_to_real_mode_at_the_page_named() {
    let mut two = Processors::new(2);
    let waits = Activity::WaitsForStartUp { asleep: false };
    assert_eq!(two.l2[1].vcpu.activity, waits);
    two.command(0, INIT_OTHERS);
    two.command(0, START_UP_OTHERS);
    two.command(0, START_UP_OTHERS + 1);
    assert_eq!(two.host_msrs(), [], "it is in L1");
    let seen = Rc::new(RefCell::new(Vec::new()));
    let into = Rc::clone(&seen);
    let model = two.surroundings.model.on_vcpu(1);
    model.push_run(move |platform, vm| {
        let registers = [
            Register::Rip,
            Register::Rflags,
            Register::Rdx,
            Register::Cr0,
            Register::Cr3,
            Register::Rsp,
        ];
        let values = registers.map(|register| platform.register(vm, register));
        let code = platform.segment(vm, tdx_module::platform::SegmentName::Cs);
        into.borrow_mut().push((values, code.selector, code.base));
        HardwareExit::Interrupt.into()
    });
    two.step(1).unwrap();
    let (values, selector, base) = seen.borrow()[0];
    let [rip, rflags, rdx, cr0, cr3, rsp] = values;
    assert_eq!((rip, rflags, cr3, rsp), (0, 2, 0, 0));
    assert_eq!(cr0 & 0x8000_0001, 0, "real mode");
    assert_eq!((u64::from(selector), base), (START_UP << 8, CODE));
    assert_eq!(rdx as u32, two.l2[1].cpuid_leaf(1, 0).eax);
    assert_eq!(two.l2[1].vcpu.activity, Activity::Active);
    two.command(0, START_UP_OTHERS + 1);
    two.run(1, &[], HardwareExit::Interrupt).unwrap();
    let base = two.at(1).vcpu.vmcs.read(VmcsField::GUEST_CS_BASE);
    assert_eq!(base, Ok(CODE), "it runs already");
}

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
        three.command(0, 2 << 32 | 0x41);
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

#[test]
fn the_end_on_one_stops_the_others() {
    let mut two = Processors::started(2);
    assert!(two.mailbox(1).depart());
    // Nobody stops: the host holds the other back.
    assert_eq!(two.conclude(0, End::PowerOff), Some(End::PowerOff));
    assert!(two.host_msrs().contains(&kick(1)));
    two.mailbox(1).arrive();
    let stopped = two.step(1);
    assert_eq!(stopped, Err(End::Stopped));
    assert_eq!(two.conclude(1, End::Stopped), None);
    // Two ends at once: the first counts.
    assert_eq!(two.conclude(1, End::Reset), None);
}

/// One that kicked another and stopped does not kick it again: who ends the run does.
#[test]
fn the_end_reaches_one_that_another_had_undertaken_to_kick() {
    let mut three = Processors::started(3);
    assert!(three.mailbox(2).depart());
    three.command(1, 2 << 32 | 0x41);
    assert_eq!(three.host_msrs(), [kick(2)], "and the host loses it");
    assert_eq!(three.conclude(0, End::PowerOff), Some(End::PowerOff));
    assert!(three.host_msrs().contains(&kick(2)));
}

/// What the host has held back until the TPM was reset finds no TPM any more.
#[test]
fn nobody_reaches_the_tpm_once_the_run_has_ended() {
    let mut two = Processors::started(2);
    assert_eq!(two.conclude(1, End::Reset), Some(End::Reset));
    two.surroundings.machine.reset();
    assert_eq!(two.seen[0].borrow().tpm_resets, 1);
    assert!(two.mailbox(0).take().unwrap().stop, "as if it came later");
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
    assert_eq!(two.seen[0].borrow().tpm, []);
}

const OFF: u64 = 2;

#[test]
fn all_of_them_halted_without_interrupts_is_the_end() {
    let mut two = Processors::started(2);
    // The second sleeps in the host until the first has halted too.
    let first = Rc::new(RefCell::new(None));
    let into = Rc::clone(&first);
    let machine = Arc::clone(&two.surroundings.machine);
    two.when_halted(1, move || {
        *into.borrow_mut() = Some(machine.ending.falls_asleep(&machine.peers));
        machine.ending.wakes();
        let _ = machine.peers.mailbox(1).unwrap().post_stop();
    });
    assert_eq!(two.halt(1, OFF), Err(End::Stopped));
    assert_eq!(first.take(), Some(true));
    // It has woken up, so the first sleeps on.
    let machine = Arc::clone(&two.surroundings.machine);
    two.when_halted(0, move || {
        let _ = machine.peers.mailbox(0).unwrap().post_nmi();
    });
    assert_eq!(two.halt(0, OFF), Ok(()));
    assert_eq!(two.seen[0].borrow().halts, 1);
}

#[test]
fn one_halted_without_interrupts_is_parked_and_an_nmi_wakes_it() {
    let mut two = Processors::started(2);
    let machine = Arc::clone(&two.surroundings.machine);
    // A vector does not.
    let first = Arc::clone(&machine);
    two.when_halted(1, move || {
        let _ = first.peers.mailbox(1).unwrap().post_vector(0x41, false);
    });
    two.when_halted(1, move || {
        let _ = machine.peers.mailbox(1).unwrap().post_nmi();
    });
    assert_eq!(two.halt(1, OFF), Ok(()));
    assert_eq!(two.seen[1].borrow().halts, 2);
    assert!(two.l2[1].vcpu.apic.nmi_pending());
    assert_eq!(two.l2[1].vcpu.apic.status().rvi, 0x41);
}

/// In the handler of an NMI, the next one waits for IRET, and does not end a HLT.
#[test]
fn an_nmi_that_is_blocked_ends_no_halt() {
    let mut two = Processors::started(2);
    let machine = Arc::clone(&two.surroundings.machine);
    let first = Arc::clone(&machine);
    two.when_halted(1, move || {
        let _ = first.peers.mailbox(1).unwrap().post_nmi();
    });
    two.when_halted(1, move || {
        let _ = machine.peers.mailbox(1).unwrap().post_init();
    });
    two.at(1).vcpu.vmcs.block_nmi().unwrap();
    assert_eq!(two.halt(1, OFF), Ok(()));
    assert_eq!(two.seen[1].borrow().halts, 2);
    assert!(matches!(
        two.l2[1].vcpu.activity,
        Activity::WaitsForStartUp { .. }
    ));
}

/// The one who is started, however it comes to know, is not counted among those that sleep.
#[test]
fn who_is_started_sleeps_no_more() {
    let mut two = Processors::new(2);
    two.step(1).unwrap();
    assert_eq!(
        two.l2[1].vcpu.activity,
        Activity::WaitsForStartUp { asleep: true }
    );
    // Posted when it has looked, and has found nothing.
    two.command(0, START_UP_OTHERS);
    two.run(1, &[], HardwareExit::Interrupt).unwrap();
    assert_eq!(two.l2[1].vcpu.activity, Activity::Active);
    let machine = &two.surroundings.machine;
    assert!(!machine.ending.falls_asleep(&machine.peers));
}

#[test]
fn an_apic_that_had_init_takes_no_more_at_once() {
    let mut two = Processors::started(2);
    two.command(0, INIT_OTHERS);
    two.step(1).unwrap();
    two.command(0, 1 << 32 | 0x41);
    assert!(!two.mailbox(1).is_pending());
}

#[test]
fn init_in_the_middle_of_an_injection_leaves_nothing_of_it() {
    let mut two = Processors::started(2);
    // A #GP is about to be injected, and L1 is interrupted before the entry.
    two.wrmsr(1, 0x1AD, 0).unwrap();
    two.surroundings
        .model
        .with(|module, _| module.post_interrupt(1, 0xE4));
    assert_eq!(two.step(1), Ok(()));
    let pending = two.at(1).vcpu.vmcs.read(VmcsField::ENTRY_INTERRUPTION_INFO);
    assert_eq!(pending.map(|info| info >> 31), Ok(1));
    two.at(1).vcpu.vmcs.block_nmi().unwrap();
    two.command(0, NMI_OTHERS);
    two.command(0, INIT_OTHERS);
    two.command(0, START_UP_OTHERS);
    two.run(1, &[], HardwareExit::Interrupt).unwrap();
    for field in [
        VmcsField::ENTRY_INTERRUPTION_INFO,
        VmcsField::GUEST_INTERRUPTIBILITY,
    ] {
        assert_eq!(two.at(1).vcpu.vmcs.read(field), Ok(0), "{field:?}");
    }
    assert!(!two.l2[1].vcpu.apic.nmi_pending());
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
