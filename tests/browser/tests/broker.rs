//! The key broker's page, as a browser shows it to an operator: wide and narrow, light and dark.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use base64ct::{Base64, Encoding};
use broker::attest::{Judged, Row};
use broker::status::page;
use broker::store::{Event, Machine};
use broker_ledger::{Entry, Standing};
use broker_protocol::MachineId;
use broker_protocol::ledger::{Commit, SlotDigest};
use browser::{Look, Page};
use init_data::Rollback;
use serde_json::Value;
use std::path::PathBuf;

/// What would run, load, or turn the text round, if a text of evidence were more than a text.
const HOSTILE: &str = "quiet x=\"</code></td></table><script>document.title='owned'</script><img src=http://127.0.0.1/> \
     onload='alert(1)' \u{202e}";

fn machine(byte: u8, name: &str, standing: Standing, outcome: &str) -> Machine {
    let row = |check: &str, outcome: &str, found: &str| Row {
        check: check.into(),
        outcome: outcome.into(),
        sentence: "what was compared, in a sentence of the usual length".into(),
        expected: "ab".repeat(48),
        found: found.into(),
    };
    let judged = Judged {
        time: 1_767_225_600,
        policy: "production-2026".into(),
        verdict: outcome.into(),
        checks: vec![
            row("quote-signature", "passed", "3 links"),
            row("mrtd", "passed", &"cd".repeat(48)),
            row("launch-command-line", "failed", HOSTILE),
            row("events-explained", "not-reached", ""),
        ],
    };
    Machine {
        id: MachineId([byte; 32]),
        name: name.into(),
        key: Vec::new(),
        rollback: Rollback::Ledger,
        configured: None,
        entry: Entry {
            standing,
            epoch: 12,
            latest: Some(Commit {
                epoch: 12,
                counter: 3456,
                digest: SlotDigest([byte; 48]),
            }),
            pending: None,
        },
        enrolled: 1_767_225_600,
        verdict: Some(serde_json::to_string(&judged).unwrap()),
    }
}

#[test]
fn an_operator_sees_machines_epochs_and_verdicts() {
    let machines = [
        machine(1, "database-of-the-north", Standing::Enrolled, "refused"),
        machine(2, "web", Standing::Revoked, "checked"),
        machine(3, "mail", Standing::Restored, "accepted"),
    ];
    let events = [Event {
        time: 1_767_225_600,
        machine: Some(machines[0].id),
        event: "ledger-refused".into(),
        detail: HOSTILE.into(),
    }];
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join("broker.html");
    std::fs::write(&file, page(&machines, &events)).unwrap();
    let mut browser = Page::start().unwrap();
    browser.open(&file).unwrap();
    let requests: Vec<&Value> = browser
        .events_of("Network.requestWillBeSent")
        .map(|event| &event["request"]["url"])
        .collect();
    assert_eq!(
        requests,
        [&Value::from(format!("file://{}", file.display()))]
    );
    for width in [1280, 800, 375, 320] {
        for scheme in ["light", "dark"] {
            let look = Look {
                width,
                medium: "screen",
                scheme,
            };
            browser.look(look).unwrap();
            let seen = browser.evaluate(include_str!("look.js")).unwrap();
            let what = format!("{look:?}");
            let texts = |list: &Value| list.as_array().unwrap().clone();
            assert_eq!(seen["heading"], "Key broker", "{what}");
            assert_eq!(seen["title"], "Key broker", "{what}");
            assert_eq!(seen["scripts"], 0, "{what}");
            assert_eq!(texts(&seen["outside"]), [Value::Null; 0], "{what}");
            assert_eq!(texts(&seen["faint"]), [Value::Null; 0], "{what}");
            assert_eq!(
                (&seen["width"], &seen["scrollWidth"]),
                (&width.into(), &width.into()),
                "{what}"
            );
            let body = seen["body"].as_str().unwrap();
            for text in [
                "database-of-the-north",
                "3456 of epoch 12",
                "launch-command-line",
                "<script>document",
            ] {
                assert!(body.contains(text), "{what}: {text}");
            }
            if let (1280, "light") | (375, "dark") = (width, scheme) {
                let picture = Base64::decode_vec(&browser.picture().unwrap()).unwrap();
                std::fs::write(folder.join(format!("broker-{width}-{scheme}.png")), picture)
                    .unwrap();
            }
        }
    }
    let nodes = browser.read_aloud().unwrap();
    let tables = nodes.iter().filter(|(role, _)| role == "table").count();
    assert_eq!(tables, 2 + machines.len());
}
