//! What is stored, as named records.
//!
//! A record is 8 bytes (length of the name, flags, version of the record, length of the value), the name in
//! ASCII, the value. Records are in the order of their names, each once, and the last one ends the state: there is
//! one encoding of a state. A record that is marked critical and not known ends the reading, by its name; any
//! other one is kept and written again as it was.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::layout::CIPHERTEXT_MAX;

/// Names of the records of this version, in the order in which they are stored.
pub mod name {
    /// Templates of the endorsement keys.
    pub const EK_TEMPLATES: &str = "ek-templates";
    /// The engine's permanent state.
    pub const ENGINE: &str = "engine";
    /// The journal's epoch.
    pub const JOURNAL_EPOCH: &str = "journal-epoch";
    /// The engine's NV memory in bytes.
    pub const NV_SIZE: &str = "nv-size";
    /// The policy that the state was stored under.
    pub const POLICY: &str = "policy";
}

/// Bytes before a record's name.
const HEAD: usize = 8;
/// The longest name of a record.
pub const NAME_MAX: usize = 32;
/// The flag of a record that a reader must know.
pub const CRITICAL: u8 = 1;
/// The version of each record that this code writes and knows.
const RECORD_VERSION: u16 = 1;

/// What an endorsement key was made from, and what it is called: a later L1 makes the same key, and sees that it did.
#[derive(Clone, Debug, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct EkTemplate {
    /// The NV index of the key's certificate (TCG EK Credential Profile, section 2.2.1.4).
    pub handle: u32,
    /// The template's TPMT_PUBLIC as the TPM marshals it, at most 65,535 bytes.
    pub public: Vec<u8>,
    /// The key's Name (TPM 2.0 Library, part 1, "Names"), at most 65,535 bytes; empty if it is not kept.
    pub name: Vec<u8>,
}

/// A record that this code does not know and may leave alone.
#[derive(Clone, Debug, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct OtherRecord {
    name: String,
    version: u16,
    value: Vec<u8>,
}

/// What is stored of a TPM. Erased when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct State {
    /// The engine's permanent state, as the engine gives it. It has no integrity of its own.
    pub engine: Vec<u8>,
    /// Templates of the endorsement keys.
    pub ek_templates: Vec<EkTemplate>,
    /// How many journals there have been of this state.
    pub journal_epoch: u64,
    /// The engine's NV memory in bytes.
    pub nv_size: u32,
    /// The policy that the state was stored under, as its text.
    pub policy: String,
    /// Records of a later version that need not be known: written again as they were.
    pub others: Vec<OtherRecord>,
}

/// Sizes alone: the engine's state is a secret.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("engine", &self.engine.len())
            .field("ek_templates", &self.ek_templates.len())
            .field("journal_epoch", &self.journal_epoch)
            .field("nv_size", &self.nv_size)
            .field("policy", &self.policy)
            .field("others", &self.others.len())
            .finish()
    }
}

/// Why what the AEAD passed is not a state for this code. Whoever had the key wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A later version wrote it.
    #[error(
        "the record `{name}` is critical and this version does not know it: start the version that wrote it"
    )]
    Critical {
        /// Its name.
        name: String,
    },
    /// A later version wrote it.
    #[error(
        "the record `{name}` has version {version}, and this version knows {RECORD_VERSION}: start the version that wrote it"
    )]
    Version {
        /// Its name.
        name: &'static str,
        /// Its version.
        version: u16,
    },
    /// It is not there.
    #[error("the record `{name}` is missing")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// It is not what such a record is.
    #[error("the record `{name}` is malformed")]
    Malformed {
        /// Its name.
        name: &'static str,
    },
    /// Lengths, names, flags or the order of the records.
    #[error("byte {offset} of the records does not begin one")]
    Structure {
        /// Where.
        offset: usize,
    },
}

/// A record taken apart.
struct Raw<'a> {
    name: &'a str,
    flags: u8,
    version: u16,
    value: &'a [u8],
}

impl State {
    /// The records. `None` if they are more than a slot has room for, or a length has no room in its field.
    pub fn encode(&self) -> Option<Zeroizing<Vec<u8>>> {
        let mut templates = Zeroizing::new(Vec::with_capacity(
            self.ek_templates
                .iter()
                .map(|ek| ek.public.len() + ek.name.len() + 8)
                .sum(),
        ));
        for ek in &self.ek_templates {
            templates.extend(ek.handle.to_le_bytes());
            for part in [&ek.public, &ek.name] {
                templates.extend(u16::try_from(part.len()).ok()?.to_le_bytes());
                templates.extend(part);
            }
        }
        let epoch = self.journal_epoch.to_le_bytes();
        let nv_size = self.nv_size.to_le_bytes();
        let mut records: Vec<Raw<'_>> = [
            (name::EK_TEMPLATES, templates.as_slice()),
            (name::ENGINE, &self.engine),
            (name::JOURNAL_EPOCH, &epoch),
            (name::NV_SIZE, &nv_size),
            (name::POLICY, self.policy.as_bytes()),
        ]
        .map(|(name, value)| Raw {
            name,
            flags: CRITICAL,
            version: RECORD_VERSION,
            value,
        })
        .into();
        records.extend(self.others.iter().map(|other| Raw {
            name: &other.name,
            flags: 0,
            version: other.version,
            value: &other.value,
        }));
        records.sort_by_key(|record| record.name);
        let length = records
            .iter()
            .map(|record| HEAD + record.name.len() + record.value.len())
            .sum();
        if length > CIPHERTEXT_MAX {
            return None;
        }
        // As large as it gets: a vector that moves leaves a copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        for record in records {
            bytes.push(u8::try_from(record.name.len()).ok()?);
            bytes.push(record.flags);
            bytes.extend(record.version.to_le_bytes());
            bytes.extend(u32::try_from(record.value.len()).ok()?.to_le_bytes());
            bytes.extend(record.name.as_bytes());
            bytes.extend(record.value);
        }
        Some(bytes)
    }

    /// The state that these records are of.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (mut engine, mut ek_templates, mut journal_epoch, mut nv_size, mut policy) =
            (None, None, None, None, None);
        let mut others = Vec::new();
        let mut rest = bytes;
        let mut last = "";
        while !rest.is_empty() {
            let offset = bytes.len() - rest.len();
            let (record, after) = raw(rest)
                .filter(|(record, _)| record.name > last)
                .ok_or(RecordError::Structure { offset })?;
            (rest, last) = (after, record.name);
            let value = record.value;
            match record.name {
                name::EK_TEMPLATES => {
                    ek_templates = Some(known(name::EK_TEMPLATES, &record, templates(value))?);
                }
                name::ENGINE => engine = Some(known(name::ENGINE, &record, Some(value.to_vec()))?),
                name::JOURNAL_EPOCH => {
                    let number = value.try_into().ok().map(u64::from_le_bytes);
                    journal_epoch = Some(known(name::JOURNAL_EPOCH, &record, number)?);
                }
                name::NV_SIZE => {
                    let number = value.try_into().ok().map(u32::from_le_bytes);
                    nv_size = Some(known(name::NV_SIZE, &record, number)?);
                }
                name::POLICY => {
                    let text = str::from_utf8(value).ok().map(String::from);
                    policy = Some(known(name::POLICY, &record, text)?);
                }
                other if record.flags & CRITICAL != 0 => {
                    return Err(RecordError::Critical { name: other.into() });
                }
                other => others.push(OtherRecord {
                    name: other.into(),
                    version: record.version,
                    value: value.into(),
                }),
            }
        }
        let missing = |name| RecordError::Missing { name };
        Ok(Self {
            engine: engine.ok_or(missing(name::ENGINE))?,
            ek_templates: ek_templates.ok_or(missing(name::EK_TEMPLATES))?,
            journal_epoch: journal_epoch.ok_or(missing(name::JOURNAL_EPOCH))?,
            nv_size: nv_size.ok_or(missing(name::NV_SIZE))?,
            policy: policy.ok_or(missing(name::POLICY))?,
            others,
        })
    }
}

/// The record that `bytes` begin with, and what comes after it.
fn raw(bytes: &[u8]) -> Option<(Raw<'_>, &[u8])> {
    let ([name_length, flags, v0, v1, l0, l1, l2, l3], rest) = bytes.split_first_chunk::<HEAD>()?;
    let name_length = usize::from(*name_length);
    let length = usize::try_from(u32::from_le_bytes([*l0, *l1, *l2, *l3])).ok()?;
    let (name, rest) = rest.split_at_checked(name_length)?;
    let (value, rest) = rest.split_at_checked(length)?;
    let spelt = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let fits =
        (1..=NAME_MAX).contains(&name_length) && name.iter().all(spelt) && flags & !CRITICAL == 0;
    let record = Raw {
        name: str::from_utf8(name).ok()?,
        flags: *flags,
        version: u16::from_le_bytes([*v0, *v1]),
        value,
    };
    fits.then_some((record, rest))
}

/// The value of a record that this code knows, if version and flags are those that it writes.
fn known<T>(name: &'static str, record: &Raw<'_>, value: Option<T>) -> Result<T, RecordError> {
    let version = record.version;
    if version != RECORD_VERSION {
        return Err(RecordError::Version { name, version });
    }
    value
        .filter(|_| record.flags == CRITICAL)
        .ok_or(RecordError::Malformed { name })
}

/// The templates in their record.
fn templates(mut bytes: &[u8]) -> Option<Vec<EkTemplate>> {
    let mut templates = Vec::new();
    while !bytes.is_empty() {
        let (handle, rest) = bytes.split_first_chunk()?;
        let (public, rest) = sized(rest)?;
        let (name, rest) = sized(rest)?;
        templates.push(EkTemplate {
            handle: u32::from_le_bytes(*handle),
            public: public.into(),
            name: name.into(),
        });
        bytes = rest;
    }
    Some(templates)
}

/// Bytes behind their number, and what comes after them.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u16::from_le_bytes(*length).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;
    use proptest::prelude::*;

    fn state() -> State {
        State {
            engine: vec![1, 2, 3],
            ek_templates: vec![EkTemplate {
                handle: 0x8101_0001,
                public: vec![9; 4],
                name: vec![8; 3],
            }],
            journal_epoch: 7,
            nv_size: 0x1000,
            policy: "require".into(),
            others: vec![],
        }
    }

    fn record(name: &str, flags: u8, version: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![u8::try_from(name.len()).unwrap(), flags];
        bytes.extend(version.to_le_bytes());
        bytes.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(value);
        bytes
    }

    #[test]
    fn an_unknown_critical_record_is_refused_by_its_name() {
        let mut bytes = state().encode().unwrap().to_vec();
        bytes.extend(record("volatile", CRITICAL, 1, b"x"));
        let error = State::decode(&bytes).unwrap_err();
        let name = "volatile".into();
        assert_eq!(error, RecordError::Critical { name });
        assert!(
            format!("{error}").contains("`volatile` is critical"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_record_that_is_not_critical_is_written_again() {
        let known = state().encode().unwrap().to_vec();
        let with = |name| [known.clone(), record(name, 0, 5, b"x")].concat();
        let state = State::decode(&with("remark")).unwrap();
        assert_eq!(state.others[0].name, "remark");
        assert_eq!(*state.encode().unwrap(), with("remark"));
        // Not at its place: there is one encoding of a state.
        let offset = known.len();
        let error = State::decode(&with("a-remark")).unwrap_err();
        assert_eq!(error, RecordError::Structure { offset });
    }

    #[test]
    fn each_record_is_wanted_once_in_its_version() {
        let all = [
            record(name::EK_TEMPLATES, 1, 1, &[]),
            record(name::ENGINE, 1, 1, b"e"),
            record(name::JOURNAL_EPOCH, 1, 1, &[0; 8]),
            record(name::NV_SIZE, 1, 1, &[0; 4]),
            record(name::POLICY, 1, 1, b""),
        ];
        State::decode(&all.concat()).unwrap();
        let names = [
            name::EK_TEMPLATES,
            name::ENGINE,
            name::JOURNAL_EPOCH,
            name::NV_SIZE,
            name::POLICY,
        ];
        for (at, name) in names.into_iter().enumerate() {
            let with = |replaced: Vec<u8>| {
                let mut all = all.clone();
                all[at] = replaced;
                State::decode(&all.concat()).unwrap_err()
            };
            assert_eq!(with(vec![]), RecordError::Missing { name });
            let twice = [all[at].clone(), all[at].clone()].concat();
            assert!(matches!(with(twice), RecordError::Structure { .. }));
            let value = &all[at][HEAD + name.len()..];
            let version = with(record(name, 1, 2, value));
            assert_eq!(version, RecordError::Version { name, version: 2 });
            let flags = with(record(name, 0, 1, value));
            assert_eq!(flags, RecordError::Malformed { name });
            assert!(matches!(
                with(record(name, 3, 1, value)),
                RecordError::Structure { .. }
            ));
            if ![name::ENGINE].contains(&name) {
                let value = with(record(name, 1, 1, &[0xFF; 5]));
                assert_eq!(value, RecordError::Malformed { name });
            }
        }
    }

    #[test]
    fn what_no_slot_has_room_for_is_not_encoded() {
        let mut large = state();
        large.engine = vec![0; CIPHERTEXT_MAX];
        assert!(large.encode().is_none());
        let mut template = state();
        template.ek_templates[0].public = vec![0; 0x1_0000];
        assert!(template.encode().is_none());
    }

    #[test]
    fn a_state_is_not_shown() {
        let shown = format!("{:?}", state());
        assert!(shown.contains("engine: 3,"), "{shown}");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            engine: Vec<u8>,
            templates in proptest::collection::vec((any::<u32>(), any::<Vec<u8>>(), any::<Vec<u8>>()), 0..4),
            journal_epoch: u64,
            nv_size: u32,
            policy: String,
        ) {
            let ek_templates = templates
                .into_iter()
                .map(|(handle, public, name)| EkTemplate { handle, public, name })
                .collect();
            let state = State { engine, ek_templates, journal_epoch, nv_size, policy, others: vec![] };
            prop_assert_eq!(State::decode(&state.encode().unwrap()), Ok(state));
        }

        /// There is one encoding: what is decoded at all is what would be written.
        #[test]
        fn bytes_are_a_state_in_one_way(at in 0..120usize, byte: u8) {
            let mut bytes = state().encode().unwrap().to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if let Ok(state) = State::decode(&bytes) {
                prop_assert_eq!(&*state.encode().unwrap(), &bytes);
            }
        }
    }
}
