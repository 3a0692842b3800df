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

/// The same table: what INIT sets, and what it leaves. CD and NW of CR0 are as before.
#[test]
fn init_makes_the_registers_those_of_the_table() {
    use tdx_module::platform::SegmentName::*;
    let mut two = Processors::started(2);
    let dirty: Vec<_> = Register::GENERAL
        .into_iter()
        .chain([Register::Cr2, Register::Dr0, Register::Dr1])
        .chain([Register::Dr2, Register::Dr3, Register::Dr6])
        .map(|register| (register, 0x1234_5678_1234_5678))
        .collect();
    two.run(1, &dirty, HardwareExit::Interrupt).unwrap();
    two.seen[1].borrow_mut().xcr0 = 7;
    let vcpu = &mut two.at(1).vcpu;
    vcpu.vmcs.set_cr0(0x6000_0031).unwrap();
    vcpu.misc_enable = 1;
    vcpu.cstar = 0x1111;
    assert!(vcpu.mtrrs.write(0x2FF, 0xC06));
    for (field, value) in [
        (VmcsField::GUEST_DR7, 0x455),
        (VmcsField::GUEST_LDTR_SELECTOR, 0x28),
        (VmcsField::GUEST_GDTR_BASE, 0x1000),
        (VmcsField::GUEST_IDTR_LIMIT, 0xFF),
    ] {
        vcpu.vmcs.write(field, value).unwrap();
    }
    vcpu.vmcs.set_efer(x86_defs::efer::SCE).unwrap();
    two.command(0, INIT_OTHERS);
    two.command(0, START_UP_OTHERS);
    let seen = Rc::new(RefCell::new((Vec::new(), Vec::new())));
    let into = Rc::clone(&seen);
    let signature = two.l2[1].cpuid_leaf(1, 0).eax;
    let general = Register::GENERAL.map(|register| match register {
        Register::Rdx => (register, signature.into()),
        _ => (register, 0),
    });
    let mut registers = general.to_vec();
    registers.extend(DEBUG_AFTER_INIT);
    registers.extend([
        (Register::Rip, 0),
        (Register::Rflags, 2),
        (Register::Cr3, 0),
        (Register::Dr7, 0x400),
    ]);
    let code = (START_UP as u16) << 8;
    let segments = [
        (Cs, code, CODE, 0x9B),
        (Ds, 0, 0, 0x93),
        (Es, 0, 0, 0x93),
        (Ss, 0, 0, 0x93),
        (Fs, 0, 0, 0x93),
        (Gs, 0, 0, 0x93),
        (Ldtr, 0, 0, 0x82),
        (Tr, 0, 0, 0x8B),
        (Gdtr, 0, 0, 0),
        (Idtr, 0, 0, 0),
    ];
    let (asked, names) = (registers.clone(), segments.map(|(name, ..)| name));
    two.surroundings
        .model
        .on_vcpu(1)
        .push_run(move |platform, vm| {
            let register = |(register, _)| (register, platform.register(vm, register));
            let registers = asked.iter().copied().map(register).collect();
            let segment = |name| (name, platform.segment(vm, name));
            *into.borrow_mut() = (registers, names.map(segment).to_vec());
            HardwareExit::Interrupt.into()
        });
    two.step(1).unwrap();
    let (found, found_segments) = &*seen.borrow();
    assert_eq!(*found, registers);
    for ((name, selector, base, rights), (_, segment)) in segments.into_iter().zip(found_segments) {
        assert_eq!(
            (
                segment.selector,
                segment.base,
                segment.limit,
                segment.access_rights
            ),
            (selector, base, 0xFFFF, rights),
            "{name:?}"
        );
    }
    assert_eq!(two.seen[1].borrow().cr2, Some(0));
    assert_eq!(two.seen[1].borrow().xcr0, 7, "unchanged");
    let vcpu = &two.at(1).vcpu;
    let control = [vcpu.vmcs.cr0(), vcpu.vmcs.cr4(), vcpu.vmcs.efer()];
    // The module keeps NXE.
    assert_eq!(control, [0x6000_0010, 0, x86_defs::efer::NXE]);
    assert_eq!((vcpu.misc_enable, vcpu.cstar), (1, 0x1111), "unchanged");
    assert_eq!(vcpu.mtrrs.read(0x2FF), Some(0xC06), "unchanged");
}

/// SDM Vol. 3A, section "MP Initialization Protocol": one that waits for its start takes no NMI, one that has started does.
#[test]
fn an_nmi_behind_the_start_up_comes_and_one_before_it_does_not() {
    for (behind, comes) in [(false, false), (true, true)] {
        let mut two = Processors::started(2);
        two.command(0, NMI_OTHERS);
        two.command(0, INIT_OTHERS);
        two.command(0, NMI_OTHERS);
        two.command(0, START_UP_OTHERS);
        if behind {
            two.command(0, NMI_OTHERS);
        }
        two.at(1).hear().unwrap();
        assert_eq!(two.l2[1].vcpu.apic.nmi_pending(), comes);
        assert_eq!(two.l2[1].vcpu.activity, Activity::Active);
    }
    // One that waits already.
    let mut two = Processors::new(2);
    two.command(0, NMI_OTHERS);
    two.command(0, START_UP_OTHERS);
    two.at(1).hear().unwrap();
    assert!(!two.l2[1].vcpu.apic.nmi_pending());
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
