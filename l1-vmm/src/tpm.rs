//! The vTPM: the reference engine behind the TIS registers, in L2's TPM window.

use alloc::boxed::Box;

use l1_vmm::run::MmioDevice;
use tpm2_ref_sys::{Config, Ephemeral, NoEntropy, Tpm};
use vtpm::reference::Reference;
use vtpm::tis::Tis;

use crate::arch::{clock, random};
use crate::fatal::{FatalCode, OrFatal};

/// The device in the TPM window.
pub(crate) struct Window(pub(crate) Tis<Reference>);

impl MmioDevice for Window {
    fn read(&mut self, offset: u32, into: &mut [u8]) {
        self.0.read(offset, into);
    }

    fn write(&mut self, offset: u32, from: &[u8]) {
        self.0.write(offset, from);
    }
}

/// Manufactures a new TPM, with entropy from the processor and nothing kept of it.
pub(crate) fn start() -> Window {
    let tpm = Tpm::open(Config {
        entropy: |into| random::fill(into).map_err(|_| NoEntropy),
        clock: clock::nanoseconds,
        store: Box::new(Ephemeral),
    })
    .or_fatal(FatalCode::Tpm);
    log::info!("TPM: TIS at 0xfed40000, TPM 2.0 reference engine, ephemeral");
    Window(Tis::new(Reference::new(tpm)))
}
