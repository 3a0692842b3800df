//! Other processes of this program: each does one job.

use crate::device::Device;
use crate::load;
use crate::sharing::{EBUSY, works};
use attestation::tpm::commands;
use std::io;
use std::process::{Child, Command, ExitCode, ExitStatus};

/// What one does.
#[derive(Clone, Copy)]
pub(crate) enum Job<'a> {
    /// Opens, asks and closes, so often; who finds the file in use tries again.
    Open(&'a str, usize),
    /// Sends what takes long, without an end.
    Tests(&'a str),
    /// So many extends of a PCR of its own, and so many other commands.
    Load(u32, usize, usize),
}

impl Job<'_> {
    fn words(self) -> Vec<String> {
        match self {
            Self::Open(path, count) => vec!["open".into(), path.into(), count.to_string()],
            Self::Tests(path) => vec!["tests".into(), path.into()],
            Self::Load(pcr, extends, mixed) => vec![
                "load".into(),
                pcr.to_string(),
                extends.to_string(),
                mixed.to_string(),
            ],
        }
    }
}

/// Starts a process with this job.
pub(crate) fn start(job: Job<'_>) -> io::Result<Child> {
    Command::new("/proc/self/exe").args(job.words()).spawn()
}

/// Starts one for each job, and waits for all.
pub(crate) fn all<'a>(jobs: impl Iterator<Item = Job<'a>>) -> io::Result<()> {
    let children: Vec<Child> = jobs.map(start).collect::<io::Result<_>>()?;
    let ends: Vec<ExitStatus> = children
        .into_iter()
        .map(|mut child| child.wait())
        .collect::<io::Result<_>>()?;
    match ends.iter().all(ExitStatus::success) {
        true => Ok(()),
        false => Err(io::Error::other(format!("they ended with {ends:?}"))),
    }
}

/// Does what the words of [`Job`] say. `None`: they are none.
pub(crate) fn run(words: &[&str]) -> Option<ExitCode> {
    let result = match *words {
        ["open", path, count] => open(path, count.parse().ok()?),
        ["tests", path] => tests(path),
        ["load", pcr, extends, mixed] => load::work(
            pcr.parse().ok()?,
            extends.parse().ok()?,
            mixed.parse().ok()?,
        ),
        _ => return None,
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("  {words:?}: {why}");
            ExitCode::FAILURE
        }
    })
}

fn open(path: &str, count: usize) -> Result<(), String> {
    let mut done = 0;
    while done < count {
        match Device::open(path) {
            Ok(mut device) => {
                let response = device.transmit(&commands::get_random(8));
                response.map_err(|error| error.to_string())?;
                done += 1;
            }
            Err(error) if error.raw_os_error() == Some(EBUSY) => std::thread::yield_now(),
            Err(error) => return Err(error.to_string()),
        }
    }
    match path {
        // Somebody else may have it.
        "/dev/tpm0" => Ok(()),
        _ => works(path),
    }
}

fn tests(path: &str) -> Result<(), String> {
    let mut device = Device::open(path).map_err(|error| error.to_string())?;
    loop {
        let response = device.transmit(&commands::self_test(true));
        response.map_err(|error| error.to_string())?;
    }
}
