//! Times TPM commands inside the guest, through `/dev/tpm0`.
//!
//! For each command prints `@timing {json}` with the times in nanoseconds of the guest's clock. Around
//! each command it writes a byte to port 0x80, where a PC shows POST codes: on the simulator that makes
//! a mark with the counters of that moment, elsewhere it does nothing.
//!
//! With an argument, only the command of that name; with `gaps`, for how long the guest has no processor meanwhile; with
//! `waits`, how long the driver waited; with `few`, each command a few times, and then the bytes of others.
#![forbid(unsafe_code)]

mod command;
mod gaps;
mod transcript;
mod waits;

use attestation::tpm::{rc, response_code};
use command::{Command, INDEX_SIZE, SigningKey, created_handle};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::time::Instant;

/// The port that nothing listens to.
const MARK_PORT: u64 = 0x80;
/// What is timed alone: it changes the TPM's state, which may be kept.
const NV_WRITE: &str = "NV_Write(64)";
const NV_WRITE_MARK: u8 = 8;
const NV_WRITES: u8 = 200;
/// What measures no times of commands.
const GAPS: &str = "gaps";
const WAITS: &str = "waits";
const FEW: &str = "few";
/// As many times.
const TIMES: usize = 5;
/// What is timed once: the first key of this boot.
const FIRST_KEY: &str = "CreatePrimary(ECC P-256), the first of a boot";
const FIRST_KEY_MARK: u8 = 9;
/// The command is to be sent again.
const TRY_AGAIN: [u32; 2] = [rc::RETRY, rc::TESTING];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("@error guest-timing: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let mut tpm = Tpm::open()?;
    let only = std::env::args().nth(1);
    if only.as_deref() == Some(NV_WRITE) {
        return tpm.time_nv_writes();
    }
    if only.as_deref() == Some(GAPS) {
        return gaps::measure(&mut tpm);
    }
    if only.as_deref() == Some(WAITS) {
        return waits::measure(&mut tpm);
    }
    if only.as_deref() == Some(FEW) {
        tpm.time_few()?;
        return transcript::tell(&mut tpm);
    }
    if let Some(only) = &only {
        let samples = without_keys();
        let sample = samples.iter().find(|(_, name, ..)| name == only);
        let sample = sample.ok_or_else(|| io::Error::other(format!("no command {only}")))?;
        return tpm.time(sample);
    }
    // Nothing before it asked this TPM for a key.
    let ecc = tpm.time_first_key()?;
    let rsa = tpm.create_primary(SigningKey::Rsa2048)?;
    for sample in without_keys().iter().chain(&with_keys(ecc, rsa)) {
        tpm.time(sample)?;
    }
    tpm.transmit(&Command::flush(ecc))?;
    tpm.transmit(&Command::flush(rsa))?;
    Ok(())
}

/// A command's mark, its name, how many times it is sent, and itself.
type Sample = (u8, &'static str, usize, Command);

fn without_keys() -> [Sample; 5] {
    [
        (1, "GetRandom(32)", 50, Command::get_random(32)),
        (2, "PCR_Extend(SHA-256)", 50, Command::pcr_extend_sha256(16)),
        (3, "PCR_Read(8 x SHA-256)", 50, Command::pcr_read_sha256()),
        (
            10,
            "GetCapability(40 properties)",
            20,
            Command::get_properties(),
        ),
        (11, "SelfTest(full)", 3, Command::self_test()),
    ]
}

fn with_keys(ecc: u32, rsa: u32) -> [Sample; 4] {
    [
        (
            4,
            "Quote(ECC P-256)",
            20,
            Command::quote(ecc, SigningKey::P256),
        ),
        (
            5,
            "Quote(RSA-2048)",
            10,
            Command::quote(rsa, SigningKey::Rsa2048),
        ),
        (
            6,
            "CreatePrimary(ECC P-256)",
            10,
            Command::create_primary(SigningKey::P256),
        ),
        (
            7,
            "CreatePrimary(RSA-2048)",
            5,
            Command::create_primary(SigningKey::Rsa2048),
        ),
    ]
}

/// The guest's TPM and the mark port.
struct Tpm {
    device: File,
    ports: Option<File>,
}

impl Tpm {
    fn open() -> io::Result<Self> {
        Ok(Self {
            device: OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/tpm0")?,
            ports: OpenOptions::new().write(true).open("/dev/port").ok(),
        })
    }

    fn mark(&self, value: u8) -> io::Result<()> {
        match &self.ports {
            Some(ports) => ports.write_all_at(&[value], MARK_PORT),
            None => Ok(()),
        }
    }

    /// Sends a command as often as its sample says, and prints the times.
    fn time(&mut self, (mark, name, count, command): &Sample) -> io::Result<()> {
        let mut times = Vec::with_capacity(*count);
        for _ in 0..*count {
            let (response, nanoseconds) = self.time_one(*mark, command)?;
            times.push(nanoseconds);
            if let Some(handle) = created_handle(&response) {
                self.transmit(&Command::flush(handle))?;
            }
        }
        tell(*mark, name, &times);
        Ok(())
    }

    /// Commands of each length, a few times.
    fn time_few(&mut self) -> io::Result<()> {
        let ecc = self.create_primary(SigningKey::P256)?;
        let [random, extend, read, ..] = without_keys();
        let quote = Command::quote(ecc, SigningKey::P256);
        let create = Command::create_primary(SigningKey::P256);
        let keys = [
            (4, "Quote(ECC P-256)", TIMES, quote),
            (6, "CreatePrimary(ECC P-256)", TIMES, create),
        ];
        for (mark, name, _, command) in [random, extend, read].into_iter().chain(keys) {
            self.time(&(mark, name, TIMES, command))?;
        }
        self.transmit(&Command::flush(ecc))?;
        Ok(())
    }

    /// Writes of an index, each of other bytes than the one before.
    fn time_nv_writes(&mut self) -> io::Result<()> {
        self.transmit(&Command::nv_define(INDEX_SIZE))?;
        let times = (0..NV_WRITES).map(|number| {
            let timed = self.time_one(NV_WRITE_MARK, &Command::nv_write(INDEX_SIZE, number))?;
            Ok(timed.1)
        });
        let times: Vec<u128> = times.collect::<io::Result<_>>()?;
        self.transmit(&Command::nv_undefine())?;
        tell(NV_WRITE_MARK, NV_WRITE, &times);
        Ok(())
    }

    /// A key of the null hierarchy, which is the first of this boot: its handle.
    fn time_first_key(&mut self) -> io::Result<u32> {
        let command = Command::create_primary(SigningKey::P256);
        let (response, nanoseconds) = self.time_one(FIRST_KEY_MARK, &command)?;
        tell(FIRST_KEY_MARK, FIRST_KEY, &[nanoseconds]);
        created_handle(&response).ok_or_else(|| io::Error::other("CreatePrimary gave no handle"))
    }

    /// One command between its marks: the response, and nanoseconds.
    fn time_one(&mut self, mark: u8, command: &Command) -> io::Result<(Vec<u8>, u128)> {
        self.mark(mark)?;
        let started = Instant::now();
        let response = self.transmit(command);
        let elapsed = started.elapsed();
        self.mark(mark | 0x80)?;
        Ok((response?, elapsed.as_nanos()))
    }

    /// One command and its response; a response code other than success is an error.
    fn transmit(&mut self, command: &Command) -> io::Result<Vec<u8>> {
        loop {
            let response = self.exchange(&command.bytes)?;
            match response_code(&response) {
                Some(rc::SUCCESS) => return Ok(response),
                Some(code) if TRY_AGAIN.contains(&code) => {}
                code => {
                    return Err(io::Error::other(format!(
                        "{} gave response code {code:x?}",
                        command.name
                    )));
                }
            }
        }
    }

    /// Bytes to the TPM, and what it answers.
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.device.write_all(command)?;
        let mut response = vec![0; 4096];
        let length = self.device.read(&mut response)?;
        response.truncate(length);
        Ok(response)
    }

    fn create_primary(&mut self, key: SigningKey) -> io::Result<u32> {
        let response = self.transmit(&Command::create_primary(key))?;
        created_handle(&response).ok_or_else(|| io::Error::other("CreatePrimary gave no handle"))
    }
}

/// Prints a command's times, and waits until the kernel has sent the line: it sends a byte an exit, while the program goes
/// on, and would do it in the next command's time. What is no terminal has nothing to wait for.
fn tell(mark: u8, name: &str, times: &[u128]) {
    println!("@timing {{\"mark\":{mark},\"command\":\"{name}\",\"ns\":{times:?}}}");
    let _ = rustix::termios::tcdrain(io::stdout());
}
