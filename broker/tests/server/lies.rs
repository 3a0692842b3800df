//! Each lie about a request has a refusal of its own, and gets nothing.

use crate::machine::{Enrolled, Start, boot};
use crate::running::{Place, Running};
use broker_protocol::kbs::{Attestation, PATH_ATTEST, PATH_AUTH};
use evidence::Boot;

struct Fixture {
    place: Place,
    broker: Running,
    one: Enrolled,
    two: Enrolled,
}

fn fixture() -> Fixture {
    let place = Place::new();
    let (one, two) = (Enrolled::new(&place, "one"), Enrolled::new(&place, "two"));
    Fixture {
        broker: place.serve(),
        place,
        one,
        two,
    }
}

impl Fixture {
    fn begin(&self) -> Start {
        Start::new(&self.one, self.broker.connect())
    }

    /// What the broker's log calls the last refusal.
    fn logged(&self) -> String {
        let log = std::fs::read_to_string(self.place.path("broker").join("log")).unwrap();
        let line = log
            .lines()
            .rev()
            .find(|line| line.contains("-refused"))
            .unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["name"].as_str().unwrap().to_owned()
    }

    /// The error of an attestation, as it is answered and as it is logged; the session has no key.
    fn refused(&self, mut start: Start, attestation: &Attestation) -> (u16, String, String) {
        let (status, error) = start.attest(attestation).error();
        let logged = self.logged();
        assert_eq!(
            start.resource(&self.one.machine).error(),
            (401, "TokenNotFound".into())
        );
        (status, error, logged)
    }

    fn attestation_of(&self, start: &Start, boot: &Boot) -> Attestation {
        start.attestation(boot, &self.one.init_data)
    }
}

#[test]
fn another_version_or_tee_is_refused() {
    let fixture = fixture();
    let mut connection = fixture.broker.connect();
    for body in [
        r#"{"version":"0.5.0","tee":"tdx","extra-params":""}"#,
        r#"{"version":"0.1.1","tee":"tdx","extra-params":""}"#,
        r#"{"version":"0.4.0","tee":"snp","extra-params":""}"#,
    ] {
        let answer = connection.post(PATH_AUTH, &[], body.as_bytes());
        assert_eq!(answer.error(), (401, "AttestationError".into()), "{body}");
    }
    for body in ["", "{", "[]", r#"{"version":4}"#] {
        let answer = connection.post(PATH_AUTH, &[], body.as_bytes());
        assert_eq!(answer.error(), (401, "SerdeError".into()), "{body}");
    }
}

#[test]
fn evidence_of_another_request_is_refused() {
    let fixture = fixture();
    let deny = |check: &str| (401, "AttestationError".to_owned(), check.to_owned());

    // Of an earlier session: its nonce is in the runtime data, and in the quote.
    let old = fixture.begin();
    let replayed = fixture.attestation_of(&old, &fixture.one.boot);
    assert_eq!(
        fixture.refused(fixture.begin(), &replayed),
        deny("other-nonce")
    );

    // With the nonce put right, the quote is over another one.
    let start = fixture.begin();
    let mut lie = replayed.clone();
    lie.runtime_data.nonce = start.nonce.clone();
    assert_eq!(fixture.refused(start, &lie), deny("report-data"));

    // The host's key in place of L1's.
    let start = fixture.begin();
    let mut lie = fixture.attestation_of(&start, &fixture.one.boot);
    lie.runtime_data.tee_pubkey = fixture.begin().key.public();
    assert_eq!(fixture.refused(start, &lie), deny("report-data"));

    // Additional evidence that the quote does not cover.
    let start = fixture.begin();
    let mut lie = fixture.attestation_of(&start, &fixture.one.boot);
    lie.tee_evidence.additional_evidence = "{}".into();
    assert_eq!(fixture.refused(start, &lie), deny("report-data"));

    // No session, one that nobody gave, and one from before.
    let mut start = fixture.begin();
    let honest = fixture.attestation_of(&start, &fixture.one.boot);
    for cookie in [
        "",
        "kbs-session-id=",
        &"kbs-session-id=0".repeat(2),
        &format!("kbs-session-id={}", "0".repeat(64)),
    ] {
        let body = honest.to_json().unwrap();
        let answer = start
            .connection
            .post(PATH_ATTEST, &[("cookie", cookie)], &body);
        assert_eq!(answer.error(), (401, "TokenNotFound".into()), "{cookie}");
    }
    assert_eq!(start.attest(&honest).status, 200);
}

#[test]
fn another_configuration_is_refused() {
    let fixture = fixture();
    let named = |name: &str| (401, "PolicyDeny".to_owned(), name.to_owned());
    let attest = |lie: &dyn Fn(&mut Attestation)| {
        let start = fixture.begin();
        let mut attestation = fixture.attestation_of(&start, &fixture.one.boot);
        lie(&mut attestation);
        fixture.refused(start, &attestation)
    };
    let document = |text: String| {
        move |attestation: &mut Attestation| {
            attestation.init_data.as_mut().unwrap().body = text.clone();
        }
    };
    let own = &fixture.one.init_data;
    let config = (401, "AttestationError".to_owned(), "td-config".to_owned());

    // Another machine's document, and the own one with one byte more: MRCONFIGID is not its digest.
    assert_eq!(attest(&document(fixture.two.init_data.clone())), config);
    assert_eq!(attest(&document(format!("{own}\n"))), config);
    // What MRCONFIGID would let pass where the policy takes any.
    for (from, to, name) in [
        (
            "state = \"require\"",
            "state = \"ephemeral\"",
            "other-state",
        ),
        ("key = \"broker\"", "key = \"both\"", "other-key"),
        (
            "rollback = \"ledger\"",
            "rollback = \"lazy\"",
            "other-rollback",
        ),
    ] {
        assert!(own.contains(from), "{from}: {own}");
        assert_eq!(attest(&document(own.replace(from, to))), named(name));
    }
    let unknown = own.replace(&fixture.one.machine.to_string(), &"0".repeat(64));
    assert_eq!(attest(&document(unknown)), named("unknown-machine"));
    let other = hex::encode(broker_of_another().to_sec1());
    let ours = hex::encode(fixture.one.identity.to_sec1());
    assert_eq!(
        attest(&document(own.replace(&ours, &other))),
        named("other-broker")
    );
    assert_eq!(
        attest(&|attestation| attestation.init_data = None).2,
        "no-init-data"
    );
    assert_eq!(attest(&document("x".into())).2, "init-data");

    // A host that configures another machine's document, and shows it: that machine's policy does not know this boot.
    let start = fixture.begin();
    let lie = start.attestation(&boot(&fixture.two.init_data), own);
    assert_eq!(fixture.refused(start, &lie), config);
}

/// The host chooses MRCONFIGID, and with it the document: its TD is genuine, and the policy takes any.
#[test]
fn where_a_policy_takes_any_document_key_and_state_are_those_of_the_enrolment() {
    let place = Place::new();
    let one = Enrolled::without_policy(&place, "one", &["--key", "both"]);
    let digest = hex::encode(one.boot.td.mrconfigid);
    let policy = one.boot.policy_file();
    let any = policy.replace(
        &format!("mrconfigid = [\"{digest}\"]"),
        "mrconfigid = \"any\"",
    );
    assert_ne!(any, policy);
    let any = place.file("any.toml", &any);
    place.ok(&["allow", "one", any.to_str().unwrap()]);
    let own = one.init_data.clone();
    let fixture = Fixture {
        broker: place.serve(),
        two: Enrolled::new(&place, "two"),
        place,
        one,
    };
    let presented = |document: &str| {
        let mut start = fixture.begin();
        let attestation = start.attestation(&boot(document), document);
        match start.attest(&attestation).status {
            200 => {
                start.release().unwrap();
                "passed".into()
            }
            _ => fixture.logged(),
        }
    };
    let alone = own.replace("key = \"both\"", "key = \"broker\"");
    let ephemeral = own.replace("state = \"require\"", "state = \"ephemeral\"");
    assert_eq!(presented(&own), "passed");
    assert_eq!(presented(&alone), "other-key");
    assert_eq!(presented(&ephemeral), "other-state");
    assert_eq!(presented(&format!("{own}\n")), "passed");
    // The owner takes another one for the machine's.
    let configure = |text: &str| {
        let file = fixture.place.file("document.toml", text);
        let file = file.to_str().unwrap().to_owned();
        fixture.place.command(&["configure", "one", &file])
    };
    assert!(configure(&alone).status.success());
    assert_eq!(presented(&alone), "passed");
    assert_eq!(presented(&own), "other-key");
    let lazy = own.replace("rollback = \"ledger\"", "rollback = \"lazy\"");
    for (other, why) in [
        (fixture.two.init_data.as_str(), "is of machine"),
        (&lazy, "rollback = \"lazy\""),
        ("x", "document.toml"),
    ] {
        let output = configure(other);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{said}");
    }
    let shown = fixture.place.ok(&["show", "one"]);
    assert!(shown.contains("\nkey broker\nstate require\n"), "{shown}");
    assert!(shown.contains(" configured key \"broker\""), "{shown}");
}

fn broker_of_another() -> broker_protocol::jws::Identity {
    let scalar = zeroize::Zeroizing::new([9; 32]);
    broker_protocol::jws::IdentityKey::from_random(&scalar)
        .unwrap()
        .identity()
}

#[test]
fn another_boot_is_refused_by_the_check_that_it_fails() {
    let fixture = fixture();
    let own = &fixture.one.boot;
    let debug = evidence::Boot {
        td: tdx_module::TdParams {
            attributes: own.td.attributes | 1,
            ..own.td.clone()
        },
        ..own.clone()
    };
    let boots: [(&str, Boot); 5] = [
        (
            "launch-kernel",
            Boot {
                kernel: evidence::bz_image(b"another"),
                ..own.clone()
            },
        ),
        (
            "launch-command-line",
            Boot {
                command_line: "init=/bin/sh".into(),
                ..own.clone()
            },
        ),
        (
            "launch-initrd",
            Boot {
                initrd: None,
                ..own.clone()
            },
        ),
        (
            "mrtd",
            Boot {
                firmware: evidence::FirmwareImage::with_l1(b"another"),
                ..own.clone()
            },
        ),
        ("td-debug", debug),
    ];
    for (check, boot) in boots {
        let start = fixture.begin();
        let attestation = fixture.attestation_of(&start, &boot);
        let expected = (401, "AttestationError".to_owned(), check.to_owned());
        assert_eq!(fixture.refused(start, &attestation), expected);
    }
    // The trail is told once of what a host can do as often as it likes.
    let events = fixture.place.ok(&["events"]);
    assert_eq!(events.matches(" evidence-refused ").count(), 1, "{events}");
    // The page shows the last verdict, which a platform's quote vouches for.
    let page = fixture.broker.look("/");
    assert!(
        page.contains("<td>td-debug<td class=\"failed\">failed"),
        "{page}"
    );

    // A quote that no platform signed changes nothing there.
    let start = fixture.begin();
    let mut lie = fixture.attestation_of(&start, own);
    let mut quote = lie.quote().unwrap();
    quote[100] ^= 1;
    lie = Attestation::new(
        Some(&fixture.one.init_data),
        lie.runtime_data.clone(),
        &quote,
        &lie.event_log().unwrap(),
    );
    assert_eq!(fixture.refused(start, &lie).2, "quote-signature");
    assert_eq!(fixture.broker.look("/"), page);
}

#[test]
fn a_session_gets_the_key_of_its_own_machine_alone() {
    let fixture = fixture();
    let mut start = fixture.begin();
    let attestation = fixture.attestation_of(&start, &fixture.one.boot);
    assert_eq!(
        start.resource(&fixture.one.machine).error(),
        (401, "TokenNotFound".into())
    );
    assert_eq!(start.attest(&attestation).status, 200);
    assert_eq!(
        start.resource(&fixture.two.machine).error(),
        (401, "PolicyDeny".into())
    );
    let answer = start.connection.get(
        "/kbs/v0/resource/default/key/1",
        &[("cookie", &start.cookie)],
    );
    assert_eq!(answer.error(), (404, "PluginNotFound".into()));
    fixture.place.ok(&["revoke", "one"]);
    assert_eq!(
        start.resource(&fixture.one.machine).error(),
        (401, "PolicyDeny".into())
    );
    assert_eq!(fixture.refused_by_standing(), "revoked");
    fixture.place.ok(&["revoke", "one", "--undo"]);
    start.release().unwrap();
}

impl Fixture {
    fn refused_by_standing(&self) -> String {
        let mut start = self.begin();
        let attestation = self.attestation_of(&start, &self.one.boot);
        assert_eq!(
            start.attest(&attestation).error(),
            (401, "PolicyDeny".into())
        );
        self.logged()
    }
}

#[test]
fn what_is_too_large_or_no_request_is_refused_and_the_next_is_served() {
    let fixture = fixture();
    for (path, size) in [(PATH_AUTH, 65_537), (PATH_ATTEST, (1 << 20) + 1)] {
        let mut connection = fixture.broker.connect();
        let answer = connection.post(path, &[("cookie", "kbs-session-id=0")], &vec![b' '; size]);
        assert!(
            matches!(answer.status, 401 | 413),
            "{path}: {}",
            answer.status
        );
    }
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "\0\0\0\0",
        "POST /kbs/v0/auth HTTP/9\r\n\r\n",
    ] {
        let mut connection = fixture.broker.connect();
        let answer = connection.raw(request.as_bytes());
        assert!(
            answer.is_err() || answer.unwrap().status >= 400,
            "{request:?}"
        );
    }
    let mut connection = fixture.broker.connect();
    assert_eq!(connection.get("/healthz", &[]).text(), "ok\n");
    // What is the operator's is not at the machines' address.
    for path in ["/", "/metrics"] {
        assert_eq!(connection.get(path, &[]).status, 404);
    }
}
