//! Records from CBOR.

use super::{
    KeyHalves, Mode, PcrMirror, Processors, Record, Rollback, START_VERSION, Start, StartupType,
    Unlock, VERSION,
};
use crate::digest::{Algorithm, Digest};
use crate::pcr::{self, PcrBanks};
use crate::tpm::Name;
use alloc::vec::Vec;
use minicbor::Decoder;
use minicbor::data::Type;
use minicbor::decode::Error;

/// Digests of one record, at most: a TPML_DIGEST_VALUES has no more.
const DIGESTS_MAX: u64 = 16;

/// Why bytes are not a record of the journal. The journal cannot be explained then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Not CBOR, or an item of another type than the CDDL has there.
    #[error("the record is not CBOR of the journal's form")]
    Malformed,
    /// CBOR, but not in its deterministic encoding, or with something after the record.
    #[error("the record is not encoded deterministically")]
    NotDeterministic,
    /// A type of record that this version does not know.
    #[error("the journal has a record of the unknown type {0}")]
    UnknownType(u8),
    /// A version of its type that this version does not know.
    #[error("the journal has a record of type {code} in the unknown version {version}")]
    UnknownVersion {
        /// Type.
        code: u8,
        /// Version.
        version: u8,
    },
    /// A field has a value that the CDDL does not allow.
    #[error("the record's field \"{0}\" has no meaning")]
    Field(&'static str),
}

impl From<Error> for RecordError {
    fn from(_: Error) -> Self {
        Self::Malformed
    }
}

impl Record {
    /// The record of exactly these bytes.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, RecordError> {
        let record = read(&mut Decoder::new(bytes))?;
        if record.to_cbor() != bytes {
            return Err(RecordError::NotDeterministic);
        }
        Ok(record)
    }
}

fn read(from: &mut Decoder<'_>) -> Result<Record, RecordError> {
    // The number of fields is the type's: compared when the record is encoded again.
    from.array()?.ok_or(RecordError::NotDeterministic)?;
    let code = from.u8()?;
    let version = from.u8()?;
    let known = match code {
        1 => VERSION..=START_VERSION,
        _ => VERSION..=VERSION,
    };
    if (1..=15).contains(&code) && !known.contains(&version) {
        return Err(RecordError::UnknownVersion { code, version });
    }
    Ok(match code {
        1 => Record::Start(start(from, version)?),
        2 => Record::Startup(startup_type(from)?),
        3 => Record::Reset,
        4 => Record::Shutdown(startup_type(from)?),
        5 => Record::Clear,
        6 => Record::Hierarchy {
            command: from.u32()?,
            handle: from.u32()?,
            parameters: from.bytes()?.to_vec(),
        },
        7 => Record::NvIndex {
            defined: from.bool()?,
            index: from.u32()?,
            attributes: from.u32()?,
        },
        8 => Record::NvCommit {
            state: array(from, "state")?,
        },
        9 => Record::PcrExtend {
            pcr: pcr_index(from)?,
            digests: digests(from, "digests")?,
        },
        10 => Record::PcrReset {
            pcr: pcr_index(from)?,
        },
        11 => Record::PcrValue {
            pcr: pcr_index(from)?,
            values: digests(from, "values")?,
        },
        12 => Record::PcrSummary {
            changes: from.u64()?,
            banks: array(from, "banks")?,
        },
        13 => Record::LogFull {
            records: from.u64()?,
        },
        14 => Record::Unlock(unlock(from)?),
        15 => Record::StateRefused {
            reason: from.str()?.into(),
        },
        _ => return Err(RecordError::UnknownType(code)),
    })
}

fn start(from: &mut Decoder<'_>, version: u8) -> Result<Start, RecordError> {
    Ok(Start {
        engine: from.str()?.into(),
        interface: from.str()?.into(),
        mode: Mode::from_code(from.u8()?).ok_or(RecordError::Field("mode"))?,
        mirror: PcrMirror::from_code(from.u8()?).ok_or(RecordError::Field("mirror"))?,
        banks: banks(from)?,
        state: array_or_null(from, "state")?,
        eks: {
            if from.array()? != Some(3) {
                return Err(RecordError::Field("eks"));
            }
            [name(from, "eks")?, name(from, "eks")?, name(from, "eks")?]
        },
        ak: name(from, "ak")?,
        ca: array(from, "ca")?,
        processors: match version {
            VERSION => None,
            _ => Some(processors(from)?),
        },
    })
}

fn unlock(from: &mut Decoder<'_>) -> Result<Unlock, RecordError> {
    let unlock = Unlock {
        machine: array(from, "machine")?,
        broker: array_or_null(from, "broker")?,
        key: KeyHalves::from_code(from.u8()?).ok_or(RecordError::Field("key"))?,
        rollback: Rollback::from_code(from.u8()?).ok_or(RecordError::Field("rollback"))?,
        epoch: from.u64()?,
        counter: from.u64()?,
    };
    // A half of the broker's and a ledger are a broker's.
    let needs_broker = unlock.key != KeyHalves::Hardware || unlock.rollback != Rollback::None;
    match needs_broker && unlock.broker.is_none() {
        true => Err(RecordError::Field("broker")),
        false => Ok(unlock),
    }
}

fn processors(from: &mut Decoder<'_>) -> Result<Processors, RecordError> {
    Processors::new(from.u32()?, from.u32()?).ok_or(RecordError::Field("processors"))
}

/// In order, or the record would not be what it is encoded as again.
fn banks(from: &mut Decoder<'_>) -> Result<PcrBanks, RecordError> {
    let count = from
        .array()?
        .filter(|count| *count <= Algorithm::ALL.len() as u64);
    let mut banks = Vec::new();
    for _ in 0..count.ok_or(RecordError::Field("banks"))? {
        banks.extend(Algorithm::from_id(from.u16()?));
    }
    let banks = PcrBanks::new(&banks).filter(|_| count == Some(banks.len() as u64));
    banks.ok_or(RecordError::Field("banks"))
}

fn startup_type(from: &mut Decoder<'_>) -> Result<StartupType, RecordError> {
    StartupType::from_code(from.u16()?).ok_or(RecordError::Field("type"))
}

fn name(from: &mut Decoder<'_>, field: &'static str) -> Result<Name, RecordError> {
    Name::new(from.bytes()?).ok_or(RecordError::Field(field))
}

fn array<const N: usize>(
    from: &mut Decoder<'_>,
    field: &'static str,
) -> Result<[u8; N], RecordError> {
    let bytes = from.bytes()?;
    bytes.try_into().map_err(|_| RecordError::Field(field))
}

fn array_or_null<const N: usize>(
    from: &mut Decoder<'_>,
    field: &'static str,
) -> Result<Option<[u8; N]>, RecordError> {
    match from.datatype()? {
        Type::Null => {
            from.null()?;
            Ok(None)
        }
        _ => array(from, field).map(Some),
    }
}

fn pcr_index(from: &mut Decoder<'_>) -> Result<u8, RecordError> {
    let index = from.u8()?;
    if usize::from(index) < pcr::COUNT {
        Ok(index)
    } else {
        Err(RecordError::Field("pcr"))
    }
}

fn digests(from: &mut Decoder<'_>, field: &'static str) -> Result<Vec<Digest>, RecordError> {
    let count = from.array()?.filter(|count| *count <= DIGESTS_MAX);
    let mut digests = Vec::new();
    for _ in 0..count.ok_or(RecordError::Field(field))? {
        if from.array()? != Some(2) {
            return Err(RecordError::Field(field));
        }
        let algorithm = Algorithm::from_id(from.u16()?).ok_or(RecordError::Field(field))?;
        let digest = Digest::new(algorithm, from.bytes()?);
        digests.push(digest.ok_or(RecordError::Field(field))?);
    }
    Ok(digests)
}
