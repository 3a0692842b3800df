//! Each implemented instruction in 64-bit code.

use super::*;
use x86_defs::rflags;

/// An instruction that reads the device at +0x23C with RBX = [`MMIO`], and what it makes of
/// RAX (or the register named) if that was 0x1122334455667700.
#[test]
fn loads_fill_the_register_they_name() {
    type Assemble = fn(&mut CodeAssembler) -> Result<(), IcedError>;
    // The device's bytes at 0x23C: 3E 3F 3C 3D 42 43 40 41 (n ^ n >> 8), at 0x280: 82 83.
    let cases: &[(Assemble, u64, Gpr, u64)] = &[
        (
            |a| a.mov(al, byte_ptr(rbx + 0x23C)),
            1,
            Gpr::Rax,
            0x1122_3344_5566_773E,
        ),
        (
            |a| a.mov(ah, byte_ptr(rbx + 0x23C)),
            1,
            Gpr::Rax,
            0x1122_3344_5566_3E00,
        ),
        (
            |a| a.mov(ax, word_ptr(rbx + 0x23C)),
            2,
            Gpr::Rax,
            0x1122_3344_5566_3F3E,
        ),
        (
            |a| a.mov(eax, dword_ptr(rbx + 0x23C)),
            4,
            Gpr::Rax,
            0x3D3C_3F3E,
        ),
        (
            |a| a.mov(rax, qword_ptr(rbx + 0x23C)),
            8,
            Gpr::Rax,
            0x4140_4342_3D3C_3F3E,
        ),
        (
            |a| a.mov(r15d, dword_ptr(rbx + 0x23C)),
            4,
            Gpr::R15,
            0x3D3C_3F3E,
        ),
        (
            |a| a.mov(sil, byte_ptr(rbx + 0x23C)),
            1,
            Gpr::Rsi,
            0x1728_394A_5B6C_7D3E,
        ),
        (|a| a.movzx(eax, byte_ptr(rbx + 0x280)), 1, Gpr::Rax, 0x82),
        (
            |a| a.movzx(ax, byte_ptr(rbx + 0x280)),
            1,
            Gpr::Rax,
            0x1122_3344_5566_0082,
        ),
        (|a| a.movzx(rax, word_ptr(rbx + 0x280)), 2, Gpr::Rax, 0x8382),
        (
            |a| a.movsx(eax, byte_ptr(rbx + 0x280)),
            1,
            Gpr::Rax,
            0xFFFF_FF82,
        ),
        (
            |a| a.movsx(rax, byte_ptr(rbx + 0x280)),
            1,
            Gpr::Rax,
            0xFFFF_FFFF_FFFF_FF82,
        ),
        (
            |a| a.movsx(rax, word_ptr(rbx + 0x280)),
            2,
            Gpr::Rax,
            0xFFFF_FFFF_FFFF_8382,
        ),
        (
            |a| a.movsxd(rax, dword_ptr(rbx + 0x280)),
            4,
            Gpr::Rax,
            0xFFFF_FFFF_8180_8382,
        ),
        (|a| a.lodsb(), 1, Gpr::Rax, 0x1122_3344_5566_773E),
        (|a| a.lodsd(), 4, Gpr::Rax, 0x3D3C_3F3E),
    ];
    for (assemble, width, gpr, expected) in cases {
        let mut machine = Machine::long();
        machine.device.bytes[0x284..0x288].copy_from_slice(&[0; 4]);
        machine.device.bytes[0x282..0x284].copy_from_slice(&[0x80, 0x81]);
        machine.set(Gpr::Rbx, MMIO);
        let code = self::assemble(64, CODE, assemble);
        let string = code.last().is_some_and(|byte| matches!(byte, 0xAC | 0xAD));
        if string {
            machine.set(Gpr::Rsi, MMIO + 0x23C);
        }
        let offset = if *expected & 0xFF == 0x82 || *expected & 0xFFFF == 0x8382 {
            0x280
        } else {
            0x23C
        };
        let outcome = machine.run(MMIO + offset, false, assemble);
        assert_eq!(outcome, Ok(Outcome::Completed));
        assert_eq!(machine.get(*gpr), *expected, "{code:x?}");
        assert_eq!(machine.device.seen, [Seen::Read(offset, *width as usize)]);
        assert_eq!(machine.vcpu.rip, CODE + code.len() as u64);
        assert_eq!(machine.vcpu.rflags, 2);
    }
}

#[test]
fn stores_write_the_operand_they_name() {
    type Assemble = fn(&mut CodeAssembler) -> Result<(), IcedError>;
    let cases: &[(Assemble, &[u8])] = &[
        (|a| a.mov(byte_ptr(rbx), cl), &[0x01]),
        (|a| a.mov(byte_ptr(rbx), ch), &[0x78]),
        (|a| a.mov(word_ptr(rbx), cx), &[0x01, 0x78]),
        (|a| a.mov(dword_ptr(rbx), ecx), &[0x01, 0x78, 0x67, 0x56]),
        (
            |a| a.mov(qword_ptr(rbx), rcx),
            &[0x01, 0x78, 0x67, 0x56, 0x45, 0x34, 0x23, 0x12],
        ),
        (|a| a.mov(byte_ptr(rbx), 0x5A), &[0x5A]),
        (|a| a.mov(word_ptr(rbx), 0x5AA5), &[0xA5, 0x5A]),
        (|a| a.mov(dword_ptr(rbx), -2), &[0xFE, 0xFF, 0xFF, 0xFF]),
        (
            |a| a.mov(qword_ptr(rbx), -2),
            &[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        ),
    ];
    for (assemble, expected) in cases {
        let mut machine = Machine::long();
        machine.set(Gpr::Rbx, MMIO + 0x18);
        let outcome = machine.run(MMIO + 0x18, true, assemble);
        assert_eq!(outcome, Ok(Outcome::Completed));
        assert_eq!(machine.device.seen, [Seen::Write(0x18, expected.to_vec())]);
    }
}

#[test]
fn effective_addresses_are_those_of_every_form() {
    type Assemble = fn(&mut CodeAssembler) -> Result<(), IcedError>;
    let cases: &[Assemble] = &[
        |a| a.mov(eax, dword_ptr(rbx + 0x100)),
        |a| a.mov(eax, dword_ptr(rbx + rcx * 8 + 0x80)),
        |a| a.mov(eax, dword_ptr(rbp + rcx * 1 + 0xF0)),
        |a| a.mov(eax, dword_ptr(rdx * 4 + 0x100)),
        |a| a.mov(eax, dword_ptr(r13)),
        |a| a.mov(eax, dword_ptr(rsp - 0x100)),
        |a| a.mov(eax, dword_ptr(r12 + 0x7FFF_FF00)),
        // RAX from a 64-bit offset.
        |a| a.mov(eax, dword_ptr(MMIO + 0x100)),
        |a| a.mov(eax, dword_ptr(rbx + 0x100).fs()),
    ];
    for assemble in cases {
        let mut machine = Machine::long();
        machine.set(Gpr::Rbx, MMIO);
        machine.set(Gpr::Rcx, 0x10);
        machine.set(Gpr::Rbp, MMIO);
        machine.set(Gpr::Rdx, MMIO >> 2);
        machine.set(Gpr::R13, MMIO + 0x100);
        machine.set(Gpr::Rsp, MMIO + 0x200);
        machine.set(Gpr::R12, MMIO + 0x200 - 0x8000_0000);
        let outcome = machine.run(MMIO + 0x100, false, assemble);
        let code = self::assemble(64, CODE, assemble);
        assert_eq!(outcome, Ok(Outcome::Completed), "{code:x?}");
        assert_eq!(machine.device.seen, [Seen::Read(0x100, 4)]);
    }
}

#[test]
fn rip_relative_addresses_count_from_the_next_instruction() {
    let mut machine = Machine::long();
    machine.memory.map(CODE + 0x10_0000, DEVICE, 0b011);
    let mut violation = machine.violation(CODE + 0x10_0010, false);
    violation.gpa = DEVICE + 0x10;
    // CMP DWORD PTR [RIP + 0x100009], 5: the immediate is behind the displacement.
    let code = [0x83, 0x3D, 0x09, 0x00, 0x10, 0x00, 0x05];
    machine.load(CODE_GPA, &code);
    assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
    assert_eq!(machine.device.seen, [Seen::Read(0x10, 4)]);
}

#[test]
fn fs_and_gs_have_a_base() {
    let mut machine = Machine::long();
    machine.vcpu.segments[SegmentRegister::Gs as usize].base = MMIO;
    let outcome = machine.run(MMIO + 0x20, false, |a| a.mov(eax, dword_ptr(0x20).gs()));
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(machine.device.seen, [Seen::Read(0x20, 4)]);
}

#[test]
fn read_modify_write_reads_then_writes() {
    type Assemble = fn(&mut CodeAssembler) -> Result<(), IcedError>;
    // The device has 0xF0 at +8 (4 bytes: F0 00 00 80), RCX ends in 01.
    let cases: &[(Assemble, u32, u64)] = &[
        (|a| a.or(dword_ptr(rbx), ecx), 0xD667_78F1, rflags::SF),
        (|a| a.and(dword_ptr(rbx), 0x80), 0x80, 0),
        (|a| a.lock().and(dword_ptr(rbx), 0x80), 0x80, 0),
        (|a| a.xor(dword_ptr(rbx), -1), 0x7FFF_FF0F, rflags::PF),
        (|a| a.add(dword_ptr(rbx), ecx), 0xD667_78F1, rflags::SF),
        (|a| a.inc(dword_ptr(rbx)), 0x8000_00F1, rflags::SF),
        (|a| a.not(dword_ptr(rbx)), 0x7FFF_FF0F, 0),
        (|a| a.xchg(dword_ptr(rbx), ecx), 0x5667_7801, 0),
    ];
    for (assemble, expected, flags) in cases {
        let mut machine = Machine::long();
        machine.device.bytes[8..12].copy_from_slice(&[0xF0, 0, 0, 0x80]);
        machine.set(Gpr::Rbx, MMIO + 8);
        let outcome = machine.run(MMIO + 8, true, assemble);
        assert_eq!(outcome, Ok(Outcome::Completed));
        assert_eq!(
            machine.device.seen,
            [
                Seen::Read(8, 4),
                Seen::Write(8, expected.to_le_bytes().to_vec())
            ]
        );
        assert_eq!(machine.vcpu.rflags & (rflags::SF | rflags::PF), *flags);
    }
}

#[test]
fn a_read_modify_write_reported_as_a_read_is_still_checked_for_writing() {
    let mut machine = Machine::long();
    machine.memory.map(MMIO, DEVICE, 0b001);
    machine.set(Gpr::Rbx, MMIO + 8);
    let outcome = machine.run(MMIO + 8, false, |a| a.or(dword_ptr(rbx), 1));
    assert_eq!(outcome, Ok(Outcome::Fault(Event::fault(14, 0b0011))));
    assert_eq!(machine.vcpu.cr2, MMIO + 8);
    assert_eq!(machine.vcpu.rip, CODE);
    assert!(machine.device.seen.is_empty());
}

#[test]
fn xchg_swaps() {
    let mut machine = Machine::long();
    machine.set(Gpr::Rbx, MMIO + 0x40);
    let outcome = machine.run(MMIO + 0x40, true, |a| a.xchg(dword_ptr(rbx), ecx));
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(machine.get(Gpr::Rcx), 0x4342_4140);
}

#[test]
fn compare_and_test_only_read() {
    type Assemble = fn(&mut CodeAssembler) -> Result<(), IcedError>;
    let cases: &[(Assemble, u64)] = &[
        (|a| a.cmp(byte_ptr(rbx), 0x40), rflags::ZF | rflags::PF),
        (
            |a| a.cmp(byte_ptr(rbx), 0x41),
            rflags::CF | rflags::SF | rflags::PF | 0x10,
        ),
        (|a| a.cmp(cl, byte_ptr(rbx)), rflags::CF | rflags::SF),
        (|a| a.test(byte_ptr(rbx), 0xBF), rflags::ZF | rflags::PF),
        (|a| a.test(byte_ptr(rbx), 0x40), 0),
    ];
    for (assemble, flags) in cases {
        let mut machine = Machine::long();
        machine.set(Gpr::Rbx, MMIO + 0x40);
        let outcome = machine.run(MMIO + 0x40, false, assemble);
        assert_eq!(outcome, Ok(Outcome::Completed));
        assert_eq!(machine.device.seen, [Seen::Read(0x40, 1)]);
        assert_eq!(machine.vcpu.rflags, 2 | flags);
    }
}

#[test]
fn arithmetic_into_a_register_reads_memory() {
    let mut machine = Machine::long();
    machine.set(Gpr::Rbx, MMIO + 0x40);
    machine.set(Gpr::Rcx, 0xFFFF_FFFF_0000_0001);
    let outcome = machine.run(MMIO + 0x40, false, |a| a.add(ecx, dword_ptr(rbx)));
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(machine.get(Gpr::Rcx), 0x4342_4141);
    assert_eq!(machine.device.seen, [Seen::Read(0x40, 4)]);
}

#[test]
fn an_operand_across_two_device_pages_is_split() {
    let mut machine = Machine::long();
    machine.set(Gpr::Rbx, MMIO + 0xFFD);
    let outcome = machine.run(MMIO + 0xFFD, true, |a| a.mov(qword_ptr(rbx), rcx));
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(
        machine.device.seen,
        [
            Seen::Write(0xFFD, [0x01, 0x78].to_vec()),
            Seen::Write(0xFFF, [0x67].to_vec()),
            Seen::Write(0x1000, [0x56, 0x45, 0x34, 0x23].to_vec()),
            Seen::Write(0x1004, [0x12].to_vec()),
        ]
    );
}

#[test]
fn an_operand_half_in_memory_reaches_both() {
    let mut machine = Machine::long();
    machine.memory.map(MMIO + 0x2000, RAM_GPA, 0b011);
    machine.memory.poke(RAM_GPA, &[0xAA, 0xBB]);
    machine.set(Gpr::Rbx, MMIO + 0x1FFE);
    machine.device.bytes[0x1FFE..].copy_from_slice(&[0xCC, 0xDD]);
    let outcome = machine.run(MMIO + 0x1FFE, false, |a| a.mov(eax, dword_ptr(rbx)));
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(machine.get(Gpr::Rax), 0xBBAA_DDCC);
}

#[test]
fn an_instruction_across_two_pages_is_fetched_from_both() {
    let mut machine = Machine::long();
    machine.vcpu.rip = CODE + 0xFFE;
    machine.set(Gpr::Rbx, MMIO);
    let outcome = machine.run(MMIO + 0x24, false, |a| a.mov(eax, dword_ptr(rbx + 0x24)));
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(machine.vcpu.rip, CODE + 0x1001);
}

#[test]
fn an_instruction_at_the_end_of_a_page_needs_no_next_page() {
    let mut machine = Machine::long();
    machine.memory.map(CODE + 0x1000, 0, 0);
    machine.vcpu.rip = CODE + 0xFFD;
    machine.set(Gpr::Rbx, MMIO);
    let outcome = machine.run(MMIO + 0x24, false, |a| a.mov(eax, dword_ptr(rbx + 0x24)));
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(machine.vcpu.rip, CODE + 0x1000);
}

#[test]
fn completion_clears_rf_and_makes_a_single_step_pending() {
    let mut machine = Machine::long();
    machine.vcpu.rflags |= rflags::RF | rflags::TF;
    machine.set(Gpr::Rbx, MMIO);
    let outcome = machine.run(MMIO, false, |a| a.mov(eax, dword_ptr(rbx)));
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(machine.vcpu.rflags, 2 | rflags::TF);
    assert_eq!(machine.vcpu.single_steps, 1);
}

#[test]
fn what_is_not_implemented_is_named_with_its_bytes() {
    type Assemble = fn(&mut CodeAssembler) -> Result<(), IcedError>;
    let cases: &[Assemble] = &[
        |a| a.movups(xmm0, xmmword_ptr(rbx)),
        |a| a.movdqu(xmmword_ptr(rbx), xmm1),
        // VMOVDQU YMM0, [RBX]
        |a| a.db(&[0xC5, 0xFE, 0x6F, 0x03]),
        |a| a.movd(xmm0, dword_ptr(rbx)),
        |a| a.cmpxchg(dword_ptr(rbx), ecx),
        |a| a.xadd(dword_ptr(rbx), ecx),
        |a| a.bts(dword_ptr(rbx), ecx),
        |a| a.push(qword_ptr(rbx)),
        |a| a.pop(qword_ptr(rbx)),
        |a| a.mov(word_ptr(rbx), ds),
        |a| a.mov(ds, word_ptr(rbx)),
        |a| a.imul_3(eax, dword_ptr(rbx), 3),
        |a| a.shl(dword_ptr(rbx), 3),
        |a| a.call(qword_ptr(rbx)),
        |a| a.lgdt(tbyte_ptr(rbx)),
        |a| a.prefetchw(byte_ptr(rbx)),
        |a| a.fxsave(byte_ptr(rbx)),
        |a| a.movbe(eax, dword_ptr(rbx)),
        |a| a.cpuid(),
    ];
    for assemble in cases {
        let mut machine = Machine::long();
        machine.set(Gpr::Rbx, MMIO);
        let before = machine.vcpu.clone();
        let code = self::assemble(64, CODE, assemble);
        match machine.run(MMIO, true, assemble) {
            Err(EmulationError::Unsupported {
                linear,
                instruction,
            }) => {
                assert_eq!(linear, CODE);
                assert!(instruction.as_slice().starts_with(&code));
            }
            other => panic!("{code:x?}: {other:?}"),
        }
        assert_eq!(machine.vcpu.rip, before.rip);
        assert_eq!(machine.vcpu.gprs, before.gprs);
        assert!(machine.device.seen.is_empty());
    }
}
