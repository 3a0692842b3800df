//! What somebody could write who has the keys of a quoting enclave, or an L1 that lies.

use attestation::bundle::Binary;
use attestation::claims::{Claims, report_data};
use attestation::digest::{extend_sha384, sha384};
use attestation::event_log::{EV_EVENT_TAG, Log, cc_record, replay_rtmrs};
use attestation::journal::{self, Record};
use attestation::report::Report;
use evidence::Evidence;
use tdcall::report::TdReport;
use zerocopy::{FromBytes, IntoBytes};

/// A TDREPORT, its claims and the CC event log, free to be edited; [`write`](Self::write) makes them agree again as far as
/// hashes and signatures go.
pub(crate) struct Forgery {
    pub(crate) td: TdReport,
    pub(crate) claims: Claims,
    pub(crate) records: Vec<Record>,
    /// The CC event log up to the journal.
    launch: Vec<u8>,
}

/// Edits evidence, and quotes it again.
pub(crate) fn forge(evidence: &mut Evidence, edit: impl FnOnce(&mut Forgery)) {
    let mut forgery = Forgery::of(evidence);
    edit(&mut forgery);
    forgery.write(evidence);
}

/// As [`forge`], of the journal alone: the claims follow it.
pub(crate) fn rewrite_journal(evidence: &mut Evidence, edit: impl FnOnce(&mut Vec<Record>)) {
    forge(evidence, |forgery| {
        edit(&mut forgery.records);
        forgery.claims.records = u32::try_from(forgery.records.len()).expect("few records");
        forgery.claims.journal = forgery.rtmr3();
    });
}

impl Forgery {
    fn of(evidence: &Evidence) -> Forgery {
        let report = Report::parse(&evidence.bundle.report.0).expect("a report");
        let log = &evidence.bundle.cc_event_log.0;
        let parsed = Log::parse(log).expect("a log");
        let is_journal = |register| register == u32::from(journal::RTMR) + 1;
        let mut events = parsed.events.iter();
        let start = events.find(|event| is_journal(event.register));
        let records = parsed
            .events
            .iter()
            .filter(|event| is_journal(event.register))
            .map(|event| journal::unwrap(event.data).expect("a tagged event"))
            .map(|record| Record::from_cbor(record).expect("a record"))
            .collect();
        Forgery {
            td: TdReport::read_from_bytes(report.td_report).expect("1024 bytes"),
            claims: Claims::from_json(report.claims).expect("claims"),
            records,
            launch: log[..start.expect("a journal").offset].to_vec(),
        }
    }

    fn rtmr3(&self) -> [u8; 48] {
        self.records.iter().fold([0; 48], |rtmr3, record| {
            extend_sha384(&rtmr3, &sha384(&record.to_event()))
        })
    }

    fn write(mut self, evidence: &mut Evidence) {
        let mut log = self.launch.clone();
        for record in &self.records {
            let event = record.to_event();
            let record = cc_record(journal::RTMR, EV_EVENT_TAG, sha384(&event), &event);
            log.extend(record.expect("a small record"));
        }
        let parsed = Log::parse(&log).expect("a log");
        self.td.td_info.rtmr = replay_rtmrs(&parsed.events).expect("events of RTMRs");
        let claims = self.claims.to_json();
        let mac = &mut self.td.report_mac;
        mac.report_data = report_data(&claims);
        mac.tee_info_hash = sha384(self.td.td_info.as_bytes());
        mac.tee_tcb_info_hash = sha384(self.td.tee_tcb_info.as_bytes());
        let td_report: &[u8; 1024] = zerocopy::transmute_ref!(&self.td);
        let quote = quoting::quote(td_report).expect("a report of a TD");
        let report = Report {
            td_report,
            claims: &claims,
        };
        evidence.bundle.report = Binary(report.to_bytes().expect("it fits"));
        evidence.bundle.td_quote = Some(Binary(quote));
        evidence.bundle.cc_event_log = Binary(log);
    }
}
