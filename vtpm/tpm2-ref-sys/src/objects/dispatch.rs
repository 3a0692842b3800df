//! libtpms's library layer: the callbacks by which the engine reaches its owner and the cache in
//! which a state waits for the next start. No TPM 1.2, no files, no log.

use core::ffi::{CStr, c_char, c_int, c_uchar, c_uint, c_void};
use core::ptr;

use spin::Mutex;

use crate::engine::{
    PERMANENT_NAME, SAVE_STATE_NAME, VOLATILE_NAME, blob, free, malloc_copy, result,
};
use crate::host;

/// libtpms's `struct libtpms_callbacks`.
#[repr(C)]
struct Callbacks {
    size: c_int,
    nvram_init: extern "C" fn() -> u32,
    nvram_load: unsafe extern "C" fn(*mut *mut c_uchar, *mut u32, u32, *const c_char) -> u32,
    nvram_store: unsafe extern "C" fn(*const c_uchar, u32, u32, *const c_char) -> u32,
    nvram_delete: unsafe extern "C" fn(u32, *const c_char, c_uchar) -> u32,
    io_init: extern "C" fn() -> u32,
    io_get_locality: unsafe extern "C" fn(*mut u32, u32) -> u32,
    io_get_physical_presence: unsafe extern "C" fn(*mut c_uchar, u32) -> u32,
}

static CALLBACKS: Callbacks = Callbacks {
    size: size_of::<Callbacks>() as c_int,
    nvram_init: nothing_to_do,
    nvram_load: load,
    nvram_store: store,
    nvram_delete: delete,
    io_init: nothing_to_do,
    io_get_locality: locality,
    io_get_physical_presence: physical_presence,
};

extern "C" fn nothing_to_do() -> u32 {
    result::SUCCESS
}

unsafe extern "C" fn load(
    data: *mut *mut c_uchar,
    length: *mut u32,
    _tpm: u32,
    name: *const c_char,
) -> u32 {
    // SAFETY: the engine gives a C string.
    if unsafe { CStr::from_ptr(name) } != PERMANENT_NAME {
        return result::RETRY;
    }
    let copy = host::with(|host| {
        let permanent = host.permanent.as_ref()?;
        Some((malloc_copy(permanent), permanent.len() as u32))
    });
    match copy {
        None => result::FAIL,
        Some(None) => result::RETRY,
        Some(Some((block, _))) if block.is_null() => result::SIZE,
        Some(Some((block, size))) => {
            // SAFETY: the engine gives two variables to write to.
            unsafe {
                *data = block;
                *length = size;
            }
            result::SUCCESS
        }
    }
}

unsafe extern "C" fn store(
    data: *const c_uchar,
    length: u32,
    _tpm: u32,
    name: *const c_char,
) -> u32 {
    // SAFETY: the engine gives a C string.
    if unsafe { CStr::from_ptr(name) } != PERMANENT_NAME {
        return result::FAIL;
    }
    // SAFETY: the engine gives a block of that length, which it does not touch meanwhile.
    let permanent = unsafe { core::slice::from_raw_parts(data, length as usize) };
    match host::commit(permanent) {
        Some(Ok(())) => result::SUCCESS,
        _ => result::FAIL,
    }
}

/// Only TPM 1.2 deletes.
unsafe extern "C" fn delete(_tpm: u32, _name: *const c_char, _must_exist: c_uchar) -> u32 {
    result::FAIL
}

unsafe extern "C" fn locality(into: *mut u32, _tpm: u32) -> u32 {
    let locality = host::with(|host| host.locality).unwrap_or(0);
    // SAFETY: the engine gives a variable to write to.
    unsafe { *into = locality.into() };
    result::SUCCESS
}

/// Nobody can press a button on this TPM.
unsafe extern "C" fn physical_presence(into: *mut c_uchar, _tpm: u32) -> u32 {
    // SAFETY: the engine gives a variable to write to.
    unsafe { *into = 0 };
    result::SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn TPMLIB_GetCallbacks() -> *const Callbacks {
    &CALLBACKS
}

/// Declared with variable arguments in C, of which none is looked at.
#[unsafe(no_mangle)]
extern "C" fn TPMLIB_LogPrintfA(_indent: c_uint, _prefix: *const c_char, _format: *const c_char) {}

/// As [`TPMLIB_LogPrintfA`]. Returns how much was written.
#[unsafe(no_mangle)]
extern "C" fn TPMLIB_LogPrintf(_format: *const c_char) -> c_int {
    0
}

/// For the engine's description of itself, which nobody asks for. Fails.
///
/// # Safety
/// `into` is valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn TPMLIB_asprintf(into: *mut *mut c_char, _format: *const c_char) -> c_int {
    // SAFETY: the caller's.
    unsafe { into.write(ptr::null_mut()) };
    -1
}

#[unsafe(no_mangle)]
extern "C" fn TPMLIB_LogArray(_indent: c_uint, _data: *const c_uchar, _length: usize) {}

const NAMES: [(c_uint, &CStr); 3] = [
    (blob::PERMANENT, PERMANENT_NAME),
    (blob::VOLATILE, VOLATILE_NAME),
    (blob::SAVE_STATE, SAVE_STATE_NAME),
];

#[unsafe(no_mangle)]
extern "C" fn TPMLIB_StateTypeToName(kind: c_uint) -> *const c_char {
    NAMES
        .iter()
        .find(|(number, _)| *number == kind)
        .map_or(ptr::null(), |(_, name)| name.as_ptr())
}

/// Loads from the cache, else by the callback.
#[unsafe(no_mangle)]
unsafe extern "C" fn TPM_NVRAM_LoadData(
    data: *mut *mut c_uchar,
    length: *mut u32,
    tpm: u32,
    name: *const c_char,
) -> u32 {
    // SAFETY: the engine gives a C string.
    let wanted = unsafe { CStr::from_ptr(name) };
    if let Some((kind, _)) = NAMES.iter().find(|(_, name)| *name == wanted) {
        match take(*kind) {
            Some(Waiting {
                block: Block(block),
                ..
            }) if block.is_null() => return result::RETRY,
            Some(waiting) => {
                // SAFETY: the engine gives two variables to write to.
                unsafe {
                    *data = waiting.block.0;
                    *length = waiting.length;
                }
                return result::SUCCESS;
            }
            None => {}
        }
    }
    // SAFETY: the arguments are the engine's own.
    unsafe { load(data, length, tpm, name) }
}

/// A block that came from `malloc` and belongs to the cache.
struct Block(*mut c_uchar);

// SAFETY: the block has one owner, and `free` may be called from any thread.
unsafe impl Send for Block {}

/// A state that waits for the next start; a null block says that there is none on purpose.
struct Waiting {
    block: Block,
    length: u32,
}

/// Indexed by [`slot`].
static CACHE: Mutex<[Option<Waiting>; 3]> = Mutex::new([const { None }; 3]);

const fn slot(kind: c_uint) -> Option<usize> {
    match kind {
        blob::PERMANENT => Some(0),
        blob::VOLATILE => Some(1),
        blob::SAVE_STATE => Some(2),
        _ => None,
    }
}

fn take(kind: c_uint) -> Option<Waiting> {
    CACHE.lock().get_mut(slot(kind)?)?.take()
}

/// Drops every state that waits.
pub(crate) fn clear() {
    ClearAllCachedState();
}

#[unsafe(no_mangle)]
extern "C" fn ClearCachedState(kind: c_uint) {
    if let Some(waiting) = take(kind) {
        // SAFETY: the block is from `malloc`, or null, and the cache was its only owner.
        unsafe { free(waiting.block.0.cast::<c_void>()) };
    }
}

#[unsafe(no_mangle)]
extern "C" fn ClearAllCachedState() {
    for (kind, _) in NAMES {
        ClearCachedState(kind);
    }
}

#[unsafe(no_mangle)]
extern "C" fn SetCachedState(kind: c_uint, block: *mut c_uchar, length: u32) {
    ClearCachedState(kind);
    let mut cache = CACHE.lock();
    if let Some(place) = slot(kind).and_then(|slot| cache.get_mut(slot)) {
        *place = Some(Waiting {
            block: Block(block),
            length,
        });
    }
}

/// Takes a state out of the cache. No block and `is_empty` false: nothing waits.
#[unsafe(no_mangle)]
unsafe extern "C" fn GetCachedState(
    kind: c_uint,
    block: *mut *mut c_uchar,
    length: *mut u32,
    is_empty: *mut bool,
) {
    let waiting = take(kind);
    // SAFETY: the engine gives three variables to write to.
    unsafe {
        *is_empty = waiting
            .as_ref()
            .is_some_and(|waiting| waiting.block.0.is_null());
        *length = waiting.as_ref().map_or(0, |waiting| waiting.length);
        *block = waiting.map_or(ptr::null_mut(), |waiting| waiting.block.0);
    }
}

#[unsafe(no_mangle)]
extern "C" fn HasCachedState(kind: c_uint) -> bool {
    slot(kind).is_some_and(|slot| matches!(CACHE.lock().get(slot), Some(Some(_))))
}

/// As [`GetCachedState`], but a copy.
#[unsafe(no_mangle)]
unsafe extern "C" fn CopyCachedState(
    kind: c_uint,
    block: *mut *mut c_uchar,
    length: *mut u32,
    is_empty: *mut bool,
) -> u32 {
    let cache = CACHE.lock();
    let waiting = slot(kind).and_then(|slot| cache.get(slot)?.as_ref());
    let (copy, size, empty) = match waiting {
        None => (ptr::null_mut(), 0, false),
        Some(waiting) if waiting.block.0.is_null() => (ptr::null_mut(), 0, true),
        Some(waiting) => {
            // SAFETY: the cache owns a block of that length.
            let kept =
                unsafe { core::slice::from_raw_parts(waiting.block.0, waiting.length as usize) };
            (malloc_copy(kept), waiting.length, false)
        }
    };
    // SAFETY: the engine gives three variables to write to.
    unsafe {
        *block = copy;
        *length = size;
        *is_empty = empty;
    }
    if size != 0 && copy.is_null() {
        return result::SIZE;
    }
    result::SUCCESS
}
