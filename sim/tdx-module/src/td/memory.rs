//! A running TD's memory: TDH.MEM.PAGE.AUG, TDH.MEM.SEPT.ADD, TDH.MEM.RANGE.BLOCK and UNBLOCK, TDH.MEM.TRACK,
//! TDH.MEM.PAGE.REMOVE.

use crate::module::Module;
use crate::platform::Platform;
use crate::td::build::entry_state_incorrect;
use crate::td::sept::{Leaf, LeafState, Walk};
use crate::td::{OpState, seamcall};
use tdx_defs::PageLevel;
use tdx_defs::attributes::VmAttributes;
use tdx_defs::status::{Code, Operand, Status};

impl Module {
    /// TDH.MEM.PAGE.AUG: offers the TD a page of 4 KiB or 2 MiB, which it has to accept.
    ///
    /// # Errors
    ///
    /// OP_STATE_INCORRECT, OPERAND_INVALID (RCX, R8), EPT_ENTRY_STATE_INCORRECT (RCX).
    pub fn tdh_mem_page_aug<P: Platform>(
        &mut self,
        platform: &mut P,
        gpa: u64,
        level: PageLevel,
        hpa: u64,
    ) -> Result<(), Status> {
        self.require_op_state(OpState::Runnable)?;
        if level == PageLevel::Page1G {
            return Err(Status::operand_invalid(Operand::RCX));
        }
        self.require_private_page(gpa, level)?;
        if !hpa.is_multiple_of(level.size()) {
            return Err(Status::operand_invalid(Operand::R8));
        }
        self.require_free(gpa, level)?;
        self.td.sept.insert(
            platform,
            Leaf {
                gpa,
                hpa,
                level,
                state: LeafState::Pending,
                aliases: [VmAttributes::new(); 3],
                blocked_at: 0,
            },
        );
        Ok(())
    }

    /// TDH.MEM.SEPT.ADD: adds an empty page of the secure EPT under the entry of `level` at `gpa`.
    ///
    /// # Errors
    ///
    /// OP_STATE_INCORRECT, OPERAND_INVALID (RCX), EPT_WALK_FAILED (RCX), EPT_ENTRY_STATE_INCORRECT
    /// (RCX).
    pub fn tdh_mem_sept_add(&mut self, gpa: u64, level: PageLevel) -> Result<(), Status> {
        if self.td.op_state == OpState::Uninitialized {
            return Err(Status::new(seamcall::OP_STATE_INCORRECT, 0));
        }
        if level == PageLevel::Page4K {
            return Err(Status::operand_invalid(Operand::RCX));
        }
        self.require_private_page(gpa, level)?;
        match self.td.sept.walk(gpa, level) {
            Walk::Free(found) if found == level.number() => {
                self.td.sept.insert_table(gpa, found);
                Ok(())
            }
            Walk::Free(_) => Err(Status::new(Code::EptWalkFailed, Operand::RCX.0)),
            Walk::Leaf(_) | Walk::NonLeaf => Err(entry_state_incorrect()),
        }
    }

    /// TDH.MEM.RANGE.BLOCK: no new translations of the page from now on, in any VM.
    ///
    /// # Errors
    ///
    /// OP_STATE_INCORRECT, OPERAND_INVALID (RCX), EPT_ENTRY_STATE_INCORRECT (RCX),
    /// GPA_RANGE_ALREADY_BLOCKED.
    pub fn tdh_mem_range_block<P: Platform>(
        &mut self,
        platform: &mut P,
        gpa: u64,
        level: PageLevel,
    ) -> Result<(), Status> {
        let leaf = self.host_leaf(gpa, level)?;
        let state = match leaf.state {
            LeafState::Mapped => LeafState::Blocked,
            LeafState::Pending => LeafState::PendingBlocked,
            LeafState::Blocked | LeafState::PendingBlocked => {
                return Err(Status::new(seamcall::GPA_RANGE_ALREADY_BLOCKED, 0));
            }
        };
        let epoch = self.td.epoch;
        self.td.sept.update(platform, gpa, |leaf| {
            leaf.state = state;
            leaf.blocked_at = epoch;
        });
        Ok(())
    }

    /// TDH.MEM.TRACK: the next TD entry starts a new TLB epoch.
    ///
    /// # Errors
    ///
    /// OP_STATE_INCORRECT.
    pub fn tdh_mem_track(&mut self) -> Result<(), Status> {
        self.require_op_state(OpState::Runnable)?;
        self.td.epoch += 1;
        Ok(())
    }

    /// TDH.MEM.RANGE.UNBLOCK: takes a block back.
    ///
    /// # Errors
    ///
    /// As [`tdh_mem_page_remove`](Self::tdh_mem_page_remove).
    pub fn tdh_mem_range_unblock<P: Platform>(
        &mut self,
        platform: &mut P,
        gpa: u64,
        level: PageLevel,
    ) -> Result<(), Status> {
        let leaf = self.blocked_leaf(gpa, level)?;
        let state = if leaf.state == LeafState::Blocked {
            LeafState::Mapped
        } else {
            LeafState::Pending
        };
        self.td
            .sept
            .update(platform, gpa, |leaf| leaf.state = state);
        Ok(())
    }

    /// TDH.MEM.PAGE.REMOVE: takes a blocked page from the TD, with its aliases.
    ///
    /// # Errors
    ///
    /// OP_STATE_INCORRECT, OPERAND_INVALID (RCX), EPT_ENTRY_STATE_INCORRECT (RCX),
    /// GPA_RANGE_NOT_BLOCKED (RCX), TLB_TRACKING_NOT_DONE.
    pub fn tdh_mem_page_remove<P: Platform>(
        &mut self,
        platform: &mut P,
        gpa: u64,
        level: PageLevel,
    ) -> Result<(), Status> {
        self.blocked_leaf(gpa, level)?;
        self.td.sept.remove(platform, gpa);
        Ok(())
    }

    fn host_leaf(&self, gpa: u64, level: PageLevel) -> Result<Leaf, Status> {
        self.require_op_state(OpState::Runnable)?;
        self.require_private_page(gpa, level)?;
        match self.td.sept.walk(gpa, level) {
            Walk::Leaf(leaf) if leaf.level == level => Ok(leaf),
            _ => Err(entry_state_incorrect()),
        }
    }

    fn blocked_leaf(&self, gpa: u64, level: PageLevel) -> Result<Leaf, Status> {
        let leaf = self.host_leaf(gpa, level)?;
        match leaf.state {
            LeafState::Mapped | LeafState::Pending => {
                Err(Status::new(seamcall::GPA_RANGE_NOT_BLOCKED, Operand::RCX.0))
            }
            _ if leaf.blocked_at == self.td.epoch => {
                Err(Status::new(seamcall::TLB_TRACKING_NOT_DONE, 0))
            }
            _ => Ok(leaf),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TdParams;
    use crate::platform::Vm;
    use crate::test_platform::{ModelTdcall, TestPlatform};
    use PageLevel::{Page1G, Page2M, Page4K};

    const FRAME: u64 = 0x20_0000;
    const RCX: Status = Status::operand_invalid(Operand::RCX);
    const R8: Status = Status::operand_invalid(Operand::R8);

    fn with<T>(act: impl FnOnce(&mut Module, &mut TestPlatform) -> T) -> T {
        ModelTdcall::new(&TdParams::default(), FRAME).with(act)
    }

    #[test]
    fn aug_checks_its_operands() {
        with(|module, platform| {
            for (gpa, level, hpa, status) in [
                (0x4000_0000, Page1G, 0x4000_0000, RCX),
                (FRAME + 0x1000, Page2M, FRAME, RCX),
                (1 << 47, Page4K, FRAME, RCX),
                (FRAME, Page2M, FRAME + 0x1000, R8),
                (0, Page2M, FRAME, entry_state_incorrect()),
                (0x1000, Page4K, FRAME, entry_state_incorrect()),
            ] {
                let added = module.tdh_mem_page_aug(platform, gpa, level, hpa);
                assert_eq!(added, Err(status), "{gpa:#x} {level:?}");
            }
            let added = module.tdh_mem_page_aug(platform, FRAME, Page4K, FRAME);
            assert_eq!(added, Ok(()));
            // A larger page does not fit over it.
            let added = module.tdh_mem_page_aug(platform, FRAME, Page2M, FRAME);
            assert_eq!(added, Err(entry_state_incorrect()));
        });
    }

    #[test]
    fn a_page_is_taken_by_block_track_and_remove() {
        with(|module, platform| {
            let not_blocked = Status::new(seamcall::GPA_RANGE_NOT_BLOCKED, 1);
            let not_tracked = Status::new(seamcall::TLB_TRACKING_NOT_DONE, 0);
            let already = Status::new(seamcall::GPA_RANGE_ALREADY_BLOCKED, 0);
            let remove = |module: &mut Module, platform: &mut TestPlatform| {
                module.tdh_mem_page_remove(platform, 0, Page2M)
            };
            assert_eq!(remove(module, platform), Err(not_blocked));
            assert_eq!(module.tdh_mem_range_block(platform, 0, Page2M), Ok(()));
            assert_eq!(
                module.tdh_mem_range_block(platform, 0, Page2M),
                Err(already)
            );
            assert!(!platform.pages.contains_key(&(Vm::L1, 0)));
            assert_eq!(remove(module, platform), Err(not_tracked));
            assert_eq!(module.tdh_mem_track(), Ok(()));
            assert_eq!(module.tdh_mem_range_unblock(platform, 0, Page2M), Ok(()));
            assert!(platform.pages.contains_key(&(Vm::L1, 0)));
            assert_eq!(module.tdh_mem_range_block(platform, 0, Page2M), Ok(()));
            assert_eq!(module.tdh_mem_track(), Ok(()));
            assert_eq!(remove(module, platform), Ok(()));
            assert_eq!(remove(module, platform), Err(entry_state_incorrect()));
        });
    }
}
