use super::*;

fn fault(gpa: u64) -> HardwareExit {
    HardwareExit::NestedPageFault {
        gpa,
        write: false,
        fetch: false,
        page_walk: false,
    }
}

/// MOV EAX, [RBX].
const LOAD: [u8; 2] = [0x8B, 0x03];

#[test]
fn a_window_without_pages_is_served_by_way_of_the_host() {
    let mut fixture = Fixture::with(&LOAD, false);
    fixture
        .exit_with(&[(Register::Rbx, TPM + 0xF00)], fault(TPM + 0xF00))
        .unwrap();
    assert_eq!(fixture.rip(), 2);
    assert_eq!(
        fixture.seen.borrow().tpm,
        [(0xF00, [0xA5; 4].to_vec(), false)]
    );
    assert_eq!(fixture.platform.statistics().host_routed, 1);
}

#[test]
fn the_shared_bit_does_not_hide_the_window() {
    let mut fixture = Fixture::with(&LOAD, false);
    // L2's own mapping of the window with the shared bit set.
    let shared = SHARED | TPM & !0x3FFF_FFFF;
    fixture
        .model
        .write(PAGE_TABLES + 0x1000 + 8 * 3, &(shared | 0x83).to_le_bytes());
    let registers = [(Register::Rbx, TPM + 0xF00)];
    fixture
        .exit_with(&registers, fault(SHARED | (TPM + 0xF00)))
        .unwrap();
    assert_eq!((fixture.rip(), fixture.seen.borrow().tpm.len()), (2, 1));
}

#[test]
fn l2_memory_at_its_shared_address_is_not_waited_for() {
    let mut fixture = Fixture::with(&LOAD, false);
    // L2's own mapping of its memory with the shared bit set.
    fixture.model.write(
        PAGE_TABLES + 0x1000 + 8 * 3,
        &(SHARED | 0x83u64).to_le_bytes(),
    );
    let registers = [(Register::Rbx, 0xC000_1000)];
    let end = fixture.exit_with(&registers, fault(SHARED | 0x1000));
    let error = GuestError::SharedMemory { gpa: 0x1000 };
    assert_eq!(
        end,
        Err(End::GuestError {
            rip: UPPER + CODE,
            error
        })
    );
}

#[test]
fn holes_read_all_ones() {
    let mut fixture = Fixture::with(&LOAD, false);
    fixture
        .exit_with(&[(Register::Rbx, 0xF000_0000)], fault(0xF000_0000))
        .unwrap();
    assert_eq!(fixture.register(Register::Rax), 0xFFFF_FFFF);
}

#[test]
fn the_io_apic_answers() {
    let mut fixture = Fixture::with(&LOAD, false);
    fixture
        .exit_with(&[(Register::Rbx, 0xFEC0_0000)], fault(0xFEC0_0000))
        .unwrap();
    assert_eq!(fixture.register(Register::Rax), 0);
}

#[test]
fn late_news_are_ignored_but_not_for_ever() {
    // No access at all at RIP.
    let mut fixture = Fixture::with(&[0x90], false);
    for _ in 0..16 {
        assert_eq!(fixture.exit(fault(TPM)), Ok(()));
        assert_eq!(fixture.rip(), 0);
    }
    assert!(matches!(
        fixture.exit(fault(TPM)),
        Err(End::GuestError { .. })
    ));
    assert!(fixture.seen.borrow().tpm.is_empty());
}

#[test]
fn l2_memory_that_the_host_took_long_for_is_tried_again() {
    let mut fixture = Fixture::new(&LOAD);
    fixture
        .model
        .with(|module, _| module.faults().route_to_host(48));
    fixture
        .exit_with(&[(Register::Rbx, 0x1000)], fault(0x1000))
        .unwrap();
    assert_eq!(fixture.rip(), 0);
}

#[test]
fn other_reasons_from_the_host_are_no_exits() {
    let mut fixture = Fixture::new(&[0x0F, 0xA2]);
    fixture
        .model
        .with(|module, _| module.faults().route_to_host(10));
    fixture.model.set_host(|_, _, _| VpEnterInput {
        resume_l1: true,
        ..Default::default()
    });
    assert_eq!(fixture.exit(HardwareExit::Cpuid), Ok(()));
    assert_eq!(fixture.rip(), 0);
}
