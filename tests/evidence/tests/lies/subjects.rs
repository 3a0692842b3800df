//! Honest evidence that lies are told about, made once.

use std::sync::LazyLock;

use attestation::digest::Digests;
use attestation::journal::{KeyHalves, PcrMirror, Rollback, Unlock};
use attestation::tpm::{commands, rh, template};
use evidence::guest::{self, Device};
use evidence::{Boot, Evidence, bz_image};
use verifier::Bundle;

/// The default boot, after IMA measured a file.
pub(crate) static HONEST: LazyLock<Evidence> = LazyLock::new(|| {
    Boot::default().evidence_after(|machine| {
        machine.ok(&commands::pcr_extend(10, &Digests::of(b"/init").all()));
    })
});

/// The same with every PCR change in the journal.
pub(crate) static MIRRORED: LazyLock<Evidence> = LazyLock::new(|| {
    let boot = Boot {
        mirror: PcrMirror::Full,
        ..Boot::default()
    };
    boot.evidence_after(|machine| {
        machine.ok(&commands::pcr_extend(10, &Digests::of(b"/init").all()));
    })
});

/// What unlocked the state of [`KEPT`].
pub(crate) const UNLOCK: Unlock = Unlock {
    machine: [0x4D; 32],
    broker: Some([0xB0; 32]),
    key: KeyHalves::Both,
    rollback: Rollback::Ledger,
    epoch: 5,
    counter: 0,
};

/// A TPM whose state is kept across boots.
pub(crate) static KEPT: LazyLock<Evidence> = LazyLock::new(|| {
    let boot = Boot {
        unlock: Some(UNLOCK),
        ..Boot::default()
    };
    boot.evidence()
});

/// The same image, with other keys and an older kernel, for the same nonce.
pub(crate) static OLDER: LazyLock<Evidence> = LazyLock::new(|| {
    let boot = Boot {
        seed: 2,
        kernel: bz_image(b"an older kernel"),
        ..Boot::default()
    };
    boot.evidence()
});

/// The default boot again, with other keys: a machine beside the first, as good as it.
pub(crate) static TWIN: LazyLock<Evidence> = LazyLock::new(|| {
    let boot = Boot {
        seed: 3,
        ..Boot::default()
    };
    boot.evidence_after(|machine| {
        machine.ok(&commands::pcr_extend(10, &Digests::of(b"/init").all()));
    })
});

/// Evidence quoted with a key of the guest's own.
pub(crate) static OWN_AK: LazyLock<Evidence> = LazyLock::new(|| {
    let boot = Boot::default();
    let mut machine = boot.start();
    let template = guest::own_ak_p256();
    let key = machine.handle(&commands::create_primary(rh::OWNER, &template));
    let nonce: Vec<u8> = (1..=32).collect();
    let bundle = machine.collect_with(&nonce, Some(key));
    boot.judged(bundle, nonce)
});

/// Evidence of one boot at several times.
pub(crate) struct Times {
    /// For the relying party's nonce.
    pub(crate) first: Evidence,
    /// For another relying party's.
    pub(crate) other_nonce: Bundle,
    /// For the first nonce, after a PCR has changed.
    pub(crate) later: Bundle,
}

/// One boot, asked three times.
pub(crate) static TIMES: LazyLock<Times> = LazyLock::new(|| {
    let boot = Boot::default();
    let mut machine = boot.start();
    let nonce: Vec<u8> = (1..=32).collect();
    let first = machine.collect(&nonce);
    let other_nonce = machine.collect(&[0xEE; 32]);
    machine.ok(&commands::pcr_extend(10, &Digests::of(b"/malware").all()));
    let later = machine.collect(&nonce);
    Times {
        first: boot.judged(first, nonce),
        other_nonce,
        later,
    }
});

/// The template of L1's AK.
pub(crate) fn ak_template() -> attestation::tpm::Public {
    template::ak_rsa_2048()
}
