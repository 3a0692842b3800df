//! What the engine has to be asked, and what it then answers.

use super::super::engine::{Answer, Asked, FAILURE};

/// The engine's side.
#[derive(Default)]
pub(super) struct Expectation {
    asked: Asked,
    running: Option<Answer>,
    pub(super) established: bool,
}

impl Expectation {
    pub(super) fn new(established: bool) -> Self {
        Self {
            established,
            ..Self::default()
        }
    }

    /// A command is begun. The response, if it is there at once.
    pub(super) fn begin(&mut self, locality: u32, command: &[u8], room: usize) -> Option<Vec<u8>> {
        self.asked.commands.push((locality as u8, command.to_vec()));
        let answer = Answer::to(locality as u8, command);
        match answer.slices {
            0 => Some(response(answer, room)),
            _ => {
                self.running = Some(answer);
                None
            }
        }
    }

    /// The command that runs has a slice. The response, if it is there now.
    pub(super) fn slice(&mut self, room: usize) -> Option<Vec<u8>> {
        let mut answer = self.running.take()?;
        if answer.slices <= 1 {
            return Some(response(answer, room));
        }
        answer.slices -= 1;
        self.running = Some(answer);
        None
    }

    /// The command that runs, if one does, is asked to give up.
    pub(super) fn cancel(&mut self) {
        if self.running.is_some() {
            self.asked.cancels += 1;
            self.running = Some(Answer::canceled());
        }
    }

    /// The command that runs, if one does, is over, and its response does not come.
    pub(super) fn abandon(&mut self) {
        if self.running.take().is_some() {
            self.asked.abandons += 1;
        }
    }

    pub(super) fn reset(&mut self) {
        self.abandon();
        self.asked.resets += 1;
    }

    pub(super) fn runs(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn asked(&mut self) -> Asked {
        std::mem::take(&mut self.asked)
    }
}

/// What the guest gets: TPM_RC_FAILURE in place of what is none, contradicts itself or does not fit.
fn response(answer: Answer, room: usize) -> Vec<u8> {
    let whole = answer.response.filter(|(bytes, length)| {
        let size = bytes.get(2..6).and_then(|size| size.try_into().ok());
        let size = size.map_or(0, u32::from_be_bytes) as usize;
        (10..=room).contains(length) && size == *length && bytes.len() >= *length
    });
    match whole {
        Some((bytes, length)) => bytes[..length].to_vec(),
        None => FAILURE.to_vec(),
    }
}
