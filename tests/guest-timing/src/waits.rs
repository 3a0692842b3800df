//! How long commands take for which the kernel's driver has a time-out, and how long the driver itself waited for the TPM
//! since the kernel started: the kernel's `function_graph` tracer, asked for on its command line, says when its functions that
//! wait began and ended.

use crate::command::{Command, SigningKey, created_handle};
use crate::{FIRST_KEY, Tpm, tell};
use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

/// What the lines of these commands are marked with.
const MARK: u8 = 13;
/// What the tracer has written.
const TRACE: &str = "/sys/kernel/tracing/trace";

/// Prints a line as of a command that is timed, for each command, and one for each function that waited.
pub(crate) fn measure(tpm: &mut Tpm) -> io::Result<()> {
    let commands = [
        (FIRST_KEY, 1, Command::create_primary(SigningKey::P256)),
        ("SelfTest(full)", 2, Command::self_test()),
        ("GetRandom(32)", 10, Command::get_random(32)),
        ("PCR_Extend(SHA-256)", 10, Command::pcr_extend_sha256(16)),
        ("GetCapability(40 properties)", 5, Command::get_properties()),
        (
            "CreatePrimary(RSA-2048)",
            1,
            Command::create_primary(SigningKey::Rsa2048),
        ),
        (
            "CreatePrimary(RSA-3072)",
            1,
            Command::create_primary(SigningKey::Rsa3072),
        ),
    ];
    for (name, count, command) in commands {
        let mut times = Vec::new();
        for _ in 0..count {
            let started = Instant::now();
            let response = tpm.transmit(&command)?;
            times.push(started.elapsed().as_nanos());
            if let Some(handle) = created_handle(&response) {
                tpm.transmit(&Command::flush(handle))?;
            }
        }
        tell(MARK, name, &times);
    }
    for (function, Calls { count, longest }) in calls(&std::fs::read_to_string(TRACE)?) {
        println!("@wait {{\"function\":\"{function}\",\"count\":{count},\"ns\":{longest}}}");
    }
    Ok(())
}

/// Calls of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Calls {
    count: u64,
    /// Nanoseconds.
    longest: u64,
}

/// The calls of each function by a trace of `function_graph` with `funcgraph-tail`.
fn calls(trace: &str) -> BTreeMap<&str, Calls> {
    let mut all: BTreeMap<&str, Calls> = BTreeMap::new();
    for (function, nanoseconds) in trace.lines().filter_map(returned) {
        let calls = all.entry(function).or_default();
        calls.count += 1;
        calls.longest = calls.longest.max(nanoseconds);
    }
    all
}

/// The function whose end a line tells, and how long it took: ` 0) ! 130.123 us  |  name();` or `|  } /* name */`, of which
/// newer kernels write more behind the name.
fn returned(line: &str) -> Option<(&str, u64)> {
    let (duration, call) = line.split_once('|')?;
    let (_, duration) = duration.split_once(')')?;
    let microseconds = duration.trim().strip_suffix(" us")?;
    let microseconds = microseconds.split_whitespace().last()?;
    let (whole, part) = microseconds.split_once('.')?;
    let nanoseconds = whole.parse::<u64>().ok()? * 1000 + part.parse::<u64>().ok()?;
    let call = call.trim();
    let function = match call.strip_prefix("} /* ") {
        Some(tail) => tail.split([' ', '(']).next()?,
        None => call.split_once('(')?.0,
    };
    Some((function, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_has_its_longest_call() {
        let trace = "\
# tracer: function_graph
# CPU  DURATION                  FUNCTION CALLS
# |     |   |                     |   |   |   |
 0)   1.234 us    |  get_burstcount();
 1) @ 130012.345 us |  wait_for_tpm_stat();
 0)               |  wait_for_tpm_stat() {
 ------------------------------------------
 1)  tpm2-112  =>  tpm2-113
 ------------------------------------------

 1) # 2100.007 us |  } /* wait_for_tpm_stat */
 0) + 11.000 us   |  get_burstcount();
 1)   9.000 us    |  } /* get_burstcount ret=0x3 */
";
        let of = |count, longest| Calls { count, longest };
        let wanted = [
            ("get_burstcount", of(3, 11_000)),
            ("wait_for_tpm_stat", of(2, 130_012_345)),
        ];
        assert_eq!(calls(trace), BTreeMap::from(wanted));
    }
}
