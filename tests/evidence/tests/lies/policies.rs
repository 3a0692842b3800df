//! Policies that do not say enough, and what is then not trusted.

use attestation::digest::{Algorithm, Digests};
use attestation::tpm::commands;
use evidence::Boot;
use evidence::guest::Device;
use verifier::Id;
use verifier::policy::Allowed;

use crate::subjects::HONEST;
use crate::{Lie, assert_seen};

/// Anybody's TD could have made the rest.
#[test]
fn a_policy_that_does_not_say_whose_td_trusts_none() {
    let mut whatever = HONEST.clone();
    whatever.policy.td.mrtd = Allowed::Any;
    assert_seen(
        &whatever,
        &[Lie {
            name: "no MRTD",
            breaks: Id::Mrtd,
            tell: |lie| lie.policy.td.mrtd = Allowed::Unsaid,
        }],
    );
}

/// The policy leaves a PCR to the guest, and knows the value that it must have all the same.
#[test]
fn a_pcr_that_is_left_to_the_guest_has_the_value_that_the_policy_knows() {
    let mut evidence = Boot::default().evidence_after(|machine| {
        machine.ok(&commands::pcr_extend(16, &Digests::of(b"a file").all()));
    });
    evidence.policy.pcr.beyond_log.push(16);
    assert_seen(
        &evidence,
        &[Lie {
            name: "another value",
            breaks: Id::PcrPolicy,
            tell: |lie| {
                let values = &mut lie.policy.pcr.values;
                values.insert((Algorithm::Sha256.id(), 16), vec![vec![0; 32]]);
            },
        }],
    );
}
