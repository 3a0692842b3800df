//! Building a TD: TDH.MNG.INIT, TDH.MEM.PAGE.ADD, TDH.MR.EXTEND, TDH.MR.FINALIZE.

use crate::metadata::VALUE_NOT_VALID;
use crate::module::Module;
use crate::platform::Platform;
use crate::td::params::TdParams;
use crate::td::sept::{Leaf, LeafState, SecureEpt, Walk};
use crate::td::{OpState, seamcall};
use tdx_defs::PageLevel;
use tdx_defs::attributes::VmAttributes;
use tdx_defs::field::TdCtls;
use tdx_defs::status::{Operand, Status};
use x86_defs::paging::PAGE_4K;

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
        self.td.sept = SecureEpt::new(params.ept_levels());
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
        if !target.is_multiple_of(PAGE_4K) {
            return Err(Status::operand_invalid(Operand::R8));
        }
        self.require_free(gpa, PageLevel::Page4K)?;
        let mut page = [0; PAGE_4K as usize];
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
            Walk::Free(_) => Ok(()),
            Walk::Leaf(_) | Walk::NonLeaf => Err(entry_state_incorrect()),
        }
    }
}

pub(super) fn entry_state_incorrect() -> Status {
    Status::new(seamcall::EPT_ENTRY_STATE_INCORRECT, Operand::RCX.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::sha384;
    use crate::platform::{Register, SegmentName, Vm};
    use crate::test_platform::TestPlatform;
    use crate::{Action, Configuration, VpEnterInput};
    use alloc::vec::Vec;

    fn fresh() -> (Module, TestPlatform) {
        (
            Module::new(Configuration::default()),
            TestPlatform::default(),
        )
    }

    const OP_STATE: Status = Status::new(seamcall::OP_STATE_INCORRECT, 0);
    const RCX: Status = Status::operand_invalid(Operand::RCX);

    #[test]
    fn calls_come_in_the_order_of_the_life_cycle() {
        let (mut module, mut platform) = fresh();
        let platform = &mut platform;
        let params = TdParams::default();
        let enter = |module: &mut Module, platform: &mut TestPlatform| match module
            .tdh_vp_enter(platform, VpEnterInput::default())
        {
            Action::TdExit(exit) => Status(exit.registers.rax),
            Action::Run(_) | Action::Held => Status::SUCCESS,
        };
        assert_eq!(module.tdh_mem_page_add(platform, 0, 0, 0), Err(OP_STATE));
        assert_eq!(module.tdh_vp_init(platform, 0), Err(OP_STATE));
        assert_eq!(module.tdh_mr_finalize(), Err(OP_STATE));
        assert_eq!(module.tdh_mng_init(platform, &params), Ok(()));
        assert_eq!(module.tdh_mng_init(platform, &params), Err(OP_STATE));
        let early = module.tdh_mem_page_aug(platform, 0, PageLevel::Page4K, 0);
        assert_eq!(early, Err(OP_STATE));
        assert_eq!(enter(&mut module, platform), OP_STATE);
        assert_eq!(module.tdh_vp_init(platform, 0), Ok(()));
        let exceeded = Status::new(seamcall::MAX_VCPUS_EXCEEDED, 0);
        assert_eq!(module.tdh_vp_init(platform, 0), Err(exceeded));
        assert_eq!(module.tdh_mr_finalize(), Ok(()));
        assert_eq!(module.tdh_vp_init(platform, 0), Err(OP_STATE));
        assert_eq!(module.tdh_mem_page_add(platform, 0, 0, 0), Err(OP_STATE));
        assert_eq!(module.tdh_mr_extend(platform, 0), Err(OP_STATE));
        let resume_l1 = VpEnterInput {
            resume_l1: true,
            ..VpEnterInput::default()
        };
        let Action::TdExit(exit) = module.tdh_vp_enter(platform, resume_l1) else {
            panic!("L1 is current");
        };
        assert_eq!(Status(exit.registers.rax), RCX);
        assert_eq!(enter(&mut module, platform), Status::SUCCESS);
        let active = Status::new(seamcall::VCPU_STATE_INCORRECT, 0);
        assert_eq!(enter(&mut module, platform), active);
    }

    #[test]
    fn a_virtual_processor_that_was_not_initialized_is_not_entered() {
        let (mut module, mut platform) = fresh();
        module
            .tdh_mng_init(&mut platform, &TdParams::default())
            .and_then(|()| module.tdh_mr_finalize())
            .unwrap();
        let Action::TdExit(exit) = module.tdh_vp_enter(&mut platform, VpEnterInput::default())
        else {
            panic!("it has no state");
        };
        let state = Status::new(seamcall::VCPU_STATE_INCORRECT, 0);
        assert_eq!(Status(exit.registers.rax), state);
    }

    #[test]
    fn pages_are_added_once_and_measured_where_they_are() {
        let (mut module, mut platform) = fresh();
        let platform = &mut platform;
        module.tdh_mng_init(platform, &TdParams::default()).unwrap();
        let add = |module: &mut Module, platform: &mut TestPlatform, gpa, target| {
            module.tdh_mem_page_add(platform, gpa, target, 0x9000)
        };
        assert_eq!(add(&mut module, platform, 0x1001, 0), Err(RCX));
        assert_eq!(add(&mut module, platform, 1 << 47, 0), Err(RCX));
        let r8 = Status::operand_invalid(Operand::R8);
        assert_eq!(add(&mut module, platform, 0x1000, 8), Err(r8));
        platform.write(0x9000, &[0xcd; 0x1000]);
        assert_eq!(add(&mut module, platform, 0x1000, 0x7000), Ok(()));
        let again = add(&mut module, platform, 0x1000, 0x7000);
        assert_eq!(again, Err(entry_state_incorrect()));
        assert_eq!(module.tdh_mr_extend(platform, 0x1080), Err(RCX));
        let missing = module.tdh_mr_extend(platform, 0x2000);
        assert_eq!(missing, Err(entry_state_incorrect()));
        assert_eq!(module.tdh_mr_extend(platform, 0x1f00), Ok(()));
        module.tdh_mr_finalize().unwrap();

        let mut stream = Vec::from(*b"MEM.PAGE.ADD\0\0\0\0\0\x10\0\0\0\0\0\0");
        stream.resize(128, 0);
        stream.extend_from_slice(b"MR.EXTEND\0\0\0\0\0\0\0\0\x1f\0\0\0\0\0\0");
        stream.resize(256, 0);
        stream.resize(512, 0xcd);
        assert_eq!(module.td_info().mrtd, sha384(&stream));
    }

    #[test]
    fn the_virtual_processor_starts_at_the_reset_vector_in_protected_mode() {
        let (mut module, mut platform) = fresh();
        let platform = &mut platform;
        let eax = crate::platform::CpuidResult {
            eax: 0x0008_06f8,
            ..Default::default()
        };
        platform.cpuid.insert((1, 0), eax);
        let params = TdParams::default().with_gpaw_52();
        module.tdh_mng_init(platform, &params).unwrap();
        module.tdh_vp_init(platform, 0x80_9000).unwrap();
        for (register, value) in [
            (Register::Rax, 0),
            (Register::Rbx, 52),
            (Register::Rcx, 0x80_9000),
            (Register::R8, 0x80_9000),
            (Register::Rdx, 0x0008_06f8),
            (Register::Rsi, 0),
            (Register::Rip, 0xffff_fff0),
            (Register::Rflags, 2),
            (Register::Cr0, 0x21),
            // VMXE is set in the real register, and reads as 0.
            (Register::Cr4, 0x40),
            (Register::Efer, 0x901),
            (Register::Dr7, 0x400),
            (Register::Pat, 0x0007_0406_0007_0406),
            (Register::Xcr0, 1),
            (Register::Fmask, 0x20200),
        ] {
            assert_eq!(platform.register(Vm::L1, register), value, "{register:?}");
        }
        let code = platform.segment(Vm::L1, SegmentName::Cs);
        assert_eq!((code.base, code.limit, code.access_rights), (0, !0, 0xc09b));
    }
}
