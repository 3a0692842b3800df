//! The model's faults change what they say, and nothing else.

use crate::recording::{Case, Step};
use crate::td::Td;
use tdx_defs::tdg;
use tdx_module::Faults;

/// One in so many cases: the faults are few, and the cases many.
const STRIDE: usize = 8;

/// Replays cases twice beside each other: as they are, and with `set` before each call. A call with
/// the fault gives the same line, or one that `fault` knows and then, called again, the same line.
/// Gives the number of faults that came true.
fn replay_with(
    cases: &[Case],
    set: impl Fn(&mut Faults, u64),
    fault: impl Fn(&str, &[u64; 6]) -> bool,
) -> usize {
    let mut faults = 0;
    for case in cases.iter().step_by(STRIDE) {
        let (mut plain, mut faulty) = (Td::new(), Td::new());
        for (text, step) in &case.steps {
            let expected = plain.step(step);
            if let Step::Call(registers) = step {
                faulty.set_faults(|faults| set(faults, registers[0] & 0xffff));
                let first = faulty.step(step);
                faulty.set_faults(|_| {});
                if first.line != expected.line {
                    let line = first.line.unwrap_or_default();
                    assert!(
                        fault(&line, registers),
                        "case {}: {text}: {line}",
                        case.number
                    );
                    faults += 1;
                    assert_eq!(
                        faulty.step(step).line,
                        expected.line,
                        "case {}: {text}",
                        case.number
                    );
                }
            } else {
                assert_eq!(faulty.step(step).line, expected.line);
            }
            if expected.ends {
                break;
            }
        }
    }
    faults
}

#[test]
fn a_lock_that_is_taken_is_busy_once() {
    let faults = replay_with(
        &crate::sequences(),
        |faults, leaf| faults.busy(leaf, 1),
        |line, _| line.starts_with("80000200000000"),
    );
    assert!(faults > 500, "{faults}");
}

#[test]
fn an_interrupted_leaf_ends_as_one_that_was_not() {
    let faults = replay_with(
        &crate::sequences(),
        |faults, leaf| faults.interrupt(leaf, 3),
        |_, _| false,
    );
    assert_eq!(faults, 0);
}

#[test]
fn a_missing_page_of_an_l2_secure_ept_fails_a_new_alias_alone() {
    let faults = replay_with(
        &crate::sequences(),
        |faults, _| faults.missing_l2_sept(1),
        |line, registers| {
            registers[0] & 0xffff == tdg::MEM_PAGE_ATTR_WR && line.starts_with("c0000b0f0001000")
        },
    );
    assert!(faults > 10, "{faults}");
}

#[test]
fn an_exit_that_the_host_gets_reaches_l1_unchanged_when_the_host_resumes_it() {
    let mut routed = 0;
    for case in crate::l2_exits() {
        let (mut plain, mut faulty) = (Td::new(), Td::new());
        for (text, step) in &case.steps {
            let expected = plain.step(step);
            faulty.set_faults(|faults| {
                for reason in 0..=u32::from(u8::MAX) {
                    faults.route_to_host(reason);
                }
            });
            let answer = faulty.step(step);
            if answer.line == expected.line {
                continue;
            }
            let line = answer.line.unwrap_or_default();
            assert!(
                line.starts_with("TDEXIT "),
                "case {}: {text}: {line}",
                case.number
            );
            let resumed = faulty.resume_l1();
            let expected = expected.line.unwrap_or_default();
            let rax = |line: &str| {
                let rax = line.split(' ').nth(1).unwrap_or_default();
                u64::from_str_radix(rax, 16).unwrap_or_default()
            };
            let after = |line: &str| line.splitn(3, ' ').nth(2).map(str::to_owned);
            assert_eq!(after(&resumed), after(&expected), "case {}", case.number);
            assert_eq!(
                rax(&resumed),
                rax(&expected) | 0x1100 << 32,
                "case {}",
                case.number
            );
            routed += 1;
        }
    }
    assert!(routed > 900, "{routed}");
}
