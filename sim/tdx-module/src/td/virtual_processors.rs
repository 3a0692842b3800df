//! The TD's virtual processors: TDH.VP.INIT, what a host does to one of them by its index, and which one the logical
//! processor works on.

use crate::l1;
use crate::l2;
use crate::module::Module;
use crate::platform::Platform;
use crate::statistics::VcpuStatistics;
use crate::td::{OpState, seamcall};
use crate::vcpu::{Vcpu, VcpuState};
use core::mem;
use tdx_defs::status::Status;

impl Module {
    /// TDH.VP.CREATE and TDH.VP.INIT of the next virtual processor: VCPU_INDEX counts them from 0. The guest finds `rcx` in
    /// RCX and R8.
    ///
    /// # Errors
    ///
    /// OP_STATE_INCORRECT: before TDH.MNG.INIT, and from TDH.MR.FINALIZE on. MAX_VCPUS_EXCEEDED.
    pub fn tdh_vp_init<P: Platform>(&mut self, platform: &mut P, rcx: u64) -> Result<(), Status> {
        self.require_op_state(OpState::Initialized)?;
        let index = self.td.num_vcpus;
        if index >= u32::from(self.td.params.max_vcpus) {
            return Err(Status::new(seamcall::MAX_VCPUS_EXCEEDED, 0));
        }
        self.td.num_vcpus += 1;
        let before = self.vcpu.index;
        if index != before {
            self.other_vcpus.insert(index, Vcpu::new(index));
            self.take_up_vcpu(platform, index)?;
        }
        l1::initialize(self, platform, rcx);
        l2::initialize(self, platform);
        self.vcpu.state = VcpuState::Ready;
        self.take_up_vcpu(platform, before)
    }

    /// The logical processor turns to virtual processor `index`: TDH.VP.ENTER and
    /// [`handle_exit`](Self::handle_exit) are about that one from now on.
    ///
    /// # Errors
    ///
    /// VCPU_STATE_INCORRECT: the TD has no such virtual processor.
    pub fn take_up_vcpu<P: Platform>(
        &mut self,
        platform: &mut P,
        index: u32,
    ) -> Result<(), Status> {
        if index == self.vcpu.index {
            return Ok(());
        }
        let Some(next) = self.other_vcpus.remove(&index) else {
            return Err(Status::new(seamcall::VCPU_STATE_INCORRECT, 0));
        };
        let before = mem::replace(&mut self.vcpu, next);
        self.other_vcpus.insert(before.index, before);
        platform.take_up(index);
        Ok(())
    }

    /// VCPU_INDEX of the virtual processor that was taken up last.
    pub fn vcpu_index(&self) -> u32 {
        self.vcpu.index
    }

    /// NUM_VCPUS.
    pub fn num_vcpus(&self) -> u32 {
        self.td.num_vcpus
    }

    /// What happened on a virtual processor; zeros for one that is not there.
    pub fn vcpu_statistics(&self, index: u32) -> VcpuStatistics {
        self.vcpu_at(index)
            .map_or(VcpuStatistics::default(), |vcpu| vcpu.statistics)
    }

    /// Posts an interrupt for L1 on a virtual processor, as the host does through its posted-interrupt descriptor. Nothing
    /// happens if the TD has no such virtual processor.
    ///
    /// L1 sees it when it is entered, or, if an L2 VM is current there, by an exit of that VM.
    pub fn post_interrupt(&mut self, vcpu: u32, vector: u8) {
        if let Some(vcpu) = self.vcpu_at_mut(vcpu) {
            vcpu.l1.apic.post(vector);
        }
    }

    /// TDH.VP.WR of PEND_NMI: L1 gets an NMI on a virtual processor when it is entered there the next time and has asked
    /// about its last #VE. Nothing ends L2 for it.
    pub fn post_nmi(&mut self, vcpu: u32) {
        if let Some(vcpu) = self.vcpu_at_mut(vcpu) {
            vcpu.l1.nmi_pending = true;
        }
    }

    /// VCPU_STATE_DETAILS.VMXIP (TDH.VP.RD) of a virtual processor: an interrupt waits that L1 would take if it had
    /// RFLAGS.IF set. What a host asks before it lets a halted virtual processor sleep.
    pub fn interrupt_pending(&self, vcpu: u32) -> bool {
        self.vcpu_at(vcpu)
            .is_some_and(|vcpu| vcpu.l1.apic.is_pending())
    }

    fn vcpu_at(&self, index: u32) -> Option<&Vcpu> {
        if index == self.vcpu.index {
            return Some(&self.vcpu);
        }
        self.other_vcpus.get(&index)
    }

    fn vcpu_at_mut(&mut self, index: u32) -> Option<&mut Vcpu> {
        if index == self.vcpu.index {
            return Some(&mut self.vcpu);
        }
        self.other_vcpus.get_mut(&index)
    }
}

#[cfg(test)]
mod tests;
