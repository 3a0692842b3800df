use proptest::prelude::*;
use tdx_defs::Registers;

use super::*;
use crate::event::EventKind;
use crate::test_vcpu::TestVcpu;
use crate::vcpu::{Gpr, SegmentRegister};
use tdx_defs::ghci::Width;

/// TDG.VP.ENTER's output for a direct exit of 64-bit kernel code.
fn registers(reason: u32) -> Registers {
    Registers {
        rax: u64::from(reason),
        rsi: 0xFFFF_FFFF_A09B_0010,
        r11: 3 << 32,
        ..Registers::default()
    }
}

fn decode(registers: &Registers) -> Exit {
    Exit::decode(&Outcome::from_registers(registers).unwrap())
}

fn reason(reason: u32, qualification: u64, information: u32) -> Reason {
    decode(&Registers {
        rcx: qualification,
        r11: u64::from(information),
        ..registers(reason)
    })
    .reason
}

#[test]
fn an_ept_violation_is_decoded_with_its_addresses() {
    let exit = decode(&Registers {
        rcx: 0x182,
        rdx: 0xFFFF_C900_0000_0018,
        r8: 0x8000_FED4_0018,
        r13: 6,
        ..registers(48)
    });
    assert_eq!(
        exit.reason,
        Reason::EptViolation(EptViolation {
            gpa: 0x8000_FED4_0018,
            linear: Some(0xFFFF_C900_0000_0018),
            read: false,
            write: true,
            fetch: false,
            final_access: true,
            nmi_unblocked: false,
            pending: true,
        })
    );
    assert_eq!((exit.cpl, exit.origin), (0, Origin::Direct));
    assert!(exit.is_64_bit(&TestVcpu::long()));
    assert!(!exit.reason.is_instruction());
    let walk = EptViolation::decode(0x1081, 7, 8, 0);
    assert_eq!((walk.linear, walk.final_access), (Some(7), false));
    assert!(walk.nmi_unblocked && !walk.pending);
    let none = EptViolation::decode(0x104, 7, 8, 0);
    assert_eq!((none.linear, none.final_access), (None, false));
    assert!(none.fetch);
}

#[test]
fn the_status_tells_the_origin() {
    for (status, origin) in [
        (0, Origin::Direct),
        (0x1100, Origin::HostRouted),
        (0x1101, Origin::HostRoutedTdvmcall),
        (0x1102, Origin::PendingInterrupt),
    ] {
        let exit = decode(&Registers {
            rax: status << 32 | 12,
            ..registers(0)
        });
        assert_eq!((exit.origin, exit.reason), (origin, Reason::Hlt));
    }
    let exit = decode(&Registers {
        rax: 0x1120 << 32,
        ..registers(0)
    });
    assert_eq!(exit.reason, Reason::NotEntered);
    assert_eq!(exit.origin, Origin::PendingInterrupt);
}

#[test]
fn an_interrupted_delivery_is_an_event_again() {
    let exit = decode(&Registers {
        r10: 5 << 32 | 0x8000_0B0E,
        ..registers(48)
    });
    assert_eq!(exit.idt_vectoring, Some(Event::fault(14, 5)));
    let exit = decode(&Registers {
        r10: 0x8000_0480,
        r11: 2 << 32,
        ..registers(48)
    });
    assert_eq!(
        exit.idt_vectoring,
        Some(Event {
            vector: 0x80,
            kind: EventKind::SoftwareInterrupt,
            error_code: None,
            instruction_length: 2
        })
    );
    assert_eq!(decode(&registers(48)).idt_vectoring, None);
}

/// Basic reason, qualification, instruction information: the value.
#[test]
fn qualifications_are_those_of_the_manual() {
    for (basic, qualification, information, expected) in [
        (2, 0, 0, Reason::TripleFault),
        (7, 0, 0, Reason::InterruptWindow),
        (
            9,
            0x8000_0028,
            0,
            Reason::TaskSwitch(TaskSwitch {
                selector: 0x28,
                source: TaskSwitchSource::Jmp,
            }),
        ),
        (10, 0, 0, Reason::Cpuid),
        (
            14,
            0x1234_5000,
            0,
            Reason::Invlpg {
                linear: 0x1234_5000,
            },
        ),
        (19, 0, 0, Reason::Vmx { basic: 19 }),
        (53, 0, 0, Reason::Vmx { basic: 53 }),
        (
            28,
            0x304,
            0,
            Reason::ControlRegister(ControlRegisterAccess::Write {
                number: 4,
                from: Gpr::Rbx,
            }),
        ),
        (
            28,
            0xF18,
            0,
            Reason::ControlRegister(ControlRegisterAccess::Read {
                number: 8,
                to: Gpr::R15,
            }),
        ),
        (
            28,
            0x20,
            0,
            Reason::ControlRegister(ControlRegisterAccess::Clts),
        ),
        (
            28,
            0xABCD_0030,
            0,
            Reason::ControlRegister(ControlRegisterAccess::Lmsw { value: 0xABCD }),
        ),
        (
            29,
            0x417,
            0,
            Reason::DebugRegister(DebugRegisterAccess {
                number: 7,
                read: true,
                register: Gpr::Rsp,
            }),
        ),
        (
            30,
            0x03F8_0008,
            0,
            Reason::Io(IoAccess {
                port: 0x3F8,
                width: Some(Width::Byte),
                input: true,
                string: None,
                qualification: 0x03F8_0008,
            }),
        ),
        (
            30,
            0x0510_0033,
            0x2_0080,
            Reason::Io(IoAccess {
                port: 0x510,
                width: Some(Width::Dword),
                input: false,
                string: Some(IoString {
                    repeat: true,
                    address: OperandWidth::Bits32,
                    segment: SegmentRegister::Fs,
                }),
                qualification: 0x0510_0033,
            }),
        ),
        (31, 0, 0, Reason::Rdmsr),
        (45, 0x31, 0, Reason::VirtualizedEoi { vector: 0x31 }),
        (
            46,
            8,
            2 << 28,
            Reason::DescriptorTable {
                instruction: DescriptorTable::Lgdt,
                information: 2 << 28,
                displacement: 8,
            },
        ),
        (
            47,
            8,
            3 << 28,
            Reason::DescriptorTable {
                instruction: DescriptorTable::Ltr,
                information: 3 << 28,
                displacement: 8,
            },
        ),
        (52, 0, 0, Reason::PreemptionTimer),
        (54, 0, 0, Reason::Wbinvd { keep: false }),
        (54, 1, 0, Reason::Wbinvd { keep: true }),
        (56, 0x300, 0, Reason::ApicWrite { offset: 0x300 }),
        (
            57,
            0,
            2 << 11 | 9 << 3,
            Reason::Rdrand {
                to: Gpr::R9,
                width: OperandWidth::Bits64,
            },
        ),
        (
            61,
            0,
            0,
            Reason::Rdseed {
                to: Gpr::Rax,
                width: OperandWidth::Bits16,
            },
        ),
        (
            58,
            0x10,
            0x3000_0000,
            Reason::Invpcid {
                kind: Gpr::Rbx,
                information: 0x3000_0000,
                displacement: 0x10,
            },
        ),
        (68, 0, 7 << 3, Reason::Tpause { state: Gpr::Rdi }),
        (76, 0, 0, Reason::Seamcall),
        (77, 0, 0, Reason::Tdcall),
        (
            0x8000_0021,
            3,
            0,
            Reason::InvalidGuestState { qualification: 3 },
        ),
        (
            0x8000_0022,
            3,
            0,
            Reason::Other {
                reason: 0x8000_0022,
                qualification: 3,
            },
        ),
        (
            37,
            0,
            0,
            Reason::Other {
                reason: 37,
                qualification: 0,
            },
        ),
    ] {
        assert_eq!(
            reason(basic, qualification, information),
            expected,
            "{basic:#x}"
        );
    }
}

#[test]
fn an_exception_is_the_event_that_would_be_injected() {
    let exit = decode(&Registers {
        rcx: 0xDEAD_B000,
        r9: 2 << 32 | 0x8000_1B0E,
        ..registers(0)
    });
    assert_eq!(
        exit.reason,
        Reason::Exception(ExceptionExit {
            event: Event::fault(14, 2),
            qualification: 0xDEAD_B000,
            nmi_unblocked: true
        })
    );
    assert!(matches!(
        decode(&registers(0)).reason,
        Reason::Other { reason: 0, .. }
    ));
}

#[test]
fn a_bus_lock_does_not_hide_the_reason() {
    let exit = decode(&registers(1 << 26 | 10));
    assert_eq!((exit.reason, exit.bus_lock), (Reason::Cpuid, true));
    assert!(!decode(&registers(10)).bus_lock);
}

#[test]
fn only_unexecuted_instructions_are_stepped_over() {
    for basic in [10, 11, 12, 13, 14, 16, 18, 28, 29, 30, 31, 32, 54, 55, 77] {
        assert!(reason(basic, 0, 0).is_instruction(), "{basic}");
    }
    for basic in [0, 1, 2, 7, 8, 9, 43, 45, 48, 52, 56, 37, 0x8000_0021] {
        assert!(!reason(basic, 0, 0).is_instruction(), "{basic}");
    }
}

proptest! {
    #[test]
    fn any_output_is_decoded(values in any::<[u64; 9]>(), basic in 0..80_u32, status in 0..5) {
        let [rcx, rdx, rsi, rdi, r8, r9, r10, r11, r12] = values;
        let status = [0, 0x1100, 0x1101, 0x1102, 0x1120_u64][status as usize];
        let exit = decode(&Registers {
            rax: status << 32 | u64::from(basic),
            rcx, rdx, rsi, rdi, r8, r9, r10, r11, r12, r13: rcx,
            ..Registers::default()
        });
        prop_assert!(exit.cpl < 4);
        prop_assert!(exit.instruction_length < 16);
    }
}
