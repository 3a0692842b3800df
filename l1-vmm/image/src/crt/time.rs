//! Time: all clocks are the one since the TD's start; nobody tells L1 the time of day that it could
//! trust.

use core::ffi::{c_int, c_long, c_void};

use crate::arch::clock;

const SECOND: u64 = 1_000_000_000;

/// `struct timespec`; `struct timeval` has microseconds in the second field.
#[repr(C)]
struct Time {
    seconds: c_long,
    fraction: c_long,
}

/// # Safety
/// `into` is null or valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn time(into: *mut c_long) -> c_long {
    let seconds = (clock::nanoseconds() / SECOND) as c_long;
    if !into.is_null() {
        // SAFETY: the caller's.
        unsafe { into.write(seconds) };
    }
    seconds
}

/// # Safety
/// `into` is valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(_clock: c_int, into: *mut Time) -> c_int {
    let now = clock::nanoseconds();
    // SAFETY: the caller's.
    unsafe {
        into.write(Time {
            seconds: (now / SECOND) as c_long,
            fraction: (now % SECOND) as c_long,
        });
    }
    0
}

/// # Safety
/// `into` is valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn gettimeofday(into: *mut Time, _zone: *mut c_void) -> c_int {
    let now = clock::nanoseconds();
    // SAFETY: the caller's.
    unsafe {
        into.write(Time {
            seconds: (now / SECOND) as c_long,
            fraction: (now % SECOND / 1000) as c_long,
        });
    }
    0
}
