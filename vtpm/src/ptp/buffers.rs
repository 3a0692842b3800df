//! The command on its way to the TPM and the response on its way back, whatever registers they pass through.
//!
//! Nothing of either stays when it has been used: commands have passwords in them, responses keys.

use alloc::boxed::Box;

use crate::MAX_RESPONSE;
use crate::message::{FAILURE, HEADER_SIZE, declared_size};

/// Bytes of the longest command and response: the engine's.
pub(super) const CAPACITY: usize = MAX_RESPONSE;

/// Whether a command is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reception {
    /// There is more of it to come.
    More,
    /// By the size in its header, or for want of room. What the header says is not checked: that is the
    /// engine's.
    Whole,
}

/// The two buffers.
pub(super) struct Buffers {
    command: Box<[u8; CAPACITY]>,
    written: usize,
    response: Box<[u8; CAPACITY]>,
    length: usize,
    read: usize,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self {
            command: Box::new([0; CAPACITY]),
            written: 0,
            response: Box::new([0; CAPACITY]),
            length: 0,
            read: 0,
        }
    }

    /// Takes the next byte of the command.
    pub(super) fn push(&mut self, byte: u8) -> Reception {
        let Some(place) = self.command.get_mut(self.written) else {
            return Reception::Whole;
        };
        *place = byte;
        self.written += 1;
        match declared_size(self.command()) {
            Some(size) if self.written >= size => Reception::Whole,
            _ => Reception::More,
        }
    }

    /// Takes a whole command from where it lies, at most `room` bytes of it, and says how long it is. Each byte is read
    /// once, by `read`, which copies from an offset on: what the header says is then what the engine sees.
    ///
    /// What the header says is not checked, but followed as far as there is room: the rest is the engine's.
    pub(super) fn load(&mut self, room: usize, read: impl Fn(usize, &mut [u8])) -> usize {
        self.clear();
        let (header, rest) = self.command.split_at_mut(HEADER_SIZE);
        read(0, header);
        let room = room.min(CAPACITY);
        let size = declared_size(header)
            .unwrap_or(0)
            .clamp(HEADER_SIZE, room.max(HEADER_SIZE));
        if let Some(rest) = rest.get_mut(..size - HEADER_SIZE) {
            read(HEADER_SIZE, rest);
        }
        self.written = size;
        size
    }

    fn command(&self) -> &[u8] {
        self.command.get(..self.written).unwrap_or_default()
    }

    /// How many bytes of a command there is still room for.
    pub(super) fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.written)
    }

    /// The command, and room for its response: to be executed, then [completed](Self::complete).
    pub(super) fn execution(&mut self) -> (&[u8], &mut [u8]) {
        let command = self.command.get(..self.written).unwrap_or_default();
        (command, self.response.as_mut_slice())
    }

    /// There is a response of `length` bytes, or none because the engine failed. A response that
    /// contradicts itself would only confuse a driver: it counts as none.
    pub(super) fn complete(&mut self, length: Option<usize>) {
        let whole = length.filter(|length| {
            self.response.get(..*length).is_some_and(|response| {
                response.len() >= HEADER_SIZE && declared_size(response) == Some(*length)
            })
        });
        self.length = whole.unwrap_or_else(|| {
            self.response.fill(0);
            if let Some(place) = self.response.first_chunk_mut() {
                *place = FAILURE;
            }
            FAILURE.len()
        });
        wipe(self.command.as_mut_slice(), self.written);
        self.written = 0;
        self.read = 0;
    }

    /// The next byte of the response, if one is left.
    pub(super) fn pop(&mut self) -> Option<u8> {
        let response = self.response.get(..self.length).unwrap_or_default();
        let byte = *response.get(self.read)?;
        self.read += 1;
        Some(byte)
    }

    /// How many bytes of the response are left.
    pub(super) fn left(&self) -> usize {
        self.length.saturating_sub(self.read)
    }

    /// The response is to be read from its start again.
    pub(super) fn rewind(&mut self) {
        self.read = 0;
    }

    /// The whole response; TPM_RC_FAILURE if it is longer than `room`.
    pub(super) fn response(&self, room: usize) -> &[u8] {
        match self.response.get(..self.length) {
            Some(response) if response.len() <= room => response,
            _ => &FAILURE,
        }
    }

    /// Nothing of command and response stays.
    pub(super) fn clear(&mut self) {
        wipe(self.command.as_mut_slice(), self.written);
        wipe(self.response.as_mut_slice(), self.length);
        self.written = 0;
        self.length = 0;
        self.read = 0;
    }

    /// Whether the memory of both buffers is zero.
    #[cfg(test)]
    pub(super) fn are_wiped(&self) -> [bool; 2] {
        [&self.command, &self.response].map(|buffer| buffer.iter().all(|byte| *byte == 0))
    }
}

fn wipe(buffer: &mut [u8], used: usize) {
    if let Some(used) = buffer.get_mut(..used) {
        used.fill(0);
    }
}
