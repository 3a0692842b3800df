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
}

#[test]
fn an_empty_policy_is_strict_where_it_has_defaults() {
    let policy = parse("").unwrap();
    assert!(policy.quote.required);
    assert!(!policy.td.debug);
    assert!(!policy.vtpm.allow_clear);
    assert!(!policy.vtpm.allow_log_full);
    assert_eq!(policy.tcb.statuses, [TcbStatus::UpToDate]);
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
    let text = "[launch]\nkernel_file = \"bzImage\"\ncommand_line = \"a b\"\ninitrd = \"none\"";
    let one = Policy::parse(text, &directory).unwrap();
    kernel[0x210] = 0xb0;
    std::fs::write(directory.join("bzImage"), &kernel).unwrap();
    let other = Policy::parse(text, &directory).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(one.launch.kernel, other.launch.kernel);
    assert_eq!(one.launch.initrd, Allowed::Absent);
    let line = attestation::digest::sha384(b"a b");
    assert_eq!(one.launch.command_line, Allowed::OneOf(vec![line]));
}
