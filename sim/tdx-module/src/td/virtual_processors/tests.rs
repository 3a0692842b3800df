use crate::platform::{Platform, Register, Vm};
use crate::td::seamcall;
use crate::test_platform::TestPlatform;
use crate::{Action, Configuration, Module, TdParams, VpEnterInput};
use tdx_defs::status::Status;

const OP_STATE: Status = Status::new(seamcall::OP_STATE_INCORRECT, 0);
const EXCEEDED: Status = Status::new(seamcall::MAX_VCPUS_EXCEEDED, 0);
const VCPU_STATE: Status = Status::new(seamcall::VCPU_STATE_INCORRECT, 0);
const ARGUMENT: u64 = 0x80_0000;

fn td(max_vcpus: u16) -> (Module, TestPlatform) {
    let mut module = Module::new(Configuration::default());
    let mut platform = TestPlatform::default();
    let params = TdParams {
        max_vcpus,
        ..TdParams::default()
    };
    module.tdh_mng_init(&mut platform, &params).unwrap();
    (module, platform)
}

/// A running TD with all its virtual processors.
fn running(vcpus: u16) -> (Module, TestPlatform) {
    let (mut module, mut platform) = td(vcpus);
    for _ in 0..vcpus {
        module.tdh_vp_init(&mut platform, ARGUMENT).unwrap();
    }
    module.tdh_mr_finalize().unwrap();
    (module, platform)
}

#[test]
fn they_are_initialized_while_the_td_is_built_and_up_to_max_vcpus() {
    let mut module = Module::new(Configuration::default());
    let mut platform = TestPlatform::default();
    let platform = &mut platform;
    assert_eq!(module.tdh_vp_init(platform, ARGUMENT), Err(OP_STATE));
    let (mut module, mut platform) = td(3);
    let platform = &mut platform;
    assert_eq!(module.take_up_vcpu(platform, 1), Err(VCPU_STATE));
    for count in 1..=3 {
        assert_eq!(module.tdh_vp_init(platform, ARGUMENT), Ok(()));
        assert_eq!((module.num_vcpus(), module.vcpu_index()), (count, 0));
    }
    assert_eq!(module.tdh_vp_init(platform, ARGUMENT), Err(EXCEEDED));
    assert_eq!(module.take_up_vcpu(platform, 3), Err(VCPU_STATE));
    let (mut module, mut platform) = running(1);
    assert_eq!(module.tdh_vp_init(&mut platform, ARGUMENT), Err(OP_STATE));
}

#[test]
fn each_starts_at_the_reset_vector_with_its_index_in_rsi() {
    let (mut module, mut platform) = running(3);
    let platform = &mut platform;
    for index in [2, 0, 1] {
        module.take_up_vcpu(platform, index).unwrap();
        let mut register = |register| platform.register(Vm::L1, register);
        assert_eq!(register(Register::Rip), 0xffff_fff0);
        assert_eq!(register(Register::Rsi), u64::from(index));
        assert_eq!(register(Register::R8), ARGUMENT);
        let entered = module.tdh_vp_enter(platform, VpEnterInput::default());
        assert_eq!(entered, Action::Run(Vm::L1));
    }
}

#[test]
fn registers_stay_with_their_virtual_processor() {
    let (mut module, mut platform) = running(2);
    let platform = &mut platform;
    platform.set_register(Vm::L1, Register::Rbx, 0x1111);
    module.take_up_vcpu(platform, 1).unwrap();
    platform.set_register(Vm::L1, Register::Rbx, 0x2222);
    module.take_up_vcpu(platform, 0).unwrap();
    assert_eq!(platform.register(Vm::L1, Register::Rbx), 0x1111);
    module.take_up_vcpu(platform, 1).unwrap();
    assert_eq!(platform.register(Vm::L1, Register::Rbx), 0x2222);
}

#[test]
fn one_that_a_logical_processor_is_in_is_not_entered_again() {
    let (mut module, mut platform) = running(2);
    let platform = &mut platform;
    let enter = |module: &mut Module, platform: &mut TestPlatform| match module
        .tdh_vp_enter(platform, VpEnterInput::default())
    {
        Action::Run(_) | Action::Held => Status::SUCCESS,
        Action::TdExit(exit) => Status(exit.registers.rax),
    };
    assert_eq!(enter(&mut module, platform), Status::SUCCESS);
    assert_eq!(enter(&mut module, platform), VCPU_STATE);
    module.take_up_vcpu(platform, 1).unwrap();
    assert_eq!(enter(&mut module, platform), Status::SUCCESS);
    module.take_up_vcpu(platform, 0).unwrap();
    assert_eq!(enter(&mut module, platform), VCPU_STATE);
    let left = module.handle_exit(platform, crate::HardwareExit::Interrupt.into());
    assert!(matches!(left, Action::TdExit(_)));
    assert_eq!(enter(&mut module, platform), Status::SUCCESS);
}
