//! Processors that go off-line and come back.

use crate::hammer::Words;
use crate::plan::Plan;
use crate::processors::{FOLDER, on_each, online, present};
use crate::{Outcome, Steps};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(crate) fn steps(steps: &mut Steps, plan: &Plan) {
    if plan.cpus < 2 {
        return;
    }
    steps.step("each goes off-line and comes back", || one_by_one(plan));
    steps.step("all but the first go off-line and come back", || all(plan));
    steps.step("they go and come while words are hammered", || {
        hammered(plan)
    });
}

/// Brings those that the kernel has left for later.
pub(crate) fn bring_all(steps: &mut Steps) {
    steps.step("only the first processor is on-line", || {
        match online()?[..] {
            [0] => Ok(()),
            ref online => Err(format!("{online:?}")),
        }
    });
    steps.step("the others are brought", || {
        for cpu in others()? {
            set(cpu, true)?;
        }
        Ok(())
    });
}

/// All but the first, which Linux keeps.
fn others() -> Result<Vec<usize>, String> {
    Ok(present()?.into_iter().filter(|cpu| *cpu != 0).collect())
}

fn set(cpu: usize, up: bool) -> Outcome {
    let path = format!("{FOLDER}/cpu{cpu}/online");
    let value = if up { "1" } else { "0" };
    std::fs::write(&path, value).map_err(|error| format!("{value} to {path}: {error}"))?;
    if online()?.contains(&cpu) == up {
        Ok(())
    } else {
        Err(format!("CPU {cpu} did not become {value}"))
    }
}

/// Whether the processor does something.
fn works(cpu: usize) -> Outcome {
    on_each(&[cpu], |_| Ok(())).map(drop)
}

fn one_by_one(plan: &Plan) -> Outcome {
    // A few times, whatever their number.
    let rounds = plan.times(6, 200).div_ceil(plan.cpus - 1);
    for _ in 0..rounds {
        for cpu in others()? {
            set(cpu, false)?;
            set(cpu, true)?;
            works(cpu)?;
        }
    }
    Ok(())
}

fn all(plan: &Plan) -> Outcome {
    for _ in 0..plan.times(1, 20) {
        let others = others()?;
        for &cpu in others.iter().rev() {
            set(cpu, false)?;
        }
        if online()? != [0] {
            return Err(format!("{:?} are left", online()?));
        }
        for &cpu in &others {
            set(cpu, true)?;
        }
        on_each(&online()?, |_| Ok(()))?;
    }
    Ok(())
}

/// As many threads as processors, which the kernel moves away from those that go.
fn hammered(plan: &Plan) -> Outcome {
    const BATCH: u64 = 20;
    let words = Words::default();
    let ended = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    let threads = online()?.len() as u64;
    let hammer = |seed: u64| -> Outcome {
        let mut batch = 0;
        while !ended.load(Ordering::Relaxed) {
            batch += 1;
            words.hammer(seed << 32 | batch, BATCH as usize)?;
            rounds.fetch_add(BATCH, Ordering::Relaxed);
            // Those that sleep are woken elsewhere.
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let hammer = &hammer;
        let threads: Vec<_> = (0..threads)
            .map(|seed| scope.spawn(move || hammer(seed)))
            .collect();
        let plugged = one_by_one(plan);
        ended.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        plugged
    })?;
    words.sum(rounds.load(Ordering::Relaxed))
}
