//! Commands in slices: nobody is kept from the processor for long, and nothing of a command is torn.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};

use attestation::tpm::{
    Key, ObjectAttributes, Public, Scheme, Symmetric, commands, rc, response_code, rh, template,
};
use support::{ScriptedTd, Session, Setup};
use tpm2_ref_sys::{Stack, tsc};
use vtpm::attested::{Attested, IdentityTime};
use vtpm::reference::Reference;
use vtpm::service::{Answer, Call, L1_VTPM};
use vtpm::sliced::Sliced;
use vtpm::{Engine, Locality, MAX_RESPONSE, Progress, Work};
use zeroize::Zeroizing;

type Tpm = Sliced<Attested<Reference, ScriptedTd>>;

/// TSC ticks of a slice: some 20 µs.
const SLICE: u64 = 50_000;

struct Chip {
    tpm: Tpm,
    td: ScriptedTd,
    response: [u8; MAX_RESPONSE],
    _turn: MutexGuard<'static, ()>,
}

impl Chip {
    fn new(identity: IdentityTime) -> Self {
        Self::with_clock(identity, tsc)
    }

    fn with_clock(identity: IdentityTime, clock: fn() -> u64) -> Self {
        let setup = Setup {
            identity,
            ..Setup::default()
        };
        let Session { tpm, td, turn } = setup.start();
        let cancel = tpm.engine().tpm().cancel_handle();
        let tpm = Sliced::new(tpm, Stack::on_heap(), cancel, clock, SLICE).expect("there is one");
        Self {
            tpm,
            td,
            response: [0; MAX_RESPONSE],
            _turn: turn,
        }
    }

    fn begin(&mut self, command: &[u8]) -> Progress {
        self.tpm
            .begin(Locality::Zero, command, &mut self.response)
            .expect("the engine answers")
    }

    /// Goes on to the end: the response, and how many slices it took.
    fn finish(&mut self, mut progress: Progress) -> (Vec<u8>, usize) {
        let mut slices = 1;
        loop {
            match progress {
                Progress::Done(length) => return (self.response[..length].to_vec(), slices),
                Progress::Running => {
                    progress = self.tpm.go_on(None, &mut self.response).unwrap();
                    slices += 1;
                }
            }
        }
    }

    fn run(&mut self, command: &[u8]) -> (Vec<u8>, usize) {
        let progress = self.begin(command);
        self.finish(progress)
    }

    fn code(&mut self, command: &[u8]) -> u32 {
        response_code(&self.run(command).0).unwrap()
    }

    /// How many slices `action` takes.
    fn slices(&mut self, action: impl FnOnce(&mut Self)) -> u64 {
        let before = self.tpm.figures().slices;
        action(self);
        self.tpm.figures().slices - before
    }

    fn work(&mut self) -> usize {
        let mut slices = 0;
        while self.tpm.has_work() != Work::None {
            self.tpm.work(u64::MAX);
            slices += 1;
        }
        slices
    }
}

fn rsa_3072() -> Public {
    let mut public = template::ek_rsa_2048();
    if let Key::Rsa { bits, .. } = &mut public.key {
        *bits = 3072;
    }
    public
}

fn create(seed: u8) -> Vec<u8> {
    let mut public = rsa_3072();
    if let Key::Rsa { modulus, .. } = &mut public.key {
        *modulus = vec![seed; 8];
    }
    commands::create_primary(rh::ENDORSEMENT, &public)
}

#[test]
fn a_long_command_answers_as_in_one_piece() {
    let mut whole = Setup::default().start();
    let command = commands::self_test(true);
    let expected = whole.execute(&command);
    drop(whole);
    let mut chip = Chip::new(IdentityTime::Start);
    let (response, slices) = chip.run(&command);
    assert_eq!(response, expected);
    assert!(slices > 2, "{slices}");
    let (response, slices) = chip.run(&create(1));
    assert_eq!(response_code(&response), Some(rc::SUCCESS));
    assert!(slices > 100, "{slices}");
    assert!(chip.tpm.stack_used() < 128 << 10);
}

/// What each look at a clock shows: when the first slice ends, its beginning and its end; then whoever asks for another.
const LOOKS: [u64; 7] = [0, 0, 4000, 4999, 4999, 5000, 5000];
static LOOK: AtomicUsize = AtomicUsize::new(0);

fn scripted() -> u64 {
    let look = LOOK.fetch_add(1, Ordering::Relaxed);
    LOOKS[look.min(LOOKS.len() - 1)]
}

/// A slice was of 4,000 ticks: for a quarter of that, who asks again has none.
#[test]
fn who_asks_at_once_again_has_no_slice() {
    let mut chip = Chip::with_clock(IdentityTime::Start, scripted);
    LOOK.store(0, Ordering::Relaxed);
    assert_eq!(chip.begin(&create(1)), Progress::Running);
    assert_eq!(chip.tpm.figures().slices, 1);
    for (slices, at) in [(1, 4999), (2, 5000)] {
        let progress = chip.tpm.go_on(None, &mut chip.response);
        assert_eq!(progress, Ok(Progress::Running));
        assert_eq!(chip.tpm.figures().slices, slices, "at {at}");
    }
}

/// It goes on wherever there is time.
#[test]
fn a_command_goes_from_thread_to_thread() {
    let mut chip = Chip::new(IdentityTime::Start);
    let mut progress = chip.begin(&create(1));
    let mut threads = 0;
    while progress == Progress::Running && threads < 50 {
        let (tpm, response) = (&mut chip.tpm, &mut chip.response);
        progress = std::thread::scope(|scope| {
            let thread = scope.spawn(|| tpm.go_on(None, response).unwrap());
            thread.join().unwrap()
        });
        threads += 1;
    }
    assert_eq!(threads, 50);
    let (response, _) = chip.finish(progress);
    assert_eq!(response_code(&response), Some(rc::SUCCESS));
}

#[test]
fn a_command_that_is_canceled_says_so_and_the_next_is_not() {
    let mut chip = Chip::new(IdentityTime::Start);
    let progress = chip.begin(&create(1));
    assert_eq!(progress, Progress::Running);
    chip.tpm.cancel();
    let (response, _) = chip.finish(progress);
    assert_eq!(response_code(&response), Some(rc::CANCELED));
    // Between two commands it is nobody's.
    chip.tpm.cancel();
    assert_eq!(chip.code(&create(1)), rc::SUCCESS);
}

/// Nor does it wait for the keys that it needs; they are made for the next, and the TPM has not failed without them.
#[test]
fn keys_that_a_command_needs_are_not_made_for_one_that_is_canceled() {
    let mut chip = Chip::new(IdentityTime::FirstNeed);
    let progress = chip.begin(&create(1));
    assert_eq!(progress, Progress::Running);
    chip.tpm.cancel();
    let (response, _) = chip.finish(progress);
    assert_eq!(response_code(&response), Some(rc::CANCELED));
    let tpm = chip.tpm.engine().unwrap();
    assert_eq!(tpm.failure(), None);
    assert!(tpm.ak().is_none());
    assert_eq!(chip.td.rtmrs()[3], [0; 48]);
    assert_eq!(chip.code(&commands::read_public(rh::AK)), rc::SUCCESS);
    assert!(chip.tpm.engine().unwrap().ak().is_some());
}

#[test]
fn an_abandoned_command_leaves_nothing_and_the_next_runs() {
    let mut chip = Chip::new(IdentityTime::Start);
    assert_eq!(chip.begin(&create(1)), Progress::Running);
    chip.tpm.abandon();
    assert_eq!(chip.tpm.has_work(), Work::Command);
    let (response, _) = chip.run(&commands::get_random(32));
    assert_eq!(response.len(), 44);
    assert_eq!(chip.tpm.has_work(), Work::None);
    // And so do those that had no slice yet.
    assert_eq!(chip.begin(&create(1)), Progress::Running);
    chip.tpm.abandon();
    chip.begin(&commands::get_random(8));
    chip.tpm.abandon();
    assert_eq!(chip.code(&commands::get_random(8)), rc::SUCCESS);
}

#[test]
fn a_reset_ends_a_command() {
    let mut chip = Chip::new(IdentityTime::Start);
    assert_eq!(chip.begin(&create(1)), Progress::Running);
    chip.tpm.reset().unwrap();
    assert_eq!(chip.tpm.has_work(), Work::None);
    assert_eq!(chip.code(&commands::get_random(8)), rc::SUCCESS);
    let tpm = chip.tpm.engine().unwrap();
    assert_eq!(tpm.failure(), None);
}

/// The keys are there before the guest asks, and the journal before them.
#[test]
fn keys_are_made_while_nobody_asks() {
    let mut chip = Chip::new(IdentityTime::FirstNeed);
    assert_eq!(chip.td.rtmrs()[3], [0; 48]);
    assert_eq!(chip.tpm.has_work(), Work::Own);
    assert!(chip.work() > 3);
    let tpm = chip.tpm.engine().unwrap();
    assert!(tpm.ak().is_some() && tpm.failure().is_none());
    let head = chip.td.rtmrs()[3];
    assert_ne!(head, [0; 48]);
    assert_eq!(chip.code(&commands::read_public(rh::AK)), rc::SUCCESS);
    assert_eq!(chip.td.rtmrs()[3], head);
}

/// A command that comes meanwhile waits for one key at most if it has no need of them, and one that has finds what was made.
#[test]
fn a_command_comes_before_keys() {
    let mut chip = Chip::new(IdentityTime::FirstNeed);
    for pieces in 1..20 {
        for _ in 0..pieces * 40 {
            chip.tpm.work(u64::MAX);
        }
        assert_eq!(chip.code(&commands::get_random(8)), rc::SUCCESS);
    }
    assert_eq!(chip.code(&commands::read_public(rh::AK)), rc::SUCCESS);
    assert_eq!(chip.tpm.has_work(), Work::None);
    assert_eq!(chip.tpm.engine().unwrap().failure(), None);
}

/// A call of a service that executes `command`, with its response at `place`.
fn call(command: &[u8], place: u64) -> Call {
    let data = [&[0, 2, 0, 0], command].concat();
    Call {
        places: [0x1000, place],
        guid: L1_VTPM,
        data: Arc::new(Zeroizing::new(data)),
        room: 4 + MAX_RESPONSE,
    }
}

/// The code of the TPM's response to a call.
fn code_of(answer: Answer) -> Option<u32> {
    response_code(&answer.expect("the service answers")[4..])
}

impl Chip {
    /// Makes the call until it is answered: how often, and the code of the response.
    fn serve(&mut self, call: &Call) -> (usize, Option<u32>) {
        let mut times = 1;
        loop {
            match self.tpm.serve(call.clone()) {
                Some(answer) => return (times, code_of(answer)),
                None => times += 1,
            }
        }
    }
}

#[test]
fn a_call_is_made_again_until_it_is_answered() {
    let mut chip = Chip::new(IdentityTime::Start);
    let short = call(&commands::get_random(8), 0x2000);
    let (times, code) = chip.serve(&short);
    assert_eq!(code, Some(rc::SUCCESS));
    assert!(times < 20, "{times}");
    let (times, code) = chip.serve(&call(&create(1), 0x2000));
    assert_eq!(code, Some(rc::SUCCESS));
    assert!(times > 100, "{times}");
    assert_eq!(chip.tpm.has_work(), Work::None);
}

/// Whoever has the TPM goes on with it, and another call is answered behind it; each has its own answer.
#[test]
fn a_call_that_is_not_made_again_is_in_nobodys_way() {
    let mut chip = Chip::new(IdentityTime::Start);
    let long = call(&create(1), 0x2000);
    assert!(chip.tpm.serve(long.clone()).is_none());
    assert!(chip.tpm.due().is_some());
    let other = call(&commands::get_random(8), 0x3000);
    let (times, code) = chip.serve(&other);
    assert_eq!(code, Some(rc::SUCCESS));
    assert!(times > 100, "{times}");
    let (times, code) = chip.serve(&long);
    assert_eq!((times, code), (1, Some(rc::SUCCESS)), "it was kept");
    // What a halted processor works at.
    assert!(chip.tpm.serve(long.clone()).is_none());
    assert!(chip.work() > 100);
    assert_eq!(chip.serve(&long), (1, Some(rc::SUCCESS)));
}

/// The one of the registers waits for the call, and gives it its slices.
#[test]
fn a_call_and_a_command_of_the_registers_come_to_their_end() {
    let mut chip = Chip::new(IdentityTime::Start);
    let long = call(&create(1), 0x2000);
    assert!(chip.tpm.serve(long.clone()).is_none());
    let progress = chip.begin(&commands::get_random(8));
    assert_eq!(progress, Progress::Running);
    assert!(chip.tpm.serve(call(&create(2), 0x3000)).is_none());
    // Canceled is the command, which has not begun, and not the call.
    chip.tpm.cancel();
    let (response, slices) = chip.finish(progress);
    assert_eq!(response_code(&response), Some(rc::CANCELED));
    assert!(slices > 10, "{slices}");
    assert_eq!(chip.serve(&long), (1, Some(rc::SUCCESS)));
    assert_eq!(chip.tpm.has_work(), Work::None, "the other never began");
}

/// It is a call of a guest that is over.
#[test]
fn a_reset_ends_a_call() {
    let mut chip = Chip::new(IdentityTime::Start);
    let long = call(&create(1), 0x2000);
    assert!(chip.tpm.serve(long.clone()).is_none());
    let reset = long.clone();
    chip.tpm.reset().unwrap();
    assert_eq!(chip.tpm.has_work(), Work::None);
    assert!(chip.tpm.serve(reset).is_none(), "it begins anew");
    chip.tpm.reset().unwrap();
    assert_eq!(chip.code(&commands::get_random(8)), rc::SUCCESS);
}

/// An RSA-3072 key that no seed gives, below a storage key: the handle of the parent, and TPM2_Create.
fn ordinary_key(chip: &mut Chip) -> Vec<u8> {
    let mut parent = template::ek_p256();
    parent.attributes = parent.attributes | ObjectAttributes::USER_WITH_AUTH;
    let (response, _) = chip.run(&commands::create_primary(rh::OWNER, &parent));
    let handle = response[10..14].try_into().map(u32::from_be_bytes).unwrap();
    let child = Public {
        scheme: Scheme::Null,
        attributes: ObjectAttributes::FIXED_TPM
            | ObjectAttributes::FIXED_PARENT
            | ObjectAttributes::SENSITIVE_DATA_ORIGIN
            | ObjectAttributes::USER_WITH_AUTH
            | ObjectAttributes::SIGN,
        symmetric: Symmetric::Null,
        auth_policy: Vec::new(),
        ..rsa_3072()
    };
    commands::create(handle, &[], &child.to_bytes())
}

/// Slices that a command has at most after it was asked to give up: the rest of one self-test of all, or of one search.
const AFTERWARDS: u64 = 1500;

impl Chip {
    /// Begins `command` and gives it so many slices; whether it runs on.
    fn has_begun(&mut self, command: &[u8], slices: u64) -> bool {
        let before = self.tpm.figures().slices;
        let mut progress = self.begin(command);
        while progress == Progress::Running && self.tpm.figures().slices - before < slices {
            progress = self
                .tpm
                .go_on(Some(u64::MAX), &mut self.response)
                .expect("the engine answers");
        }
        progress == Progress::Running
    }
}

/// What is under way when the guest ends is given up soon, wherever it is.
#[test]
fn what_is_under_way_gives_up_at_an_end() {
    let mut chip = Chip::new(IdentityTime::Start);
    let ordinary = ordinary_key(&mut chip);
    for (name, command) in [
        ("a primary key", create(1)),
        ("an ordinary key", ordinary),
        ("SelfTest", commands::self_test(true)),
    ] {
        for slices in [1, 50, 200, 800, 1600, 3200] {
            chip.has_begun(&command, slices);
            let taken = chip.slices(|chip| {
                chip.tpm.settled();
            });
            assert!(taken <= AFTERWARDS, "{name}: {taken} after {slices}");
            assert_eq!(chip.tpm.engine().unwrap().failure(), None);
            chip.run(&commands::flush_context(0x8000_0001));
        }
    }
    assert_eq!(chip.code(&commands::get_random(8)), rc::SUCCESS);
}

/// No key of a search that was given up: neither half of one, nor what was a candidate.
#[test]
fn a_key_that_is_canceled_is_not_made() {
    let mut chip = Chip::new(IdentityTime::Start);
    let ordinary = ordinary_key(&mut chip);
    for command in [create(1), ordinary] {
        let mut canceled = 0;
        for slices in [1, 50, 200, 800, 1600] {
            if !chip.has_begun(&command, slices) {
                chip.run(&commands::flush_context(0x8000_0001));
                continue;
            }
            chip.tpm.cancel();
            let mut length = None;
            let taken = chip.slices(|chip| {
                length = Some(chip.finish(Progress::Running).0);
            });
            assert!(taken <= AFTERWARDS, "{taken} after {slices}");
            let code = length.and_then(|response| response_code(&response));
            assert!(
                code == Some(rc::CANCELED) || code == Some(rc::SUCCESS),
                "{code:x?} {taken} after {slices} of {}",
                command.len()
            );
            canceled += usize::from(code == Some(rc::CANCELED));
            chip.run(&commands::flush_context(0x8000_0001));
        }
        assert!(canceled > 0);
    }
    // The same key as of a TPM that was never asked to give up.
    let key = |chip: &mut Chip| {
        let (response, _) = chip.run(&create(1));
        chip.run(&commands::flush_context(0x8000_0001));
        response[14..].to_vec()
    };
    let before = key(&mut chip);
    chip.has_begun(&create(1), 100);
    chip.tpm.cancel();
    chip.finish(Progress::Running);
    assert_eq!(key(&mut chip)[..300], before[..300]);
}

#[test]
fn a_fiber_that_goes_ends_its_command() {
    let mut chip = Chip::new(IdentityTime::Start);
    assert_eq!(chip.begin(&create(1)), Progress::Running);
    drop(chip);
    let mut chip = Chip::new(IdentityTime::Start);
    assert_eq!(chip.code(&commands::get_random(8)), rc::SUCCESS);
}
