//! Files that a run leaves: whose they are, and the console's log.

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The files of a run's name, for as long as this lives. Another run of the name, in this process or another one,
/// waits until it ends, and says for what.
pub(crate) fn claim(lock: &Path) -> Result<File> {
    let context = || lock.display().to_string();
    let file = File::create(lock).with_context(context)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            eprintln!(
                "waiting for another run, whose files have the same names: {}",
                lock.display()
            );
            flock(&file, FlockOperation::LockExclusive).with_context(context)?;
        }
        Err(error) => return Err(error).with_context(context),
    }
    Ok(file)
}

/// Takes a file for as long as it is open. False if somebody else has it.
pub(crate) fn is_free(file: &File) -> Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The guest's console as it comes, so that a run that is cut off leaves what it said, and nothing of one before.
pub(crate) struct ConsoleLog {
    file: File,
    empty: bool,
    failure: Option<std::io::Error>,
}

impl ConsoleLog {
    /// An empty log.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        Ok(Self {
            file: File::create(path).with_context(|| path.display().to_string())?,
            empty: true,
            failure: None,
        })
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, line: &str) {
        let between = if self.empty { "" } else { "\n" };
        self.empty = false;
        if let Err(error) = write!(self.file, "{between}{line}") {
            self.failure.get_or_insert(error);
        }
    }

    /// Whether all lines were written.
    pub(crate) fn finish(self) -> Result<()> {
        match self.failure {
            Some(error) => Err(error).context("cannot write the console's log"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu;
    use std::process::Command;
    use std::time::Duration;

    #[test]
    fn a_run_that_is_cut_off_leaves_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.console.log");
        std::fs::write(&path, "of the run before").unwrap();
        let mut log = ConsoleLog::create(&path).unwrap();
        let mut machine = Command::new("sh");
        machine.args(["-c", "echo one; echo two; exec sleep 600"]);
        let limit = Some(Duration::from_secs(2));
        let ended = qemu::listen(machine, None, limit, &mut |line| log.line(line));
        assert!(ended.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo");
    }

    #[test]
    fn a_run_of_the_same_name_waits() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("run.lock");
        let first = claim(&lock).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let second = claim(&lock).unwrap();
                sender.send(()).unwrap();
                drop(second);
            });
            let early = receiver.recv_timeout(Duration::from_millis(200));
            assert!(early.is_err(), "both have the files");
            drop(first);
            receiver.recv_timeout(Duration::from_secs(60)).unwrap();
        });
    }
}
