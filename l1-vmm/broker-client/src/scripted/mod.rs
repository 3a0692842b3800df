//! A broker in one process with a test, and the channel to it: what it says, and what becomes of it on the way, is the
//! test's.
//!
//! It is not the broker: it checks nothing of the evidence but that it is for its nonce. Its ledger's decisions are those
//! of `broker-ledger`, which the broker runs as well.

extern crate std;

mod broker;
mod channel;

pub use broker::{Broker, LEDGER_STATUS, Lie, session_key};
pub use channel::{Peer, Script};

use crate::Deadline;
use crate::kbs::{Attester, Evidence, EvidenceError};
use alloc::vec::Vec;

/// A TD whose quote is its REPORTDATA, and whose random numbers are counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainAttester {
    drawn: u8,
}

impl Attester for PlainAttester {
    fn evidence(&mut self, report_data: &[u8; 64], _: Deadline) -> Result<Evidence, EvidenceError> {
        Ok(Evidence {
            quote: report_data.to_vec(),
            log: Vec::from(*b"log"),
        })
    }

    fn random(&mut self, into: &mut [u8]) -> Result<(), EvidenceError> {
        self.drawn = self.drawn.wrapping_add(1);
        into.fill(self.drawn);
        Ok(())
    }
}

/// A key as texts of the protocol have it.
pub fn in_texts(key: &[u8; 32]) -> alloc::string::String {
    broker_protocol::release::thumbprint_text(key)
}
