//! Why an answer is none.

use super::answer::{HEAD_MAX, HEADERS_MAX};
use crate::ChannelError;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// Bytes did not go or come.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The head is longer than any broker's.
    #[error("the answer's head is longer than {HEAD_MAX} bytes")]
    HeadTooLong,
    /// More fields than any broker's.
    #[error("the answer's head has more than {HEADERS_MAX} fields")]
    TooManyFields,
    /// Not a head of HTTP.
    #[error("the answer does not begin as HTTP does")]
    NotHttp,
    /// Another version than 1.1.
    #[error("the answer is of another version of HTTP than 1.1")]
    Version,
    /// More interim answers (1xx) than make sense.
    #[error("there is no end of interim answers")]
    Interim,
    /// Neither a length nor chunks.
    #[error("the answer's head does not say where its body ends")]
    NoLength,
    /// Two lengths, a length and chunks, or what is no length.
    #[error("the answer's head has a length that is none, or more than one")]
    BadLength,
    /// Another transfer coding than chunks.
    #[error("the answer's body has a transfer coding other than chunked")]
    TransferCoding,
    /// The body is longer than the caller bounds it.
    #[error("the answer's body is longer than {most} bytes")]
    BodyTooLong {
        /// The most that is read.
        most: usize,
    },
    /// A chunk that is none.
    #[error("the answer's body has a chunk that is none")]
    BadChunk,
    /// So many small chunks, or such trailers, that what is between them is more than the body.
    #[error("there is no end of what is between the chunks of the answer's body")]
    ChunkOverhead,
}
