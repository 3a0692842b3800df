//! IN, OUT, INS and OUTS for L2.

use crate::exit::{Exit, IoAccess};
use crate::memory::{GuestMemory, PortBus};
use crate::outcome::{EmulationError, Outcome};
use crate::vcpu::Vcpu;

/// Executes the I/O instruction behind `access`, the qualification of `exit`.
pub fn emulate<V: Vcpu, M: GuestMemory, P: PortBus>(
    exit: &Exit,
    access: &IoAccess,
    vcpu: &mut V,
    memory: &M,
    ports: &mut P,
) -> Result<Outcome, EmulationError> {
    let _ = (exit, vcpu, memory, ports);
    Err(EmulationError::Qualification {
        qualification: access.qualification,
    })
}
