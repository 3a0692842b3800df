//! How one processor ends the machine under the others.

use crate::plan::End;
use crate::processors::{online, pin};
use std::time::Duration;

/// Ends the machine from this processor, while the others are busy; the answer is why that was not the end.
pub(crate) fn end(end: End, from: usize) -> String {
    match online() {
        Err(why) => return why,
        Ok(cpus) => {
            for cpu in cpus.into_iter().filter(|cpu| *cpu != from) {
                std::thread::spawn(move || {
                    let _ = pin(cpu);
                    loop {
                        std::hint::spin_loop();
                    }
                });
            }
        }
    }
    if let Err(why) = pin(from) {
        return why;
    }
    std::thread::sleep(Duration::from_millis(20));
    let key = match end {
        End::Panic => "c",
        End::Restart => "b",
        End::PowerOff => "o",
    };
    println!("@ending from CPU {from}");
    if let Err(error) = std::fs::write("/proc/sysrq-trigger", key) {
        return error.to_string();
    }
    // The power goes off in a thread of the kernel's.
    std::thread::sleep(Duration::from_secs(10));
    "it goes on".to_owned()
}
