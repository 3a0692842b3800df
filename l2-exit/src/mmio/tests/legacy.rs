//! 32-bit and 16-bit code: address sizes, segments and their limits.

use super::*;
use crate::vcpu::SegmentAccessRights;
use x86_defs::rflags;

fn run(
    machine: &mut Machine,
    bits: u32,
    gpa: u64,
    write: bool,
    instruction: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<Outcome, EmulationError> {
    let code = assemble(bits, machine.vcpu.rip, instruction);
    machine.load(CODE_GPA, &code);
    let violation = machine.violation(gpa, write);
    machine.emulate(violation)
}

#[test]
fn flat_32_bit_code_reaches_the_device() {
    let mut machine = Machine::flat(TestVcpu::protected());
    machine.set(Gpr::Rbx, DEVICE);
    machine.set(Gpr::Rax, u64::MAX);
    let outcome = run(&mut machine, 32, DEVICE + 0x24, false, |a| {
        a.mov(eax, dword_ptr(ebx + 0x24))
    });
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(machine.get(Gpr::Rax), 0x2726_2524);
    assert_eq!(machine.vcpu.rip, CODE_GPA + 3);
    // Legacy code is never kept.
    assert_eq!(machine.cache.statistics().hits, 0);
}

#[test]
fn a_32_bit_absolute_address_is_not_sign_extended() {
    let mut machine = Machine::flat(TestVcpu::protected());
    // MOV AL, [0xFED40000]
    machine.load(CODE_GPA, &[0xA0, 0x00, 0x00, 0xD4, 0xFE]);
    let violation = machine.violation(DEVICE, false);
    assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
    assert_eq!(machine.device.seen, [Seen::Read(0, 1)]);
}

#[test]
fn segment_bases_wrap_at_4_gib() {
    let mut machine = Machine::flat(TestVcpu::protected());
    machine.vcpu.segments[SegmentRegister::Es as usize].base = 0xFFFF_FFFF;
    machine.set(Gpr::Rbx, DEVICE + 0x11);
    let outcome = run(&mut machine, 32, DEVICE + 0x10, true, |a| {
        a.mov(byte_ptr(ebx).es(), 7)
    });
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(machine.device.seen, [Seen::Write(0x10, [7].to_vec())]);
}

#[test]
fn limits_and_types_fault_by_segment() {
    const DATA_RO: u32 = 0xC091;
    const DATA_RW: u32 = 0xC093;
    const DATA_DOWN: u32 = 0xC097;
    const CODE_XO: u32 = 0xC099;
    const CODE_XR: u32 = 0xC09B;
    const UNUSABLE: u32 = 0x1_0000;
    // Access rights and limit of DS or SS, offset of a doubleword, write, the fault's vector.
    for (register, rights, limit, offset, write, vector) in [
        (SegmentRegister::Ds, DATA_RW, 0xFFFF, 0xFFFC, true, None),
        (SegmentRegister::Ds, DATA_RW, 0xFFFF, 0xFFFD, true, Some(13)),
        (SegmentRegister::Ss, DATA_RW, 0xFFFF, 0xFFFD, true, Some(12)),
        (SegmentRegister::Ds, DATA_RO, 0xFFFF, 0, false, None),
        (SegmentRegister::Ds, DATA_RO, 0xFFFF, 0, true, Some(13)),
        (SegmentRegister::Ds, CODE_XR, 0xFFFF, 0, false, None),
        (SegmentRegister::Ds, CODE_XR, 0xFFFF, 0, true, Some(13)),
        (SegmentRegister::Ds, CODE_XO, 0xFFFF, 0, false, Some(13)),
        (SegmentRegister::Ds, UNUSABLE, 0xFFFF, 0, false, Some(13)),
        (SegmentRegister::Ss, UNUSABLE, 0xFFFF, 0, false, Some(12)),
        (SegmentRegister::Ds, DATA_DOWN, 0x0FFF, 0x1000, true, None),
        (
            SegmentRegister::Ds,
            DATA_DOWN,
            0x0FFF,
            0x0FFF,
            true,
            Some(13),
        ),
        (SegmentRegister::Ds, 0x97, 0x0FFF, 0xFFFC, true, None),
        (SegmentRegister::Ds, 0x97, 0x0FFF, 0xFFFD, true, Some(13)),
    ] {
        let mut machine = Machine::flat(TestVcpu::protected());
        let segment = &mut machine.vcpu.segments[register as usize];
        segment.access_rights = SegmentAccessRights::from_bits(rights);
        segment.limit = limit;
        segment.base = (DEVICE + 0x100).wrapping_sub(offset) & 0xFFFF_FFFF;
        machine.set(Gpr::Rbx, offset);
        machine.set(Gpr::Rbp, offset);
        let outcome = run(&mut machine, 32, DEVICE + 0x100, write, |a| {
            match (register, write) {
                (SegmentRegister::Ss, true) => a.mov(dword_ptr(ebp), ecx),
                (SegmentRegister::Ss, false) => a.mov(ecx, dword_ptr(ebp)),
                (_, true) => a.mov(dword_ptr(ebx), ecx),
                (_, false) => a.mov(ecx, dword_ptr(ebx)),
            }
        });
        let expected = match vector {
            None => Outcome::Completed,
            Some(vector) => Outcome::Fault(Event::fault(vector, 0)),
        };
        assert_eq!(outcome, Ok(expected), "{rights:#x} {offset:#x} {write}");
    }
}

#[test]
fn real_mode_addresses_have_16_bits() {
    let mut machine = Machine::flat(TestVcpu::real());
    machine.vcpu.rip = 0;
    machine.vcpu.segments[SegmentRegister::Cs as usize].base = CODE_GPA;
    machine.vcpu.segments[SegmentRegister::Ds as usize].base = DEVICE;
    machine.set(Gpr::Rbx, 0x1234_FFF0);
    machine.set(Gpr::Rsi, 0x5678_0020);
    machine.set(Gpr::Rax, 0x1111_2222);
    let outcome = run(&mut machine, 16, DEVICE + 0x10, false, |a| {
        a.mov(ax, word_ptr(bx + si))
    });
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(machine.get(Gpr::Rax), 0x1111_1110);
    assert_eq!(machine.vcpu.rip, 2);
}

#[test]
fn strings_have_the_address_size_of_their_code() {
    // MOVSB to the device, at ES:DI of a 16-bit code segment and with EDI by prefix.
    for (prefix, destination) in [(&[][..], 0xABCD_0024), (&[0x67][..], 0x24)] {
        let mut machine = Machine::flat(TestVcpu::real());
        machine.vcpu.rip = 0;
        machine.vcpu.segments[SegmentRegister::Cs as usize].base = CODE_GPA;
        machine.vcpu.segments[SegmentRegister::Ds as usize].base = RAM_GPA;
        machine.vcpu.segments[SegmentRegister::Es as usize].base = DEVICE;
        machine.set(Gpr::Rsi, 0);
        machine.set(Gpr::Rdi, destination);
        machine.memory.poke(RAM_GPA, &[0x77]);
        machine.load(CODE_GPA, &[prefix, &[0xA4]].concat());
        let violation = machine.violation(DEVICE + 0x24, true);
        let violation = EptViolation {
            linear: None,
            final_access: false,
            ..violation
        };
        assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
        assert_eq!(machine.device.seen, [Seen::Write(0x24, [0x77].to_vec())]);
        assert_eq!(machine.get(Gpr::Rdi), destination + 1);
    }
}

#[test]
fn real_mode_faults_have_no_error_code() {
    let mut machine = Machine::flat(TestVcpu::real());
    machine.vcpu.rip = 0;
    machine.vcpu.segments[SegmentRegister::Cs as usize].base = CODE_GPA;
    machine.set(Gpr::Rbp, 0xFFFF);
    let outcome = run(&mut machine, 16, DEVICE, false, |a| a.mov(ax, word_ptr(bp)));
    assert_eq!(
        outcome,
        Ok(Outcome::Fault(Event::fault(12, 0).in_real_mode()))
    );
}

#[test]
fn virtual_8086_mode_has_limits_but_no_types() {
    let mut machine = Machine::flat(TestVcpu::protected());
    machine.vcpu.rip = 0;
    machine.vcpu.rflags |= rflags::VM;
    let code_segment = &mut machine.vcpu.segments[SegmentRegister::Cs as usize];
    code_segment.base = CODE_GPA;
    code_segment.limit = 0xFFFF;
    code_segment.access_rights = CODE_16;
    let data_segment = &mut machine.vcpu.segments[SegmentRegister::Ds as usize];
    data_segment.base = DEVICE;
    data_segment.limit = 0xFFFF;
    data_segment.access_rights = SegmentAccessRights::from_bits(0xF1);
    machine.cpl = 3;
    machine.set(Gpr::Rbx, 0x10);
    let outcome = run(&mut machine, 16, DEVICE + 0x10, true, |a| {
        a.mov(byte_ptr(bx), al)
    });
    assert_eq!(outcome, Ok(Outcome::Completed));
}

#[test]
fn code_ends_at_the_limit_of_cs() {
    let mut machine = Machine::flat(TestVcpu::protected());
    machine.set(Gpr::Rbx, DEVICE);
    // MOV EAX, [EBX + 0x24] has 3 bytes.
    for (limit, expected) in [
        (CODE_GPA as u32 + 2, Outcome::Completed),
        (
            CODE_GPA as u32 + 1,
            Outcome::Fault(Event::general_protection()),
        ),
        (
            CODE_GPA as u32 - 1,
            Outcome::Fault(Event::general_protection()),
        ),
    ] {
        machine.vcpu.rip = CODE_GPA;
        machine.vcpu.segments[SegmentRegister::Cs as usize].limit = limit;
        let outcome = run(&mut machine, 32, DEVICE + 0x24, false, |a| {
            a.mov(eax, dword_ptr(ebx + 0x24))
        });
        assert_eq!(outcome, Ok(expected));
    }
}

#[test]
fn compatibility_mode_walks_long_tables_with_32_bit_addresses() {
    let mut machine = Machine::long();
    machine.vcpu.segments[SegmentRegister::Cs as usize].access_rights = CODE_32;
    machine.vcpu.rip = 0x40_0000;
    machine.memory.map(0x40_0000, CODE_GPA, 0b001);
    machine.memory.map(0x80_0000, DEVICE, 0b011);
    machine.set(Gpr::Rbx, 0xFFFF_FFFF_0080_0000);
    let code = assemble(32, 0x40_0000, |a| a.mov(eax, dword_ptr(ebx + 4)));
    machine.load(CODE_GPA, &code);
    let violation = EptViolation {
        gpa: DEVICE + 4,
        ..machine.violation(0x80_0004, false)
    };
    assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
    assert_eq!(machine.get(Gpr::Rax), 0x0706_0504);
}

#[test]
fn an_operand_at_the_top_of_4_gib_wraps() {
    let mut machine = Machine::flat(TestVcpu::protected());
    machine.memory.poke(0, &[0xEE; 16]);
    machine.memory.poke(0xFFFF_F000, &[0xDD; 4096]);
    let segment = &mut machine.vcpu.segments[SegmentRegister::Ds as usize];
    segment.base = 0xFFFF_FFF0;
    machine.set(Gpr::Rbx, 0xE);
    let violation = EptViolation {
        linear: None,
        final_access: false,
        gpa: 0,
        ..machine.violation(0, false)
    };
    let code = assemble(32, CODE_GPA, |a| a.mov(eax, dword_ptr(ebx)));
    machine.load(CODE_GPA, &code);
    assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
    assert_eq!(machine.get(Gpr::Rax), 0xEEEE_DDDD);
}
