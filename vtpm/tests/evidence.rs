//! Reports and quotes, as a relying party gets them through NV indices and through the service.
#![allow(
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod support;

use attestation::claims::{Claims, ek_names_digest, pcr_banks_digest, report_data};
use attestation::event_log::Log;
use attestation::journal::{PcrMirror, Record};
use attestation::report::Report;
use attestation::tpm::rh;
use attestation::window::{
    HEADER_SIZE, NV_REPORT, NV_SELECTOR, NV_USER_DATA, NV_WINDOW, OBJECT_CC_EVENT_LOG,
    OBJECT_TD_QUOTE, Selector, Status, Window,
};
use proptest::prelude::*;
use support::trust_domain::{Host, quote_of};
use support::{Session, Setup, command};
use tdx_defs::report::TdReport;
use vtpm::QuoteError;
use vtpm::service::{EVIDENCE, L1_VTPM, Serve, ServiceError};

/// TPM_RC_NV_UNINITIALIZED.
const NV_UNINITIALIZED: u32 = 0x14a;
const SECOND: u64 = 1_000_000_000;

fn ask(session: &mut Session, nonce: u8) {
    session.ok(&command::nv_write(
        NV_USER_DATA,
        NV_USER_DATA,
        0,
        &[nonce; 64],
    ));
}

fn select(session: &mut Session, object: u16, offset: u32) -> Vec<u8> {
    let selector = Selector { object, offset }.to_bytes();
    session.ok(&command::nv_write(NV_SELECTOR, NV_SELECTOR, 0, &selector));
    session.nv_read(NV_WINDOW)
}

fn status(session: &mut Session) -> Status {
    let window = select(session, OBJECT_TD_QUOTE, 0);
    Window::parse(&window).unwrap().status
}

/// The whole object, as a client reads it.
fn object(session: &mut Session, object: u16) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let bytes = select(session, object, content.len() as u32);
        let window = Window::parse(&bytes).unwrap();
        assert_eq!(window.status, Status::Present);
        assert_eq!(
            (window.object, window.offset as usize),
            (object, content.len())
        );
        content.extend(window.bytes);
        if content.len() == window.total as usize {
            return content;
        }
    }
}

fn td_report(session: &mut Session) -> [u8; 1024] {
    let report = session.nv_read(NV_REPORT);
    *Report::parse(&report).unwrap().td_report
}

#[test]
fn a_report_says_what_is() {
    for mirror in [PcrMirror::Off, PcrMirror::Summary, PcrMirror::Full] {
        let mut session = Setup::mirror(mirror).start();
        ask(&mut session, 0x5a);
        let bytes = session.nv_read(NV_REPORT);
        assert_eq!(bytes.len(), 2048);
        let report = Report::parse(&bytes).unwrap();
        let claims = Claims::from_json(report.claims).unwrap();
        let journal = session.journal();
        assert_eq!(claims.user_data, [0x5a; 64]);
        assert_eq!(claims.eks, ek_names_digest(session.tpm.ek_names().unwrap()));
        assert_eq!(claims.pcrs, pcr_banks_digest(&session.banks()));
        assert_eq!(claims.journal, session.td.rtmrs()[3]);
        assert_eq!(claims.records as usize, journal.len());
        let td_report: &TdReport = zerocopy::transmute_ref!(report.td_report);
        assert_eq!(td_report.report_mac.report_data, report_data(report.claims));
        assert_eq!(td_report.td_info.rtmr, session.td.rtmrs());
        if let Some(Record::PcrSummary { banks, .. }) = journal.last() {
            assert_eq!(*banks, claims.pcrs);
        }
    }
}

#[test]
fn a_report_can_be_read_without_writing_user_data() {
    let mut session = Setup::default().start();
    // By the first command that names the index.
    session.ok(&command::nv_read_public(NV_REPORT));
    let read = |session: &mut Session| {
        let bytes = session.nv_read(NV_REPORT);
        let report = Report::parse(&bytes).unwrap();
        Claims::from_json(report.claims).unwrap()
    };
    let claims = read(&mut session);
    assert_eq!(claims.user_data, [0; 64]);
    assert_eq!(claims.journal, session.td.rtmrs()[3]);
    let report = td_report(&mut session);
    assert_eq!(object(&mut session, OBJECT_TD_QUOTE), quote_of(&report));
    // Reading it again takes no new one; writing user data does.
    session.ok(&command::shutdown(command::CLEAR));
    assert_eq!(read(&mut session).records, claims.records);
    ask(&mut session, 0x5a);
    let newer = read(&mut session);
    assert_eq!(newer.user_data, [0x5a; 64]);
    assert!(newer.records > claims.records);
}

#[test]
fn a_report_that_is_read_and_cannot_be_made_is_not_there() {
    let mut session = Setup::default().start();
    session.td.script().refuse_reports = true;
    let read = command::nv_read(NV_REPORT, NV_REPORT, 0, 32);
    assert_eq!(session.code(&read), NV_UNINITIALIZED);
    session.td.script().refuse_reports = false;
    session.ok(&read);
}

#[test]
fn quote_and_log_are_those_of_the_last_report() {
    let mut session = Setup::default().start();
    ask(&mut session, 1);
    // What happens afterwards is of no report.
    session.ok(&command::shutdown(command::CLEAR));
    let log = object(&mut session, OBJECT_CC_EVENT_LOG);
    let parsed = Log::parse(&log).unwrap();
    let report = td_report(&mut session);
    let described: &TdReport = zerocopy::transmute_ref!(&report);
    let rtmrs = attestation::event_log::replay_rtmrs(&parsed.events).unwrap();
    assert_eq!(rtmrs, described.td_info.rtmr);
    let quote = object(&mut session, OBJECT_TD_QUOTE);
    assert_eq!(quote, quote_of(&report));

    ask(&mut session, 2);
    let newer = object(&mut session, OBJECT_CC_EVENT_LOG);
    assert!(newer.len() > log.len());
    assert_ne!(object(&mut session, OBJECT_TD_QUOTE), quote);
}

#[test]
fn why_there_is_no_quote_is_told() {
    let other = [7; 1024];
    let cases = [
        (Host::Silent, Status::InFlight),
        (
            Host::Refuses(QuoteError::NoService),
            Status::NoQuotingService,
        ),
        (Host::Fails(QuoteError::Failed), Status::QuotingFailed),
        (Host::Fails(QuoteError::Malformed), Status::Malformed),
        (Host::Lies(vec![]), Status::Malformed),
        (Host::Lies(quote_of(&other)), Status::Malformed),
        (Host::Prompt, Status::Present),
    ];
    for (host, expected) in cases {
        let mut session = Setup::default().start();
        assert_eq!(status(&mut session), Status::NoReport);
        session.td.script().host = host;
        ask(&mut session, 1);
        assert_eq!(status(&mut session), expected);
    }
}

#[test]
fn a_stale_quote_is_none() {
    let mut session = Setup::default().start();
    ask(&mut session, 1);
    let stale = object(&mut session, OBJECT_TD_QUOTE);
    session.td.script().host = Host::Lies(stale);
    ask(&mut session, 2);
    assert_eq!(status(&mut session), Status::Malformed);
}

#[test]
fn a_host_has_thirty_seconds() {
    let mut session = Setup::default().start();
    // The authority's is answered.
    assert_eq!(status(&mut session), Status::NoReport);
    session.td.script().host = Host::Silent;
    ask(&mut session, 1);
    session.td.script().now += 30 * SECOND - 1;
    assert_eq!(status(&mut session), Status::InFlight);
    session.td.script().now += 1;
    assert_eq!(status(&mut session), Status::TimedOut);
    // Asked again while the host still owes the former answer, which is not taken for this one.
    let first = td_report(&mut session);
    ask(&mut session, 2);
    assert_eq!(status(&mut session), Status::InFlight);
    let asked = session.td.script().asked.clone();
    assert_eq!(asked.last(), Some(&first));
    session.td.script().host = Host::Prompt;
    assert_eq!(status(&mut session), Status::InFlight);
    assert_eq!(status(&mut session), Status::Present);
    let second = td_report(&mut session);
    assert_eq!(object(&mut session, OBJECT_TD_QUOTE), quote_of(&second));
}

#[test]
fn a_missing_quote_is_asked_for_with_the_next_report() {
    let mut session = Setup::default().start();
    session.td.script().host = Host::Refuses(QuoteError::NoService);
    ask(&mut session, 1);
    assert_eq!(status(&mut session), Status::NoQuotingService);
    session.td.script().host = Host::Prompt;
    assert_eq!(status(&mut session), Status::NoQuotingService);
    ask(&mut session, 1);
    assert_eq!(
        object(&mut session, OBJECT_TD_QUOTE).len(),
        quote_of(&[0; 1024]).len()
    );
}

#[test]
fn two_requests_share_one_host_and_none_is_lost() {
    let setup = Setup::default();
    setup.td.script().host = Host::Silent;
    let mut session = setup.start();
    ask(&mut session, 1);
    ask(&mut session, 2);
    assert_eq!(session.td.script().asked.len(), 1, "the authority's alone");
    session.td.script().host = Host::Prompt;
    assert_eq!(status(&mut session), Status::InFlight);
    assert_eq!(status(&mut session), Status::Present);
    // Of nonce 1 no quote was wanted any more.
    assert_eq!(session.td.script().asked.len(), 2);
    let asked = *session.td.script().asked.last().unwrap();
    assert_eq!(asked, td_report(&mut session));
}

#[test]
fn a_window_shows_what_its_selector_says() {
    let mut session = Setup::default().start();
    ask(&mut session, 1);
    let quote = object(&mut session, OBJECT_TD_QUOTE);
    let total = quote.len() as u32;
    for offset in [0, 1, total - 1, total, total + 1, u32::MAX] {
        let bytes = select(&mut session, OBJECT_TD_QUOTE, offset);
        let start = (offset as usize).min(quote.len());
        let end = (start + 2032).min(quote.len());
        // Behind the end there is no part of the object to show.
        assert_eq!(
            bytes[HEADER_SIZE..HEADER_SIZE + end - start],
            quote[start..end]
        );
        assert!(
            bytes[HEADER_SIZE + end - start..]
                .iter()
                .all(|byte| *byte == 0)
        );
    }
    for object in [0, 3, u16::MAX] {
        let bytes = select(&mut session, object, 0);
        assert_eq!(Window::parse(&bytes).unwrap().status, Status::NoSuchObject);
    }
}

#[test]
fn any_selector_has_a_window() {
    let session = std::cell::RefCell::new(Setup::default().start());
    ask(&mut session.borrow_mut(), 1);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let selector = prop_oneof![
        any::<[u8; 8]>(),
        (0u16..4, any::<u32>()).prop_map(|(object, offset)| Selector { object, offset }.to_bytes()),
    ];
    let law = |selector: [u8; 8]| {
        let mut session = session.borrow_mut();
        session.ok(&command::nv_write(rh::OWNER, NV_SELECTOR, 0, &selector));
        let content = session.nv_read(NV_WINDOW);
        prop_assert_eq!(content[..2].to_vec(), selector[..2].to_vec());
        let code = u16::from_le_bytes([content[2], content[3]]);
        prop_assert!(Status::from_code(code).is_some());
        Ok(())
    };
    runner.run(&selector, law).unwrap();
}

#[test]
fn mailboxes_are_the_guests_to_write_and_nothing_else_is() {
    let mut session = Setup::default().start();
    ask(&mut session, 1);
    select(&mut session, OBJECT_TD_QUOTE, 0);
    for index in [NV_USER_DATA, NV_SELECTOR] {
        // PLATFORMCREATE, WRITTEN, NO_DA, reads, AUTHWRITE, OWNERWRITE, PPWRITE.
        assert_eq!(
            command::nv_public(&mut session, index).attributes,
            0x6207_0007
        );
    }
    for index in [NV_REPORT, NV_WINDOW] {
        assert_eq!(
            command::nv_public(&mut session, index).attributes,
            0x6207_0001
        );
        for by in [rh::OWNER, rh::PLATFORM, index] {
            assert_ne!(session.code(&command::nv_write(by, index, 0, &[0; 8])), 0);
        }
    }
    for index in [NV_REPORT, NV_USER_DATA, NV_SELECTOR, NV_WINDOW] {
        for by in [rh::OWNER, rh::PLATFORM] {
            assert_ne!(session.code(&command::nv_undefine_space(by, index)), 0);
        }
    }
}

#[test]
fn user_data_may_be_written_in_parts() {
    let mut session = Setup::default().start();
    ask(&mut session, 1);
    session.ok(&command::nv_write(rh::OWNER, NV_USER_DATA, 60, &[2; 4]));
    let report = session.nv_read(NV_REPORT);
    let report = Report::parse(&report).unwrap();
    let claims = Claims::from_json(report.claims).unwrap();
    assert_eq!((claims.user_data[59], claims.user_data[60]), (1, 2));
}

#[test]
fn the_service_gives_the_same() {
    let mut session = Setup::default().start();
    let command = [&[0, 1, 0, 0][..], &[9; 64]].concat();
    let response = session.tpm.serve(&EVIDENCE, &command, 4072).unwrap();
    let (status, report) = response.split_at(4);
    assert_eq!(status, [0; 4]);
    let claims = Report::parse(report).unwrap().claims;
    assert_eq!(Claims::from_json(claims).unwrap().user_data, [9; 64]);
    assert_eq!(session.nv_read(NV_REPORT)[..report.len()], *report);

    let selector = Selector {
        object: OBJECT_TD_QUOTE,
        offset: 0,
    };
    let read = [&[0, 2, 0, 0][..], &selector.to_bytes()].concat();
    // The authority's quote comes first.
    session.tpm.serve(&EVIDENCE, &read, 4072).unwrap();
    let response = session.tpm.serve(&EVIDENCE, &read, 4072).unwrap();
    assert_eq!(response.len(), 4072);
    let window = Window::parse(&response).unwrap();
    assert_eq!(window.status, Status::Present);
    assert_eq!(
        object(&mut session, OBJECT_TD_QUOTE)[..window.bytes.len()],
        *window.bytes
    );
}

#[test]
fn the_service_lists_the_launch_events() {
    let mut session = Setup::default().start();
    let response = session.tpm.serve(&L1_VTPM, &[0, 1, 0, 0], 4072).unwrap();
    assert_eq!(response[..4], [0, 1, 0, 0]);
    let mut hobs = &response[4..];
    let mut events = Vec::new();
    loop {
        let kind = u16::from_le_bytes([hobs[0], hobs[1]]);
        let length = usize::from(u16::from_le_bytes([hobs[2], hobs[3]]));
        assert_eq!(length % 8, 0);
        if kind == 0xffff {
            assert_eq!(hobs.len(), 8);
            break;
        }
        assert_eq!(kind, 4);
        events.push(&hobs[24..length]);
        hobs = &hobs[length..];
    }
    let log = session.tpm.tcg_log();
    let parsed = Log::parse(log).unwrap();
    assert_eq!(events.len(), parsed.events.len());
    for (event, expected) in events.iter().zip(&parsed.events) {
        let length = event.len() - 7;
        assert_eq!(
            event[..length],
            log[expected.offset..expected.offset + length]
        );
    }
}

/// A response of the TPM's, by the service.
fn submitted(session: &mut Session, locality: u8, command: &[u8]) -> Vec<u8> {
    let data = [&[0, 2, locality, 0][..], command].concat();
    let response = session.tpm.serve(&L1_VTPM, &data, 4100).unwrap();
    let response = response.strip_prefix(&[0, 2, 0, 0]).unwrap();
    response.to_vec()
}

#[test]
fn a_command_by_the_service_is_one_of_the_tpm() {
    let mut session = Setup::default().start();
    let get_random = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 16];
    let random = submitted(&mut session, 0, &get_random);
    assert_eq!(random[..12], [0x80, 1, 0, 0, 0, 28, 0, 0, 0, 0, 0, 16]);
    assert_eq!(random.len(), 28);
    assert_ne!(random, submitted(&mut session, 0, &get_random));
    // What is no command is the TPM's to refuse.
    for length in [0, 1, 9, 11] {
        let response = submitted(&mut session, 0, &get_random[..length]);
        assert_eq!(response.len(), 10, "{length}");
        assert_ne!(response[6..], [0; 4], "{length}");
    }
    // PCR 20 is locality 2's to reset.
    let reset = [
        &[0x80, 2, 0, 0, 0, 27, 0, 0, 1, 0x3d, 0, 0, 0, 20, 0, 0, 0, 9][..],
        &[0x40, 0, 0, 9, 0, 0, 0, 0, 0],
    ]
    .concat();
    assert_eq!(submitted(&mut session, 0, &reset)[6..], [0, 0, 9, 7]);
    assert_eq!(submitted(&mut session, 2, &reset)[6..10], [0; 4]);
}

#[test]
fn hostile_calls_of_the_service_are_refused() {
    let mut session = Setup::default().start();
    let report = [&[0, 1, 0, 0][..], &[9; 64]].concat();
    let long = [&[0, 2, 0, 0][..], &[0; 4097]].concat();
    let cases: [(&[u8; 16], &[u8], usize, ServiceError); 14] = [
        (&[0; 16], &[0, 1, 0, 0], 4072, ServiceError::Unsupported),
        (&L1_VTPM, &[], 4072, ServiceError::CommandLength),
        (&L1_VTPM, &[0, 1, 0], 4072, ServiceError::CommandLength),
        (&L1_VTPM, &[1, 1, 0, 0], 4072, ServiceError::Unsupported),
        (&L1_VTPM, &[0, 3, 0, 0], 4100, ServiceError::Unsupported),
        (&L1_VTPM, &[0, 2, 0, 1], 4100, ServiceError::Unsupported),
        (&L1_VTPM, &[0, 2, 4, 0], 4100, ServiceError::Locality),
        (&L1_VTPM, &[0, 2, 255, 0], 4100, ServiceError::Locality),
        (&L1_VTPM, &long, 4100, ServiceError::CommandLength),
        (&L1_VTPM, &long[..16], 4099, ServiceError::ResponseTooLong),
        (&L1_VTPM, &[0, 1, 0, 0], 100, ServiceError::ResponseTooLong),
        (&EVIDENCE, &report[..67], 4072, ServiceError::CommandLength),
        (&EVIDENCE, &report, 100, ServiceError::ResponseTooLong),
        (
            &EVIDENCE,
            &[0, 2, 0, 0, 1],
            4072,
            ServiceError::CommandLength,
        ),
    ];
    for (guid, command, room, error) in cases {
        assert_eq!(session.tpm.serve(guid, command, room), Err(error));
    }
}
