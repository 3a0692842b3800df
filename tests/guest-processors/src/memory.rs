//! Translations that one processor takes away and another may still have.
//!
//! The kernel tells each processor that may have one to forget it, and waits. A translation that is used all the same shows
//! in two ways: a write to a page that is watched for writes goes unseen, and a page that is new has old bytes in it.

use crate::interrupts::grow;
use crate::plan::Plan;
use crate::processors::{on_each, online, pin};
use crate::{Outcome, Steps};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

const PAGE: usize = 4096;
/// Of an entry of /proc/self/pagemap: the page was written since it was last cleared (Documentation/admin-guide/mm/soft-dirty.rst).
const SOFT_DIRTY: u64 = 1 << 55;
/// What clears that of every page.
const CLEAR_SOFT_DIRTY: &[u8] = b"4";
/// More than the allocator ever keeps for later: it comes from the kernel and goes back to it.
const LARGE: usize = 40 << 20;
/// Between the bytes of it that are written.
const STRIDE: usize = 4 << 20;

pub(crate) fn steps(steps: &mut Steps, plan: &Plan) {
    if plan.cpus < 2 {
        return;
    }
    steps.step("no write by a translation that is gone", || {
        grow(&["TLB"], || watched_writes(plan))
    });
    steps.step("no read by a translation that is gone", || new_pages(plan));
    steps.step("writes follow pages that move", || moved_pages(plan));
}

/// A page of one processor's.
#[repr(align(4096))]
struct Own(AtomicU64);

/// Each processor writes to a page of its own. Once a page is watched, its next write must be noticed.
fn watched_writes(plan: &Plan) -> Outcome {
    let cpus = online()?;
    let rounds = plan.times(20, 1_000);
    let pages: Vec<Own> = cpus.iter().map(|_| Own(AtomicU64::new(0))).collect();
    let ended = AtomicBool::new(false);
    let io = |error: std::io::Error| error.to_string();
    let watch = || {
        let mut clear = OpenOptions::new()
            .write(true)
            .open("/proc/self/clear_refs")
            .map_err(io)?;
        let map = File::open("/proc/self/pagemap").map_err(io)?;
        // From each in turn, so that each is told by others.
        for (round, &from) in (0..rounds).zip(cpus.iter().cycle()) {
            pin(from)?;
            clear.write_all(CLEAR_SOFT_DIRTY).map_err(io)?;
            let written: Vec<u64> = pages
                .iter()
                .map(|page| page.0.load(Ordering::Acquire))
                .collect();
            for ((page, before), cpu) in pages.iter().zip(written).zip(&cpus) {
                // Two: the first may have been under way.
                while page.0.load(Ordering::Acquire) < before + 2 {
                    std::thread::sleep(Duration::from_micros(20));
                }
                let address = std::ptr::from_ref(page).addr();
                let mut entry = [0; 8];
                let offset = (address / PAGE * entry.len()) as u64;
                map.read_exact_at(&mut entry, offset).map_err(io)?;
                if u64::from_le_bytes(entry) & SOFT_DIRTY == 0 {
                    return Err(format!(
                        "round {round}: CPU {cpu} wrote, and nobody noticed"
                    ));
                }
            }
        }
        Ok(())
    };
    let write = |cpu: usize| {
        let page = cpus.iter().zip(&pages).find(|(own, _)| **own == cpu);
        let (_, page) = page.ok_or("no page")?;
        while !ended.load(Ordering::Relaxed) {
            page.0.fetch_add(1, Ordering::Release);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let writers = scope.spawn(|| on_each(&cpus, write));
        let watched = scope.spawn(watch).join();
        ended.store(true, Ordering::Relaxed);
        let written = writers.join().map_err(|_| "a thread panicked")?;
        let watched: Outcome = watched.map_err(|_| "a thread panicked")?;
        watched.and(written.map(drop))
    })
}

/// Memory that each processor has read and written in turn goes back to the kernel; what comes in its place is zero to each.
fn new_pages(plan: &Plan) -> Outcome {
    let cpus = online()?;
    let rounds = plan.times(6, 300);
    let memory: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let meet = Barrier::new(cpus.len());
    let act = |cpu: usize| {
        let mut found = Ok(());
        for round in 0..rounds {
            let owner = cpus.get(round % cpus.len()) == Some(&cpu);
            if owner {
                *memory.lock().map_err(|error| error.to_string())? = vec![0; LARGE];
            }
            meet.wait();
            let mut memory = memory.lock().map_err(|error| error.to_string())?;
            // Every one has bytes of its own, all in the same pages.
            for (number, page) in memory.chunks_mut(STRIDE).enumerate() {
                let byte = page.get_mut(cpu);
                match byte {
                    Some(0) => {}
                    other => {
                        found = Err(format!(
                            "round {round}: {other:?} in new memory, part {number}"
                        ))
                    }
                }
                if let Some(byte) = page.get_mut(cpu) {
                    *byte = 0xA5;
                }
            }
            drop(memory);
            meet.wait();
        }
        found
    };
    on_each(&cpus, act).map(drop)
}

/// While the kernel moves pages to make room, their writers go on, and no write is lost.
fn moved_pages(plan: &Plan) -> Outcome {
    const PAGES: usize = 64;
    let cpus = online()?;
    let rounds = plan.times(3, 100);
    let pages: Vec<Own> = (0..PAGES).map(|_| Own(AtomicU64::new(0))).collect();
    let compacted = AtomicUsize::new(0);
    let write = |_| {
        let mut own = 0;
        while compacted.load(Ordering::Relaxed) < rounds {
            for page in &pages {
                page.0.fetch_add(1, Ordering::Relaxed);
            }
            own += 1;
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(own)
    };
    let writes: Vec<u64> = std::thread::scope(|scope| {
        let writers = scope.spawn(|| on_each(&cpus, write));
        let mut result = Ok(());
        for _ in 0..rounds {
            result = result.and(std::fs::write("/proc/sys/vm/compact_memory", "1"));
            compacted.fetch_add(1, Ordering::Relaxed);
        }
        let writes = writers.join().map_err(|_| "a thread panicked")?;
        result.map_err(|error| format!("compact_memory: {error}"))?;
        writes
    })?;
    let expected: u64 = writes.iter().sum();
    let lost = pages.iter().map(|page| page.0.load(Ordering::Relaxed));
    match lost.into_iter().find(|count| *count != expected) {
        Some(count) => Err(format!("{count} writes of {expected}")),
        None => Ok(()),
    }
}
