//! Any exit information, and any arguments of L2's TDCALLs.

use l2_exit::mmio::{self, DecodeCache};
use l2_exit::tdvmcall::{self, Reply, Tdcall};
use l2_exit::{Exit, Gpr, Outcome, Reason, port_io};
use tdx_defs::Registers;
use tdx_defs::status::{Code, Status};
use tdx_defs::vp_enter;

use super::input::Input;
use super::machine::{Cpu, Device, Ram};

/// RAX of TDG.VP.ENTER after L2 ran or would have run.
const STATUSES: [Code; 5] = [
    Code::Success,
    Code::L2ExitHostRoutedAsync,
    Code::L2ExitHostRoutedTdvmcall,
    Code::L2ExitPendingInterrupt,
    Code::PendingInterrupt,
];
/// The exit reason of a TDCALL of L2's.
const TDCALL: u32 = 77;

fn exit(input: &Input, reason: u32) -> Exit {
    let status = STATUSES[usize::from(input.byte()) % STATUSES.len()];
    let mut registers = Registers {
        rax: Status::new(status, reason).0,
        // Flat 64-bit code.
        rsi: 0xFFFF_FFFF_A09B_0010,
        ..Registers::default()
    };
    if input.byte() > 0xF0 {
        registers.rsi = input.qword();
        registers.rdi = input.qword();
    }
    registers.rcx = input.qword();
    registers.rdx = input.qword();
    registers.r8 = input.qword();
    registers.r9 = input.qword();
    registers.r10 = input.qword();
    registers.r11 = input.qword();
    registers.r12 = input.qword();
    registers.r13 = input.qword();
    let outcome = vp_enter::Outcome::from_registers(&registers).expect("it is one of them");
    Exit::decode(&outcome)
}

/// Any information of an exit: it has a meaning or is none, and what is executed because of it ends.
pub fn exit_information(data: &[u8]) {
    let input = Input::new(data);
    let reason = match input.byte() {
        number @ 0..0xF0 => u32::from(number % 80) | u32::from(number / 80) << 26,
        _ => input.dword(),
    };
    let exit = exit(&input, reason);
    assert!(exit.cpl <= 3 && exit.instruction_length <= 15);
    let (mut cpu, ram, mut device) = (Cpu::new(&input), Ram::new(), Device::default());
    cpu.disturb(&input);
    let rip = cpu.rip;
    let outcome = match exit.reason {
        Reason::EptViolation(violation) => {
            let mut cache = DecodeCache::new();
            mmio::emulate(&exit, &violation, &mut cpu, &ram, &mut device, &mut cache)
        }
        Reason::Io(access) => port_io::emulate(&exit, &access, &mut cpu, &ram, &mut device),
        reason if reason.is_instruction() => {
            l2_exit::advance(&exit, &mut cpu);
            return;
        }
        _ => return,
    };
    if !matches!(outcome, Ok(Outcome::Completed)) {
        assert_eq!(cpu.rip, rip);
    }
}

/// Any arguments of a TDCALL: none but the registers of its mask, RAX and RIP change with the answer.
pub fn tdvmcall_arguments(data: &[u8]) {
    let input = Input::new(data);
    let exit = exit(&input, TDCALL);
    let mut cpu = Cpu::new(&input);
    cpu.gprs[Gpr::Rax as usize] = match input.byte() {
        0..0xC0 => 0,
        number => u64::from(number & 0x3F) | u64::from(input.byte() & 1) << 16,
    };
    if input.byte() < 0xE0 {
        // A call of GHCI's with all its registers.
        cpu.gprs[Gpr::Rcx as usize] = 0xFC00 | u64::from(input.byte() & 0xF) << 8;
        cpu.gprs[Gpr::R10 as usize] = 0;
        cpu.gprs[Gpr::R11 as usize] = match input.byte() {
            number @ 0..0x80 => number.into(),
            number => 0x10000 | u64::from(number & 0xF),
        };
        for register in [Gpr::R12, Gpr::R13, Gpr::R14, Gpr::R15] {
            cpu.gprs[register as usize] = match input.byte() {
                small @ 0..0x90 => u64::from(small & 0xF),
                _ => input.qword(),
            };
        }
    }
    cpu.disturb(&input);
    let before = cpu.clone();
    match tdvmcall::decode(&exit, &cpu) {
        Ok(Tdcall::VmCall(call)) => {
            let reply = Reply {
                r11: Some(input.qword()),
                r12_to_r15: (input.byte() & 1 != 0).then_some([7; 4]),
                ..Reply::SUCCESS
            };
            call.reply(&exit, &mut cpu, reply);
            kept(&before, &cpu, before.gprs[Gpr::Rcx as usize]);
        }
        Ok(Tdcall::Leaf(_)) => {
            tdvmcall::complete(&exit, &mut cpu, Status(0), &[]);
            kept(&before, &cpu, 0);
        }
        Err(refusal) => match refusal.apply(&exit, &mut cpu) {
            Some(_) => assert_eq!(cpu, before, "a fault changes nothing"),
            None => kept(&before, &cpu, before.gprs[Gpr::Rcx as usize]),
        },
    }
}

/// Registers outside the mask are as they were, but for RAX.
fn kept(before: &Cpu, after: &Cpu, mask: u64) {
    for number in 1..16 {
        if mask >> number & 1 == 0 {
            assert_eq!(before.gprs[number], after.gprs[number], "register {number}");
        }
    }
}
