//! Boots that are honest, but not the one that the relying party accepts.

use core::slice;

use attestation::digest::{Digests, sha384};
use attestation::event_log::{
    EV_COMPACT_HASH, EV_EFI_PLATFORM_FIRMWARE_BLOB2, EV_IPL, EV_PLATFORM_CONFIG_FLAGS, EV_SEPARATOR,
};
use attestation::journal::{KeyHalves, PcrMirror, Processors, Rollback, Unlock};
use attestation::launch::{INITRD, Measurement};
use attestation::tpm::{commands, rh};
use evidence::guest::Device;
use evidence::{Boot, FirmwareImage, Machine, bz_image};
use uefi_defs::guid::HOB_PAYLOAD_INFO;
use uefi_defs::hob::{GuidExtension, Resource};
use verifier::Id;
use verifier::policy::Allowed;
use zerocopy::IntoBytes;

use crate::clippings::{first_of, rewrite};
use crate::subjects::UNLOCK;
use crate::{OtherBoot, assert_not_taken_for, assert_refused, judge};

fn idle(_: &mut Machine) {}

fn as_it_is(_: &mut Boot) {}

#[test]
fn another_launch() {
    assert_refused(&[
        OtherBoot {
            name: "another kernel",
            breaks: Id::LaunchKernel,
            boot: |boot| boot.kernel = bz_image(b"another kernel"),
            act: idle,
        },
        OtherBoot {
            name: "another command line",
            breaks: Id::LaunchCommandLine,
            boot: |boot| boot.command_line = "console=ttyS0 init=/bin/sh".into(),
            act: idle,
        },
        OtherBoot {
            name: "another initrd",
            breaks: Id::LaunchInitrd,
            boot: |boot| boot.initrd = Some(b"another initrd".to_vec()),
            act: idle,
        },
        OtherBoot {
            name: "no initrd",
            breaks: Id::LaunchInitrd,
            boot: |boot| boot.initrd = None,
            act: idle,
        },
        OtherBoot {
            name: "another L1",
            breaks: Id::Mrtd,
            boot: |boot| boot.firmware = FirmwareImage::with_l1(b"another L1 VMM"),
            act: idle,
        },
    ]);
}

#[test]
fn another_firmware_or_machine() {
    assert_refused(&[
        OtherBoot {
            name: "another TD HOB",
            breaks: Id::FirmwareEvents,
            boot: |boot| boot.td_hob = Some(b"another machine".to_vec()),
            act: idle,
        },
        OtherBoot {
            name: "a separator that says error",
            breaks: Id::EventsOrder,
            boot: |boot| boot.firmware_events = vec![(0, EV_SEPARATOR, vec![1, 0, 0, 0])],
            act: idle,
        },
        OtherBoot {
            name: "a payload outside MRTD",
            breaks: Id::EventsOrder,
            boot: |boot| {
                let data = b"\x0btd_payload\0 and where it is".to_vec();
                boot.firmware_events = vec![(1, EV_EFI_PLATFORM_FIRMWARE_BLOB2, data)];
            },
            act: idle,
        },
        OtherBoot {
            name: "a payload that the policy does not list",
            breaks: Id::FirmwareEvents,
            boot: |boot| {
                let data = b"\x0btd_payload\0 and where it is".to_vec();
                boot.secure_boot_events = vec![(1, EV_EFI_PLATFORM_FIRMWARE_BLOB2, data)];
            },
            act: idle,
        },
        OtherBoot {
            name: "a kernel that the firmware measured",
            breaks: Id::EventsOrder,
            boot: |boot| boot.firmware_events = vec![(1, EV_COMPACT_HASH, b"kernel".to_vec())],
            act: idle,
        },
        OtherBoot {
            name: "an event that nothing explains",
            breaks: Id::EventsOrder,
            boot: |boot| boot.firmware_events = vec![(2, EV_IPL, b"who knows".to_vec())],
            act: idle,
        },
    ]);
}

/// A TD HOB by which the host makes td-shim do something else than start L1 in memory of its own, for a relying party that
/// accepts any: the list is bound to its digest, so the verifier reads it.
#[test]
fn a_td_hob_that_no_host_needs() {
    const PLACE: u64 = 0x80_0000;
    let list = |more: &[u8]| {
        let mut list = tdshim_config::td_hob::list(PLACE, slice::from_ref(&(0..8 << 20)), &[]);
        let end = list.split_off(list.len() - 8);
        list.extend(more);
        list.extend(end);
        let end = PLACE + list.len() as u64;
        list[48..56].copy_from_slice(&end.to_le_bytes());
        list
    };
    let guid = |name| {
        let (extension, _) = GuidExtension::new(name, 16).expect("a small HOB");
        [extension.as_bytes(), &[0; 16]].concat()
    };
    let memory = |kind, start, length| Resource::ram(kind, start, length).as_bytes().to_vec();
    let cases = [
        ("TD_PAYLOAD_INFO", guid(HOB_PAYLOAD_INFO)),
        ("an extension of no known meaning", guid([7; 16])),
        ("a resource of no known meaning", memory(8, 1 << 32, 0x1000)),
        (
            "memory over the firmware",
            memory(7, 0xF000_0000, 0x1000_0000),
        ),
        ("memory that is there twice", memory(7, 0x1000, 0x1000)),
    ];
    let judged = |name, hob: Vec<u8>| {
        let boot = Boot {
            td_hob: Some(hob),
            ..Boot::default()
        };
        let mut evidence = boot.evidence();
        evidence.policy.firmware.td_hob = Allowed::Any;
        judge(name, Id::FirmwareEvents, &evidence)
    };
    for (name, more) in cases {
        assert_eq!(judged(name, list(&more)), None);
    }
    let mut behind = list(&[]);
    behind.extend([0; 8]);
    assert_eq!(judged("something behind the list", behind), None);
    assert!(judged("a list like any other", list(&[])).is_some());
}

/// What td-shim measures when it starts a payload of the host's comes behind the separators. A policy that lists its digest
/// does not make L1 of it, nor does another name.
#[test]
fn a_payload_of_the_hosts() {
    let data = b"td_payload_info\0\x04\0\0\0init".to_vec();
    let boot = Boot {
        firmware_events: vec![(1, EV_PLATFORM_CONFIG_FLAGS, data.clone())],
        ..Boot::default()
    };
    let mut evidence = boot.evidence();
    evidence.policy.firmware.other = [sha384(&data)].into();
    evidence.policy.firmware.td_hob = Allowed::Any;
    evidence.policy.launch.kernel = Allowed::Any;
    assert_eq!(judge("listed", Id::EventsOrder, &evidence), None);
    let kernel = b"kernel";
    rewrite(&mut evidence.bundle.cc_event_log, |records| {
        for record in records.iter_mut().filter(|record| record.ends_with(&data)) {
            // Register; type, count, algorithm and digest; then the size of the data.
            record.truncate(14 + 48);
            record[4..8].copy_from_slice(&EV_COMPACT_HASH.to_le_bytes());
            record.extend((kernel.len() as u32).to_le_bytes());
            record.extend(kernel);
        }
    });
    assert_eq!(judge("called a kernel", Id::EventsOrder, &evidence), None);
}

#[test]
fn another_td() {
    assert_refused(&[
        OtherBoot {
            name: "a debug TD",
            breaks: Id::TdDebug,
            boot: |boot| boot.td.attributes |= 1,
            act: idle,
        },
        OtherBoot {
            name: "a TD whose pages the host may take away",
            breaks: Id::TdAttributes,
            boot: |boot| boot.td.attributes = 0,
            act: idle,
        },
        OtherBoot {
            name: "a TD with another attribute",
            breaks: Id::TdAttributes,
            boot: |boot| boot.td.attributes |= 1 << 27,
            act: idle,
        },
        OtherBoot {
            name: "a TD with another XFAM",
            breaks: Id::TdAttributes,
            boot: |boot| boot.td.xfam = 0b11,
            act: idle,
        },
        OtherBoot {
            name: "another MRCONFIGID",
            breaks: Id::TdConfig,
            boot: |boot| boot.td.mrconfigid = [1; 48],
            act: idle,
        },
        OtherBoot {
            name: "another MROWNER",
            breaks: Id::TdConfig,
            boot: |boot| boot.td.mrowner = [1; 48],
            act: idle,
        },
        OtherBoot {
            name: "another MROWNERCONFIG",
            breaks: Id::TdConfig,
            boot: |boot| boot.td.mrownerconfig = [1; 48],
            act: idle,
        },
    ]);
}

#[test]
fn another_vtpm() {
    assert_refused(&[
        OtherBoot {
            name: "another engine",
            breaks: Id::JournalStart,
            boot: |boot| boot.engine = "libtpms 0.9.2",
            act: idle,
        },
        OtherBoot {
            name: "a persistent state",
            breaks: Id::JournalStart,
            boot: |boot| boot.unlock = Some(UNLOCK),
            act: idle,
        },
        OtherBoot {
            name: "another mirror",
            breaks: Id::JournalStart,
            boot: |boot| boot.mirror = PcrMirror::Off,
            act: idle,
        },
        OtherBoot {
            name: "another number of processors",
            breaks: Id::Processors,
            boot: |boot| boot.processors = Processors::new(16, 16).expect("as many"),
            act: idle,
        },
    ]);
}

fn kept() -> Boot {
    Boot {
        unlock: Some(UNLOCK),
        ..Boot::default()
    }
}

#[test]
fn another_state() {
    let boots = [
        OtherBoot {
            name: "another machine's state",
            breaks: Id::StateUnlock,
            boot: |boot| unlock(boot).machine[31] ^= 1,
            act: idle,
        },
        OtherBoot {
            name: "another broker",
            breaks: Id::StateUnlock,
            boot: |boot| unlock(boot).broker = Some([0; 32]),
            act: idle,
        },
        OtherBoot {
            name: "no broker",
            breaks: Id::StateUnlock,
            boot: |boot| {
                *unlock(boot) = Unlock {
                    broker: None,
                    key: KeyHalves::Hardware,
                    rollback: Rollback::None,
                    ..UNLOCK
                };
            },
            act: idle,
        },
        OtherBoot {
            name: "half a key",
            breaks: Id::StateUnlock,
            boot: |boot| unlock(boot).key = KeyHalves::Broker,
            act: idle,
        },
        OtherBoot {
            name: "no protection from older states",
            breaks: Id::StateUnlock,
            boot: |boot| unlock(boot).rollback = Rollback::None,
            act: idle,
        },
        OtherBoot {
            name: "no kept state",
            breaks: Id::JournalStart,
            boot: |boot| boot.unlock = None,
            act: idle,
        },
    ];
    assert_not_taken_for(kept, &boots);
}

fn unlock(boot: &mut Boot) -> &mut Unlock {
    boot.unlock.as_mut().expect("a kept state")
}

#[test]
fn another_life() {
    assert_refused(&[
        OtherBoot {
            name: "cleared",
            breaks: Id::JournalPolicy,
            boot: as_it_is,
            act: |machine| {
                machine.ok(&commands::clear());
            },
        },
        OtherBoot {
            name: "a hierarchy taken",
            breaks: Id::JournalPolicy,
            boot: as_it_is,
            act: |machine| {
                machine.ok(&commands::hierarchy_change_auth(rh::OWNER, b"mine"));
            },
        },
        OtherBoot {
            name: "reset",
            breaks: Id::JournalPolicy,
            boot: as_it_is,
            act: Machine::reset,
        },
        OtherBoot {
            name: "the kernel's PCR extended",
            breaks: Id::PcrReplay,
            boot: as_it_is,
            act: |machine| {
                machine.ok(&commands::pcr_extend(4, &Digests::of(b"a kernel").all()));
            },
        },
        OtherBoot {
            name: "a PCR extended that the policy leaves to nobody",
            breaks: Id::PcrReplay,
            boot: as_it_is,
            act: |machine| {
                machine.ok(&commands::pcr_extend(11, &Digests::of(b"a file").all()));
            },
        },
        OtherBoot {
            name: "a PCR for debugging extended",
            breaks: Id::PcrReplay,
            boot: as_it_is,
            act: |machine| {
                machine.ok(&commands::pcr_extend(16, &Digests::of(b"a file").all()));
            },
        },
        OtherBoot {
            name: "a PCR reset and extended",
            breaks: Id::PcrReplay,
            boot: as_it_is,
            act: |machine| {
                machine.ok(&commands::pcr_reset(16));
                machine.ok(&commands::pcr_extend(16, &Digests::of(b"a file").all()));
            },
        },
    ]);
}

#[test]
fn a_journal_without_room() {
    let boot = Boot {
        mirror: PcrMirror::Full,
        log_capacity: 16 << 10,
        ..Boot::default()
    };
    let mut evidence = boot.evidence_after(|machine| {
        for _ in 0..80 {
            machine.ok(&commands::pcr_extend(10, &Digests::of(b"a file").all()));
        }
    });
    assert_eq!(judge("log full", Id::JournalComplete, &evidence), None);
    evidence.policy.vtpm.allow_log_full = true;
    assert_eq!(evidence.verify().first_failure(), None);
    // The claims bind the PCRs even so.
    evidence.bundle.pcrs.sha1[10] = "00".repeat(20);
    assert_eq!(judge("log full, SHA-1", Id::PcrBanks, &evidence), None);
}

/// RTMR2 holds two digests, and which is whose only the log says: the host boots with an initrd for a command line and the
/// other way round, and says that it did not.
#[test]
fn a_command_line_for_an_initrd() {
    let honest = Boot::default();
    let line = honest.command_line.clone();
    let initrd = honest.initrd.clone().expect("an initrd");
    let boot = Boot {
        command_line: String::from_utf8(initrd).expect("a text"),
        initrd: Some(line.clone().into_bytes()),
        ..Boot::default()
    };
    let mut evidence = boot.evidence();
    evidence.policy = honest.policy();
    let both: Vec<Id> = evidence.verify().failures().collect();
    assert_eq!(both, [Id::LaunchCommandLine, Id::LaunchInitrd]);
    let first = first_of(&evidence.bundle.cc_event_log.0, 3);
    rewrite(&mut evidence.bundle.cc_event_log, |records| {
        let named = |record: &[u8], data: &[u8]| {
            // Register, type, count, algorithm, digest; then the size of the data.
            const DATA: usize = 14 + 48;
            let length = (data.len() as u32).to_le_bytes();
            [&record[..DATA], &length, data].concat()
        };
        let line = Measurement::command_line(line.as_bytes());
        records[first] = named(&records[first], INITRD);
        records[first + 1] = named(&records[first + 1], &line.data);
    });
    // Their places tell.
    assert_eq!(judge("exchanged", Id::EventsOrder, &evidence), None);
}
