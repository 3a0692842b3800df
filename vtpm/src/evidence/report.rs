//! Reports for relying parties.

use alloc::vec::Vec;

use attestation::claims::{Claims, ek_names_digest, pcr_banks_digest, report_data};
use attestation::report::{self, Report};
use attestation::tpm::{Key, Public};
use attestation::window::{NV_REPORT, USER_DATA_SIZE};

use super::EvidenceWindow;
use super::quotes::Asker;
use crate::identity::Identity;
use crate::journal::Journal;
use crate::provision::Provisioner;
use crate::request::Touches;
use crate::{Engine, Error, Failure, TrustDomain};

impl EvidenceWindow {
    /// Whether a command that touches this is to find a report, and there is none. Clients of confidential VMs on
    /// Azure read it without having written user data.
    pub(crate) fn wants_report(&self, touches: Touches) -> bool {
        touches.contains(Touches::REPORT) && self.report_log.is_none()
    }

    /// Makes a report for `user_data`, puts it into its NV index and asks for a quote of it. On an error the report
    /// before it, and what was read of it, stay as they were.
    pub(crate) fn report<E: Engine>(
        &mut self,
        user_data: [u8; USER_DATA_SIZE],
        identity: &Identity,
        journal: &mut Journal,
        tpm: &mut Provisioner<E>,
        trust_domain: &mut impl TrustDomain,
    ) -> Result<Vec<u8>, Error> {
        let banks = tpm.banks(journal.banks())?;
        journal
            .summarize(&banks, trust_domain)
            .map_err(Failure::from)?;
        let (ak_modulus, ak_exponent) = rsa(&identity.ak);
        let claims = Claims {
            ak_modulus,
            ak_exponent,
            user_data,
            eks: ek_names_digest(&identity.eks),
            pcrs: pcr_banks_digest(&banks),
            journal: journal.head(),
            records: journal.records(),
        }
        .to_json();
        let td_report = trust_domain.report(&report_data(&claims))?;
        let made = Report {
            td_report: &td_report,
            claims: &claims,
        }
        .to_bytes()?;
        let mut content = made.clone();
        content.resize(report::NV_SIZE, 0);
        tpm.nv_write(NV_REPORT, &content)?;
        journal.forget_commits();

        self.quotes
            .ask(Asker::RelyingParty, td_report, trust_domain);
        self.quotes.ask_again(Asker::Authority, trust_domain);
        self.report_log = Some(journal.log().bytes().len());
        Ok(made)
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
