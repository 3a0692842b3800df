//! The TD as its L1 sees it: a raw TDCALL with bounded repetition.

use core::hint::spin_loop;

use crate::raw::RawTdcall;
use tdx_defs::Registers;
use tdx_defs::status::{Code, Status};

/// The TDX module, as L1 calls it.
///
/// One method a leaf (in [`crate::leaf`]) and a TDVMCALL sub-function (in [`crate::tdvmcall`]).
/// A call that ends recoverably (operand busy, interrupted) is repeated with the same operands up
/// to [`Td::ATTEMPTS`] times; after that the caller gets it as an error.
#[derive(Clone, Copy, Debug)]
pub struct Td<R> {
    raw: R,
}

impl<R> Td<R> {
    /// How often a busy or interrupted call is tried. The host can hold a lock for as long as its
    /// thread does not run, so this is well above what any contention between two threads takes,
    /// and still ends within seconds.
    pub const ATTEMPTS: u32 = 100_000;

    /// Calls go to `raw`.
    pub const fn new(raw: R) -> Self {
        Self { raw }
    }

    /// What calls go to.
    pub const fn raw(&self) -> &R {
        &self.raw
    }
}

impl<R: RawTdcall> Td<R> {
    /// Makes a call until it ends otherwise than recoverably. `registers` are the operands of
    /// every attempt: outputs of a failed one are not fed back.
    pub(crate) fn call(&self, registers: Registers) -> Registers {
        self.call_resuming(registers, |_, _| {})
    }

    /// As [`Td::call`], for a leaf that keeps its progress in registers: `resume` carries it from
    /// the outputs of an interrupted attempt to the operands of the next.
    pub(crate) fn call_resuming(
        &self,
        mut operands: Registers,
        resume: impl Fn(&Registers, &mut Registers),
    ) -> Registers {
        let mut attempt = 1;
        loop {
            let mut registers = operands;
            self.raw.tdcall(&mut registers);
            let status = Status(registers.rax);
            if !status.is_recoverable() || attempt == Self::ATTEMPTS {
                return registers;
            }
            if status.code() == Code::InterruptedResumable {
                resume(&registers, &mut operands);
            }
            attempt += 1;
            spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;
    use tdx_defs::status::Operand;
    use tdx_defs::tdg;

    #[test]
    fn a_busy_call_is_repeated_with_its_own_operands() {
        let busy = Registers {
            rax: Status::operand_busy(Operand::RCX).0,
            ..Default::default()
        };
        let script = Script::new([
            busy,
            busy,
            Registers {
                rcx: 9,
                ..Default::default()
            },
        ]);
        let operands = Registers {
            rax: tdg::MEM_PAGE_ACCEPT,
            rcx: 0x1000,
            ..Default::default()
        };
        let result = Td::new(&script).call(operands);
        assert_eq!(result.rcx, 9);
        assert_eq!(script.calls(), [operands; 3]);
    }

    #[test]
    fn a_call_that_stays_busy_ends() {
        let busy = Registers {
            rax: Status::operand_busy(Operand::RTMR).0,
            ..Default::default()
        };
        let script = Script::forever(busy);
        let result = Td::new(&script).call(Registers::default());
        assert_eq!(Status(result.rax).code(), Code::OperandBusy);
        assert_eq!(script.count(), Td::<&Script>::ATTEMPTS as usize);
    }
}
