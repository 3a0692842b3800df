//! What somebody could write who has the keys of a quoting enclave, or an L1 that lies.

use attestation::bundle::Binary;
use attestation::claims::{Claims, report_data};
use attestation::digest::{extend_sha384, sha384};
use attestation::event_log::{EV_EVENT_TAG, Log, cc_record, replay_rtmrs};
use attestation::journal::{self, Record};
use attestation::report::Report;
use evidence::Evidence;
use tdx_defs::report::TdReport;
use zerocopy::{FromBytes, IntoBytes};

/// A TDREPORT, its claims and the CC event log, free to be edited; [`write`](Self::write) makes them agree again as far as
/// hashes and signatures go.
pub(crate) struct Forgery {
    pub(crate) td: TdReport,
    pub(crate) claims: Claims,
    /// Event data of RTMR3.
    pub(crate) journal: Vec<Vec<u8>>,
    /// The CC event log up to the journal.
    launch: Vec<u8>,
}

/// Edits evidence, and quotes it again.
pub(crate) fn forge(evidence: &mut Evidence, edit: impl FnOnce(&mut Forgery)) {
    let mut forgery = Forgery::of(evidence);
    edit(&mut forgery);
    forgery.write(evidence);
}

/// As [`forge`], of the events of RTMR3 alone: the claims follow them.
pub(crate) fn rewrite_events(evidence: &mut Evidence, edit: impl FnOnce(&mut Vec<Vec<u8>>)) {
    forge(evidence, |forgery| {
        edit(&mut forgery.journal);
        forgery.claims.records = u32::try_from(forgery.journal.len()).expect("few records");
        forgery.claims.journal = forgery.rtmr3();
    });
}

/// As [`rewrite_events`], by records.
pub(crate) fn rewrite_journal(evidence: &mut Evidence, edit: impl FnOnce(&mut Vec<Record>)) {
    rewrite_events(evidence, |events| {
        let record = |event: &Vec<u8>| {
            let record = journal::unwrap(event).expect("a tagged event");
            Record::from_cbor(record).expect("a record")
        };
        let mut records = events.iter().map(record).collect();
        edit(&mut records);
        *events = records.iter().map(Record::to_event).collect();
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
        let journal = parsed
            .events
            .iter()
            .filter(|event| is_journal(event.register))
            .map(|event| event.data.to_vec())
            .collect();
        Forgery {
            td: TdReport::read_from_bytes(report.td_report).expect("1024 bytes"),
            claims: Claims::from_json(report.claims).expect("claims"),
            journal,
            launch: log[..start.expect("a journal").offset].to_vec(),
        }
    }

    fn rtmr3(&self) -> [u8; 48] {
        self.journal.iter().fold([0; 48], |rtmr3, event| {
            extend_sha384(&rtmr3, &sha384(event))
        })
    }

    fn write(mut self, evidence: &mut Evidence) {
        let mut log = self.launch.clone();
        for event in &self.journal {
            let record = cc_record(journal::RTMR, EV_EVENT_TAG, sha384(event), event);
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
