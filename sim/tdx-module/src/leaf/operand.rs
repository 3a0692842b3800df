//! GPA operands: memory that a leaf reads or writes on behalf of L1 (TDX Module ABI, "Common
//! Operand Checks").

use crate::l1::VeInfo;
use crate::leaf::{LeafEnd, TDCALL_LENGTH, invalid};
use crate::module::Module;
use crate::platform::Platform;
use crate::td::sept::LeafState;
use crate::transition::{AsynchronousExit, ExtendedQualification};
use tdx_defs::status::Operand;

/// Exit qualification of an EPT violation: a data read (SDM volume 3, "Exit Qualification for EPT
/// Violations").
pub(crate) const READ: u64 = 1 << 0;
/// A data write.
pub(crate) const WRITE: u64 = 1 << 1;
/// What the entry at which the walk stopped allows: all.
pub(crate) const READABLE_WRITABLE_EXECUTABLE: u64 = 7 << 3;

/// Which memory an operand may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    Private,
    PrivateOrShared,
}

impl Module {
    /// The machine address of the operand at `gpa`, which does not cross a page.
    ///
    /// A GPA that cannot be one is the caller's fault. A page that is not there is the host's, and
    /// one that is pending gives the caller #VE. `access` is [`READ`], [`WRITE`] or both.
    pub(crate) fn operand<P: Platform>(
        &self,
        platform: &mut P,
        operand: Operand,
        gpa: u64,
        memory: Memory,
        access: u64,
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
            (true, false) => LeafEnd::VirtualizationException(VeInfo {
                instruction_length: TDCALL_LENGTH as u32,
                ..VeInfo::ept_violation(access, gpa)
            }),
            (true, true) => ept_violation(gpa, access, ExtendedQualification::PENDING),
            (false, _) => ept_violation(gpa, access, ExtendedQualification::NONE),
        })
    }
}

/// The TDCALL becomes an EPT-violation TD exit, and is repeated once the host has acted.
pub(crate) fn ept_violation(
    gpa: u64,
    qualification: u64,
    extended: ExtendedQualification,
) -> LeafEnd {
    LeafEnd::TdExit(AsynchronousExit::ept_violation(
        gpa,
        qualification,
        extended,
    ))
}

#[cfg(test)]
mod tests {
    use crate::platform::Event;
    use crate::test_platform::ModelTdcall;
    use crate::{Configuration, TdParams};
    use tdx_defs::field::{FieldId, TdAttributes};
    use tdx_defs::{PageLevel, Registers, VmIndex, tdg};

    const PENDING: u64 = 0x20_0000;

    /// A leaf with an operand in a pending page, and the access that it is.
    fn calls() -> [(Registers, u64); 8] {
        let call = |rax, rcx, rdx, r8| Registers {
            rax,
            rcx,
            rdx,
            r8,
            ..Registers::default()
        };
        let list = u64::from(VmIndex::FIRST.get()) << 52 | 1;
        [
            (call(tdg::MR_RTMR_EXTEND, PENDING, 0, 0), 1),
            (call(tdg::MR_REPORT, 0x1000, PENDING, 0), 1),
            (call(tdg::MR_REPORT, PENDING, 0x1000, 0), 3),
            (call(tdg::MR_VERIFYREPORT, PENDING, 0, 0), 1),
            (call(tdg::SYS_RDALL, 0, PENDING, u64::MAX), 3),
            (call(tdg::MR_KEY_GET, PENDING, 0x1000, 0), 1),
            (call(tdg::MR_KEY_GET, 0x1000, PENDING, 0), 3),
            (call(tdg::VP_INVGLA, list, PENDING | 1 << 52, 0), 1),
        ]
    }

    #[test]
    fn a_pending_operand_gives_ve_with_the_access_and_the_instructions_length() {
        let attributes = TdAttributes::new().into_bits();
        let params = TdParams {
            attributes,
            ..TdParams::default()
        };
        for (call, access) in calls() {
            let model = ModelTdcall::on(Configuration::with_sealing(), &params, PENDING);
            let enabled = model.call(Registers {
                rax: tdg::VM_WR,
                rdx: FieldId::TD_CTLS.0,
                r8: 1 << 4,
                r9: 1 << 4,
                ..Registers::default()
            });
            assert_eq!(enabled.map(|registers| registers.rax), Ok(0));
            model.augment(PENDING, PageLevel::Page2M);
            assert_eq!(model.call(call), Err(Event::VIRTUALIZATION), "{call:x?}");
            assert_eq!(model.call(call), Err(Event::DOUBLE_FAULT), "{call:x?}");
            let information = model.call(Registers {
                rax: tdg::VP_VEINFO_GET,
                ..Registers::default()
            });
            let information = information.unwrap();
            assert_eq!(information.rcx, 48);
            assert_eq!(information.rdx, access, "{call:x?}");
            assert_eq!(information.r9, PENDING);
            assert_eq!(information.r10, 4);
        }
    }
}
