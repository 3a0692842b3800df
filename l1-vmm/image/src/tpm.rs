//! The vTPM: the reference engine, measured into the TD's registers, behind the registers in L2's
//! TPM window, of the FIFO or the CRB interface.

use alloc::boxed::Box;

use attestation::journal::Processors;
use l1_vmm::launch::gpa_range::GpaRange;
use l1_vmm::launch::guest_page::GuestPage;
use l1_vmm::launch::options::Options;
use l1_vmm::run::{Device, Services};
use tpm2_ref_sys::{Ephemeral, NoEntropy, Tpm};
use vtpm::Work;
use vtpm::attested::{Attested, Config, IdentityTime, LaunchMeasurements, MeasuredLaunch};
use vtpm::ptp::Interface;
use vtpm::ptp::data_buffer::{self, Unmapped};
use vtpm::reference::Reference;
use vtpm::service::{Answer, Call};
use vtpm::sliced::{SliceFigures, Sliced};
use vtpm::state::WatchedStore;

use crate::arch::memory::{L2Ram, TpmPages};
use crate::arch::{clock, entry, random};
use crate::fatal::{FatalCode, OrFatal, fatal};
use crate::measurement::Domain;
use crate::state::State;

/// Nanoseconds of a slice of a command, after which L2 goes on.
const SLICE: u64 = 750_000;

/// The device in the TPM window.
pub(crate) struct Window {
    registers: Interface<Sliced<Attested<Reference, Domain>>>,
    /// Its interrupt is connected.
    interrupts: bool,
}

impl Window {
    /// What L1 measured into PCRs, for L2's event log. Before L2's first command.
    pub(crate) fn tcg_log(&self) -> &[u8] {
        self.registers
            .engine()
            .engine()
            .map_or(&[], Attested::tcg_log)
    }

    /// L2's memory was emptied: its copy of the TD's event log is written anew.
    pub(crate) fn publish_log(&mut self) {
        self.registers.engine_mut().settled().publish_log();
    }

    /// L2 reads the registers in these pages.
    pub(crate) fn show_in(&mut self, pages: TpmPages) {
        self.registers.show_in(Box::new(pages));
    }

    /// L2 is over: what is left to do of the TPM's state is waited for.
    pub(crate) fn conclude(&mut self) {
        self.registers.engine_mut().settled().conclude();
        let engine = self.registers.engine();
        let SliceFigures {
            slices,
            long_commands,
            longest,
            longest_own,
            own,
            settling,
        } = engine.figures();
        let [longest, longest_own, own, settling] =
            [longest, longest_own, own, settling].map(clock::nanoseconds_of);
        let stack = engine.stack_used();
        log::info!(
            target: "slices",
            slices, long_commands, longest, longest_own, own, settling, stack;
            "the TPM's commands: {slices} slices, {long_commands} commands took more than one; the longest slice of a command \
             {longest} ns, of what nobody waited for {longest_own} ns, in all {own} ns; {settling} ns to give up at an end; \
             {stack} bytes of stack"
        );
    }
}

impl Device for Window {
    fn read(&mut self, offset: u32, into: &mut [u8]) {
        self.registers.read(offset, into);
    }

    fn write(&mut self, offset: u32, from: &[u8]) {
        self.registers.write(offset, from);
    }

    fn line(&self) -> bool {
        self.interrupts && self.registers.line()
    }

    fn expiry(&self) -> Option<u64> {
        let engine = self.registers.engine();
        let kept = engine.engine().and_then(Attested::due);
        let kept = kept.map(clock::ticks_at);
        match (engine.due(), kept) {
            (Some(slice), Some(kept)) => Some(slice.min(kept)),
            (slice, kept) => slice.or(kept),
        }
    }

    fn expire(&mut self, now: u64) {
        match self.registers.engine().due() {
            Some(due) if due <= now => self.registers.go_on(u64::MAX),
            // Not between the slices of a command.
            Some(_) => {}
            None => {
                if let Some(attested) = self.registers.engine_mut().engine_mut() {
                    attested.tend(clock::nanoseconds());
                }
            }
        }
    }

    fn has_work(&self) -> bool {
        self.registers.has_work() != Work::None
    }

    fn work(&mut self, until: u64) {
        self.registers.go_on(until);
    }

    fn reset(&mut self) {
        // The TPM answers TPM_RC_FAILURE from then on.
        if self.registers.reset().is_err() {
            log::error!("the TPM could not be reset");
        }
    }
}

impl Services for Window {
    fn serve(&mut self, call: Call) -> Option<Answer> {
        self.registers.serve(call)
    }
}

/// Starts the TPM that `state` is of, or manufactures a new one of which nothing is kept, with entropy from the
/// processor.
pub(crate) fn start(
    measured: MeasuredLaunch<Domain>,
    options: &Options,
    processors: Processors,
    launch: &LaunchMeasurements,
    state: Option<State>,
    buffer: Option<(L2Ram, GpaRange)>,
) -> Window {
    let begin = clock::nanoseconds();
    let (keeper, unlock, (store, commits)) = match state {
        Some(State {
            keeper,
            engine,
            unlock,
        }) => (
            Some(keeper),
            Some(unlock),
            WatchedStore::kept_elsewhere(engine),
        ),
        None => (None, None, WatchedStore::new(Box::new(Ephemeral))),
    };
    let kept = match keeper {
        Some(_) => "persistent",
        None => "ephemeral",
    };
    let name = options.interface.name();
    let mut tpm = Tpm::open(tpm2_ref_sys::Config {
        entropy: |into| random::fill(into).map_err(|_| NoEntropy),
        clock: clock::nanoseconds,
        store: Box::new(store),
    })
    .or_fatal(FatalCode::Tpm);
    if options.interface.is_crb() {
        // What its data buffer has no room for does not exist.
        tpm.set_longest(data_buffer::SIZE).or_fatal(FatalCode::Tpm);
    }
    let cancel = tpm.cancel_handle();
    let opened = clock::nanoseconds();
    let config = Config {
        engine: tpm2_ref_sys::ENGINE,
        interface: name,
        processors,
        unlock,
        mirror: options.mirror,
        banks: options.banks,
        identity: IdentityTime::FirstNeed,
        commits: Some(commits),
        keeper,
    };
    let attested = Attested::start(Reference::new(tpm), measured, config).or_fatal(FatalCode::Tpm);
    let started = clock::nanoseconds();
    log::info!(
        "TPM: {name} at 0xfed40000, {}, {kept}",
        tpm2_ref_sys::ENGINE
    );
    log::info!(
        "measured: kernel to RTMR1 and PCR 4, command line to RTMR2 and PCR 8, {}PCR banks {}, PCR mirror {}",
        match launch.initrd {
            Some(_) => "initrd to RTMR2 and PCR 9, ",
            None => "",
        },
        options.banks.names(),
        options.mirror.name()
    );
    for (of, what, time) in [
        ("open", "open the TPM", opened.saturating_sub(begin)),
        ("start", "start the vTPM", started.saturating_sub(opened)),
    ] {
        log::info!(target: "time", of, ns = time; "time to {what}: {time} ns");
    }
    let slice = clock::ticks_at(SLICE);
    let engine = entry::engine_stack()
        .and_then(|stack| Sliced::new(attested, stack, cancel, clock::ticks, slice))
        .unwrap_or_else(|| fatal(FatalCode::Tpm, format_args!("there is another TPM")));
    Window {
        registers: match buffer {
            Some((memory, page)) => Interface::crb(engine, Box::new(GuestPage::new(memory, page))),
            None if options.interface.is_crb() => {
                Interface::crb(engine, Box::new(Unmapped::default()))
            }
            None => Interface::new(engine),
        },
        interrupts: options.interface.interrupts(),
    }
}
