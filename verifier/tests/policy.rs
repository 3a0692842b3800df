//! The policy file: the example is one, and mistakes are named.

use std::path::Path;
use verifier::{
    Policy,
    policy::{Allowed, TcbStatus},
};

fn parse(text: &str) -> Result<Policy, String> {
    Policy::parse(text, Path::new(env!("CARGO_MANIFEST_DIR"))).map_err(|error| error.to_string())
}

#[test]
fn the_example_is_a_policy() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy.toml");
    let policy = Policy::read(&path).unwrap();
    assert_eq!(policy.td.mrtd, Allowed::OneOf(vec![[0; 48]]));
    assert_eq!(policy.tcb.statuses, [TcbStatus::UpToDate]);
    assert_eq!(policy.vtpm.max_resets, Some(0));
    // It shows how to name things, not how to look away.
    let text = std::fs::read_to_string(&path).unwrap();
    let keys = text.lines().map(|line| line.split('#').next().unwrap());
    assert!(keys.into_iter().all(|line| !line.contains("any")), "{text}");
}

/// The least that a policy can say.
const LEAST: &str = "[td]\nmrtd = \"any\"\nattributes = \"any\"\nxfam = \"any\"\n\
    mrconfigid = \"any\"\nmrowner = \"any\"\nmrownerconfig = \"any\"\n\
    [firmware]\ntd_hob = \"any\"\n\
    [launch]\nkernel = \"any\"\ncommand_line = \"any\"\ninitrd = \"any\"\n\
    [vtpm]\nengines = \"any\"\ninterfaces = \"any\"\nmodes = \"any\"\nmirror = \"any\"\nek = \"any\"\n";

#[test]
fn what_a_policy_leaves_out_is_an_error_that_says_what_to_write() {
    parse(LEAST).unwrap();
    let mut table = "";
    for line in LEAST.lines() {
        let Some((key, _)) = line.split_once(" = ") else {
            table = line.trim_matches(['[', ']']);
            continue;
        };
        let error = parse(&LEAST.replace(&format!("{line}\n"), "")).unwrap_err();
        let (explained, missing) = error.split_once("Missing:\n").unwrap();
        assert!(explained.contains("cargo xtask measure"), "{error}");
        assert!(explained.contains("\"any\""), "{error}");
        let named: Vec<&str> = missing.lines().map(str::trim).collect();
        assert_eq!(named.len(), 1, "{error}");
        assert!(
            named[0].starts_with(&format!("{table}.{key} = ")),
            "{error}"
        );
    }
    let nothing = parse("").unwrap_err();
    for named in [
        "launch.kernel_file",
        "launch.initrd_file",
        "td.image",
        "firmware.td_hob",
    ] {
        assert!(nothing.contains(named), "{nothing}");
    }
}

/// A host's kernel with a shell for init was trusted by such a policy.
#[test]
fn a_policy_of_an_mrtd_alone_is_none() {
    let text = format!("[td]\nmrtd = [\"{}\"]", "00".repeat(48));
    let error = parse(&text).unwrap_err();
    for key in [
        "launch.kernel",
        "launch.command_line",
        "launch.initrd",
        "firmware.td_hob",
    ] {
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn a_policy_is_strict_where_it_has_defaults() {
    let policy = parse(LEAST).unwrap();
    assert!(policy.quote.required);
    assert!(!policy.td.debug);
    assert!(!policy.vtpm.allow_clear);
    assert!(!policy.vtpm.allow_log_full);
    assert_eq!(policy.tcb.statuses, [TcbStatus::UpToDate]);
    assert!(!policy.vtpm.allow_hierarchy_changes);
    assert_eq!(policy.vtpm.max_resets, Some(0));
    assert_eq!(policy.vtpm.state, Allowed::Absent);
    assert_eq!(
        (policy.vtpm.processors, policy.vtpm.l2_processors),
        (None, None)
    );
    assert!(policy.pcr.beyond_log.is_empty());
    assert!(policy.firmware.other.is_empty());
    assert_eq!(policy.tcb.advisories, Allowed::OneOf(vec![]));
}

#[test]
fn mistakes_are_named() {
    let cases = [
        ("[td]\nmrdt = \"any\"", "mrdt"),
        ("[tdd]\n", "tdd"),
        ("[quote]\nrequired = 1", "required"),
        ("[td]\nmrtd = \"00\"", "td.mrtd"),
        ("[td]\nattributes_mask = \"ff\"", "td.attributes"),
        ("[td]\nxfam = \"xyz\"", "td.xfam"),
        ("[td]\nimage = \"no-such-image\"", "td.image"),
        ("[td]\nimage = \"policy.toml\"", "td.image"),
        ("[td]\nmrtd = \"any\"\nimage = \"policy.toml\"", "td.image"),
        ("[tcb]\nstatuses = [\"Revoked\"]", "tcb.statuses"),
        ("[tcb]\nstatuses = [\"Fine\"]", "Fine"),
        ("[vtpm]\nmodes = [\"eternal\"]", "vtpm.modes"),
        (
            "[td]\nxfam = \"any\"\nxfam_mask = \"7\"",
            "td.xfam_mask: contradicts",
        ),
        ("[vtpm]\nek = \"none\"", "policy key vtpm.ek"),
        ("[vtpm]\nek = [\"00\"]", "policy key vtpm.ek"),
        ("[vtpm]\nmax_resets = \"few\"", "vtpm.max_resets"),
        ("[vtpm]\nprocessors = \"few\"", "vtpm.processors"),
        ("[vtpm]\nprocessors = \"none\"", "vtpm.processors"),
        ("[vtpm]\nl2_processors = [-1]", "l2_processors"),
        ("[pcr]\nbeyond_log = [4]", "pcr.beyond_log"),
        ("[pcr.sha256]\n24 = []", "pcr.sha256.24"),
        ("[pcr.sha256]\n4 = [\"00\"]", "pcr.sha256.4"),
        ("[pcr.sm3]\n4 = []", "sm3"),
    ];
    for (text, named) in cases {
        let error = parse(text).unwrap_err();
        assert!(error.contains(named), "{text}: {error}");
    }
}

#[test]
fn a_kernel_file_is_measured_without_the_loaders_fields() {
    let directory = std::env::temp_dir().join(format!("verifier-policy-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let mut kernel = vec![7; 0x1000];
    std::fs::write(directory.join("bzImage"), &kernel).unwrap();
    let text = LEAST
        .replace("kernel = \"any\"", "kernel_file = \"bzImage\"")
        .replace("command_line = \"any\"", "command_line = \"a b\"")
        .replace("initrd = \"any\"", "initrd = \"none\"");
    let one = Policy::parse(&text, &directory).unwrap();
    kernel[0x210] = 0xb0;
    std::fs::write(directory.join("bzImage"), &kernel).unwrap();
    let other = Policy::parse(&text, &directory).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(one.launch.kernel, other.launch.kernel);
    assert_eq!(one.launch.initrd, Allowed::Absent);
    let line = attestation::digest::sha384(b"a b");
    assert_eq!(one.launch.command_line, Allowed::OneOf(vec![line]));
}

/// `cargo xtask measure --policy` names everything, whatever is booted.
#[test]
fn a_predicted_policy_accepts_nothing_unseen() {
    let digests = attestation::digest::Digests::of(b"a file");
    for something in [None, Some(digests)] {
        let prediction = prediction::Prediction {
            engine: Some("libtpms 0.10.2-5".to_owned()),
            mrtd: [1; 48],
            td_hob: something.map(|digests| digests.sha384),
            rtmrs: [[2; 48]; 3],
            kernel: digests,
            command_line: digests,
            initrd: something,
            banks: attestation::pcr::PcrBanks::ALL.at_startup(),
        };
        let terms = prediction::Terms {
            interface: attestation::journal::TpmInterface::Fifo,
            mirror: attestation::journal::PcrMirror::Summary,
            processors: something.map(|_| 4),
            quote_required: true,
        };
        let text = prediction::policy(&prediction, "console=ttyS0 \"quoted\"", terms);
        let policy = parse(&text).unwrap();
        assert!(!text.contains("\"any\""), "{text}");
        assert!(text.contains("engines = [\"libtpms 0.10.2-5\"]"), "{text}");
        assert_eq!(policy.td.mrtd, Allowed::OneOf(vec![[1; 48]]));
        let absent = something.is_none();
        assert_eq!(policy.firmware.td_hob == Allowed::Absent, absent);
        assert_eq!(policy.launch.initrd == Allowed::Absent, absent);
        let four = something.map(|_| Allowed::OneOf(vec![4]));
        assert_eq!(policy.vtpm.processors, four);
        assert_eq!(policy.vtpm.l2_processors, four);
        assert_eq!(policy.pcr.values.len(), 4 * 10);
    }
}
