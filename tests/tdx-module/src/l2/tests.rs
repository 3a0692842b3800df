//! L2 VMs as L1 sees them: through TDCALLs on the model.

use crate::platform::{Action, Event, Exited, HardwareExit, Platform, Register, SegmentName, Vm};
use crate::test_platform::{ModelTdcall, TestPlatform};
use crate::{Module, TdParams};
use tdcall::field::{FieldId, L2Ctls};
use tdcall::leaf::number;
use tdcall::status::{Code, Operand, Status};
use tdcall::vmcs::VmcsField;
use tdcall::{Registers, VmIndex};

const VM: VmIndex = VmIndex::FIRST;
const STATE: u64 = 0x1_0000;
const VAPIC: u64 = 0x1_1000;
/// Where L2's code is; it runs in the reset state, unpaged.
const CODE: u64 = 0x2_0000;
/// RFLAGS.IF and the bit that is always 1.
const INTERRUPTS_ON: u64 = 0x202;
const TSC_DEADLINE_MSR: u64 = 0x6e0;

struct L1 {
    model: ModelTdcall,
}

impl L1 {
    /// An L1 with an L2 VM that has its virtual-APIC page, with code at RIP.
    fn with_l2(code: &[u8]) -> L1 {
        let l1 = L1 {
            model: ModelTdcall::new(&TdParams::default(), 4 << 20),
        };
        l1.model.write(CODE, code);
        l1.model.write(STATE + 0x80, &2u64.to_le_bytes());
        l1.model.write(STATE + 0x88, &CODE.to_le_bytes());
        l1.set(VmcsField::VIRTUAL_APIC_ADDRESS, VAPIC);
        l1
    }

    fn call(&self, registers: Registers) -> Registers {
        self.model.call(registers).unwrap()
    }

    fn write(&self, id: FieldId, value: u64, mask: u64) -> Registers {
        self.call(Registers {
            rax: number::VP_WR,
            rdx: id.0,
            r8: value,
            r9: mask,
            ..Registers::default()
        })
    }

    fn set(&self, field: VmcsField, value: u64) {
        let written = self.write(FieldId::l2_vmcs(VM, field), value, u64::MAX);
        assert_eq!(Status(written.rax), Status::SUCCESS, "{field:x?}");
    }

    fn read(&self, id: FieldId) -> Registers {
        self.call(Registers {
            rax: number::VP_RD,
            rdx: id.0,
            ..Registers::default()
        })
    }

    fn get(&self, field: VmcsField) -> u64 {
        let read = self.read(FieldId::l2_vmcs(VM, field));
        assert_eq!(Status(read.rax), Status::SUCCESS, "{field:x?}");
        read.r8
    }

    fn status_of(&self, registers: Registers) -> Status {
        Status(self.call(registers).rax)
    }

    fn enter(&self) -> Registers {
        self.call(Self::entering())
    }

    fn entering() -> Registers {
        Registers {
            rax: number::VP_ENTER,
            rcx: 1 << 52,
            rdx: STATE,
            ..Registers::default()
        }
    }

    fn state(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.model.read(STATE + offset, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn set_state(&self, offset: u64, value: u64) {
        self.model.write(STATE + offset, &value.to_le_bytes());
    }

    /// Lets RDMSR and WRMSR of a low MSR through L1's bitmaps.
    fn open_msr(&self, msr: u64) {
        for first in [0, 0x800] {
            let id = FieldId::l2_msr_bitmap(VM, ((first + msr / 8) / 8) as u16);
            let written = self.write(id, 0, 1 << (msr % 64));
            assert_eq!(Status(written.rax), Status::SUCCESS);
        }
    }

    fn vapic(&self, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.model.read(VAPIC + offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn set_vapic(&self, offset: u64, value: u32) {
        self.model.write(VAPIC + offset, &value.to_le_bytes());
    }

    fn request_interrupt(&self, vector: u8) {
        let offset = 0x200 + u64::from(vector / 32) * 0x10;
        self.set_vapic(offset, self.vapic(offset) | 1 << (vector % 32));
        self.model.write(STATE + 0x98, &[vector]);
    }

    /// L1's TDG.VP.ENTER, up to where L2 would run.
    fn begin(&self) -> Action {
        let call = Self::entering();
        self.model.with(|module, platform| {
            let after_last_call = platform.register(Vm::L1, Register::Rip);
            for (register, value) in [
                (Register::Rip, after_last_call - 4),
                (Register::Rax, call.rax),
                (Register::Rcx, call.rcx),
                (Register::Rdx, call.rdx),
            ] {
                platform.set_register(Vm::L1, register, value);
            }
            let tdcall = HardwareExit::Exception {
                vector: 6,
                error_code: None,
                cr2: 0,
            };
            module.handle_exit(platform, tdcall.into())
        })
    }

    fn start_l2(&self) {
        assert_eq!(self.begin(), Action::Run(Vm::L2(VM)));
    }

    fn exit(&self, exited: Exited) -> Action {
        self.model
            .with(|module, platform| module.handle_exit(platform, exited))
    }

    fn l1_register(&self, register: Register) -> u64 {
        self.model
            .with(|_, platform| platform.register(Vm::L1, register))
    }

    fn l2_register(&self, register: Register) -> u64 {
        self.model
            .with(|_, platform| platform.register(Vm::L2(VM), register))
    }

    fn injected(&self) -> Option<Event> {
        self.model
            .with(|_, platform| platform.injected.get(&Vm::L2(VM)).copied())
    }
}

#[test]
fn entry_checks_its_operands_in_order() {
    let l1 = L1 {
        model: ModelTdcall::new(&TdParams::default(), 4 << 20),
    };
    let enter = |rcx, rdx| Registers {
        rax: number::VP_ENTER,
        rcx,
        rdx,
        ..Registers::default()
    };
    let invalid = Status::operand_invalid;
    let shared = 1 << 47 | STATE;
    let rows = [
        (enter(0, STATE + 0x80), invalid(Operand::RDX)),
        (enter(0, shared), invalid(Operand::RDX)),
        (enter(0, STATE), invalid(Operand::RCX)),
        (enter(2 << 52, STATE), invalid(Operand::RCX)),
        (enter(1 << 52 | 4, STATE), invalid(Operand::RCX)),
        (enter(1 << 52, STATE), invalid(Operand::L2_VAPIC_GPA)),
    ];
    for (registers, status) in rows {
        assert_eq!(l1.status_of(registers), status, "{registers:x?}");
    }
}

#[test]
fn an_interrupt_for_l1_comes_before_l2() {
    let l1 = L1::with_l2(&[0xf4]);
    l1.model.with(|module, _| module.post_interrupt(0xe0));
    assert_eq!(
        Status(l1.enter().rax),
        Status::new(Code::PendingInterrupt, 0)
    );
    assert_eq!(l1.model.take_interrupts(), [0xe0]);
    l1.model.push_exit(HardwareExit::Hlt);
    assert_eq!(l1.enter().rax, 12);
}

#[test]
fn an_exit_fills_every_output_register() {
    let l1 = L1::with_l2(&[0x0f, 0xa2]);
    l1.set_state(0x28, 0xb0b0);
    l1.set_state(0x20, 0x9000);
    l1.model.push_run(|platform, vm| {
        platform.set_register(vm, Register::Rdx, 0xd0d0);
        platform.set_register(vm, Register::Cpl, 3);
        HardwareExit::Cpuid.into()
    });
    let out = l1.enter();
    assert_eq!(
        out,
        Registers {
            rax: 10,
            rbp: 0xb0b0,
            rsi: 0xffff_ffff_c09b_0000,
            rdi: 0,
            r11: 2 << 32,
            r12: 3,
            ..Registers::default()
        }
    );
    assert_eq!(l1.state(0x10), 0xd0d0);
    assert_eq!(l1.state(0x20), 0x9000);
    assert_eq!(l1.state(0x88), CODE, "RIP stays at the instruction");
    assert_eq!(l1.get(VmcsField::EXIT_REASON), 10);
    assert_eq!(l1.get(VmcsField::EXIT_INSTRUCTION_LENGTH), 2);
}

#[test]
fn bad_guest_state_is_exit_reason_33() {
    let l1 = L1::with_l2(&[]);
    l1.set_state(0x80, 0);
    assert_eq!(l1.enter().rax, 0x8000_0021);
}

#[test]
fn l2_inherits_what_is_not_switched_and_leaves_its_own() {
    let l1 = L1::with_l2(&[0xf4]);
    l1.model.with(|_, platform| {
        platform.set_register(Vm::L1, Register::Lstar, 0x1111);
        platform.set_register(Vm::L1, Register::Cr2, 0x2222);
    });
    l1.model.push_run(|platform, vm| {
        assert_eq!(platform.register(vm, Register::Lstar), 0x1111);
        assert_eq!(platform.register(vm, Register::Cr2), 0x2222);
        platform.set_register(vm, Register::KernelGsBase, 0x3333);
        HardwareExit::Hlt.into()
    });
    l1.enter();
    assert_eq!(l1.l1_register(Register::KernelGsBase), 0x3333);
}

#[test]
fn fields_have_their_initial_values_rights_and_masks() {
    let l1 = L1 {
        model: ModelTdcall::new(&TdParams::default(), 4 << 20),
    };
    let values = [
        (VmcsField::VIRTUAL_APIC_ADDRESS, u64::MAX),
        (VmcsField::PIN_BASED_CONTROLS, 0x29),
        (VmcsField::PRIMARY_CONTROLS, 0xb122_0c88),
        (VmcsField::SECONDARY_CONTROLS, 0x1338_b3fa),
        (VmcsField::TERTIARY_CONTROLS, 0x80),
        (VmcsField::ENTRY_CONTROLS, 0x003e_c004),
        (VmcsField::EXIT_CONTROLS, 0x1f3c_8204),
        (VmcsField::EXCEPTION_BITMAP, 1 << 18),
        (VmcsField::CR0_GUEST_HOST_MASK, u64::MAX),
        (VmcsField::CR0_READ_SHADOW, 0),
        (VmcsField::GUEST_CR0, 0x21),
        (VmcsField::GUEST_CR4, 0x2040),
        (VmcsField::GUEST_EFER, 0x901),
        (VmcsField::GUEST_DR7, 0x400),
        (VmcsField::GUEST_PAT, 0x0007_0406_0007_0406),
        (VmcsField::GUEST_CS_ACCESS_RIGHTS, 0xc09b),
        (VmcsField::GUEST_LDTR_ACCESS_RIGHTS, 0x1_0082),
        (VmcsField::GUEST_IDTR_LIMIT, 0),
        (VmcsField::GUEST_RIP, 0xffff_fff0),
        (VmcsField::GUEST_PDPTE0, u64::MAX),
    ];
    for (field, value) in values {
        assert_eq!(l1.get(field), value, "{field:x?}");
    }
    let vmcs = |code| FieldId::l2_vmcs(VM, VmcsField(code));
    let other_vm = FieldId::l2_vmcs(VmIndex::new(2).unwrap(), VmcsField::GUEST_RIP);
    for (id, code) in [
        (vmcs(0x2010), Code::MetadataFieldNotReadable),
        (vmcs(0x6c16), Code::MetadataFieldNotReadable),
        (vmcs(0x2013), Code::MetadataFieldIdIncorrect),
        (vmcs(0x7ffe), Code::MetadataFieldIdIncorrect),
        (other_vm, Code::MetadataFieldIdIncorrect),
        (
            FieldId(FieldId::l2_msr_bitmap(VM, 0).0 + 512),
            Code::MetadataFieldIdIncorrect,
        ),
    ] {
        let read = l1.read(id);
        assert_eq!(Status(read.rax).code(), code, "{id:x?}");
        assert_eq!((read.r8, read.rdx), (0, u64::MAX));
    }
}

#[test]
fn a_write_is_refused_by_right_by_fixed_bit_or_by_value() {
    use Code::{
        MetadataFieldIdIncorrect as Incorrect, MetadataFieldNotWritable as NotWritable,
        MetadataFieldValueNotValid as NotValid, Success,
    };
    let l1 = L1 {
        model: ModelTdcall::new(&TdParams::default(), 4 << 20),
    };
    const ALL: u64 = u64::MAX;
    let rows = [
        (0x4000, 0x29, ALL, NotWritable),
        (0x2010, 0, ALL, NotWritable),
        (0x2011, 0, ALL, Incorrect),
        (0x4002, 0xb122_0c8c, ALL, Success),
        (0x4002, 0x0000_0004, ALL, NotValid),
        (0x4002, 0, 1 << 2, Success),
        (0x4002, 0, 1 << 7, NotWritable),
        (0x4002, 0, 1 << 11, NotWritable),
        (0x4002, 1 << 33, 1 << 2 | 1 << 33, NotValid),
        (0x401e, 0x1338_b1fa, ALL, Success),
        (0x401e, 1 << 26, 1 << 26, NotWritable),
        (0x2012, VAPIC, ALL, Success),
        (0x2012, VAPIC | 1, ALL, NotValid),
        (0x2012, 1 << 47, ALL, NotValid),
        (0x2012, 1 << 48, ALL, NotValid),
        (0x280a, 1 << 52, ALL, NotValid),
        (0x280a, 0x1001, ALL, Success),
        (0x2802, 1 << 6, ALL, NotValid),
        (0x2802, 1 << 6 | 1 << 7, ALL, Success),
        (0x201a, 0x80, 0x80, NotValid),
        (0x2806, 0xd01, ALL, Success),
        (0x2806, 0x501, ALL, NotValid),
        (0x6800, 0x8005_003b, ALL, Success),
        (0x6800, 0x8005_001b, ALL, NotValid),
        (0x6800, 0xc005_003b, ALL, NotValid),
        (0x6804, 0x2060, ALL, Success),
        (0x6804, 0x0060, ALL, NotValid),
        (0x6804, 0x2020, ALL, NotValid),
        (0x6804, 0x40_2060, ALL, NotValid),
        (0x6802, 0x1000, ALL, Success),
        (0x6802, 1 << 47, ALL, NotValid),
        (0x6004, 0x1234, ALL, Success),
        (0x4004, 0x0004_0002, ALL, Success),
        (0x4004, 0x0000_0002, ALL, NotValid),
    ];
    for (code, value, mask, expected) in rows {
        let written = l1.write(FieldId::l2_vmcs(VM, VmcsField(code)), value, mask);
        assert_eq!(
            Status(written.rax).code(),
            expected,
            "{code:#x} <- {value:#x} & {mask:#x}"
        );
    }
    assert_eq!(l1.get(VmcsField::GUEST_CR4), 0x2060);
}

#[test]
fn l2_ctls_and_deadline_take_their_bits() {
    let l1 = L1 {
        model: ModelTdcall::new(&TdParams::default(), 4 << 20),
    };
    let controls = FieldId::l2_ctls(VM);
    let shared = L2Ctls::new().with_enable_shared_eptp(true).into_bits();
    assert_eq!(l1.write(controls, shared, u64::MAX).rax, 0);
    assert_eq!(l1.read(controls).r8, shared);
    let extended = L2Ctls::new().with_enable_extended_ve(true).into_bits();
    assert_eq!(
        Status(l1.write(controls, extended, u64::MAX).rax).code(),
        Code::MetadataFieldValueNotValid
    );
    let absent = FieldId::l2_ctls(VmIndex::new(3).unwrap());
    assert_eq!(l1.write(absent, shared, u64::MAX).rax, 0);
    assert_eq!(l1.read(absent).r8, 0);
    let deadline = FieldId::tsc_deadline(VM);
    assert_eq!(l1.read(deadline).r8, u64::MAX);
    let written = l1.write(deadline, 1 << 40, u64::MAX);
    assert_eq!((written.rax, written.r8), (0, u64::MAX));
    assert_eq!(l1.read(deadline).r8, 1 << 40);
}

#[test]
fn a_past_deadline_exits_before_the_first_instruction() {
    let l1 = L1::with_l2(&[]);
    l1.write(FieldId::tsc_deadline(VM), 1, u64::MAX);
    let out = l1.enter();
    assert_eq!(out.rax, 52);
    assert_eq!(out.r11, 0);
}

#[test]
fn an_event_of_l1_is_injected_once() {
    let l1 = L1::with_l2(&[]);
    l1.set(VmcsField::ENTRY_INTERRUPTION_INFO, 0x8000_0b0d);
    l1.set(VmcsField::ENTRY_EXCEPTION_ERROR_CODE, 0x18);
    l1.start_l2();
    assert_eq!(l1.injected(), Some(Event::exception(13, Some(0x18))));
    l1.exit(HardwareExit::Hlt.into());
    assert_eq!(l1.get(VmcsField::ENTRY_INTERRUPTION_INFO), 0x0000_0b0d);
    assert_eq!(l1.get(VmcsField::ENTRY_EXCEPTION_ERROR_CODE), 0x18);
}

#[test]
fn a_software_interrupt_that_is_cut_short_keeps_its_length() {
    let l1 = L1::with_l2(&[0xcd, 0x80]);
    l1.set(VmcsField::ENTRY_INTERRUPTION_INFO, 0x8000_0480);
    l1.set(VmcsField::ENTRY_INSTRUCTION_LENGTH, 2);
    l1.start_l2();
    let vectoring = l1.injected();
    let action = l1.exit(Exited {
        exit: HardwareExit::NestedPageFault {
            gpa: 0x3_0000,
            write: false,
            fetch: false,
            page_walk: false,
        },
        vectoring,
    });
    assert_eq!(action, Action::Run(Vm::L1));
    assert_eq!(l1.l1_register(Register::R10), 0x8000_0480);
    assert_eq!(l1.l1_register(Register::R11) >> 32, 2);
}

#[test]
fn a_malformed_event_ends_the_td() {
    let l1 = L1::with_l2(&[]);
    l1.set(VmcsField::ENTRY_INTERRUPTION_INFO, 0x8000_0b06);
    let action = l1.begin();
    let Action::TdExit(exit) = action else {
        panic!("{action:?}");
    };
    assert_eq!(exit.registers.rax >> 32, 0x6000_0002);
}

#[test]
fn a_requested_interrupt_is_delivered_when_l2_takes_interrupts() {
    let l1 = L1::with_l2(&[]);
    l1.request_interrupt(0x41);
    l1.start_l2();
    assert_eq!(l1.injected(), None);
    assert!(
        l1.model
            .with(|_, platform| platform.intercepts[&Vm::L2(VM)].interrupt_window)
    );
    l1.model
        .with(|_, platform| platform.set_register(Vm::L2(VM), Register::Rflags, INTERRUPTS_ON));
    let action = l1.exit(HardwareExit::InterruptWindow.into());
    assert_eq!(action, Action::Run(Vm::L2(VM)));
    assert_eq!(l1.injected(), Some(Event::interrupt(0x41)));
    assert_eq!(l1.vapic(0x220), 0);
    assert_eq!(l1.vapic(0x120), 1 << 1);
    assert_eq!(l1.vapic(0xa0), 0x40);
    l1.exit(HardwareExit::Hlt.into());
    assert_eq!(l1.state(0x98) & 0xffff, 0x4100);
}

#[test]
fn the_task_priority_holds_an_interrupt_back() {
    let l1 = L1::with_l2(&[]);
    l1.request_interrupt(0x41);
    l1.set_vapic(0x80, 0x40);
    l1.set_state(0x80, INTERRUPTS_ON);
    l1.start_l2();
    assert_eq!(l1.injected(), None);
    assert!(
        !l1.model
            .with(|_, platform| platform.intercepts[&Vm::L2(VM)].interrupt_window)
    );
}

#[test]
fn l2_ends_an_interrupt_without_l1_unless_it_asked_for_that_vector() {
    for (bitmap, reason) in [(0, None), (1u64 << 1, Some(45))] {
        let l1 = L1::with_l2(&[0x0f, 0x30]);
        l1.open_msr(0x80b);
        l1.set(VmcsField::EOI_EXIT_BITMAP_1, bitmap);
        l1.set_state(0x80, INTERRUPTS_ON);
        l1.set_state(0x08, 0x80b);
        l1.request_interrupt(0x41);
        l1.start_l2();
        assert_eq!(l1.injected(), Some(Event::interrupt(0x41)));
        let action = l1.exit(HardwareExit::WriteMsr.into());
        assert_eq!(l1.vapic(0x120), 0);
        assert_eq!(l1.vapic(0xa0), 0);
        match reason {
            None => {
                assert_eq!(action, Action::Run(Vm::L2(VM)));
                assert_eq!(l1.l2_register(Register::Rip), CODE + 2);
            }
            Some(reason) => {
                assert_eq!(action, Action::Run(Vm::L1));
                assert_eq!(l1.l1_register(Register::Rax), reason);
                assert_eq!(l1.l1_register(Register::Rcx), 0x41);
                assert_eq!(l1.state(0x88), CODE + 2, "a trap");
            }
        }
    }
}

#[test]
fn an_interrupt_window_is_an_exit_as_soon_as_it_is_open() {
    let l1 = L1::with_l2(&[]);
    l1.set(VmcsField::PRIMARY_CONTROLS, 0xb122_0c8c);
    l1.start_l2();
    l1.model
        .with(|_, platform| platform.set_register(Vm::L2(VM), Register::Rflags, INTERRUPTS_ON));
    l1.exit(HardwareExit::InterruptWindow.into());
    assert_eq!(l1.l1_register(Register::Rax), 7);
    l1.set_state(0x80, INTERRUPTS_ON);
    assert_eq!(l1.enter().rax, 7, "open from the start");
}

#[test]
fn an_msr_is_l1s_until_its_bit_is_clear() {
    let l1 = L1::with_l2(&[0x0f, 0x32]);
    l1.set_state(0x08, 0x808);
    l1.set_vapic(0x80, 0x30);
    l1.model.push_exit(HardwareExit::ReadMsr);
    assert_eq!(l1.enter().rax, 31);
    l1.open_msr(0x808);
    l1.model.push_exit(HardwareExit::ReadMsr);
    l1.model.push_run(|platform, vm| {
        assert_eq!(platform.register(vm, Register::Rax), 0x30);
        assert_eq!(platform.register(vm, Register::Rip), CODE + 2);
        HardwareExit::Hlt.into()
    });
    assert_eq!(l1.enter().rax, 12);
    l1.open_msr(TSC_DEADLINE_MSR);
    l1.set_state(0x88, CODE);
    l1.set_state(0x08, TSC_DEADLINE_MSR);
    l1.model.push_exit(HardwareExit::ReadMsr);
    assert_eq!(l1.enter().rax, 31, "the module's own bit is set");
}

#[test]
fn a_direct_msr_is_opened_in_the_hardware() {
    let l1 = L1::with_l2(&[]);
    l1.open_msr(0x174);
    let intercept = l1
        .model
        .with(|_, platform| platform.msr_intercepts[&(Vm::L2(VM), 0x174)]);
    assert_eq!(intercept, (false, false));
}

#[test]
fn the_host_gets_interrupts_and_l2_goes_on() {
    let l1 = L1::with_l2(&[0xf4]);
    l1.model.set_host(|_, _, exit| {
        assert_eq!(exit.registers.rax, 1);
        assert_eq!(exit.registers.rcx >> 32, 1, "VM 1");
        Default::default()
    });
    l1.model.push_exit(HardwareExit::Interrupt);
    l1.model.push_exit(HardwareExit::Hlt);
    assert_eq!(l1.enter().rax, 12);
}

#[test]
fn the_host_routes_an_exit_to_l1() {
    let l1 = L1::with_l2(&[]);
    l1.model.set_host(|_, _, _| crate::VpEnterInput {
        resume_l1: true,
        ..Default::default()
    });
    l1.model.push_exit(HardwareExit::NestedPageFault {
        gpa: 0xfed4_0000,
        write: false,
        fetch: false,
        page_walk: false,
    });
    let out = l1.enter();
    assert_eq!(out.rax, 0x0000_1100_0000_0030);
    assert_eq!(out.r8, 0xfed4_0000);
    assert_eq!(out.r13, 0);
}

#[test]
fn a_posted_interrupt_for_l1_ends_the_run_of_l2() {
    let l1 = L1::with_l2(&[]);
    l1.model
        .set_host(|module: &mut Module, _: &mut TestPlatform, _| {
            module.post_interrupt(0xe1);
            Default::default()
        });
    l1.model.push_exit(HardwareExit::Interrupt);
    let status = l1.model.call(L1::entering());
    // The interrupt itself is L1's next, if it takes interrupts.
    match status {
        Ok(out) => assert_eq!(out.rax, 0x0000_1102_0000_0001),
        Err(event) => assert_eq!(event, Event::interrupt(0xe1)),
    }
    assert_eq!(l1.l1_register(Register::Rax), 0x0000_1102_0000_0001);
}

#[test]
fn an_event_cut_short_by_the_hosts_exit_is_delivered_again() {
    let l1 = L1::with_l2(&[]);
    l1.start_l2();
    let vectoring = Some(Event::interrupt(0x41));
    let action = l1.exit(Exited {
        exit: HardwareExit::NestedPageFault {
            gpa: 1 << 47,
            write: false,
            fetch: false,
            page_walk: false,
        },
        vectoring,
    });
    assert!(matches!(action, Action::TdExit(_)));
    let action = l1
        .model
        .with(|module, platform| module.tdh_vp_enter(platform, Default::default()));
    assert_eq!(action, Action::Run(Vm::L2(VM)));
    assert_eq!(l1.injected(), vectoring);
}

#[test]
fn l1_has_to_deliver_again_what_it_is_told() {
    let l1 = L1::with_l2(&[0xf4]);
    l1.start_l2();
    l1.exit(Exited {
        exit: HardwareExit::Hlt,
        vectoring: Some(Event::exception(14, Some(6))),
    });
    assert_eq!(l1.l1_register(Register::R10), 0x0000_0006_8000_0b0e);
    l1.start_l2();
    assert_eq!(l1.injected(), None);
}

#[test]
fn invept_and_invgla_check_their_operands() {
    let l1 = L1 {
        model: ModelTdcall::new(&TdParams::default(), 4 << 20),
    };
    let call = |rax, rcx, rdx| {
        l1.status_of(Registers {
            rax,
            rcx,
            rdx,
            ..Registers::default()
        })
    };
    let invalid = Status::operand_invalid;
    assert_eq!(call(number::VP_INVEPT, 1, 0), invalid(Operand::RCX));
    assert_eq!(call(number::VP_INVEPT, 4, 0), invalid(Operand::RCX));
    assert_eq!(call(number::VP_INVEPT, 2, 0), Status::SUCCESS);
    let vm = 1 << 52;
    assert_eq!(call(number::VP_INVGLA, 0, 0), invalid(Operand::RCX));
    assert_eq!(call(number::VP_INVGLA, vm | 2, 0), invalid(Operand::RCX));
    assert_eq!(
        call(number::VP_INVGLA, vm, 1 << 47),
        Status::new(Code::GlaNotCanonical, 0)
    );
    assert_eq!(call(number::VP_INVGLA, vm, 0x1000 | 3), Status::SUCCESS);
    let list = |first: u64, count: u64| first | STATE | count << 52;
    assert_eq!(
        call(number::VP_INVGLA, vm | 1, list(511, 2)),
        invalid(Operand::RDX)
    );
    let done = l1.call(Registers {
        rax: number::VP_INVGLA,
        rcx: vm | 1,
        rdx: list(0, 2),
        ..Registers::default()
    });
    assert_eq!((done.rax, done.rdx >> 52), (0, 0));
}

#[test]
fn segments_are_written_part_by_part() {
    let l1 = L1 {
        model: ModelTdcall::new(&TdParams::default(), 4 << 20),
    };
    l1.set(VmcsField::GUEST_FS_BASE, 0xffff_8000_0000_0000);
    l1.set(VmcsField::GUEST_FS_SELECTOR, 0x2b);
    l1.set(VmcsField::GUEST_FS_LIMIT, 0xf_ffff);
    l1.set(VmcsField::GUEST_FS_ACCESS_RIGHTS, 0x4093);
    let fs = l1
        .model
        .with(|_, platform| platform.segment(Vm::L2(VM), SegmentName::Fs));
    assert_eq!(
        (fs.selector, fs.access_rights, fs.limit, fs.base),
        (0x2b, 0x4093, 0xf_ffff, 0xffff_8000_0000_0000)
    );
}
