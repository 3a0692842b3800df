//! A kernel that starts another one, and a crashed one's successor: the TPM goes on as if nothing had happened.

use super::trial::Trial;
use anyhow::{Context, Result, ensure};
use attestation::bundle::Bundle;
use attestation::event_log::{Log, replay_rtmrs};
use attestation::journal::{self, Record};
use simulator::Run;
use std::path::Path;
use tdx_defs::quote::{QuoteHeader, TdQuoteBody};
use zerocopy::FromBytes;

/// What the guest prints before and after its evidence.
const BEGIN: &str = "@evidence begin";
const END: &str = "@evidence end";

/// The kernel starts itself anew, then crashes and starts itself to save its memory.
pub(super) fn trial(initrd: &Path) -> Trial {
    Trial {
        initrd: Some(initrd.to_owned()),
        shows: went_on,
        ..Trial::new("kexec and kdump", "quiet tdp.mode=kexec")
    }
}

/// The third kernel came to its steps, and the journal knows of one start of the TPM only.
fn went_on(run: &Run) -> Result<()> {
    let steps = run.transcript.steps();
    let whole = steps
        .iter()
        .any(|step| step.name.starts_with("after-crash-tpm"));
    ensure!(whole, "the third kernel did not come to its steps");
    let bundle = evidence(run)?;
    let log = Log::parse(&bundle.cc_event_log.0)?;
    let mut startups = 0;
    for event in &log.events {
        if event.register == u32::from(journal::RTMR) + 1 && event.extends() {
            match Record::from_cbor(journal::unwrap(event.data)?)? {
                Record::Reset => anyhow::bail!("the journal has a reset"),
                Record::Startup(_) => startups += 1,
                _ => (),
            }
        }
    }
    ensure!(startups == 1, "the journal has {startups} startups");
    is_whole(&log, &bundle)
}

/// The journal gives RTMR3 as the evidence's TD quote has it, which the host made of the module's report: no record
/// is missing.
fn is_whole(log: &Log<'_>, bundle: &Bundle) -> Result<()> {
    let quote = bundle.td_quote.as_ref().context("there is no TD quote")?;
    let body = quote.0.get(size_of::<QuoteHeader>()..);
    let body = body.and_then(|body| TdQuoteBody::ref_from_prefix(body).ok());
    let (body, _) = body.context("a short quote")?;
    let [.., quoted] = body.rtmr;
    let [.., journal] = replay_rtmrs(&log.events)?;
    ensure!(
        quoted == journal,
        "RTMR3 is {} in the quote, {} by the journal",
        hex::encode(quoted),
        hex::encode(journal)
    );
    Ok(())
}

/// What the third kernel collected.
fn evidence(run: &Run) -> Result<Bundle> {
    let console = run.transcript.console.iter().map(String::as_str);
    let lines: Vec<&str> = console
        .skip_while(|line| *line != BEGIN)
        .skip(1)
        .take_while(|line| *line != END)
        .collect();
    Bundle::from_json(lines.join("\n").as_bytes()).context("the third kernel's evidence")
}
