use alloc::vec::Vec;

use super::*;
use proptest::prelude::*;
use x86_defs::apic::{TIMER_PERIODIC, TIMER_TSC_DEADLINE};

struct Page([u32; 256]);

impl Default for Page {
    fn default() -> Self {
        Self([0; 256])
    }
}

impl VapicPage for Page {
    fn read(&self, offset: u16) -> u32 {
        self.0[usize::from(offset >> 4)]
    }

    fn write(&mut self, offset: u16, value: u32) {
        self.0[usize::from(offset >> 4)] = value;
    }
}

/// In x2APIC mode.
fn x2apic() -> LocalApic<Page> {
    let mut apic = LocalApic::new(Page::default(), 40);
    apic.set_base(BASE | 0xD00).unwrap();
    apic.take_mode_change();
    apic
}

fn enabled() -> LocalApic<Page> {
    let mut apic = x2apic();
    apic.write_msr(Register::SVR, 0x1FF, 0).unwrap();
    apic
}

fn xapic() -> LocalApic<Page> {
    let mut apic = LocalApic::new(Page::default(), 40);
    apic.set_base(BASE | 1 << 8).unwrap();
    apic.set_base(BASE | 1 << 8 | 1 << 11).unwrap();
    apic.write_page(0xF0, &0x1FFu32.to_le_bytes(), 0);
    apic
}

/// What the CPU does when it delivers the requested interrupt.
fn deliver(apic: &mut LocalApic<Page>) -> u8 {
    let vector = apic.status().rvi;
    apic.set_bit(Register::IRR, vector, false);
    apic.set_bit(Register::ISR, vector, true);
    vector
}

#[test]
fn a_kernel_finds_the_xapic_in_virtual_wire_mode() {
    let apic = LocalApic::new(Page::default(), 40);
    assert_eq!(apic.base(), 0xFEE0_0900);
    for (offset, value) in [
        (0x20, 0u32),
        (0xF0, 0x10F),
        (0x320, 1 << 16),
        (0x350, 0x700),
        (0x360, 0x400),
    ] {
        let mut bytes = [0; 4];
        apic.read_page(offset, 0, &mut bytes);
        assert_eq!(u32::from_le_bytes(bytes), value, "{offset:#x}");
    }
    assert!(apic.passes_external_interrupts());
}

#[test]
fn external_interrupts_pass_through_lint0_or_past_a_disabled_apic() {
    let mut apic = x2apic();
    for (lint0, passes) in [(0x700, true), (0x1_0700, false), (0x51, false)] {
        apic.write_msr(Register::LVT_LINT0, lint0, 0).unwrap();
        assert_eq!(apic.passes_external_interrupts(), passes, "{lint0:#x}");
    }
    apic.write_msr(Register::LVT_LINT0, 0x700, 0).unwrap();
    apic.write_msr(Register::SVR, 0xFF, 0).unwrap();
    assert!(!apic.passes_external_interrupts(), "masked with the APIC");
    apic.set_base(BASE | 1 << 8).unwrap();
    assert!(apic.passes_external_interrupts(), "it is not there");
}

#[test]
fn reset_state_is_the_sdms() {
    let mut apic = x2apic();
    apic.set_base(BASE | 1 << 8).unwrap();
    apic.set_base(BASE | 0x900).unwrap();
    apic.set_base(BASE | 0xD00).unwrap();
    for (register, value) in [
        (Register::ID, 0),
        (Register::VERSION, 0x0005_0014),
        (Register::TPR, 0),
        (Register::LDR, 1),
        (Register::SVR, 0xFF),
        (Register::LVT_TIMER, 1 << 16),
        (Register::LVT_LINT0, 1 << 16),
        (Register::CURRENT_COUNT, 0),
    ] {
        assert_eq!(apic.read_msr(register, 0), Ok(value), "{register:?}");
    }
    assert_eq!(apic.base(), 0xFEE0_0D00);
}

#[test]
fn reserved_bits_and_registers_are_refused_as_msrs() {
    let mut apic = enabled();
    for (register, value) in [
        (Register::TPR, 0x100),
        (Register::EOI, 1),
        (Register::ESR, 1),
        (Register::SVR, 1 << 12),
        (Register::ICR, 1 << 13),
        (Register::LVT_TIMER, 1 << 19),
        (Register::INITIAL_COUNT, 1 << 32),
        (Register::DIVIDE, 4),
        (Register::ID, 0),
        (Register::LDR, 0),
        (Register::DFR, 0),
        (Register::ICR_HIGH, 0),
        (Register(0x00), 0),
        (Register::LVT_CMCI, 0),
    ] {
        assert_eq!(
            apic.write_msr(register, value, 0),
            Err(InvalidAccess),
            "{register:?}"
        );
    }
    for register in [
        Register::EOI,
        Register::SELF_IPI,
        Register::DFR,
        Register::ICR_HIGH,
        Register(0x04),
    ] {
        assert_eq!(
            apic.read_msr(register, 0),
            Err(InvalidAccess),
            "{register:?}"
        );
    }
}

#[test]
fn mode_changes_follow_the_state_diagram() {
    let (bsp, enable, x2) = (BASE | 1 << 8, 1u64 << 11, 1u64 << 10);
    let mut apic = x2apic();
    assert_eq!(
        apic.set_base(bsp | enable),
        Err(InvalidAccess),
        "x2APIC to xAPIC"
    );
    assert_eq!(
        apic.set_base(bsp | x2),
        Err(InvalidAccess),
        "EXTD without EN"
    );
    assert_eq!(apic.set_base(bsp), Ok(()));
    assert!(apic.take_mode_change());
    assert_eq!(
        apic.set_base(bsp | enable | x2),
        Err(InvalidAccess),
        "disabled to x2APIC"
    );
    assert_eq!(apic.set_base(bsp | enable), Ok(()));
    assert!(apic.take_mode_change());
    assert_eq!(apic.mode(), Mode::XApic);
    assert_eq!(apic.read_msr(Register::ID, 0), Err(InvalidAccess));
    assert_eq!(apic.set_base(bsp | enable | x2), Ok(()));
    assert!(apic.take_mode_change());
    assert_eq!(apic.set_base(bsp | enable | x2), Ok(()));
    assert!(!apic.take_mode_change());
    assert_eq!(
        apic.set_base((bsp | enable | x2) + 0x1000),
        Err(InvalidAccess),
        "moved"
    );
}

#[test]
fn requests_set_rvi_and_eoi_clears_svi() {
    let mut apic = enabled();
    apic.request(0x31, false);
    apic.request(0xEF, false);
    assert_eq!(
        apic.take_changed_status(),
        Some(InterruptStatus { rvi: 0xEF, svi: 0 })
    );
    assert_eq!(apic.take_changed_status(), None);
    assert!(apic.interrupt_pending());
    assert_eq!(deliver(&mut apic), 0xEF);
    assert_eq!(
        apic.status(),
        InterruptStatus {
            rvi: 0x31,
            svi: 0xEF
        }
    );
    assert!(!apic.interrupt_pending(), "a higher class is in service");
    assert_eq!(apic.read_msr(Register::PPR, 0), Ok(0xE0));
    assert_eq!(apic.write_msr(Register::EOI, 0, 0), Ok(Effect::None));
    assert!(apic.interrupt_pending());
    assert_eq!(
        apic.take_changed_status().map(InterruptStatus::bits),
        Some(0x0031)
    );
}

#[test]
fn a_level_interrupt_tells_the_io_apic_of_its_end() {
    let mut apic = xapic();
    apic.request(0x39, true);
    deliver(&mut apic);
    assert_eq!(
        apic.write_page(0xB0, &[0; 4], 0),
        Effect::EndOfInterrupt(0x39)
    );
    assert_eq!(
        apic.write_page(0xB0, &[0; 4], 0),
        Effect::None,
        "nothing in service"
    );
}

#[test]
fn tpr_holds_back_its_class_and_below() {
    let mut apic = enabled();
    apic.request(0x45, false);
    apic.write_msr(Register::TPR, 0x40, 0).unwrap();
    assert!(!apic.interrupt_pending());
    apic.write_msr(Register::TPR, 0x3F, 0).unwrap();
    assert!(apic.interrupt_pending());
}

#[test]
fn a_software_disabled_apic_takes_no_interrupt_and_masks_its_lvt() {
    let mut apic = enabled();
    apic.write_msr(Register::LVT_LINT0, 0x700, 0).unwrap();
    apic.write_msr(Register::SVR, 0xFF, 0).unwrap();
    apic.request(0x45, false);
    assert!(!apic.interrupt_pending());
    assert_eq!(apic.read_msr(Register::LVT_LINT0, 0), Ok(0x1_0700));
    apic.write_msr(Register::LVT_TIMER, 0x40, 0).unwrap();
    assert_eq!(apic.read_msr(Register::LVT_TIMER, 0), Ok(0x1_0040));
}

#[test]
fn a_command_is_its_callers_to_deliver_in_the_width_of_the_mode() {
    let mut apic = enabled();
    let effect = apic.write_msr(Register::ICR, 3 << 32 | 0x0841, 0).unwrap();
    let command = InterruptCommand::from(3 << 32 | 0x0841);
    assert_eq!(
        effect,
        Effect::Command {
            command,
            wide: true
        }
    );
    assert_eq!(apic.read_msr(Register::ICR, 0), Ok(3 << 32 | 0x0841));
    let mut apic = xapic();
    assert_eq!(
        apic.write_page(0x310, &0x0300_0000u32.to_le_bytes(), 0),
        Effect::None
    );
    let effect = apic.write_page(0x300, &0x0841u32.to_le_bytes(), 0);
    assert_eq!(
        effect,
        Effect::Command {
            command,
            wide: false
        }
    );
}

#[test]
fn an_apic_is_found_by_its_id_or_its_logical_address() {
    let after = |id, base: u64| {
        let mut apic = LocalApic::after_reset(Page::default(), 40, id);
        apic.set_base(base).unwrap();
        apic.address()
    };
    let to = |value, logical, wide| Destination {
        value,
        logical,
        wide,
    };
    let (x2, x) = (after(9, BASE | 0xC00), after(9, BASE | 0x800));
    assert_eq!((x2.logical, x.logical), (1 << 9, 0));
    for (destination, x2apic, xapic) in [
        (to(9, false, true), true, true),
        (to(9, false, false), true, true),
        (to(8, false, true), false, false),
        (to(u32::MAX, false, true), true, true),
        (to(0xFF, false, true), false, false),
        (to(0xFF, false, false), true, true),
        (to(1 << 9, true, true), true, false),
        (to(1 << 16 | 1 << 9, true, true), false, false),
        (to(u32::MAX, true, true), true, true),
    ] {
        assert_eq!(x2.is_destination(destination), x2apic, "{destination:?}");
        assert_eq!(x.is_destination(destination), xapic, "{destination:?}");
    }
    for address in [x2, x] {
        assert_eq!(Address::from_bits(address.into_bits()), Some(address));
    }
    assert_eq!(Address::from_bits(0), None);
}

#[test]
fn xapic_logical_destinations_follow_the_format_register() {
    for (dfr, ldr, value, arrives) in [
        (0xFFFF_FFFFu32, 0x0100_0000u32, 0x01u32, true),
        (0xFFFF_FFFF, 0x0100_0000, 0x02, false),
        (0x0FFF_FFFF, 0x2100_0000, 0x21, true),
        (0x0FFF_FFFF, 0x2100_0000, 0x11, false),
        (0x0FFF_FFFF, 0x2100_0000, 0x22, false),
    ] {
        let mut apic = xapic();
        apic.write_page(0xE0, &dfr.to_le_bytes(), 0);
        apic.write_page(0xD0, &ldr.to_le_bytes(), 0);
        let destination = Destination {
            value,
            logical: true,
            wide: false,
        };
        assert_eq!(
            apic.address().is_destination(destination),
            arrives,
            "{dfr:#x} {ldr:#x} {value:#x}"
        );
    }
}

#[test]
fn init_leaves_identity_and_mode() {
    let mut apic = LocalApic::after_reset(Page::default(), 40, 5);
    apic.set_base(BASE | 0xC00).unwrap();
    apic.write_msr(Register::SVR, 0x1FF, 0).unwrap();
    apic.request(0x31, false);
    apic.request_nmi();
    apic.init();
    assert_eq!((apic.base(), apic.mode()), (BASE | 0xC00, Mode::X2Apic));
    assert_eq!(apic.read_msr(Register::ID, 0), Ok(5));
    assert_eq!(apic.read_msr(Register::SVR, 0), Ok(0xFF));
    assert!(!apic.interrupt_pending() && !apic.nmi_pending());
    assert!(!apic.address().accepts);
}

#[test]
fn an_nmi_is_kept_until_taken() {
    let mut apic = enabled();
    apic.request_nmi();
    assert!(apic.nmi_pending());
    assert!(apic.take_nmi());
    assert!(!apic.take_nmi());
}

#[test]
fn errors_show_after_a_write_to_esr() {
    let mut apic = enabled();
    apic.write_msr(Register::LVT_ERROR, 0xFE, 0).unwrap();
    apic.write_msr(Register::ICR, 0x0004_0005, 0).unwrap();
    assert_eq!(apic.read_msr(Register::ESR, 0), Ok(0));
    apic.write_msr(Register::ESR, 0, 0).unwrap();
    assert_eq!(apic.read_msr(Register::ESR, 0), Ok(1 << 5));
    assert_eq!(apic.status().rvi, 0xFE);
    apic.write_msr(Register::ESR, 0, 0).unwrap();
    assert_eq!(apic.read_msr(Register::ESR, 0), Ok(0));
}

#[test]
fn the_timer_interrupts_by_its_lvt() {
    let mut apic = enabled();
    apic.write_msr(
        Register::LVT_TIMER,
        0xEC | u64::from(TIMER_TSC_DEADLINE) << 17,
        0,
    )
    .unwrap();
    apic.set_deadline(1000);
    assert_eq!((apic.deadline(), apic.timer_expiry()), (1000, Some(1000)));
    apic.run_timer(999);
    assert!(!apic.interrupt_pending());
    apic.run_timer(1000);
    assert_eq!((apic.status().rvi, apic.deadline()), (0xEC, 0));

    let mut apic = enabled();
    apic.write_msr(
        Register::LVT_TIMER,
        1 << 16 | 0xEC | u64::from(TIMER_PERIODIC) << 17,
        0,
    )
    .unwrap();
    apic.write_msr(Register::DIVIDE, 0xB, 0).unwrap();
    apic.write_msr(Register::INITIAL_COUNT, 10, 0).unwrap();
    apic.run_timer(400);
    assert!(!apic.interrupt_pending(), "masked");
    assert_eq!(apic.timer_expiry(), Some(800));
}

#[test]
fn the_page_shows_what_the_msrs_show() {
    let apic = xapic();
    for (register, value) in [(Register::VERSION, VERSION), (Register::SVR, 0x1FF)] {
        let mut bytes = [0; 4];
        apic.read_page(u64::from(register.offset()), 0, &mut bytes);
        assert_eq!(u32::from_le_bytes(bytes), value);
    }
    let mut byte = [0; 1];
    apic.read_page(0xF1, 0, &mut byte);
    assert_eq!(byte, [0x01]);
    let mut beyond = [0xAA; 4];
    apic.read_page(0xFF0, 0, &mut beyond);
    assert_eq!(beyond, [0; 4]);
}

proptest! {
    #[test]
    fn status_is_the_highest_of_each(vectors in prop::collection::vec(16u8.., 1..20)) {
        let mut apic = enabled();
        for vector in &vectors {
            apic.request(*vector, false);
        }
        prop_assert_eq!(Some(&apic.status().rvi), vectors.iter().max());
        let mut order = Vec::new();
        while apic.status().rvi != 0 {
            order.push(deliver(&mut apic));
            apic.write_msr(Register::EOI, 0, 0).unwrap();
        }
        prop_assert!(order.is_sorted_by(|a, b| a > b));
    }

    #[test]
    fn no_access_to_the_page_fails(offset in 0u64..4096, value: u32, now: u64) {
        let mut apic = xapic();
        apic.write_page(offset, &value.to_le_bytes(), now);
        let mut bytes = [0; 8];
        apic.read_page(offset, now, &mut bytes);
        prop_assert!(apic.status().rvi >= 16 || apic.status().rvi == 0);
    }
}
