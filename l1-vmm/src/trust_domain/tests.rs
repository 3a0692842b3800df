//! The TD against the model of the TDX module, and a host that quotes, honestly or not.

use super::*;
use crate::model_ram::ModelRam;
use crate::shared_buffer::Part;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use attestation::digest::extend_sha384;
use attestation::event_log::{EV_EVENT_TAG, EV_SEPARATOR, RecordHeader, SpecId, cc_record};
use clients::{Registers, eventlog_rs};
use core::cell::{Cell, RefCell};
use proptest::prelude::*;
use tdx_defs::report::TdReport;
use tdx_defs::tdg;
use tdx_module::test_platform::{ModelPage, ModelShared, ModelTdcall, SHARED_MEMORY};
use tdx_module::{Configuration, TdParams, VpEnterInput};
use zerocopy::FromBytes;
use zerocopy::IntoBytes;

const MEMORY: u64 = 4 << 20;
/// Where the operand page is.
const OPERANDS: u64 = 0x1000;
/// Where the shared memory is, of which the second half is for quotes.
const SHARED: u64 = 0x20_0000;
const SHARED_END: u64 = SHARED + 0x4000;
const QUOTES: u64 = SHARED + 0x2000;
const SHARED_BIT: u64 = 1 << 47;
const LOG: u64 = 0x10_0000;
const LOG_LENGTH: u64 = 0x1800;

/// What the host answers to GetQuote in R10, and the calls it saw.
#[derive(Default)]
struct Service {
    status: Cell<u64>,
    calls: RefCell<Vec<(u64, u64)>>,
}

struct Fixture {
    model: ModelTdcall,
    service: Rc<Service>,
    td: LaunchedTd<ModelTdcall, ModelPage, Part<ModelShared>, ModelRam>,
}

impl Fixture {
    fn new() -> Self {
        Self::on(Configuration::default(), &TdParams::default())
    }

    fn on(configuration: Configuration, params: &TdParams) -> Self {
        let model = ModelTdcall::on(configuration, params, MEMORY);
        let shared = ModelShared::new(&model, SHARED..SHARED_END);
        let service = Rc::new(Service::default());
        let host = Rc::clone(&service);
        model.set_host(move |_, _, exit| {
            let call = exit.registers;
            let mut input = VpEnterInput::default();
            assert_eq!(call.r11, 0x10002, "GetQuote");
            host.calls.borrow_mut().push((call.r12, call.r13));
            input.registers.r10 = host.status.get();
            input
        });
        let part = Part::new(shared, 0x2000..0x4000).unwrap();
        model.write(LOG, &[0xCC; LOG_LENGTH as usize + 1]);
        let td = LaunchedTd::new(Parts {
            td: Td::new(model.clone()),
            operands: ModelPage::new(&model, OPERANDS),
            quotes: QuoteBuffer::new(part, SHARED_BIT).unwrap(),
            memory: ModelRam {
                model: model.clone(),
                l1_start: MEMORY,
                end: MEMORY,
            },
            log_copy: GpaRange::with_length(LOG, LOG_LENGTH).unwrap(),
            random: |into| {
                into.fill(0x5A);
                Ok(())
            },
            clock: || 42,
        });
        Self { model, service, td }
    }

    fn in_shared(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.model.read(SHARED_MEMORY + QUOTES + offset, &mut bytes);
        bytes
    }

    /// The host writes into the buffer for quotes.
    fn host_writes(&self, offset: u64, bytes: &[u8]) {
        self.model.write(SHARED_MEMORY + QUOTES + offset, bytes);
    }

    /// The host's answer: out_len, data, then the status.
    fn answer(&self, status: u64, length: u32, data: &[u8]) {
        self.host_writes(24, data);
        self.host_writes(20, &length.to_le_bytes());
        self.host_writes(8, &status.to_le_bytes());
    }

    fn log_copy(&self) -> Vec<u8> {
        let mut bytes = vec![0; LOG_LENGTH as usize];
        self.model.read(LOG, &mut bytes);
        bytes
    }
}

#[test]
fn an_extend_reaches_the_register_that_was_named() {
    let mut fixture = Fixture::new();
    for rtmr in [1, 2, 3] {
        assert_eq!(fixture.td.extend_rtmr(rtmr, &[rtmr; 48]), Ok(()));
    }
    let report = fixture.td.report(&[7; 64]).unwrap();
    let report = TdReport::read_from_bytes(report.as_slice()).unwrap();
    let expected = fixture.model.with(|module, _| module.td_info());
    assert_eq!(report.td_info, expected);
    assert_eq!(report.td_info.rtmr[0], [0; 48]);
    assert!(report.td_info.rtmr[1..].iter().all(|rtmr| *rtmr != [0; 48]));
    assert_eq!(report.report_mac.report_data, [7; 64]);
    // The MAC is the module's own.
    let verified = Td::new(&fixture.model).verify_report(Gpa(OPERANDS));
    assert_eq!(verified, Ok(()));
}

#[test]
fn what_the_module_refuses_is_an_error() {
    let mut fixture = Fixture::new();
    let before = fixture.model.with(|module, _| module.td_info());
    assert_eq!(
        fixture.td.extend_rtmr(4, &[1; 48]),
        Err(TrustDomainError::Extend(4))
    );
    assert_eq!(fixture.model.with(|module, _| module.td_info()), before);
    // Longer than any lock is held.
    let attempts = Td::<ModelTdcall>::ATTEMPTS;
    fixture
        .model
        .with(|module, _| module.faults().busy(tdg::MR_REPORT, attempts));
    assert_eq!(fixture.td.report(&[0; 64]), Err(TrustDomainError::Report));
}

#[test]
fn randomness_and_time_are_the_images() {
    let mut fixture = Fixture::new();
    let mut bytes = [0; 5];
    assert_eq!(fixture.td.random(&mut bytes), Ok(()));
    assert_eq!((bytes, fixture.td.now()), ([0x5A; 5], 42));
    fixture.td.parts.random = |_| Err(EntropyError::Exhausted);
    assert_eq!(fixture.td.random(&mut bytes), Err(TrustDomainError::Random));
}

#[test]
fn a_quote_is_asked_for_with_the_report_and_read_once_it_is_there() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.td.poll_quote(), QuoteStatus::Idle);
    assert_eq!(fixture.td.start_quote(&[0xAB; 1024]), Ok(()));
    assert_eq!(
        *fixture.service.calls.borrow(),
        [(SHARED_BIT | QUOTES, 0x2000)]
    );
    let mut request = vec![1, 0, 0, 0, 0, 0, 0, 0];
    request.extend([0; 8]);
    request.extend([0, 4, 0, 0, 0, 0, 0, 0]);
    request.extend([0xAB; 1024]);
    assert_eq!(fixture.in_shared(0, request.len()), request);

    // The host has not begun; then it is at work.
    assert_eq!(fixture.td.poll_quote(), QuoteStatus::InFlight);
    fixture.host_writes(8, &u64::MAX.to_le_bytes());
    assert_eq!(fixture.td.poll_quote(), QuoteStatus::InFlight);
    fixture.answer(0, 5, b"quote");
    assert_eq!(
        fixture.td.poll_quote(),
        QuoteStatus::Ready(b"quote".to_vec())
    );
    assert_eq!(fixture.td.poll_quote(), QuoteStatus::Idle);
}

#[test]
fn a_host_that_refuses_is_told_apart_from_one_that_fails() {
    for (r10, error) in [
        (1, QuoteError::Failed),
        (0x8000_0000_0000_0000, QuoteError::NoService),
        (0x8000_0000_0000_0001, QuoteError::Failed),
        (0x8000_0000_0000_0002, QuoteError::Failed),
        (0x8000_0000_0000_0003, QuoteError::NoService),
        (0x1234, QuoteError::Malformed),
    ] {
        let mut fixture = Fixture::new();
        fixture.service.status.set(r10);
        assert_eq!(fixture.td.start_quote(&[0; 1024]), Err(error), "{r10:#x}");
        // Nothing is in flight, so the next request is made.
        assert_eq!(fixture.td.poll_quote(), QuoteStatus::Idle);
        fixture.service.status.set(0);
        assert_eq!(fixture.td.start_quote(&[0; 1024]), Ok(()));
    }
    for (status, length, error) in [
        (0x8000_0000_0000_0000, 0, QuoteError::Failed),
        (0x8000_0000_0000_0001, 0, QuoteError::NoService),
        (0x8000_0000_0000_0002, 5, QuoteError::Malformed),
        (1, 5, QuoteError::Malformed),
        // Quotes that do not fit.
        (0, 0x2000 - 23, QuoteError::Malformed),
        (0, u32::MAX, QuoteError::Malformed),
    ] {
        let mut fixture = Fixture::new();
        fixture.td.start_quote(&[0; 1024]).unwrap();
        fixture.answer(status, length, b"quote");
        assert_eq!(
            fixture.td.poll_quote(),
            QuoteStatus::Failed(error),
            "{status:#x} {length:#x}"
        );
        assert_eq!(fixture.td.poll_quote(), QuoteStatus::Idle);
    }
}

#[test]
fn the_buffer_is_the_hosts_until_it_says_so() {
    let mut fixture = Fixture::new();
    fixture.td.start_quote(&[1; 1024]).unwrap();
    fixture.host_writes(8, &u64::MAX.to_le_bytes());
    let before = fixture.in_shared(0, 0x2000);
    for _ in 0..100 {
        assert_eq!(fixture.td.poll_quote(), QuoteStatus::InFlight);
        assert_eq!(fixture.td.start_quote(&[2; 1024]), Err(QuoteError::Failed));
    }
    assert_eq!(fixture.in_shared(0, 0x2000), before);
    assert_eq!(fixture.service.calls.borrow().len(), 1);
    // Late, it is still the answer to the first request; only then comes the second.
    fixture.answer(0, 5, b"first");
    assert_eq!(
        fixture.td.poll_quote(),
        QuoteStatus::Ready(b"first".to_vec())
    );
    assert_eq!(fixture.td.start_quote(&[2; 1024]), Ok(()));
}

#[test]
fn a_buffer_is_whole_pages_with_room_for_a_report() {
    let model = ModelTdcall::new(&TdParams::default(), MEMORY);
    let shared = ModelShared::new(&model, SHARED..SHARED_END);
    let new = |range| QuoteBuffer::new(Part::new(shared.clone(), range).unwrap(), 0).map(drop);
    assert_eq!(new(0..0x1000), Ok(()));
    assert_eq!(new(0x800..0x1800), Err(QuoteBufferError::NotPages));
    assert_eq!(new(0..0x1800), Err(QuoteBufferError::NotPages));
    assert_eq!(new(0..0), Err(QuoteBufferError::TooSmall));
}

#[test]
fn the_copy_of_the_log_ends_with_a_whole_record() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.log_copy(), [0xFF; LOG_LENGTH as usize]);
    fixture.td.publish_log(0, &[1; 0x1000]);
    fixture.td.publish_log(0x1000, &[2; 0x7EF]);
    // Does not fit; what follows would, but then there would be a gap.
    fixture.td.publish_log(0x17EF, &[3; 2]);
    fixture.td.publish_log(0x17F1, &[4; 1]);
    fixture.td.publish_log(0x17EF, &[5; 1]);
    fixture.td.publish_log(usize::MAX, &[6; 2]);
    let mut expected = vec![1; 0x1000];
    expected.extend([2; 0x7EF]);
    expected.resize(LOG_LENGTH as usize, 0xFF);
    assert_eq!(fixture.log_copy(), expected);
    let mut behind = [0];
    fixture.model.read(LOG + LOG_LENGTH, &mut behind);
    assert_eq!(behind, [0xCC]);
}

/// However many bytes are left behind the last record, another's parser finds the end, and all that fitted.
#[test]
fn a_copy_that_is_filled_to_any_remainder_is_read_by_others() {
    let extended = |digest| hex::encode(extend_sha384(&[0; 48], &digest));
    for left in 0..=80 {
        let mut fixture = Fixture::new();
        let header = SpecId::new(*b"tdpvtpm").as_bytes().to_vec();
        let first = cc_record(0, EV_SEPARATOR, [1; 48], &[0; 4]).unwrap();
        let taken = header.len() + first.len() + size_of::<RecordHeader>() + left;
        let data = vec![7; LOG_LENGTH as usize - taken];
        let last = cc_record(3, EV_EVENT_TAG, [2; 48], &data).unwrap();
        let mut offset = 0;
        for record in [header, first, last] {
            fixture.td.publish_log(offset, &record);
            offset += record.len();
        }
        let area = fixture.log_copy();
        let mut expected = Registers::from([(("sha384".into(), 1), extended([1; 48]))]);
        if left >= SPARE {
            expected.insert(("sha384".into(), 4), extended([2; 48]));
        }
        assert_eq!(eventlog_rs::replay(&area).unwrap(), expected, "{left} left");
        assert!(area.ends_with(&[0xFF; SPARE]), "{left} left");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Whatever the host leaves in the buffer, an answer is at most as long as the buffer.
    #[test]
    fn no_answer_makes_it_panic(status: u64, zero: bool, length: u32, short: bool) {
        let mut fixture = Fixture::new();
        fixture.td.start_quote(&[0; 1024]).unwrap();
        let length = if short { length % 0x3000 } else { length };
        fixture.answer(if zero { 0 } else { status }, length, &[0x77; 0x100]);
        if let QuoteStatus::Ready(quote) = fixture.td.poll_quote() {
            prop_assert!(quote.len() <= 0x2000 - 24);
            prop_assert_eq!(quote.len(), length as usize);
        }
    }
}

mod sealing {
    use super::*;
    use crate::launch::unlock::{HardwareTcb, Sealing, SealingError};
    use tdcall::MetadataError;
    use tdcall::leaf::KeyGetError;

    const SALT: [u8; 32] = [9; 32];

    fn key(fixture: &mut Fixture) -> [u8; 32] {
        let tcb = fixture.td.tcb().unwrap();
        *fixture.td.sealing_key(&tcb, &SALT).unwrap()
    }

    fn sealing() -> Fixture {
        Fixture::on(Configuration::with_sealing(), &TdParams::default())
    }

    #[test]
    fn a_start_finds_the_key_of_the_start_before() {
        let first = key(&mut sealing());
        assert_ne!(first, [0; 32]);
        assert_eq!(key(&mut sealing()), first);
        let mut fixture = sealing();
        let tcb = fixture.td.tcb().unwrap();
        let other = fixture.td.sealing_key(&tcb, &[8; 32]).unwrap();
        assert_ne!(*other, first);
    }

    #[test]
    fn a_debug_td_never_has_a_production_tds_key() {
        let debug = TdParams {
            attributes: TdParams::default().attributes | 1,
            ..TdParams::default()
        };
        let mut debug = Fixture::on(Configuration::with_sealing(), &debug);
        assert_ne!(key(&mut debug), key(&mut sealing()));
    }

    #[test]
    fn an_older_tcbs_key_is_found_after_an_update_and_a_newer_one_not_before() {
        let mut fixture = sealing();
        let before = fixture.td.tcb().unwrap();
        let sealed = key(&mut fixture);
        let mut configuration = Configuration::with_sealing();
        configuration.tcb.tee_tcb_svn[0] += 1;
        let mut updated = Fixture::on(configuration, &TdParams::default());
        let after = updated.td.tcb().unwrap();
        assert_eq!(after.tee_tcb_svn[0], before.tee_tcb_svn[0] + 1);
        assert_eq!(*updated.td.sealing_key(&before, &SALT).unwrap(), sealed);
        assert_ne!(*updated.td.sealing_key(&after, &SALT).unwrap(), sealed);
        let newer = sealing().td.sealing_key(&after, &SALT).unwrap_err();
        assert_eq!(newer, SealingError::Module(KeyGetError::Svn));
    }

    #[test]
    fn a_module_without_sealing_says_so() {
        let mut fixture = Fixture::new();
        let tcb = fixture.td.tcb().unwrap();
        let refused = fixture.td.sealing_key(&tcb, &SALT).unwrap_err();
        let not_writable = MetadataError::NotWritable;
        assert_eq!(refused, SealingError::NotEnabled(Some(not_writable)));
    }

    #[test]
    fn the_key_is_erased_from_the_operand_page() {
        let mut fixture = sealing();
        let tcb = fixture.td.tcb().unwrap();
        let none = HardwareTcb {
            tee_tcb_svn: [0; 16],
            ..tcb
        };
        for tcb in [tcb, none] {
            let _ = fixture.td.sealing_key(&tcb, &SALT);
            let mut page = [0; 0x1000];
            fixture.model.read(OPERANDS, &mut page);
            assert_eq!(page[1280..1312], [0; 32]);
        }
    }
}
