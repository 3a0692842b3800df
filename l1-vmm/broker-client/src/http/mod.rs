//! HTTP/1.1 (RFC 9112) as a client that asks one thing after the other.
//!
//! What an answer may be is narrow: its head ends with an empty line and has at most [`HEAD_MAX`] bytes and
//! [`HEADERS_MAX`] fields; its body has a `Content-Length` or is chunked, and is no longer than the caller bounds it. There is
//! no body that ends with the connection, for the channel has no end, and no transfer coding but `chunked`. Each refusal
//! is an [`HttpError`] by name. The work on an answer is linear in its bytes, and its bytes are bounded.

mod answer;
mod error;
#[cfg(test)]
mod tests;

pub use answer::{Answer, HEAD_MAX, HEADERS_MAX};
pub use error::HttpError;

use crate::{Channel, ChannelError, Deadline};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use answer::{Reader, Step};

/// Bytes that are received at once.
const PIECE: usize = 4096;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// From the first `/` on; of characters that need no escape.
    pub path: &'a str,
    /// Further fields of the head.
    pub fields: &'a [(&'a str, &'a str)],
    /// What is to be done.
    pub method: Method<'a>,
    /// The most bytes of the answer's body.
    pub body_max: usize,
}

/// What is to be done with the resource.
#[derive(Clone, Copy, Debug)]
pub enum Method<'a> {
    /// It is read.
    Get,
    /// This JSON is for it.
    Post(&'a [u8]),
}

/// A client on one channel.
#[derive(Debug)]
pub struct Client<C> {
    channel: C,
    /// What was received and not yet read.
    received: Vec<u8>,
    /// How many of these bytes were read.
    read: usize,
    place: Place,
    /// Requests that were sent and not answered.
    owed: u32,
}

/// Where the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Between two messages, both ways.
    Between,
    /// In one that was not sent or not read to its end.
    Within,
}

impl<C: Channel> Client<C> {
    /// On a channel that nothing is under way on.
    pub fn new(channel: C) -> Self {
        Self {
            channel,
            received: Vec::new(),
            read: 0,
            place: Place::Between,
            owed: 0,
        }
    }

    /// The channel.
    pub fn channel(&self) -> &C {
        &self.channel
    }

    /// Whether the stream is between two messages: no byte of an answer was read that is not whole. An answer that did not
    /// come in time may still come then, before the next one's.
    pub fn is_between(&self) -> bool {
        self.place == Place::Between
    }

    /// How many answers may still come to requests that were sent.
    pub fn owed(&self) -> u32 {
        self.owed
    }

    /// As [`ask`](Self::ask), where answers to earlier requests may come first: as many as are owed are passed over if they
    /// are good (status 200) and do not fit.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub fn ask_for(
        &mut self,
        request: &Request<'_>,
        deadline: Deadline,
        fits: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, HttpError> {
        let mut answer = self.ask(request, deadline)?;
        while self.owed > 0 && answer.status == 200 && !fits(&answer) {
            answer = self.answer(request.body_max, deadline)?;
        }
        Ok(answer)
    }

    /// Sends `request` and reads an answer. After an error the stream may be [lost](Self::is_between):
    /// [`restart`](Self::restart) it.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub fn ask(&mut self, request: &Request<'_>, deadline: Deadline) -> Result<Answer, HttpError> {
        // Until all of it was sent.
        self.place = Place::Within;
        self.channel.send(&head(request), deadline)?;
        if let Method::Post(body) = request.method {
            self.channel.send(body, deadline)?;
        }
        self.place = Place::Between;
        self.owed = self.owed.saturating_add(1);
        self.answer(request.body_max, deadline)
    }

    /// Reads an answer, to whatever it may be.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub fn answer(&mut self, body_max: usize, deadline: Deadline) -> Result<Answer, HttpError> {
        let mut reader = Reader::new(body_max);
        loop {
            let unread = self.received.get(self.read..).unwrap_or_default();
            if !unread.is_empty() {
                self.place = Place::Within;
            }
            let (count, step) = reader.read(unread)?;
            self.read += count;
            match step {
                Step::Done(answer) => {
                    self.place = Place::Between;
                    self.owed = self.owed.saturating_sub(1);
                    return Ok(answer);
                }
                Step::More => self.receive(deadline)?,
            }
        }
    }

    /// Forgets what was received, and begins an empty stream.
    ///
    /// # Errors
    /// [`HttpError::Channel`].
    pub fn restart(&mut self) -> Result<(), HttpError> {
        self.received.clear();
        self.read = 0;
        self.channel.restart()?;
        self.place = Place::Between;
        Ok(())
    }

    /// Receives a piece, in the place of the last one.
    fn receive(&mut self, deadline: Deadline) -> Result<(), HttpError> {
        let mut piece = vec![0; PIECE];
        let count = self.channel.receive(&mut piece, deadline);
        if count == Err(ChannelError::Closed) {
            self.place = Place::Within;
        }
        let count = count?;
        piece.truncate(count);
        self.received = piece;
        self.read = 0;
        // A host that gives a byte at a time has its bytes bounded, and its time here.
        if self.channel.now() >= deadline.0 {
            return Err(ChannelError::TimeOut.into());
        }
        Ok(())
    }
}

/// The head of a request. `Host` is what a server asks for and nothing goes by: the proxy knows where the broker is.
fn head(request: &Request<'_>) -> Vec<u8> {
    let (name, length) = match request.method {
        Method::Get => ("GET", String::new()),
        Method::Post(body) => (
            "POST",
            format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            ),
        ),
    };
    let mut head = format!(
        "{name} {} HTTP/1.1\r\nHost: kbs\r\nAccept: application/json\r\n{length}",
        request.path
    );
    for (field, value) in request.fields {
        head += &format!("{field}: {value}\r\n");
    }
    head += "\r\n";
    head.into_bytes()
}
