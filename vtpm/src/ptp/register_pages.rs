//! Registers that the guest reads without exits.
//!
//! No read of a CRB register changes anything, so the guest may as well read memory that has the register's value. It cannot
//! write there: each write comes to [`Interface::write`](super::Interface::write), after which the memory is as the registers are.

use alloc::boxed::Box;

use tcg_defs::ptp::crb as offset;
use tcg_defs::ptp::{LOCALITIES, LOCALITY_SIZE};

use crate::Locality;

/// Bytes of one locality's page.
const PAGE: u32 = LOCALITY_SIZE as u32;

/// The registers whose values change, by their offsets in a locality's page.
pub(super) const CHANGING: [u32; 8] = [
    offset::LOC_STATE,
    offset::LOC_STS,
    offset::INTF_ID,
    offset::CTRL_STS,
    offset::CTRL_CANCEL,
    offset::CTRL_START,
    offset::INT_ENABLE,
    offset::INT_STS,
];

/// Memory at the registers' addresses that the guest can read, and only read.
pub trait RegisterPages {
    /// Puts `bytes` at `offset` from [`tcg_defs::ptp::BASE`]. They are inside the five pages; four of them that are one
    /// register change at once.
    fn show(&mut self, offset: u32, bytes: &[u8]);
}

/// The pages, and what they show.
pub(super) struct Shown {
    pages: Box<dyn RegisterPages + Send>,
    registers: [[u32; CHANGING.len()]; LOCALITIES as usize],
    /// In whose page the data buffer is; in the others' are all ones.
    pub(super) active: Option<Locality>,
}

impl Shown {
    /// Nothing is known of what the pages have in them.
    pub(super) fn new(pages: Box<dyn RegisterPages + Send>) -> Self {
        Self {
            pages,
            registers: [[0; CHANGING.len()]; LOCALITIES as usize],
            active: None,
        }
    }

    /// What is at `register` of this page is `value`; it is one of [`CHANGING`].
    pub(super) fn register(&mut self, locality: Locality, register: u32, value: u32) {
        let shown = self.registers.get_mut(usize::from(locality.number()));
        let place = CHANGING.iter().position(|changing| *changing == register);
        let shown = shown
            .zip(place)
            .and_then(|(page, place)| page.get_mut(place));
        if let Some(shown) = shown.filter(|shown| **shown != value) {
            *shown = value;
            self.bytes(locality, register, &value.to_le_bytes());
        }
    }

    /// What is at `at` of this page, whatever was there.
    pub(super) fn bytes(&mut self, locality: Locality, at: u32, bytes: &[u8]) {
        self.pages
            .show(u32::from(locality.number()) * PAGE + at, bytes);
    }
}
