//! TLS at the broker's addresses, and of the proxy to it.

use crate::certificates::{Issuer, Pair};
use crate::http::{Connection, Stream};
use crate::machine::{Enrolled, Life, Start, commit};
use crate::proxy::{Proxy, challenge, connect};
use crate::running::Place;
use broker_protocol::kbs::{PATH_AUTH, Request};
use broker_protocol::ledger::Answer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        self.flush().unwrap();
    }
}

/// A connection by TLS to `address`, of a client that believes `issuer` and has a certificate, perhaps.
fn client(address: &str, issuer: &Path, own: Option<&Pair>) -> std::io::Result<Connection> {
    client_of(rustls::DEFAULT_VERSIONS, address, issuer, own)
}

fn client_of(
    versions: &[&'static rustls::SupportedProtocolVersion],
    address: &str,
    issuer: &Path,
    own: Option<&Pair>,
) -> std::io::Result<Connection> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(issuer).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(pair) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(&pair.certificate).unwrap()],
                PrivateKeyDer::from_pem_file(&pair.key).unwrap(),
            )
            .unwrap(),
    };
    let name = ServerName::try_from("localhost").unwrap();
    let tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(Duration::from_secs(60)))?;
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, tcp);
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(Connection::by(stream))
}

fn ask(connection: std::io::Result<Connection>, path: &str) -> std::io::Result<u16> {
    Ok(connection?.ask("GET", path, &[], b"")?.status)
}

/// Starts a machine by this connection.
fn start(enrolled: &Enrolled, connection: Connection) -> Life {
    let mut start = Start::new(enrolled, connection);
    let attestation = start.attestation(&enrolled.boot, &enrolled.init_data);
    let answer = start.attest(&attestation);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let release = start.release().unwrap();
    Life {
        session: release.session.clone().unwrap(),
        connection: start.connection,
        release,
        sequence: 0,
        epoch: 0,
    }
}

#[test]
fn both_addresses_are_served_by_tls_to_those_who_believe_the_issuer() {
    let place = Place::new();
    let one = Enrolled::new(&place, "one");
    let (issuer, other) = (Issuer::new(&place, "issuer"), Issuer::new(&place, "other"));
    let pair = issuer.issue(&place, "broker", &NAMES);
    let broker = place.serve_by(&pair.options());
    let mut life = start(&one, client(&broker.machines, &issuer.file, None).unwrap());
    life.open(Some([None, None]));
    let answer = life.commit(commit(1, 1)).unwrap();
    assert!(matches!(answer, Answer::Committed {}), "{answer:?}");
    for address in [&broker.machines, &broker.operator] {
        let believing = client(address, &issuer.file, None);
        assert_eq!(ask(believing, "/healthz").unwrap(), 200);
        let refused = ask(client(address, &other.file, None), "/healthz").unwrap_err();
        assert!(refused.to_string().contains("UnknownIssuer"), "{refused:?}");
        let older = client_of(&[&rustls::version::TLS12], address, &issuer.file, None);
        let refused = ask(older, "/healthz").unwrap_err();
        assert!(
            refused.to_string().contains("ProtocolVersion"),
            "{refused:?}"
        );
        // Without TLS nothing is said.
        assert!(ask(Connection::to(address), "/healthz").is_err());
    }
    let mut operator = client(&broker.operator, &issuer.file, None).unwrap();
    assert!(operator.get("/", &[]).text().contains(">epoch 1<"));
}

#[test]
fn an_operator_shows_a_certificate_where_that_is_wanted_and_a_machine_does_not() {
    let place = Place::new();
    let (issuer, other) = (Issuer::new(&place, "issuer"), Issuer::new(&place, "other"));
    let operators = Issuer::new(&place, "operators");
    let pair = issuer.issue(&place, "broker", &NAMES);
    let own = operators.issue(&place, "own", &["alice"]);
    let foreign = other.issue(&place, "foreign", &["alice"]);
    let of_operator = ["--operator-tls-client-ca", operators.path()];
    let anywhere = ["--operator-listen", "0.0.0.0:0"];
    let broker = place.serve_by(&[&pair.options()[..], &of_operator, &anywhere].concat());
    let asked = |own: Option<&Pair>, address: &str| {
        let port = address.rsplit_once(':').unwrap().1;
        let address = format!("127.0.0.1:{port}");
        ask(client(&address, &issuer.file, own), "/metrics")
    };
    assert_eq!(asked(Some(&own), &broker.operator).unwrap(), 200);
    let refused = asked(None, &broker.operator).unwrap_err();
    assert!(
        refused.to_string().contains("CertificateRequired"),
        "{refused:?}"
    );
    assert!(asked(Some(&foreign), &broker.operator).is_err());
    // Machines have none, and find no page at their address.
    assert_eq!(asked(None, &broker.machines).unwrap(), 404);
}

#[test]
fn an_operators_address_for_everybody_is_refused_unless_somebody_else_guards_it() {
    let place = Place::new();
    let issuer = Issuer::new(&place, "issuer");
    let pair = issuer.issue(&place, "broker", &NAMES);
    let roots = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/quoting/pki");
    let simulated = ["--roots", roots, "--accept-simulated-platform"];
    for address in ["0.0.0.0:0", "[::]:0"] {
        let anywhere = ["--operator-listen", address];
        for tls in [&[][..], &pair.options()] {
            let refused = place.serves_not(&[tls, &anywhere, &simulated].concat());
            assert!(
                refused.contains("is not an address of loopback")
                    && refused.contains("--operator-tls-client-ca"),
                "{refused}"
            );
        }
    }
    let guarded = ["--operator-listen", "0.0.0.0:0", "--operator-anonymous"];
    let broker = place.serve_by(&guarded);
    let port = broker.operator.rsplit_once(':').unwrap().1;
    let address = format!("127.0.0.1:{port}");
    assert_eq!(ask(Connection::to(&address), "/healthz").unwrap(), 200);
}

#[test]
fn a_certificate_is_read_again_at_a_signal_and_one_that_cannot_be_used_changes_nothing() {
    let place = Place::new();
    let (first, second) = (Issuer::new(&place, "first"), Issuer::new(&place, "second"));
    let pair = first.issue(&place, "broker", &NAMES);
    let broker = place.serve_by(&pair.options());
    let mut before = client(&broker.machines, &first.file, None).unwrap();
    // Half of it is there: the key of the new one, and the certificate of the old one.
    let next = second.issue(&place, "next", &NAMES);
    std::fs::copy(&next.key, &pair.key).unwrap();
    broker.signal("HUP");
    until(|| place.log().matches("certificate-refused").count() == 2);
    assert!(place.log().contains("is not that of the first certificate"));
    let still = client(&broker.machines, &first.file, None);
    assert_eq!(ask(still, "/healthz").unwrap(), 200);
    std::fs::copy(&next.certificate, &pair.certificate).unwrap();
    broker.signal("HUP");
    until(|| place.log().matches("certificate-read").count() == 2);
    for address in [&broker.machines, &broker.operator] {
        let new = client(address, &second.file, None);
        assert_eq!(ask(new, "/healthz").unwrap(), 200);
        assert!(client(address, &first.file, None).is_err());
    }
    // Who was there stays.
    assert_eq!(before.get("/healthz", &[]).status, 200);
}

fn until(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_is_wrong() {
    let place = Place::new();
    let issuer = Issuer::new(&place, "issuer");
    let (one, two) = (
        issuer.issue(&place, "one", &NAMES),
        issuer.issue(&place, "two", &NAMES),
    );
    let empty = place.file("empty.pem", "");
    let cut = std::fs::read_to_string(&one.certificate).unwrap();
    let cut = place.file("cut.pem", &cut[..cut.len() / 2]);
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let nonsense = place.file("nonsense.pem", nonsense);
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let locked = place.file("locked.key", locked);
    let absent = place.path("absent.pem");
    let (certificate, key) = (&one.certificate, &one.key);
    for (certificate, key, clients, what) in [
        (&absent, key, None, "absent.pem: No such file"),
        (certificate, &absent, None, "absent.pem: No such file"),
        (&empty, key, None, "empty.pem: there is no certificate"),
        (key, key, None, "one.key: there is no certificate"),
        (&cut, key, None, "cut.pem: it is no PEM"),
        (&nonsense, key, None, "nonsense.pem: "),
        (
            certificate,
            &empty,
            None,
            "empty.pem: there is no private key",
        ),
        (
            certificate,
            certificate,
            None,
            "one.pem: there is no private key",
        ),
        (certificate, &locked, None, "not encrypted"),
        (
            certificate,
            &two.key,
            None,
            "two.key is not that of the first certificate in ",
        ),
        (certificate, key, Some(&absent), "absent.pem: No such file"),
        (
            certificate,
            key,
            Some(&empty),
            "empty.pem: there is no certificate",
        ),
        (certificate, key, Some(&nonsense), "nonsense.pem: "),
    ] {
        let pair = Pair {
            certificate: certificate.clone(),
            key: key.clone(),
        };
        let clients = clients.map(|file| ["--operator-tls-client-ca", file.to_str().unwrap()]);
        let clients = clients.as_ref().map_or(&[][..], |clients| &clients[..]);
        let refused = place.serves_not(&[&pair.options()[..], clients].concat());
        assert!(refused.contains(what), "{what}: {refused}");
    }
    let half = place.serves_not(&one.options()[..2]);
    assert!(half.contains("--tls-key <FILE>"), "{half}");
}

/// What an honest client needs of 8 places that 60 clients have taken which let the broker wait.
fn gets_through(open: impl Fn() -> Connection, slow: &[&dyn Fn() -> TcpStream]) {
    let mut kept = Vec::new();
    for slow in slow {
        for _ in 0..20 {
            kept.push(slow());
        }
        let begun = Instant::now();
        for _ in 0..3 {
            let answer = open().post(PATH_AUTH, &[], &Request::to_json());
            assert_eq!(answer.status, 200);
        }
        at_once(begun);
    }
    // All is as before when they are gone.
    drop(kept);
    assert_eq!(open().get("/healthz", &[]).status, 200);
}

/// Before the broker loses patience with any of the slow clients: 10 seconds with 8 of those that make no handshake, 30
/// with those whose request does not come to its end, 600 with the others.
fn at_once(begun: Instant) {
    assert!(begun.elapsed() < Duration::from_secs(20));
}

const HALF_A_HEAD: &[u8] = b"POST /kbs/v0/auth HTTP/1.1\r\nhost: ";
const HALF_A_BODY: &[u8] = b"POST /kbs/v0/auth HTTP/1.1\r\nhost: b\r\ncontent-length: 99\r\n\r\n{";

fn saying(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

#[test]
fn clients_that_are_slow_keep_nobody_out_without_tls() {
    let place = Place::new();
    let broker = place.serve_by(&["--connections", "8"]);
    let address = broker.machines.as_str();
    gets_through(
        || broker.connect(),
        &[
            &|| saying(address, b""),
            &|| saying(address, HALF_A_HEAD),
            &|| saying(address, HALF_A_BODY),
        ],
    );
}

#[test]
fn clients_that_are_slow_keep_nobody_out_with_tls() {
    let place = Place::new();
    let issuer = Issuer::new(&place, "issuer");
    let pair = issuer.issue(&place, "broker", &NAMES);
    let broker = place.serve_by(&[&pair.options()[..], &["--connections", "8"]].concat());
    let address = broker.machines.as_str();
    let open = || client(address, &issuer.file, None).unwrap();
    gets_through(
        open,
        &[
            // Nothing; half of a first message of 256 bytes.
            &|| saying(address, b""),
            &|| saying(address, &[0x16, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3]),
        ],
    );
    let mut slow: Vec<Connection> = Vec::new();
    for bytes in [HALF_A_HEAD, HALF_A_BODY] {
        for _ in 0..20 {
            let mut one = open();
            one.begin(bytes);
            slow.push(one);
        }
        let begun = Instant::now();
        let answer = open().post(PATH_AUTH, &[], &Request::to_json());
        assert_eq!(answer.status, 200);
        at_once(begun);
    }
}

#[test]
fn a_handshake_that_does_not_go_on_ends() {
    let place = Place::new();
    let issuer = Issuer::new(&place, "issuer");
    let pair = issuer.issue(&place, "broker", &NAMES);
    let broker = place.serve_by(&pair.options());
    let mut silent = saying(&broker.machines, b"");
    silent
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    assert_eq!(silent.read(&mut [0; 16]).unwrap(), 0);
}

#[test]
fn the_proxy_speaks_tls_to_a_broker_that_is_the_one_it_was_told() {
    let place = Place::new();
    let one = Enrolled::new(&place, "one");
    let (issuer, other) = (Issuer::new(&place, "issuer"), Issuer::new(&place, "other"));
    let pair = issuer.issue(&place, "broker", &["localhost"]);
    let broker = place.serve_by(&pair.options());
    let port = broker.machines.rsplit_once(':').unwrap().1;
    let by_name = format!("https://localhost:{port}");
    let socket = place.path("channel");
    let listen = ["--listen", socket.to_str().unwrap()];
    let proxy = Proxy::start(&[&listen[..], &["--ca", issuer.path()]].concat(), &by_name);
    let channel = connect(&socket);
    channel
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut life = start(&one, Connection::by(channel));
    life.open(Some([None, None]));
    let answer = life.commit(commit(1, 1)).unwrap();
    assert!(matches!(answer, Answer::Committed {}), "{answer:?}");
    drop(proxy);
    // Another issuer; a name that the certificate has not.
    let by_address = format!("https://127.0.0.1:{port}");
    for (url, ca, why) in [
        (&by_name, other.path(), "UnknownIssuer"),
        (&by_address, issuer.path(), "not valid for name"),
    ] {
        let socket = place.path("other-channel");
        let _ = std::fs::remove_file(&socket);
        let mut child = Command::new(env!("CARGO_BIN_EXE_tdp-vtpm-proxy"))
            .args(["--listen", socket.to_str().unwrap(), "--ca", ca])
            .args(["--broker", url])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        assert!(!challenge(&mut connect(&socket)));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(why), "{why}: {said}");
        assert_eq!(said.matches("the broker is not there").count(), 1, "{said}");
    }
}

#[test]
fn the_proxy_says_which_address_it_cannot_use() {
    for (broker, ca, why) in [
        ("broker.example", None, "is not HOST:PORT"),
        ("127.0.0.1:1", Some("/dev/null"), "--ca is of https://"),
        (
            "https://127.0.0.1:1",
            Some("/dev/null"),
            "there is no certificate",
        ),
        ("https://a_b..c:1", Some("/dev/null"), "/dev/null"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tdp-vtpm-proxy"));
        command.args(["--connect", "/nonexistent/socket", "--broker", broker]);
        if let Some(ca) = ca {
            command.args(["--ca", ca]);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{said}");
    }
}

/// Where this machine has curl: it is no part of the tests' needs.
#[test]
fn curl_sees_the_addresses_as_it_should() {
    let place = Place::new();
    let issuer = Issuer::new(&place, "issuer");
    let pair = issuer.issue(&place, "broker", &NAMES);
    let own = issuer.issue(&place, "own", &["alice"]);
    let clients = ["--operator-tls-client-ca", issuer.path()];
    let broker = place.serve_by(&[&pair.options()[..], &clients].concat());
    let curl = |address: &str, options: &[&str]| {
        let url = format!("https://{address}/healthz");
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--noproxy", "*", &url])
            .args(["--max-time", "60"])
            .args(options)
            .output()
            .ok()?;
        Some((output.status.success(), output.stdout))
    };
    let fine = Some((true, b"ok\n".to_vec()));
    let ca = ["--cacert", issuer.path()];
    let Some(first) = curl(&broker.machines, &ca) else {
        return;
    };
    assert_eq!(Some(first), fine);
    let none = Some((false, Vec::new()));
    assert_eq!(curl(&broker.machines, &[]), none);
    assert_eq!(curl(&broker.operator, &ca), none);
    let path = |file: &PathBuf| file.to_str().unwrap().to_owned();
    let (certificate, key) = (path(&own.certificate), path(&own.key));
    let own = ["--cert", &certificate, "--key", &key];
    assert_eq!(curl(&broker.operator, &[&ca[..], &own].concat()), fine);
}
