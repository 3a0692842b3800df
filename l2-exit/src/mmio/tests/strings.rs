//! String instructions between devices and memory.

use super::*;
use crate::string::ITERATIONS;
use x86_defs::rflags;

fn machine(count: u64, source: u64, destination: u64) -> Machine {
    let mut machine = Machine::long();
    machine.set(Gpr::Rcx, count);
    machine.set(Gpr::Rsi, source);
    machine.set(Gpr::Rdi, destination);
    machine
}

#[test]
fn rep_movs_copies_from_a_device() {
    let mut machine = machine(8, MMIO + 0x80, RAM + 0xFF0);
    let outcome = machine.run(MMIO + 0x80, false, |a| a.rep().movsd());
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(
        machine.memory.peek(RAM_GPA + 0xFF0, 32),
        machine.device.bytes[0x80..0xA0]
    );
    assert_eq!(machine.device.seen.len(), 8);
    assert_eq!(machine.device.seen[7], Seen::Read(0x9C, 4));
    assert_eq!(machine.get(Gpr::Rcx), 0);
    assert_eq!(machine.get(Gpr::Rsi), MMIO + 0xA0);
    assert_eq!(machine.get(Gpr::Rdi), RAM + 0x1010);
    assert_eq!(machine.vcpu.rip, CODE + 2);
}

/// What an iteration has translated the next ones know: one walk of four levels for the code, one
/// for each page of memory, and for the device's if the exit does not say where it is.
#[test]
fn no_page_is_walked_twice() {
    for (count, offset, linear, walks) in [
        (1, 0, Some(MMIO + 0x80), 2),
        (8, 0, Some(MMIO + 0x80), 2),
        (16, 0xFE0, Some(MMIO + 0x80), 3),
        (8, 0, None, 3),
    ] {
        let mut machine = machine(count, MMIO + 0x80, RAM + offset);
        let code = assemble(64, CODE, |a| a.rep().movsd());
        machine.load(CODE_GPA, &code);
        let violation = EptViolation {
            linear,
            ..machine.violation(MMIO + 0x80, false)
        };
        assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
        let bytes_of_code = 1;
        let reads = machine.memory.reads.get();
        assert_eq!(reads, 4 * walks + bytes_of_code, "{count} {linear:x?}");
    }
}

#[test]
fn rep_movs_copies_to_a_device_at_every_width() {
    type Assemble = fn(&mut CodeAssembler) -> Result<(), IcedError>;
    let cases: &[(Assemble, u64)] = &[
        (|a| a.rep().movsb(), 1),
        (|a| a.rep().movsw(), 2),
        (|a| a.rep().movsd(), 4),
        (|a| a.rep().movsq(), 8),
    ];
    for (assemble, width) in cases {
        let mut machine = machine(16 / width, RAM, MMIO + 0x80);
        machine.memory.poke(RAM_GPA, b"0123456789abcdef");
        let outcome = machine.run(MMIO + 0x80, true, assemble);
        assert_eq!(outcome, Ok(Outcome::Completed));
        assert_eq!(&machine.device.bytes[0x80..0x90], b"0123456789abcdef");
        assert_eq!(machine.device.seen.len() as u64, 16 / width);
    }
}

#[test]
fn movs_goes_from_device_to_device_and_backwards() {
    let mut machine = machine(4, MMIO + 0x83, MMIO + 0x1003);
    machine.vcpu.rflags |= rflags::DF;
    let outcome = machine.run(MMIO + 0x83, false, |a| a.rep().movsb());
    assert_eq!(outcome, Ok(Outcome::Completed));
    let bytes = &machine.device.bytes;
    assert_eq!(bytes[0x1000..0x1004], bytes[0x80..0x84]);
    assert_eq!(machine.get(Gpr::Rsi), MMIO + 0x7F);
    assert_eq!(
        machine.device.seen[..2],
        [Seen::Read(0x83, 1), Seen::Write(0x1003, [0x83].to_vec())]
    );
}

#[test]
fn stos_stores_the_accumulator() {
    let mut machine = machine(3, 0, MMIO + 0x100);
    machine.set(Gpr::Rax, 0xAABB_CCDD);
    let outcome = machine.run(MMIO + 0x100, true, |a| a.rep().stosw());
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(
        machine.device.seen,
        [0x100, 0x102, 0x104].map(|at| Seen::Write(at, [0xDD, 0xCC].to_vec()))
    );
}

#[test]
fn without_a_prefix_rcx_does_not_count() {
    let mut machine = machine(0, MMIO, RAM);
    let outcome = machine.run(MMIO, false, |a| a.movsb());
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(machine.device.seen.len(), 1);
    assert_eq!(machine.get(Gpr::Rcx), 0);
}

#[test]
fn cmps_and_scas_stop_at_their_condition() {
    let mut machine = machine(8, MMIO, RAM);
    let mut expected = machine.device.bytes[..8].to_vec();
    expected[5] ^= 1;
    machine.memory.poke(RAM_GPA, &expected);
    let outcome = machine.run(MMIO, false, |a| a.repe().cmpsb());
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(machine.get(Gpr::Rcx), 2);
    assert_eq!(machine.get(Gpr::Rsi), MMIO + 6);
    assert_eq!(machine.vcpu.rflags & rflags::ZF, 0);

    let mut machine = self::machine(100, 0, MMIO);
    machine.set(Gpr::Rax, 0x42);
    let outcome = machine.run(MMIO, false, |a| a.repne().scasb());
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(machine.get(Gpr::Rdi), MMIO + 0x43);
    assert_eq!(machine.get(Gpr::Rcx), 100 - 0x43);
    assert_ne!(machine.vcpu.rflags & rflags::ZF, 0);
}

#[test]
fn a_long_repeat_is_interrupted_and_goes_on() {
    let mut machine = machine(0x1800, 0, MMIO);
    machine.set(Gpr::Rax, 0x99);
    let mut rounds = 0;
    loop {
        let at = machine.get(Gpr::Rdi);
        match machine.run(at, true, |a| a.rep().stosb()).unwrap() {
            Outcome::Interrupted => {
                rounds += 1;
                assert_eq!(machine.vcpu.rip, CODE);
                let done = rounds * u64::from(ITERATIONS);
                assert_eq!(machine.get(Gpr::Rcx), 0x1800 - done);
                assert_eq!(machine.get(Gpr::Rdi), MMIO + done);
            }
            Outcome::Completed => break,
            fault => panic!("{fault:?}"),
        }
    }
    assert_eq!(rounds, 5);
    assert!(
        machine.device.bytes[..0x1800]
            .iter()
            .all(|byte| *byte == 0x99)
    );
    assert_ne!(machine.device.bytes[0x1800], 0x99);
}

#[test]
fn iterations_beyond_the_device_are_left_to_l2() {
    let mut machine = machine(0x20, MMIO + 0x1FF0, RAM);
    machine.memory.map(MMIO + 0x2000, RAM_GPA, 0b011);
    let outcome = machine.run(MMIO + 0x1FF0, false, |a| a.rep().movsb());
    assert_eq!(outcome, Ok(Outcome::Interrupted));
    assert_eq!(machine.get(Gpr::Rcx), 0x10);
    assert_eq!(machine.get(Gpr::Rsi), MMIO + 0x2000);
    assert_eq!(machine.vcpu.rip, CODE);
}

#[test]
fn a_fault_in_the_middle_keeps_what_was_done() {
    let mut machine = machine(0x20, MMIO, RAM + 0x1FF8);
    let outcome = machine.run(MMIO, false, |a| a.rep().movsd());
    assert_eq!(outcome, Ok(Outcome::Fault(Event::fault(14, 0b0010))));
    assert_eq!(machine.vcpu.cr2, RAM + 0x2000);
    assert_eq!(machine.get(Gpr::Rcx), 0x1E);
    assert_eq!(machine.get(Gpr::Rsi), MMIO + 8);
    assert_eq!(machine.get(Gpr::Rdi), RAM + 0x2000);
    // The device was not read for the iteration that faulted.
    assert_eq!(machine.device.seen.len(), 2);
    assert_eq!(machine.vcpu.rip, CODE);
}

#[test]
fn a_single_step_traps_after_each_iteration() {
    let mut machine = machine(2, MMIO, RAM);
    machine.vcpu.rflags |= rflags::TF;
    let step = |machine: &mut Machine| {
        let at = machine.get(Gpr::Rsi);
        machine.run(at, false, |a| a.rep().movsb())
    };
    assert_eq!(step(&mut machine), Ok(Outcome::Interrupted));
    assert_eq!((machine.vcpu.single_steps, machine.get(Gpr::Rcx)), (1, 1));
    assert_eq!(step(&mut machine), Ok(Outcome::Completed));
    assert_eq!((machine.vcpu.single_steps, machine.get(Gpr::Rcx)), (2, 0));
}

#[test]
fn a_32_bit_address_size_uses_and_clears_half_the_registers() {
    let mut machine = Machine::long();
    machine.memory.map(0x7000_0000, DEVICE, 0b011);
    machine.memory.map(0x7010_0000, RAM_GPA, 0b011);
    machine.set(Gpr::Rcx, 0xFFFF_FFFF_0000_0002);
    machine.set(Gpr::Rsi, 0xFFFF_FFFF_7000_0010);
    machine.set(Gpr::Rdi, 0xFFFF_FFFF_7010_0000);
    machine.load(CODE_GPA, &[0x67, 0xF3, 0xA4]);
    let mut violation = machine.violation(0x7000_0010, false);
    violation.gpa = DEVICE + 0x10;
    assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
    assert_eq!(machine.get(Gpr::Rcx), 0);
    assert_eq!(machine.get(Gpr::Rsi), 0x7000_0012);
    assert_eq!(machine.get(Gpr::Rdi), 0x7010_0002);
    assert_eq!(machine.memory.peek(RAM_GPA, 2), [0x10, 0x11]);
}

#[test]
fn a_segment_prefix_applies_to_the_source_only() {
    let mut machine = machine(2, 0x10, RAM);
    machine.vcpu.segments[SegmentRegister::Fs as usize].base = MMIO;
    machine.load(CODE_GPA, &[0x64, 0xF3, 0xA4]);
    let violation = machine.violation(MMIO + 0x10, false);
    assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
    assert_eq!(machine.memory.peek(RAM_GPA, 2), [0x10, 0x11]);
}
