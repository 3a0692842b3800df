//! The TDG.* leaves that L1 calls, one file for each family.
//!
//! A leaf reads and writes a copy of the caller's registers; the copy reaches the caller only if
//! the leaf completes. Whatever is not a plain success is an `Err` with a [`LeafEnd`].

mod accept;
mod attributes;
mod info;
mod key;
mod metadata;
pub(crate) mod operand;
mod report;
mod rtmr;
mod veinfo;
pub(crate) mod vmcall;

use crate::l1::VeInfo;
use crate::l2;
use crate::module::Module;
use crate::platform::{Action, Platform, Register, Vm};
use crate::transition::AsynchronousExit;
use tdx_defs::Registers;
use tdx_defs::status::{Operand, Status};
use tdx_defs::tdg;

/// Length of the TDCALL instruction.
pub(crate) const TDCALL_LENGTH: u64 = 4;

/// How a TDCALL ends, if not in success.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LeafEnd {
    /// The leaf completed with this status: RAX has it, RIP is past the TDCALL.
    Status(Status),
    /// TDG.VP.VMCALL: RIP is past the TDCALL, and the host gets the registers in the mask.
    Tdvmcall { mask: u64 },
    /// The host has to act first: nothing changes, and the call is repeated after the TD entry.
    TdExit(AsynchronousExit),
    /// The caller gets #VE: nothing else changes.
    VirtualizationException(VeInfo),
    /// An interrupt came first: nothing changes, and the call is repeated.
    Interrupted,
    /// The host waits for the lock: TDX_OPERAND_BUSY, unless that has gone on for too long.
    HostPriority(Status),
    /// The leaf has its lock, and goes on when the host lets it.
    Held,
}

impl From<Status> for LeafEnd {
    fn from(status: Status) -> LeafEnd {
        LeafEnd::Status(status)
    }
}

/// What a leaf returns; see [`LeafEnd`].
pub(crate) type LeafResult = Result<(), LeafEnd>;

/// A status error for the operand in `operand`.
pub(crate) fn invalid(operand: Operand) -> LeafEnd {
    Status::operand_invalid(operand).into()
}

/// Serves the TDCALL at L1's RIP. The caller has checked CPL and mode.
pub(crate) fn tdcall<P: Platform>(module: &mut Module, platform: &mut P) -> Action {
    let leaf = platform.register(Vm::L1, Register::Rax) & 0xffff;
    module.count_tdcall(leaf);
    call(module, platform)
}

impl Module {
    /// The virtual processor that [`Action::Held`] was about goes on with its TDCALL.
    pub fn finish_held<P: Platform>(&mut self, platform: &mut P) -> Action {
        let action = call(self, platform);
        self.vcpu.held = false;
        self.locks.release(self.vcpu.index);
        action
    }
}

fn call<P: Platform>(module: &mut Module, platform: &mut P) -> Action {
    let mut registers = read_registers(platform, Vm::L1);
    let end = match dispatch(module, platform, &mut registers) {
        Ok(None) => LeafEnd::Status(Status::SUCCESS),
        Ok(Some(action)) => return action,
        Err(end) => end,
    };
    if !matches!(end, LeafEnd::HostPriority(_) | LeafEnd::Held) {
        module.vcpu.host_priority_since = None;
    }
    match end {
        LeafEnd::HostPriority(status) if module.is_host_priority_stuck(platform) => {
            registers.rax = status.0;
            write_registers(platform, Vm::L1, &registers);
            module.advance_l1_over_tdcall(platform);
            module.td_exit_host_priority()
        }
        LeafEnd::Held => {
            module.vcpu.held = true;
            Action::Held
        }
        LeafEnd::Status(status) | LeafEnd::HostPriority(status) => {
            registers.rax = status.0;
            module.complete_tdcall(platform, &registers)
        }
        LeafEnd::Tdvmcall { mask } => {
            platform.set_register(Vm::L1, Register::Rax, 0);
            module.advance_l1_over_tdcall(platform);
            module.td_exit_tdvmcall(platform, mask)
        }
        LeafEnd::TdExit(exit) => module.td_exit(exit),
        LeafEnd::VirtualizationException(information) => {
            module.inject_ve(platform, information);
            module.run_l1(platform)
        }
        LeafEnd::Interrupted => module.run_l1(platform),
    }
}

/// Calls the leaf. TDG.VP.ENTER may not end here: it gives what happens instead, and
/// [`Module::complete_tdcall`] ends it later.
fn dispatch<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &mut Registers,
) -> Result<Option<Action>, LeafEnd> {
    let leaf = registers.rax & 0xffff;
    let version = registers.rax >> tdg::VERSION_SHIFT & 0xff;
    let reserved = registers.rax >> 24;
    if reserved != 0 || version != 0 && leaf != tdg::VM_RD {
        return Err(invalid(Operand::RAX));
    }
    match leaf {
        tdg::VP_VMCALL => vmcall::vp_vmcall(module, registers),
        tdg::VP_INFO => info::vp_info(module, registers),
        tdg::MR_RTMR_EXTEND => rtmr::mr_rtmr_extend(module, platform, registers),
        tdg::VP_VEINFO_GET => veinfo::vp_veinfo_get(module, registers),
        tdg::MR_REPORT => report::mr_report(module, platform, registers),
        tdg::VP_CPUIDVE_SET => info::vp_cpuidve_set(module, registers),
        tdg::MEM_PAGE_ACCEPT => accept::mem_page_accept(module, platform, registers),
        tdg::VM_RD => metadata::vm_rd(module, registers, version),
        tdg::VM_WR => metadata::vm_wr(module, registers),
        tdg::VP_RD => metadata::vp_rd(module, platform, registers),
        tdg::VP_WR => metadata::vp_wr(module, platform, registers),
        tdg::SYS_RD => metadata::sys_rd(module, registers),
        tdg::SYS_RDALL => metadata::sys_rdall(module, platform, registers),
        tdg::MR_VERIFYREPORT => report::mr_verifyreport(module, platform, registers),
        tdg::MR_KEY_GET => key::mr_key_get(module, platform, registers),
        tdg::MEM_PAGE_ATTR_RD => attributes::mem_page_attr_rd(module, platform, registers),
        tdg::MEM_PAGE_ATTR_WR => attributes::mem_page_attr_wr(module, platform, registers),
        tdg::VP_ENTER => return l2::vp_enter(module, platform, registers).map(Some),
        tdg::VP_INVEPT => l2::vp_invept(module, platform, registers),
        tdg::VP_INVGLA => l2::vp_invgla(module, platform, registers),
        _ => Err(invalid(Operand::RAX)),
    }?;
    Ok(None)
}

impl Module {
    /// Ends L1's TDCALL: `registers` are the caller's, RAX included; RIP moves past the call.
    pub(crate) fn complete_tdcall<P: Platform>(
        &mut self,
        platform: &mut P,
        registers: &Registers,
    ) -> Action {
        write_registers(platform, Vm::L1, registers);
        self.advance_l1_over_tdcall(platform);
        self.run_l1(platform)
    }
}

/// The general registers of `vm` but RSP.
pub(crate) fn read_registers<P: Platform>(platform: &mut P, vm: Vm) -> Registers {
    let [
        rax,
        rcx,
        rdx,
        rbx,
        _,
        rbp,
        rsi,
        rdi,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
    ] = platform.general_registers(vm);
    Registers {
        rax,
        rcx,
        rdx,
        rbx,
        rbp,
        rsi,
        rdi,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
    }
}

/// Sets the general registers of `vm` but RSP.
pub(crate) fn write_registers<P: Platform>(platform: &mut P, vm: Vm, registers: &Registers) {
    let rsp = platform.register(vm, Register::Rsp);
    let values = [
        registers.rax,
        registers.rcx,
        registers.rdx,
        registers.rbx,
        rsp,
        registers.rbp,
        registers.rsi,
        registers.rdi,
        registers.r8,
        registers.r9,
        registers.r10,
        registers.r11,
        registers.r12,
        registers.r13,
        registers.r14,
        registers.r15,
    ];
    platform.set_general_registers(vm, &values);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Event;
    use crate::test_platform::ModelTdcall;
    use crate::{HardwareExit, TdParams};
    use tdx_defs::PageLevel;

    fn call(model: &ModelTdcall, rax: u64) -> u64 {
        model
            .call(Registers {
                rax,
                ..Registers::default()
            })
            .unwrap()
            .rax
    }

    #[test]
    fn rax_has_a_leaf_a_version_and_nothing_else() {
        let model = ModelTdcall::new(&TdParams::default(), 0);
        let invalid_rax = Status::operand_invalid(Operand::RAX).0;
        assert_eq!(call(&model, tdg::VP_INFO), 0);
        for rax in [13, 17, 18, 20, 21, 28, 29, 33, 254, 0xffff] {
            assert_eq!(call(&model, rax), invalid_rax, "leaf {rax}");
        }
        for bit in 16..64 {
            assert_eq!(
                call(&model, tdg::VP_INFO | 1 << bit),
                invalid_rax,
                "bit {bit}"
            );
        }
        assert_ne!(call(&model, tdg::VM_RD | 1 << 16), invalid_rax);
        assert_eq!(call(&model, tdg::VM_RD | 2 << 16), invalid_rax);
        assert_eq!(call(&model, tdg::VP_RD | 1 << 16), invalid_rax);
    }

    #[test]
    fn registers_that_a_leaf_does_not_list_keep_their_value() {
        let model = ModelTdcall::new(&TdParams::default(), 0);
        let before = Registers {
            rax: tdg::VP_INFO,
            rbx: 1,
            rbp: 2,
            rsi: 3,
            rdi: 4,
            r12: 5,
            r13: 6,
            r14: 7,
            r15: 8,
            ..Registers::default()
        };
        let after = model.call(before).unwrap();
        let kept = |r: &Registers| (r.rbx, r.rbp, r.rsi, r.rdi, r.r12, r.r13, r.r14, r.r15);
        assert_eq!(kept(&after), kept(&before));
    }

    #[test]
    fn only_64_bit_supervisor_code_may_call() {
        let model = ModelTdcall::new(&TdParams::default(), 0);
        let attempt = || {
            model.call(Registers {
                rax: tdg::VP_INFO,
                ..Registers::default()
            })
        };
        model.with(|_, platform| platform.set_register(Vm::L1, Register::Cpl, 3));
        assert_eq!(attempt(), Err(Event::GENERAL_PROTECTION));
        model.with(|_, platform| {
            platform.set_register(Vm::L1, Register::Cpl, 0);
            let name = crate::platform::SegmentName::Cs;
            let mut compatibility = platform.segment(Vm::L1, name);
            compatibility.access_rights = 0xc09b;
            platform.set_segment(Vm::L1, name, compatibility);
        });
        assert_eq!(attempt(), Err(Event::GENERAL_PROTECTION));
    }

    #[test]
    fn an_undefined_opcode_that_is_no_tdcall_stays_one() {
        let model = ModelTdcall::new(&TdParams::default(), 0);
        let rip = model.with(|_, platform| platform.register(Vm::L1, Register::Rip));
        model.write(rip & !0xfff, &[0x0f, 0x0b, 0, 0]);
        let result = model.call(Registers::default());
        assert_eq!(result, Err(Event::INVALID_OPCODE));
    }

    #[test]
    fn an_interrupted_leaf_is_called_again() {
        let model = ModelTdcall::new(&TdParams::default(), 0);
        model.augment(0x20_0000, PageLevel::Page2M);
        model.with(|module, _| module.faults().interrupt(tdg::MEM_PAGE_ACCEPT, 3));
        let accepted = model.call(Registers {
            rax: tdg::MEM_PAGE_ACCEPT,
            rcx: 0x20_0001,
            ..Registers::default()
        });
        assert_eq!(accepted.unwrap().rax, 0);
        model.with(|module, _| {
            assert_eq!(module.statistics().tdcalls()[&tdg::MEM_PAGE_ACCEPT], 4);
        });
    }

    #[test]
    fn a_host_interrupt_leaves_the_td_and_comes_back() {
        let model = ModelTdcall::new(&TdParams::default(), 0);
        let (exit, entry) = model.with(|module, platform| {
            let exit = module.handle_exit(platform, HardwareExit::Interrupt.into());
            (
                exit,
                module.tdh_vp_enter(platform, crate::VpEnterInput::default()),
            )
        });
        let Action::TdExit(exit) = exit else {
            panic!("{exit:?}")
        };
        assert_eq!(exit.registers.rax, 1);
        assert_eq!(entry, Action::Run(Vm::L1));
    }
}
