//! The policy file: TOML, every key documented in this crate's README.

use super::{
    Allowed, Bits, FirmwarePolicy, KnownEks, LaunchPolicy, MaskedBits, PcrPolicy, Policy,
    QuotePolicy, Sha384Digest, TcbPolicy, TcbStatus, TdPolicy, VtpmPolicy,
    missing::missing,
    tables::{Count, File, LaunchTable, Numbers, PcrTable, TcbTable, TdTable, Values, VtpmTable},
};
use attestation::{
    digest::Algorithm,
    journal::{KeyHalves, Mode, PcrMirror, Rollback},
    tpm::Name,
};
use sha2::{Digest, Sha384};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Largest image, kernel or initrd that a policy may name.
const FILE_LIMIT: u64 = 1 << 30;

/// Why a policy file is not one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The text is not TOML, or has a key that does not exist; the message names the place.
    #[error("the policy is not well-formed: {0}")]
    Syntax(#[from] Box<toml::de::Error>),
    /// The policy does not say what it accepts of something that every policy has to speak of.
    #[error(
        "the policy does not say what it accepts of the following. What it does not name, it does not accept: \
         name the value, or write \"any\" to accept it unseen, which the verdict then shows. \
         `cargo xtask measure --kernel FILE --initrd FILE --append LINE --policy OUT.toml` writes a policy that names \
         every value. Missing:\n  {}", keys.join("\n  ")
    )]
    Missing {
        /// What to write, one a key.
        keys: Vec<&'static str>,
    },
    /// A value is not one that its key takes.
    #[error("policy key {key}: {problem}")]
    Value {
        /// The key, with its table.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// A file that the policy names cannot be read.
    #[error("policy key {key}: cannot read {}: {source}", path.display())]
    File {
        /// The key, with its table.
        key: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A firmware image that the policy names has no TDX metadata, so no MRTD.
    #[error("policy key td.image: {} is not a TDX firmware image: {problem}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Policy {
    /// The policy in a file; files that it names are relative to its directory.
    ///
    /// # Errors
    /// The file, or one that it names, cannot be read, or has a key or value that does not exist.
    pub fn read(path: &Path) -> Result<Policy, PolicyError> {
        let text = std::fs::read_to_string(path).map_err(|source| PolicyError::File {
            key: "(the policy itself)".into(),
            path: path.into(),
            source,
        })?;
        Policy::parse(&text, path.parent().unwrap_or(Path::new(".")))
    }

    /// The policy in `text`; files that it names are relative to `directory`.
    ///
    /// # Errors
    /// As [`Policy::read`].
    pub fn parse(text: &str, directory: &Path) -> Result<Policy, PolicyError> {
        let file: File = toml::from_str(text).map_err(Box::new)?;
        let keys = missing(&file);
        let source = Source { directory };
        let defaults = Policy::default();
        let policy = Policy {
            quote: QuotePolicy {
                required: file.quote.required.unwrap_or(defaults.quote.required),
            },
            tcb: tcb(file.tcb, defaults.tcb)?,
            td: source.td(file.td)?,
            firmware: FirmwarePolicy {
                td_hob: digests("firmware.td_hob", file.firmware.td_hob)?,
                other: file
                    .firmware
                    .other
                    .unwrap_or_default()
                    .iter()
                    .map(|value| digest("firmware.other", value))
                    .collect::<Result<_, _>>()?,
            },
            launch: source.launch(file.launch)?,
            vtpm: vtpm(file.vtpm, defaults.vtpm)?,
            pcr: pcr(&file.pcr)?,
        };
        match keys.is_empty() {
            true => Ok(policy),
            false => Err(PolicyError::Missing { keys }),
        }
    }
}

fn tcb(table: TcbTable, defaults: TcbPolicy) -> Result<TcbPolicy, PolicyError> {
    let statuses = table.statuses.unwrap_or(defaults.statuses);
    if statuses.contains(&TcbStatus::Revoked) {
        return Err(invalid("tcb.statuses", "Revoked is never accepted"));
    }
    Ok(TcbPolicy {
        statuses,
        advisories: match table.advisories {
            None => defaults.advisories,
            some => strings("tcb.advisories", some)?,
        },
        min_evaluation_data_number: table.min_evaluation_data_number.unwrap_or_default(),
    })
}

fn vtpm(table: VtpmTable, defaults: VtpmPolicy) -> Result<VtpmPolicy, PolicyError> {
    Ok(VtpmPolicy {
        engines: strings("vtpm.engines", table.engines)?,
        interfaces: strings("vtpm.interfaces", table.interfaces)?,
        modes: allowed("vtpm.modes", table.modes, |word| match word {
            "ephemeral" => Some(Mode::Ephemeral),
            "persistent" => Some(Mode::Persistent),
            _ => None,
        })?,
        mirror: allowed("vtpm.mirror", table.mirror, PcrMirror::from_name)?,
        state: match table.state {
            None => defaults.state,
            some => digests("vtpm.state", some)?,
        },
        processors: numbers("vtpm.processors", table.processors)?,
        l2_processors: numbers("vtpm.l2_processors", table.l2_processors)?,
        machine: allowed("vtpm.machine", table.machine, array)?,
        broker: allowed("vtpm.broker", table.broker, array)?,
        key: allowed("vtpm.key", table.key, KeyHalves::from_name)?,
        rollback: match table.rollback {
            // Of this key it is a value, and not the absence of one.
            Some(Values::Word(word)) if word == "none" => Allowed::OneOf(vec![Rollback::None]),
            values => allowed("vtpm.rollback", values, Rollback::from_name)?,
        },
        ek: known_eks(table.ek)?,
        allow_clear: table.allow_clear.unwrap_or(defaults.allow_clear),
        allow_hierarchy_changes: table
            .allow_hierarchy_changes
            .unwrap_or(defaults.allow_hierarchy_changes),
        allow_log_full: table.allow_log_full.unwrap_or(defaults.allow_log_full),
        max_resets: match table.max_resets {
            None => defaults.max_resets,
            Some(Count::Number(most)) => Some(most),
            Some(Count::Word(word)) if word == "any" => None,
            Some(Count::Word(word)) => {
                return Err(invalid(
                    "vtpm.max_resets",
                    format!("`{word}` is neither a number nor \"any\""),
                ));
            }
        },
    })
}

fn known_eks(values: Option<Values>) -> Result<KnownEks, PolicyError> {
    if matches!(&values, Some(Values::Word(word)) if word == "ephemeral") {
        return Ok(KnownEks::Ephemeral);
    }
    let names = allowed("vtpm.ek", values, |name| {
        Name::new(&hex::decode(name).ok()?)
    })?;
    match names {
        Allowed::Any => Ok(KnownEks::Any),
        Allowed::OneOf(names) => Ok(KnownEks::OneOf(names)),
        Allowed::Absent => Err(invalid("vtpm.ek", "a vTPM has EKs: \"none\" accepts none")),
    }
}

fn pcr(table: &PcrTable) -> Result<PcrPolicy, PolicyError> {
    let mut values = BTreeMap::new();
    for (name, algorithm, bank) in [
        ("sha1", Algorithm::Sha1, &table.sha1),
        ("sha256", Algorithm::Sha256, &table.sha256),
        ("sha384", Algorithm::Sha384, &table.sha384),
        ("sha512", Algorithm::Sha512, &table.sha512),
    ] {
        for (pcr, allowed) in bank {
            let key = format!("pcr.{name}.{pcr}");
            let index: u8 = match pcr.parse() {
                Ok(index) if index < 24 => index,
                _ => return Err(invalid(&key, "there are PCRs 0 to 23")),
            };
            let allowed = allowed
                .iter()
                .map(|value| match hex::decode(value) {
                    Ok(bytes) if bytes.len() == algorithm.size() => Ok(bytes),
                    _ => Err(invalid(
                        &key,
                        format!("`{value}` is not {} bytes of hex", algorithm.size()),
                    )),
                })
                .collect::<Result<Vec<_>, _>>()?;
            values.insert((algorithm.id(), index), allowed);
        }
    }
    let beyond_log = table.beyond_log.clone().unwrap_or_default();
    if beyond_log.iter().any(|pcr| !(10..24).contains(pcr)) {
        return Err(invalid(
            "pcr.beyond_log",
            "only PCRs 10 to 23 can be listed",
        ));
    }
    Ok(PcrPolicy { values, beyond_log })
}

/// Where the files of a policy are.
struct Source<'a> {
    directory: &'a Path,
}

impl Source<'_> {
    fn td(&self, table: TdTable) -> Result<TdPolicy, PolicyError> {
        let mut mrtd = digests("td.mrtd", table.mrtd)?;
        if let Some(image) = &table.image {
            add(&mut mrtd, "td.image", self.mrtd_of(image)?)?;
        }
        Ok(TdPolicy {
            mrtd,
            debug: table.debug.unwrap_or(false),
            attributes: masked("td.attributes", table.attributes, table.attributes_mask)?,
            xfam: masked("td.xfam", table.xfam, table.xfam_mask)?,
            mrconfigid: digests("td.mrconfigid", table.mrconfigid)?,
            mrowner: digests("td.mrowner", table.mrowner)?,
            mrownerconfig: digests("td.mrownerconfig", table.mrownerconfig)?,
            mrservicetd: match table.mrservicetd {
                None => Allowed::Absent,
                some => digests("td.mrservicetd", some)?,
            },
        })
    }

    fn launch(&self, table: LaunchTable) -> Result<LaunchPolicy, PolicyError> {
        let mut kernel = digests("launch.kernel", table.kernel)?;
        if let Some(path) = &table.kernel_file {
            let file = self.bytes("launch.kernel_file", path)?;
            let digest = attestation::launch::kernel_digests(&file).sha384;
            add(&mut kernel, "launch.kernel_file", digest)?;
        }
        let mut command_line = allowed("launch.command_line", table.command_line, |line| {
            Some(Sha384::digest(line).into())
        })?;
        let digest_key = "launch.command_line_digest";
        let Allowed::OneOf(values) = digests(digest_key, table.command_line_digest)? else {
            return Err(invalid(digest_key, "a list of digests"));
        };
        for value in values {
            add(&mut command_line, digest_key, value)?;
        }
        let mut initrd = digests("launch.initrd", table.initrd)?;
        if let Some(path) = &table.initrd_file {
            let file = self.bytes("launch.initrd_file", path)?;
            add(
                &mut initrd,
                "launch.initrd_file",
                Sha384::digest(file).into(),
            )?;
        }
        Ok(LaunchPolicy {
            kernel,
            command_line,
            initrd,
        })
    }

    fn mrtd_of(&self, path: &Path) -> Result<Sha384Digest, PolicyError> {
        let image = self.bytes("td.image", path)?;
        let metadata = tdshim_config::metadata::Metadata::find(&image).map_err(|problem| {
            PolicyError::Image {
                path: path.into(),
                problem: problem.to_string(),
            }
        })?;
        Ok(tdshim_config::measurement::mrtd(&image, &metadata))
    }

    fn bytes(&self, key: &str, path: &Path) -> Result<Vec<u8>, PolicyError> {
        let path = self.directory.join(path);
        crate::files::read_bounded(&path, FILE_LIMIT).map_err(|source| PolicyError::File {
            key: key.into(),
            path,
            source,
        })
    }
}

fn invalid(key: &str, problem: impl Into<String>) -> PolicyError {
    PolicyError::Value {
        key: key.into(),
        problem: problem.into(),
    }
}

fn add<T>(allowed: &mut Allowed<T>, key: &str, value: T) -> Result<(), PolicyError> {
    match allowed {
        Allowed::OneOf(values) => values.push(value),
        Allowed::Any | Allowed::Absent => {
            return Err(invalid(
                key,
                "contradicts `any` or `none` of the same table",
            ));
        }
    }
    Ok(())
}

/// `"any"`, `"none"`, one value or a list of values; none if the key is left out.
fn allowed<T>(
    key: &str,
    values: Option<Values>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Allowed<T>, PolicyError> {
    let list = match values {
        None => return Ok(Allowed::default()),
        Some(Values::Word(word)) if word == "any" => return Ok(Allowed::Any),
        Some(Values::Word(word)) if word == "none" => return Ok(Allowed::Absent),
        Some(Values::Word(word)) => vec![word],
        Some(Values::List(list)) => list,
    };
    let values = list
        .iter()
        .map(|value| {
            parse(value).ok_or_else(|| invalid(key, format!("`{value}` is not a value it takes")))
        })
        .collect::<Result<_, _>>()?;
    Ok(Allowed::OneOf(values))
}

/// `"any"`, one number or a list of them; none if the key is left out.
fn numbers(key: &str, numbers: Option<Numbers>) -> Result<Option<Allowed<u32>>, PolicyError> {
    Ok(Some(match numbers {
        None => return Ok(None),
        Some(Numbers::Word(word)) if word == "any" => Allowed::Any,
        Some(Numbers::Word(word)) => {
            return Err(invalid(
                key,
                format!("`{word}` is neither a number nor \"any\""),
            ));
        }
        Some(Numbers::Number(number)) => Allowed::OneOf(vec![number]),
        Some(Numbers::List(list)) => Allowed::OneOf(list),
    }))
}

fn strings(key: &str, values: Option<Values>) -> Result<Allowed<String>, PolicyError> {
    allowed(key, values, |value| Some(value.to_owned()))
}

fn digests(key: &str, values: Option<Values>) -> Result<Allowed<Sha384Digest>, PolicyError> {
    allowed(key, values, parse_digest)
}

fn digest(key: &str, value: &str) -> Result<Sha384Digest, PolicyError> {
    parse_digest(value).ok_or_else(|| invalid(key, format!("`{value}` is not 48 bytes of hex")))
}

fn parse_digest(value: &str) -> Option<Sha384Digest> {
    array(value)
}

/// Bytes in hex, as many as there have to be.
fn array<const N: usize>(value: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(value, &mut bytes).ok()?;
    Some(bytes)
}

/// `"any"`, or a 64-bit field as a number in hex, most significant digit first.
fn masked(key: &str, value: Option<String>, mask: Option<String>) -> Result<Bits, PolicyError> {
    let number = |key: &str, text: &str| {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        u64::from_str_radix(digits, 16)
            .map_err(|_| invalid(key, format!("`{text}` is not 64 bits in hex")))
    };
    let mask_key = format!("{key}_mask");
    match (value.as_deref(), mask) {
        (None, _) => Ok(Bits::default()),
        (Some("any"), Some(_)) => Err(invalid(&mask_key, format!("contradicts `any` of {key}"))),
        (Some("any"), None) => Ok(Bits::Any),
        (Some(value), mask) => Ok(Bits::Masked(MaskedBits {
            value: number(key, value)?,
            mask: match mask {
                Some(mask) => number(&mask_key, &mask)?,
                None => u64::MAX,
            },
        })),
    }
}
