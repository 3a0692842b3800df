//! Policies that do not say enough, and what is then not trusted.

use attestation::digest::{Algorithm, Digests};
use attestation::journal::{KeyHalves, Record, Rollback, Unlock};
use attestation::tpm::{commands, rh};
use evidence::guest::Device;
use evidence::{Boot, Evidence, bz_image};
use verifier::policy::{Allowed, TdPolicy, VtpmPolicy};
use verifier::{Id, Outcome, Policy, Report, Verdict};

use crate::forgery::rewrite_journal;
use crate::subjects::{HONEST, KEPT, UNLOCK};
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
            tell: |lie| lie.policy.td.mrtd = Allowed::default(),
        }],
    );
}

/// A boot of the host's kernel, with its shell for init, judged by a policy that names MRTD alone.
#[test]
fn what_a_policy_does_not_name_is_not_accepted() {
    let boot = Boot {
        kernel: bz_image(b"the host's kernel"),
        command_line: "init=/bin/sh".into(),
        ..Boot::default()
    };
    let mut evidence = boot.evidence();
    evidence.policy = Policy {
        td: TdPolicy {
            mrtd: Allowed::OneOf(vec![boot.firmware.mrtd()]),
            ..TdPolicy::default()
        },
        ..Policy::default()
    };
    let refused: Vec<Id> = evidence.verify().failures().collect();
    for id in [
        Id::TdAttributes,
        Id::TdConfig,
        Id::FirmwareEvents,
        Id::LaunchKernel,
        Id::LaunchCommandLine,
        Id::LaunchInitrd,
        Id::JournalStart,
    ] {
        assert!(refused.contains(&id), "{id}: {refused:?}");
    }
}

/// Each key by itself: what it accepts unseen is told, and the whole is not called checked.
#[test]
fn what_is_accepted_unseen_is_told() {
    let boot = Boot::default();
    let text = boot.policy_file();
    let cases = [
        ("mrtd", Id::Mrtd),
        ("attributes", Id::TdAttributes),
        ("xfam", Id::TdAttributes),
        ("mrconfigid", Id::TdConfig),
        ("mrowner", Id::TdConfig),
        ("mrownerconfig", Id::TdConfig),
        ("td_hob", Id::FirmwareEvents),
        ("kernel", Id::LaunchKernel),
        ("command_line", Id::LaunchCommandLine),
        ("initrd", Id::LaunchInitrd),
        ("engines", Id::JournalStart),
        ("interfaces", Id::JournalStart),
        ("modes", Id::JournalStart),
        ("mirror", Id::JournalStart),
        ("processors", Id::Processors),
        ("l2_processors", Id::Processors),
        ("ek", Id::EkPolicy),
    ];
    let mut evidence = boot.evidence();
    assert_eq!(evidence.verify().verdict(), Verdict::Checked);
    for (key, id) in cases {
        let edited: Vec<String> = text
            .lines()
            .map(|line| match line.split_once(" = ") {
                Some((name, _)) if name == key => format!("{key} = \"any\""),
                _ => line.to_owned(),
            })
            .collect();
        evidence.policy = Policy::parse(&edited.join("\n"), ".".as_ref()).expect("a policy");
        let report = evidence.verify();
        assert_eq!(report.verdict(), Verdict::Accepted, "{key}");
        let told: Vec<(Id, &Outcome)> = report
            .accepted()
            .map(|check| (check.id, &check.outcome))
            .collect();
        let [(found, Outcome::Accepted { by })] = &told[..] else {
            panic!("{key}: {told:?}");
        };
        assert_eq!(*found, id, "{key}");
        assert!(by.ends_with(&format!("{key} = \"any\"")), "{key}: {by}");
    }
}

/// Where the policy does not ask for the number of processors, it is shown; where it asks, one that is not told is refused.
#[test]
fn processors_are_compared_where_the_policy_asks() {
    let mut silent_l1 = HONEST.clone();
    rewrite_journal(&mut silent_l1, |records| match &mut records[0] {
        Record::Start(start) => start.processors = None,
        other => panic!("the journal begins with {other:?}"),
    });
    let judged = |evidence: &Evidence, numbers: [Option<Allowed<u32>>; 2]| {
        let mut evidence = evidence.clone();
        let policy = &mut evidence.policy.vtpm;
        [policy.processors, policy.l2_processors] = numbers;
        let report = evidence.verify();
        let check = report.check(Id::Processors).expect("a check");
        (check.outcome.name(), check.found.clone())
    };
    let of = |numbers: &[u32]| Some(Allowed::OneOf(numbers.to_vec()));
    let any = || Some(Allowed::Any);
    let cases = [
        ([None, None], "skipped", "skipped"),
        ([of(&[2, 4]), None], "passed", "failed"),
        ([None, of(&[3])], "passed", "failed"),
        ([of(&[4]), of(&[4])], "failed", "failed"),
        ([of(&[]), None], "failed", "failed"),
        ([any(), any()], "accepted", "accepted"),
        ([any(), of(&[3])], "accepted", "failed"),
    ];
    for (numbers, told, not_told) in cases {
        let (outcome, found) = judged(&HONEST, numbers.clone());
        assert_eq!(outcome, told, "{numbers:?}");
        if outcome != "failed" {
            assert_eq!(found, "4 of the TD, 3 of L2");
        }
        let untold = judged(&silent_l1, numbers.clone());
        assert_eq!(untold, (not_told, "not told".to_owned()), "{numbers:?}");
    }
    // That nothing is asked for lowers no verdict.
    let mut evidence = HONEST.clone();
    evidence.policy.vtpm.processors = None;
    evidence.policy.vtpm.l2_processors = None;
    assert_eq!(evidence.verify().verdict(), Verdict::Checked);
}

/// A policy of an ephemeral vTPM says nothing of a state: then no state is accepted, whoever unlocked it.
#[test]
fn a_state_that_the_policy_does_not_speak_of_is_not_accepted() {
    assert_eq!(KEPT.verify().first_failure(), None);
    let mut evidence = KEPT.clone();
    let policy = &mut evidence.policy.vtpm;
    policy.machine = Allowed::default();
    policy.broker = Allowed::default();
    policy.key = Allowed::default();
    policy.rollback = Allowed::default();
    let failures: Vec<Id> = evidence.verify().failures().collect();
    assert_eq!(failures, [Id::StateUnlock]);

    let boot = Boot {
        unlock: Some(UNLOCK),
        ..Boot::default()
    };
    for key in ["machine", "broker", "key", "rollback"] {
        let text: Vec<String> = boot
            .policy_file()
            .lines()
            .filter(|line| !line.starts_with(&format!("{key} = ")))
            .map(str::to_owned)
            .collect();
        let error = Policy::parse(&text.join("\n"), ".".as_ref()).expect_err("no policy");
        assert!(
            error.to_string().contains(&format!("vtpm.{key} = ")),
            "{error}"
        );
        // Told by each key that says "any".
        let text = format!("{}\n", boot.policy_file());
        let text: Vec<String> = text
            .lines()
            .map(|line| match line.starts_with(&format!("{key} = ")) {
                true => format!("{key} = \"any\""),
                false => line.to_owned(),
            })
            .collect();
        let mut evidence = KEPT.clone();
        evidence.policy = Policy::parse(&text.join("\n"), ".".as_ref()).expect("a policy");
        let report = evidence.verify();
        let accepted: Vec<Id> = report.accepted().map(|check| check.id).collect();
        assert_eq!(accepted, [Id::StateUnlock, Id::EkPolicy], "{key}");
    }
}

/// A state without a broker, by a policy that wants none.
#[test]
fn a_state_that_the_hardware_alone_unlocked_can_be_accepted() {
    let unlock = Unlock {
        broker: None,
        key: KeyHalves::Hardware,
        rollback: Rollback::None,
        ..UNLOCK
    };
    let boot = Boot {
        unlock: Some(unlock),
        ..Boot::default()
    };
    let mut evidence = boot.evidence();
    assert_eq!(evidence.verify().first_failure(), None);
    evidence.policy.vtpm.broker = Allowed::OneOf(vec![[0xB0; 32]]);
    let failures: Vec<Id> = evidence.verify().failures().collect();
    assert_eq!(failures, [Id::StateUnlock]);
}

/// What happened to the TPM, and a policy that lets it happen.
#[test]
fn what_may_happen_is_told_if_it_did() {
    let evidence = Boot::default().evidence_after(|machine| {
        machine.ok(&commands::hierarchy_change_auth(rh::OWNER, b"mine"));
        machine.ok(&commands::clear());
        machine.reset();
    });
    let allow = |edit: fn(&mut VtpmPolicy)| {
        let mut evidence = evidence.clone();
        evidence.policy.vtpm.allow_hierarchy_changes = true;
        evidence.policy.vtpm.allow_clear = true;
        edit(&mut evidence.policy.vtpm);
        evidence.verify()
    };
    let one_reset = allow(|policy| policy.max_resets = Some(1));
    let by = |report: &Report| match &report.check(Id::JournalPolicy).expect("a check").outcome {
        Outcome::Accepted { by } => by.clone(),
        other => panic!("{other:?}"),
    };
    let both = "vtpm.allow_clear = true, vtpm.allow_hierarchy_changes = true";
    assert_eq!(by(&one_reset), both);
    let any = allow(|policy| policy.max_resets = None);
    assert_eq!(by(&any), format!("{both}, vtpm.max_resets = \"any\""));
    let none = allow(|policy| policy.max_resets = Some(0));
    assert_eq!(none.failures().collect::<Vec<_>>(), [Id::JournalPolicy]);
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
