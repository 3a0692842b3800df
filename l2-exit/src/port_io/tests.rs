extern crate std;

use std::vec::Vec;
use x86_defs::rflags;

use proptest::prelude::*;

use super::*;
use crate::event::Event;
use crate::exit::Reason;
use crate::test_vcpu::{TestMemory, TestVcpu};

/// Ports that count up when read and log what is written.
#[derive(Default)]
struct Ports {
    reads: u32,
    written: Vec<(u16, Width, u32)>,
}

impl PortBus for Ports {
    fn read(&mut self, _port: u16, _width: Width) -> u32 {
        self.reads += 1;
        0xA0B0_C000 + self.reads
    }
    fn write(&mut self, port: u16, width: Width, value: u32) {
        self.written.push((port, width, value));
    }
}

const INPUT: u64 = 1 << 3;
const STRING: u64 = 1 << 4;
const REP: u64 = 1 << 5;
/// Address size 64, source DS.
const DS_64: u32 = 2 << 7 | 3 << 15;

struct Machine {
    vcpu: TestVcpu,
    memory: TestMemory,
    ports: Ports,
}

impl Machine {
    fn new(vcpu: TestVcpu) -> Self {
        let memory = TestMemory::default();
        for page in 0..4 {
            memory.poke(0x30_0000 + (page << 12), &[0; 4096]);
            memory.map(0x30_0000 + (page << 12), 0x30_0000 + (page << 12), 0b011);
        }
        Self {
            vcpu,
            memory,
            ports: Ports::default(),
        }
    }

    fn run(&mut self, qualification: u64, information: u32) -> Result<Outcome, EmulationError> {
        let access = IoAccess::decode(qualification, information);
        let exit = Exit {
            instruction_length: 2,
            ..self.vcpu.exit(Reason::Io(access), 0)
        };
        emulate(
            &exit,
            &access,
            &mut self.vcpu,
            &self.memory,
            &mut self.ports,
        )
    }

    fn set(&mut self, gpr: Gpr, value: u64) {
        self.vcpu.gprs[gpr as usize] = value;
    }

    fn get(&self, gpr: Gpr) -> u64 {
        self.vcpu.gprs[gpr as usize]
    }
}

#[test]
fn in_replaces_the_accumulator_at_its_width() {
    for (size, expected) in [
        (0, 0x1111_1111_1111_1101),
        (1, 0x1111_1111_1111_C001),
        (3, 0xA0B0_C001),
    ] {
        let mut machine = Machine::new(TestVcpu::long());
        machine.set(Gpr::Rax, 0x1111_1111_1111_1111);
        let outcome = machine.run(0x3F8 << 16 | INPUT | size, 0);
        assert_eq!(outcome, Ok(Outcome::Completed));
        assert_eq!(machine.get(Gpr::Rax), expected);
        assert_eq!(machine.vcpu.rip, 2);
        assert_eq!(machine.vcpu.tdcalls.get(), 0);
    }
}

#[test]
fn out_gives_the_accumulator_at_its_width() {
    for (size, width, expected) in [
        (0, Width::Byte, 0x44),
        (1, Width::Word, 0x3344),
        (3, Width::Dword, 0x1122_3344),
    ] {
        let mut machine = Machine::new(TestVcpu::long());
        machine.set(Gpr::Rax, 0xFFFF_FFFF_1122_3344);
        let outcome = machine.run(0x80 << 16 | size, 0);
        assert_eq!(outcome, Ok(Outcome::Completed));
        assert_eq!(machine.ports.written, [(0x80, width, expected)]);
        assert_eq!(machine.vcpu.tdcalls.get(), 0);
    }
}

#[test]
fn a_size_that_does_not_exist_is_an_error() {
    let mut machine = Machine::new(TestVcpu::long());
    for size in [2, 4, 5, 6, 7] {
        assert_eq!(
            machine.run(size, 0),
            Err(EmulationError::Qualification {
                qualification: size
            })
        );
    }
}

#[test]
fn rep_ins_fills_memory_across_pages() {
    let mut machine = Machine::new(TestVcpu::long());
    machine.set(Gpr::Rcx, 3);
    machine.set(Gpr::Rdi, 0x30_0FFA);
    let outcome = machine.run(INPUT | STRING | REP | 3, DS_64);
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(
        machine.memory.peek(0x30_0FFA, 12),
        [
            1, 0xC0, 0xB0, 0xA0, 2, 0xC0, 0xB0, 0xA0, 3, 0xC0, 0xB0, 0xA0
        ]
    );
    assert_eq!(machine.get(Gpr::Rdi), 0x30_1006);
    assert_eq!(machine.get(Gpr::Rcx), 0);
    assert_eq!(machine.vcpu.rip, 2);
}

#[test]
fn rep_outs_goes_backwards_with_df() {
    let mut machine = Machine::new(TestVcpu::long());
    machine.memory.poke(0x30_0000, b"abcd");
    machine.set(Gpr::Rcx, 2);
    machine.set(Gpr::Rsi, 0x30_0002);
    machine.vcpu.rflags |= rflags::DF;
    let outcome = machine.run(0xE9 << 16 | STRING | REP | 1, DS_64);
    assert_eq!(outcome, Ok(Outcome::Completed));
    let word = |value| (0xE9, Width::Word, value);
    assert_eq!(machine.ports.written, [word(0x6463), word(0x6261)]);
    assert_eq!(machine.get(Gpr::Rsi), 0x2F_FFFE);
}

#[test]
fn a_count_of_zero_does_nothing() {
    let mut machine = Machine::new(TestVcpu::long());
    machine.set(Gpr::Rcx, 0);
    let outcome = machine.run(STRING | REP, DS_64);
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert!(machine.ports.written.is_empty());
}

#[test]
fn a_long_transfer_is_interrupted_and_goes_on() {
    let mut machine = Machine::new(TestVcpu::long());
    machine.set(Gpr::Rcx, 2000);
    machine.set(Gpr::Rsi, 0x30_0000);
    assert_eq!(machine.run(STRING | REP, DS_64), Ok(Outcome::Interrupted));
    assert_eq!(machine.vcpu.rip, 0);
    assert_eq!(machine.get(Gpr::Rcx), 2000 - u64::from(ITERATIONS));
    assert_eq!(machine.get(Gpr::Rsi), 0x30_0000 + u64::from(ITERATIONS));
    assert_eq!(machine.run(STRING | REP, DS_64), Ok(Outcome::Completed));
    assert_eq!(machine.ports.written.len(), 2000);
    assert_eq!(machine.vcpu.rip, 2);
}

#[test]
fn a_page_fault_keeps_what_was_done_and_reads_no_port() {
    let mut machine = Machine::new(TestVcpu::long());
    machine.set(Gpr::Rcx, 10);
    machine.set(Gpr::Rdi, 0x30_3FFE);
    let outcome = machine.run(INPUT | STRING | REP, DS_64);
    assert_eq!(outcome, Ok(Outcome::Fault(Event::fault(14, 0b0010))));
    assert_eq!(machine.vcpu.cr2, 0x30_4000);
    assert_eq!(machine.get(Gpr::Rcx), 8);
    assert_eq!(machine.get(Gpr::Rdi), 0x30_4000);
    assert_eq!(machine.ports.reads, 2);
    assert_eq!(machine.vcpu.rip, 0);
}

#[test]
fn real_mode_uses_16_bits_and_its_segments() {
    let mut machine = Machine::new(TestVcpu::real());
    machine.vcpu.segments[SegmentRegister::Fs as usize].base = 0x30_0000;
    machine.memory.poke(0x30_0000, b"xy");
    machine.set(Gpr::Rcx, 0x5555_0002);
    machine.set(Gpr::Rsi, 0x7777_0000);
    // Address size 16, source FS.
    let outcome = machine.run(STRING | REP, 4 << 15);
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(machine.ports.written.len(), 2);
    assert_eq!(machine.get(Gpr::Rcx), 0x5555_0000);
    assert_eq!(machine.get(Gpr::Rsi), 0x7777_0002);
}

#[test]
fn a_word_at_the_segment_limit_faults_without_an_error_code_in_real_mode() {
    let mut machine = Machine::new(TestVcpu::real());
    machine.set(Gpr::Rdi, 0xFFFF);
    let outcome = machine.run(INPUT | STRING | 1, 0);
    assert_eq!(
        outcome,
        Ok(Outcome::Fault(Event::general_protection().in_real_mode()))
    );
    assert_eq!(machine.ports.reads, 0);
}

proptest! {
    #[test]
    fn any_io_exit_ends(
        qualification in any::<u32>(),
        information in any::<u32>(),
        gprs in any::<[u64; 16]>(),
        mode in 0..3,
    ) {
        let vcpu = match mode {
            0 => TestVcpu::long(),
            1 => TestVcpu::protected(),
            _ => TestVcpu::real(),
        };
        let mut machine = Machine::new(vcpu);
        machine.vcpu.gprs = gprs;
        let _ = machine.run(u64::from(qualification), information);
    }
}
