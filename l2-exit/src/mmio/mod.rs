//! The instruction behind an EPT violation, executed against a device.

use crate::exit::{EptViolation, Exit};
use crate::memory::{GuestMemory, MmioBus};
use crate::outcome::{EmulationError, Outcome};
use crate::vcpu::Vcpu;

/// Instructions that reached a device before, decoded.
#[derive(Default)]
pub struct DecodeCache {}

impl DecodeCache {
    /// An empty cache.
    pub const fn new() -> Self {
        Self {}
    }

    /// Forgets everything.
    pub fn clear(&mut self) {}
}

/// Executes the instruction that made the access `violation`, the qualification of `exit`.
pub fn emulate<V: Vcpu, M: GuestMemory, B: MmioBus>(
    exit: &Exit,
    violation: &EptViolation,
    vcpu: &mut V,
    memory: &M,
    bus: &mut B,
    cache: &mut DecodeCache,
) -> Result<Outcome, EmulationError> {
    let _ = (exit, vcpu, memory, bus, cache);
    Err(EmulationError::Unclaimed {
        gpa: violation.gpa,
        write: violation.write,
    })
}
