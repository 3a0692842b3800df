//! Our section: from text to what L1 is to do.

use crate::configuration::{
    Broker, Configuration, KeySource, Machine, Otherwise, PersistentState, Rollback,
};
use crate::error::{InitDataError, Part, Place};
use crate::hexadecimal;
use crate::table::{Table, Text};
use alloc::borrow::ToOwned as _;
use attestation::journal::PcrMirror;
use attestation::pcr::PcrBanks;

/// What may stand behind each key.
mod expected {
    pub(super) const MACHINE: &str =
        "the machine's identity, 64 lower-case hexadecimal digits in quotation marks";
    pub(super) const STATE: &str = "\"require\" (no guest without its TPM) or \"ephemeral\"";
    pub(super) const KEY: &str = "\"broker\", \"hardware\" or \"both\"";
    pub(super) const ROLLBACK: &str = "\"ledger\", \"lazy\" or \"none\"";
    pub(super) const BROKER_KEY: &str = "the broker's public key, a compressed point of P-256 in 66 lower-case \
                                         hexadecimal digits, in quotation marks";
    pub(super) const RESOURCE: &str =
        "repository/type/tag, each of 1 to 64 letters, digits, points, underlines and hyphens";
    pub(super) const BANKS: &str =
        "sha256 and sha384, and may have sha1 and sha512, with + between them, in quotation marks";
    pub(super) const MIRROR: &str = "\"off\", \"summary\" or \"full\"";
}

/// The bytes of a part of a resource's path.
const SEGMENT_MAX: usize = 64;

/// Reads the section.
pub(crate) fn configuration(section: &str) -> Result<Configuration, InitDataError> {
    let mut table = Table::parse(section, Part::Section)?;
    let banks = table.text("pcr-banks", expected::BANKS)?;
    let mirror = table.text("pcr-mirror", expected::MIRROR)?;
    let configuration = Configuration {
        state: state(&mut table)?,
        banks: optional(banks, "pcr-banks", expected::BANKS, PcrBanks::from_names)?,
        mirror: optional(mirror, "pcr-mirror", expected::MIRROR, PcrMirror::from_name)?,
    };
    table.end("machine, state, key, rollback, broker, pcr-banks, pcr-mirror")?;
    Ok(configuration)
}

/// The keys of the state, which go together.
fn state(table: &mut Table<'_>) -> Result<Option<PersistentState>, InitDataError> {
    let policy = table.required("state", expected::STATE)?;
    let otherwise = value(&policy, "state", expected::STATE, |name| {
        Otherwise::ALL.into_iter().find(|one| one.name() == name)
    })?;
    let Some(machine) = table.text("machine", expected::MACHINE)? else {
        return ephemeral(table, otherwise, policy.place).map(|()| None);
    };
    let machine = value(&machine, "machine", expected::MACHINE, Machine::from_hex)?;
    let rollback = table.required("rollback", expected::ROLLBACK)?;
    let key = key_source(table, &machine)?;
    let state = PersistentState {
        machine,
        otherwise,
        key,
        rollback: value(&rollback, "rollback", expected::ROLLBACK, |name| {
            Rollback::ALL.into_iter().find(|one| one.name() == name)
        })?,
    };
    match (&state.key, state.rollback) {
        (KeySource::Hardware, Rollback::Ledger | Rollback::Lazy) => Err(InitDataError::NoLedger {
            place: rollback.place,
        }),
        _ => Ok(Some(state)),
    }
}

/// Without a machine there is no state, and nothing that is said of one.
fn ephemeral(
    table: &mut Table<'_>,
    otherwise: Otherwise,
    place: Place,
) -> Result<(), InitDataError> {
    let mut of_a_state = (otherwise == Otherwise::Refuse).then_some((place, "state"));
    for (key, expected) in [("key", expected::KEY), ("rollback", expected::ROLLBACK)] {
        let found = table.text(key, expected)?;
        of_a_state = of_a_state.or(found.map(|text| (text.place, key)));
    }
    let broker = table.table("broker")?;
    of_a_state = of_a_state.or(broker.map(|(place, _)| (place, "broker")));
    of_a_state.map_or(Ok(()), |(place, key)| {
        Err(InitDataError::NoMachine { place, key })
    })
}

/// Where the key comes from, with the broker where it has a part in it.
fn key_source(table: &mut Table<'_>, machine: &Machine) -> Result<KeySource, InitDataError> {
    let key = table.required("key", expected::KEY)?;
    let found = table.table("broker")?;
    let make: fn(Broker) -> KeySource = match (&*key.value, &found) {
        ("hardware", None) => return Ok(KeySource::Hardware),
        ("hardware", Some((place, _))) => {
            return Err(InitDataError::UnusedBroker { place: *place });
        }
        ("broker", _) => KeySource::Broker,
        ("both", _) => KeySource::Both,
        _ => return Err(wrong(&key, "key", expected::KEY)),
    };
    let Some((_, table)) = found else {
        return Err(InitDataError::NoBroker {
            place: key.place,
            source_name: if *key.value == *"both" {
                "both"
            } else {
                "broker"
            },
        });
    };
    broker(table, machine).map(make)
}

fn broker(mut table: Table<'_>, machine: &Machine) -> Result<Broker, InitDataError> {
    let key = table.required("key", expected::BROKER_KEY)?;
    let resource = table.text("resource", expected::RESOURCE)?;
    table.end("key, resource")?;
    let key = value(&key, "key", expected::BROKER_KEY, compressed_point)?;
    let resource = optional(resource, "resource", expected::RESOURCE, |path| {
        is_resource(path).then(|| path.to_owned())
    })?;
    Ok(Broker {
        key,
        resource: resource.unwrap_or_else(|| Broker::default_resource(machine)),
    })
}

fn compressed_point(text: &str) -> Option<[u8; 33]> {
    let point: [u8; 33] = hexadecimal::read(text)?;
    let [form, ..] = point;
    matches!(form, 2 | 3).then_some(point)
}

/// Whether this names a resource of the KBS protocol in characters that need no escape in an HTTP request.
fn is_resource(path: &str) -> bool {
    let segment = |text: &str| {
        let character = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (1..=SEGMENT_MAX).contains(&text.len())
            && text.bytes().all(character)
            && !matches!(text, "." | "..")
    };
    path.split('/').count() == 3 && path.split('/').all(segment)
}

fn optional<T>(
    text: Option<Text<'_>>,
    key: &'static str,
    expected: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, InitDataError> {
    text.map(|text| value(&text, key, expected, read))
        .transpose()
}

fn value<T>(
    text: &Text<'_>,
    key: &'static str,
    expected: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, InitDataError> {
    read(&text.value).ok_or_else(|| wrong(text, key, expected))
}

fn wrong(text: &Text<'_>, key: &'static str, expected: &'static str) -> InitDataError {
    InitDataError::Value {
        place: text.place,
        key,
        expected,
    }
}
