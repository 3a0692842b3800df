//! Whatever a text says, the page stays a page.

use super::*;
use crate::{
    account::{About, File},
    check::{Finding, run},
};

/// What would end an element, an attribute or the style, start a script, or turn the text round.
const HOSTILE: &str = "</code></td></script></style><script>alert(1)</script><img src=x onerror=alert(2)> \" onload=\"x ' & \u{202e}";

fn about() -> About {
    About {
        verifier: "1",
        time: "2026-01-01T00:00:00Z".into(),
        nonce: "00".into(),
        evidence: File::new(HOSTILE, b"evidence"),
        policy: File::new("policy.toml", b"policy"),
        root_sha256: "11".into(),
    }
}

fn account(finding: fn(Id) -> Result<Finding, Finding>) -> Account {
    let log = EventLog {
        name: "log",
        explanation: "a log",
        problem: None,
        bytes: 1,
        events: vec![LoggedEvent {
            register: HOSTILE.into(),
            by: "L1",
            event_type: HOSTILE.into(),
            what: HOSTILE.into(),
            explanation: HOSTILE.into(),
            digest: HOSTILE.into(),
            checks: vec![Id::Rtmr1, Id::LaunchKernel],
            outcome: Some("passed"),
        }],
    };
    let unreadable = EventLog {
        problem: Some(HOSTILE.into()),
        events: Vec::new(),
        ..log.clone()
    };
    let mut account = Account::new(run(finding), about(), None);
    account.event_logs = vec![log, unreadable];
    account
}

/// The tags of a page.
fn tags(page: &str) -> Vec<&str> {
    page.split('<')
        .skip(1)
        .filter_map(|rest| rest.split(['>', ' ', '\n']).next())
        .collect()
}

#[test]
fn hostile_text_is_text() {
    let pages = [
        account(|_| Err(Finding::failed(HOSTILE, HOSTILE, HOSTILE))),
        account(|_| Ok(Finding::accepted(HOSTILE, HOSTILE, HOSTILE))),
        account(|_| Ok(Finding::skipped(HOSTILE, HOSTILE))),
        account(|_| Ok(Finding::passed(HOSTILE, HOSTILE))),
    ];
    let plain = page(&account(|_| Ok(Finding::passed("", ""))));
    for account in pages {
        let page = page(&account);
        for never in [
            "<script",
            "<img",
            "onerror=alert(2)>",
            "\" onload",
            "</style><",
        ] {
            assert!(!page.contains(never), "{never}");
        }
        assert!(page.contains("&lt;script&gt;alert(1)"), "the text is there");
        // Of what the checks say, nothing turns the text round; the other texts are escaped where they are made.
        for tag in tags(&page) {
            let tag = tag.trim_start_matches('/');
            let known = tags(&plain)
                .iter()
                .any(|known| known.trim_start_matches('/') == tag);
            assert!(
                known || ["code", "div", "ul", "li", "dl", "dt", "dd"].contains(&tag),
                "{tag}"
            );
        }
        let (opened, closed) = (page.matches("<td").count(), page.matches("</td>").count());
        assert_eq!(opened, closed);
    }
}

#[test]
fn the_verdict_is_the_first_that_is_read() {
    for (finding, title) in [
        (account(|_| Ok(Finding::passed("", ""))), "Trusted"),
        (
            account(|id| match id {
                Id::LaunchKernel => Ok(Finding::accepted("", "launch.kernel = \"any\"", "")),
                _ => Ok(Finding::passed("", "")),
            }),
            "Trusted, but not all was checked",
        ),
        (
            account(|id| match id {
                Id::LaunchKernel => Err(Finding::failed("", "", "")),
                _ => Ok(Finding::passed("", "")),
            }),
            "Not trusted",
        ),
    ] {
        let page = page(&finding);
        let (_, rest) = page.split_once("<h1>").unwrap();
        assert_eq!(rest.split_once("</h1>").unwrap().0, title);
        assert!(page.contains(&format!("<title>{title}: ")));
    }
}
