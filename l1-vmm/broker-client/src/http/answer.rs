//! An answer, from bytes as they come.

use super::HttpError;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

/// The most bytes of an answer's head.
pub const HEAD_MAX: usize = 8 * 1024;
/// The most fields of an answer's head.
pub const HEADERS_MAX: usize = 64;
/// The most bytes of the line before a chunk, with its extensions, and of a line of the trailers.
const LINE_MAX: usize = 256;
/// The most bytes of lines between chunks and of trailers, but for as many again as the body has.
const OVERHEAD_MAX: usize = 16 * 1024;
/// How many interim answers are passed over.
const INTERIM_MAX: u32 = 4;
/// Digits of a chunk's length: more than any body that is read.
const CHUNK_DIGITS: usize = 8;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of three digits.
    pub status: u16,
    /// The fields of its head in order, with their names in lower case; values that are not UTF-8 are empty.
    pub fields: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The fields of this name, which is in lower case.
    pub fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.fields.iter().filter(move |(field, _)| field == name);
        named.map(|(_, value)| value.as_str())
    }
}

/// What to do with the bytes that come next.
pub(super) enum Step {
    /// They are needed.
    More,
    /// They are another answer's: this one is whole.
    Done(Answer),
}

/// Where the bytes that come next belong.
enum Part {
    Head,
    /// So many more of the body, which then ends.
    Body(usize),
    /// The line with the length of a chunk.
    ChunkLine,
    /// So many more of a chunk.
    Chunk(usize),
    /// The end of the line behind a chunk.
    ChunkEnd,
    /// Lines behind the last chunk.
    Trailer,
}

/// An answer that is being read.
pub(super) struct Reader {
    body_max: usize,
    part: Part,
    /// The head, or a line between chunks, as far as it has come.
    line: Vec<u8>,
    /// Bytes of lines between chunks.
    overhead: usize,
    interim: u32,
    answer: Answer,
}

impl Reader {
    pub(super) fn new(body_max: usize) -> Self {
        Self {
            body_max,
            part: Part::Head,
            line: Vec::new(),
            overhead: 0,
            interim: 0,
            answer: Answer {
                status: 0,
                fields: Vec::new(),
                body: Vec::new(),
            },
        }
    }

    /// Takes what of `bytes` belongs to the answer; how much, and whether it is whole.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(usize, Step), HttpError> {
        let mut left = bytes;
        let step = loop {
            let done = match self.part {
                Part::Head => self.head(&mut left)?,
                Part::Body(more) => self.body(&mut left, more),
                Part::ChunkLine => self.chunk_line(&mut left)?,
                Part::Chunk(more) => self.chunk(&mut left, more),
                Part::ChunkEnd => self.chunk_end(&mut left)?,
                Part::Trailer => self.trailer(&mut left)?,
            };
            match done {
                Flow::On => {}
                Flow::Wait => break Step::More,
                Flow::Whole => {
                    let fields = mem::take(&mut self.answer.fields);
                    let body = mem::take(&mut self.answer.body);
                    break Step::Done(Answer {
                        fields,
                        body,
                        ..self.answer
                    });
                }
            }
        };
        Ok((bytes.len() - left.len(), step))
    }

    fn head(&mut self, left: &mut &[u8]) -> Result<Flow, HttpError> {
        while let Some((byte, rest)) = left.split_first() {
            *left = rest;
            self.line.push(*byte);
            if self.line.ends_with(b"\r\n\r\n") {
                return self.whole_head();
            }
            if self.line.len() == HEAD_MAX {
                return Err(HttpError::HeadTooLong);
            }
        }
        Ok(Flow::Wait)
    }

    fn whole_head(&mut self) -> Result<Flow, HttpError> {
        let line = mem::take(&mut self.line);
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut fields);
        match head.parse(&line) {
            // The head ends where it was found to, and not at an earlier line that ends otherwise.
            Ok(httparse::Status::Complete(end)) if end == line.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(HttpError::TooManyFields),
            Err(httparse::Error::Version) if line.starts_with(b"HTTP/") => {
                return Err(HttpError::Version);
            }
            _ => return Err(HttpError::NotHttp),
        }
        if head.version != Some(1) {
            return Err(HttpError::Version);
        }
        let status = head.code.ok_or(HttpError::NotHttp)?;
        match status {
            100..=199 if self.interim == INTERIM_MAX => return Err(HttpError::Interim),
            100..=199 => {
                self.interim += 1;
                return Ok(Flow::On);
            }
            200..=599 => {}
            _ => return Err(HttpError::NotHttp),
        }
        let field = |header: &httparse::Header<'_>| {
            let value = str::from_utf8(header.value).unwrap_or_default();
            (header.name.to_ascii_lowercase(), String::from(value.trim()))
        };
        self.answer.status = status;
        self.answer.fields = head.headers.iter().map(field).collect();
        self.part = self.body_of(status)?;
        Ok(Flow::On)
    }

    /// Where the body ends (RFC 9112, section 6.3), in the ways that are taken.
    fn body_of(&self, status: u16) -> Result<Part, HttpError> {
        let mut codings = self.answer.fields("transfer-encoding");
        let mut lengths = self.answer.fields("content-length");
        let coding = codings.next();
        let length = lengths.next();
        if codings.next().is_some() {
            return Err(HttpError::TransferCoding);
        }
        if lengths.next().is_some() {
            return Err(HttpError::BadLength);
        }
        match (coding, length) {
            // By these statuses there is no body, whatever the head says.
            _ if matches!(status, 204 | 304) => Ok(Part::Body(0)),
            (Some(_), Some(_)) => Err(HttpError::BadLength),
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Part::ChunkLine),
            (Some(_), None) => Err(HttpError::TransferCoding),
            (None, Some(length)) => {
                let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
                if !digits {
                    return Err(HttpError::BadLength);
                }
                // A number that is too large for any memory is one that is too large for the bound.
                self.bounded(length.parse().unwrap_or(usize::MAX))
                    .map(Part::Body)
            }
            (None, None) => Err(HttpError::NoLength),
        }
    }

    /// `more` bytes of the body, if they are within the bound.
    fn bounded(&self, more: usize) -> Result<usize, HttpError> {
        let total = self.answer.body.len().checked_add(more);
        match total {
            Some(total) if total <= self.body_max => Ok(more),
            _ => Err(HttpError::BodyTooLong {
                most: self.body_max,
            }),
        }
    }

    /// Takes up to `more` bytes of the body; how many are left to come.
    fn take(&mut self, left: &mut &[u8], more: usize) -> usize {
        let count = more.min(left.len());
        let (taken, rest) = left.split_at_checked(count).unwrap_or((left, &[]));
        self.answer.body.extend_from_slice(taken);
        *left = rest;
        more - taken.len()
    }

    fn body(&mut self, left: &mut &[u8], more: usize) -> Flow {
        match self.take(left, more) {
            0 => Flow::Whole,
            more => {
                self.part = Part::Body(more);
                Flow::Wait
            }
        }
    }

    fn chunk(&mut self, left: &mut &[u8], more: usize) -> Flow {
        match self.take(left, more) {
            0 => {
                self.part = Part::ChunkEnd;
                Flow::On
            }
            more => {
                self.part = Part::Chunk(more);
                Flow::Wait
            }
        }
    }

    /// A line of at most [`LINE_MAX`] bytes, without its end, if all of it is there.
    fn line(&mut self, left: &mut &[u8]) -> Result<Option<Vec<u8>>, HttpError> {
        while let Some((byte, rest)) = left.split_first() {
            *left = rest;
            self.overhead += 1;
            if self.overhead > OVERHEAD_MAX + self.answer.body.len() {
                return Err(HttpError::ChunkOverhead);
            }
            self.line.push(*byte);
            if let Some(line) = self.line.strip_suffix(b"\r\n") {
                let line = line.to_vec();
                self.line.clear();
                return Ok(Some(line));
            }
            if self.line.len() == LINE_MAX {
                return Err(HttpError::BadChunk);
            }
        }
        Ok(None)
    }

    fn chunk_line(&mut self, left: &mut &[u8]) -> Result<Flow, HttpError> {
        let Some(line) = self.line(left)? else {
            return Ok(Flow::Wait);
        };
        let length = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let length = length.trim_ascii_end();
        let plain = !length.is_empty()
            && length.len() <= CHUNK_DIGITS
            && length.iter().all(u8::is_ascii_hexdigit);
        let length = str::from_utf8(length).ok().filter(|_| plain);
        let length = length.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        self.part = match length.ok_or(HttpError::BadChunk)? {
            0 => Part::Trailer,
            length => Part::Chunk(self.bounded(length)?),
        };
        Ok(Flow::On)
    }

    fn chunk_end(&mut self, left: &mut &[u8]) -> Result<Flow, HttpError> {
        match self.line(left)? {
            Some(line) if line.is_empty() => {
                self.part = Part::ChunkLine;
                Ok(Flow::On)
            }
            Some(_) => Err(HttpError::BadChunk),
            None if self.line.first().is_some_and(|byte| *byte != b'\r') => {
                Err(HttpError::BadChunk)
            }
            None => Ok(Flow::Wait),
        }
    }

    /// Trailers are passed over: none of them means anything here.
    fn trailer(&mut self, left: &mut &[u8]) -> Result<Flow, HttpError> {
        match self.line(left)? {
            Some(line) if line.is_empty() => Ok(Flow::Whole),
            Some(_) => Ok(Flow::On),
            None => Ok(Flow::Wait),
        }
    }
}

/// How a part of an answer ended.
enum Flow {
    /// Go on with the next part.
    On,
    /// There are no more bytes.
    Wait,
    /// The answer is whole.
    Whole,
}
