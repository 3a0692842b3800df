//! Reading logs.

use super::EV_NO_ACTION;
use crate::digest::{Algorithm, Digest};
use crate::reader::{CutOff, Reader};
use alloc::vec::Vec;

/// One TCG_PCR_EVENT2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// PCR index in a TCG log, MR index in a CC log.
    pub register: u32,
    /// EV_*.
    pub event_type: u32,
    /// One of each algorithm of the log, in the order of the record.
    pub digests: Vec<Digest>,
    /// What was measured, or a hint at it; what it means depends on the type.
    pub data: &'a [u8],
    /// Where the record begins in the log.
    pub offset: usize,
}

impl Event<'_> {
    /// The digest in an algorithm.
    pub fn digest(&self, algorithm: Algorithm) -> Option<&Digest> {
        self.digests
            .iter()
            .find(|digest| digest.algorithm() == algorithm)
    }

    /// Whether the register was extended with it.
    pub fn extends(&self) -> bool {
        self.event_type != EV_NO_ACTION
    }
}

/// A whole log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log<'a> {
    /// Of every record, in the order of the header.
    pub algorithms: Vec<Algorithm>,
    /// Of the header.
    pub vendor_info: &'a [u8],
    /// All records but the header.
    pub events: Vec<Event<'a>>,
    /// Bytes from the start of the header to the end of the last record.
    pub length: usize,
}

/// Why bytes are not an event log. None of it is to be believed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A field goes beyond the end of the log.
    #[error("the event log is cut off in the record at {offset:#x}")]
    CutOff {
        /// Of the record.
        offset: usize,
    },
    /// The first record is not a TCG_EfiSpecIdEvent.
    #[error("the event log does not begin with a \"Spec ID Event03\" record")]
    NoSpecId,
    /// An algorithm that a TPM of ours does not have, or one twice, or a size that is not its own.
    #[error(
        "the event log's header names algorithm {id:#06x} with {size} bytes, unknown, twice or wrong"
    )]
    Algorithm {
        /// TPM_ALG_ID.
        id: u16,
        /// Said to be its digest's.
        size: u16,
    },
    /// The size of the header's event is not what its fields add up to.
    #[error("the event log's header has a size that is not the sum of its fields")]
    SpecIdSize,
    /// A record's digests are not one of each algorithm of the header.
    #[error(
        "the record at {offset:#x} does not have exactly one digest of each algorithm of the event log"
    )]
    Digests {
        /// Of the record.
        offset: usize,
    },
}

impl<'a> Log<'a> {
    /// Reads a log, from its header to the end of the bytes or to the first that was never written:
    /// eight or more bytes (or the rest) of 0x00 or of 0xFF, where a record would begin. Firmware
    /// leaves one or the other behind its log, and drivers stop there.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LogError> {
        let mut reader = Reader::new(bytes);
        let (algorithms, vendor_info) = header(&mut reader)?;
        let mut events = Vec::new();
        while !is_unwritten(reader.rest()) {
            let offset = bytes.len() - reader.rest().len();
            events.push(event(&mut reader, &algorithms, offset)?);
        }
        Ok(Self {
            algorithms,
            vendor_info,
            events,
            length: bytes.len() - reader.rest().len(),
        })
    }
}

fn is_unwritten(rest: &[u8]) -> bool {
    let start = rest.get(..8).unwrap_or(rest);
    start.iter().all(|byte| *byte == 0) || start.iter().all(|byte| *byte == 0xFF)
}

fn header<'a>(reader: &mut Reader<'a>) -> Result<(Vec<Algorithm>, &'a [u8]), LogError> {
    let cut_off = |CutOff| LogError::CutOff { offset: 0 };
    // The register: 0 by the PFP, 1 in EDK II's CC logs.
    reader.u32_le().map_err(cut_off)?;
    if reader.u32_le().map_err(cut_off)? != EV_NO_ACTION {
        return Err(LogError::NoSpecId);
    }
    reader.bytes(20).map_err(cut_off)?;
    let size = reader.u32_le().map_err(cut_off)?;
    let mut event = Reader::new(reader.sized(size).map_err(cut_off)?);
    let wrong_size = |CutOff| LogError::SpecIdSize;
    if event.bytes(16) != Ok(b"Spec ID Event03\0") {
        return Err(LogError::NoSpecId);
    }
    // Platform class, versions, errata and the size of a UINTN.
    event.bytes(8).map_err(wrong_size)?;
    let mut algorithms = Vec::new();
    for _ in 0..event.u32_le().map_err(wrong_size)? {
        let id = event.u16_le().map_err(wrong_size)?;
        let size = event.u16_le().map_err(wrong_size)?;
        let algorithm = Algorithm::from_id(id)
            .filter(|known| known.size() == usize::from(size) && !algorithms.contains(known))
            .ok_or(LogError::Algorithm { id, size })?;
        algorithms.push(algorithm);
    }
    let vendor_info_size = event.u8().map_err(wrong_size)?;
    let vendor_info = event
        .bytes(usize::from(vendor_info_size))
        .map_err(wrong_size)?;
    if !event.rest().is_empty() || algorithms.is_empty() {
        return Err(LogError::SpecIdSize);
    }
    Ok((algorithms, vendor_info))
}

fn event<'a>(
    reader: &mut Reader<'a>,
    algorithms: &[Algorithm],
    offset: usize,
) -> Result<Event<'a>, LogError> {
    let cut_off = |CutOff| LogError::CutOff { offset };
    let register = reader.u32_le().map_err(cut_off)?;
    let event_type = reader.u32_le().map_err(cut_off)?;
    let count = reader.u32_le().map_err(cut_off)?;
    if usize::try_from(count) != Ok(algorithms.len()) {
        return Err(LogError::Digests { offset });
    }
    let mut digests: Vec<Digest> = Vec::with_capacity(algorithms.len());
    for _ in algorithms {
        let id = reader.u16_le().map_err(cut_off)?;
        let algorithm = Algorithm::from_id(id)
            .filter(|algorithm| algorithms.contains(algorithm))
            .filter(|new| digests.iter().all(|digest| digest.algorithm() != *new))
            .ok_or(LogError::Digests { offset })?;
        let bytes = reader.bytes(algorithm.size()).map_err(cut_off)?;
        digests.push(Digest::new(algorithm, bytes).ok_or(LogError::Digests { offset })?);
    }
    let size = reader.u32_le().map_err(cut_off)?;
    let data = reader.sized(size).map_err(cut_off)?;
    Ok(Event {
        register,
        event_type,
        digests,
        data,
        offset,
    })
}
