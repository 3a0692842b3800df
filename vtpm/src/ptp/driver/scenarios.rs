//! What Linux's driver does with a TPM, and what others do to it.

use alloc::vec;

use super::*;
use crate::ptp::window::PAGE;
use attestation::tpm::{Curve, Key, ObjectAttributes, PcrSelect, Public, Scheme, Symmetric, rh};
use tcg_defs::ptp::{BASE, WINDOW};

/// TPM_CAP_COMMANDS.
const CAP_COMMANDS: u32 = 2;
/// TPM_CAP_TPM_PROPERTIES.
const CAP_TPM_PROPERTIES: u32 = 6;
/// TPM_PT_TOTAL_COMMANDS.
const PT_TOTAL_COMMANDS: u32 = 0x129;
/// TPM_CC_FIRST.
const CC_FIRST: u32 = 0x11f;
/// The first handle of transient objects.
const TRANSIENT_FIRST: u32 = 0x8000_0000;

/// A restricted P-256 key.
fn p256(purpose: ObjectAttributes, symmetric: Symmetric, scheme: Scheme) -> Public {
    Public {
        name_algorithm: Algorithm::Sha256,
        attributes: ObjectAttributes::FIXED_TPM
            | ObjectAttributes::FIXED_PARENT
            | ObjectAttributes::SENSITIVE_DATA_ORIGIN
            | ObjectAttributes::USER_WITH_AUTH
            | ObjectAttributes::RESTRICTED
            | purpose,
        auth_policy: Vec::new(),
        symmetric,
        scheme,
        key: Key::Ecc {
            curve: Curve::P256,
            x: Vec::new(),
            y: Vec::new(),
        },
    }
}

/// A signing key: ECDSA with SHA-256.
fn signing() -> Public {
    let scheme = Scheme::Ecdsa(Algorithm::Sha256);
    p256(ObjectAttributes::SIGN, Symmetric::Null, scheme)
}

/// A storage key, AES-128-CFB: an SRK.
fn storage() -> Public {
    let symmetric = Symmetric::AesCfb(128);
    p256(ObjectAttributes::DECRYPT, symmetric, Scheme::Null)
}

#[test]
fn linux_probes_and_starts_the_tpm() {
    let mut driver = Driver::new();
    // tpm_tis_core_init
    assert_eq!(driver.read32(offset::DID_VID), 0x0001_1014);
    assert_ne!(driver.read8(offset::ACCESS) & 0x80, 0);
    let enable = driver.read32(offset::INT_ENABLE);
    assert_eq!(driver.read32(offset::INTF_CAPABILITY) >> 28 & 7, 3);
    driver.request_locality().unwrap();
    driver
        .interface
        .write(offset::INT_ENABLE, &(enable & !(1 << 31)).to_le_bytes());
    driver.relinquish_locality();
    // tpm2_probe looks at the tag alone.
    let probe = commands::get_capability(CAP_TPM_PROPERTIES, PT_TOTAL_COMMANDS, 1);
    let response = driver.transmit(&probe);
    assert_eq!(response[..2], [0x80, 0x01]);
    assert_eq!(code(&response), rc::INITIALIZE);
    assert_eq!(driver.read8(offset::RID), 1);
    // tpm2_auto_startup
    let self_test = commands::self_test(false);
    assert_eq!(code(&driver.transmit(&self_test)), rc::INITIALIZE);
    driver.ok(&startup());
    driver.ok(&self_test);
    let total = driver.ok(&probe);
    let total = u32::from_be_bytes(total[23..27].try_into().unwrap());
    let list = driver.ok(&commands::get_capability(CAP_COMMANDS, CC_FIRST, total));
    assert_eq!(list[15..19], total.to_be_bytes());
    assert_eq!(driver.waits, 0, "every poll was answered at once");
}

/// A command's accesses: its bytes and those of its response; three to get the locality, one to
/// give it up; STS before, the burst count and two polls for each of the two parts of the command
/// (the last byte has no burst count); tpmGo and one poll; a poll and a burst count for each of the
/// two parts of the response, two polls at its end, commandReady.
const OVERHEAD: u64 = 3 + 1 + 1 + 3 + 2 + 2 + 4 + 2 + 1;

#[test]
fn commands_cost_no_more_accesses_than_they_must() {
    let mut driver = Driver::new();
    driver.ok(&startup());

    let random = get_random();
    assert_eq!(driver.cost(&random), 12 + 44 + OVERHEAD);
    assert!(driver.cost(&random) <= 77);

    let extend = pcr_extend(16);
    assert_eq!(driver.cost(&extend), 65 + 19 + OVERHEAD);
    assert!(driver.cost(&extend) <= 105);

    for (name, template) in [("ECC", signing()), ("storage", storage())] {
        let create = commands::create_primary(rh::ENDORSEMENT, &template);
        let cost = driver.cost(&create);
        assert!(cost <= 470, "TPM2_CreatePrimary, {name}: {cost}");
    }

    // The fullest quote: twenty bytes of data, all PCRs.
    let pcrs = PcrSelect::all(Algorithm::Sha256);
    let quote = commands::quote(TRANSIENT_FIRST, &[7; 20], Scheme::Null, pcrs);
    driver.ok(&quote);
    let cost = driver.cost(&quote);
    assert!(cost <= 350, "TPM2_Quote: {cost}");
    assert_eq!(driver.waits, 0);
}

#[test]
fn linux_recovers_from_a_command_that_it_gave_up() {
    let mut driver = Driver::new();
    driver.ok(&startup());
    driver.request_locality().unwrap();
    // Declares less than is sent, so that Expect drops too early.
    let mut wrong = get_random();
    wrong[5] = 11;
    assert_eq!(driver.send(&wrong), Err(Errno::Eio));
    driver.relinquish_locality();
    driver.ok(&get_random());
}

#[test]
fn an_oversize_command_is_answered_with_a_size_error() {
    let mut driver = Driver::new();
    driver.ok(&startup());
    driver.request_locality().unwrap();
    driver.command_ready();
    let mut long = vec![0; 5000];
    long[..10].copy_from_slice(&get_random()[..10]);
    long[2..6].copy_from_slice(&5000u32.to_be_bytes());
    for byte in long {
        driver.write8(offset::DATA_FIFO, byte);
    }
    driver.write8(offset::STS, 0x20);
    assert_eq!(code(&driver.receive().unwrap()), rc::COMMAND_SIZE);
}

#[test]
fn undersize_commands_are_answered_with_an_error() {
    for size in [0u32, 6, 9] {
        let mut driver = Driver::new();
        driver.ok(&startup());
        driver.request_locality().unwrap();
        driver.command_ready();
        let mut short = get_random();
        short[2..6].copy_from_slice(&size.to_be_bytes());
        for byte in short {
            driver.write8(offset::DATA_FIFO, byte);
        }
        driver.write8(offset::STS, 0x20);
        let response = driver.receive().unwrap();
        assert_eq!(response.len(), 10);
        assert_ne!(code(&response), 0, "size {size}");
    }
}

/// EDK2 with support of TPM 1.2 asks for ticks first, and takes a response with a tag of 1.2's for one's.
#[test]
fn a_command_of_a_tpm_1_2_is_answered_with_bad_tag() {
    let mut driver = Driver::new();
    for started in [false, true] {
        if started {
            driver.ok(&startup());
        }
        let response = driver.transmit(&[0x00, 0xC1, 0, 0, 0, 10, 0, 0, 0, 0xF1]);
        assert_eq!(response, [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0x1E]);
    }
}

#[test]
fn without_entropy_every_command_fails_until_a_reset() {
    let mut driver = Driver::new();
    DEAD.store(true, Ordering::Relaxed);
    assert_eq!(code(&driver.transmit(&startup())), rc::FAILURE);
    DEAD.store(false, Ordering::Relaxed);
    assert_eq!(code(&driver.transmit(&get_random())), rc::FAILURE);
    driver.interface.reset().unwrap();
    driver.ok(&startup());
    driver.ok(&get_random());
}

#[test]
fn reset_needs_a_new_startup_and_clears_pcrs() {
    let mut driver = Driver::new();
    driver.ok(&startup());
    let read = commands::pcr_read(PcrSelect::of(Algorithm::Sha256, [16]));
    let before = driver.ok(&read);
    driver.ok(&pcr_extend(16));
    assert_ne!(driver.ok(&read), before);
    driver.interface.reset().unwrap();
    assert_eq!(code(&driver.transmit(&get_random())), rc::INITIALIZE);
    driver.ok(&startup());
    // Behind the update counter.
    assert_eq!(driver.ok(&read)[14..], before[14..]);
}

#[test]
fn localities_reach_the_engine() {
    // PCR 20 can be extended from localities 1 to 3, PCR 17 from 2 to 4.
    let mut driver = Driver::new();
    driver.ok(&startup());
    for (locality, pcr, expected) in [
        (0, 20, rc::LOCALITY),
        (1, 20, rc::SUCCESS),
        (1, 17, rc::LOCALITY),
        (2, 17, rc::SUCCESS),
        (3, 17, rc::SUCCESS),
    ] {
        let page = locality * PAGE;
        driver.write8(page + offset::ACCESS, 0x02);
        driver.write8(page + offset::STS, 0x40);
        for byte in pcr_extend(pcr) {
            driver.write8(page + offset::DATA_FIFO, byte);
        }
        driver.write8(page + offset::STS, 0x20);
        let response: Vec<u8> = (0..10)
            .map(|_| driver.read8(page + offset::DATA_FIFO))
            .collect();
        assert_eq!(code(&response), expected, "{pcr} from {locality}");
        driver.write8(page + offset::ACCESS, 0x20);
    }
}

#[test]
fn the_interface_is_where_drivers_look_for_it() {
    assert_eq!(BASE, 0xfed4_0000);
    assert_eq!(WINDOW.end - BASE, u64::from(5 * PAGE));
}
