//! INIT and start-up.

use super::*;

#[test]
fn init_and_start_up_set_a_processor_to_real_mode_at_the_page_named() {
    let mut two = Processors::new(2);
    let waits = Activity::WaitsForStartUp { asleep: false };
    assert_eq!(two.l2[1].vcpu.activity, waits);
    two.command(0, INIT_OTHERS);
    two.command(0, START_UP_OTHERS);
    two.command(0, START_UP_OTHERS + 1);
    assert_eq!(two.host_msrs(), [], "it is in L1");
    let seen = Rc::new(RefCell::new(Vec::new()));
    let into = Rc::clone(&seen);
    let model = two.surroundings.model.on_vcpu(1);
    model.push_run(move |platform, vm| {
        let registers = [
            Register::Rip,
            Register::Rflags,
            Register::Rdx,
            Register::Cr0,
            Register::Cr3,
            Register::Rsp,
        ];
        let values = registers.map(|register| platform.register(vm, register));
        let code = platform.segment(vm, tdx_module::platform::SegmentName::Cs);
        into.borrow_mut().push((values, code.selector, code.base));
        HardwareExit::Interrupt.into()
    });
    two.step(1).unwrap();
    let (values, selector, base) = seen.borrow()[0];
    let [rip, rflags, rdx, cr0, cr3, rsp] = values;
    assert_eq!((rip, rflags, cr3, rsp), (0, 2, 0, 0));
    assert_eq!(cr0 & 0x8000_0001, 0, "real mode");
    assert_eq!((u64::from(selector), base), (START_UP << 8, CODE));
    assert_eq!(rdx as u32, two.l2[1].cpuid_leaf(1, 0).eax);
    assert_eq!(two.l2[1].vcpu.activity, Activity::Active);
    two.command(0, START_UP_OTHERS + 1);
    two.run(1, &[], HardwareExit::Interrupt).unwrap();
    let base = two.at(1).vcpu.vmcs.read(VmcsField::GUEST_CS_BASE);
    assert_eq!(base, Ok(CODE), "it runs already");
}

/// The one who is started, however it comes to know, is not counted among those that sleep.
#[test]
fn who_is_started_sleeps_no_more() {
    let mut two = Processors::new(2);
    two.step(1).unwrap();
    assert_eq!(
        two.l2[1].vcpu.activity,
        Activity::WaitsForStartUp { asleep: true }
    );
    // Posted when it has looked, and has found nothing.
    two.command(0, START_UP_OTHERS);
    two.run(1, &[], HardwareExit::Interrupt).unwrap();
    assert_eq!(two.l2[1].vcpu.activity, Activity::Active);
    let machine = &two.surroundings.machine;
    assert!(!machine.ending.falls_asleep(&machine.peers));
}

#[test]
fn an_apic_that_had_init_takes_no_more_at_once() {
    let mut two = Processors::started(2);
    two.command(0, INIT_OTHERS);
    two.step(1).unwrap();
    two.command(0, 1 << 32 | 0x41);
    assert!(!two.mailbox(1).is_pending());
}

/// SDM Vol. 3A, table "IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT": MSRs are unchanged.
#[test]
fn init_leaves_msrs_and_the_apics_mode_and_identity() {
    let mut two = Processors::started(2);
    let kept = [
        (VmcsField::GUEST_PAT, 0x0606_0606_0606_0606),
        (VmcsField::GUEST_SYSENTER_CS, 0x10),
        (VmcsField::GUEST_SYSENTER_EIP, 0x1234),
    ];
    for (field, value) in kept {
        two.at(1).vcpu.vmcs.write(field, value).unwrap();
    }
    two.l2[1].vcpu.apic.set_task_priority(0x20);
    two.command(0, INIT_OTHERS);
    two.command(0, START_UP_OTHERS);
    two.run(1, &[], HardwareExit::Interrupt).unwrap();
    for (field, value) in kept {
        assert_eq!(two.at(1).vcpu.vmcs.read(field), Ok(value), "{field:?}");
    }
    let apic = &two.l2[1].vcpu.apic;
    assert_eq!(apic.base(), 0xFEE0_0C00);
    assert_eq!(apic.task_priority(), 0);
    assert_eq!(apic.read_msr(Apic::ID, 0), Ok(1));
    assert_eq!(apic.read_msr(Apic::LDR, 0), Ok(0b10));
}

#[test]
fn init_in_the_middle_of_an_injection_leaves_nothing_of_it() {
    let mut two = Processors::started(2);
    // A #GP is about to be injected, and L1 is interrupted before the entry.
    two.wrmsr(1, 0x1AD, 0).unwrap();
    two.surroundings
        .model
        .with(|module, _| module.post_interrupt(1, 0xE4));
    assert_eq!(two.step(1), Ok(()));
    let pending = two.at(1).vcpu.vmcs.read(VmcsField::ENTRY_INTERRUPTION_INFO);
    assert_eq!(pending.map(|info| info >> 31), Ok(1));
    two.at(1).vcpu.vmcs.block_nmi().unwrap();
    two.command(0, NMI_OTHERS);
    two.command(0, INIT_OTHERS);
    two.command(0, START_UP_OTHERS);
    two.run(1, &[], HardwareExit::Interrupt).unwrap();
    for field in [
        VmcsField::ENTRY_INTERRUPTION_INFO,
        VmcsField::GUEST_INTERRUPTIBILITY,
    ] {
        assert_eq!(two.at(1).vcpu.vmcs.read(field), Ok(0), "{field:?}");
    }
    assert!(!two.l2[1].vcpu.apic.nmi_pending());
}
