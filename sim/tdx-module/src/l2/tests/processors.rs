//! L2 on several virtual processors: what each has for itself, and interrupts from one to another.

use super::VM;
use crate::TdParams;
use crate::platform::{Action, Event, HardwareExit, Permissions, Platform, Register, Vm};
use crate::test_platform::ModelTdcall;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use tdx_defs::attributes::{AttrFlags, GpaAttributes, Mapping, VmAttributeFlags, VmAttributes};
use tdx_defs::field::FieldId;
use tdx_defs::status::{Code, Status};
use tdx_defs::vmcs::VmcsField;
use tdx_defs::{Gpa, PageLevel, Registers, tdg};

const STATE: u64 = 0x1_0000;
const VAPIC: u64 = 0x1_1000;
/// From one virtual processor's pages to the next one's.
const STRIDE: u64 = 0x2000;
const KICK: u8 = 0xe0;

/// L1 on one of the virtual processors, with an L2 VM in its reset state.
struct Processor {
    model: ModelTdcall,
    index: u32,
    state: u64,
}

impl Processor {
    fn call(&self, registers: Registers) -> Registers {
        self.model.call(registers).unwrap()
    }

    fn write(&self, id: FieldId, value: u64) {
        let written = self.call(Registers {
            rax: tdg::VP_WR,
            rdx: id.0,
            r8: value,
            r9: u64::MAX,
            ..Registers::default()
        });
        assert_eq!(Status(written.rax), Status::SUCCESS, "{id:x?}");
    }

    fn read(&self, id: FieldId) -> u64 {
        let read = self.call(Registers {
            rax: tdg::VP_RD,
            rdx: id.0,
            ..Registers::default()
        });
        assert_eq!(Status(read.rax), Status::SUCCESS, "{id:x?}");
        read.r8
    }

    fn use_vapic(&self, page: u64) {
        let field = FieldId::l2_vmcs(VM, VmcsField::VIRTUAL_APIC_ADDRESS);
        self.write(field, page);
    }

    fn entering(&self) -> Registers {
        Registers {
            rax: tdg::VP_ENTER,
            rcx: u64::from(VM.get()) << 52,
            rdx: self.state,
            ..Registers::default()
        }
    }

    fn enter(&self) -> Status {
        Status(self.call(self.entering()).rax)
    }

    /// Sets what L2 may do with the first 2 MiB.
    fn allow(&self, attributes: VmAttributes, invept: bool) {
        let flags = VmAttributeFlags::new().with_mask(0xf).with_invept(invept);
        let written = self.call(Registers {
            rax: tdg::MEM_PAGE_ATTR_WR,
            rcx: Mapping::page(Gpa(0), PageLevel::Page2M).into_bits(),
            rdx: GpaAttributes::of(VM, attributes.with_valid(true)).0,
            r8: AttrFlags::of(VM, flags).0,
            ..Registers::default()
        });
        assert_eq!(Status(written.rax), Status::SUCCESS);
    }

    /// A run of L2 by an entry with these flush bits: what it may do there while it runs.
    fn run_with(&self, flush: u64) -> Permissions {
        let seen = Rc::new(Cell::new(Permissions::default()));
        let log = Rc::clone(&seen);
        self.model.push_run(move |platform, vm| {
            let page = platform.pages.get(&(vm, 0));
            log.set(page.map_or(Permissions::default(), |page| page.permissions));
            HardwareExit::Hlt.into()
        });
        let mut call = self.entering();
        call.rcx |= flush;
        assert_eq!(Status(self.call(call).rax).code(), Code::Success);
        seen.get()
    }

    fn run(&self) -> Permissions {
        self.run_with(0)
    }

    fn invept(&self) {
        let called = self.call(Registers {
            rax: tdg::VP_INVEPT,
            rcx: 1 << VM.get(),
            ..Registers::default()
        });
        assert_eq!(Status(called.rax), Status::SUCCESS);
    }

    /// TDG.VP.ENTER up to where L2 runs.
    fn start_l2(&self) {
        self.model.push_run(|_, _| HardwareExit::Hlt.into());
        assert_eq!(self.enter().code(), Code::Success);
        let action = self.model.with(|module, platform| {
            let rip = platform.register(Vm::L1, Register::Rip);
            let call = self.entering();
            for (register, value) in [
                (Register::Rip, rip - 4),
                (Register::Rax, call.rax),
                (Register::Rcx, call.rcx),
                (Register::Rdx, call.rdx),
            ] {
                platform.set_register(Vm::L1, register, value);
            }
            let tdcall = HardwareExit::Exception {
                vector: 6,
                error_code: None,
                cr2: 0,
            };
            module.handle_exit(platform, tdcall.into())
        });
        assert_eq!(action, Action::Run(Vm::L2(VM)));
    }

    fn exit(&self, exit: HardwareExit) -> Action {
        self.model
            .with(|module, platform| module.handle_exit(platform, exit.into()))
    }

    fn td_entry(&self) -> Action {
        self.model
            .with(|module, platform| module.tdh_vp_enter(platform, crate::VpEnterInput::default()))
    }

    fn rax(&self) -> u64 {
        self.model
            .with(|_, platform| platform.register(Vm::L1, Register::Rax))
    }

    /// What the next run of L1 begins with.
    fn injected(&self) -> Option<Event> {
        self.model
            .with(|_, platform| platform.injected.get(&Vm::L1).copied())
    }

    /// Another one kicks this one.
    fn is_kicked(&self) {
        let index = self.index;
        let other = self.model.on_vcpu(1 - index);
        other.with(|module, _| module.post_interrupt(index, KICK));
    }
}

/// All virtual processors of a TD with two.
fn two() -> [Processor; 2] {
    let params = TdParams {
        max_vcpus: 2,
        ..TdParams::default()
    };
    let model = ModelTdcall::new(&params, 2 << 20);
    [0, 1].map(|index| {
        let offset = u64::from(index) * STRIDE;
        let processor = Processor {
            model: model.on_vcpu(index),
            index,
            state: STATE + offset,
        };
        model.write(STATE + offset + 0x80, &2_u64.to_le_bytes());
        processor.use_vapic(VAPIC + offset);
        processor
    })
}

#[test]
fn what_l1_sets_on_one_stays_there() {
    let [one, other] = two();
    for (id, value) in [
        (FieldId::l2_vmcs(VM, VmcsField::GUEST_CR3), 0x5000),
        (
            FieldId::l2_vmcs(VM, VmcsField::EXCEPTION_BITMAP),
            0x0004_0040,
        ),
        (FieldId::l2_msr_bitmap(VM, 3), 0),
        (FieldId::tsc_deadline(VM), 0x1234_5678),
        (FieldId::l2_ctls(VM), 1),
    ] {
        let before = other.read(id);
        assert_ne!(before, value, "{id:x?}");
        one.write(id, value);
        assert_eq!((one.read(id), other.read(id)), (value, before), "{id:x?}");
    }
    let indices = [&one, &other].map(|processor| {
        let info = processor.call(Registers {
            rax: tdg::VP_INFO,
            ..Registers::default()
        });
        (info.r8, info.r9)
    });
    assert_eq!(indices, [(2 << 32 | 2, 0), (2 << 32 | 2, 1)]);
}

#[test]
fn memory_is_the_tds() {
    let [one, other] = two();
    let mapping = Mapping::page(Gpa(0), PageLevel::Page2M).into_bits();
    let attributes = GpaAttributes::of(VM, VmAttributes::RWX).0;
    let written = one.call(Registers {
        rax: tdg::MEM_PAGE_ATTR_WR,
        rcx: mapping,
        rdx: attributes,
        r8: AttrFlags::permissions(VM).0,
        ..Registers::default()
    });
    assert_eq!(Status(written.rax), Status::SUCCESS);
    let read = other.call(Registers {
        rax: tdg::MEM_PAGE_ATTR_RD,
        rcx: 0,
        ..Registers::default()
    });
    assert_eq!((read.rax, read.rdx), (0, attributes));
}

/// A #VE that L1 has not asked about on one is none of the other's.
#[test]
fn ve_information_is_of_the_one_that_got_it() {
    let [one, other] = two();
    one.exit(HardwareExit::Hlt);
    let ask = |processor: &Processor| {
        let asked = processor.call(Registers {
            rax: tdg::VP_VEINFO_GET,
            ..Registers::default()
        });
        Status(asked.rax).code()
    };
    one.model.with(|_, platform| platform.injected.clear());
    assert_eq!(ask(&other), Code::NoValidVeInfo);
    assert_eq!(ask(&one), Code::Success);
}

#[test]
fn an_interrupt_of_another_keeps_l2_out_until_it_is_taken() {
    let [one, other] = two();
    one.is_kicked();
    assert_eq!(one.enter().code(), Code::PendingInterrupt);
    other.model.push_exit(HardwareExit::Hlt);
    assert_eq!(other.enter().code(), Code::Success);
    assert_eq!(one.model.take_interrupts(), [KICK]);
    one.model.push_exit(HardwareExit::Hlt);
    assert_eq!(one.enter().code(), Code::Success);
}

#[test]
fn an_interrupt_of_another_ends_l2() {
    let [one, other] = two();
    one.start_l2();
    one.is_kicked();
    // The notification.
    assert_eq!(one.exit(HardwareExit::Interrupt), Action::Run(Vm::L1));
    assert_eq!(one.rax(), 0x0000_1102_0000_0001);
    assert_eq!(one.model.take_interrupts(), [KICK]);
    assert_eq!(other.model.take_interrupts(), Vec::<u8>::new());
}

/// The host has stopped it in L2: the interrupt comes first when it goes on.
#[test]
fn an_interrupt_for_one_that_does_not_run_ends_l2_at_its_next_entry() {
    let [one, _] = two();
    one.start_l2();
    assert!(matches!(
        one.exit(HardwareExit::Interrupt),
        Action::TdExit(_)
    ));
    one.is_kicked();
    assert_eq!(one.td_entry(), Action::Run(Vm::L1));
    assert_eq!(one.rax(), 0x0000_1102_0000_0001);
}

/// In L1 with interrupts off it waits; L1 gets it when it turns them on, and so does one that the host has woken.
#[test]
fn an_interrupt_for_l1_comes_when_it_takes_interrupts() {
    let [one, _] = two();
    let stop = |processor: &Processor| {
        let left = processor.exit(HardwareExit::Interrupt);
        assert!(matches!(left, Action::TdExit(_)));
    };
    stop(&one);
    one.is_kicked();
    one.model
        .with(|module, _| assert!(module.interrupt_pending(0) && !module.interrupt_pending(1)));
    assert_eq!(one.td_entry(), Action::Run(Vm::L1));
    assert_eq!(one.injected(), None);
    one.model
        .with(|_, platform| platform.set_register(Vm::L1, Register::Rflags, 0x202));
    stop(&one);
    assert_eq!(one.td_entry(), Action::Run(Vm::L1));
    assert_eq!(one.injected(), Some(Event::interrupt(KICK)));
    one.model
        .with(|module, _| assert!(!module.interrupt_pending(0)));
}

/// An NMI waits until L1 has asked about its last #VE, and does not end L2.
#[test]
fn an_nmi_comes_to_l1_after_its_ve_and_leaves_l2_alone() {
    let [one, _] = two();
    let nmi = || one.model.with(|module, _| module.post_nmi(0));
    one.exit(HardwareExit::Hlt);
    assert_eq!(one.injected(), Some(Event::VIRTUALIZATION));
    nmi();
    let stop = || {
        assert!(matches!(
            one.exit(HardwareExit::Interrupt),
            Action::TdExit(_)
        ))
    };
    stop();
    assert_eq!(one.td_entry(), Action::Run(Vm::L1));
    assert_eq!(one.injected(), None);
    let asked = one.model.call(Registers {
        rax: tdg::VP_VEINFO_GET,
        ..Registers::default()
    });
    assert_eq!(asked, Err(Event::NMI));
    one.start_l2();
    stop();
    nmi();
    assert_eq!(one.td_entry(), Action::Run(Vm::L2(VM)));
}

/// A class that is not above L1's is no reason to leave L2.
#[test]
fn an_interrupt_below_l1s_priority_does_not_end_l2() {
    let [one, _] = two();
    one.model
        .with(|module, _| module.vcpu.l1.apic.tpr = KICK | 0xf);
    one.start_l2();
    one.is_kicked();
    assert!(matches!(
        one.exit(HardwareExit::Interrupt),
        Action::TdExit(_)
    ));
    assert_eq!(one.td_entry(), Action::Run(Vm::L2(VM)));
}

#[test]
#[should_panic(expected = "share a guest state or a virtual-APIC page")]
fn a_guest_state_of_two_ends_everything() {
    let [one, other] = two();
    one.model.push_exit(HardwareExit::Hlt);
    one.enter();
    let same = Processor {
        state: one.state,
        ..other
    };
    same.model.push_exit(HardwareExit::Hlt);
    same.enter();
}

#[test]
#[should_panic(expected = "share a guest state or a virtual-APIC page")]
fn a_virtual_apic_page_of_two_ends_everything() {
    let [one, other] = two();
    one.model.push_exit(HardwareExit::Hlt);
    one.enter();
    other.use_vapic(VAPIC);
    other.model.push_exit(HardwareExit::Hlt);
    other.enter();
}

const NOTHING: VmAttributes = VmAttributes::new();
const READ: VmAttributes = VmAttributes::new().with_read(true);
const NO_RIGHTS: Permissions = Permissions {
    read: false,
    write: false,
    execute_supervisor: false,
    execute_user: false,
};

/// INVEPT reaches the processor that executes it: the other keeps what L1 has taken away until it flushes as well.
#[test]
fn a_forgotten_shoot_down_leaves_the_other_its_translation() {
    let [one, other] = two();
    one.allow(VmAttributes::RWX, false);
    assert!(one.run().write && other.run().write);
    one.allow(NOTHING, true);
    assert_eq!(one.run(), NO_RIGHTS);
    assert!(other.run().write, "nobody has told it");
    assert_eq!(one.run(), NO_RIGHTS, "and it is the other's alone");
    assert!(other.run().write);
    other.invept();
    assert_eq!(other.run(), NO_RIGHTS);
}

/// What flushes a virtual processor's translations, and what does not.
#[test]
fn translations_stay_until_they_are_flushed() {
    type Act = fn(&Processor);
    let flush: [(&str, Act, u64, bool); 6] = [
        ("nothing", |_| {}, 0, true),
        ("TDG.VP.INVEPT", Processor::invept, 0, false),
        ("INVEPT at the entry", |_| {}, 1, false),
        ("INVVPID at the entry", |_| {}, 2, true),
        ("INVEPT of ATTR.WR", |p| p.allow(READ, true), 0, false),
        (
            "a TD entry in a new epoch",
            |p| {
                p.model.with(|module, _| module.tdh_mem_track()).unwrap();
                assert!(matches!(p.exit(HardwareExit::Interrupt), Action::TdExit(_)));
                assert_eq!(p.td_entry(), Action::Run(Vm::L1));
            },
            0,
            false,
        ),
    ];
    for (what, act, bits, stays) in flush {
        let [one, _] = two();
        one.allow(VmAttributes::RWX, false);
        one.run();
        one.allow(READ, false);
        act(&one);
        let rights = one.run_with(bits);
        assert_eq!((rights.read, rights.write), (true, stays), "{what}");
    }
}

/// An entry that does not happen flushes nothing.
#[test]
fn a_pending_interrupt_keeps_the_translations() {
    let [one, _] = two();
    one.allow(VmAttributes::RWX, false);
    one.run();
    one.allow(NOTHING, false);
    one.is_kicked();
    let mut call = one.entering();
    call.rcx |= 1;
    assert_eq!(Status(one.call(call).rax).code(), Code::PendingInterrupt);
    one.model.take_interrupts();
    assert!(one.run().write);
    assert_eq!(one.run_with(1), NO_RIGHTS);
}

/// A processor walks again before it reports a violation, and has cached nothing of a VM that it has not run.
#[test]
fn added_rights_count_at_once_and_nothing_is_stale_before_the_first_run() {
    let [one, other] = two();
    one.allow(VmAttributes::RWX, false);
    one.allow(READ, false);
    assert!(!one.run().write, "it had not run");
    one.allow(VmAttributes::RWX, false);
    assert!(one.run().write);
    one.allow(READ, false);
    one.allow(NOTHING, false);
    assert!(one.run().write);
    assert_eq!(other.run(), NO_RIGHTS);
    one.allow(READ, false);
    one.invept();
    let rights = one.run();
    assert_eq!((rights.read, rights.write), (true, false));
}
