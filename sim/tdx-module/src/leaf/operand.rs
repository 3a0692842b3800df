//! GPA operands: memory that a leaf reads or writes on behalf of L1 (TDX Module ABI, "Common
//! Operand Checks").

use crate::l1::VeInfo;
use crate::leaf::{LeafEnd, invalid};
use crate::module::Module;
use crate::platform::Platform;
use crate::td::sept::LeafState;
use crate::transition::{AsynchronousExit, ExtendedQualification};
use tdx_defs::status::Operand;

/// Which memory an operand may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    Private,
    PrivateOrShared,
}

impl Module {
    /// The machine address of the operand at `gpa`, which does not cross a page.
    ///
    /// A GPA that cannot be one is the caller's fault. A page that is not there is the host's, and
    /// one that is pending gives the caller #VE.
    pub(super) fn operand<P: Platform>(
        &self,
        platform: &mut P,
        operand: Operand,
        gpa: u64,
        memory: Memory,
    ) -> Result<u64, LeafEnd> {
        if !self.td.is_gpa(gpa) || memory == Memory::Private && self.td.is_shared(gpa) {
            return Err(invalid(operand));
        }
        if let Some(hpa) = self.machine_address(platform, gpa) {
            return Ok(hpa);
        }
        let pending = self
            .td
            .sept
            .find(gpa)
            .is_some_and(|leaf| leaf.state == LeafState::Pending);
        Err(match (pending, self.td.td_ctls.pending_ve_disable()) {
            (true, false) => LeafEnd::VirtualizationException(VeInfo::ept_violation(0, gpa)),
            (true, true) => ept_violation(gpa, ExtendedQualification::PENDING),
            (false, _) => ept_violation(gpa, ExtendedQualification::NONE),
        })
    }
}

/// The TDCALL becomes an EPT-violation TD exit, and is repeated once the host has acted.
pub(super) fn ept_violation(gpa: u64, extended: ExtendedQualification) -> LeafEnd {
    LeafEnd::TdExit(AsynchronousExit::ept_violation(gpa, 0, extended))
}
