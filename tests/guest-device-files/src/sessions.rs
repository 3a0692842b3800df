//! More sessions than the TPM can hold, beside one that nobody uses meanwhile.

use crate::Steps;
use crate::device::{Device, send};
use attestation::tpm::Response;
use attestation::tpm::commands::{self, SessionType};

/// More than a context gap of one byte.
const SESSIONS: usize = 300;
/// More than MAX_ACTIVE_SESSIONS.
const CLIENTS: usize = 70;

pub(crate) fn steps(steps: &mut Steps) {
    steps.step("sessions-300-one-parked", parked());
    steps.step("sessions-70-clients", clients());
}

/// A client keeps a session; another starts and ends many; the first one's still works.
fn parked() -> Result<(), String> {
    let mut keeper = open()?;
    let kept = start(&mut keeper)?;
    let digest = policy_digest(&mut keeper, kept)?;
    let mut other = open()?;
    for number in 0..SESSIONS {
        let session = start(&mut other).map_err(|why| format!("session {number}: {why}"))?;
        send(&mut other, &commands::flush_context(session))
            .map_err(|why| format!("flush of session {number}: {why}"))?;
    }
    let again = policy_digest(&mut keeper, kept).map_err(|why| format!("the parked one: {why}"))?;
    if again != digest {
        return Err("the parked session's digest has changed".to_owned());
    }
    send(&mut keeper, &commands::flush_context(kept)).map(drop)
}

/// Clients that leave their session behind: the kernel ends it.
fn clients() -> Result<(), String> {
    for number in 0..CLIENTS {
        let mut client = open()?;
        start(&mut client).map_err(|why| format!("client {number}: {why}"))?;
    }
    Ok(())
}

fn open() -> Result<Device, String> {
    Device::open("/dev/tpmrm0").map_err(|error| format!("open: {error}"))
}

fn start(device: &mut Device) -> Result<u32, String> {
    let command = commands::start_auth_session(SessionType::Policy, &[0x5A; 16]);
    let response = send(device, &command)?;
    let parsed = Response::parse_with_handle(&response).map_err(|error| error.to_string())?;
    parsed.handle.ok_or_else(|| "no handle".to_owned())
}

fn policy_digest(device: &mut Device, session: u32) -> Result<Vec<u8>, String> {
    send(device, &commands::policy_get_digest(session))
}
