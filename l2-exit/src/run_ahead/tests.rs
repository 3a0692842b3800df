extern crate std;

use std::vec::Vec;

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::*;
use crate::memory::MmioBus;
use crate::test_vcpu::{DEVICE, Seen, TestDevice, TestMemory, TestVcpu};
use crate::vcpu::{Gpr, SegmentRegister};
use x86_defs::paging::{ACCESSED, DIRTY, EXECUTE_DISABLE, USER, WRITABLE};

const CODE: u64 = 0xFFFF_FFFF_8100_0000;
const CODE_GPA: u64 = 0x20_0000;
const RAM: u64 = 0xFFFF_8880_0030_0000;
const RAM_GPA: u64 = 0x30_0000;
const MMIO: u64 = 0xFFFF_C900_0000_0000;

/// The device with what ends a burst.
struct TestWindow {
    device: TestDevice,
    served: Served,
    /// It is due after so many questions.
    due_after: u64,
}

impl Window for TestWindow {
    fn claims(&self, gpa: u64) -> bool {
        self.device.claims(gpa)
    }

    fn read(&mut self, gpa: u64, into: &mut [u8]) -> Served {
        if self.served != Served::No {
            self.device.read(gpa, into);
        }
        self.served
    }

    fn write(&mut self, gpa: u64, from: &[u8]) -> Served {
        if self.served != Served::No {
            self.device.write(gpa, from);
        }
        self.served
    }

    fn is_due(&mut self) -> bool {
        self.due_after = self.due_after.saturating_sub(1);
        self.due_after == 0
    }
}

/// A kernel with two pages of code at [`CODE`], two of memory at [`RAM`], and the device at [`MMIO`].
struct Machine {
    vcpu: TestVcpu,
    memory: TestMemory,
    window: TestWindow,
    ahead: RunAhead<u64>,
}

impl Machine {
    fn new(code: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>) -> Self {
        let memory = TestMemory::default();
        for at in [0, 0x1000] {
            memory.poke(CODE_GPA + at, &[0xF4; 4096]);
            memory.map(CODE + at, CODE_GPA + at, 0b001);
            memory.poke(RAM_GPA + at, &[0; 4096]);
            memory.map(RAM + at, RAM_GPA + at, 0b011 | DIRTY | EXECUTE_DISABLE);
            memory.map(MMIO + at, DEVICE + at, 0b011 | DIRTY | 0b11 << 3);
        }
        for linear in [CODE, CODE + 0x1000, RAM, RAM + 0x1000, MMIO, MMIO + 0x1000] {
            memory.mark(linear, ACCESSED);
        }
        let mut vcpu = TestVcpu::long();
        vcpu.rip = CODE;
        for (number, gpr) in (0..).zip(&mut vcpu.gprs) {
            *gpr = 0x1122_3344_5566_7700 + number * 0x0101_0101_0101_0101;
        }
        vcpu.gprs[Gpr::Rsp as usize] = RAM + 0x800;
        vcpu.gprs[Gpr::Rbx as usize] = MMIO;
        vcpu.gprs[Gpr::Rdi as usize] = RAM;
        vcpu.segments[SegmentRegister::Gs as usize].base = RAM + 0x100;
        let mut assembler = CodeAssembler::new(64).unwrap();
        code(&mut assembler).unwrap();
        memory.poke(CODE_GPA, &assembler.assemble(CODE).unwrap());
        Self {
            vcpu,
            memory,
            window: TestWindow {
                device: TestDevice::new(),
                served: Served::Soon,
                due_after: u64::MAX,
            },
            ahead: RunAhead::new(0),
        }
    }

    fn run(&mut self) -> Stop {
        self.ahead
            .run(&mut self.vcpu, &self.memory, &mut self.window)
    }

    fn get(&self, gpr: Gpr) -> u64 {
        self.vcpu.gprs[gpr as usize]
    }
}

/// The loop of a driver that reads a response byte by byte through a function pointer, as Linux's `tpm_tis` does.
#[test]
fn a_driver_reads_a_response_without_an_exit() {
    let mut machine = Machine::new(|a| {
        let mut next = a.create_label();
        let mut read = a.create_label();
        let mut over = a.create_label();
        a.xor(ebp, ebp)?;
        a.lea(r12, ptr(read))?;
        a.set_label(&mut next)?;
        a.mov(rsi, rbx)?;
        a.call(r12)?;
        a.mov(byte_ptr(rdi + rbp), al)?;
        a.inc(ebp)?;
        a.cmp(ebp, 16)?;
        a.jne(next)?;
        a.mov(rax, qword_ptr(0x28).gs())?;
        a.jmp(over)?;
        a.set_label(&mut read)?;
        a.nop_1(dword_ptr(rax))?;
        a.push(rbp)?;
        a.mov(rbp, rsp)?;
        a.movzx(eax, byte_ptr(rsi + 0x24))?;
        a.pop(rbp)?;
        a.ret()?;
        a.set_label(&mut over)?;
        a.hlt()
    });
    machine.memory.poke_u64(RAM_GPA + 0x128, 0xC0FFEE);
    machine.window.device.bytes[0x24] = 0x5A;
    assert_eq!(machine.run(), Stop::Instruction);
    assert_eq!(
        machine.memory.peek(RAM_GPA, 17),
        [&[0x5A; 16][..], &[0]].concat()
    );
    assert_eq!(
        machine.window.device.seen,
        [const { Seen::Read(0x24, 1) }; 16]
    );
    assert_eq!(machine.get(Gpr::Rax), 0xC0FFEE);
    assert_eq!(machine.get(Gpr::Rsp), RAM + 0x800);
    assert_eq!(
        machine.memory.peek(machine.vcpu.rip - CODE + CODE_GPA, 1),
        [0xF4]
    );
    let figures = machine.ahead.figures();
    assert_eq!((figures.bursts, figures.accesses), (1, 16));
    assert_eq!(figures.instructions, 2 + 16 * 12 + 2);
}

#[test]
fn a_burst_reads_cr3_and_bases_and_nothing_else() {
    let mut machine = Machine::new(|a| {
        a.mov(eax, dword_ptr(rbx))?;
        a.mov(dword_ptr(rbx + 4), eax)?;
        a.hlt()
    });
    assert_eq!(machine.run(), Stop::Instruction);
    assert_eq!(machine.vcpu.tdcalls.get(), 1);
}

/// What is not plain ends a burst before it, and neither registers nor memory nor the device have changed.
#[test]
fn what_is_not_plain_changes_nothing() {
    type Assemble = fn(&mut CodeAssembler) -> Result<(), IcedError>;
    type Case = (Stop, Assemble, fn(&mut Machine));
    let cases: &[Case] = &[
        // Instructions that are the processor's.
        (Stop::Instruction, |a| a.hlt(), |_| ()),
        (Stop::Instruction, |a| a.sti(), |_| ()),
        (Stop::Instruction, |a| a.popfq(), |_| ()),
        (Stop::Instruction, |a| a.int3(), |_| ()),
        (Stop::Instruction, |a| a.ud2(), |_| ()),
        (Stop::Instruction, |a| a.rdtsc(), |_| ()),
        (Stop::Instruction, |a| a.invlpg(byte_ptr(rdi)), |_| ()),
        (Stop::Instruction, |a| a.mov(rax, cr3), |_| ()),
        (Stop::Instruction, |a| a.mov(cr3, rax), |_| ()),
        (Stop::Instruction, |a| a.mov(ax, gs), |_| ()),
        (Stop::Instruction, |a| a.mov(ss, ax), |_| ()),
        (Stop::Instruction, |a| a.pop(gs), |_| ()),
        (Stop::Instruction, |a| a.push(ax), |_| ()),
        (Stop::Instruction, |a| a.div(rcx), |_| ()),
        (Stop::Instruction, |a| a.rep().movsb(), |_| ()),
        (Stop::Instruction, |a| a.movsb(), |_| ()),
        (Stop::Instruction, |a| a.lock().inc(dword_ptr(rdi)), |_| ()),
        (Stop::Instruction, |a| a.xchg(dword_ptr(rdi), eax), |_| ()),
        (Stop::Instruction, |a| a.bt(dword_ptr(rdi), eax), |_| ()),
        (
            Stop::Instruction,
            |a| a.movups(xmm0, xmmword_ptr(rdi)),
            |_| (),
        ),
        (Stop::Instruction, |a| a.iretq(), |_| ()),
        (Stop::Instruction, |a| a.retf(), |_| ()),
        (Stop::Instruction, |a| a.syscall(), |_| ()),
        // Operands across pages, at addresses that are none, and where nothing is.
        (Stop::Memory, |a| a.mov(eax, dword_ptr(rdi + 0xFFE)), |_| ()),
        (Stop::Memory, |a| a.mov(dword_ptr(rdi + 0xFFE), eax), |_| ()),
        (Stop::Memory, |a| a.mov(eax, dword_ptr(rax)), |_| ()),
        (
            Stop::Memory,
            |a| a.mov(eax, dword_ptr(rdi + 0x2000)),
            |_| (),
        ),
        (Stop::Memory, |a| a.push(rax), |m| m.vcpu.gprs[4] = RAM + 4),
        (
            Stop::Memory,
            |a| a.pop(rax),
            |m| m.vcpu.gprs[4] = RAM + 0x1FFC,
        ),
        (
            Stop::Memory,
            |a| a.ret(),
            |m| m.vcpu.gprs[4] = 0x8000_0000_0000_0000,
        ),
        (
            Stop::Memory,
            |a| a.call(rax),
            |m| {
                m.vcpu.gprs[0] = CODE;
                m.vcpu.gprs[4] = RAM;
            },
        ),
        // Branches to what is no address; RAX and memory have it.
        (Stop::Instruction, |a| a.jmp(rax), |_| ()),
        (Stop::Instruction, |a| a.call(rax), |_| ()),
        (
            Stop::Instruction,
            |a| a.jmp(qword_ptr(rdi)),
            |m| m.memory.poke_u64(RAM_GPA, 1 << 47),
        ),
        (
            Stop::Instruction,
            |a| a.call(qword_ptr(rdi)),
            |m| m.memory.poke_u64(RAM_GPA, 1 << 63),
        ),
        (
            Stop::Instruction,
            |a| a.ret(),
            |m| m.memory.poke_u64(RAM_GPA + 0x800, u64::MAX >> 1),
        ),
        (Stop::Memory, |a| a.call(qword_ptr(rdi + 0xFFC)), |_| ()),
        (Stop::Memory, |a| a.leave(), |_| ()),
        // The device, where it is changed in place or a stack or code.
        (Stop::Memory, |a| a.inc(byte_ptr(rbx)), |_| ()),
        (Stop::Memory, |a| a.or(byte_ptr(rbx), 1), |_| ()),
        (Stop::Memory, |a| a.shl(byte_ptr(rbx), 1), |_| ()),
        (Stop::Memory, |a| a.push(qword_ptr(rbx)), |_| ()),
        (Stop::Memory, |a| a.jmp(qword_ptr(rbx)), |_| ()),
        (Stop::Memory, |a| a.pop(rax), |m| m.vcpu.gprs[4] = MMIO),
        (Stop::Memory, |a| a.push(rax), |m| m.vcpu.gprs[4] = MMIO + 8),
        (
            Stop::Window,
            |a| a.mov(al, byte_ptr(rbx)),
            |m| m.window.served = Served::No,
        ),
        (
            Stop::Window,
            |a| a.mov(byte_ptr(rbx), al),
            |m| m.window.served = Served::No,
        ),
        (
            Stop::Window,
            |a| a.cmp(byte_ptr(rbx), al),
            |m| m.window.served = Served::No,
        ),
        // Pages that the processor has to look at.
        (
            Stop::Memory,
            |a| a.mov(al, byte_ptr(rdi)),
            |m| flip(m, RAM, 1),
        ),
        (
            Stop::Memory,
            |a| a.mov(al, byte_ptr(rdi)),
            |m| flip(m, RAM, ACCESSED),
        ),
        (
            Stop::Memory,
            |a| a.mov(byte_ptr(rdi), al),
            |m| flip(m, RAM, ACCESSED),
        ),
        (
            Stop::Memory,
            |a| a.mov(byte_ptr(rdi), al),
            |m| flip(m, RAM, DIRTY),
        ),
        (
            Stop::Memory,
            |a| a.mov(byte_ptr(rdi), al),
            |m| flip(m, RAM, WRITABLE),
        ),
        (
            Stop::Memory,
            |a| a.inc(byte_ptr(rdi)),
            |m| flip(m, RAM, DIRTY),
        ),
        (
            Stop::Memory,
            |a| a.add(byte_ptr(rdi), 1),
            |m| flip(m, RAM, WRITABLE),
        ),
        (
            Stop::Memory,
            |a| a.shl(byte_ptr(rdi), 1),
            |m| flip(m, RAM, DIRTY),
        ),
        (
            Stop::Memory,
            |a| a.sete(byte_ptr(rdi)),
            |m| flip(m, RAM, DIRTY),
        ),
        (Stop::Memory, |a| a.push(rax), |m| flip(m, RAM, DIRTY)),
        (
            Stop::Memory,
            |a| a.call(rax),
            |m| {
                m.vcpu.gprs[0] = CODE;
                flip(m, RAM, DIRTY);
            },
        ),
        (
            Stop::Memory,
            |a| a.mov(byte_ptr(rbx), al),
            |m| flip(m, MMIO, WRITABLE),
        ),
        (
            Stop::Memory,
            |a| a.mov(al, byte_ptr(rbx)),
            |m| flip(m, MMIO, ACCESSED),
        ),
        (
            Stop::Memory,
            |a| a.mov(al, byte_ptr(rdi)),
            |m| m.memory.mark(RAM, USER),
        ),
        (
            Stop::Memory,
            |a| a.mov(al, byte_ptr(rdi)),
            |m| flip(m, RAM, 1 << 3),
        ),
        (
            Stop::Memory,
            |a| a.mov(al, byte_ptr(rdi)),
            |m| flip(m, RAM, 1 << 4),
        ),
        (
            Stop::Memory,
            |a| a.mov(al, byte_ptr(rdi)),
            |m| flip(m, RAM, 1 << 7),
        ),
        // Not L2's memory: an address with the shared bit, and one that nothing is at.
        (
            Stop::Memory,
            |a| a.mov(al, byte_ptr(rdi)),
            |m| flip(m, RAM, 1 << 51),
        ),
        (
            Stop::Memory,
            |a| a.mov(al, byte_ptr(rbx)),
            |m| flip(m, MMIO, 1 << 47),
        ),
        // Code.
        (Stop::Code, |a| a.nop(), |m| flip(m, CODE, EXECUTE_DISABLE)),
        (Stop::Code, |a| a.nop(), |m| flip(m, CODE, ACCESSED)),
        (Stop::Code, |a| a.nop(), |m| flip(m, CODE, 1)),
        (Stop::Code, |a| a.nop(), |m| m.memory.mark(CODE, USER)),
        (Stop::Code, |a| a.nop(), |m| m.vcpu.rip = MMIO),
        (
            Stop::Code,
            |a| a.nop(),
            |m| m.vcpu.rip = 0x8000_0000_0000_0000,
        ),
        (Stop::Code, |a| a.nop(), |m| m.vcpu.cr3 = 1 << 40),
    ];
    for (number, (stop, assemble, change)) in cases.iter().enumerate() {
        let mut machine = Machine::new(assemble);
        change(&mut machine);
        machine.vcpu.tdcalls.set(0);
        let (vcpu, pages) = (machine.vcpu.clone(), machine.memory.pages());
        // The second time it is known.
        for _ in 0..2 {
            assert_eq!(machine.run(), *stop, "{number}");
            machine.vcpu.tdcalls.set(0);
            assert_eq!(machine.vcpu, vcpu, "{number}");
            assert_eq!(machine.memory.pages(), pages, "{number}");
            assert!(machine.window.device.seen.is_empty(), "{number}");
            assert_eq!(machine.ahead.figures().instructions, 0);
        }
    }
}

/// Inverts bits of the last entry that translates `linear`.
fn flip(machine: &mut Machine, linear: u64, bits: u64) {
    let mut table = 0x1000;
    for shift in [39, 30, 21] {
        let entry = table + (linear >> shift & 0x1FF) * 8;
        table = machine.memory.peek_u64(entry) & 0x000F_FFFF_FFFF_F000;
    }
    let entry = table + (linear >> 12 & 0x1FF) * 8;
    let value = machine.memory.peek_u64(entry);
    machine.memory.poke_u64(entry, value ^ bits);
}

#[test]
fn code_that_has_changed_is_decoded_anew() {
    let mut machine = Machine::new(|a| {
        a.mov(eax, 1)?;
        a.hlt()
    });
    assert_eq!(machine.run(), Stop::Instruction);
    machine.memory.poke(CODE_GPA + 1, &[2]);
    machine.vcpu.rip = CODE;
    assert_eq!(machine.run(), Stop::Instruction);
    assert_eq!(machine.get(Gpr::Rax), 2);
}

/// Code that writes over what it executes next, in the burst itself.
#[test]
fn code_that_changes_itself_is_executed_as_changed() {
    let mut machine = Machine::new(|a| {
        let mut again = a.create_label();
        a.xor(ecx, ecx)?;
        a.set_label(&mut again)?;
        a.add(ecx, 1)?;
        a.mov(byte_ptr(rdi + 4), 5)?;
        a.cmp(ecx, 6)?;
        a.jne(again)?;
        a.hlt()
    });
    // The memory at RDI is the code: its fifth byte is the immediate of ADD.
    machine.memory.map(RAM, CODE_GPA, 0b011 | DIRTY | ACCESSED);
    assert_eq!(machine.run(), Stop::Instruction);
    assert_eq!(machine.get(Gpr::Rcx), 6);
    assert_eq!(machine.ahead.figures().instructions, 1 + 2 * 4);
}

/// An instruction that begins on one page and ends on the next.
#[test]
fn an_instruction_may_be_in_two_pages() {
    let mut machine = Machine::new(|a| a.hlt());
    let code = [0xB8, 0x78, 0x56, 0x34, 0x12, 0xF4];
    machine.memory.poke(CODE_GPA + 0xFFD, &code);
    for known in [true, false] {
        if !known {
            flip(&mut machine, CODE + 0x1000, 1);
            machine.vcpu.gprs[0] = 7;
        }
        machine.vcpu.rip = CODE + 0xFFD;
        assert_eq!(machine.run(), Stop::Instruction);
        assert_eq!(machine.get(Gpr::Rax), if known { 0x1234_5678 } else { 7 });
    }
}

/// Translations are told apart by a mark that comes round: what an earlier burst with the same mark held is not used.
#[test]
fn no_translation_outlives_its_burst() {
    let moves = |a: &mut CodeAssembler| {
        let mut over = a.create_label();
        a.test(ecx, ecx)?;
        a.je(over)?;
        a.mov(al, byte_ptr(rdi))?;
        a.mov(byte_ptr(rdi + 1), al)?;
        a.set_label(&mut over)?;
        a.hlt()
    };
    let run = |machine: &mut Machine, looks: bool| {
        machine.vcpu.rip = CODE;
        machine.vcpu.gprs[Gpr::Rcx as usize] = looks.into();
        assert_eq!(machine.run(), Stop::Instruction);
    };
    // The mark has nine bits.
    for others in [0, 1, 509, 510, 511, 512, 1021, 1022] {
        let mut machine = Machine::new(moves);
        machine.memory.poke(RAM_GPA, &[1]);
        machine.memory.poke(RAM_GPA + 0x1000, &[2]);
        run(&mut machine, true);
        let flags = 0b011 | DIRTY | ACCESSED | EXECUTE_DISABLE;
        machine.memory.map(RAM, RAM_GPA + 0x1000, flags);
        for _ in 0..others {
            run(&mut machine, false);
        }
        run(&mut machine, true);
        assert_eq!(machine.memory.peek(RAM_GPA, 2), [1, 1], "{others}");
        assert_eq!(machine.memory.peek(RAM_GPA + 0x1000, 2), [2, 2], "{others}");
    }
}

/// What follows a block is remembered, and is not what is executed where RIP is another.
#[test]
fn a_return_goes_to_whoever_called() {
    let mut machine = Machine::new(|a| {
        let mut function = a.create_label();
        let mut over = a.create_label();
        for number in 1..=3 {
            a.call(function)?;
            a.mov(byte_ptr(rdi + number), number)?;
        }
        a.jmp(over)?;
        a.set_label(&mut function)?;
        a.inc(byte_ptr(rdi))?;
        a.ret()?;
        a.set_label(&mut over)?;
        a.hlt()
    });
    for times in 1..=3 {
        machine.vcpu.rip = CODE;
        machine.memory.poke(RAM_GPA + 1, &[0; 3]);
        assert_eq!(machine.run(), Stop::Instruction);
        assert_eq!(machine.memory.peek(RAM_GPA, 4), [times * 3, 1, 2, 3]);
    }
}

#[test]
fn a_burst_has_bounds() {
    let spin = |a: &mut CodeAssembler| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.pause()?;
        a.jmp(again)
    };
    let mut machine = Machine::new(spin);
    assert_eq!(machine.run(), Stop::Bound);
    assert_eq!(machine.ahead.figures().instructions, BETWEEN);
    let mut machine = Machine::new(spin);
    machine.window.due_after = 1;
    assert_eq!(machine.run(), Stop::Due);
    assert_eq!(machine.ahead.figures().instructions, CHECK);
    let mut machine = Machine::new(|a| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.mov(al, byte_ptr(rbx))?;
        a.jmp(again)
    });
    assert_eq!(machine.run(), Stop::Bound);
    assert_eq!(machine.ahead.figures().instructions, MOST);
    machine.window.due_after = 3;
    assert_eq!(machine.run(), Stop::Due);
    assert_eq!(machine.ahead.figures().instructions, MOST + 3 * CHECK);
    machine.window.served = Served::Late;
    machine.window.due_after = 3;
    assert_eq!(machine.run(), Stop::Due);
    assert_eq!(machine.ahead.figures().instructions, MOST + 3 * CHECK + 5);
}

#[test]
fn bursts_begin_in_64_bit_code_of_the_kernel_that_is_not_stepped() {
    use crate::exit::Reason;
    let begins = |change: fn(&mut TestVcpu), cpl| {
        let mut vcpu = TestVcpu::long();
        vcpu.rip = CODE;
        change(&mut vcpu);
        may_begin(&vcpu.exit(Reason::Cpuid, cpl), &vcpu)
    };
    assert!(begins(|_| (), 0));
    assert!(!begins(|_| (), 3));
    assert!(!begins(|vcpu| vcpu.rip = 0x1000, 0));
    assert!(!begins(|vcpu| vcpu.rflags |= rflags::TF, 0));
    assert!(!begins(
        |vcpu| vcpu.segments[1].access_rights = crate::test_vcpu::CODE_32,
        0
    ));
}

/// Every page of the walk counts: an entry on the way that is not plain ends a burst as the last one does.
#[test]
fn entries_on_the_way_are_looked_at() {
    let entries = |machine: &Machine| {
        let mut table = 0x1000;
        let mut entries = Vec::new();
        for shift in [39, 30, 21, 12] {
            let entry = table + (RAM >> shift & 0x1FF) * 8;
            entries.push(entry);
            table = machine.memory.peek_u64(entry) & 0x000F_FFFF_FFFF_F000;
        }
        entries
    };
    for level in 0..4 {
        for bits in [1, ACCESSED, WRITABLE] {
            let mut machine = Machine::new(|a| a.mov(byte_ptr(rdi), 1));
            let entry = entries(&machine)[level];
            let value = machine.memory.peek_u64(entry);
            machine.memory.poke_u64(entry, value ^ bits);
            assert_eq!(machine.run(), Stop::Memory, "{level} {bits:#x}");
            machine.memory.poke_u64(entry, value);
            assert_eq!(machine.run(), Stop::Instruction, "{level} {bits:#x}");
        }
    }
}
