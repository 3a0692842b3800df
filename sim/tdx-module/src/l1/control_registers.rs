//! L1's writes of CR0 and CR4.
//!
//! The real module owns a few bits by the guest/host masks of the TD VMCS, and the processor does
//! the rest. Here every write exits, so the processor's own rules are applied as well.

use crate::l1::exit::Emulation;
use crate::module::Module;
use crate::platform::{Event, Platform, Register, Vm};
use iced_x86::{Instruction, Mnemonic, OpKind};
use x86_defs::exit_reason;
use x86_defs::xcr0;
use x86_defs::{cr0, cr4, efer};

/// Bits that MOV to CR0 ignores: 28:19, 17 and 15:6.
const CR0_IGNORED: u64 = 0x1ffa_ffc0;
/// What LMSW writes: MP, EM, TS, and PE which it can only set.
const LMSW: u64 = 0xf;

const XFAM_PKRU: u64 = xcr0::PKRU;
const XFAM_CET: u64 = xcr0::CET_U | xcr0::CET_S;

/// Carries out a MOV to CR0 or CR4, CLTS, LMSW or SMSW, or a MOV from a control register.
pub(super) fn emulate<P: Platform>(module: &mut Module, platform: &mut P) -> Emulation {
    let Some(instruction) = module.l1_space(platform).fetch() else {
        return Emulation::Exception(Event::INVALID_OPCODE);
    };
    if platform.register(Vm::L1, Register::Cpl) != 0 {
        return Emulation::GP;
    }
    let cr0 = platform.register(Vm::L1, Register::Cr0);
    match instruction.mnemonic() {
        Mnemonic::Mov => mov(module, platform, &instruction),
        Mnemonic::Clts => {
            platform.set_register(Vm::L1, Register::Cr0, cr0 & !cr0::TS);
            Emulation::Done
        }
        Mnemonic::Lmsw if instruction.op0_kind() == OpKind::Register => {
            let value = general(instruction.op0_register())
                .map_or(0, |register| platform.register(Vm::L1, register));
            let new = cr0 & (!LMSW | cr0::PE) | value & LMSW;
            platform.set_register(Vm::L1, Register::Cr0, new);
            Emulation::Done
        }
        _ => Emulation::Exception(Event::INVALID_OPCODE),
    }
}

fn mov<P: Platform>(module: &mut Module, platform: &mut P, instruction: &Instruction) -> Emulation {
    let (to, from) = (instruction.op0_register(), instruction.op1_register());
    if let (Some(register), Some(source)) = (control(from), general(to)) {
        let value = platform.register(Vm::L1, register);
        platform.set_register(Vm::L1, source, value);
        return Emulation::Done;
    }
    let (Some(register), Some(source)) = (control(to), general(from)) else {
        return Emulation::Exception(Event::INVALID_OPCODE);
    };
    let mut value = platform.register(Vm::L1, source);
    let is_64_bit = module.l1_space(platform).code_width() == 64;
    if !is_64_bit {
        value &= 0xffff_ffff;
    }
    // Access type 0 is MOV to CR; the general register is in bits 11:8.
    let qualification = |number: u64| number | (source as u64) << 8;
    match register {
        Register::Cr0 => write_cr0(platform, value, is_64_bit, qualification(0)),
        Register::Cr4 => write_cr4(module, platform, value, qualification(4)),
        _ => {
            platform.set_register(Vm::L1, register, value);
            Emulation::Done
        }
    }
}

fn write_cr0<P: Platform>(
    platform: &mut P,
    value: u64,
    is_64_bit: bool,
    qualification: u64,
) -> Emulation {
    let cr4 = platform.register(Vm::L1, Register::Cr4);
    let efer = platform.register(Vm::L1, Register::Efer);
    let old = platform.register(Vm::L1, Register::Cr0);
    let set = |bit| value & bit != 0;
    if value >> 32 != 0
        || !set(cr0::NE)
        || set(cr0::PG) && !set(cr0::PE)
        || set(cr0::NW) && !set(cr0::CD)
        || !set(cr0::WP) && cr4 & cr4::CET != 0
    {
        return Emulation::GP;
    }
    if set(cr0::NW) || set(cr0::CD) {
        return Emulation::VirtualizationException(exit_reason::CR_ACCESS, qualification);
    }
    let enters_paging = set(cr0::PG) && old & cr0::PG == 0;
    let leaves_paging = !set(cr0::PG) && old & cr0::PG != 0;
    if enters_paging && efer & efer::LME != 0 {
        if cr4 & cr4::PAE == 0 {
            return Emulation::GP;
        }
        platform.set_register(Vm::L1, Register::Efer, efer | efer::LMA);
    }
    if leaves_paging {
        if is_64_bit || cr4 & cr4::PCIDE != 0 {
            return Emulation::GP;
        }
        platform.set_register(Vm::L1, Register::Efer, efer & !efer::LMA);
    }
    let new = value & !CR0_IGNORED | old & CR0_IGNORED;
    platform.set_register(Vm::L1, Register::Cr0, new);
    Emulation::Done
}

fn write_cr4<P: Platform>(
    module: &Module,
    platform: &mut P,
    value: u64,
    qualification: u64,
) -> Emulation {
    let old = platform.register(Vm::L1, Register::Cr4);
    let long_mode = module.l1_space(platform).is_long_mode();
    let cr3 = platform.register(Vm::L1, Register::Cr3);
    let set = |bit| value & bit != 0;
    let sets = |bit| value & !old & bit != 0;
    if value & !supported_cr4(module, platform) != 0
        || long_mode && (!set(cr4::PAE) || (value ^ old) & cr4::LA57 != 0)
        || sets(cr4::PCIDE) && (!long_mode || cr3 & 0xfff != 0)
    {
        return Emulation::GP;
    }
    if set(cr4::VMXE) || set(cr4::SMXE) || !set(cr4::MCE) {
        return Emulation::VirtualizationException(exit_reason::CR_ACCESS, qualification);
    }
    platform.set_register(Vm::L1, Register::Cr4, value);
    Emulation::Done
}

/// The bits of CR4 that the processor has and that XFAM allows.
fn supported_cr4<P: Platform>(module: &Module, platform: &mut P) -> u64 {
    let features = platform.cpuid(1, 0);
    let extended = platform.cpuid(7, 0);
    let xfam = module.td.params.xfam;
    let when = |holds: bool, bit: u64| if holds { bit } else { 0 };
    // VME to OSXMMEXCPT, and what a processor with TDX always has.
    0x7ff
        | cr4::VMXE
        | cr4::SMXE
        | when(extended.ecx & 1 << 2 != 0, 1 << 11)
        | when(extended.ecx & 1 << 16 != 0, cr4::LA57)
        | when(extended.ebx & 1 != 0, 1 << 16)
        | when(features.ecx & 1 << 17 != 0, cr4::PCIDE)
        | when(features.ecx & 1 << 26 != 0, 1 << 18)
        | when(extended.ebx & 1 << 7 != 0, 1 << 20)
        | when(extended.ebx & 1 << 20 != 0, 1 << 21)
        | when(
            xfam & XFAM_PKRU != 0 && extended.ecx & 1 << 3 != 0,
            cr4::PKE,
        )
        | when(
            xfam & XFAM_CET == XFAM_CET && extended.ecx & 1 << 7 != 0,
            cr4::CET,
        )
}

fn control(register: iced_x86::Register) -> Option<Register> {
    match register {
        iced_x86::Register::CR0 => Some(Register::Cr0),
        iced_x86::Register::CR2 => Some(Register::Cr2),
        iced_x86::Register::CR3 => Some(Register::Cr3),
        iced_x86::Register::CR4 => Some(Register::Cr4),
        _ => None,
    }
}

fn general(register: iced_x86::Register) -> Option<Register> {
    if !register.is_gpr() {
        return None;
    }
    let number = register.full_register().number();
    Register::GENERAL.get(number).copied()
}
