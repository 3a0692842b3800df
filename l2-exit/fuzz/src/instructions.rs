//! Any instructions at the device, at an exit and ahead.

use l2_exit::exit::EptViolation;
use l2_exit::mmio::{self, DecodeCache};
use l2_exit::run_ahead::{self, RunAhead};
use l2_exit::{EmulationError, Exit, Origin, Outcome, Reason, SegmentRegister};

use super::input::Input;
use super::machine::{Cpu, Device, LINEAR, PAGE, Ram, Seen};

/// Bytes behind the first instruction's opcode.
const CODE: usize = 48;
/// Prefixes and opcodes of instructions that reach memory; 0 is none.
const PREFIXES: [u8; 12] = [
    0, 0x48, 0, 0x66, 0, 0x40, 0x4C, 0xF3, 0x67, 0xF2, 0xF0, 0x65,
];
const OPCODES: [&[u8]; 40] = [
    &[0x8B],
    &[0x89],
    &[0x8A],
    &[0x88],
    &[0xC7],
    &[0xC6],
    &[0x0F, 0xB6],
    &[0x0F, 0xB7],
    &[0x0F, 0xBE],
    &[0x0F, 0xBF],
    &[0x63],
    &[0x03],
    &[0x01],
    &[0x0B],
    &[0x09],
    &[0x23],
    &[0x21],
    &[0x33],
    &[0x31],
    &[0x2B],
    &[0x29],
    &[0x3B],
    &[0x39],
    &[0x38],
    &[0x13],
    &[0x1B],
    &[0x80],
    &[0x81],
    &[0x83],
    &[0x84],
    &[0x85],
    &[0x86],
    &[0x87],
    &[0xF6],
    &[0xF7],
    &[0xFE],
    &[0xFF],
    &[0xA5],
    &[0xAB],
    &[0xA4],
];
/// Most accesses of one instruction: repeated ones come back after as many iterations.
const MOST: usize = 8 * 1024;

struct L2 {
    cpu: Cpu,
    ram: Ram,
    device: Device,
    cpl: u8,
}

impl L2 {
    /// An exit of it at `gpa`.
    fn exit(&self, violation: EptViolation) -> Exit {
        Exit {
            reason: Reason::EptViolation(violation),
            origin: Origin::Direct,
            idt_vectoring: None,
            cs: self.cpu.segments[SegmentRegister::Cs as usize],
            cpl: self.cpl,
            instruction_length: 0,
            bus_lock: false,
        }
    }

    /// Serves an exit: an instruction completes or changes nothing of where L2 is.
    fn emulate(
        &mut self,
        violation: &EptViolation,
        cache: &mut DecodeCache,
    ) -> Result<Outcome, EmulationError> {
        let (rip, seen) = (self.cpu.rip, self.device.0.len());
        let exit = self.exit(*violation);
        let outcome = mmio::emulate(
            &exit,
            violation,
            &mut self.cpu,
            &self.ram,
            &mut self.device,
            cache,
        );
        assert!(self.device.0.len() - seen <= MOST);
        match outcome {
            Ok(Outcome::Completed) => {}
            Ok(Outcome::Fault(event)) => {
                assert_eq!(self.cpu.rip, rip);
                assert!(matches!(event.vector, 12..=14 | 17), "{event:?}");
            }
            Ok(Outcome::Interrupted) | Err(_) => assert_eq!(self.cpu.rip, rip),
        }
        outcome
    }
}

/// The device's page that an access is to, as an exit tells of it.
fn violation(seen: &[Seen]) -> Option<EptViolation> {
    let gpa = match seen.first()? {
        Seen::Read(gpa, _) | Seen::Write(gpa, _) => *gpa,
    };
    Some(EptViolation {
        gpa,
        linear: None,
        read: seen.iter().any(|seen| matches!(seen, Seen::Read(..))),
        write: seen.iter().any(|seen| matches!(seen, Seen::Write(..))),
        fetch: false,
        final_access: false,
        nmi_unblocked: false,
        pending: false,
    })
}

/// Code whose first instruction most often reaches memory at a register.
fn code(input: &Input) -> Vec<u8> {
    let mut code = Vec::new();
    let choice = usize::from(input.byte());
    code.extend(PREFIXES.get(choice % 32).filter(|prefix| **prefix != 0));
    let opcode = OPCODES.get(usize::from(input.byte()));
    code.extend(opcode.copied().unwrap_or_default());
    // MOD and R/M of ModR/M.
    code.push(match input.byte() {
        form @ 0..0xE0 => form & 0x7F,
        form => form,
    });
    code.extend(input.bytes(CODE));
    code
}

/// Any code, registers and page tables: what is executed at an exit ends, and what is executed ahead is the same.
pub fn instructions(data: &[u8]) {
    let input = Input::new(data);
    let start = match input.byte() {
        at @ 0xF0.. => LINEAR + PAGE - u64::from(at & 0xF),
        at => LINEAR + u64::from(at) * 8,
    };
    let mut l2 = L2 {
        cpu: Cpu::new(&input),
        ram: Ram::new(),
        device: Device::default(),
        cpl: input.byte().saturating_sub(0xFC),
    };
    l2.cpu.rip = start;
    l2.cpu.disturb(&input);
    l2.ram.disturb(&input);
    l2.ram.load(start, &code(&input));

    // Ahead, as far as the first access.
    let mut ahead = L2 {
        cpu: l2.cpu.clone(),
        ram: l2.ram.clone(),
        device: Device::default(),
        cpl: l2.cpl,
    };
    let mut cache = DecodeCache::new();
    let may = violation(&[Seen::Read(0xFED4_0000, 1)])
        .is_some_and(|violation| run_ahead::may_begin(&ahead.exit(violation), &ahead.cpu));
    if may && l2.cpu.has_four_levels() {
        let mut runner = RunAhead::new(0);
        runner.run(&mut ahead.cpu, &ahead.ram, &mut ahead.device);
        let figures = runner.figures();
        assert!(figures.accesses <= 1 && figures.instructions <= 1 << 15);
        if figures.instructions == 1
            && let Some(violation) = violation(&ahead.device.0)
        {
            // The same at an exit, where the instruction is one of those that are executed there.
            let outcome = l2.emulate(&violation, &mut cache);
            if !matches!(outcome, Err(EmulationError::Unsupported { .. })) {
                assert_eq!(outcome, Ok(Outcome::Completed));
                assert_eq!(l2.cpu, ahead.cpu);
                assert_eq!(l2.ram, ahead.ram);
                assert_eq!(l2.device, ahead.device);
            }
        }
    }
    // And what an exit may say besides, twice: decoded, then known.
    let told = EptViolation {
        gpa: match input.byte() {
            0 => 0xFED4_0000,
            1 => input.qword(),
            at => 0xFED4_0000 + u64::from(at) * 0x51,
        },
        linear: (input.byte() & 3 == 3).then(|| input.qword()),
        read: input.byte() & 1 == 0,
        write: input.byte() & 1 != 0,
        fetch: input.byte() > 0xF0,
        final_access: input.byte() & 1 == 0,
        nmi_unblocked: false,
        pending: false,
    };
    for _ in 0..2 {
        let _ = l2.emulate(&told, &mut cache);
    }
}
