//! Reports for relying parties, and the window on quote and log.

use alloc::vec::Vec;

use attestation::claims::{Claims, ek_names_digest, pcr_banks_digest, report_data};
use attestation::report::{self, Report};
use attestation::tpm::{Key, Public, ResponseError, cc};
use attestation::window::{
    NV_REPORT, NV_SELECTOR, NV_USER_DATA, NV_WINDOW, OBJECT_CC_EVENT_LOG, OBJECT_TD_QUOTE,
    SELECTOR_SIZE, Selector, Status, USER_DATA_SIZE, WINDOW_SIZE, Window,
};

use super::Attested;
use super::failure::{Service, Withheld};
use crate::evidence::{Asker, Outcome};
use crate::request::Touches;
use crate::{CommandError, Engine, Error, Failure, QuoteError, TrustDomain};

impl<E: Engine, T: TrustDomain> Attested<E, T> {
    /// Makes a report for `user_data` and asks for a quote of it. The report is also in its NV
    /// index afterwards.
    pub fn report(&mut self, user_data: [u8; USER_DATA_SIZE]) -> Result<Vec<u8>, Error> {
        if let Service::Failed(failure) = &self.service {
            return Err(failure.clone().into());
        }
        let made = self.make_report(user_data);
        if let Err(Error::Failed(failure)) = &made {
            self.fail(failure.clone());
        }
        made
    }

    fn make_report(&mut self, user_data: [u8; USER_DATA_SIZE]) -> Result<Vec<u8>, Error> {
        let identity = self.identified()?;
        let (ak_modulus, ak_exponent) = rsa(&identity.ak);
        let eks = ek_names_digest(&identity.eks);
        self.restore_ak();
        let banks = self.provisioner.banks(&self.banks)?;
        if self.recorder.owes_summary() {
            self.recorder.summarize(&banks).map_err(Failure::from)?;
        }
        let claims = Claims {
            ak_modulus,
            ak_exponent,
            user_data,
            eks,
            pcrs: pcr_banks_digest(&banks),
            journal: self.recorder.head(),
            records: self.recorder.records(),
        }
        .to_json();
        let trust_domain = &mut self.recorder.trust_domain;
        let td_report = trust_domain.report(&report_data(&claims))?;
        let made = Report {
            td_report: &td_report,
            claims: &claims,
        }
        .to_bytes()?;
        let mut content = made.clone();
        content.resize(report::NV_SIZE, 0);
        self.provisioner.nv_write(NV_REPORT, &content)?;
        self.forget_commits();

        let trust_domain = &mut self.recorder.trust_domain;
        let quotes = &mut self.evidence.quotes;
        quotes.ask(Asker::RelyingParty, td_report, trust_domain);
        quotes.ask_again(Asker::Authority, trust_domain);
        self.evidence.report_log = Some(self.recorder.log().bytes().len());
        Ok(made)
    }

    /// What the window shows of the object that `selector` names, in at most `room` bytes.
    pub fn window(&mut self, selector: &[u8; SELECTOR_SIZE], room: usize) -> Vec<u8> {
        let room = room.saturating_sub(attestation::window::HEADER_SIZE);
        self.evidence.quotes.poll(&mut self.recorder.trust_domain);
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
            OBJECT_CC_EVENT_LOG => self.reported_log(),
            _ => Err(Status::NoSuchObject),
        };
        match object {
            Ok(object) => Window::on(selector, object, room),
            Err(status) => Window::without(selector, status),
        }
        .to_bytes()
    }

    /// The quote of the last report.
    fn quote(&self) -> Result<&[u8], Status> {
        match self.evidence.quotes.outcome(Asker::RelyingParty) {
            None => Err(Status::NoReport),
            Some(Outcome::Pending) => Err(Status::InFlight),
            Some(Outcome::Quote(quote)) => Ok(quote),
            Some(Outcome::Missing(QuoteError::NoService)) => Err(Status::NoQuotingService),
            Some(Outcome::Missing(QuoteError::Failed)) => Err(Status::QuotingFailed),
            Some(Outcome::Missing(QuoteError::Malformed)) => Err(Status::Malformed),
            Some(Outcome::Late) => Err(Status::TimedOut),
        }
    }

    /// The CC event log as of the last report.
    fn reported_log(&self) -> Result<&[u8], Status> {
        let length = self.evidence.report_log.ok_or(Status::NoReport)?;
        let log = self.recorder.log().bytes();
        Ok(log.get(..length).unwrap_or(log))
    }

    /// Before a command that may read the report: there is one. Clients of confidential VMs on Azure
    /// read it without having written user data.
    pub(super) fn report_before(&mut self, touches: Touches) -> Result<(), Failure> {
        if touches.contains(Touches::REPORT) && self.evidence.report_log.is_none() {
            // Without one the index is not written, and the command's response says so.
            if let Err(Error::Failed(failure)) = self.report([0; USER_DATA_SIZE]) {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// The guest has written its data to the index.
    pub(super) fn report_to_guest(&mut self) -> Result<(), Withheld> {
        let user_data = self.nv_array(NV_USER_DATA)?;
        self.report(user_data)?;
        Ok(())
    }

    /// The guest has written a selector to the index.
    pub(super) fn window_to_guest(&mut self) -> Result<(), Withheld> {
        let selector = self.nv_array(NV_SELECTOR)?;
        let mut content = self.window(&selector, WINDOW_SIZE);
        content.resize(WINDOW_SIZE, 0);
        self.provisioner.nv_write(NV_WINDOW, &content)?;
        self.forget_commits();
        Ok(())
    }

    fn nv_array<const N: usize>(&mut self, index: u32) -> Result<[u8; N], Withheld> {
        let size = u16::try_from(N).unwrap_or(u16::MAX);
        let content = self.provisioner.nv_read(index, size)?;
        content.try_into().map_err(|_| {
            let (command, error) = (cc::NV_READ, ResponseError::Malformed);
            CommandError::Response { command, error }.into()
        })
    }
}

fn rsa(public: &Public) -> (Vec<u8>, u32) {
    match &public.key {
        Key::Rsa {
            modulus, exponent, ..
        } => {
            let exponent = match exponent {
                0 => Public::DEFAULT_EXPONENT,
                exponent => *exponent,
            };
            (modulus.clone(), exponent)
        }
        // The template is an RSA key's.
        Key::Ecc { .. } => (Vec::new(), 0),
    }
}
