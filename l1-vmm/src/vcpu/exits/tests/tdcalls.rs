use super::*;

pub(super) const TDCALL: [u8; 4] = [0x66, 0x0F, 0x01, 0xCC];
pub(super) const INVALID_OPERAND: u64 = 1 << 63;
const MASK: u64 = 0xFC00;

fn undefined() -> HardwareExit {
    HardwareExit::Exception {
        vector: 6,
        error_code: None,
        cr2: 0,
    }
}

/// One TDVMCALL of L2's: R10 and R11 afterwards.
pub(super) fn vmcall(
    fixture: &mut Fixture,
    function: u64,
    arguments: [u64; 4],
) -> Result<(u64, u64), End> {
    make_vmcall(fixture, function, arguments)?;
    assert_eq!(fixture.rip(), 4);
    Ok((
        fixture.register(Register::R10),
        fixture.register(Register::R11),
    ))
}

/// The same, which may not be over then.
pub(super) fn make_vmcall(
    fixture: &mut Fixture,
    function: u64,
    arguments: [u64; 4],
) -> Result<(), End> {
    let [r12, r13, r14, r15] = arguments;
    let registers = [
        (Register::Rip, UPPER + CODE),
        (Register::Rax, 0),
        (Register::Rcx, MASK),
        (Register::R10, 0),
        (Register::R11, function),
        (Register::R12, r12),
        (Register::R13, r13),
        (Register::R14, r14),
        (Register::R15, r15),
    ];
    fixture.exit_with(&registers, undefined())
}

/// One leaf of L2's: RAX and R8 afterwards.
fn leaf(fixture: &mut Fixture, inputs: &[(Register, u64)]) -> (u64, u64) {
    let mut registers = [(Register::Rip, UPPER + CODE)].to_vec();
    registers.extend_from_slice(inputs);
    fixture.exit_with(&registers, undefined()).unwrap();
    assert_eq!(fixture.rip(), 4);
    (
        fixture.register(Register::Rax),
        fixture.register(Register::R8),
    )
}

#[test]
fn mmio_reaches_the_same_tpm() {
    let mut fixture = Fixture::new(&TDCALL);
    for gpa in [TPM + 0xF00, SHARED | (TPM + 0xF00)] {
        let read = vmcall(&mut fixture, 48, [4, 0, gpa, 0]);
        assert_eq!(read, Ok((0, 0xA5A5_A5A5)));
    }
    assert_eq!(vmcall(&mut fixture, 48, [1, 1, TPM, 2]), Ok((0, 48)));
    assert_eq!(
        fixture.seen.borrow().tpm.last(),
        Some(&(0, [2].to_vec(), true))
    );
    for gpa in [0x1000, L1_START] {
        let read = vmcall(&mut fixture, 48, [4, 0, gpa, 0]);
        assert_eq!(
            read.map(|(status, _)| status),
            Ok(INVALID_OPERAND),
            "{gpa:#x}"
        );
    }
}

#[test]
fn instructions_are_answered_as_their_exits_are() {
    let mut fixture = Fixture::new(&TDCALL);
    assert_eq!(vmcall(&mut fixture, 31, [0x2FF, 0, 0, 0]), Ok((0, 0xC06)));
    let unknown = vmcall(&mut fixture, 31, [0x1AD, 0, 0, 0]);
    assert_eq!(unknown.map(|(status, _)| status), Ok(INVALID_OPERAND));
    assert_eq!(
        vmcall(&mut fixture, 32, [0x2FF, 0xC00, 0, 0]).map(|r| r.0),
        Ok(0)
    );
    assert_eq!(
        vmcall(&mut fixture, 30, [4, 0, 0xCFC, 0]),
        Ok((0, 0xFFFF_FFFF))
    );
    assert_eq!(vmcall(&mut fixture, 54, [0; 4]).map(|r| r.0), Ok(0));
    assert_eq!(
        vmcall(&mut fixture, 10, [0x4000_0000, 0, 0, 0]).map(|r| r.0),
        Ok(0)
    );
    assert_eq!(fixture.register(Register::R12), 0x4000_0001);
    let off = vmcall(&mut fixture, 30, [2, 1, 0x604, 0x2000]);
    assert_eq!(off, Err(End::PowerOff));
}

#[test]
fn nothing_becomes_shared_and_nothing_is_quoted() {
    let mut fixture = Fixture::new(&TDCALL);
    for (function, arguments, status) in [
        (0x10000, [0; 4], 0),
        (0x10000, [1, 0, 0, 0], INVALID_OPERAND),
        (0x10001, [0x1000, 0x1000, 0, 0], 0),
        (0x10001, [SHARED | 0x1000, 0x1000, 0, 0], INVALID_OPERAND),
        (0x10001, [L1_START, 0x1000, 0, 0], INVALID_OPERAND),
        (0x10001, [0, L1_START, 0, 0], 0),
        (0x10001, [0x1000, L1_START, 0, 0], INVALID_OPERAND),
        // The length of most of the address space is no work.
        (0x10001, [0, SHARED - 0x1000, 0, 0], INVALID_OPERAND),
        (0x10001, [0x1000, !0xFFF, 0, 0], INVALID_OPERAND),
        (0x10002, [0x1000, 0x1000, 0, 0], INVALID_OPERAND),
        (0x10004, [0x30, 0, 0, 0], INVALID_OPERAND | 3),
    ] {
        let answer = vmcall(&mut fixture, function, arguments);
        assert_eq!(
            answer.map(|r| r.0),
            Ok(status),
            "{function:#x} {arguments:x?}"
        );
    }
}

#[test]
fn a_fatal_error_is_the_end_with_its_words() {
    let mut fixture = Fixture::new(&TDCALL);
    let words = u64::from_le_bytes(*b"panic!\0\0");
    let end = vmcall(&mut fixture, 0x10003, [3, 0, words, 0]).unwrap_err();
    assert!(
        alloc::format!("{end}").ends_with("fatal error 0x3: panic!"),
        "{end}"
    );
}

/// Inputs, RAX, and R8 where the leaf returns it.
type Row<'a> = (&'a [(Register, u64)], u64, Option<u64>);

#[test]
fn leaves_are_answered_as_by_a_plain_td() {
    const READ: u64 = 7;
    const WRITE: u64 = 8;
    let mut fixture = Fixture::new(&TDCALL);
    let rows: [Row<'_>; 11] = [
        (&[(Register::Rax, 1)], 0, Some(1 << 32 | 1)),
        (&[(Register::Rax, 3)], 0xC000_0704_0000_0000, Some(0)),
        (
            &[(Register::Rax, 2), (Register::Rcx, 0x1000)],
            0xC000_0100_0000_0000,
            None,
        ),
        (
            &[(Register::Rax, 4), (Register::Rcx, 0x1000)],
            0xC000_0100_0000_0000,
            None,
        ),
        (&[(Register::Rax, 6), (Register::Rcx, 0x1000)], 0, None),
        (&[(Register::Rax, 6), (Register::Rcx, 1)], 0, None),
        (
            &[(Register::Rax, 6), (Register::Rcx, L1_START)],
            0xC000_0100_0000_0001,
            None,
        ),
        (
            &[
                (Register::Rax, READ),
                (Register::Rdx, 0x1110_0003_0000_0001),
            ],
            0,
            Some(7),
        ),
        (
            &[(Register::Rax, READ), (Register::Rdx, 5)],
            0xC000_0C00_0000_0000,
            Some(0),
        ),
        (
            &[
                (Register::Rax, WRITE),
                (Register::Rdx, 0x9100_0000_0000_0010),
            ],
            0,
            Some(0),
        ),
        (&[(Register::Rax, 25)], 0xC000_0100_0000_0000, None),
    ];
    for (inputs, status, r8) in rows {
        let (rax, value) = leaf(&mut fixture, inputs);
        assert_eq!(rax, status, "{inputs:x?}");
        if let Some(r8) = r8 {
            assert_eq!(value, r8, "{inputs:x?}");
        }
    }
}

#[test]
fn user_code_does_not_reach_l1() {
    let mut fixture = Fixture::new(&TDCALL);
    let registers = [(Register::Cpl, 3), (Register::Rax, 1)];
    fixture.exit_with(&registers, undefined()).unwrap();
    assert_eq!(fixture.rip(), 0);
    assert_eq!(fixture.injected(), Some(0x8000_0B0D));
}
