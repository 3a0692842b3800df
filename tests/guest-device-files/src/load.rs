//! Many objects of many clients, and many commands from several processes: none is lost.

use crate::Steps;
use crate::device::{Device, send};
use crate::sharing::MANAGED;
use crate::worker::{self, Job};
use attestation::digest::{Algorithm, Digest};
use attestation::pcr::Bank;
use attestation::tpm::{Curve, Key, PcrSelect, Public, Response, commands, rh, template};
use std::fs;

/// Clients with an object each.
const CLIENTS: u8 = 100;
/// The PCRs of the processes, which nobody else extends meanwhile.
const PCRS: [u32; 4] = [11, 12, 13, 14];
/// How much less memory there may be afterwards, in KiB.
const LESS_MEMORY: u64 = 8 << 10;

/// `extends` and `mixed` commands, of all processes together.
pub(crate) fn steps(steps: &mut Steps, extends: usize, mixed: usize) {
    steps.step("contexts-100", contexts());
    steps.step(
        &format!("load-{extends}-extends-{mixed}-mixed"),
        load(extends, mixed),
    );
}

fn open() -> Result<Device, String> {
    Device::open(MANAGED).map_err(|error| error.to_string())
}

/// A storage key, another for each number.
fn template(number: u8) -> Public {
    Public {
        key: Key::Ecc {
            curve: Curve::P256,
            x: vec![number; 32],
            y: vec![0; 32],
        },
        ..template::ek_p256()
    }
}

/// Each client finds its own object, whatever the others did meanwhile: the kernel moves them in and out of the TPM.
fn contexts() -> Result<(), String> {
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut device = open()?;
        let created = send(
            &mut device,
            &commands::create_primary(rh::NULL, &template(number)),
        )?;
        let parsed = Response::parse_with_handle(&created).map_err(|error| error.to_string())?;
        let handle = parsed.handle.ok_or("no handle")?;
        let public = send(&mut device, &commands::read_public(handle))?;
        clients.push((device, handle, public));
    }
    for (number, (device, handle, public)) in clients.iter_mut().enumerate().rev() {
        let again = send(device, &commands::read_public(*handle));
        let again = again.map_err(|why| format!("client {number}: {why}"))?;
        if again != *public {
            return Err(format!("client {number} has another object"));
        }
    }
    let mut publics: Vec<_> = clients.iter().map(|(_, _, public)| public).collect();
    publics.sort();
    publics.dedup();
    match publics.len() == usize::from(CLIENTS) {
        true => Ok(()),
        false => Err(format!("only {} objects differ", publics.len())),
    }
}

/// Of PCR_Read: TPM2_PCR_Read's update counter, and the value.
fn read_pcr(device: &mut Device, pcr: u32) -> Result<(u32, Digest), String> {
    let select = PcrSelect::of(Algorithm::Sha256, [pcr as u8]);
    let response = send(device, &commands::pcr_read(select))?;
    let counter = response.get(10..14).and_then(|bytes| bytes.first_chunk());
    let counter = counter.map(|bytes| u32::from_be_bytes(*bytes));
    let value = response
        .get(30..)
        .and_then(|value| Digest::new(Algorithm::Sha256, value));
    counter
        .zip(value)
        .ok_or_else(|| "a response of another size".to_owned())
}

fn number(of: usize) -> Option<Digest> {
    let mut bytes = [0; 32];
    bytes
        .iter_mut()
        .zip(of.to_be_bytes())
        .for_each(|(place, byte)| *place = byte);
    Digest::new(Algorithm::Sha256, &bytes)
}

fn load(extends: usize, mixed: usize) -> Result<(), String> {
    let each = (extends / PCRS.len(), mixed / PCRS.len());
    let mut device = open()?;
    let mut before = Vec::new();
    for pcr in PCRS {
        before.push(read_pcr(&mut device, pcr)?);
    }
    drop(device);
    let memory = available()?;
    let jobs = PCRS.map(|pcr| Job::Load(pcr, each.0, each.1));
    worker::all(jobs.into_iter()).map_err(|error| error.to_string())?;
    let after = available()?;
    if after + LESS_MEMORY < memory {
        return Err(format!("{after} KiB are left of {memory}"));
    }
    let mut device = open()?;
    for (pcr, (counter, value)) in PCRS.into_iter().zip(before) {
        let mut bank = Bank::at_startup(Algorithm::Sha256);
        bank.set(pcr, value).map_err(|error| error.to_string())?;
        for digest in (0..each.0).filter_map(number) {
            bank.extend(pcr, &digest)
                .map_err(|error| error.to_string())?;
        }
        let expected = bank.value(pcr).map_err(|error| error.to_string())?;
        let (count, found) = read_pcr(&mut device, pcr)?;
        if found != expected {
            return Err(format!("PCR {pcr} is not what was extended"));
        }
        let counted = count.wrapping_sub(counter) as usize;
        if counted != each.0 * PCRS.len() {
            return Err(format!("{counted} extends were counted"));
        }
    }
    Ok(())
}

/// KiB that programs could have.
fn available() -> Result<u64, String> {
    let text = fs::read_to_string("/proc/meminfo").map_err(|error| error.to_string())?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| "no MemAvailable".to_owned())
}

/// One process's part.
pub(crate) fn work(pcr: u32, extends: usize, mixed: usize) -> Result<(), String> {
    let mut device = open()?;
    let every = extends.div_ceil(mixed.max(1)).max(1);
    for at in 0..extends {
        let digest = number(at).ok_or("no digest")?;
        send(&mut device, &commands::pcr_extend(pcr, &[digest]))?;
        if at % every == 0 {
            other(&mut device, at / every)?;
        }
    }
    Ok(())
}

/// Another command, whose response must be its own.
fn other(device: &mut Device, at: usize) -> Result<(), String> {
    let length = match at % 5 {
        0 => {
            let bytes = 1 + (at % 32) as u16;
            let random = send(device, &commands::get_random(bytes))?;
            (random.len(), 12 + usize::from(bytes))
        }
        1 => {
            let clock = send(device, &commands::read_clock())?;
            (clock.len(), 10 + 8 + 17)
        }
        2 => {
            let read = commands::pcr_read(PcrSelect::of(Algorithm::Sha256, [0]));
            (send(device, &read)?.len(), 30 + 32)
        }
        3 => {
            let property = send(device, &commands::get_capability(6, 0x100, 1))?;
            (property.len(), 27)
        }
        _ => {
            let created = send(
                device,
                &commands::create_primary(rh::NULL, &template(at as u8)),
            )?;
            let parsed =
                Response::parse_with_handle(&created).map_err(|error| error.to_string())?;
            let handle = parsed.handle.ok_or("no handle")?;
            (send(device, &commands::flush_context(handle))?.len(), 10)
        }
    };
    match length.0 == length.1 {
        true => Ok(()),
        false => Err(format!("command {at} has a response of {} bytes", length.0)),
    }
}
