//! The vTPM: the reference engine, measured into the TD's registers, behind the registers in L2's
//! TPM window, of the FIFO or the CRB interface.

use alloc::boxed::Box;
use alloc::vec::Vec;

use attestation::journal::Processors;
use l1_vmm::launch::gpa_range::GpaRange;
use l1_vmm::launch::guest_page::GuestPage;
use l1_vmm::launch::options::Options;
use l1_vmm::run::{Device, Services};
use tpm2_ref_sys::{Ephemeral, NoEntropy, Tpm};
use vtpm::attested::{Attested, Config, IdentityTime, LaunchMeasurements, MeasuredLaunch};
use vtpm::ptp::{Interface, crb, fifo};
use vtpm::reference::Reference;
use vtpm::service::{Guid, ServiceError};
use vtpm::state::WatchedStore;

use crate::arch::memory::{L2Ram, TpmPages};
use crate::arch::{clock, random};
use crate::fatal::{FatalCode, OrFatal};
use crate::measurement::Domain;
use crate::state::State;

/// The device in the TPM window.
pub(crate) struct Window(Interface<Attested<Reference, Domain>>);

impl Window {
    /// What L1 measured into PCRs, for L2's event log.
    pub(crate) fn tcg_log(&self) -> &[u8] {
        self.0.engine().tcg_log()
    }

    /// L2 reads the registers in these pages.
    pub(crate) fn show_in(&mut self, pages: TpmPages) {
        self.0.show_in(Box::new(pages));
    }

    /// L2 is over: what is left to do of the TPM's state is waited for.
    pub(crate) fn conclude(&mut self) {
        self.0.engine_mut().conclude();
    }
}

impl Device for Window {
    fn read(&mut self, offset: u32, into: &mut [u8]) {
        self.0.read(offset, into);
    }

    fn write(&mut self, offset: u32, from: &[u8]) {
        self.0.write(offset, from);
    }

    fn expiry(&self) -> Option<u64> {
        self.0.engine().due().map(clock::ticks_at)
    }

    fn expire(&mut self, _now: u64) {
        self.0.engine_mut().tend(clock::nanoseconds());
    }

    fn reset(&mut self) {
        // The TPM answers TPM_RC_FAILURE from then on.
        if self.0.reset().is_err() {
            log::error!("the TPM could not be reset");
        }
    }
}

impl Services for Window {
    fn serve(&mut self, guid: &Guid, data: &[u8], room: usize) -> Result<Vec<u8>, ServiceError> {
        self.0.engine_mut().serve(guid, data, room)
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
    data_buffer: Option<(L2Ram, GpaRange)>,
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
    let name = match data_buffer {
        Some(_) => crb::NAME,
        None => fifo::NAME,
    };
    let tpm = Tpm::open(tpm2_ref_sys::Config {
        entropy: |into| random::fill(into).map_err(|_| NoEntropy),
        clock: clock::nanoseconds,
        store: Box::new(store),
    })
    .or_fatal(FatalCode::Tpm);
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
    Window(match data_buffer {
        Some((memory, page)) => Interface::crb(attested, Box::new(GuestPage::new(memory, page))),
        None => Interface::new(attested),
    })
}
