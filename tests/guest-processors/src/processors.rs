//! The processors by their numbers, and threads that stay on one.

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use std::collections::BTreeSet;

/// Where the kernel shows processors.
pub(crate) const FOLDER: &str = "/sys/devices/system/cpu";

/// The processors that are on-line.
pub(crate) fn online() -> Result<Vec<usize>, String> {
    read_list("online")
}

/// Those that the kernel knows of.
pub(crate) fn present() -> Result<Vec<usize>, String> {
    read_list("present")
}

fn read_list(name: &str) -> Result<Vec<usize>, String> {
    let path = format!("{FOLDER}/{name}");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    parse_list(text.trim()).ok_or_else(|| format!("{path} says {text:?}"))
}

/// `0-2,5`: 0, 1, 2 and 5.
fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut numbers = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(numbers.into_iter().collect())
}

/// This thread runs on this processor from now on.
pub(crate) fn pin(cpu: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|error| format!("to CPU {cpu}: {error}"))?;
    match sched_getcpu() {
        here if here == cpu => Ok(()),
        here => Err(format!("on CPU {here} after a move to CPU {cpu}")),
    }
}

/// Does something on each of these processors, all at once; the answers in their order.
pub(crate) fn on_each<R: Send>(
    cpus: &[usize],
    act: impl Fn(usize) -> Result<R, String> + Sync,
) -> Result<Vec<R>, String> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = cpus
            .iter()
            .map(|&cpu| {
                let act = &act;
                scope.spawn(move || {
                    pin(cpu)?;
                    let answer = act(cpu).map_err(|why| format!("CPU {cpu}: {why}"))?;
                    match sched_getcpu() {
                        here if here == cpu => Ok(answer),
                        here => Err(format!("a thread of CPU {cpu} ended on CPU {here}")),
                    }
                })
            })
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<R, String>>| {
            thread
                .join()
                .unwrap_or_else(|_| Err("a thread panicked".to_owned()))
        };
        // All are waited for, whatever the first says.
        let answers: Vec<Result<R, String>> = threads.into_iter().map(join).collect();
        answers.into_iter().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        assert_eq!(parse_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_list("0"), Some(vec![0]));
        assert_eq!(parse_list(""), None);
    }

    #[test]
    fn each_is_done_where_it_should_be() {
        let cpus = online().unwrap();
        assert_eq!(on_each(&cpus, Ok).unwrap(), cpus);
        assert!(on_each(&cpus, |cpu| Err::<(), _>(format!("no {cpu}"))).is_err());
    }
}
