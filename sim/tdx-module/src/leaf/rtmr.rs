//! TDG.MR.RTMR.EXTEND.

use crate::leaf::operand::{Memory, READ};
use crate::leaf::{LeafResult, invalid};
use crate::locks::{Object, Request};
use crate::measurement::RTMR_COUNT;
use crate::module::Module;
use crate::platform::Platform;
use tdx_defs::Registers;
use tdx_defs::status::Operand;
use tdx_defs::tdg;

const DATA_ALIGNMENT: u64 = 64;

/// Extends an RTMR with 48 bytes of private memory.
pub(super) fn mr_rtmr_extend<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &Registers,
) -> LeafResult {
    if !registers.rcx.is_multiple_of(DATA_ALIGNMENT) {
        return Err(invalid(Operand::RCX));
    }
    let hpa = module.operand(platform, Operand::RCX, registers.rcx, Memory::Private, READ)?;
    let index = match usize::try_from(registers.rdx) {
        Ok(index) if index < RTMR_COUNT => index,
        _ => return Err(invalid(Operand::RDX)),
    };
    let lock = Request {
        leaf: tdg::MR_RTMR_EXTEND,
        object: Object::Rtmrs,
        shared: false,
        operand: Operand::RTMR,
    };
    module.lock(platform, lock)?;
    let mut data = [0; 48];
    platform.read(hpa, &mut data);
    module.td.rtmrs.extend(index, &data);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TdParams;
    use crate::measurement::sha384;
    use crate::test_platform::ModelTdcall;
    use tdx_defs::PageLevel;
    use tdx_defs::status::{Code, Status};

    const MEMORY: u64 = 0x20_0000;

    fn extend(model: &ModelTdcall, rcx: u64, rdx: u64) -> Status {
        let after = model.call(Registers {
            rax: tdg::MR_RTMR_EXTEND,
            rcx,
            rdx,
            ..Registers::default()
        });
        Status(after.unwrap().rax)
    }

    #[test]
    fn operands_are_checked_in_order() {
        let model = ModelTdcall::new(&TdParams::default(), MEMORY);
        let shared = 1 << 47;
        for (rcx, rdx, operand) in [
            (0x1020, 4, Operand::RCX),
            (shared, 4, Operand::RCX),
            (1 << 48, 0, Operand::RCX),
            (1 << 52, 0, Operand::RCX),
            (0x1040, 4, Operand::RDX),
            (0x1040, 1 << 32, Operand::RDX),
        ] {
            let status = extend(&model, rcx, rdx);
            assert_eq!(status, Status::operand_invalid(operand), "{rcx:#x} {rdx}");
        }
        model.with(|module, _| module.faults().busy(tdg::MR_RTMR_EXTEND, 1));
        let busy = Status::operand_busy(Operand::RTMR);
        assert_eq!(extend(&model, 0x1040, 0), busy);
        assert_eq!(extend(&model, 0x1040, 0), Status::SUCCESS);
    }

    #[test]
    fn an_extend_chains_what_memory_holds() {
        let model = ModelTdcall::new(&TdParams::default(), MEMORY);
        model.write(0x1040, &[0x5a; 48]);
        assert_eq!(extend(&model, 0x1040, 3).code(), Code::Success);
        let mut link = [0; 96];
        link[48..].fill(0x5a);
        let td_info = model.with(|module, _| module.td_info());
        assert_eq!(td_info.rtmr, [[0; 48], [0; 48], [0; 48], sha384(&link)]);
    }

    #[test]
    fn a_missing_page_is_the_hosts_to_supply_and_a_pending_one_the_guests() {
        let params = TdParams {
            attributes: 0,
            ..TdParams::default()
        };
        let model = ModelTdcall::new(&params, 0);
        // The default host supplies the page, so that the repeated call finds it pending.
        let result = model.call(Registers {
            rax: tdg::MR_RTMR_EXTEND,
            rcx: 0x1000,
            ..Registers::default()
        });
        assert_eq!(result, Err(crate::platform::Event::VIRTUALIZATION));
        model.with(|module, platform| {
            let page = module.td.sept.find(0x1000).unwrap();
            assert_eq!(page.level, PageLevel::Page4K);
            assert!(module.machine_address(platform, 0x1000).is_none());
            assert_eq!(module.vcpu.l1.ve_info.unwrap().gpa, 0x1000);
        });
    }
}
