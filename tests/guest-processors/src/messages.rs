//! Threads that wake each other up across processors, and move between them.

use crate::interrupts::grow;
use crate::plan::Plan;
use crate::processors::{on_each, online, pin};
use crate::{Outcome, Steps};
use rustix::thread::{MembarrierCommand, membarrier};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, compiler_fence};
use std::sync::{Barrier, Condvar, Mutex};

pub(crate) fn steps(steps: &mut Steps, plan: &Plan) {
    if plan.cpus < 2 {
        return;
    }
    steps.step("each wakes each by a pipe", || {
        grow(&["RES", "CAL"], || each_pair(plan, by_pipe))
    });
    steps.step("each wakes each by a futex", || each_pair(plan, by_futex));
    steps.step("a barrier of one orders the others' accesses", || {
        grow(&["CAL"], || barriers(plan))
    });
    steps.step("threads move from each to each", || moves(plan));
}

/// All ordered pairs of processors, one after the other.
fn each_pair(plan: &Plan, talk: fn(usize, usize, usize) -> Outcome) -> Outcome {
    let cpus = online()?;
    let pairs = cpus.len() * (cpus.len() - 1);
    let rounds = plan.times(300, 30_000).div_ceil(pairs).max(2);
    for &one in &cpus {
        for &other in cpus.iter().filter(|other| **other != one) {
            talk(one, other, rounds)?;
        }
    }
    Ok(())
}

pub(crate) fn by_pipe(one: usize, other: usize, rounds: usize) -> Outcome {
    let pipe = || std::io::pipe().map_err(|error| error.to_string());
    let ((ping_end, ping), (pong_end, pong)) = (pipe()?, pipe()?);
    let io = |error: std::io::Error| error.to_string();
    // Both may be on one processor.
    let begins = AtomicBool::new(true);
    let talk = |cpu| {
        let first = cpu == one && begins.swap(false, Ordering::Relaxed);
        let (mut from, mut to) = match first {
            true => (&pong_end, &ping),
            false => (&ping_end, &pong),
        };
        for round in 0..rounds {
            let said = [round as u8];
            let mut heard = [0];
            if first {
                to.write_all(&said).map_err(io)?;
            }
            from.read_exact(&mut heard).map_err(io)?;
            if !first {
                to.write_all(&said).map_err(io)?;
            }
            if heard != said {
                return Err(format!("{heard:?} in round {round}"));
            }
        }
        Ok(())
    };
    on_each(&[one, other], talk).map(drop)
}

fn by_futex(one: usize, other: usize, rounds: usize) -> Outcome {
    // Even: it is the first one's turn.
    let (turn, changed) = (Mutex::new(0_usize), Condvar::new());
    let talk = |cpu| {
        let mine = usize::from(cpu == other);
        for round in 0..rounds {
            let guard = turn.lock().map_err(|error| error.to_string())?;
            let mut guard = changed
                .wait_while(guard, |turn| *turn % 2 != mine)
                .map_err(|error| error.to_string())?;
            if *guard != 2 * round + mine {
                return Err(format!("turn {} in round {round}", *guard));
            }
            *guard += 1;
            changed.notify_one();
        }
        Ok(())
    };
    on_each(&[one, other], talk).map(drop)
}

/// The kernel remembers whose threads have barriers.
pub(crate) fn register_barriers() -> Outcome {
    membarrier(MembarrierCommand::RegisterPrivateExpedited)
        .map_err(|error| format!("membarrier: {error}"))
}

/// Dekker's: of two that announce themselves before they look, one sees the other. Only one of them has a barrier, which
/// the kernel carries to the other by an interrupt.
fn barriers(plan: &Plan) -> Outcome {
    register_barriers()?;
    let cpus = online()?;
    let rounds = plan.times(30, 3_000);
    let announced: Vec<AtomicUsize> = cpus.iter().map(|_| AtomicUsize::new(0)).collect();
    let sees: Vec<AtomicUsize> = cpus.iter().map(|_| AtomicUsize::new(0)).collect();
    let meet = Barrier::new(cpus.len());
    for &careful in &cpus {
        let act = |cpu: usize| {
            let of = |list: &'_ [AtomicUsize], cpu: usize| {
                list.get(cpu)
                    .map(|own| own.load(Ordering::Relaxed))
                    .unwrap_or_default()
            };
            let set = |list: &[AtomicUsize], value| {
                if let Some(own) = list.get(cpu) {
                    own.store(value, Ordering::Relaxed);
                }
            };
            let mut missed = Ok(());
            for round in 1..=rounds {
                meet.wait();
                set(&announced, round);
                if cpu == careful {
                    membarrier(MembarrierCommand::PrivateExpedited)
                        .map_err(|error| format!("membarrier: {error}"))?;
                    let seen = cpus.iter().filter(|other| of(&announced, **other) == round);
                    let mask = seen.fold(0, |mask, other| mask | 1 << other);
                    meet.wait();
                    for other in cpus.iter().filter(|other| **other != careful) {
                        if mask >> other & 1 == 0 && of(&sees, *other) != round {
                            missed = Err(format!("neither it nor CPU {other} saw the other"));
                        }
                    }
                } else {
                    compiler_fence(Ordering::SeqCst);
                    set(&sees, of(&announced, careful));
                    meet.wait();
                }
                meet.wait();
            }
            missed
        };
        let reset =
            |list: &[AtomicUsize]| list.iter().for_each(|own| own.store(0, Ordering::Relaxed));
        reset(&announced);
        reset(&sees);
        on_each(&cpus, act)?;
    }
    Ok(())
}

/// As many threads as processors, each of which goes around.
fn moves(plan: &Plan) -> Outcome {
    let cpus = online()?;
    let rounds = plan.times(10, 500);
    let moved = AtomicU32::new(0);
    let go = |start: usize| {
        for _ in 0..rounds {
            let before = cpus.iter().filter(|cpu| **cpu < start);
            let behind = cpus.iter().filter(|cpu| **cpu > start);
            for &cpu in behind.chain(before) {
                pin(cpu)?;
                moved.fetch_add(1, Ordering::Relaxed);
            }
            pin(start)?;
        }
        Ok(())
    };
    on_each(&cpus, go)?;
    let expected = cpus.len() * (cpus.len() - 1) * rounds;
    match moved.load(Ordering::Relaxed) {
        moved if usize::try_from(moved) == Ok(expected) => Ok(()),
        moved => Err(format!("{moved} moves, not {expected}")),
    }
}
