//! What Linux's driver does with a TPM, and what others do to it.

use alloc::vec;

use super::*;
use crate::ptp::window::PAGE;
use tcg_defs::ptp::{BASE, WINDOW};

/// Restricted P-256 signing key, ECDSA with SHA-256.
const ECC: [u8; 24] = [
    0, 0x23, 0, 0x0b, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10, 0, 0, 0, 0,
];

/// Restricted P-256 storage key, AES-128-CFB: an SRK.
const STORAGE: [u8; 26] = [
    0, 0x23, 0, 0x0b, 0, 3, 0, 0x72, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0,
    0,
];

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
    let probe = command(0x17a, None, &[0, 0, 0, 6, 0, 0, 1, 0x29, 0, 0, 0, 1]);
    let response = driver.transmit(&probe);
    assert_eq!(response[..2], [0x80, 0x01]);
    assert_eq!(code(&response), 0x100);
    assert_eq!(driver.read8(offset::RID), 1);
    // tpm2_auto_startup
    let self_test = command(0x143, None, &[0]);
    assert_eq!(code(&driver.transmit(&self_test)), 0x100);
    driver.ok(&startup());
    driver.ok(&self_test);
    let total = driver.ok(&probe);
    let total = u32::from_be_bytes(total[23..27].try_into().unwrap());
    let list = [&[0, 0, 0, 2, 0, 0, 1, 0x1f][..], &total.to_be_bytes()].concat();
    let list = driver.ok(&command(0x17a, None, &list));
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

    let extend = pcr_extend();
    assert_eq!(driver.cost(&extend), 65 + 19 + OVERHEAD);
    assert!(driver.cost(&extend) <= 105);

    for (name, template) in [("ECC", &ECC[..]), ("storage", &STORAGE)] {
        let create = create_primary(template);
        let cost = driver.cost(&create);
        assert!(cost <= 470, "TPM2_CreatePrimary, {name}: {cost}");
    }

    // The fullest quote: twenty bytes of data, all PCRs.
    let quote = [
        &[0, 20][..],
        &[7; 20],
        &[0, 0x10, 0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0xff, 0xff],
    ]
    .concat();
    let quote = command(0x158, Some(0x8000_0000), &quote);
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
    assert_eq!(code(&driver.receive().unwrap()), 0x142);
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

#[test]
fn without_entropy_every_command_fails_until_a_reset() {
    const FAILURE: u32 = 0x101;
    let mut driver = Driver::new();
    DEAD.store(true, Ordering::Relaxed);
    assert_eq!(code(&driver.transmit(&startup())), FAILURE);
    DEAD.store(false, Ordering::Relaxed);
    assert_eq!(code(&driver.transmit(&get_random())), FAILURE);
    driver.interface.reset().unwrap();
    driver.ok(&startup());
    driver.ok(&get_random());
}

#[test]
fn reset_needs_a_new_startup_and_clears_pcrs() {
    let mut driver = Driver::new();
    driver.ok(&startup());
    let read = command(0x17e, None, &[0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 1]);
    let before = driver.ok(&read);
    driver.ok(&pcr_extend());
    assert_ne!(driver.ok(&read), before);
    driver.interface.reset().unwrap();
    assert_eq!(code(&driver.transmit(&get_random())), 0x100);
    driver.ok(&startup());
    // Behind the update counter.
    assert_eq!(driver.ok(&read)[14..], before[14..]);
}

#[test]
fn localities_reach_the_engine() {
    // PCR 20 can be extended from localities 1 to 3, PCR 17 from 2 to 4.
    let extend = |pcr: u32| {
        let digest = [&[0, 0, 0, 1, 0, 0x0b][..], &[1; 32]].concat();
        command(0x182, Some(pcr), &digest)
    };
    let mut driver = Driver::new();
    driver.ok(&startup());
    for (locality, pcr, expected) in [
        (0, 20, 0x907),
        (1, 20, 0),
        (1, 17, 0x907),
        (2, 17, 0),
        (3, 17, 0),
    ] {
        let page = locality * PAGE;
        driver.write8(page + offset::ACCESS, 0x02);
        driver.write8(page + offset::STS, 0x40);
        for byte in extend(pcr) {
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
