//! The window on quote and log.

use alloc::vec::Vec;

use attestation::window::{
    HEADER_SIZE, NV_WINDOW, OBJECT_CC_EVENT_LOG, OBJECT_TD_QUOTE, SELECTOR_SIZE, Selector, Status,
    WINDOW_SIZE, Window,
};

use super::EvidenceWindow;
use super::quotes::{Asker, Outcome};
use crate::log::MeasurementLog;
use crate::provision::Provisioner;
use crate::{CommandError, Engine, QuoteError, TrustDomain};

impl EvidenceWindow {
    /// What the window shows of the object that `selector` names, in at most `room` bytes.
    pub(crate) fn window(
        &mut self,
        selector: &[u8; SELECTOR_SIZE],
        room: usize,
        log: &MeasurementLog,
        trust_domain: &mut impl TrustDomain,
    ) -> Vec<u8> {
        let room = room.saturating_sub(HEADER_SIZE);
        self.quotes.poll(trust_domain);
        let Some(selector) = Selector::from_bytes(selector) else {
            let [low, high, _, _, offset @ ..] = *selector;
            let named = Selector {
                object: u16::from_le_bytes([low, high]),
                offset: u32::from_le_bytes(offset),
            };
            return Window::without(named, Status::NoSuchObject).to_bytes();
        };
        let object = match selector.object {
            OBJECT_TD_QUOTE => self.quote(),
            OBJECT_CC_EVENT_LOG => self.reported(log),
            _ => Err(Status::NoSuchObject),
        };
        match object {
            Ok(object) => Window::on(selector, object, room),
            Err(status) => Window::without(selector, status),
        }
        .to_bytes()
    }

    /// Fills the window's NV index with what `selector` names.
    pub(crate) fn show<E: Engine>(
        &mut self,
        selector: &[u8; SELECTOR_SIZE],
        log: &MeasurementLog,
        tpm: &mut Provisioner<E>,
        trust_domain: &mut impl TrustDomain,
    ) -> Result<(), CommandError> {
        let mut content = self.window(selector, WINDOW_SIZE, log, trust_domain);
        content.resize(WINDOW_SIZE, 0);
        tpm.nv_write(NV_WINDOW, &content)
    }

    /// The quote of the last report.
    fn quote(&self) -> Result<&[u8], Status> {
        match self.quotes.outcome(Asker::RelyingParty) {
            None => Err(Status::NoReport),
            Some(Outcome::Pending) => Err(Status::InFlight),
            Some(Outcome::Quote(quote)) => Ok(quote),
            Some(Outcome::Missing(QuoteError::NoService)) => Err(Status::NoQuotingService),
            Some(Outcome::Missing(QuoteError::Failed)) => Err(Status::QuotingFailed),
            Some(Outcome::Missing(QuoteError::Malformed)) => Err(Status::Malformed),
            Some(Outcome::Late) => Err(Status::TimedOut),
        }
    }

    /// `log` as of the last report.
    fn reported<'log>(&self, log: &'log MeasurementLog) -> Result<&'log [u8], Status> {
        let length = self.report_log.ok_or(Status::NoReport)?;
        let log = log.bytes();
        Ok(log.get(..length).unwrap_or(log))
    }
}
