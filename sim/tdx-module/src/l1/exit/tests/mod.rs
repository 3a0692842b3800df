mod registers;

use super::*;
use crate::platform::{CpuidResult, SegmentName};
use crate::test_platform::{ModelTdcall, TestPlatform};
use crate::{Module, TdParams, VpEnterInput};

/// Where the tests put L1's instructions.
const CODE: u64 = 0x1000;
const FRAME: u64 = 0x20_0000;

/// A TD whose L1 runs one instruction at a time.
struct Machine(ModelTdcall);

impl Machine {
    fn new() -> Machine {
        Machine::with_params(&TdParams::default())
    }

    fn with_params(params: &TdParams) -> Machine {
        Machine(ModelTdcall::new(params, FRAME))
    }

    fn set(&self, register: Register, value: u64) {
        self.0
            .with(|_, platform| platform.set_register(Vm::L1, register, value));
    }

    fn get(&self, register: Register) -> u64 {
        self.0
            .with(|_, platform| platform.register(Vm::L1, register))
    }

    fn exit(&self, code: &[u8], exit: HardwareExit) -> Action {
        self.0.write(CODE, code);
        self.set(Register::Rip, CODE);
        self.0
            .with(|module, platform| module.handle_exit(platform, exit.into()))
    }

    /// What L1 gets at the instruction: an event, or nothing and RIP after it.
    fn run(&self, code: &[u8], exit: HardwareExit) -> Option<Event> {
        assert_eq!(self.exit(code, exit), Action::Run(Vm::L1));
        let event = self.0.with(|_, platform| platform.injected.remove(&Vm::L1));
        if event.is_none() {
            assert_eq!(self.get(Register::Rip), CODE + code.len() as u64);
        }
        event
    }

    fn ve_info(&self) -> Option<VeInfo> {
        self.0.with(|module, _| module.vcpu.l1.ve_info.take())
    }

    fn act<T>(&self, act: impl FnOnce(&mut Module, &mut TestPlatform) -> T) -> T {
        self.0.with(act)
    }
}

const GP: Option<Event> = Some(Event::GENERAL_PROTECTION);
const VE: Option<Event> = Some(Event::VIRTUALIZATION);

fn io(port: u16, width: u8, input: bool) -> HardwareExit {
    HardwareExit::Io(IoExit {
        port,
        width,
        input,
        string: false,
        repeat: false,
    })
}

#[test]
fn what_only_the_host_can_do_is_a_ve_with_its_information() {
    let machine = Machine::new();
    for (code, exit, reason, qualification) in [
        (&[0xf4][..], HardwareExit::Hlt, 12, 0),
        (&[0x0f, 0x08], HardwareExit::CacheFlush, 13, 0),
        (&[0x0f, 0x09], HardwareExit::CacheFlush, 54, 0),
        (&[0xf3, 0x0f, 0x09], HardwareExit::CacheFlush, 54, 1),
        (&[0x0f, 0x01, 0xc8], HardwareExit::Monitor, 39, 0),
        (&[0x0f, 0x01, 0xc9], HardwareExit::Mwait, 36, 0),
        (&[0x0f, 0x01, 0xc1], HardwareExit::Vmcall, 18, 0),
        (&[0xee], io(0x3f8, 1, false), 30, 0x03f8_0000),
        (&[0xe4, 0x64], io(0x64, 1, true), 30, 0x0064_0048),
        (&[0xed], io(0xcfc, 4, true), 30, 0x0cfc_000b),
    ] {
        assert_eq!(machine.run(code, exit), VE, "{exit:?}");
        let expected = VeInfo {
            exit_reason: reason,
            qualification,
            instruction_length: code.len() as u32,
            ..VeInfo::default()
        };
        assert_eq!(machine.ve_info(), Some(expected));
        assert_eq!(machine.get(Register::Rip), CODE);
    }
}

#[test]
fn a_second_ve_before_the_first_is_asked_about_is_a_double_fault() {
    let machine = Machine::new();
    assert_eq!(machine.run(&[0xf4], HardwareExit::Hlt), VE);
    assert_eq!(
        machine.run(&[0xf4], HardwareExit::Hlt),
        Some(Event::DOUBLE_FAULT)
    );
    assert!(machine.ve_info().is_some());
    assert_eq!(machine.run(&[0xf4], HardwareExit::Hlt), VE);
}

#[test]
fn a_pending_page_is_a_ve_or_the_hosts_as_configured() {
    for (attributes, ve) in [(0, true), (1 << 28, false)] {
        let params = TdParams {
            attributes,
            ..TdParams::default()
        };
        let machine = Machine::with_params(&params);
        machine.0.augment(FRAME, tdx_defs::PageLevel::Page4K);
        let fault = HardwareExit::NestedPageFault {
            gpa: FRAME + 0x123,
            write: true,
            fetch: false,
            page_walk: false,
        };
        match machine.exit(&[0x90], fault) {
            Action::Run(Vm::L1) => {
                assert!(ve);
                let info = machine.ve_info().unwrap();
                let expected = (48, 2, FRAME + 0x123);
                assert_eq!((info.exit_reason, info.qualification, info.gpa), expected);
            }
            Action::TdExit(exit) => {
                assert!(!ve);
                let registers = exit.registers;
                assert_eq!((registers.rax, registers.rcx), (48, 2));
                assert_eq!((registers.rdx, registers.r8), (6, FRAME));
            }
            action => panic!("{action:?}"),
        }
    }
}

#[test]
fn an_event_cut_short_by_an_exit_comes_first_afterwards() {
    let machine = Machine::new();
    machine.set(Register::Rip, CODE);
    let interrupt = Event::interrupt(0x40);
    machine.act(|module, platform| {
        let exit = HardwareExit::NestedPageFault {
            gpa: FRAME,
            write: true,
            fetch: false,
            page_walk: false,
        };
        let exited = Exited {
            exit,
            vectoring: Some(interrupt),
        };
        let Action::TdExit(_) = module.handle_exit(platform, exited) else {
            panic!("the host has to map the page");
        };
        module.tdh_vp_enter(platform, VpEnterInput::default());
        assert_eq!(platform.injected[&Vm::L1], interrupt);
    });
}

#[test]
fn an_interrupt_waits_for_rflags_and_shadow() {
    let machine = Machine::new();
    let enter = || {
        machine.act(|module, platform| {
            module.handle_exit(platform, HardwareExit::Interrupt.into());
            module.tdh_vp_enter(platform, VpEnterInput::default());
            let window = platform.intercepts[&Vm::L1].interrupt_window();
            (platform.injected.get(&Vm::L1).copied(), window)
        })
    };
    machine.act(|module, _| {
        module.post_interrupt(0, 0xe0);
        assert!(module.interrupt_pending(0));
    });
    assert_eq!(enter(), (None, true));
    machine.set(Register::Rflags, 0x202);
    machine.set(Register::InterruptShadow, 1);
    assert_eq!(enter(), (None, true));
    machine.set(Register::InterruptShadow, 0);
    assert_eq!(enter(), (Some(Event::interrupt(0xe0)), false));
    machine.act(|module, _| assert!(!module.interrupt_pending(0)));
}

/// Exits of L1 that the host gets as they are: RAX, and the interruption information in R9.
#[test]
fn what_is_the_hosts_has_its_reason_and_information() {
    for (exit, reason, information) in [
        (HardwareExit::Interrupt, 1, 0x8000_0000),
        (HardwareExit::Nmi, 0, 0x8000_0202),
        (HardwareExit::TaskSwitch, 9, 0),
    ] {
        let machine = Machine::new();
        let Action::TdExit(td_exit) = machine.exit(&[0x90], exit) else {
            panic!("{exit:?}");
        };
        let registers = td_exit.registers;
        assert_eq!((registers.rax, registers.r9), (reason, information));
        assert_eq!((registers.rcx, registers.rdx, registers.r8), (0, 0, 0));
    }
}

#[test]
fn a_performance_counter_is_not_l1s_to_read() {
    let machine = Machine::new();
    assert_eq!(machine.run(&[0x0f, 0x33], HardwareExit::Rdpmc), GP);
    machine.act(|_, platform| assert!(platform.intercepts[&Vm::L1].rdpmc()));
}

#[test]
fn a_triple_fault_ends_the_virtual_processor() {
    let machine = Machine::new();
    let Action::TdExit(exit) = machine.exit(&[0x90], HardwareExit::TripleFault) else {
        panic!("a triple fault is the host's");
    };
    assert_eq!(exit.registers.rax, 0x4000_0001_0000_0002);
    machine.act(|module, platform| {
        let Action::TdExit(exit) = module.tdh_vp_enter(platform, VpEnterInput::default()) else {
            panic!("it is disabled");
        };
        assert_eq!(exit.registers.rax, 0xc000_0700_0000_0000);
    });
}

#[test]
fn a_step_over_an_emulated_instruction_ends_like_a_real_one() {
    let machine = Machine::new();
    let step = |rflags: u64, debugctl: u64| {
        machine.set(Register::Rflags, rflags);
        machine.set(Register::DebugCtl, debugctl);
        machine.set(Register::InterruptShadow, 1);
        machine.set(Register::Dr6, 0xffff_0ff0);
        machine.set(Register::Rax, 0);
        machine.exit(&[0x0f, 0xa2], HardwareExit::Cpuid);
        assert_eq!(machine.get(Register::Rip), CODE + 2);
        assert_eq!(machine.get(Register::InterruptShadow), 0);
        assert_eq!(machine.get(Register::Rflags) & RF, 0);
        machine.act(|_, platform| platform.injected.remove(&Vm::L1))
    };
    const TF: u64 = 1 << 8;
    const RF: u64 = 1 << 16;
    const BTF: u64 = 1 << 1;
    assert_eq!(step(RF | 2, 0), None);
    assert_eq!(step(TF | BTF, BTF), None);
    assert_eq!(step(TF | 2, 0), Some(Event::exception(1, None)));
    assert_eq!(machine.get(Register::Dr6), 0xffff_4ff0);
    // BS and RF that are set already stay set.
    machine.set(Register::Rflags, TF | 2);
    machine.set(Register::DebugCtl, 0);
    machine.set(Register::Dr6, 0xffff_4ff0);
    machine.set(Register::Rax, 0);
    machine.exit(&[0x0f, 0xa2], HardwareExit::Cpuid);
    assert_eq!(machine.get(Register::Dr6), 0xffff_4ff0);
    machine.act(|_, platform| platform.injected.remove(&Vm::L1));
    for rflags in [2, RF | 2] {
        machine.set(Register::Rflags, rflags);
        assert_eq!(machine.run(&[0xf4], HardwareExit::Hlt), VE);
        assert_eq!(machine.get(Register::Rflags), RF | 2);
        machine.ve_info();
    }
}
