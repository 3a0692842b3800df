//! Keys that are released, and to whom.

use crate::machine::{Enrolled, Start};
use crate::running::Place;

#[test]
fn a_machine_gets_the_same_key_at_each_start_and_each_machine_its_own() {
    let place = Place::new();
    let (one, two) = (Enrolled::new(&place, "one"), Enrolled::new(&place, "two"));
    let broker = place.serve();
    let first = one.start(&broker);
    let again = one.start(&broker);
    assert_eq!(first.release.key, again.release.key);
    assert_ne!(first.session, again.session);
    assert!(first.release.ledger);
    assert_eq!(first.release.policy.as_deref(), Some("one-policy"));
    let other = two.start(&broker);
    assert_ne!(other.release.key, first.release.key);
    let shown = place.ok(&["show", "one"]);
    for event in ["enrolled", "allowed", "evidence-passed", "released"] {
        assert!(shown.contains(&format!(" {event} ")), "{shown}");
    }
    // No secret is in a place that is not sealed.
    drop(broker);
    for secret in [&first.release.key, &first.session.key] {
        assert!(!place.storage.shows(&place.path("broker"), &secret.0));
    }
    // It is looked for where it would be.
    assert!(place.storage.shows(&place.path("broker"), &one.machine.0));
}

#[test]
fn a_key_that_is_asked_for_again_comes_with_the_same_session() {
    let place = Place::new();
    let one = Enrolled::new(&place, "one");
    let broker = place.serve();
    let mut start = Start::new(&one, broker.connect());
    let attestation = start.attestation(&one.boot, &one.init_data);
    assert_eq!(start.attest(&attestation).status, 200);
    // The answer was lost on its way, and so was the first key's.
    assert_eq!(start.attest(&attestation).status, 200);
    let first = start.release().unwrap();
    assert_eq!(start.release().unwrap(), first);
}

/// The host has the session's name and all that was sent in it.
#[test]
fn what_is_played_again_costs_no_verification_and_fills_no_trail() {
    let place = Place::new();
    let (one, two) = (Enrolled::new(&place, "one"), Enrolled::new(&place, "two"));
    let broker = place.serve();
    let mut start = Start::new(&one, broker.connect());
    let attestation = start.attestation(&one.boot, &one.init_data);
    for _ in 0..20 {
        assert_eq!(start.attest(&attestation).status, 200);
        let _ = start.resource(&one.machine);
    }
    let shown = place.ok(&["show", "one"]);
    assert_eq!(shown.matches(" evidence-passed ").count(), 1, "{shown}");
    assert_eq!(shown.matches(" released ").count(), 4, "{shown}");
    // Nor is it a session for another machine.
    let other = start.attestation(&two.boot, &two.init_data);
    assert_eq!(start.attest(&other).error(), (401, "TokenNotFound".into()));
}

/// A host may begin as many sessions as it likes, and show anything in each.
#[test]
fn a_machine_whose_host_shows_evidence_without_end_keeps_no_other_out() {
    const SESSIONS: usize = 40;
    let place = Place::new();
    let (one, two) = (Enrolled::new(&place, "one"), Enrolled::new(&place, "two"));
    let broker = place.serve();
    let prepared: Vec<_> = (0..SESSIONS)
        .map(|_| {
            let start = Start::new(&one, broker.connect());
            let attestation = start.attestation(&one.boot, &one.init_data);
            (start, attestation)
        })
        .collect();
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let asked: Vec<_> = prepared
            .into_iter()
            .map(|(mut start, attestation)| scope.spawn(move || start.attest(&attestation).status))
            .collect();
        // Meanwhile, one of another machine.
        two.start(&broker);
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let count = |status| answers.iter().filter(|one| **one == status).count();
    // 503 has L1 ask again.
    assert_eq!(count(200) + count(503), SESSIONS, "{answers:?}");
    assert!(count(200) >= 2 && count(503) > 0, "{answers:?}");
    let busy = format!("attestations_total{{outcome=\"busy\"}} {}", count(503));
    assert!(broker.look("/metrics").contains(&busy));
    one.start(&broker);
}

#[test]
fn a_policy_that_is_taken_back_releases_nothing_that_it_passed() {
    let place = Place::new();
    let one = Enrolled::new(&place, "one");
    let broker = place.serve();
    let mut start = Start::new(&one, broker.connect());
    let attestation = start.attestation(&one.boot, &one.init_data);
    assert_eq!(start.attest(&attestation).status, 200);
    place.ok(&["disallow", "one", "one-policy"]);
    assert_eq!(
        start.resource(&one.machine).error(),
        (401, "PolicyDeny".into())
    );
    assert!(!place.ok(&["show", "one"]).contains(" released "));
}

#[test]
fn an_upgrade_is_allowed_beside_what_ran_before() {
    let place = Place::new();
    let mut one = Enrolled::new(&place, "one");
    let broker = place.serve();
    let before = one.start(&broker).release.key.clone();
    let upgraded = evidence::Boot {
        firmware: evidence::FirmwareImage::with_l1(b"the next L1 VMM"),
        ..one.boot.clone()
    };
    let mut start = Start::new(&one, broker.connect());
    let attestation = start.attestation(&upgraded, &one.init_data);
    assert_eq!(
        start.attest(&attestation).error(),
        (401, "AttestationError".into())
    );
    let policy = place.file("next.toml", &upgraded.policy_file());
    place.ok(&["allow", "one", policy.to_str().unwrap()]);
    assert_eq!(one.start(&broker).release.key, before);
    one.boot = upgraded;
    let after = one.start(&broker);
    assert_eq!(after.release.key, before);
    assert_eq!(after.release.policy.as_deref(), Some("next"));
    place.ok(&["disallow", "one", "next"]);
    let mut start = Start::new(&one, broker.connect());
    let attestation = start.attestation(&one.boot, &one.init_data);
    assert_eq!(start.attest(&attestation).status, 401);
}

#[test]
fn a_machine_without_a_ledger_gets_a_key_and_no_session() {
    let place = Place::new();
    let one = Enrolled::without_policy(&place, "one", &["--rollback", "none"]);
    one.allow(&place, "one", &one.boot);
    let broker = place.serve();
    let mut start = Start::new(&one, broker.connect());
    let attestation = start.attestation(&one.boot, &one.init_data);
    assert_eq!(start.attest(&attestation).status, 200);
    let release = start.release().unwrap();
    assert!(!release.ledger && release.session.is_none());

    // The same key as a resource of another KBS, which knows nothing of nonces.
    let file = place.path("resource");
    place.ok(&["sign-resource", "one", file.to_str().unwrap()]);
    let resource = std::fs::read(file).unwrap();
    let binding = broker_protocol::release::Binding::Machine {
        nonce: "another KBS's",
        tee: &start.key.public(),
    };
    let stored =
        broker_protocol::release::Release::open(&resource, &one.identity, &one.machine, binding);
    assert_eq!(stored.unwrap().key, release.key);
    Enrolled::new(&place, "counted");
    let refused = place.fails(&[
        "sign-resource",
        "counted",
        place.path("other").to_str().unwrap(),
    ]);
    assert!(refused.contains("has a ledger"), "{refused}");
}
