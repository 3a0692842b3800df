//! A test's steps, and what each must leave behind.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tdx_defs::vp_enter::Gpr;

use super::firmware::Code;
use super::layout::Block;
use super::record;
use crate::arch::memory;

/// One step: registers before, code, registers after.
#[derive(Clone, Debug)]
pub(super) struct Step {
    what: &'static str,
    code: Code,
    input: [u64; 16],
    wants: Vec<Want>,
    exception: Option<(u8, u64)>,
    ve: Option<(u32, u64)>,
    interrupt: Option<u8>,
}

/// A register's value after a step, in the bits of a mask.
#[derive(Clone, Copy, Debug)]
struct Want {
    register: Gpr,
    mask: u64,
    value: u64,
}

/// What registers that a step does not set hold before it.
fn untouched(register: usize) -> u64 {
    0x5A5A_0000_0000_0000 | (register as u64) << 8
}

impl Step {
    /// A step without expectations but that it ends without an exception.
    pub(super) fn new(what: &'static str, code: Code) -> Self {
        let mut input = [0; 16];
        for (register, value) in input.iter_mut().enumerate() {
            *value = untouched(register);
        }
        Self {
            what,
            code,
            input,
            wants: Vec::new(),
            exception: None,
            ve: None,
            interrupt: None,
        }
    }

    /// TDCALL of a leaf.
    pub(super) fn tdcall(what: &'static str, leaf: u64) -> Self {
        Self::new(what, Code::Tdcall).set(Gpr::Rax, leaf)
    }

    /// The step with other code.
    pub(super) fn with_code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// A register before the step.
    pub(super) fn set(mut self, register: Gpr, value: u64) -> Self {
        self.input[register as usize] = value;
        self
    }

    /// A register after the step.
    pub(super) fn want(self, register: Gpr, value: u64) -> Self {
        self.want_bits(register, u64::MAX, value)
    }

    /// Some bits of a register after the step.
    pub(super) fn want_bits(mut self, register: Gpr, mask: u64, value: u64) -> Self {
        self.wants.push(Want {
            register,
            mask,
            value,
        });
        self
    }

    /// A register keeps what it held before the step.
    pub(super) fn keeps(self, register: Gpr) -> Self {
        let value = self.input[register as usize];
        self.want(register, value)
    }

    /// The step ends in this exception.
    pub(super) fn faults(mut self, vector: u8, error_code: u64) -> Self {
        self.exception = Some((vector, error_code));
        self
    }

    /// The step's instruction gives a #VE of this reason, with this qualification.
    pub(super) fn virtualized(mut self, reason: u32, qualification: u64) -> Self {
        self.ve = Some((reason, qualification));
        self
    }

    /// The step takes this interrupt.
    pub(super) fn interrupted(mut self, vector: u8) -> Self {
        self.interrupt = Some(vector);
        self
    }

    /// Writes the step's record, for the interpreter to find.
    fn write(&self, at: u64) {
        for (register, value) in (0..).zip(self.input) {
            put(at + record::INPUT + 8 * register, value);
            put(at + record::OUTPUT + 8 * register, 0);
        }
        put(at + record::CODE, self.code.gpa());
        put(at + record::VECTOR, record::NONE);
        put(at + record::INTERRUPT, record::NONE);
        put(at + record::DONE, 0);
        for word in 0..6 {
            put(at + record::VE + 8 * word, 0);
        }
    }

    /// Whether the step has stored what it is to store, and has not been noted as done.
    fn is_told(&self, at: u64) -> bool {
        let [place, value] = [Gpr::Rdi, Gpr::Rax].map(|register| self.input[register as usize]);
        self.code == Code::Store && get(at + record::DONE) & 0xFF == 0 && get(place) == value
    }

    /// Compares the record with what was wanted.
    fn check(&self, at: u64) -> Result<(), String> {
        let failed = |text: String| Err(format!("step {:?}: {text}", self.what));
        if get(at + record::DONE) & 0xFF == 0 {
            return failed("it never ended".into());
        }
        let vector = get(at + record::VECTOR);
        let error_code = get(at + record::ERROR);
        let expected = match (self.exception, self.ve) {
            (Some((vector, _)), _) => vector.into(),
            (None, Some(_)) => 20,
            (None, None) => record::NONE,
        };
        if vector != expected {
            let rax = get(at + record::OUTPUT);
            return failed(format!(
                "exception {} (error {error_code:#x}), wanted {}; RAX {rax:#x}",
                vector as i64, expected as i64
            ));
        }
        if let Some((_, wanted)) = self.exception
            && wanted != error_code
        {
            return failed(format!("error code {error_code:#x}, wanted {wanted:#x}"));
        }
        if let Some((reason, qualification)) = self.ve {
            let got = (get(at + record::VE), get(at + record::VE + 8));
            if got != (reason.into(), qualification) {
                return failed(format!(
                    "#VE reason {}, qualification {:#x}, wanted {reason}, {qualification:#x}",
                    got.0, got.1
                ));
            }
        }
        let interrupt = get(at + record::INTERRUPT);
        let wanted = self.interrupt.map_or(record::NONE, u64::from);
        if interrupt != wanted {
            return failed(format!(
                "interrupt {}, wanted {}",
                interrupt as i64, wanted as i64
            ));
        }
        for want in &self.wants {
            let value = get(at + record::OUTPUT + 8 * want.register as u64);
            if value & want.mask != want.value & want.mask {
                return failed(format!(
                    "{:?} is {value:#x}, wanted {:#x} in {:#x}",
                    want.register, want.value, want.mask
                ));
            }
        }
        Ok(())
    }
}

/// Writes the records of all steps of a virtual processor.
pub(super) fn write(processor: u64, steps: &[Step]) {
    let block = Block::of(processor);
    let room = block.records_size / record::SIZE - 1;
    assert!(
        steps.len() as u64 <= room,
        "a script of {} steps",
        steps.len()
    );
    let mut at = block.records;
    for step in steps {
        step.write(at);
        at += record::SIZE;
    }
    put(at + record::CODE, 0);
}

/// Checks all steps of a virtual processor; the first that is not as it must be is the result.
pub(super) fn check(processor: u64, steps: &[Step]) -> Result<(), String> {
    let mut at = Block::of(processor).records;
    for (step, rest) in steps.iter().zip((0..steps.len()).rev()) {
        // Processor 0 ends the run when it sees what the others tell it last: before that step has come to its end, maybe.
        let is_last = processor != 0 && rest == 0;
        if !(is_last && step.is_told(at)) {
            step.check(at)
                .map_err(|text| format!("processor {processor}: {text}"))?;
        }
        at += record::SIZE;
    }
    Ok(())
}

/// Writes a quadword of the guest's memory, which is the machine's at the same address.
pub(super) fn put(gpa: u64, value: u64) {
    memory::write(gpa, &value.to_le_bytes());
}

/// Reads a quadword of the guest's memory.
pub(super) fn get(gpa: u64) -> u64 {
    let mut bytes = [0; 8];
    memory::read(gpa, &mut bytes);
    u64::from_le_bytes(bytes)
}
