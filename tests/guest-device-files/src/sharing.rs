//! Several users of the device files: who may open them, what a part of a response is, what waits, who is killed.

use crate::Steps;
use crate::device::{Device, flags};
use crate::worker::{self, Job};
use attestation::tpm::{commands, response_code, rh, template};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::time::Duration;

const DIRECT: &str = "/dev/tpm0";
pub(crate) const MANAGED: &str = "/dev/tpmrm0";
/// Of Linux (`errno.h`).
pub(crate) const EBUSY: i32 = 16;
/// Bytes of random numbers, and of the response that has them.
const RANDOM: u16 = 32;
const RESPONSE: usize = 10 + 2 + RANDOM as usize;
/// Processes that open a device file at the same time, and how often each.
const OPENERS: usize = 4;
const OPENS: usize = 25;
/// Processes that are killed, and how long each has.
const KILLED: u32 = 8;
const LIFE: Duration = Duration::from_millis(7);

pub(crate) fn steps(steps: &mut Steps) {
    steps.step("tpm0-has-one-user", exclusive());
    steps.step("tpm0-open-close-races", races(DIRECT));
    steps.step("tpmrm0-open-close-races", races(MANAGED));
    for path in [DIRECT, MANAGED] {
        let name = path.trim_start_matches("/dev/");
        steps.step(&format!("{name}-partial-reads"), partial_reads(path));
        steps.step(&format!("{name}-unread-response"), unread(path));
        steps.step(&format!("{name}-poll"), polled(path));
        steps.step(&format!("{name}-killed-in-mid-command"), killed(path));
    }
}

fn open(path: &str) -> Result<Device, String> {
    Device::open(path).map_err(|error| format!("{path}: {error}"))
}

fn random() -> Vec<u8> {
    commands::get_random(RANDOM)
}

/// Whether the TPM answers a new client.
pub(crate) fn works(path: &str) -> Result<(), String> {
    let response = open(path)?.transmit(&random());
    let response = response.map_err(|error| error.to_string())?;
    match (response_code(&response), response.len()) {
        (Some(0), RESPONSE) => Ok(()),
        (code, length) => Err(format!("{code:x?} and {length} bytes")),
    }
}

fn exclusive() -> Result<(), String> {
    let first = open(DIRECT)?;
    match Device::open(DIRECT) {
        Err(error) if error.raw_os_error() == Some(EBUSY) => {}
        Err(error) => return Err(error.to_string()),
        Ok(_) => return Err("two have it".to_owned()),
    }
    drop(first);
    works(DIRECT)
}

/// Each opens, sends a command and closes; one at a time has `/dev/tpm0`.
fn races(path: &str) -> Result<(), String> {
    let job = Job::Open(path, OPENS);
    worker::all((0..OPENERS).map(|_| job)).map_err(|error| error.to_string())
}

fn partial_reads(path: &str) -> Result<(), String> {
    let mut device = open(path)?;
    device.send(&random()).map_err(|error| error.to_string())?;
    let mut response = Vec::new();
    for size in [1, 5, 10, 3, 100, 100] {
        let part = device.receive(size).map_err(|error| error.to_string())?;
        response.extend(part);
    }
    match (response_code(&response), response.len()) {
        (Some(0), RESPONSE) => works_again(device),
        (code, length) => Err(format!("{code:x?} and {length} bytes")),
    }
}

fn works_again(mut device: Device) -> Result<(), String> {
    let response = device.transmit(&random());
    match response.map(|response| response.len()) {
        Ok(RESPONSE) => Ok(()),
        other => Err(format!("the next one: {other:?}")),
    }
}

/// A second command waits for nobody: the response to the first has not been read.
fn unread(path: &str) -> Result<(), String> {
    let mut device = open(path)?;
    device.send(&random()).map_err(|error| error.to_string())?;
    match device.send(&random()) {
        Err(error) if error.raw_os_error() == Some(EBUSY) => {}
        other => return Err(format!("the second one: {other:?}")),
    }
    let length = device.receive(8192).map(|response| response.len());
    match length {
        Ok(RESPONSE) => works_again(device),
        other => Err(format!("the first one's response: {other:?}")),
    }
}

/// A command without waiting, whose response a poll tells of.
fn polled(path: &str) -> Result<(), String> {
    let device = Device::open_with(path, flags::NONBLOCK);
    let mut device = device.map_err(|error| error.to_string())?;
    let key = commands::create_primary(rh::NULL, &template::ek_p256());
    for _ in 0..3 {
        device.send(&key).map_err(|error| error.to_string())?;
        let seconds = Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        };
        let mut waits = [PollFd::new(device.file(), PollFlags::IN)];
        let ready = poll(&mut waits, Some(&seconds)).map_err(|error| error.to_string())?;
        if ready != 1 {
            return Err("no response came".to_owned());
        }
        let response = device.receive(8192).map_err(|error| error.to_string())?;
        let code = response_code(&response);
        if code != Some(0) {
            return Err(format!("{code:x?}"));
        }
        let handle = response.get(10..14).and_then(|handle| handle.first_chunk());
        let handle = handle.map_or(0, |handle| u32::from_be_bytes(*handle));
        device
            .send(&commands::flush_context(handle))
            .map_err(|error| error.to_string())?;
        let mut waits = [PollFd::new(device.file(), PollFlags::IN)];
        poll(&mut waits, Some(&seconds)).map_err(|error| error.to_string())?;
        device.receive(8192).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Who is killed leaves nothing behind that the next one meets.
fn killed(path: &str) -> Result<(), String> {
    let problem = |error: io::Error| error.to_string();
    for round in 1..=KILLED {
        let mut child = worker::start(Job::Tests(path)).map_err(problem)?;
        std::thread::sleep(LIFE * round);
        child.kill().map_err(problem)?;
        child.wait().map_err(problem)?;
        works(path).map_err(|why| format!("after kill {round}: {why}"))?;
    }
    Ok(())
}
