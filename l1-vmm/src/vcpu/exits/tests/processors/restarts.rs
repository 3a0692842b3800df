//! The machine's reset, after which its processors go on anew.

use super::*;
use crate::vcpu::set_up::segment_fields;
use alloc::vec;
use l2_exit::SegmentRegister;

impl Processors {
    /// The run ends so on one, and the others stop.
    fn end(&mut self, by: usize, end: End) {
        assert_eq!(self.conclude(by, end.clone()), Some(end));
        for index in (0..self.l2.len()).filter(|index| *index != by) {
            assert!(!self.l2[by].is_alone());
            assert_eq!(self.step(index), Err(End::Stopped));
            assert_eq!(self.conclude(index, End::Stopped), None);
            assert!(!self.l2[index].is_restarted());
        }
        self.surroundings.machine.reset();
        assert!(self.l2[by].is_alone());
    }

    /// All of them go on anew.
    fn restart(&mut self, by: usize) {
        self.at(by).restart();
        let l2 = core::mem::take(&mut self.l2);
        for (index, l2) in (0..).zip(l2) {
            assert!(l2.is_restarted());
            self.surroundings.current.set(index.into());
            let anew = l2.anew(&layout(index), &boot_state()).unwrap();
            assert!(!anew.is_restarted());
            self.l2.push(anew);
        }
    }

    fn vmcs(&mut self, index: usize, field: VmcsField) -> u64 {
        self.at(index).vcpu.vmcs.read(field).unwrap()
    }
}

#[test]
fn after_a_reset_the_first_starts_and_the_others_wait() {
    let mut three = Processors::started(3);
    three.end(1, End::Reset);
    three.restart(1);
    assert!(three.seen.iter().all(|seen| seen.borrow().l2_resets == 1));
    assert_eq!(three.l2[0].vcpu.activity, Activity::Active);
    assert_eq!(three.l2[0].vcpu.vmcs.state().rip, UPPER + CODE);
    let waits = Activity::WaitsForStartUp { asleep: false };
    for index in 1..3 {
        assert_eq!(three.l2[index].vcpu.activity, waits);
    }
    // The first brings them as it did at first, and interrupts find them.
    three.enable_apic(0);
    three.command(0, INIT_OTHERS);
    three.command(0, START_UP_OTHERS);
    for index in 1..3 {
        three.run(index, &[], HardwareExit::Interrupt).unwrap();
        assert_eq!(three.l2[index].vcpu.activity, Activity::Active);
        three.enable_apic(index);
    }
    three.command(0, 2 << 32 | 0x41);
    three.run(2, &[], HardwareExit::Interrupt).unwrap();
    assert_eq!(three.l2[2].vcpu.apic.status().rvi, 0x41);
}

#[test]
fn what_was_under_way_is_void() {
    let mut two = Processors::started(2);
    two.post(0, 1);
    let _ = two.mailbox(1).post_nmi();
    let _ = two.mailbox(0).post_startup(7);
    two.surroundings.seen.borrow_mut().tpm_line = true;
    two.l2[1].vcpu.apic.request(0x51, true);
    assert_eq!(two.conclude(0, End::Reset), Some(End::Reset));
    assert_eq!(two.conclude(1, End::Stopped), None);
    let _ = two.mailbox(1).post_vector(0x42, true);
    two.surroundings.machine.reset();
    two.restart(0);
    for index in 0..2 {
        assert_eq!(two.mailbox(index).take(), None);
        let apic = &two.l2[index].vcpu.apic;
        assert!(!apic.nmi_pending() && apic.status().rvi == 0);
        assert!(two.l2[index].vcpu.kicks.are_heard());
    }
    // The TPM serves L2 again.
    let registers = [
        (Register::Rip, two.code(0, LOAD)),
        (Register::Rbx, TPM + 0xF00),
    ];
    let fault = HardwareExit::NestedPageFault {
        gpa: TPM + 0xF00,
        write: false,
        fetch: false,
        page_walk: false,
    };
    two.run(0, &registers, fault).unwrap();
    assert_eq!(two.seen[0].borrow().tpm.len(), 1);
}

#[test]
fn a_processor_that_does_not_stop_keeps_the_machine_from_restarting() {
    let mut three = Processors::started(3);
    assert_eq!(three.conclude(0, End::Reset), Some(End::Reset));
    for index in [1, 2] {
        assert!(!three.l2[0].is_alone());
        assert_eq!(three.conclude(index, End::Stopped), None);
    }
    assert!(three.l2[0].is_alone());
}

#[test]
fn what_was_counted_is_kept_and_counted_once() {
    let mut two = Processors::started(2);
    for index in [0, 1, 1] {
        two.run(index, &[], HardwareExit::Interrupt).unwrap();
    }
    let before = two.l2.iter().map(|l2| l2.own_statistics().total());
    let before: u64 = before.sum();
    assert!(before >= 3);
    for by in [0, 1, 0] {
        two.end(by, End::Reset);
        two.restart(by);
        assert_eq!(two.l2[0].statistics().total(), before);
    }
    two.run(0, &[], HardwareExit::Interrupt).unwrap();
    assert_eq!(two.l2[0].statistics().total(), before + 1);
}

/// L2 has written to all of them that it can write to.
#[test]
fn registers_are_those_of_a_first_start() {
    let mut one = Processors::new(1);
    let mut fields = vec![
        VmcsField::GUEST_CR0,
        VmcsField::GUEST_CR3,
        VmcsField::GUEST_CR4,
        VmcsField::CR0_READ_SHADOW,
        VmcsField::CR4_READ_SHADOW,
        VmcsField::GUEST_EFER,
        VmcsField::GUEST_DR7,
        VmcsField::GUEST_DEBUGCTL,
        VmcsField::GUEST_PAT,
        VmcsField::GUEST_SYSENTER_CS,
        VmcsField::GUEST_SYSENTER_ESP,
        VmcsField::GUEST_SYSENTER_EIP,
        VmcsField::GUEST_GDTR_BASE,
        VmcsField::GUEST_GDTR_LIMIT,
        VmcsField::GUEST_IDTR_BASE,
        VmcsField::GUEST_IDTR_LIMIT,
        VmcsField::GUEST_LDTR_BASE,
        VmcsField::GUEST_TR_BASE,
        VmcsField::GUEST_INTERRUPTIBILITY,
        VmcsField::GUEST_PENDING_DEBUG_EXCEPTIONS,
        VmcsField::ENTRY_INTERRUPTION_INFO,
        VmcsField::ENTRY_CONTROLS,
        VmcsField::PRIMARY_CONTROLS,
        VmcsField::SECONDARY_CONTROLS,
        VmcsField::EXCEPTION_BITMAP,
    ];
    for register in [
        SegmentRegister::Cs,
        SegmentRegister::Ds,
        SegmentRegister::Es,
        SegmentRegister::Ss,
        SegmentRegister::Fs,
        SegmentRegister::Gs,
    ] {
        fields.extend(segment_fields(register));
    }
    let mut fresh = Processors::new(1);
    fresh.l2[0] = fresh.surroundings.processor(0, Rc::clone(&fresh.seen[0]));
    let expected: Vec<_> = fields.iter().map(|field| fresh.vmcs(0, *field)).collect();

    let vmcs = &mut one.at(0).vcpu.vmcs;
    for (field, value) in [
        (VmcsField::GUEST_DEBUGCTL, 1),
        (VmcsField::GUEST_PAT, 0x0007_0106_0007_0106),
        (VmcsField::GUEST_SYSENTER_CS, 0x10),
        (VmcsField::GUEST_SYSENTER_ESP, 0x1000),
        (VmcsField::GUEST_SYSENTER_EIP, 0x2000),
        (VmcsField::GUEST_DR7, 0x455),
        (VmcsField::GUEST_GDTR_BASE, 0x3000),
        (VmcsField::GUEST_IDTR_LIMIT, 0),
        (VmcsField::GUEST_FS_BASE, 0x4000),
        (VmcsField::GUEST_GS_BASE, 0x5000),
        (VmcsField::GUEST_TR_BASE, 0x6000),
        (VmcsField::GUEST_INTERRUPTIBILITY, 8),
    ] {
        vmcs.write(field, value).unwrap();
    }
    vmcs.set_cr3(0x7000).unwrap();
    vmcs.set_nmi_window(true).unwrap();
    vmcs.set_interrupt_window(true).unwrap();
    vmcs.set_gpr(l2_exit::Gpr::Rax, 7);
    one.at(0).vcpu.misc_enable = 0;
    one.at(0).vcpu.cstar = 8;
    one.end(0, End::Reset);
    one.restart(0);
    let anew: Vec<_> = fields.iter().map(|field| one.vmcs(0, *field)).collect();
    assert_eq!(anew, expected);
    let vcpu = &one.l2[0].vcpu;
    assert_eq!(vcpu.vmcs.state(), fresh.l2[0].vcpu.vmcs.state());
    assert_eq!((vcpu.misc_enable, vcpu.cstar), (0x1801, 0));
    assert_eq!(vcpu.apic.base(), 0xFEE0_0900);
}
