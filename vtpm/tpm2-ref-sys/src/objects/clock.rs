//! The TPM's clock: milliseconds from the owner's clock, made faster or slower by TPM2_ClockRateAdjust.
//!
//! The variables stay libtpms's own, because its volatile state saves and restores them.

use core::ffi::c_int;

use crate::host;

/// Rate at which the clock is neither sped up nor slowed down, and the reference implementation's
/// adjustments (TpmProfile, CLOCK_*).
const NOMINAL: u32 = 30_000;
const COARSE: i32 = 300;
const MEDIUM: i32 = 30;
const FINE: i32 = 1;
const LIMIT: u32 = 5_000;

unsafe extern "C" {
    static mut s_adjustRate: u32;
    static mut s_timerReset: c_int;
    static mut s_timerStopped: c_int;
    static mut s_hostMonotonicAdjustTime: i64;
    static mut s_suspendedElapsedTime: u64;
    static mut s_lastSystemTime: u64;
    static mut s_lastReportedTime: u64;
    static mut s_realTimePrevious: u64;
    static mut s_tpmTime: u64;
}

fn milliseconds() -> u64 {
    host::with(|host| (host.clock)() / 1_000_000).unwrap_or(0)
}

/// The owner's clock stands for both of the host's clocks that libtpms knows.
#[unsafe(no_mangle)]
extern "C" fn ClockGetTime(_clock: c_int) -> u64 {
    milliseconds()
}

/// After a volatile state was restored: counts the time since it was saved, if the clock still is
/// the one of then.
#[unsafe(no_mangle)]
extern "C" fn ClockAdjustPostResume(saved_at: u64, times_are_real: c_int) {
    let now = milliseconds();
    // SAFETY: libtpms's variables, of these types, only used by the one thread that is in the
    // engine; this function runs on it.
    unsafe {
        if times_are_real != 0 {
            s_suspendedElapsedTime = now;
            s_hostMonotonicAdjustTime = 0i64.wrapping_sub_unsigned(now);
            s_lastSystemTime = now;
            s_lastReportedTime = now;
        } else {
            s_suspendedElapsedTime =
                s_suspendedElapsedTime.wrapping_add(now.saturating_sub(saved_at));
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn _plat__TimerReset() {
    // SAFETY: as in `ClockAdjustPostResume`.
    unsafe {
        s_lastSystemTime = 0;
        s_tpmTime = 0;
        s_adjustRate = NOMINAL;
        s_timerReset = 1;
        s_timerStopped = 1;
        s_hostMonotonicAdjustTime = 0;
        s_suspendedElapsedTime = 0;
    }
}

#[unsafe(no_mangle)]
extern "C" fn _plat__TimerRestart() {
    // SAFETY: as in `ClockAdjustPostResume`.
    unsafe { s_timerStopped = 1 }
}

#[unsafe(no_mangle)]
extern "C" fn _plat__RealTime() -> u64 {
    // SAFETY: as in `ClockAdjustPostResume`.
    let (adjustment, suspended) = unsafe { (s_hostMonotonicAdjustTime, s_suspendedElapsedTime) };
    milliseconds()
        .wrapping_add(suspended)
        .wrapping_add_signed(adjustment)
}

/// The TPM's time in milliseconds, after what passed since the last reading was added at the
/// present rate.
#[unsafe(no_mangle)]
extern "C" fn _plat__TimerRead() -> u64 {
    let now = _plat__RealTime();
    // SAFETY: as in `ClockAdjustPostResume`.
    unsafe {
        if s_lastSystemTime == 0 {
            s_lastReportedTime = 0;
            s_realTimePrevious = 0;
        } else {
            s_lastReportedTime =
                s_lastReportedTime.wrapping_add(now.saturating_sub(s_lastSystemTime));
        }
        s_lastSystemTime = now;
        let passed = s_lastReportedTime.saturating_sub(s_realTimePrevious);
        let rate = u64::from(s_adjustRate.max(1));
        let counted = passed.wrapping_mul(u64::from(NOMINAL)) / rate;
        s_tpmTime = s_tpmTime.wrapping_add(counted);
        // The part that did not make a millisecond is left for the next reading.
        s_realTimePrevious =
            s_realTimePrevious.wrapping_add(counted.wrapping_mul(rate) / u64::from(NOMINAL));
        s_tpmTime
    }
}

#[unsafe(no_mangle)]
extern "C" fn _plat__TimerWasReset() -> c_int {
    // SAFETY: as in `ClockAdjustPostResume`.
    unsafe { (&raw mut s_timerReset).replace(0) }
}

#[unsafe(no_mangle)]
extern "C" fn _plat__TimerWasStopped() -> c_int {
    // SAFETY: as in `ClockAdjustPostResume`.
    unsafe { (&raw mut s_timerStopped).replace(0) }
}

/// Makes the clock's divisor greater (slower) or smaller by `step`.
fn adjust_rate(step: i32) {
    // SAFETY: as in `ClockAdjustPostResume`.
    unsafe {
        s_adjustRate = s_adjustRate
            .saturating_add_signed(step)
            .clamp(NOMINAL - LIMIT, NOMINAL + LIMIT);
    }
}

/// libtpms 0.9 tells the step itself.
#[unsafe(no_mangle)]
extern "C" fn _plat__ClockAdjustRate(adjustment: c_int) {
    adjust_rate(match adjustment.abs() {
        COARSE | MEDIUM | FINE => adjustment,
        _ => 0,
    });
}

/// libtpms 0.10 tells its name (`_plat__ClockAdjustStep`): −3 is coarse and slower, 3 coarse and
/// faster.
#[unsafe(no_mangle)]
extern "C" fn _plat__ClockRateAdjust(adjustment: c_int) {
    adjust_rate(match adjustment {
        -3 => COARSE,
        -2 => MEDIUM,
        -1 => FINE,
        1 => -FINE,
        2 => -MEDIUM,
        3 => -COARSE,
        _ => 0,
    });
}
