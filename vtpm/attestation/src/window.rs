//! The window at NV index 0x01400004, through which what is larger than an NV index is read.
//!
//! `docs/measurement.md`, section 6. Little-endian.

use crate::reader::{CutOff, Reader};
use alloc::vec::Vec;

/// NV index of the report.
pub const NV_REPORT: u32 = 0x0140_0001;
/// NV index of the user data.
pub const NV_USER_DATA: u32 = 0x0140_0002;
/// NV index of the selector.
pub const NV_SELECTOR: u32 = 0x0140_0003;
/// NV index of the window.
pub const NV_WINDOW: u32 = 0x0140_0004;

/// Bytes of the user data's index.
pub const USER_DATA_SIZE: usize = 64;
/// Bytes of the selector's index.
pub const SELECTOR_SIZE: usize = 8;
/// Bytes of the window's index.
pub const WINDOW_SIZE: usize = 2048;
/// Bytes before the object's.
pub const HEADER_SIZE: usize = 16;
/// Most bytes of an object in the index at a time.
pub const DATA_MAX: usize = WINDOW_SIZE - HEADER_SIZE;

/// Object: the TD quote of the last report.
pub const OBJECT_TD_QUOTE: u16 = 1;
/// Object: the CC event log as of the last report.
pub const OBJECT_CC_EVENT_LOG: u16 = 2;

/// What the selector asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selector {
    /// OBJECT_*, or one that does not exist.
    pub object: u16,
    /// From which byte on.
    pub offset: u32,
}

impl Selector {
    /// As it is written to the index.
    pub fn to_bytes(&self) -> [u8; SELECTOR_SIZE] {
        let [object0, object1] = self.object.to_le_bytes();
        let [offset0, offset1, offset2, offset3] = self.offset.to_le_bytes();
        [object0, object1, 0, 0, offset0, offset1, offset2, offset3]
    }

    /// Of the index's bytes. `None` if the reserved field is not zero.
    pub fn from_bytes(bytes: &[u8; SELECTOR_SIZE]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let object = reader.u16_le().ok()?;
        let reserved = reader.u16_le().ok()?;
        let offset = reader.u32_le().ok()?;
        (reserved == 0).then_some(Self { object, offset })
    }
}

/// Whether an object is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Status {
    /// It is.
    #[error("present")]
    Present,
    /// Select it again later.
    #[error("in flight: select it again later")]
    InFlight,
    /// There was no report yet.
    #[error("there was no report yet: write the user data first")]
    NoReport,
    /// The host has no quoting service.
    #[error("the host has no quoting service")]
    NoQuotingService,
    /// The quoting service failed.
    #[error("the quoting service failed")]
    QuotingFailed,
    /// The host did not answer in time.
    #[error("the host did not answer in time")]
    TimedOut,
    /// The host's answer is malformed, or is not a quote of the report.
    #[error("the host's answer is no quote of this report")]
    Malformed,
    /// There is no such object.
    #[error("there is no such object")]
    NoSuchObject,
}

impl Status {
    /// All, in order of their codes.
    pub const ALL: [Self; 8] = [
        Self::Present,
        Self::InFlight,
        Self::NoReport,
        Self::NoQuotingService,
        Self::QuotingFailed,
        Self::TimedOut,
        Self::Malformed,
        Self::NoSuchObject,
    ];

    /// As in the window.
    pub const fn code(self) -> u16 {
        match self {
            Self::Present => 0,
            Self::InFlight => 1,
            Self::NoReport => 2,
            Self::NoQuotingService => 3,
            Self::QuotingFailed => 4,
            Self::TimedOut => 5,
            Self::Malformed => 6,
            Self::NoSuchObject => 7,
        }
    }

    /// The status of a code.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }
}

/// Why bytes are not a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WindowError {
    /// The bytes end before the window does.
    #[error("the window is cut off")]
    CutOff,
    /// A status that this version does not know.
    #[error("the window has the unknown status {0}")]
    UnknownStatus(u16),
    /// The bytes in the window are not within the object.
    #[error("the window's bytes are not within the object")]
    OutOfObject,
}

impl From<CutOff> for WindowError {
    fn from(_: CutOff) -> Self {
        Self::CutOff
    }
}

/// Some bytes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window<'a> {
    /// OBJECT_*.
    pub object: u16,
    /// Whether it is there.
    pub status: Status,
    /// Its length; 0 unless it is present.
    pub total: u32,
    /// Where `bytes` are in it.
    pub offset: u32,
    /// From there on.
    pub bytes: &'a [u8],
}

impl<'a> Window<'a> {
    /// The window on a present object, with at most `room` bytes of it; an empty one behind its
    /// end.
    pub fn on(selector: Selector, object: &'a [u8], room: usize) -> Self {
        let start = usize::try_from(selector.offset)
            .map_or(object.len(), |offset| offset.min(object.len()));
        let rest = object.get(start..).unwrap_or_default();
        Self {
            object: selector.object,
            status: Status::Present,
            total: u32::try_from(object.len()).unwrap_or(u32::MAX),
            offset: selector.offset,
            bytes: rest.get(..room).unwrap_or(rest),
        }
    }

    /// The window on an object that is not present.
    pub fn without(selector: Selector, status: Status) -> Self {
        Self {
            object: selector.object,
            status,
            total: 0,
            offset: selector.offset,
            bytes: &[],
        }
    }

    /// The header and the bytes; the index has zeros behind them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER_SIZE + self.bytes.len());
        bytes.extend(self.object.to_le_bytes());
        bytes.extend(self.status.code().to_le_bytes());
        for field in [self.total, self.offset, length] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(self.bytes);
        bytes
    }

    /// Reads a window, whatever follows it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WindowError> {
        let mut reader = Reader::new(bytes);
        let object = reader.u16_le()?;
        let code = reader.u16_le()?;
        let status = Status::from_code(code).ok_or(WindowError::UnknownStatus(code))?;
        let total = reader.u32_le()?;
        let offset = reader.u32_le()?;
        let length = reader.u32_le()?;
        let bytes = reader.sized(length)?;
        let end = u64::from(offset) + u64::from(length);
        if length != 0 && end > u64::from(total) {
            return Err(WindowError::OutOfObject);
        }
        Ok(Self {
            object,
            status,
            total,
            offset,
            bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    #[test]
    fn a_selector_is_eight_bytes() {
        let selector = Selector {
            object: OBJECT_CC_EVENT_LOG,
            offset: 0x0102_0304,
        };
        let bytes = [2, 0, 0, 0, 4, 3, 2, 1];
        assert_eq!(selector.to_bytes(), bytes);
        assert_eq!(Selector::from_bytes(&bytes), Some(selector));
        assert_eq!(Selector::from_bytes(&[2, 0, 1, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn a_window_has_a_header_of_sixteen_bytes() {
        let selector = Selector {
            object: OBJECT_TD_QUOTE,
            offset: 2,
        };
        let window = Window::on(selector, b"abcdef", 3);
        let bytes = [
            1, 0, 0, 0, 6, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, b'c', b'd', b'e',
        ];
        assert_eq!(window.to_bytes(), bytes);
        assert_eq!(DATA_MAX, 2032);
        let without = Window::without(selector, Status::NoQuotingService);
        let bytes = [1, 0, 3, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(without.to_bytes(), bytes);
        assert_eq!(Window::parse(&bytes), Ok(without));
    }

    #[test]
    fn statuses_have_the_codes_of_their_places() {
        for (code, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(status.code()), code);
            assert_eq!(Status::from_code(status.code()), Some(status));
        }
        assert_eq!(Status::from_code(8), None);
    }

    #[test]
    fn a_window_that_lies_is_refused() {
        let selector = Selector {
            object: OBJECT_TD_QUOTE,
            offset: 4,
        };
        let good = Window::on(selector, b"abcdef", DATA_MAX).to_bytes();
        assert_eq!(Window::parse(&good[..17]), Err(WindowError::CutOff));
        let mut bytes = good.clone();
        bytes[2] = 8;
        assert_eq!(Window::parse(&bytes), Err(WindowError::UnknownStatus(8)));
        let mut bytes = good.clone();
        bytes[4] = 5;
        assert_eq!(Window::parse(&bytes), Err(WindowError::OutOfObject));
        let mut bytes = good;
        bytes[8..12].fill(0xFF);
        assert_eq!(Window::parse(&bytes), Err(WindowError::OutOfObject));
    }

    proptest! {
        #[test]
        fn an_object_is_read_through_windows(object in proptest::collection::vec(any::<u8>(), 0..200), room in 1usize..50) {
            let mut read: Vec<u8> = vec![];
            loop {
                let offset = u32::try_from(read.len()).unwrap();
                let selector = Selector { object: OBJECT_TD_QUOTE, offset };
                let mut bytes = Window::on(selector, &object, room).to_bytes();
                bytes.resize(WINDOW_SIZE, 0);
                let window = Window::parse(&bytes).unwrap();
                prop_assert_eq!((window.total as usize, window.offset), (object.len(), offset));
                if window.bytes.is_empty() {
                    break;
                }
                read.extend(window.bytes);
            }
            prop_assert_eq!(read, object);
        }

        #[test]
        fn no_selector_and_no_bytes_panic(selector in any::<[u8; 8]>(), bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(selector) = Selector::from_bytes(&selector) {
                prop_assert!(Window::on(selector, &bytes, DATA_MAX).bytes.len() <= bytes.len());
            }
            if let Ok(window) = Window::parse(&bytes) {
                prop_assert!(bytes.starts_with(&window.to_bytes()));
            }
        }
    }
}
