//! What is read, and what is refused by which name.

extern crate std;

use super::*;
use alloc::string::{String, ToString};
use attestation::journal::PcrMirror;
use attestation::pcr::PcrBanks;
use proptest::prelude::*;
use std::format;

const MACHINE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const KEY: &str = "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";

fn document(section: &str) -> String {
    format!(
        "version = \"0.1.0\"\nalgorithm = \"sha384\"\n\n[data]\n\"tdp-vtpm.toml\" = '''\n{section}'''\n"
    )
}

fn error(section: &str) -> String {
    parse(document(section).as_bytes()).unwrap_err().to_string()
}

fn full() -> String {
    format!(
        "machine = \"{MACHINE}\"\nstate = \"require\"\nkey = \"both\"\nrollback = \"ledger\"\n\
         pcr-banks = \"sha1+sha256+sha384\"\npcr-mirror = \"full\"\n\n[broker]\nkey = \"{KEY}\"\n"
    )
}

#[test]
fn a_document_says_whose_state_is_opened_and_by_what() {
    let read = parse(document(&full()).as_bytes()).unwrap();
    let machine = Machine::from_hex(MACHINE).unwrap();
    let state = read.configuration.state.unwrap();
    assert_eq!(state.machine, machine);
    assert_eq!(state.otherwise, Otherwise::Refuse);
    assert_eq!(state.rollback, Rollback::Ledger);
    let KeySource::Both(broker) = state.key else {
        panic!("{:?}", state.key);
    };
    assert_eq!(broker.key[..3], [3, 0x6B, 0x17]);
    assert_eq!(broker.resource, format!("default/tdp-vtpm/{MACHINE}"));
    assert_eq!(read.configuration.mirror, Some(PcrMirror::Full));
    assert_eq!(
        read.configuration.banks,
        PcrBanks::from_names("sha1+sha256+sha384")
    );
}

#[test]
fn a_document_without_a_machine_has_no_state_to_open() {
    let read = parse(document("state = \"ephemeral\"\n").as_bytes()).unwrap();
    let nothing = Configuration {
        state: None,
        banks: None,
        mirror: None,
    };
    assert_eq!(read.configuration, nothing);
    for (line, key) in [
        ("key = \"hardware\"\n", "key"),
        ("rollback = \"none\"\n", "rollback"),
        ("[broker]\n", "broker"),
    ] {
        let text = error(&format!("state = \"ephemeral\"\n{line}"));
        assert_eq!(
            text,
            format!(
                "init-data, tdp-vtpm.toml, line 2: `{key}` is of a persistent state, which needs `machine` as well; \
                 leave both out for a TPM that is new at every start"
            )
        );
    }
    assert!(error("state = \"require\"\n").contains("line 1: `state` is of a persistent state"));
}

#[test]
fn texts_of_others_stand_beside_ours() {
    let with_others = format!(
        "{}\"aa.toml\" = '''\n[token_configs]\n'''\n\"policy.rego\" = \"package agent_policy\"\n",
        document(&full())
    );
    let alone = parse(document(&full()).as_bytes()).unwrap();
    let beside = parse(with_others.as_bytes()).unwrap();
    assert_eq!(alone.configuration, beside.configuration);
    assert_ne!(alone.digest, beside.digest);
}

#[test]
fn another_document_than_the_tds_is_refused_before_it_is_read() {
    let text = document(&full());
    let digest = digest(text.as_bytes());
    assert_eq!(
        attested(text.as_bytes(), &digest).unwrap(),
        parse(text.as_bytes()).unwrap()
    );
    let other = text.replace("require", "ephemeral");
    for document in [other.as_bytes(), b"", b"\xFF"] {
        let refused = attested(document, &digest);
        assert!(matches!(refused, Err(InitDataError::OtherDocument { .. })));
    }
    let refused = attested(other.as_bytes(), &digest).unwrap_err().to_string();
    assert!(refused.contains("give the document that the TD was built for"));
}

#[test]
fn the_published_digest_of_a_document_is_of_its_bytes() {
    // FIPS 180-4, example of SHA-384 for "abc".
    assert_eq!(digest(b"abc")[..4], [0xCB, 0x00, 0x75, 0x3F]);
}

#[test]
fn each_fault_of_the_document_has_its_own_error() {
    let text = |document: &str| parse(document.as_bytes()).unwrap_err().to_string();
    let good = document(&full());
    assert_eq!(
        text(&good.replace("0.1.0", "0.2.0")),
        "init-data, line 1: `version` must be \"0.1.0\", the version of the specification that is read"
    );
    assert_eq!(
        text(&good.replace("\"sha384\"\n\n", "\"sha256\"\n\n")),
        "init-data, line 2: `algorithm` must be \"sha384\", whose digest is a TD's MRCONFIGID"
    );
    assert_eq!(
        text(&good.replace("[data]", "more = 1\n[data]")),
        "init-data, line 4: there is no key `more`; the keys here are version, algorithm, data"
    );
    assert_eq!(
        text("version = \"0.1.0\"\nalgorithm = \"sha384\"\n"),
        "init-data: the table `data` has no text \"tdp-vtpm.toml\", which is L1's"
    );
    assert_eq!(
        text("version = \"0.1.0\"\nalgorithm = \"sha384\"\ndata = 1\n"),
        "init-data, line 3: `data` must be a table"
    );
    assert_eq!(
        text(&good.replace("tdp-vtpm.toml", "aa.toml")),
        "init-data: the table `data` has no text \"tdp-vtpm.toml\", which is L1's"
    );
    assert_eq!(text(""), "init-data: `version` is missing: \"0.1.0\"");
    assert!(text("version = \n").starts_with("init-data, line 1: "));
    assert_eq!(
        parse(b"\xFF").unwrap_err().to_string(),
        "the init-data document is not UTF-8 text"
    );
    let long = [b'#'; LENGTH_MAX + 1];
    assert_eq!(
        parse(&long).unwrap_err(),
        InitDataError::TooLong { length: 65537 }
    );
    assert!(matches!(
        parse(&long[1..]),
        Err(InitDataError::MissingKey { .. })
    ));
}

#[test]
fn each_fault_of_the_section_names_key_line_and_what_may_stand_there() {
    for (from, to, says) in [
        (
            "require",
            "Require",
            "line 2: `state` must be \"require\" (no guest without its TPM) or \"ephemeral\"",
        ),
        (
            "\"require\"",
            "1",
            "line 2: `state` must be \"require\" (no guest without its TPM) or \"ephemeral\"",
        ),
        (
            "\"both\"",
            "\"none\"",
            "line 3: `key` must be \"broker\", \"hardware\" or \"both\"",
        ),
        (
            "\"ledger\"",
            "\"Ledger\"",
            "line 4: `rollback` must be \"ledger\", \"lazy\" or \"none\"",
        ),
        (
            "00112233",
            "0011223",
            "line 1: `machine` must be the machine's identity, 64 lower-case hexadecimal digits in quotation marks",
        ),
        (
            "aabb",
            "AABB",
            "line 1: `machine` must be the machine's identity, 64 lower-case hexadecimal digits in quotation marks",
        ),
        (
            "sha1+sha256+sha384",
            "sha256",
            "line 5: `pcr-banks` must be sha256 and sha384",
        ),
        (
            "\"full\"",
            "\"on\"",
            "line 6: `pcr-mirror` must be \"off\", \"summary\" or \"full\"",
        ),
        (
            "\"036b",
            "\"046b",
            "line 9: `key` must be the broker's public key, a compressed point of P-256",
        ),
        (
            "[broker]",
            "[brokers]",
            "line 3: a key of `both` needs the table `broker` with the broker's `key`",
        ),
        (
            "pcr-mirror",
            "mirror",
            "line 6: there is no key `mirror`; the keys here are machine, state, key, rollback, broker, pcr-banks, \
             pcr-mirror",
        ),
        (
            "[broker]\n",
            "[broker]\nurl = \"x\"\n",
            "line 9: there is no key `url`; the keys here are key, resource",
        ),
        (
            "\"both\"",
            "\"hardware\"",
            "line 8: nothing is asked of a broker where `key` is \"hardware\": leave the table `broker` out",
        ),
        (
            "\n[broker]",
            "state = \"require\"\n\n[broker]",
            "line 7: duplicate key",
        ),
    ] {
        let section = full();
        assert!(section.contains(from), "{from}");
        let text = error(&section.replacen(from, to, 1));
        let text = text.strip_prefix("init-data, tdp-vtpm.toml, ").unwrap();
        assert!(text.starts_with(says), "{text}\n{says}");
    }
    let hardware = format!(
        "machine = \"{MACHINE}\"\nstate = \"require\"\nkey = \"hardware\"\nrollback = \"ledger\"\n"
    );
    assert!(error(&hardware).contains("line 4: `rollback` must be \"none\" where `key` is"));
    for key in ["state", "key", "rollback"] {
        let line = hardware.lines().find(|line| line.starts_with(key)).unwrap();
        let text = error(&hardware.replace(line, ""));
        let says = format!("init-data, tdp-vtpm.toml: `{key}` is missing: ");
        assert!(text.starts_with(&says), "{text}");
    }
}

#[test]
fn an_unknown_key_cannot_write_lines_of_a_log() {
    let long = format!("\"a\\n@ {{}}\\u001b{}\" = 1\n", "x".repeat(1000));
    let text = error(&format!("{}{long}", full()));
    let key = format!("a\\n@ {{}}\\u{{1b}}{}", "x".repeat(64 - 13));
    assert!(
        text.contains(&format!("there is no key `{key}`; the keys")),
        "{text}"
    );
}

#[test]
fn a_resource_needs_no_escape_in_a_request() {
    let with = |resource: &str| {
        let section = format!("{}resource = \"{resource}\"\n", full());
        parse(document(&section).as_bytes())
    };
    for resource in [
        "a/b/c",
        "default/tdp-vtpm/A_1.2-3",
        &format!("{x}/{x}/{x}", x = "x".repeat(64)),
    ] {
        let read = with(resource).unwrap().configuration.state.unwrap();
        assert_eq!(read.key.broker().unwrap().resource, resource);
    }
    for resource in [
        "",
        "a",
        "a/b",
        "a/b/c/d",
        "a//c",
        "/b/c",
        "a/b/",
        "a/../c",
        "a/./c",
        "a/b/c d",
        "a/b/c?",
        "a/b/%41",
        "a/b/\u{E4}",
        "a/b/c\\r\\nHost: x",
        &format!("a/b/{}", "x".repeat(65)),
    ] {
        let refused = with(resource).unwrap_err();
        assert!(
            matches!(
                refused,
                InitDataError::Value {
                    key: "resource",
                    ..
                }
            ),
            "{resource}"
        );
    }
}

#[test]
fn a_nest_without_end_is_refused_and_not_followed() {
    for (open, most) in [("[", 4096), ("{a=", 2048)] {
        let section = format!("state = {}\n", open.repeat(most));
        assert!(error(&section).starts_with("init-data, tdp-vtpm.toml, line 1: "));
    }
}

fn configurations() -> impl Strategy<Value = Configuration> {
    let broker = (
        any::<[u8; 32]>(),
        "[a-z0-9]{1,8}/[a-z0-9._]{1,8}x/[A-Z-]{1,8}",
    )
        .prop_map(|(x, resource)| {
            let mut key = [2; 33];
            key[1..].copy_from_slice(&x);
            Broker { key, resource }
        });
    let key = prop_oneof![
        broker.clone().prop_map(KeySource::Broker),
        broker.prop_map(KeySource::Both),
        Just(KeySource::Hardware),
    ];
    let state = (
        any::<[u8; 32]>().prop_map(Machine),
        prop::sample::select(&Otherwise::ALL[..]),
        key,
        prop::sample::select(&Rollback::ALL[..]),
    );
    let state = state.prop_map(|(machine, otherwise, key, rollback)| PersistentState {
        machine,
        otherwise,
        rollback: match key {
            KeySource::Hardware => Rollback::None,
            _ => rollback,
        },
        key,
    });
    let mirror = prop::sample::select(&[PcrMirror::Off, PcrMirror::Summary, PcrMirror::Full][..]);
    let banks = prop::sample::select(&[PcrBanks::DEFAULT, PcrBanks::ALL][..]);
    (
        prop::option::of(state),
        prop::option::of(banks),
        prop::option::of(mirror),
    )
        .prop_map(|(state, banks, mirror)| Configuration {
            state,
            banks,
            mirror,
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read_the_same(configuration in configurations()) {
        let document = configuration.to_document();
        let read = parse(document.as_bytes()).unwrap();
        prop_assert_eq!(read.configuration, configuration);
    }

    #[test]
    fn any_text_is_read_or_refused(document in "\\PC{0,200}", section in "[\\x00-\\x7F]{0,200}") {
        let _ = parse(document.as_bytes());
        let _ = crate::section::configuration(&section);
    }

    #[test]
    fn a_changed_byte_is_another_document(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let document = document(&full());
        let digest = digest(document.as_bytes());
        let mut changed = document.into_bytes();
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        let other = matches!(attested(&changed, &digest), Err(InitDataError::OtherDocument { .. }));
        prop_assert!(other);
        let _ = parse(&changed);
    }
}
