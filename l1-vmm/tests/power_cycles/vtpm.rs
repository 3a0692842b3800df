//! What L1 makes of power cycles: it starts its TPM with TPM2_Startup(CLEAR), closes the platform hierarchy, and answers
//! what is kept.

use attestation::journal::{KeyHalves, Rollback, Unlock};
use attestation::pcr::PcrBanks;
use attestation::tpm::{Command, Fields, NvPublic, cc, rc, rh};
use vtpm::Engine;
use vtpm::attested::IdentityTime;
use vtpm::state::{Keeper, NotKept};

use super::chip::{self, CLEAR, STATE, clock, wait};
use super::disk::Disk;
use super::support::{Kept, Session, Setup};

const UNLOCK: Unlock = Unlock {
    machine: [1; 32],
    broker: None,
    key: KeyHalves::Hardware,
    rollback: Rollback::None,
    epoch: 1,
    counter: 0,
};
const COUNTER: u32 = 0x0150_0001;
const PROTECTED: u32 = 0x0150_0002;
/// TPM_PT_LOCKOUT_COUNTER.
const FAILED_TRIES: u32 = 0x20E;

/// A boot from the disk.
fn boot_with(disk: &Disk, banks: PcrBanks) -> Session {
    wait(500);
    let kept = disk.keeper();
    let setup = Setup {
        unlock: Some(UNLOCK),
        banks,
        identity: IdentityTime::FirstNeed,
        clock,
        keeper: Some(Kept {
            state: kept.engine.map(|state| state.to_vec()),
            keeper: Box::new(kept.keeper),
        }),
        ..Setup::default()
    };
    setup.start()
}

fn boot(disk: &Disk) -> Session {
    boot_with(disk, PcrBanks::ALL)
}

/// How a life of the guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Clear,
    State,
    Cut,
    /// The guest resets its machine, and nothing was shut down.
    Reset,
    /// The disk fails for a while; then the power is cut.
    FailingDisk,
}

impl End {
    const ALL: [Self; 5] = [
        Self::Clear,
        Self::State,
        Self::Cut,
        Self::Reset,
        Self::FailingDisk,
    ];

    /// Ends this life, and begins the next.
    fn then_boot(self, mut session: Session, disk: &Disk) -> Session {
        match self {
            Self::Clear => {
                session.ok(&chip::shutdown(CLEAR));
            }
            Self::State => {
                session.ok(&chip::shutdown(STATE));
            }
            Self::Cut => {}
            Self::Reset => {
                session.tpm.reset().unwrap();
                return session;
            }
            Self::FailingDisk => {
                disk.fail(true);
                assert_eq!(session.code(&increment()), rc::NV_UNAVAILABLE);
                assert_eq!(session.code(&chip::clear()), rc::NV_UNAVAILABLE);
            }
        }
        drop(session);
        disk.fail(false);
        boot(disk)
    }
}

fn increment() -> Vec<u8> {
    chip::by_owner(cc::NV_INCREMENT).handle(COUNTER).to_bytes()
}

fn counter(session: &mut Session) -> u64 {
    let parameters = session.ok(&chip::nv_read(rh::OWNER, COUNTER, 0, 8));
    chip::number(Fields::new(&parameters).sized().unwrap())
}

fn property(session: &mut Session, property: u32) -> u32 {
    let parameters = session.ok(&chip::get_capability(6, property, 1));
    u32::from_be_bytes(parameters[13..17].try_into().unwrap())
}

/// resetCount, restartCount.
fn counts(session: &mut Session) -> (u32, u32) {
    let parameters = session.ok(&chip::read_clock());
    let number = |at: usize| u32::from_be_bytes(parameters[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

fn guess(session: &mut Session, password: &[u8]) -> u32 {
    loop {
        let write = chip::nv_write((PROTECTED, password), PROTECTED, 0, &[0; 8]);
        match session.code(&write) {
            rc::RETRY => {}
            code => return code,
        }
    }
}

/// A first boot: a counter that was incremented, and something under dictionary-attack protection.
fn first(disk: &Disk) -> Session {
    let mut session = boot(disk);
    // Part 2, TPMA_NV: OWNERWRITE, OWNERREAD, NO_DA, TPM_NT_COUNTER; AUTHWRITE, AUTHREAD.
    for (index, attributes) in [(COUNTER, 0x0202_0012), (PROTECTED, 0x0004_0004)] {
        let public = NvPublic::new(index, attributes, 8);
        session.ok(&chip::nv_define_space(rh::OWNER, b"password", &public));
    }
    let parameters = Command::new(cc::DICTIONARY_ATTACK_PARAMETERS)
        .authorized(rh::LOCKOUT, &[])
        .u32(100)
        .u32(1_000)
        .u32(1_000);
    session.ok(&parameters.to_bytes());
    session.ok(&increment());
    session
}

#[test]
fn what_was_acknowledged_is_there_after_each_end() {
    for end in End::ALL {
        let disk = Disk::new();
        let mut session = first(&disk);
        let value = counter(&mut session);
        session.ok(&chip::read_public(rh::AK));
        let eks = session.tpm.ek_names().unwrap().clone();
        let ak = session.tpm.ak().unwrap().clone();
        for more in 1..=3 {
            session = end.then_boot(session, &disk);
            session.ok(&increment());
            assert_eq!(counter(&mut session), value + more, "{end:?}");
            session.ok(&chip::read_public(rh::AK));
            assert_eq!(session.tpm.ek_names(), Some(&eks), "{end:?}");
            assert_eq!(session.tpm.ak(), Some(&ak), "{end:?}");
            assert!(session.nv_read(rh::NV_EK_P256).len() > 500, "{end:?}");
        }
    }
}

/// Part 1, "Timing Components": a Shutdown(STATE) of the guest's makes L1's TPM2_Startup(CLEAR) a TPM Restart.
#[test]
fn starts_are_counted_as_what_they_are() {
    for end in End::ALL {
        let disk = Disk::new();
        let mut session = first(&disk);
        let (resets, restarts) = counts(&mut session);
        session = end.then_boot(session, &disk);
        let expected = match end {
            End::State => (resets, restarts + 1),
            _ => (resets + 1, 0),
        };
        assert_eq!(counts(&mut session), expected, "{end:?}");
    }
}

/// Commands of L1's own use nothing that is protected: a host that cuts the power again and again locks nobody out.
#[test]
fn unclean_ends_alone_are_no_failed_tries() {
    let disk = Disk::new();
    let mut session = first(&disk);
    for _ in 0..12 {
        session = End::Cut.then_boot(session, &disk);
        session = End::Reset.then_boot(session, &disk);
        session.ok(&increment());
        assert_eq!(property(&mut session, FAILED_TRIES), 0);
    }
    assert_eq!(guess(&mut session, b"password"), rc::SUCCESS);
}

/// Neither a power cut nor a disk that fails gives a guess back.
#[test]
fn a_wrong_guess_is_counted_over_each_end() {
    for end in End::ALL {
        let disk = Disk::new();
        let mut session = first(&disk);
        let mut counted = 0;
        for _ in 0..4 {
            assert_eq!(guess(&mut session, b"guess") & 0x0BF, 0x08E, "{end:?}");
            counted += 1;
            session = end.then_boot(session, &disk);
            let tries = property(&mut session, FAILED_TRIES);
            assert!(tries >= counted, "{end:?}: {tries} of {counted}");
            counted = tries;
        }
    }
}

/// A disk that fails does not make guessing free: what is not kept is not answered, and when it comes back the guess is
/// counted; if the power is cut instead, nothing was learnt.
#[test]
fn a_guess_while_the_disk_fails_tells_nothing() {
    let disk = Disk::new();
    let mut session = first(&disk);
    assert_eq!(guess(&mut session, b"password"), rc::SUCCESS);
    disk.fail(true);
    for password in [b"guess".as_slice(), b"password", b"guess"] {
        assert_eq!(guess(&mut session, password), rc::NV_UNAVAILABLE);
    }
    drop(session);
    disk.fail(false);
    let mut session = boot(&disk);
    // The unclean end after a protected thing was used.
    assert_eq!(property(&mut session, FAILED_TRIES), 1);
}

#[test]
fn the_platform_is_l1s_after_each_end() {
    for end in End::ALL {
        let disk = Disk::new();
        let session = first(&disk);
        let mut session = end.then_boot(session, &disk);
        let take = chip::hierarchy_change_auth(rh::PLATFORM, b"");
        assert_ne!(session.code(&take), rc::SUCCESS, "{end:?}");
        for kind in [CLEAR, STATE] {
            // Part 3, "TPM2_Startup": L1 has started it.
            assert_eq!(
                session.code(&chip::startup(kind)),
                rc::INITIALIZE,
                "{end:?}"
            );
        }
    }
}

/// PCRs are those of the launch, whatever was extended before.
#[test]
fn pcrs_are_those_of_the_launch_after_each_end() {
    for end in End::ALL {
        let disk = Disk::new();
        let mut session = first(&disk);
        let banks = session.banks();
        session.ok(&chip::pcr_event(8, b"event"));
        let mut session = end.then_boot(session, &disk);
        assert!(session.banks() == banks, "{end:?}");
    }
}

/// Part 3, "TPM2_PCR_Allocate": banks of another configuration come with a reset of the TPM, and the state is kept.
#[test]
fn another_configuration_of_banks_keeps_the_state() {
    let disk = Disk::new();
    let mut session = first(&disk);
    let value = counter(&mut session);
    drop(session);
    for banks in [PcrBanks::DEFAULT, PcrBanks::ALL] {
        let mut session = boot_with(&disk, banks);
        assert_eq!(session.banks().len(), banks.iter().count());
        assert_eq!(counter(&mut session), value);
    }
}

/// Clock, and whether it is safe.
fn clock_shown(session: &mut Session) -> (u64, bool) {
    let parameters = session.ok(&chip::read_clock());
    let value = u64::from_be_bytes(parameters[8..16].try_into().unwrap());
    (value, parameters[24] == 1)
}

/// Part 1, "Clock": a safe Clock is beyond everything that the TPM has told of it, however the lives before ended.
#[test]
fn a_safe_clock_is_beyond_all_that_was_told() {
    for end in End::ALL {
        let disk = Disk::new();
        let mut session = first(&disk);
        let mut told = 0;
        for _ in 0..3 {
            wait(20_000);
            told = clock_shown(&mut session).0.max(told);
            session = end.then_boot(session, &disk);
            let (mut value, mut safe) = clock_shown(&mut session);
            assert_eq!(safe, matches!(end, End::Clear | End::State), "{end:?}");
            for _ in 0..100 {
                if safe {
                    break;
                }
                wait(100);
                (value, safe) = clock_shown(&mut session);
            }
            assert!(safe && value >= told, "{end:?}: {value} after {told}");
        }
    }
}

/// Part 1, "Clock": it stands and is not safe while NV cannot be written.
#[test]
fn clock_stands_while_the_disk_fails() {
    let disk = Disk::new();
    let mut session = first(&disk);
    wait(10_000);
    let (told, safe) = clock_shown(&mut session);
    assert!(safe);
    disk.fail(true);
    assert_eq!(session.code(&increment()), rc::NV_UNAVAILABLE);
    wait(10_000);
    // The time that has passed would have to be kept.
    let (value, safe) = clock_shown(&mut session);
    assert!(!safe && value < told + 4_096, "{value} after {told}");
    wait(10_000);
    assert_eq!(clock_shown(&mut session), (value, false));
    disk.fail(false);
    session.ok(&increment());
    let (value, safe) = clock_shown(&mut session);
    assert!(safe && value >= told + 20_000);
}

/// The journal has what somebody changed. Clock is kept without a record, or each quote would be one.
#[test]
fn a_clock_that_is_kept_is_no_record() {
    let disk = Disk::new();
    let mut session = first(&disk);
    let writes = disk.writes();
    let records = session.records_of(|session| {
        for _ in 0..5 {
            wait(5_000);
            clock_shown(session);
        }
    });
    assert!(records.is_empty(), "{records:?}");
    assert!(disk.writes() >= writes + 5);
}

/// Extending PCRs writes nothing, however long it goes on.
#[test]
fn time_alone_writes_nothing_for_extends() {
    let disk = Disk::new();
    let mut session = first(&disk);
    let writes = disk.writes();
    for _ in 0..20 {
        wait(5_000);
        session.ok(&chip::pcr_event(10, b"event"));
        session.ok(&chip::get_random(8));
    }
    assert_eq!(disk.writes(), writes);
}

/// An engine that makes other endorsement keys of a state's seeds is not the same TPM.
#[test]
fn a_tpm_whose_endorsement_keys_are_others_is_not_answered_for() {
    let disk = Disk::new();
    let mut session = first(&disk);
    session.ok(&chip::read_public(rh::AK));
    let names = session.tpm.ek_names().unwrap().clone();
    drop(session);
    let mut keeper = disk.keeper().keeper;
    keeper.endorsed_as(&names).unwrap();
    let [rsa, p256, p384] = names;
    let error = keeper.endorsed_as(&[rsa, p384, p256]).unwrap_err();
    assert!(matches!(error, NotKept::Never(_)), "{error}");
}
