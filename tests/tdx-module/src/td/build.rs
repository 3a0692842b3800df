//! Building a TD: TDH.MNG.INIT, TDH.MEM.PAGE.ADD, TDH.MR.EXTEND, TDH.MR.FINALIZE, TDH.VP.INIT.

use crate::l1;
use crate::l2;
use crate::metadata::VALUE_NOT_VALID;
use crate::module::Module;
use crate::platform::Platform;
use crate::td::params::TdParams;
use crate::td::sept::{Leaf, LeafState, Walk};
use crate::td::{OpState, seamcall};
use crate::vcpu::VcpuState;
use tdcall::PageLevel;
use tdcall::attributes::VmAttributes;
use tdcall::field::TdCtls;
use tdcall::status::{Operand, Status};

const PAGE: u64 = 0x1000;
const CHUNK: u64 = 256;

impl Module {
    /// TDH.MNG.INIT: configures the TD.
    ///
    /// # Errors
    ///
    /// OP_STATE_INCORRECT, or OPERAND_INVALID with the operand id of the parameter.
    pub fn tdh_mng_init<P: Platform>(
        &mut self,
        platform: &mut P,
        params: &TdParams,
    ) -> Result<(), Status> {
        self.require_op_state(OpState::Uninitialized)?;
        params.check()?;
        let mut uuid = [0; 32];
        platform.random(&mut uuid);
        for (word, bytes) in self.td.uuid.iter_mut().zip(uuid.chunks_exact(8)) {
            *word = bytes.iter().rev().fold(0, |w, &b| w << 8 | u64::from(b));
        }
        self.td.params = params.clone();
        self.td.td_ctls =
            TdCtls::new().with_pending_ve_disable(self.td.attributes().sept_ve_disable());
        self.td.op_state = OpState::Initialized;
        Ok(())
    }

    /// TDH.MEM.PAGE.ADD: gives the TD a 4 KiB page at `gpa` with the content of the machine page
    /// `source`, and measures its address. `target` may be `source`.
    ///
    /// # Errors
    ///
    /// OP_STATE_INCORRECT, OPERAND_INVALID (RCX, R8), EPT_ENTRY_STATE_INCORRECT (RCX).
    pub fn tdh_mem_page_add<P: Platform>(
        &mut self,
        platform: &mut P,
        gpa: u64,
        target: u64,
        source: u64,
    ) -> Result<(), Status> {
        self.require_op_state(OpState::Initialized)?;
        self.require_private_page(gpa, PageLevel::Page4K)?;
        if !target.is_multiple_of(PAGE) {
            return Err(Status::operand_invalid(Operand::R8));
        }
        self.require_free(gpa, PageLevel::Page4K)?;
        let mut page = [0; PAGE as usize];
        platform.read(source, &mut page);
        platform.write(target, &page);
        self.td.sept.insert(
            platform,
            Leaf {
                gpa,
                hpa: target,
                level: PageLevel::Page4K,
                state: LeafState::Mapped,
                aliases: [VmAttributes::new(); 3],
                blocked_at: 0,
            },
        );
        self.td.build.page_add(gpa);
        Ok(())
    }

    /// TDH.MR.EXTEND: measures the 256 bytes at `gpa`, which TDH.MEM.PAGE.ADD has added.
    ///
    /// # Errors
    ///
    /// OP_STATE_INCORRECT, OPERAND_INVALID (RCX), EPT_ENTRY_STATE_INCORRECT (RCX).
    pub fn tdh_mr_extend<P: Platform>(&mut self, platform: &mut P, gpa: u64) -> Result<(), Status> {
        self.require_op_state(OpState::Initialized)?;
        if !gpa.is_multiple_of(CHUNK) || !self.td.is_private(gpa) {
            return Err(Status::operand_invalid(Operand::RCX));
        }
        let Some(hpa) = self.td.sept.mapped(gpa) else {
            return Err(entry_state_incorrect());
        };
        let mut chunk = [0; CHUNK as usize];
        platform.read(hpa, &mut chunk);
        self.td.build.extend(gpa, &chunk);
        Ok(())
    }

    /// TDH.MR.FINALIZE: MRTD is final, and the TD can run.
    ///
    /// # Errors
    ///
    /// OP_STATE_INCORRECT.
    pub fn tdh_mr_finalize(&mut self) -> Result<(), Status> {
        self.require_op_state(OpState::Initialized)?;
        self.td.mrtd = core::mem::take(&mut self.td.build).finish();
        self.td.op_state = OpState::Runnable;
        Ok(())
    }

    /// TDH.VP.INIT: gives the virtual processor its initial state; the guest finds `rcx` in RCX
    /// and R8.
    ///
    /// # Errors
    ///
    /// OP_STATE_INCORRECT, VCPU_STATE_INCORRECT.
    pub fn tdh_vp_init<P: Platform>(&mut self, platform: &mut P, rcx: u64) -> Result<(), Status> {
        if self.td.op_state == OpState::Uninitialized {
            return Err(Status::new(seamcall::OP_STATE_INCORRECT, 0));
        }
        if self.vcpu.state != VcpuState::Uninitialized {
            return Err(Status::new(seamcall::VCPU_STATE_INCORRECT, 0));
        }
        l1::initialize(self, platform, rcx);
        l2::initialize(self, platform);
        self.vcpu.state = VcpuState::Ready;
        Ok(())
    }

    /// TDH.MNG.WR of VM_CTLS. Bit 0: a TDG.MEM.PAGE.ATTR.WR that lacks an L2 secure-EPT page is a
    /// TD exit, not an error.
    ///
    /// # Errors
    ///
    /// METADATA_FIELD_VALUE_NOT_VALID.
    pub fn tdh_mng_wr_vm_ctls(&mut self, value: u64) -> Result<(), Status> {
        if value > 1 {
            return Err(VALUE_NOT_VALID);
        }
        self.td.l2_walk_failure_exits = value != 0;
        Ok(())
    }

    pub(super) fn require_op_state(&self, op_state: OpState) -> Result<(), Status> {
        if self.td.op_state == op_state {
            Ok(())
        } else {
            Err(Status::new(seamcall::OP_STATE_INCORRECT, 0))
        }
    }

    /// RCX of the memory SEAMCALLs: an aligned private GPA.
    pub(super) fn require_private_page(&self, gpa: u64, level: PageLevel) -> Result<(), Status> {
        if gpa.is_multiple_of(level.size()) && self.td.is_private(gpa) {
            Ok(())
        } else {
            Err(Status::operand_invalid(Operand::RCX))
        }
    }

    pub(super) fn require_free(&self, gpa: u64, level: PageLevel) -> Result<(), Status> {
        match self.td.sept.walk(gpa, level) {
            Walk::Free => Ok(()),
            Walk::Leaf(_) | Walk::NonLeaf => Err(entry_state_incorrect()),
        }
    }
}

pub(super) fn entry_state_incorrect() -> Status {
    Status::new(seamcall::EPT_ENTRY_STATE_INCORRECT, Operand::RCX.0)
}
