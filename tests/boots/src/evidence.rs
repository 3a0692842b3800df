//! Tests of the round trip of evidence: what a guest hands out holds against values predicted from
//! files, against the verifier, and against readers that are not ours.

use crate::suite::steps;
use crate::{Checks, Collected, RoundTrip, Setup, Suite};
use anyhow::{Context, Result, ensure};
use attestation::bundle::Bundle;
use attestation::journal::PcrMirror;
use attestation::pcr::PcrBanks;
use clients::{Registers, eventlog_rs, go, openssl, tpm2_eventlog};
use prediction::{PREDICTED_PCRS, Prediction};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A round trip and what the verifier must say.
struct Case {
    name: &'static str,
    file: &'static str,
    mirror: PcrMirror,
    banks: PcrBanks,
    quote: Option<&'static str>,
    own_ak: bool,
    resets: bool,
    /// The first broken link by a policy that asks for a TD quote.
    fails: Option<&'static str>,
}

/// What is tried, the longest first.
static CASES: [Case; 4] = [
    Case {
        name: "evidence: after a reset",
        file: "attest-reset",
        mirror: PcrMirror::Full,
        banks: PcrBanks::DEFAULT,
        quote: None,
        own_ak: false,
        resets: true,
        fails: None,
    },
    Case {
        name: "evidence: every PCR in the journal, a key of the guest's own",
        file: "attest-full",
        mirror: PcrMirror::Full,
        banks: PcrBanks::ALL,
        quote: None,
        own_ak: true,
        resets: false,
        fails: None,
    },
    Case {
        name: "evidence",
        file: "attest",
        mirror: PcrMirror::Summary,
        banks: PcrBanks::DEFAULT,
        quote: None,
        own_ak: false,
        resets: false,
        fails: None,
    },
    Case {
        name: "evidence: the host has no quoting service",
        file: "attest-no-quote",
        mirror: PcrMirror::Off,
        banks: PcrBanks::DEFAULT,
        quote: Some("none"),
        own_ak: false,
        resets: false,
        fails: Some("quote-format"),
    },
];

/// Every round trip; `verifier` is the program.
pub fn suite<'a>(setup: &'a Setup, verifier: &'a Path) -> Suite<'a> {
    let mut suite = Suite::new();
    for case in &CASES {
        suite.add(move |_| case.check(setup, verifier));
    }
    suite
}

impl Case {
    /// Makes evidence and compares it with everything that is known of the run.
    fn check(&self, setup: &Setup, verifier: &Path) -> Checks {
        match self.run(setup, verifier) {
            Err(error) => vec![(self.name.to_owned(), Err(error))],
            Ok(checks) => checks
                .into_iter()
                .map(|(check, result)| (format!("{}: {check}", self.name), result))
                .collect(),
        }
    }

    fn run(&self, setup: &Setup, verifier: &Path) -> Result<Checks> {
        let trip = RoundTrip {
            mirror: self.mirror,
            banks: self.banks,
            quote: self.quote,
            own_ak: self.own_ak,
            resets: self.resets,
            ..RoundTrip::new(setup, self.file)
        };
        let collected = trip.collect(&mut |_| {})?;
        let prediction = trip.predict()?;
        let bundle = collected.bundle()?;
        let mut checks = steps("L2", self.file, &collected.run);
        let mut check = |name: &str, result| checks.push((name.to_owned(), result));
        check(
            "the run ended well",
            ended_well(&collected).context(collected.run.transcript.result()),
        );
        let policy = trip.policy(&prediction, true)?;
        check("the verifier", self.verdict(&collected, verifier, &policy));
        if self.resets {
            let unprepared = RoundTrip {
                resets: false,
                append: "tdp.resets",
                name: "attest-reset-refused",
                ..trip
            };
            let policy = unprepared.policy(&prediction, true)?;
            let failure = collected.first_failure(verifier, &policy);
            check(
                "the verifier, by a policy that allows no reset",
                failure.and_then(|failure| expect(Some("journal-policy"), failure.as_deref())),
            );
        }
        if self.fails.is_some() {
            let policy = trip.policy(&prediction, false)?;
            let failure = collected.first_failure(verifier, &policy);
            check(
                "the verifier, without a TD quote",
                failure.and_then(|failure| expect(None, failure.as_deref())),
            );
        }
        check(
            "the final TDREPORT is as predicted",
            registers_as_predicted(&collected, &prediction),
        );
        check(
            "PCRs are as predicted",
            pcrs_as_predicted(&bundle, &prediction),
        );
        check(
            "tpm2_eventlog on the TCG log",
            tcg_log_gives_pcrs(&bundle, &trip_file(setup, self.file, "tcg.log")),
        );
        check(
            "tpm2_eventlog and eventlog-rs on the CC log",
            cc_log_gives_rtmrs(&bundle, &trip_file(setup, self.file, "cc.log")),
        );
        let (ca, keys) = certificates(&bundle);
        check("openssl verify", openssl::verify(ca, &keys));
        check("Go's crypto/x509", go::verify(ca, &keys));
        Ok(checks)
    }

    fn verdict(&self, collected: &Collected, verifier: &Path, policy: &Path) -> Result<()> {
        let failure = collected.first_failure(verifier, policy)?;
        expect(self.fails, failure.as_deref())
    }
}

fn trip_file(setup: &Setup, name: &str, extension: &str) -> PathBuf {
    setup.folder.join(format!("{name}.{extension}"))
}

fn ended_well(collected: &Collected) -> Result<()> {
    ensure!(collected.run.succeeded, "the simulator reports a failure");
    ensure!(
        collected.run.transcript.steps_finished(),
        "the guest's script did not come to its end"
    );
    Ok(())
}

fn expect(expected: Option<&str>, found: Option<&str>) -> Result<()> {
    let words = |id: Option<&str>| id.map_or("none".to_owned(), str::to_owned);
    ensure!(
        expected == found,
        "first broken link: {}, expected: {}",
        words(found),
        words(expected)
    );
    Ok(())
}

fn registers_as_predicted(collected: &Collected, prediction: &Prediction) -> Result<()> {
    let report = collected.run.transcript.last("report");
    let report = report.context("the simulator printed no TDREPORT")?;
    let registers = [
        ("mrtd", &prediction.mrtd),
        ("rtmr0", &prediction.rtmrs[0]),
        ("rtmr1", &prediction.rtmrs[1]),
        ("rtmr2", &prediction.rtmrs[2]),
    ];
    for (name, value) in registers {
        let found = report.get(name).and_then(Value::as_str).unwrap_or_default();
        ensure!(
            found == hex::encode(value),
            "{name} is {found}, predicted {}",
            hex::encode(value)
        );
    }
    Ok(())
}

/// The bundle's PCRs that are predicted.
fn bundle_pcrs(bundle: &Bundle) -> Registers {
    let pcrs = &bundle.pcrs;
    [
        ("sha1", &pcrs.sha1),
        ("sha256", &pcrs.sha256),
        ("sha384", &pcrs.sha384),
        ("sha512", &pcrs.sha512),
    ]
    .into_iter()
    .flat_map(|(bank, values)| {
        (0..)
            .zip(values.iter().take(PREDICTED_PCRS.end))
            .map(move |(pcr, value)| ((bank.to_owned(), pcr), value.clone()))
    })
    .collect()
}

fn pcrs_as_predicted(bundle: &Bundle, prediction: &Prediction) -> Result<()> {
    let mut predicted = Registers::new();
    for bank in &prediction.banks {
        for (pcr, value) in (0..).zip(bank.values()).take(PREDICTED_PCRS.end) {
            let name = bank.algorithm().name().to_owned();
            predicted.insert((name, pcr), hex::encode(value.bytes()));
        }
    }
    same(&predicted, &bundle_pcrs(bundle))
}

fn same(expected: &Registers, found: &Registers) -> Result<()> {
    for (register, value) in expected {
        let found = found.get(register).map_or("missing", String::as_str);
        ensure!(
            found == value,
            "{} register {} is {found}, expected {value}",
            register.0,
            register.1
        );
    }
    ensure!(expected.len() == found.len(), "there are more registers");
    Ok(())
}

fn tcg_log_gives_pcrs(bundle: &Bundle, file: &Path) -> Result<()> {
    let log = &bundle.tcg_event_log.0;
    std::fs::write(file, log)?;
    same(&bundle_pcrs(bundle), &tpm2_eventlog::replay(log)?)
}

/// Offset of the TDREPORT in the report, and of RTMR0 in the TDREPORT.
const TDREPORT: usize = 32;
const RTMR0: usize = 720;

/// The registers of the report that the guest asked for: the CC log is the one of that moment.
fn cc_log_gives_rtmrs(bundle: &Bundle, file: &Path) -> Result<()> {
    let log = &bundle.cc_event_log.0;
    std::fs::write(file, log)?;
    let rtmrs = bundle
        .report
        .0
        .get(TDREPORT + RTMR0..)
        .context("a short report")?;
    let expected = (1..)
        .zip(rtmrs.chunks(48).take(4))
        .map(|(number, value)| (("sha384".to_owned(), number), hex::encode(value)))
        .collect();
    same(&expected, &tpm2_eventlog::replay_cc(log)?)?;
    same(&expected, &eventlog_rs::replay(log)?)
}

/// The CA's certificate, and those of the EKs and the AK.
fn certificates(bundle: &Bundle) -> (&[u8], Vec<Vec<u8>>) {
    let keys = bundle.ek_certificates.iter();
    let keys = keys.chain([&bundle.ak_certificate]);
    let keys = keys.map(|certificate| certificate.0.clone()).collect();
    (&bundle.ca_certificate.0, keys)
}
