//! Accesses of L1 that its secure or shared EPT does not allow.

use crate::l1::VeInfo;
use crate::module::Module;
use crate::platform::{Action, Platform, Register, Vm};
use crate::td::sept::LeafState;
use crate::transition::{AsynchronousExit, ExtendedQualification};

/// What L1 was doing.
#[derive(Clone, Copy)]
pub(super) struct Access {
    pub(super) write: bool,
    pub(super) fetch: bool,
    pub(super) page_walk: bool,
}

impl Access {
    /// The exit qualification of an access to a page that is not there at all (SDM volume 3,
    /// "Exit Qualification for EPT Violations"). The guest-linear address is known for a fetch.
    fn qualification(self) -> u64 {
        const LINEAR_ADDRESS_VALID: u64 = 1 << 7;
        const TRANSLATION: u64 = 1 << 8;
        let kind = match self {
            Access { fetch: true, .. } => 1 << 2,
            Access { write: true, .. } => 1 << 1,
            _ => 1 << 0,
        };
        let linear = if self.fetch { LINEAR_ADDRESS_VALID } else { 0 };
        let translation = if self.fetch && !self.page_walk {
            TRANSLATION
        } else {
            0
        };
        kind | linear | translation
    }
}

/// A pending page gives #VE, unless PENDING_VE_DISABLE says that the host is to hear of it. All
/// else is the host's: it maps the page, or never runs the TD again.
pub(super) fn handle<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    gpa: u64,
    access: Access,
) -> Action {
    let qualification = access.qualification();
    let pending = module.td.is_private(gpa)
        && module
            .td
            .sept
            .find(gpa)
            .is_some_and(|leaf| leaf.state == LeafState::Pending);
    let extended = match pending {
        false => ExtendedQualification::NONE,
        true if module.td.td_ctls.pending_ve_disable() => ExtendedQualification::PENDING,
        true => {
            let mut information = VeInfo::ept_violation(qualification, gpa);
            if access.fetch {
                information.gla = platform.register(Vm::L1, Register::Rip);
            }
            module.inject_ve(platform, information);
            return module.run_l1(platform);
        }
    };
    module.td_exit(AsynchronousExit::ept_violation(
        gpa,
        qualification,
        extended,
    ))
}
