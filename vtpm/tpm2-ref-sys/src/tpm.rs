//! The safe owner of the engine.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ffi::{c_uchar, c_void};
use core::hint::black_box;
use core::ptr;
use core::slice;

use zeroize::{Zeroize, Zeroizing};

use crate::engine::{OPENSSL_cpuid_setup, TPM2Interface, blob, free, result};
use crate::error::{ExecuteError, OpenError};
use crate::host::{self, Clock, Entropy, Fault, Host, NvStore};
use crate::objects::{cancel, dispatch, entropy, nv_memory};
use crate::ownership::{Ownership, power_off, power_on};
use crate::state::{self, StateError, StateKind};

/// Length of the longest command that the engine takes.
pub const MAX_COMMAND: usize = 4096;

/// Bytes of the engine's NV memory. A state fits an engine of the same size only.
pub const NV_MEMORY_SIZE: u32 = nv_memory::SIZE as u32;

/// Length of the longest response.
pub const MAX_RESPONSE: usize = 4096;

/// TPM_RC_COMMAND_SIZE as a whole response, for a command that does not fit the engine's buffer.
const COMMAND_TOO_LONG: [u8; 10] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x42];

/// TPM_RC_FAILURE and TPM_RC_NO_RESULT of a search that was given up, as whole responses; TPM_RC_RETRY, which libtpms 0.9
/// says of a self-test that was; and what is said in their place: TPM_RC_CANCELED.
const GAVE_UP: [[u8; 10]; 2] = [
    [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01],
    [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x54],
];
const RETRY: [u8; 10] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x22];
const CANCELED: [u8; 10] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x09];

/// What a TPM takes from its surroundings.
pub struct Config {
    /// The only source of random numbers.
    pub entropy: Entropy,
    /// The time for the TPM's clock.
    pub clock: Clock,
    /// Where the permanent state is kept.
    pub store: Box<dyn NvStore>,
}

/// The engine, as if in a chip of its own.
pub struct Tpm {
    command: Box<[u8; MAX_COMMAND]>,
    response: Box<[u8; MAX_RESPONSE]>,
    /// Declared last: the buffers are gone when the engine becomes free for another owner.
    _ownership: Ownership,
}

impl Tpm {
    /// Powers the TPM on with the state in the store, or manufactures a new one when there is none.
    /// The first command is then TPM2_Startup.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let ownership = Ownership::take().ok_or(OpenError::InUse)?;
        host::set(Some(Host::new(config.entropy, config.clock, config.store)?));
        // SAFETY: initialises OpenSSL's own variables; nobody else is in the engine (`ownership`).
        unsafe { OPENSSL_cpuid_setup() };
        if !entropy::install() {
            return Err(OpenError::Engine(result::FAIL));
        }
        let tpm = Self {
            command: Box::new([0; MAX_COMMAND]),
            response: Box::new([0; MAX_RESPONSE]),
            _ownership: ownership,
        };
        let started = set_longest(MAX_COMMAND as u32).and_then(|()| power_on());
        match (fault(), started) {
            (Some(fault), _) => Err(fault.into()),
            (None, Err(code)) => Err(OpenError::Engine(code)),
            (None, Ok(())) => Ok(tpm),
        }
    }

    /// What leads to the engine has room for messages of `length` bytes: it tells so (TPM_PT_MAX_COMMAND_SIZE and
    /// TPM_PT_MAX_RESPONSE_SIZE), also after a reset. At first it is [`MAX_COMMAND`].
    ///
    /// # Errors
    /// The engine does not go so low, or so high.
    pub fn set_longest(&mut self, length: usize) -> Result<(), OpenError> {
        let length = u32::try_from(length).map_err(|_| OpenError::Engine(result::SIZE))?;
        set_longest(length).map_err(OpenError::Engine)
    }

    /// Executes one command to its end and returns the length of the response.
    ///
    /// `response` should have [`MAX_RESPONSE`] bytes. A malformed command is a matter for the
    /// engine, whose response says so.
    pub fn execute(
        &mut self,
        locality: u8,
        command: &[u8],
        response: &mut [u8],
    ) -> Result<usize, ExecuteError> {
        in_service()?;
        set_locality(locality)?;
        let Some(own_command) = self.command.get_mut(..command.len()) else {
            return put(&COMMAND_TOO_LONG, response);
        };
        // The engine decrypts parameters in place.
        own_command.copy_from_slice(command);

        let own_command = own_command.len();
        let processed = self.process(own_command);
        let gave_up = cancel::gave_up();
        if in_service().is_ok()
            && let Ok(length) = processed
            && let Some(said) = self.response.get(..length)
            && (gave_up && GAVE_UP.iter().any(|code| code == said)
                || cancel::is_requested() && said == RETRY)
        {
            self.response.fill(0);
            return put(&CANCELED, response);
        }

        let outcome = match (in_service(), processed) {
            (Err(fault), _) => Err(fault),
            (Ok(()), Err(code)) => Err(ExecuteError::Engine(code)),
            (Ok(()), Ok(length)) => match self.response.get(..length) {
                Some(own_response) => put(own_response, response),
                None => Err(ExecuteError::Engine(result::SIZE)),
            },
        };
        self.response.fill(0);
        outcome
    }

    /// Executes the first `length` bytes of the command buffer, which it clears, and returns how
    /// many of the response buffer were filled, or libtpms's code.
    fn process(&mut self, length: usize) -> Result<usize, u32> {
        let command = self.command.get_mut(..length).ok_or(result::SIZE)?;
        let own_response = self.response.as_mut_ptr();
        let mut block = own_response;
        let mut capacity = MAX_RESPONSE as u32;
        let mut response = 0;
        // SAFETY: nobody else is in the engine (`&mut self`, one `Tpm` a process). The command is
        // ours and as long as said. The response block is not null and has the 4096 bytes that
        // make the engine write to it instead of reallocating it.
        let code = unsafe {
            (TPM2Interface.process)(
                &mut block,
                &mut response,
                &mut capacity,
                command.as_mut_ptr(),
                command.len() as u32,
            )
        };
        // It may hold authorization values.
        command.zeroize();
        erase_stack();
        if code == result::SUCCESS && block == own_response {
            Ok(response as usize)
        } else {
            Err(code)
        }
    }

    /// Commits what the engine has written to its NV memory and not committed: Clock alone, which the engine leaves to
    /// the next command that changes something else.
    pub fn commit(&mut self) -> Result<(), ExecuteError> {
        in_service()?;
        if !nv_memory::is_uncommitted() {
            return Ok(());
        }
        // SAFETY: nobody else is in the engine (`&mut self`, one `Tpm` a process).
        let committed = unsafe { nv_memory::commit() };
        match (in_service(), committed) {
            (Ok(()), true) => Ok(()),
            (Ok(()), false) => Err(ExecuteError::Engine(result::FAIL)),
            (Err(fault), _) => Err(fault),
        }
    }

    /// Tells the engine whether NV can be written. While it cannot, commands that have to write answer
    /// TPM_RC_NV_UNAVAILABLE, and Clock stands and is not safe (TPM 2.0 Library, part 1, "Clock").
    pub fn set_nv_available(&mut self, available: bool) {
        let _ = host::with(|host| host.nv_available = available);
    }

    /// Power off and on again (_TPM_Init): volatile state is lost, a [`Fault`] is forgotten. The
    /// next command is TPM2_Startup.
    pub fn reset(&mut self) -> Result<(), OpenError> {
        power_off();
        let _ = host::with(|host| host.fault = None);
        self.start()
    }

    fn start(&mut self) -> Result<(), OpenError> {
        let started = power_on();
        if started.is_err() {
            let _ = host::with(|host| host.fail(Fault::Start));
        }
        match (fault(), started) {
            (Some(Fault::Start), Err(code)) => Err(OpenError::Engine(code)),
            (Some(fault), _) => Err(fault.into()),
            (None, _) => Ok(()),
        }
    }

    /// A copy of the engine's state now. Secret: see [`NvStore`].
    pub fn state(&self, kind: StateKind) -> Result<Vec<u8>, StateError> {
        let number = match kind {
            StateKind::Permanent => blob::PERMANENT,
            StateKind::Volatile => blob::VOLATILE,
        };
        let mut block: *mut c_uchar = ptr::null_mut();
        let mut length = 0;
        // SAFETY: nobody else is in the engine (a `Tpm` is on one thread at a time, so `&self` is enough:
        // the call changes nothing but the three variables it is given).
        let code = unsafe { (TPM2Interface.get_state)(number, &mut block, &mut length) };
        if block.is_null() || code != result::SUCCESS {
            return Err(StateError::Unavailable(code));
        }
        // SAFETY: the engine gave a block of `malloc` that is ours now, of that length.
        let blob = unsafe { slice::from_raw_parts_mut(block, length as usize) };
        let wrapped = state::wrap(kind, blob);
        blob.zeroize();
        // SAFETY: from `malloc`, ours, not used again.
        unsafe { free(block.cast::<c_void>()) };
        Ok(wrapped)
    }

    /// Gives the engine another state, as it was returned by [`state`](Self::state).
    ///
    /// With a volatile state the TPM goes on where it was, without TPM2_Startup; the two states
    /// must be of the same moment. Without one it is as after [`reset`](Self::reset). On
    /// [`StateError::Foreign`], [`Kind`](StateError::Kind) and [`Damaged`](StateError::Damaged)
    /// nothing has changed; on any other error the TPM is out of service until it is reset, which
    /// brings back its former permanent state.
    pub fn set_state(
        &mut self,
        permanent: &[u8],
        volatile: Option<&[u8]>,
    ) -> Result<(), StateError> {
        let permanent = state::unwrap(StateKind::Permanent, permanent)?;
        let volatile = volatile
            .map(|volatile| state::unwrap(StateKind::Volatile, volatile))
            .transpose()?;

        power_off();
        let former = host::with(|host| {
            host.fault = None;
            host.permanent.replace(Zeroizing::new(permanent.to_vec()))
        });
        let states = [
            (blob::PERMANENT, Some(permanent)),
            (blob::VOLATILE, volatile),
        ];
        let mut outcome = states
            .into_iter()
            .filter_map(|(number, state)| Some((number, state?)))
            .try_for_each(|(number, state)| {
                // SAFETY: nobody else is in the engine, which is powered off; it copies the state.
                match unsafe {
                    (TPM2Interface.set_state)(number, state.as_ptr(), state.len() as u32)
                } {
                    result::SUCCESS => Ok(()),
                    code => Err(StateError::Refused(code)),
                }
            });
        if outcome.is_ok() {
            outcome = self.start().map_err(|error| match error {
                OpenError::Engine(code) => StateError::Refused(code),
                _ => StateError::Refused(result::FAIL),
            });
        }
        if outcome.is_ok() {
            let committed = host::commit(permanent);
            outcome = committed
                .unwrap_or(Err(host::NvError))
                .map_err(|_| StateError::Store);
        }
        if outcome.is_err() {
            dispatch::clear();
            let _ = host::with(|host| {
                host.permanent = former.flatten();
                host.fail(Fault::Start);
            });
        }
        outcome
    }

    /// Whether a dynamic launch has happened since the flag was last reset (TPM_ACCESS_x.tpmEstablishment,
    /// which shows it inverted). There is no way to one: it needs a platform at locality 4.
    pub fn established(&self) -> bool {
        let mut established: c_uchar = 0;
        // SAFETY: nobody else is in the engine; it only writes the variable.
        let code = unsafe { (TPM2Interface.established_get)(&mut established) };
        code == result::SUCCESS && established != 0
    }

    /// Resets that flag. Only localities 3 and 4 may; from others nothing happens.
    pub fn reset_established(&mut self, locality: u8) -> Result<(), ExecuteError> {
        in_service()?;
        set_locality(locality)?;
        // SAFETY: nobody else is in the engine.
        match unsafe { (TPM2Interface.established_reset)() } {
            result::SUCCESS => Ok(()),
            _ => Err(ExecuteError::Locality(locality)),
        }
    }

    /// For asking, from an interrupt handler or another thread, that the present command give up.
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle(())
    }
}

/// Asks the command that is being executed to end with TPM_RC_CANCELED. Most commands do not look;
/// the search for the primes of an RSA key does, before each candidate. Between two commands it does nothing.
#[derive(Clone, Copy, Debug)]
pub struct CancelHandle(());

impl CancelHandle {
    /// See [`CancelHandle`].
    pub fn cancel(self) {
        cancel::request();
    }
}

/// Bytes of stack that the engine takes at most for a command, with room; a test looks for more.
const ENGINE_STACK: usize = 24 << 10;

/// Zeroes what the engine's functions had on the stack: they do not, and the next who has the memory
/// might show it. To be called by who called the engine, so that this frame is where theirs were.
#[inline(never)]
fn erase_stack() {
    let mut frame = [0_u64; ENGINE_STACK / 8];
    // Somebody else may read it, so it has to be written.
    black_box(&mut frame);
}

fn put(from: &[u8], into: &mut [u8]) -> Result<usize, ExecuteError> {
    let length = from.len();
    into.get_mut(..length)
        .ok_or(ExecuteError::ResponseTooLong { length })?
        .copy_from_slice(from);
    Ok(length)
}

/// Only for the holder of the [`Ownership`].
fn set_longest(length: u32) -> Result<(), u32> {
    // SAFETY: nobody else is in the engine (`Ownership`); bounds that are not asked for are null.
    let now = unsafe { (TPM2Interface.set_buffer_size)(length, ptr::null_mut(), ptr::null_mut()) };
    // It keeps to its own bounds, and says what it has now.
    match now == length {
        true => Ok(()),
        false => Err(result::SIZE),
    }
}

fn fault() -> Option<Fault> {
    host::with(|host| host.fault).flatten()
}

fn in_service() -> Result<(), ExecuteError> {
    match fault() {
        Some(fault) => Err(fault.into()),
        None => Ok(()),
    }
}

fn set_locality(locality: u8) -> Result<(), ExecuteError> {
    if matches!(locality, 5..32) {
        return Err(ExecuteError::Locality(locality));
    }
    let _ = host::with(|host| host.locality = locality);
    Ok(())
}

#[cfg(test)]
mod tests;
