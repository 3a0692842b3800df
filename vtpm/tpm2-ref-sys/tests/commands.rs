//! The commands that a guest's software uses, at the engine.
#![allow(
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod support;

use attestation::tpm::{Authorization, Command, Put, alg, cc, rc, rh};
use sha2::{Digest, Sha256};
use support::command::{self, SessionType};
use support::{Session, code, sized, u16_at, u32_at};

#[test]
fn nothing_works_before_startup_but_startup() {
    let mut session = Session::open();
    session.fails(&command::get_random(8), rc::INITIALIZE);
    session.fails(&command::self_test(true), rc::INITIALIZE);
    session.ok(&command::startup(command::CLEAR));
    session.fails(&command::startup(command::CLEAR), rc::INITIALIZE);
    session.ok(&command::self_test(false));
}

/// Software that tries TPM 1.2 first takes a response with one of its tags for a TPM 1.2's.
#[test]
fn a_tpm_1_2_command_is_refused_with_a_tpm_2_tag() {
    let mut session = Session::started();
    let get_ticks = [0x00, 0xc1, 0, 0, 0, 10, 0, 0, 0, 0xf1];
    let response = session.run(&get_ticks);
    assert_eq!(response[..6], [0x80, 0x01, 0, 0, 0, 10]);
    assert_ne!(code(&response), 0);
}

#[test]
fn self_test_of_everything_passes() {
    Session::started().ok(&command::self_test(true));
}

/// Capability properties: count at 15, then pairs of 32-bit words.
fn property(session: &mut Session, property: u32) -> u32 {
    let response = session.ok(&command::get_capability(6, property, 1));
    assert_eq!(u32_at(&response, 19), property);
    u32_at(&response, 23)
}

#[test]
fn capabilities_say_what_the_engine_is() {
    let mut session = Session::started();
    assert_eq!(property(&mut session, 0x100).to_be_bytes(), *b"2.0\0");
    let revision = match tpm2_ref_sys::ENGINE {
        engine if engine.starts_with("libtpms 0.9.2-") => 164, // 1.64
        engine if engine.starts_with("libtpms 0.10.2-") => 183, // 1.83
        other => panic!("an engine that nobody looked at: {other}"),
    };
    assert_eq!(property(&mut session, 0x102), revision);
    assert_eq!(property(&mut session, 0x105).to_be_bytes(), *b"IBM\0");
    let longest = tpm2_ref_sys::MAX_COMMAND as u32;
    assert_eq!(property(&mut session, 0x11e), longest);
    assert_eq!(property(&mut session, 0x11f), longest);
}

/// PTP, "CRB Interface": the data buffer bounds commands and responses.
#[test]
fn the_room_of_the_interface_is_told() {
    const ROOM: usize = 3968;
    let mut session = Session::open();
    session.tpm.set_longest(ROOM).unwrap();
    for round in 0..2 {
        session.ok(&command::startup(command::CLEAR));
        for size in [0x11e, 0x11f] {
            assert_eq!(property(&mut session, size), ROOM as u32, "{round}");
        }
        session.tpm.reset().unwrap();
    }
    assert!(session.tpm.set_longest(100).is_err());
    assert!(
        session
            .tpm
            .set_longest(tpm2_ref_sys::MAX_COMMAND + 1)
            .is_err()
    );
    drop(session);
    // Another TPM is as at first.
    let mut session = Session::started();
    assert_eq!(
        property(&mut session, 0x11e),
        tpm2_ref_sys::MAX_COMMAND as u32
    );
}

#[test]
fn command_capability_lists_exactly_the_total() {
    let mut session = Session::started();
    let total = property(&mut session, 0x129);
    assert!(total >= 100);
    let list = session.ok(&command::get_capability(2, 0x11f, total));
    assert_eq!(u32_at(&list, 15), total);
    assert_eq!(list[10], 0, "there is no more");
    // The commands of libtpms 0.9, and of the profile "null" of later ones.
    let ranges = [
        0x11f..=0x122,
        0x124..=0x12e,
        0x130..=0x140,
        0x142..=0x159,
        0x15b..=0x15e,
        0x160..=0x165,
        0x167..=0x174,
        0x176..=0x178,
        0x17a..=0x193,
        0x197..=0x197,
    ];
    let listed: Vec<u32> = list[19..]
        .chunks_exact(4)
        .map(|attributes| u32_at(attributes, 0) & 0xffff)
        .collect();
    assert_eq!(listed, ranges.into_iter().flatten().collect::<Vec<u32>>());
}

#[test]
fn algorithms_include_what_guests_ask_for() {
    let mut session = Session::started();
    let list = session.ok(&command::get_capability(0, 0, 100));
    let algorithms: Vec<u16> = list[19..].chunks(6).map(|entry| u16_at(entry, 0)).collect();
    for wanted in [
        0x01, 0x04, 0x05, 0x06, 0x08, 0x0b, 0x0c, 0x14, 0x18, 0x23, 0x43,
    ] {
        assert!(algorithms.contains(&wanted), "{wanted:#x}");
    }
}

#[test]
fn pcr_banks_fit_linux_and_sha256_is_active() {
    let mut session = Session::started();
    let list = session.ok(&command::get_capability(5, 0, 1));
    let banks = u32_at(&list, 15) as usize;
    assert!(banks <= 8);
    let sha256 = list[19..]
        .chunks(6)
        .take(banks)
        .find(|bank| u16_at(bank, 0) == alg::SHA256)
        .expect("there is a SHA-256 bank");
    assert_eq!(sha256[3..], [0xff; 3]);
}

#[test]
fn random_bytes_differ_from_call_to_call() {
    let mut session = Session::started();
    let first = session.ok(&command::get_random(32));
    let second = session.ok(&command::get_random(32));
    assert_eq!(sized(&first, 10).len(), 32);
    assert_ne!(first, second);
}

fn pcr(session: &mut Session, number: u8) -> [u8; 32] {
    let response = session.ok(&command::pcr_read_sha256(number));
    sized(&response, 28).try_into().unwrap()
}

#[test]
fn extend_is_a_hash_over_old_and_new() {
    let mut session = Session::started();
    assert_eq!(pcr(&mut session, 10), [0; 32]);
    assert_eq!(pcr(&mut session, 17), [0xff; 32]);
    let mut expected = [0; 32];
    for value in [0x5a, 0xa5] {
        session.ok(&command::pcr_extend_sha256(10, &[value; 32]));
        expected = Sha256::digest([expected, [value; 32]].concat()).into();
        assert_eq!(pcr(&mut session, 10), expected);
    }
}

#[test]
fn pcrs_obey_localities() {
    let mut session = Session::started();
    session.fails(&command::pcr_extend_sha256(17, &[1; 32]), rc::LOCALITY);
    session.fails(&command::pcr_reset(0), rc::LOCALITY);
    session.ok(&command::pcr_reset(16));
    let extend = command::pcr_extend_sha256(17, &[1; 32]);
    let extended = session.try_run_at(3, &extend).unwrap();
    assert_eq!(code(&extended), 0);
}

#[test]
fn keys_are_created_loaded_and_sign() {
    let mut session = Session::started();
    for (parent, template) in [
        (command::ecc_storage(), command::ecc_signing()),
        (command::rsa_storage(), command::rsa_signing()),
    ] {
        let parent = session.ok(&command::create_primary(rh::OWNER, &parent));
        let parent = u32_at(&parent, 10);
        let created = session.ok(&command::create(parent, &[], &template.to_bytes()));
        let private = sized(&created, 14);
        let public = sized(&created, 16 + private.len());
        let key = session.ok(&command::load(parent, private, public));
        let key = u32_at(&key, 10);

        let digest: [u8; 32] = Sha256::digest(b"message").into();
        let signed = session.ok(&command::sign(key, &digest));
        let end = 14 + u32_at(&signed, 10) as usize;
        let signature = &signed[14..end];
        session.ok(&command::verify_signature(key, &digest, signature));
        let other: [u8; 32] = Sha256::digest(b"another").into();
        let response = session.run(&command::verify_signature(key, &other, signature));
        assert_eq!(code(&response) & 0x3f, 0x1b, "TPM_RC_SIGNATURE");
        session.ok(&command::flush_context(key));
        session.ok(&command::flush_context(parent));
    }
}

#[test]
fn sealed_data_opens_only_while_its_pcr_is_unchanged() {
    let mut session = Session::started();
    let nonce = [7; 16];

    let trial = session.ok(&command::start_auth_session(SessionType::Trial, &nonce));
    let trial = u32_at(&trial, 10);
    session.ok(&command::policy_pcr(trial, command::sha256(&[8])));
    let policy = session.ok(&command::policy_get_digest(trial));
    let policy = sized(&policy, 10).to_vec();
    session.ok(&command::flush_context(trial));

    let parent = session.ok(&command::create_primary(rh::OWNER, &command::ecc_storage()));
    let parent = u32_at(&parent, 10);
    let created = session.ok(&command::create(
        parent,
        b"the secret",
        &command::sealed(&policy),
    ));
    let private = sized(&created, 14).to_vec();
    let public = sized(&created, 16 + private.len()).to_vec();
    let object = session.ok(&command::load(parent, &private, &public));
    let object = u32_at(&object, 10);

    let unseal = |session: &mut Session| {
        let policy = session.ok(&command::start_auth_session(SessionType::Policy, &nonce));
        let policy = u32_at(&policy, 10);
        session.ok(&command::policy_pcr(policy, command::sha256(&[8])));
        let response = session.run(&command::unseal((object, Authorization::policy(policy))));
        session.ok(&command::flush_context(policy));
        response
    };
    let opened = unseal(&mut session);
    assert_eq!(code(&opened), 0);
    assert_eq!(sized(&opened, 14), b"the secret");

    session.ok(&command::pcr_extend_sha256(8, &[1; 32]));
    let refused = unseal(&mut session);
    assert_eq!(code(&refused), 0x99d, "TPM_RC_POLICY_FAIL of session 1");
    assert_eq!(refused.len(), 10);
}

#[test]
fn nv_index_is_defined_written_read_and_gone() {
    const INDEX: u32 = 0x0180_0001;
    let mut session = Session::started();
    session.ok(&command::nv_define(INDEX, 32));
    assert_eq!(
        code(&session.run(&command::nv_read(INDEX, INDEX, 0, 32))),
        0x14a,
        "TPM_RC_NV_UNINITIALIZED"
    );
    session.ok(&command::nv_write(INDEX, INDEX, 0, &[0x3c; 32]));
    let read = session.ok(&command::nv_read(INDEX, INDEX, 0, 32));
    assert_eq!(sized(&read, 14), [0x3c; 32]);
    session.ok(&command::nv_undefine_space(rh::OWNER, INDEX));
    assert_eq!(
        code(&session.run(&command::nv_read(INDEX, INDEX, 0, 32))),
        0x18b
    );
}

#[test]
fn persistent_object_survives_a_reset() {
    const PERSISTENT: u32 = 0x8100_0001;
    let mut session = Session::started();
    let key = session.ok(&command::create_primary(rh::OWNER, &command::ecc_storage()));
    let key = u32_at(&key, 10);
    let public = session.ok(&command::read_public(key));
    session.ok(&command::evict_control(key, PERSISTENT));
    session.ok(&command::shutdown(command::CLEAR));
    session.tpm.reset().unwrap();
    session.ok(&command::startup(command::CLEAR));
    assert_eq!(session.ok(&command::read_public(PERSISTENT)), public);
    assert_ne!(code(&session.run(&command::read_public(key))), 0);
}

#[test]
fn clear_makes_another_owner_seed() {
    let mut session = Session::started();
    let make = command::create_primary(rh::OWNER, &command::ecc_storage());
    let before = session.ok(&make);
    session.ok(&command::clear());
    let after = session.ok(&make);
    assert_ne!(before[18..], after[18..]);
}

fn hmac(key: &[u8], message: &[&[u8]]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; 64];
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
        block
    };
    let inner = Sha256::digest([&pad(0x36)[..], &message.concat()].concat());
    Sha256::digest([&pad(0x5c)[..], &inner[..]].concat()).into()
}

/// TPM 2.0 Library, Part 1, "Session-Based Authorizations": neither bound nor salted, so the
/// session key is empty, and so is a PCR's authorization value.
#[test]
fn hmac_session_authorizes_and_its_response_verifies() {
    const CONTINUE: u8 = Authorization::CONTINUE_SESSION;
    let mut session = Session::started();
    let caller = [0x11; 32];
    let started = session.ok(&command::start_auth_session(SessionType::Hmac, &caller));
    let handle = u32_at(&started, 10);
    let tpm = sized(&started, 14).to_vec();

    let code_bytes = cc::PCR_EXTEND.to_be_bytes();
    let name = 11u32.to_be_bytes();
    let mut parameters = Vec::new();
    parameters.put_u32(1);
    parameters.put_u16(alg::SHA256);
    parameters.extend([9; 32]);
    let command_hash = Sha256::digest([&code_bytes[..], &name, &parameters].concat());
    let caller = [0x22; 32];
    let proof = hmac(&[], &[&command_hash, &caller, &tpm, &[CONTINUE]]);
    let send = |proof: &[u8]| {
        let authorization = Authorization {
            session: handle,
            nonce: &caller,
            attributes: CONTINUE,
            hmac: proof,
        };
        Command::new(cc::PCR_EXTEND)
            .entity((11, authorization))
            .bytes(&parameters)
            .to_bytes()
    };

    let mut wrong = proof;
    wrong[31] ^= 1;
    let refused = code(&session.run(&send(&wrong)));
    assert_eq!(refused & 0x3f, 0x22, "TPM_RC_BAD_AUTH, {refused:#x}");

    let response = session.ok(&send(&proof));
    let tpm = sized(&response, 14);
    let attributes = response[16 + tpm.len()];
    let shown = sized(&response, 17 + tpm.len());
    let response_hash = Sha256::digest([&[0; 4][..], &code_bytes].concat());
    let expected = hmac(&[], &[&response_hash, tpm, &caller, &[attributes]]);
    assert_eq!(shown, expected);
}

#[test]
fn shutdown_state_resumes_pcrs() {
    let mut session = Session::started();
    session.ok(&command::pcr_extend_sha256(10, &[3; 32]));
    let before = pcr(&mut session, 10);
    session.ok(&command::shutdown(command::STATE));
    session.tpm.reset().unwrap();
    session.ok(&command::startup(command::STATE));
    assert_eq!(pcr(&mut session, 10), before);
}

#[test]
fn orderly_restart_clears_pcrs_and_counts() {
    let mut session = Session::started();
    let clock = |session: &mut Session| {
        let time = session.ok(&command::read_clock());
        (u32_at(&time, 26), u32_at(&time, 30)) // resetCount, restartCount
    };
    let (resets, _) = clock(&mut session);
    session.ok(&command::pcr_extend_sha256(10, &[3; 32]));
    session.ok(&command::shutdown(command::CLEAR));
    session.tpm.reset().unwrap();
    session.ok(&command::startup(command::CLEAR));
    assert_eq!(clock(&mut session), (resets + 1, 0));
    assert_eq!(pcr(&mut session, 10), [0; 32]);
}

#[test]
fn establishment_is_reset_by_localities_3_and_4_only() {
    let mut session = Session::started();
    assert!(!session.tpm.established());
    for locality in 0..5 {
        let reset = session.tpm.reset_established(locality);
        assert_eq!(reset.is_ok(), locality >= 3, "{locality}");
    }
    assert!(!session.tpm.established());
}

#[test]
fn clock_follows_the_owners() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NOW: AtomicU64 = AtomicU64::new(1);
    const MILLISECOND: u64 = 1_000_000;
    NOW.store(5000 * MILLISECOND, Ordering::Relaxed);
    let mut session = Session::with(
        1,
        tpm2_ref_sys::Config {
            clock: || NOW.load(Ordering::Relaxed),
            ..support::config()
        },
    );
    session.ok(&command::startup(command::CLEAR));
    let mut time = || {
        let response = session.ok(&command::read_clock());
        u64::from_be_bytes(response[10..18].try_into().unwrap())
    };
    let before = time();
    NOW.fetch_add(1234 * MILLISECOND, Ordering::Relaxed);
    assert_eq!(time() - before, 1234);
    assert_eq!(time() - before, 1234);
}
