//! The CC event log, as L2 finds it in the area that the CCEL table names.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

use attestation::digest::Digests;
use attestation::event_log::{Log, SPARE, replay_rtmrs};
use attestation::journal::{PcrMirror, Record, unwrap};
use attestation::tpm::commands;
use clients::eventlog_rs;
use evidence::guest::Device;
use evidence::{Boot, Machine};
use l1_vmm::launch::boot::{CC_LOG_CAPACITY, CC_LOG_LENGTH};

/// The copy in L2's memory tells all that is in the registers.
#[track_caller]
fn assert_copy_gives_the_registers(machine: &Machine) {
    let area = machine.cc_log_area();
    assert_eq!(area.len() as u64, CC_LOG_LENGTH);
    assert!(area.ends_with(&[0xFF; SPARE]));
    let log = Log::parse(&area).expect("a log");
    assert_eq!(&area[..log.length], machine.tpm.log().bytes());
    let rtmrs = machine.rtmrs();
    assert_eq!(replay_rtmrs(&log.events), Ok(rtmrs));
    let theirs = eventlog_rs::replay(&area).expect("a log to eventlog-rs");
    for (number, value) in (1..).zip(rtmrs) {
        let register = ("sha384".to_owned(), number);
        assert_eq!(theirs[&register], hex::encode(value));
    }
}

#[test]
fn the_copy_gives_the_registers() {
    let mut machine = Boot::default().start();
    assert_eq!(machine.cc_log_area().len() as u64, CC_LOG_LENGTH);
    machine.collect(&[7; 32]);
    assert_copy_gives_the_registers(&machine);
}

/// Far beyond the 64 KiB that a firmware's area usually has, up to the record that says that the log ends.
#[test]
fn the_copy_of_a_full_log_gives_the_registers_and_says_that_it_ends() {
    let boot = Boot {
        mirror: PcrMirror::Full,
        ..Boot::default()
    };
    let mut machine = boot.start();
    let extend = commands::pcr_extend(10, &Digests::of(b"a file").all());
    let mut length = 0;
    while machine.tpm.log().bytes().len() > length {
        length = machine.tpm.log().bytes().len();
        machine.ok(&extend);
    }
    assert!(length <= CC_LOG_CAPACITY && length > CC_LOG_CAPACITY - 1024);
    assert_copy_gives_the_registers(&machine);
    let area = machine.cc_log_area();
    let log = Log::parse(&area).expect("a log");
    let last = log.events.last().expect("events");
    let record = Record::from_cbor(unwrap(last.data).expect("a tagged event"));
    assert!(matches!(record, Ok(Record::LogFull { .. })), "{record:?}");
    // The vTPM goes on, and neither the registers nor the log change any more.
    machine.ok(&extend);
    assert_eq!(machine.cc_log_area(), area);
    assert_copy_gives_the_registers(&machine);
}
