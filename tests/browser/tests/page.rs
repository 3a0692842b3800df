//! The verifier's page, as a browser shows it: wide and narrow, light and dark, on paper, and read aloud.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

use base64ct::{Base64, Encoding};
use browser::{Look, Page};
use evidence::{Boot, Evidence};
use serde_json::Value;
use std::path::{Path, PathBuf};
use verifier::policy::Allowed;
use verifier::{About, Account, account::File, page};

/// What would run, load, or turn the text round, if a text of the evidence were more than a text.
const HOSTILE: &str = "quiet x=\"</code></td></table><script>document.title='owned'</script><img src=http://127.0.0.1/> \
     onload='alert(1)' \u{202e}";

/// What is seen of each page: its name and heading.
const PAGES: [(&str, &str); 3] = [
    ("checked", "Trusted"),
    ("accepted", "Trusted, but not all was checked"),
    ("refused", "Not trusted"),
];

fn account(name: &str) -> Account {
    let boot = Boot::default();
    let mut evidence: Evidence = match name {
        "refused" => {
            // The policy is of the boot that it was meant for.
            let hostile = Boot {
                command_line: HOSTILE.into(),
                ..boot.clone()
            };
            let nonce = vec![1; 32];
            let bundle = hostile.start().collect(&nonce);
            boot.judged(bundle, nonce)
        }
        _ => boot.evidence(),
    };
    if name == "accepted" {
        evidence.policy.launch.initrd = Allowed::Any;
        evidence.policy.firmware.td_hob = Allowed::Any;
    }
    let about = About {
        verifier: "test",
        time: "2026-01-01T00:00:00Z".into(),
        nonce: "01".repeat(32),
        evidence: File::new("evidence.json", b"evidence"),
        policy: File::new("policy.toml", b"policy"),
        root_sha256: "11".repeat(32),
    };
    Account::new(evidence.verify(), about, Some(&evidence.bundle))
}

/// The folder in which the pages and their pictures are left for people to look at.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn texts(value: &Value) -> Vec<&str> {
    let list = value.as_array().unwrap();
    list.iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn a_reader_sees_all_of_it() {
    let mut browser = Page::start().unwrap();
    for (name, heading) in PAGES {
        let account = account(name);
        let file = folder().join(format!("{name}.html"));
        std::fs::write(&file, page(&account)).unwrap();
        browser.open(&file).unwrap();
        loads_and_runs_nothing(&browser, &file);
        for width in [1280, 800, 375, 320] {
            for scheme in ["light", "dark"] {
                let look = Look {
                    width,
                    medium: "screen",
                    scheme,
                };
                browser.look(look).unwrap();
                let seen = browser.evaluate(include_str!("look.js")).unwrap();
                let what = format!("{name}, {look:?}");
                assert_eq!(seen["heading"], heading, "{what}");
                assert_eq!(texts(&seen["outside"]), [""; 0], "{what}");
                assert_eq!(texts(&seen["faint"]), [""; 0], "{what}");
                assert_eq!(seen["width"], width, "{what}");
                assert_eq!(seen["scrollWidth"], width, "{what}");
                let is_dark = seen["paper"].as_f64().unwrap() < 0.2;
                assert_eq!(is_dark, scheme == "dark", "{what}");
                assert!(seen["texts"].as_u64().unwrap() > 400, "{what}");
                says_everything(&account, seen["body"].as_str().unwrap());
                is_read_aloud(&mut browser, &account);
                if let (1280, "light") | (375, "dark") = (width, scheme) {
                    let picture = Base64::decode_vec(&browser.picture().unwrap()).unwrap();
                    let file = format!("{name}-{width}-{scheme}.png");
                    std::fs::write(folder().join(file), picture).unwrap();
                }
            }
        }
        prints(&mut browser, name);
    }
}

/// Nothing but the page itself, and no complaint of its content security policy.
fn loads_and_runs_nothing(browser: &Page, file: &Path) {
    let requests: Vec<&Value> = browser
        .events_of("Network.requestWillBeSent")
        .map(|event| &event["request"]["url"])
        .collect();
    assert_eq!(
        requests,
        [&Value::from(format!("file://{}", file.display()))]
    );
    for complaint in [
        "Log.entryAdded",
        "Runtime.consoleAPICalled",
        "Runtime.exceptionThrown",
    ] {
        let events: Vec<&Value> = browser.events_of(complaint).collect();
        assert!(events.is_empty(), "{events:?}");
    }
}

/// Every check and every event of the data is on the page, as text.
fn says_everything(account: &Account, body: &str) {
    for check in &account.checks {
        for text in [check.id.name(), check.id.claim(), &check.found] {
            assert!(body.contains(text), "{text}");
        }
    }
    assert!(account.event_logs.iter().all(|log| !log.events.is_empty()));
    for event in account.event_logs.iter().flat_map(|log| &log.events) {
        // A sentence has a capital.
        let what = event.what.get(1..).unwrap();
        for text in [what, &event.explanation, &event.register, &event.digest] {
            assert!(body.contains(text), "{text}");
        }
    }
}

/// Tables stay tables where the style makes lists of them.
fn is_read_aloud(browser: &mut Page, account: &Account) {
    let nodes = browser.read_aloud().unwrap();
    let count = |role: &str| nodes.iter().filter(|(other, _)| other == role).count();
    let events: usize = account.event_logs.iter().map(|log| log.events.len()).sum();
    assert_eq!(count("table"), 7 + account.event_logs.len());
    assert_eq!(count("rowheader"), account.checks.len() + events);
    assert_eq!(count("columnheader"), 7 * 3 + 2 * 4);
    assert!(nodes.contains(&("table".into(), "The platform".into())));
    assert!(nodes.contains(&("navigation".into(), "Contents".into())));
    for landmark in ["banner", "main", "contentinfo"] {
        assert_eq!(count(landmark), 1, "{landmark}");
    }
}

fn prints(browser: &mut Page, name: &str) {
    let look = Look {
        width: 1280,
        medium: "print",
        scheme: "light",
    };
    browser.look(look).unwrap();
    let seen = browser.evaluate(include_str!("look.js")).unwrap();
    assert_eq!(texts(&seen["faint"]), [""; 0]);
    let printed = Base64::decode_vec(&browser.print().unwrap()).unwrap();
    assert!(printed.starts_with(b"%PDF-"));
    let pages = printed
        .windows(11)
        .filter(|text| text == b"/Type /Page")
        .count();
    assert!((3..40).contains(&pages), "{pages} pages");
    std::fs::write(folder().join(format!("{name}.pdf")), printed).unwrap();
}

#[test]
fn texts_of_the_evidence_stay_texts() {
    let mut browser = Page::start().unwrap();
    let file = folder().join("hostile.html");
    std::fs::write(&file, page(&account("refused"))).unwrap();
    browser.open(&file).unwrap();
    loads_and_runs_nothing(&browser, &file);
    let seen = browser.evaluate(include_str!("look.js")).unwrap();
    assert_eq!(seen["title"], "Not trusted: evidence of a vTPM");
    assert_eq!(seen["scripts"], 0);
    let body = seen["body"].as_str().unwrap();
    assert!(
        body.contains("<script>document.title="),
        "it is shown as it is"
    );
    assert!(!body.contains('\u{202e}'));
}
