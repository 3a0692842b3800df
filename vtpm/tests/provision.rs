//! What belongs to the platform and stays so, whatever the guest does: its hierarchy and the AK.

mod support;

use attestation::tpm::{rc, rh, template};
use support::{Setup, command};
use vtpm::Engine;

#[test]
fn the_platform_hierarchy_is_closed_after_every_startup() {
    let mut session = Setup::default().start();
    for _ in 0..2 {
        for guess in [&[][..], &[0; 32]] {
            let command = command::hierarchy_change_auth((rh::PLATFORM, guess), &[]);
            let code = session.code(&command);
            assert_ne!(code, rc::SUCCESS, "TPM_RC_BAD_AUTH");
        }
        session.tpm.reset().unwrap();
    }
    let script = session.td.script();
    let authorizations = script.drawn.iter().filter(|drawn| drawn.len() == 32);
    assert_eq!(authorizations.count(), 3, "a new one each time");
}

#[test]
fn the_ak_comes_back_after_a_clear() {
    let mut session = Setup::default().start();
    let ak = session.ok(&command::read_public(rh::AK));
    session.ok(&command::clear());
    assert_eq!(session.ok(&command::read_public(rh::AK)), ak);

    // With every slot taken it has to wait; the next report brings it back.
    let primary = command::create_primary(rh::NULL, &template::ek_p256());
    for _ in 0..3 {
        assert_eq!(session.code(&primary), rc::SUCCESS);
    }
    session.ok(&command::clear());
    assert_ne!(session.code(&command::read_public(rh::AK)), rc::SUCCESS);
    let user_data = attestation::window::NV_USER_DATA;
    let write = command::nv_write(rh::OWNER, user_data, 0, &[1; 64]);
    session.ok(&write);
    assert_ne!(session.code(&command::read_public(rh::AK)), rc::SUCCESS);
    session.ok(&command::flush_context(0x8000_0001));
    session.ok(&write);
    assert_eq!(session.ok(&command::read_public(rh::AK)), ak);
    assert_ne!(session.code(&primary), 0x902, "the slot is free again");
}

#[test]
fn an_ak_that_the_owner_took_away_comes_back_with_a_reset() {
    let mut session = Setup::default().start();
    let ak = session.ok(&command::read_public(rh::AK));
    session.ok(&command::evict_control(rh::AK, rh::AK));
    assert_ne!(session.code(&command::read_public(rh::AK)), rc::SUCCESS);
    session.tpm.reset().unwrap();
    assert_eq!(session.ok(&command::read_public(rh::AK)), ak);
}
