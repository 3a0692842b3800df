//! A running TD's memory: TDH.MEM.PAGE.AUG, TDH.MEM.RANGE.BLOCK and UNBLOCK, TDH.MEM.TRACK,
//! TDH.MEM.PAGE.REMOVE.

use crate::module::Module;
use crate::platform::Platform;
use crate::td::build::entry_state_incorrect;
use crate::td::sept::{Leaf, LeafState, Walk};
use crate::td::{OpState, seamcall};
use tdcall::PageLevel;
use tdcall::attributes::VmAttributes;
use tdcall::status::{Operand, Status};

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
