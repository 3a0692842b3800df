use proptest::prelude::*;

use super::*;
use crate::exit::Reason;
use crate::test_vcpu::{CODE_32, TestVcpu};
use crate::vcpu::SegmentRegister;
use tdx_defs::ghci::{MmioWidth, Width, sub_function};

const INVALID: u64 = 1 << 63;

fn vcpu(registers: &[(Gpr, u64)]) -> TestVcpu {
    let mut vcpu = TestVcpu::long();
    vcpu.rip = 0x1000;
    for (register, value) in registers {
        vcpu.gprs[*register as usize] = *value;
    }
    vcpu
}

fn tdcall(vcpu: &TestVcpu, cpl: u8) -> Exit {
    Exit {
        instruction_length: 4,
        ..vcpu.exit(Reason::Tdcall, cpl)
    }
}

/// R10 = 0, R11 = `function`, R12 to R15 = `arguments`, R10 to R15 in the mask.
fn call(function: u64, arguments: [u64; 4]) -> TestVcpu {
    let [r12, r13, r14, r15] = arguments;
    vcpu(&[
        (Gpr::Rcx, 0xFC00),
        (Gpr::R11, function),
        (Gpr::R12, r12),
        (Gpr::R13, r13),
        (Gpr::R14, r14),
        (Gpr::R15, r15),
    ])
}

fn function(function: u64, arguments: [u64; 4]) -> Result<SubFunction, CompletionStatus> {
    let vcpu = call(function, arguments);
    match decode(&tdcall(&vcpu, 0), &vcpu) {
        Ok(Tdcall::VmCall(call)) => Ok(call.function),
        Err(Refusal::Completion { status, .. }) => Err(status),
        other => panic!("{other:?}"),
    }
}

#[test]
fn sub_functions_have_the_registers_of_the_ghci() {
    for (number, arguments, expected) in [
        (
            sub_function::CPUID,
            [7, 1, 0, 0],
            SubFunction::Cpuid {
                leaf: 7,
                subleaf: 1,
            },
        ),
        (
            sub_function::HLT,
            [1, 0, 0, 0],
            SubFunction::Hlt {
                interrupts_blocked: true,
            },
        ),
        (
            sub_function::IO,
            [2, 0, 0x3F8, 0],
            SubFunction::IoRead {
                port: 0x3F8,
                width: Width::Word,
            },
        ),
        (
            sub_function::IO,
            [1, 1, 0x80, 0x1234],
            SubFunction::IoWrite {
                port: 0x80,
                width: Width::Byte,
                value: 0x34,
            },
        ),
        (
            sub_function::RDMSR,
            [0x1B, 0, 0, 0],
            SubFunction::Rdmsr { index: 0x1B },
        ),
        (
            sub_function::WRMSR,
            [0x6E0, u64::MAX, 0, 0],
            SubFunction::Wrmsr {
                index: 0x6E0,
                value: u64::MAX,
            },
        ),
        (
            sub_function::MMIO,
            [4, 0, 0xFED4_0F00, 0],
            SubFunction::MmioRead {
                gpa: 0xFED4_0F00,
                width: MmioWidth::Dword,
            },
        ),
        (
            sub_function::MMIO,
            [1, 1, 0xFED4_0024, 0x1FF],
            SubFunction::MmioWrite {
                gpa: 0xFED4_0024,
                width: MmioWidth::Byte,
                value: 0xFF,
            },
        ),
        (sub_function::WBINVD, [0; 4], SubFunction::Wbinvd),
        (
            sub_function::GET_TD_VM_CALL_INFO,
            [1, 0, 0, 0],
            SubFunction::GetTdVmCallInfo { leaf: 1 },
        ),
        (
            sub_function::MAP_GPA,
            [0x8000_0000_1000, 0x2000, 0, 0],
            SubFunction::MapGpa {
                gpa: 0x8000_0000_1000,
                size: 0x2000,
            },
        ),
        (
            sub_function::GET_QUOTE,
            [0x1000, 0x4000, 0, 0],
            SubFunction::GetQuote {
                gpa: 0x1000,
                size: 0x4000,
            },
        ),
        (
            sub_function::SETUP_EVENT_NOTIFY_INTERRUPT,
            [32, 0, 0, 0],
            SubFunction::SetupEventNotifyInterrupt { vector: 32 },
        ),
        (
            sub_function::SERVICE,
            [0x1000, 0x2000, 0, 9],
            SubFunction::Service {
                command: 0x1000,
                response: 0x2000,
                vector: None,
                timeout: 9,
            },
        ),
    ] {
        assert_eq!(function(number, arguments), Ok(expected));
    }
}

#[test]
fn arguments_out_of_range_are_invalid_operands() {
    let invalid = CompletionStatus::InvalidOperand;
    for (number, arguments, status) in [
        (sub_function::CPUID, [1 << 32, 0, 0, 0], invalid),
        (sub_function::IO, [3, 0, 0x80, 0], invalid),
        (sub_function::IO, [8, 0, 0x80, 0], invalid),
        (sub_function::IO, [1, 2, 0x80, 0], invalid),
        (sub_function::IO, [1, 0, 0x1_0000, 0], invalid),
        (sub_function::MMIO, [3, 0, 0x1000, 0], invalid),
        (sub_function::MMIO, [4, 2, 0x1000, 0], invalid),
        (sub_function::MMIO, [4, 0, 0x1FFD, 0], invalid),
        (sub_function::MMIO, [8, 0, u64::MAX - 7, 0], invalid),
        (sub_function::MMIO, [1, 0, 1 << 52, 0], invalid),
        (sub_function::RDMSR, [u64::MAX, 0, 0, 0], invalid),
        (
            sub_function::MAP_GPA,
            [0x1001, 0x1000, 0, 0],
            CompletionStatus::AlignError,
        ),
        (
            sub_function::MAP_GPA,
            [0x1000, 0x10, 0, 0],
            CompletionStatus::AlignError,
        ),
        (sub_function::MAP_GPA, [0x1000, 0, 0, 0], invalid),
        (sub_function::MAP_GPA, [0x1000, 1 << 52, 0, 0], invalid),
        (sub_function::MAP_GPA, [!0xFFF, 0x2000, 0, 0], invalid),
        (sub_function::GET_QUOTE, [0x1010, 0x1000, 0, 0], invalid),
        (
            sub_function::SETUP_EVENT_NOTIFY_INTERRUPT,
            [31, 0, 0, 0],
            invalid,
        ),
        (
            sub_function::SETUP_EVENT_NOTIFY_INTERRUPT,
            [256, 0, 0, 0],
            invalid,
        ),
        (sub_function::SERVICE, [0x1000, 0x2000, 31, 0], invalid),
        (sub_function::SERVICE, [0x1000, 0x2010, 0, 0], invalid),
        (sub_function::SERVICE, [1 << 52, 1 << 52, 0, 0], invalid),
        // Both wrong alike.
        (sub_function::SERVICE, [0x1010, 0x2010, 0, 0], invalid),
        (sub_function::GET_QUOTE, [0x1010, 0x1010, 0, 0], invalid),
        (
            sub_function::MAP_GPA,
            [0x1010, 0x1010, 0, 0],
            CompletionStatus::AlignError,
        ),
        (0x20001, [0; 4], invalid),
    ] {
        assert_eq!(function(number, arguments), Err(status), "{number:#x}");
    }
}

/// An access of MMIO is inside one page, and below the end of what a guest-physical address can be.
#[test]
fn mmio_ends_at_the_end_of_its_page_at_the_latest() {
    const LAST_PAGE: u64 = (1 << 52) - 0x1000;
    for width in [
        MmioWidth::Byte,
        MmioWidth::Word,
        MmioWidth::Dword,
        MmioWidth::Qword,
    ] {
        let bytes = width.bytes();
        for page in [0, 0xFED4_0000, LAST_PAGE] {
            for offset in 0xFF0..0x1000 {
                let gpa = page + offset;
                let (read, write) = if offset + bytes <= 0x1000 {
                    (
                        Ok(SubFunction::MmioRead { gpa, width }),
                        Ok(SubFunction::MmioWrite {
                            gpa,
                            width,
                            value: width.mask(),
                        }),
                    )
                } else {
                    let invalid = CompletionStatus::InvalidOperand;
                    (Err(invalid), Err(invalid))
                };
                let call =
                    |direction, value| function(sub_function::MMIO, [bytes, direction, gpa, value]);
                assert_eq!(call(0, 0), read, "{gpa:#x}");
                assert_eq!(call(1, u64::MAX), write, "{gpa:#x}");
            }
        }
    }
}

#[test]
fn a_vendor_call_is_an_invalid_operand() {
    let mut vcpu = call(sub_function::HLT, [0; 4]);
    vcpu.gprs[Gpr::R10 as usize] = 1;
    let exit = tdcall(&vcpu, 0);
    let refusal = decode(&exit, &vcpu).unwrap_err();
    assert_eq!(refusal.apply(&exit, &mut vcpu), None);
    assert_eq!(vcpu.gpr(Gpr::R10), INVALID);
    assert_eq!(vcpu.gpr(Gpr::Rax), 0);
    assert_eq!(vcpu.rip, 0x1004);
}

#[test]
fn the_text_of_a_fatal_error_is_in_linux_order() {
    let text = *b"0123456789abcdefABCDEFGHIJKLMNOPqrstuvwxyz+-*/.,;:!?()[]{}<>|&%$";
    let mut vcpu = call(sub_function::REPORT_FATAL_ERROR, [3, 4, 0, 0]);
    vcpu.gprs[Gpr::Rcx as usize] = 0xFFCC;
    for (chunk, register) in text.chunks(8).zip([
        Gpr::R14,
        Gpr::R15,
        Gpr::Rbx,
        Gpr::Rdi,
        Gpr::Rsi,
        Gpr::R8,
        Gpr::R9,
        Gpr::Rdx,
    ]) {
        vcpu.gprs[register as usize] = u64::from_le_bytes(chunk.try_into().unwrap());
    }
    let Ok(Tdcall::VmCall(call)) = decode(&tdcall(&vcpu, 0), &vcpu) else {
        panic!();
    };
    assert_eq!(
        call.function,
        SubFunction::ReportFatalError(FatalError {
            code: 3,
            gpa: 4,
            text
        })
    );
}

#[test]
fn privilege_and_mode_come_before_everything() {
    let mut vcpu = vcpu(&[(Gpr::Rax, u64::MAX)]);
    let gp = Err(Refusal::Fault(Event::general_protection()));
    for cpl in 1..=3 {
        assert_eq!(decode(&tdcall(&vcpu, cpl), &vcpu), gp);
    }
    vcpu.segments[SegmentRegister::Cs as usize].access_rights = CODE_32;
    assert_eq!(decode(&tdcall(&vcpu, 0), &vcpu), gp);
}

#[test]
fn a_fault_changes_nothing() {
    let mut vcpu = call(sub_function::HLT, [0; 4]);
    let exit = tdcall(&vcpu, 3);
    let before = vcpu.clone();
    let event = decode(&exit, &vcpu).unwrap_err().apply(&exit, &mut vcpu);
    assert_eq!(event, Some(Event::general_protection()));
    assert_eq!(vcpu, before);
}

#[test]
fn bad_rax_and_rcx_name_their_operand() {
    for (rax, rcx, status) in [
        (13, 0, 0xC000_0100_0000_0000),
        (0x1_0000, 0xFC00, 0xC000_0100_0000_0000),
        (0x2_0007, 0, 0xC000_0100_0000_0000),
        (1 << 32, 0xFC00, 0xC000_0100_0000_0000),
        (1 << 63, 0xFC00, 0xC000_0100_0000_0000),
        (0, 1, 0xC000_0100_0000_0001),
        (0, 0xFC02, 0xC000_0100_0000_0001),
        (0, 0xFC10, 0xC000_0100_0000_0001),
        (0, 1 << 32, 0xC000_0100_0000_0001_u64),
    ] {
        let mut vcpu = vcpu(&[(Gpr::Rax, rax), (Gpr::Rcx, rcx)]);
        let exit = tdcall(&vcpu, 0);
        let refusal = decode(&exit, &vcpu).unwrap_err();
        assert_eq!(refusal.apply(&exit, &mut vcpu), None);
        assert_eq!(vcpu.gpr(Gpr::Rax), status, "RAX {rax:#x} RCX {rcx:#x}");
        assert_eq!(vcpu.rip, 0x1004);
    }
}

#[test]
fn registers_outside_the_mask_are_not_read() {
    // R12 to R15 hold an MMIO write, but only R10 and R11 are passed: a size of 0.
    let mut vcpu = call(sub_function::MMIO, [4, 1, 0xFED4_0000, 7]);
    vcpu.gprs[Gpr::Rcx as usize] = 0x0C00;
    assert!(matches!(
        decode(&tdcall(&vcpu, 0), &vcpu),
        Err(Refusal::Completion { .. })
    ));
}

#[test]
fn a_leaf_has_its_inputs_and_returns_its_outputs() {
    let mut vcpu = vcpu(&[
        (Gpr::Rax, 8),
        (Gpr::Rdx, 0x9110_0003_0000_0010),
        (Gpr::R8, 1),
        (Gpr::R9, 3),
    ]);
    let exit = tdcall(&vcpu, 0);
    assert_eq!(
        decode(&exit, &vcpu),
        Ok(Tdcall::Leaf(Leaf::VmWr {
            field: 0x9110_0003_0000_0010,
            value: 1,
            mask: 3
        }))
    );
    complete(&exit, &mut vcpu, Status::SUCCESS, &[(Gpr::R8, 0)]);
    assert_eq!(vcpu.gpr(Gpr::Rax), 0);
    assert_eq!(vcpu.gpr(Gpr::R8), 0);
    assert_eq!(vcpu.rip, 0x1004);
    vcpu.gprs[Gpr::Rax as usize] = 0x1_0007;
    assert!(matches!(
        decode(&exit, &vcpu),
        Ok(Tdcall::Leaf(Leaf::VmRd { next: true, .. }))
    ));
}

/// GHCI 1.5: where each kind of answer has its values.
#[test]
fn replies_have_their_values_in_the_registers_of_the_ghci() {
    for (reply, r10, r11, r12_to_r15) in [
        (Reply::SUCCESS, 0, None, None),
        (Reply::INVALID_OPERAND, INVALID, None, None),
        (Reply::value(7), 0, Some(7), None),
        (Reply::cpuid(1, 2, 3, 4), 0, None, Some([1, 2, 3, 4])),
        (Reply::retry(0x5000), 1, Some(0x5000), None),
    ] {
        assert_eq!(reply.status.r10(), r10);
        assert_eq!((reply.r11, reply.r12_to_r15), (r11, r12_to_r15));
    }
}

/// RAX, and RCX, RDX, R8, R9 as far as the leaf has them (TDX Module ABI).
#[test]
fn every_leaf_of_the_module_is_decoded() {
    let (rcx, rdx, r8, r9) = (0xC1, 0xD2, 0x88, 0x99);
    let other = |number| Some(Leaf::Other { number });
    for rax in 0..0x2_0010 {
        let vcpu = vcpu(&[
            (Gpr::Rax, rax),
            (Gpr::Rcx, rcx),
            (Gpr::Rdx, rdx),
            (Gpr::R8, r8),
            (Gpr::R9, r9),
        ]);
        let expected = match rax {
            // TDG.VP.VMCALL; RCX 0xC1 names RAX.
            0 => None,
            1 => Some(Leaf::VpInfo),
            2 => Some(Leaf::MrRtmrExtend {
                data: rcx,
                index: rdx,
            }),
            3 => Some(Leaf::VpVeInfoGet),
            4 => Some(Leaf::MrReport {
                report: rcx,
                data: rdx,
                subtype: r8,
            }),
            5 => Some(Leaf::VpCpuidVeSet { flags: rcx }),
            6 => Some(Leaf::MemPageAccept { page: rcx }),
            7 | 0x1_0007 => Some(Leaf::VmRd {
                field: rdx,
                next: rax != 7,
            }),
            8 => Some(Leaf::VmWr {
                field: rdx,
                value: r8,
                mask: r9,
            }),
            9 => Some(Leaf::VpRd { field: rdx }),
            10 => Some(Leaf::VpWr {
                field: rdx,
                value: r8,
                mask: r9,
            }),
            11 => Some(Leaf::SysRd { field: rdx }),
            12 | 22..=27 => other(rax),
            _ => None,
        };
        let decoded = match decode(&tdcall(&vcpu, 0), &vcpu) {
            Ok(Tdcall::Leaf(leaf)) => Some(leaf),
            Ok(Tdcall::VmCall(_)) => panic!("{rax:#x}"),
            Err(_) => None,
        };
        assert_eq!(decoded, expected, "{rax:#x}");
    }
}

proptest! {
    #[test]
    fn a_reply_writes_rax_and_masked_registers_only(
        gprs in any::<[u64; 16]>(),
        mask in any::<u16>().prop_map(|mask| mask & !0b1_0011),
        values in any::<[u64; 4]>(),
        r11 in any::<u64>(),
    ) {
        let mut vcpu = TestVcpu::long();
        vcpu.gprs = gprs;
        let exit = tdcall(&vcpu, 0);
        let call = VmCall { function: SubFunction::Wbinvd, mask };
        call.reply(&exit, &mut vcpu, Reply {
            status: CompletionStatus::Success,
            r11: Some(r11),
            r12_to_r15: Some(values),
        });
        let outputs = [0, r11, values[0], values[1], values[2], values[3]];
        for (number, before) in gprs.into_iter().enumerate() {
            let expected = match number {
                0 => 0,
                10.. if mask >> number & 1 != 0 => outputs[number - 10],
                _ => before,
            };
            prop_assert_eq!(vcpu.gprs[number], expected);
        }
    }

    #[test]
    fn any_registers_are_decoded_without_panic(
        gprs in any::<[u64; 16]>(),
        leaf in prop_oneof![Just(0_u64), 0..40_u64, any::<u64>()],
        function in prop_oneof![0..80_u64, 0x10000..0x10008_u64, any::<u64>()],
        cpl in 0..4_u8,
    ) {
        let mut vcpu = TestVcpu::long();
        vcpu.gprs = gprs;
        vcpu.gprs[0] = leaf;
        vcpu.gprs[1] &= 0xFFEC;
        vcpu.gprs[10] = 0;
        vcpu.gprs[11] = function;
        let exit = tdcall(&vcpu, cpl);
        if let Err(refusal) = decode(&exit, &vcpu) {
            let _ = refusal.apply(&exit, &mut vcpu);
        }
    }
}
