//! The command line: exit codes, the table, JSON and `--explain`.
#![allow(
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

use evidence::{Boot, Evidence};
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

static HONEST: LazyLock<Evidence> = LazyLock::new(|| Boot::default().evidence());

/// A directory with evidence and a policy.
struct Desk(PathBuf);

impl Desk {
    fn new(name: &str) -> Desk {
        let directory =
            std::env::temp_dir().join(format!("verifier-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let desk = Desk(directory);
        desk.put("evidence.json", &HONEST.bundle.to_json().unwrap());
        desk.put("policy.toml", &Boot::default().policy_file());
        desk
    }

    fn put(&self, name: &str, content: &str) {
        std::fs::write(self.0.join(name), content).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let roots = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/quoting/pki");
        Command::new(env!("CARGO_BIN_EXE_verifier"))
            .current_dir(&self.0)
            .args(["evidence.json", "--policy", "policy.toml", "--roots"])
            .arg(roots)
            .args(["--time", "2026-01-01T00:00:00Z"])
            .args(arguments)
            .output()
            .unwrap()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn nonce() -> String {
    hex::encode(&HONEST.nonce)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn good_evidence_exits_with_0() {
    let desk = Desk::new("good");
    let output = desk.run(&["--nonce", &nonce(), "--explain"]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}");
    for line in [
        "ok       quote-signature",
        "skipped  ak-certified",
        "trusted: ",
        "CC event log: ",
        "L1: command line of L2: console=ttyS0 ima_policy=tcb",
        "journal: start: engine libtpms ",
        "end of L1's part",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    assert!(!out.contains("not known"), "{out}");
}

#[test]
fn a_broken_link_exits_with_1_and_is_named() {
    let desk = Desk::new("broken");
    let output = desk.run(&["--nonce", "0011"]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{out}");
    assert!(out.contains("NOT TRUSTED: nonce-claims"), "{out}");
    assert!(out.contains("expected: 0011"), "{out}");

    let output = desk.run(&["--nonce", "0011", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["trusted"], false);
    assert_eq!(report["first_failure"], "nonce-claims");
    let checks = report["checks"].as_array().unwrap();
    assert_eq!(checks.len(), verifier::Id::ALL.len());
    assert_eq!(checks[1]["id"], "nonce-claims");
    assert_eq!(checks[1]["outcome"], "failed");

    desk.put("evidence.json", "{}");
    let output = desk.run(&["--nonce", &nonce()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("NOT TRUSTED: bundle-format"));
}

#[test]
fn what_the_policy_accepts_unseen_exits_with_3_and_is_named() {
    let desk = Desk::new("unseen");
    let policy = Boot::default().policy_file();
    let kernel = policy
        .lines()
        .find(|line| line.starts_with("kernel = "))
        .unwrap();
    let policy = policy.replace(kernel, "kernel = \"any\"");
    desk.put("policy.toml", &policy);
    let output = desk.run(&["--nonce", &nonce()]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{out}");
    for line in [
        "\naccepted launch-kernel         the kernel was not compared: the policy accepts any: launch.kernel = \"any\" [",
        "trusted, but for what the policy accepts unseen: ",
        "\n  launch-kernel         launch.kernel = \"any\"\n",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }

    let output = desk.run(&["--nonce", &nonce(), "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["trusted"], true);
    assert_eq!(report["verdict"], "accepted");
    assert_eq!(report["accepted"], serde_json::json!(["launch-kernel"]));
    let checks = report["checks"].as_array().unwrap();
    let kernel = checks
        .iter()
        .find(|check| check["id"] == "launch-kernel")
        .unwrap();
    assert_eq!(kernel["outcome"], "accepted");
    assert_eq!(kernel["by"], "launch.kernel = \"any\"");

    // A broken link counts more.
    let output = desk.run(&["--nonce", "0011"]);
    assert_eq!(output.status.code(), Some(1));
}

/// JSON and page say the same, beside what standard output says.
#[test]
fn the_page_says_what_the_json_says() {
    let desk = Desk::new("page");
    let html = desk.0.join("verdict.html");
    let output = desk.run(&["--nonce", "0011", "--json", "--html", "verdict.html"]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let page = std::fs::read_to_string(&html).unwrap();
    let said = |value: &serde_json::Value| {
        let escaped = value
            .as_str()
            .unwrap()
            .replace('&', "&amp;")
            .replace('<', "&lt;");
        let escaped = escaped
            .replace('>', "&gt;")
            .replace('"', "&quot;")
            .replace('\'', "&#39;");
        assert!(page.contains(&escaped), "{escaped}");
    };
    for check in json["checks"].as_array().unwrap() {
        said(&check["id"]);
        said(&check["found"]);
    }
    let logs = json["event_logs"].as_array().unwrap();
    assert_eq!(logs.len(), 2);
    for event in logs
        .iter()
        .flat_map(|log| log["events"].as_array().unwrap())
    {
        for member in ["register", "event_type", "explanation", "digest"] {
            said(&event[member]);
        }
        let outcome = event["outcome"].as_str().unwrap();
        assert!(["passed", "not-reached"].contains(&outcome), "{event}");
    }
    let about = &json["about"];
    for file in [&about["evidence"], &about["policy"]] {
        said(&file["name"]);
        said(&file["sha256"]);
    }
    said(&about["time"]);
    assert_eq!(about["time"], "2026-01-01T00:00:00Z");
    assert!(page.contains("<h1>Not trusted</h1>"), "{page}");

    // With the table, which is as it is without.
    let output = desk.run(&["--nonce", &nonce(), "--html", "verdict.html"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("\ntrusted: "));
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("<h1>Trusted</h1>"), "{page}");
    // A verdict that cannot be written down is none.
    let output = desk.run(&["--nonce", &nonce(), "--html", "no/such/folder.html"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--html"));
}

#[test]
fn what_cannot_be_read_exits_with_2() {
    let desk = Desk::new("unreadable");
    for arguments in [
        &["--nonce", "xyz"][..],
        &["--nonce", ""],
        &[],
        &["--nonce", "00", "--time", "yesterday"],
    ] {
        assert_eq!(desk.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    desk.put("policy.toml", "[td]\nmrdt = \"any\"");
    let output = desk.run(&["--nonce", "00"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("mrdt"));
    // What the policy says is shown as it is, but for what would rewrite the terminal.
    desk.put("policy.toml", "[launch]\nkernel = \"\u{202e}\u{1b}[2J\"");
    let output = desk.run(&["--nonce", "00"]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        error.contains("\\u{202e}") && !error.contains(['\u{202e}', '\u{1b}']),
        "{error}"
    );
    std::fs::remove_file(desk.0.join("policy.toml")).unwrap();
    assert_eq!(desk.run(&["--nonce", "00"]).status.code(), Some(2));
}
