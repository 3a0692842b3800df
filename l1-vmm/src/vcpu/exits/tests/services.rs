//! Services that L2 asks L1 for.

use super::tdcalls::{INVALID_OPERAND, TDCALL, make_vmcall, vmcall};
use super::*;
use alloc::vec;
use proptest::prelude::*;
use x86_defs::apic::Register as Apic;

const SERVICE: u64 = 0x10005;
const COMMAND: u64 = 0x4_0000;
const RESPONSE: u64 = 0x5_0000;
/// A page of L1's that nothing uses.
const L1_PAGE: u64 = L1_START + 0x2000;
const GUID: Guid = *b"the GUID, 16 by.";

fn put(fixture: &Fixture, gpa: u64, guid: &Guid, length: u32, data: &[u8]) {
    let mut bytes = guid.to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(data);
    fixture.model.write(gpa, &bytes);
}

fn call(fixture: &mut Fixture, command: u64, response: u64) -> u64 {
    let answer = vmcall(fixture, SERVICE, [command, response, 0, 0]);
    answer.unwrap().0
}

/// GUID, length, status and data of a response.
fn response(fixture: &Fixture) -> (Guid, u32, u32, Vec<u8>) {
    let mut header = [0; 24];
    fixture.model.read(RESPONSE, &mut header);
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
    let (length, status) = (word(16), word(20));
    let mut data = vec![0; length as usize - 24];
    fixture.model.read(RESPONSE + 24, &mut data);
    (header[..16].try_into().unwrap(), length, status, data)
}

fn fixture(answer: Result<Vec<u8>, ServiceError>) -> Fixture {
    let fixture = Fixture::new(&TDCALL);
    fixture.seen.borrow_mut().service_answers.push_back(answer);
    fixture
}

#[test]
fn a_command_reaches_its_service_and_the_answer_comes_back() {
    let mut fixture = fixture(Ok(b"an answer of odd length".to_vec()));
    put(&fixture, COMMAND, &GUID, 24 + 5, b"12345 and no more");
    put(&fixture, RESPONSE, &[0; 16], 0x1000, &[0xCC; 64]);
    assert_eq!(call(&mut fixture, COMMAND, RESPONSE), 0);
    let seen = fixture.seen.borrow();
    assert_eq!(seen.services, [(GUID, b"12345".to_vec(), 0x1000 - 24)]);
    let expected = (GUID, 24 + 23, 0, b"an answer of odd length".to_vec());
    assert_eq!(response(&fixture), expected);
    let mut behind = [0; 2];
    fixture.model.read(RESPONSE + 24 + 23, &mut behind);
    assert_eq!(behind, [0xCC; 2]);
}

/// The call is made again, and L2 has the processor in between: it is not kept from it for as long as the command takes.
#[test]
fn a_call_that_takes_longer_than_a_slice_is_made_again() {
    let mut fixture = fixture(Ok(vec![7; 100]));
    put(&fixture, COMMAND, &GUID, 24, b"");
    put(&fixture, RESPONSE, &[0; 16], 0x1000, b"");
    fixture.seen.borrow_mut().service_slices = 2;
    for slices in 1..=2 {
        let made = make_vmcall(&mut fixture, SERVICE, [COMMAND, RESPONSE, 0, 0]);
        assert_eq!(made, Ok(()));
        assert_eq!(fixture.rip(), 0, "at the call");
        assert_eq!(fixture.register(Register::R11), SERVICE, "as it was made");
        assert_eq!(fixture.seen.borrow().service_places.len(), slices);
        assert!(fixture.seen.borrow().services.is_empty());
        let mut written = [1; 4];
        fixture.model.read(RESPONSE + 20, &mut written);
        assert_eq!(written, [0; 4], "no status yet");
    }
    assert_eq!(call(&mut fixture, COMMAND, RESPONSE), 0);
    let seen = fixture.seen.borrow();
    assert_eq!(seen.services.len(), 1);
    assert_eq!(seen.service_places, [[COMMAND, RESPONSE]; 3]);
    assert_eq!(response(&fixture), (GUID, 124, 0, vec![7; 100]));
}

/// `STI; TDCALL`: what STI holds back for an instruction comes before the call is made again.
#[test]
fn interrupts_are_taken_between_two_slices() {
    let mut fixture = fixture(Ok(vec![]));
    put(&fixture, COMMAND, &GUID, 24, b"");
    put(&fixture, RESPONSE, &GUID, 24, b"");
    fixture.seen.borrow_mut().service_slices = 1;
    let at_the_call = [
        (Register::Rip, UPPER + CODE),
        (Register::Rflags, 0x202),
        (Register::InterruptShadow, 1),
        (Register::Rax, 0),
        (Register::Rcx, 0xFC00),
        (Register::R10, 0),
        (Register::R11, SERVICE),
        (Register::R12, COMMAND),
        (Register::R13, RESPONSE),
        (Register::R14, 0),
        (Register::R15, 0),
    ];
    let tdcall = HardwareExit::Exception {
        vector: 6,
        error_code: None,
        cr2: 0,
    };
    fixture.exit_with(&at_the_call, tdcall).unwrap();
    assert_eq!(fixture.seen.borrow().service_places.len(), 1);
    assert_eq!(fixture.vmcs(VmcsField::GUEST_INTERRUPTIBILITY), 0);
}

#[test]
fn command_and_response_may_be_one_page() {
    let mut fixture = fixture(Ok(vec![7; 100]));
    put(&fixture, RESPONSE, &GUID, 24 + 4, b"abcd");
    assert_eq!(call(&mut fixture, RESPONSE, RESPONSE), 0);
    assert_eq!(
        fixture.seen.borrow().services,
        [(GUID, b"abcd".to_vec(), 4)]
    );
}

#[test]
fn a_failure_is_a_response_with_its_status() {
    for (error, status) in [
        (ServiceError::Unsupported, 0xFFFF_FFFF),
        (ServiceError::CommandLength, 4),
        (ServiceError::ResponseTooLong, 3),
        (ServiceError::Locality, 7),
        (ServiceError::Engine, 1),
    ] {
        let mut fixture = fixture(Err(error));
        put(&fixture, COMMAND, &GUID, 28, &[0; 4]);
        put(&fixture, RESPONSE, &GUID, 0x1000, &[]);
        assert_eq!(call(&mut fixture, COMMAND, RESPONSE), 0);
        assert_eq!(response(&fixture), (GUID, 24, status, vec![]));
    }
    // The length of the command is L1's to check.
    for length in [0, 23, 0x101D, u32::MAX] {
        let mut fixture = fixture(Ok(vec![1]));
        put(&fixture, COMMAND, &GUID, length, &[]);
        put(&fixture, RESPONSE, &GUID, 0x1000, &[]);
        assert_eq!(call(&mut fixture, COMMAND, RESPONSE), 0);
        assert_eq!(response(&fixture), (GUID, 24, 4, vec![]));
        assert_eq!(fixture.seen.borrow().services, []);
    }
}

#[test]
fn only_memory_of_l2s_is_read_and_written() {
    let last_page = L1_START - 0x1000;
    for (command, response, room, served) in [
        (L1_PAGE, RESPONSE, 0x1000, false),
        (SHARED | COMMAND, RESPONSE, 0x1000, false),
        (TPM, RESPONSE, 0x1000, false),
        (COMMAND, L1_PAGE, 0x1000, false),
        (COMMAND, SHARED | RESPONSE, 0x1000, false),
        (COMMAND, RESPONSE, 23, false),
        // As far as L2's memory goes, and one byte further.
        (COMMAND, last_page, 0x1000, true),
        (COMMAND, last_page, 0x1001, false),
        (last_page, RESPONSE, 0x1000, true),
    ] {
        let mut fixture = fixture(Ok(vec![7; 8]));
        for page in [command, response] {
            if page & SHARED == 0 && page < L1_END {
                put(&fixture, page, &GUID, 0x1000, &[]);
            }
        }
        if response & SHARED == 0 && response < L1_END {
            put(&fixture, response, &GUID, room, &[]);
        }
        let mut before = [0; 64];
        fixture.model.read(L1_PAGE, &mut before);
        let status = if served { 0 } else { INVALID_OPERAND };
        assert_eq!(
            call(&mut fixture, command, response),
            status,
            "{command:#x} {response:#x} {room:#x}"
        );
        assert_eq!(fixture.seen.borrow().services.len(), usize::from(served));
        let mut after = [0; 64];
        fixture.model.read(L1_PAGE, &mut after);
        assert_eq!(before, after);
    }
}

#[test]
fn room_beyond_what_l1_writes_at_once_is_not_offered() {
    let mut fixture = fixture(Ok(vec![7; 0x1_0000 - 24]));
    put(&fixture, COMMAND, &GUID, 24, &[]);
    put(&fixture, RESPONSE, &GUID, 0x8_0000, &[]);
    assert_eq!(call(&mut fixture, COMMAND, RESPONSE), 0);
    assert_eq!(fixture.seen.borrow().services[0].2, 0x1_0000 - 24);
    let (_, length, status, data) = response(&fixture);
    assert_eq!((length, status), (0x1_0000, 0));
    assert!(data.iter().all(|byte| *byte == 7));
}

#[test]
fn l2_is_notified_where_it_asks_for_that() {
    for (vector, pending) in [(0, 0), (0x50, 0x50)] {
        let mut fixture = fixture(Ok(vec![]));
        let apic = &mut fixture.platform.vcpu.apic;
        apic.write_msr(Apic::SVR, 0x1FF, 0).unwrap();
        put(&fixture, COMMAND, &GUID, 24, &[]);
        put(&fixture, RESPONSE, &GUID, 24, &[]);
        let answer = vmcall(&mut fixture, SERVICE, [COMMAND, RESPONSE, vector, 0]);
        assert_eq!(answer.map(|registers| registers.0), Ok(0));
        assert_eq!(fixture.platform.vcpu.apic.status().rvi, pending);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever L2 asks and the service answers, nothing of L1's changes.
    #[test]
    fn no_call_reaches_l1(
        command in 0u64..0x440, response in 0u64..0x440, lengths: [u32; 2], small: [bool; 2], answer in 0usize..0x300,
    ) {
        let mut fixture = fixture(Ok(vec![0x77; answer]));
        let length = |index: usize| if small[index] { lengths[index] % 0x2000 } else { lengths[index] };
        let (command, response) = (command << 12, response << 12);
        put(&fixture, COMMAND, &GUID, length(0), &[]);
        for (gpa, length) in [(command, length(0)), (response, length(1))] {
            // Not over L2's code and page tables, which the test needs.
            if (COMMAND..L1_START).contains(&gpa) {
                put(&fixture, gpa, &GUID, length, &[]);
            }
        }
        prop_assume!(response >= COMMAND);
        let mut before = vec![0; 0x2000];
        fixture.model.read(L1_PAGE, &mut before);
        vmcall(&mut fixture, SERVICE, [command, response, 0, 0]).unwrap();
        let mut after = vec![0; 0x2000];
        fixture.model.read(L1_PAGE, &mut after);
        prop_assert_eq!(before, after);
    }
}
