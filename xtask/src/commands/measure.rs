//! `cargo xtask measure`: the values of a configuration's registers and PCRs, from files alone.

use crate::images;
use anyhow::{Context, Result};
use attestation::journal::{PcrMirror, TpmInterface};
use attestation::pcr::PcrBanks;
use prediction::{Configuration, Description, PREDICTED_PCRS, Prediction, Terms, predict};
use serde_json::{Map, Value, json};
use simulator::td_ram;
use std::path::{Path, PathBuf};

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The bzImage that boots as L2.
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// Its initrd.
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// The kernel's whole command line.
    #[arg(long, value_name = "LINE", default_value = "")]
    append: String,
    /// The TD's memory on the simulator, whose TD HOB follows from it.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u64,
    /// The TD HOB as another host hands it over.
    #[arg(long, value_name = "FILE", conflicts_with = "memory")]
    td_hob: Option<PathBuf>,
    /// A finished td-shim image instead of the built-in shim's.
    #[arg(long, value_name = "IMAGE")]
    td_shim: Option<PathBuf>,
    /// The TPM's registers, as the policy asks for them: fifo, fifo-interrupt, crb, crb-interrupt or crb-registers.
    #[arg(long, value_name = "fifo|fifo-interrupt|crb|crb-interrupt|crb-registers", default_value = "fifo", value_parser = tpm_interface)]
    tpm: TpmInterface,
    /// What the journal holds of the PCRs.
    #[arg(long, value_name = "off|summary|full", default_value = "summary", value_parser = mirror)]
    pcr_mirror: PcrMirror,
    /// The TPM's PCR banks: sha256 and sha384, and sha1 or sha512 if wanted.
    #[arg(long, value_name = "BANKS", default_value = "sha256+sha384", value_parser = pcr_banks)]
    pcr_banks: PcrBanks,
    /// How many processors the policy asks for, of the TD and of L2; it asks for no number without this.
    #[arg(long, value_name = "N", requires = "policy")]
    cpus: Option<u32>,
    /// Print the values as JSON.
    #[arg(long)]
    json: bool,
    /// Write a policy for the verifier to this file.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// A policy of mirroring by its name.
pub(crate) fn mirror(name: &str) -> Result<PcrMirror, String> {
    PcrMirror::from_name(name).ok_or_else(|| "it is off, summary or full".to_owned())
}

/// The TPM's registers by their word.
pub(crate) fn tpm_interface(word: &str) -> Result<TpmInterface, String> {
    TpmInterface::from_word(word)
        .ok_or_else(|| "it is fifo, fifo-interrupt, crb, crb-interrupt or crb-registers".to_owned())
}

/// PCR banks by their names.
pub(crate) fn pcr_banks(names: &str) -> Result<PcrBanks, String> {
    PcrBanks::from_names(names)
        .ok_or_else(|| "it is sha256+sha384, and sha1 or sha512 with them".to_owned())
}

/// Predicts, and prints or writes.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let image = match &options.td_shim {
        Some(path) => read(path)?,
        None => {
            crate::host::prepare()?;
            images::build()?.assemble(true)?
        }
    };
    let td_hob = options.td_hob.as_deref().map(read).transpose()?;
    let ram = td_ram(options.memory);
    let kernel = read(&options.kernel)?;
    let initrd = options.initrd.as_deref().map(read).transpose()?;
    let prediction = predict(&Configuration {
        image: &image,
        host: td_hob
            .as_deref()
            .map_or(Description::Ram(&ram), Description::TdHob),
        kernel: &kernel,
        initrd: initrd.as_deref(),
        command_line: &options.append,
        banks: options.pcr_banks,
    })?;
    if let Some(path) = &options.policy {
        let terms = Terms {
            interface: options.tpm,
            mirror: options.pcr_mirror,
            processors: options.cpus,
            quote_required: true,
        };
        let policy = prediction::policy(&prediction, &options.append, terms);
        std::fs::write(path, policy).with_context(|| path.display().to_string())?;
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&as_json(&prediction))?);
    } else {
        print(&prediction);
    }
    Ok(true)
}

/// Why the last register is not among the values.
const RTMR3: &str = "not predictable: the vTPM's journal, whose keys are made anew at each boot; the verifier replays it record by record";

/// Where an image has no name of an engine.
const NO_ENGINE: &str = "(the image names none)";

fn registers(prediction: &Prediction) -> Vec<(String, String)> {
    let mut registers = vec![("mrtd".to_owned(), hex::encode(prediction.mrtd))];
    for (index, value) in prediction.rtmrs.iter().enumerate() {
        registers.push((format!("rtmr{index}"), hex::encode(value)));
    }
    registers
}

fn digests(prediction: &Prediction) -> Vec<(&'static str, Option<String>)> {
    vec![
        ("td_hob", prediction.td_hob.map(hex::encode)),
        ("kernel", Some(hex::encode(prediction.kernel.sha384))),
        (
            "command_line",
            Some(hex::encode(prediction.command_line.sha384)),
        ),
        (
            "initrd",
            prediction.initrd.map(|initrd| hex::encode(initrd.sha384)),
        ),
    ]
}

/// The predicted PCRs of every bank, by the bank's name.
fn banks(prediction: &Prediction) -> impl Iterator<Item = (&'static str, Vec<String>)> {
    prediction.banks.iter().map(|bank| {
        let values = bank.values().iter().take(PREDICTED_PCRS.end);
        let values = values.map(|value| hex::encode(value.bytes())).collect();
        (bank.algorithm().name(), values)
    })
}

fn print(prediction: &Prediction) {
    for (name, value) in registers(prediction) {
        println!("{:13} {value}", name.to_uppercase());
    }
    println!("RTMR3         {RTMR3}");
    println!(
        "engine        {}",
        prediction.engine.as_deref().unwrap_or(NO_ENGINE)
    );
    println!("\nSHA-384 of what is measured:");
    for (name, value) in digests(prediction) {
        println!("{name:13} {}", value.as_deref().unwrap_or("(none)"));
    }
    for (name, values) in banks(prediction) {
        println!("\nPCRs, {name}, when L2 starts:");
        for (pcr, value) in values.iter().enumerate() {
            println!("{pcr:<13} {value}");
        }
    }
}

fn as_json(prediction: &Prediction) -> Value {
    let mut object: Map<String, Value> = registers(prediction)
        .into_iter()
        .map(|(name, value)| (name, Value::from(value)))
        .collect();
    object.insert("engine".to_owned(), prediction.engine.clone().into());
    object.insert("rtmr3".to_owned(), Value::Null);
    object.insert("rtmr3_note".to_owned(), RTMR3.into());
    let digests: Map<String, Value> = digests(prediction)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect();
    object.insert("sha384".to_owned(), Value::Object(digests));
    let banks: Map<String, Value> = banks(prediction)
        .map(|(name, values)| (name.to_owned(), json!(values)))
        .collect();
    object.insert("pcrs".to_owned(), Value::Object(banks));
    Value::Object(object)
}
