//! Commands of every wrong length and content: always a response, never another failure.

mod support;

use attestation::tpm::{Scheme, rc, rh};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use support::command::{self, SessionType};
use support::{Session, code, u32_at};
use tpm2_ref_sys::{ExecuteError, MAX_COMMAND};

#[test]
fn a_command_longer_than_the_buffer_has_a_size_error() {
    let mut session = Session::started();
    for length in [MAX_COMMAND, MAX_COMMAND + 1, 3 * MAX_COMMAND] {
        let mut long = command::get_random(8);
        long.resize(length, 0);
        session.fails(&long, rc::COMMAND_SIZE);
        let declared = (length as u32).to_be_bytes();
        long[2..6].copy_from_slice(&declared);
        assert_ne!(code(&session.run(&long)), 0);
    }
    session.ok(&command::get_random(8));
}

#[test]
fn every_cut_command_has_an_error_response() {
    let mut session = Session::started();
    let whole = command::create_primary(rh::NULL, &command::ecc_storage());
    for length in 0..whole.len() {
        let response = session.run(&whole[..length]);
        assert_eq!(response.len(), 10, "{length} bytes");
        assert_ne!(code(&response), 0);
        // And as a whole command that says so.
        let mut shorter = whole[..length].to_vec();
        if length >= 6 {
            shorter[2..6].copy_from_slice(&(length as u32).to_be_bytes());
            assert_ne!(code(&session.run(&shorter)), 0, "{length} bytes");
        }
    }
    session.ok(&command::get_random(8));
}

#[test]
fn a_response_that_does_not_fit_is_an_error() {
    let mut session = Session::started();
    let mut small = [0; 16];
    assert_eq!(
        session.tpm.execute(0, &command::get_random(8), &mut small),
        Err(ExecuteError::ResponseTooLong { length: 20 })
    );
    session.ok(&command::get_random(8));
}

#[test]
fn localities_that_do_not_exist_are_refused() {
    let mut session = Session::started();
    for locality in [5, 31] {
        assert_eq!(
            session.try_run_at(locality, &command::get_random(8)),
            Err(ExecuteError::Locality(locality))
        );
    }
    for locality in [0, 4, 32, 255] {
        let response = session.try_run_at(locality, &command::get_random(8));
        assert_eq!(response.map(|response| code(&response)), Ok(0));
    }
}

/// Commands that change nothing for long, as a base for mutation.
fn bases() -> Vec<Vec<u8>> {
    vec![
        command::get_random(32),
        command::pcr_extend_sha256(16, &[1; 32]),
        command::pcr_read_sha256(3),
        command::create_primary(rh::NULL, &command::ecc_attestation()),
        command::create_primary(rh::OWNER, &command::ecc_storage()),
        command::quote(0x8000_0000, b"nonce", Scheme::Null, command::sha256(&[0])),
        command::nv_define(0x0180_0001, 64),
        command::nv_write(0x0180_0001, 0x0180_0001, 0, &[7; 32]),
        command::nv_read(0x0180_0001, 0x0180_0001, 0, 32),
        command::flush_context(0x8000_0000),
        command::get_capability(6, 0x100, 20),
        command::start_auth_session(SessionType::Hmac, &[1; 16]),
        command::policy_pcr(0x0300_0000, command::sha256(&[1])),
        command::evict_control(0x8000_0000, 0x8100_0001),
        command::startup(command::CLEAR),
    ]
}

#[test]
fn mutated_commands_always_get_a_well_formed_response() {
    let mut session = Session::started();
    let mutation = (
        proptest::sample::select(bases()),
        proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        proptest::option::weighted(0.2, 10..200usize),
    )
        .prop_map(|(mut command, changes, length)| {
            for (position, value) in changes {
                // The size is set below.
                let position = 6 + position.index(command.len() - 6);
                command[position] = value;
            }
            if let Some(length) = length {
                command.resize(length, 0xa5);
            }
            let size = (command.len() as u32).to_be_bytes();
            command[2..6].copy_from_slice(&size);
            command
        });
    let config = Config {
        cases: 20_000,
        failure_persistence: None,
        ..Config::default()
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let session = std::cell::RefCell::new(&mut session);
    TestRunner::new_with_rng(config, random)
        .run(&mutation, |command| {
            let response = session
                .borrow_mut()
                .try_run(&command)
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert!(response.len() >= 10);
            prop_assert_eq!(u32_at(&response, 2) as usize, response.len());
            prop_assert_ne!(code(&response), rc::FAILURE);
            Ok(())
        })
        .unwrap();
    let mut session = session.borrow_mut();
    session.ok(&command::get_random(8));
}
