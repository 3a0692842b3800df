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
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use answer::{Reader, Step};
use core::mem;

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
enum Place {
    /// Between two messages, both ways.
    Between,
    /// In an answer that is read as it comes.
    Reading(Box<Reader>),
    /// In one that was not sent or not read to its end.
    Lost,
}

impl<C> core::fmt::Debug for Client<C> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { owed, .. } = self;
        f.debug_struct("Client")
            .field("owed", owed)
            .finish_non_exhaustive()
    }
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

    /// Whether it is not known where in the stream the next message begins: nothing more is to be had of it. If it is, an
    /// answer that did not come in time may still come, before the next one's.
    pub fn is_lost(&self) -> bool {
        matches!(self.place, Place::Lost)
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

    /// Sends `request` and reads an answer. After an error the stream may be [lost](Self::is_lost):
    /// [`restart`](Self::restart) it.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub fn ask(&mut self, request: &Request<'_>, deadline: Deadline) -> Result<Answer, HttpError> {
        self.send(request, deadline)?;
        self.answer(request.body_max, deadline)
    }

    /// Sends `request`, whose answer is to be [read](Self::answer) or [looked for](Self::poll).
    ///
    /// # Errors
    /// See [`HttpError`].
    pub fn send(&mut self, request: &Request<'_>, deadline: Deadline) -> Result<(), HttpError> {
        // Until all of it was sent.
        let place = mem::replace(&mut self.place, Place::Lost);
        self.channel.send(&head(request), deadline)?;
        if let Method::Post(body) = request.method {
            self.channel.send(body, deadline)?;
        }
        self.place = place;
        self.owed = self.owed.saturating_add(1);
        Ok(())
    }

    /// Reads an answer, to whatever it may be.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub fn answer(&mut self, body_max: usize, deadline: Deadline) -> Result<Answer, HttpError> {
        let (mut reader, mut place) = match mem::replace(&mut self.place, Place::Lost) {
            Place::Reading(reader) => (*reader, Place::Lost),
            place => (Reader::new(body_max), place),
        };
        loop {
            if !self.unread().is_empty() {
                place = Place::Lost;
            }
            if let Some(answer) = self.read(&mut reader)? {
                return Ok(answer);
            }
            if let Err(error) = self.receive(deadline) {
                // What came last is not read yet.
                if error != ChannelError::Closed.into() {
                    self.place = place;
                }
                return Err(error);
            }
        }
    }

    /// Reads what has come of an answer, and waits for nothing: `None` as long as it is not whole.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub fn poll(&mut self, body_max: usize) -> Result<Option<Answer>, HttpError> {
        let (mut reader, mut place) = match mem::replace(&mut self.place, Place::Lost) {
            Place::Reading(reader) => (reader, None),
            place => (Box::new(Reader::new(body_max)), Some(place)),
        };
        loop {
            if !self.unread().is_empty() {
                place = None;
            }
            if let Some(answer) = self.read(&mut reader)? {
                return Ok(Some(answer));
            }
            let now = Deadline(self.channel.now());
            match self.receive_piece(now) {
                Ok(()) => {}
                Err(ChannelError::TimeOut) => {
                    self.place = place.unwrap_or(Place::Reading(reader));
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn unread(&self) -> &[u8] {
        self.received.get(self.read..).unwrap_or_default()
    }

    /// The answer that `reader` is reading, if it is whole with what was received.
    fn read(&mut self, reader: &mut Reader) -> Result<Option<Answer>, HttpError> {
        let (count, step) = reader.read(self.unread())?;
        self.read += count;
        Ok(match step {
            Step::Done(answer) => {
                self.place = Place::Between;
                self.owed = self.owed.saturating_sub(1);
                Some(answer)
            }
            Step::More => None,
        })
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

    /// Receives a piece, in the place of the last one, if it comes before the deadline.
    fn receive(&mut self, deadline: Deadline) -> Result<(), HttpError> {
        self.receive_piece(deadline)?;
        // A host that gives a byte at a time has its bytes bounded, and its time here.
        if self.channel.now() >= deadline.0 {
            return Err(ChannelError::TimeOut.into());
        }
        Ok(())
    }

    fn receive_piece(&mut self, deadline: Deadline) -> Result<(), ChannelError> {
        let mut piece = vec![0; PIECE];
        let count = self.channel.receive(&mut piece, deadline)?;
        piece.truncate(count);
        self.received = piece;
        self.read = 0;
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
