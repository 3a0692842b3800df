//! How many processors there are, what they say of themselves, and whether their clocks agree.

use crate::plan::Plan;
use crate::processors::{on_each, online};
use crate::{Outcome, Steps, kernel_log};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

pub(crate) fn steps(steps: &mut Steps, plan: &Plan) {
    steps.step("every processor is on-line", || {
        let online = online()?;
        let expected: Vec<usize> = (0..plan.cpus).collect();
        agree("on-line", &online, &expected)
    });
    steps.step("each has an APIC ID of its own", apic_ids);
    steps.step("they are of one kind", one_kind);
    steps.step("the clock is the TSC", clock_is_tsc);
    steps.step("no clock goes back between processors", || {
        clock_goes_on(plan)
    });
    steps.step(
        "no processor is offended by its start",
        kernel_log::is_quiet,
    );
}

fn agree<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, must: &T) -> Outcome {
    if is == must {
        Ok(())
    } else {
        Err(format!("{what}: {is:?}, not {must:?}"))
    }
}

/// The values of a key of /proc/cpuinfo, one a processor.
fn cpuinfo(key: &str) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").map_err(|error| error.to_string())?;
    let values = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    });
    Ok(values.collect())
}

fn apic_ids() -> Outcome {
    let count = online()?.len();
    for key in ["apicid", "initial apicid"] {
        let ids = cpuinfo(key)?;
        let distinct: BTreeSet<&String> = ids.iter().collect();
        agree(key, &ids.len(), &count)?;
        agree(&format!("distinct {key}"), &distinct.len(), &count)?;
    }
    Ok(())
}

fn one_kind() -> Outcome {
    for key in [
        "model name",
        "flags",
        "microcode",
        "cache size",
        "address sizes",
    ] {
        let values = cpuinfo(key)?;
        if let Some(other) = values.iter().find(|value| Some(*value) != values.first()) {
            return Err(format!("{key}: {:?} and {other:?}", values.first()));
        }
    }
    Ok(())
}

fn clock_is_tsc() -> Outcome {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let name = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    agree("clock source", &name.trim(), &"tsc")?;
    // "Marking TSC unstable", "Marking clocksource 'tsc' as unstable", "marking tsc unstable". That the watchdog read its clock once
    // more says that the host's turn came between two reads.
    match kernel_log::find(&["unstable"])? {
        Some(line) => Err(line),
        None => Ok(()),
    }
}

/// Each reads the clock under a lock, and must not be behind the one before.
fn clock_goes_on(plan: &Plan) -> Outcome {
    let rounds = plan.times(400, 20_000);
    let last = Mutex::new(Instant::now());
    let read = |_| {
        for _ in 0..rounds {
            let mut last = last.lock().map_err(|error| error.to_string())?;
            let now = Instant::now();
            if now < *last {
                return Err(format!("{:?} behind another", last.duration_since(now)));
            }
            *last = now;
            drop(last);
            std::thread::sleep(Duration::from_micros(1));
        }
        Ok(())
    };
    on_each(&online()?, read).map(drop)
}
