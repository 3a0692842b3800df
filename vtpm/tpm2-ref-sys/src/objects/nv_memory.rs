//! The engine's NV memory: a static array of libtpms's, loaded from and committed to the owner's
//! store through libtpms's own marshalling.

use core::ffi::{c_int, c_uchar, c_uint, c_void};
use core::sync::atomic::{AtomicBool, Ordering};

use crate::host::{self, Fault};

/// Size of `s_NV` in libtpms 0.9.2 and 0.10.2 (NV_MEMORY_SIZE).
pub(crate) const SIZE: usize = 0x2_b2c0;

/// What the libtpms side answers when no store is registered; never the case here.
const NO_CALLBACKS: c_int = -2;

/// Whether NV memory was written since it was last committed or loaded. libtpms writes Clock there and leaves it to the
/// next commit that has another reason ("Changing the clock alone does not cause the permanent state to be written to
/// storage", Time.c).
static UNCOMMITTED: AtomicBool = AtomicBool::new(false);

/// See [`UNCOMMITTED`].
pub(crate) fn is_uncommitted() -> bool {
    UNCOMMITTED.load(Ordering::Relaxed)
}

unsafe extern "C" {
    static mut s_NV: [u8; SIZE];
    static mut s_NvIsAvailable: c_int;
    fn libtpms_plat__NVEnable() -> c_int;
    fn libtpms_plat__NVDisable() -> c_int;
    fn libtpms_plat__NvCommit() -> c_int;
}

/// The first byte of a range of NV memory; records a fault when the range is not all inside.
fn range(offset: c_uint, length: c_uint) -> Option<*mut u8> {
    let offset = offset as usize;
    if offset.checked_add(length as usize)? > SIZE {
        let _ = host::with(|host| host.fail(Fault::NvRange));
        return None;
    }
    // SAFETY: `offset` is at most `SIZE`, so the result is inside or one past the array.
    Some(unsafe { (&raw mut s_NV).cast::<u8>().add(offset) })
}

/// Loads the permanent state into NV memory. 0: done, negative: the engine goes to failure mode.
#[unsafe(no_mangle)]
unsafe extern "C" fn _plat__NVEnable(_parameter: *mut c_void) -> c_int {
    // SAFETY: called by the engine during power-on, as the function it replaces.
    let loaded = unsafe { libtpms_plat__NVEnable() };
    UNCOMMITTED.store(false, Ordering::Relaxed);
    match loaded {
        NO_CALLBACKS => -1,
        result => result,
    }
}

/// There is no file to fall back to.
#[unsafe(no_mangle)]
extern "C" fn _plat__NVEnable_NVChipFile(_parameter: *mut c_void) -> c_int {
    -1
}

#[unsafe(no_mangle)]
unsafe extern "C" fn _plat__NVDisable(_parameter: *mut c_void) {
    // SAFETY: called by the engine at power-off, as the function it replaces.
    unsafe {
        libtpms_plat__NVDisable();
        s_NvIsAvailable = 0;
    }
}

/// 0: NV can be written now, 1: it failed, or the owner says that it cannot.
#[unsafe(no_mangle)]
extern "C" fn _plat__IsNvAvailable() -> c_int {
    let broken = host::with(|host| host.fault == Some(Fault::Nv) || !host.nv_available);
    broken.unwrap_or(true).into()
}

/// [`_plat__IsNvAvailable`] by its name in libtpms 0.10.
#[unsafe(no_mangle)]
extern "C" fn _plat__GetNvReadyState() -> c_int {
    _plat__IsNvAvailable()
}

#[unsafe(no_mangle)]
extern "C" fn _plat__SetNvAvail() {
    // SAFETY: libtpms's variable, only used by the one thread that is in the engine.
    unsafe { s_NvIsAvailable = 1 }
}

/// 1: done, 0: out of range. (0.9 does not look at the result of this one, nor of the last two.)
#[unsafe(no_mangle)]
unsafe extern "C" fn _plat__NvMemoryRead(
    offset: c_uint,
    length: c_uint,
    into: *mut c_uchar,
) -> c_int {
    let Some(from) = range(offset, length) else {
        // SAFETY: the engine gives a buffer of `length`.
        unsafe { into.write_bytes(0, length as usize) };
        return 0;
    };
    // SAFETY: the range is inside NV memory, the engine gives a buffer of `length`; they may
    // overlap.
    unsafe { into.copy_from(from, length as usize) };
    1
}

/// 1: done, 0: out of range.
#[unsafe(no_mangle)]
unsafe extern "C" fn _plat__NvMemoryWrite(
    offset: c_uint,
    length: c_uint,
    from: *const c_uchar,
) -> c_int {
    let Some(into) = range(offset, length) else {
        return 0;
    };
    UNCOMMITTED.store(true, Ordering::Relaxed);
    // SAFETY: the range is inside NV memory, the engine gives `length` bytes; they may overlap.
    unsafe { into.copy_from(from, length as usize) };
    1
}

#[unsafe(no_mangle)]
unsafe extern "C" fn _plat__NvIsDifferent(
    offset: c_uint,
    length: c_uint,
    from: *const c_uchar,
) -> c_int {
    let Some(kept) = range(offset, length) else {
        return 1;
    };
    // SAFETY: the range is inside NV memory and the engine gives `length` bytes; nothing writes to
    // either while they are compared.
    let equal = unsafe {
        core::slice::from_raw_parts(kept, length as usize)
            == core::slice::from_raw_parts(from, length as usize)
    };
    (!equal).into()
}

/// [`_plat__NvIsDifferent`] by its name in libtpms 0.10. Out of range: -1.
///
/// # Safety
/// As that one's.
#[unsafe(no_mangle)]
unsafe extern "C" fn _plat__NvGetChangedStatus(
    offset: c_uint,
    length: c_uint,
    from: *const c_uchar,
) -> c_int {
    if range(offset, length).is_none() {
        return -1;
    }
    // SAFETY: the caller's.
    unsafe { _plat__NvIsDifferent(offset, length, from) }
}

/// 1: done, 0: out of range.
#[unsafe(no_mangle)]
extern "C" fn _plat__NvMemoryClear(offset: c_uint, length: c_uint) -> c_int {
    let Some(into) = range(offset, length) else {
        return 0;
    };
    UNCOMMITTED.store(true, Ordering::Relaxed);
    // SAFETY: the range is inside NV memory.
    unsafe { into.write_bytes(0xff, length as usize) };
    1
}

/// Moves a range and zeroes what it leaves behind. 1: done, 0: out of range.
#[unsafe(no_mangle)]
extern "C" fn _plat__NvMemoryMove(source: c_uint, destination: c_uint, length: c_uint) -> c_int {
    let (Some(from), Some(into)) = (range(source, length), range(destination, length)) else {
        return 0;
    };
    let gap = source.abs_diff(destination);
    let left_behind = if destination > source {
        range(source, gap)
    } else {
        range(destination.saturating_add(length), gap)
    };
    UNCOMMITTED.store(true, Ordering::Relaxed);
    // SAFETY: both ranges are inside NV memory and may overlap.
    unsafe { into.copy_from(from, length as usize) };
    if let Some(left_behind) = left_behind {
        // SAFETY: the range is inside NV memory.
        unsafe { left_behind.write_bytes(0, gap as usize) };
    }
    1
}

/// Marshals NV memory and stores it. 0: done.
#[unsafe(no_mangle)]
unsafe extern "C" fn _plat__NvCommit() -> c_int {
    UNCOMMITTED.store(false, Ordering::Relaxed);
    // SAFETY: called by the engine with its NV memory at rest, as the function it replaces.
    unsafe { libtpms_plat__NvCommit() }
}

/// As [`_plat__NvCommit`], between two commands.
///
/// # Safety
/// Nobody else is in the engine.
pub(crate) unsafe fn commit() -> bool {
    // SAFETY: no command runs (the caller's), so NV memory is at rest.
    unsafe { _plat__NvCommit() == 0 }
}
