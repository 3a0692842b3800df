//! TLS to the database.

use crate::certificates::Issuer;
use crate::cluster::Cluster;
use crate::machine::{Enrolled, commit};
use crate::pipe::Pipe;
use crate::running::Place;
use crate::storage::Storage;
use broker_protocol::ledger::Answer;
use std::path::Path;

fn url(cluster: &Cluster, host: &str, database: &str, mode: &str, issuer: &Path) -> String {
    let (port, issuer) = (cluster.port, issuer.display());
    format!("postgres://postgres@{host}:{port}/{database}?sslmode={mode}&sslrootcert={issuer}")
}

#[test]
fn a_broker_keeps_its_ledger_by_tls_on_the_server_that_it_was_told_and_no_other() {
    let files = Place::empty(Storage::Sqlite);
    let (issuer, other) = (Issuer::new(&files, "issuer"), Issuer::new(&files, "other"));
    let pair = issuer.issue(&files, "server", &["localhost"]);
    let cluster = Cluster::with_tls(&pair.certificate, &pair.key);
    let name = cluster.database();
    let full = url(&cluster, "localhost", &name, "verify-full", &issuer.file);
    let place = Place::on(Storage::Url(full));
    let one = Enrolled::new(&place, "one");
    let broker = place.serve();
    let mut life = one.start(&broker);
    life.open(Some([None, None]));
    let answer = life.commit(commit(1, 1)).unwrap();
    assert!(matches!(answer, Answer::Committed {}), "{answer:?}");
    // As the server sees it.
    let seen = "SELECT DISTINCT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                WHERE application_name = 'tdp-vtpm-broker'";
    assert_eq!(cluster.sql(&name, seen), "t|TLSv1.3\n");
    for (host, mode, issuer, why) in [
        ("localhost", "verify-full", &other, "UnknownIssuer"),
        ("localhost", "verify-ca", &other, "UnknownIssuer"),
        ("127.0.0.1", "verify-full", &issuer, "not valid for name"),
        ("localhost", "disable", &issuer, "no encryption"),
    ] {
        let wrong = url(&cluster, host, &name, mode, &issuer.file);
        let refused = Place::empty(Storage::Url(wrong)).fails(&["list"]);
        assert!(refused.contains(why), "{host} {mode}: {refused}");
    }
    // One that has no TLS is not spoken to without.
    let pipe = Pipe::to(&Cluster::shared().socket());
    let plain = format!(
        "postgres://postgres@{}/postgres?sslmode=verify-full",
        pipe.address
    );
    let refused = Place::empty(Storage::Url(plain)).fails(&["list"]);
    assert!(refused.contains("does not support TLS"), "{refused}");
}

#[test]
fn a_server_in_a_network_is_not_spoken_to_without_a_word_on_tls() {
    for (place, refused) in [
        ("db.invalid/broker", true),
        ("db.invalid/broker?sslmode=prefer", true),
        ("192.0.2.1:5433/broker?sslmode=allow", true),
        ("db.invalid/broker?sslmode=verify-full", false),
        ("db.invalid/broker?sslmode=require", false),
        ("db.invalid/broker?sslmode=disable", false),
        ("localhost:1/broker", false),
        ("127.0.0.1:1/broker", false),
        ("[::1]:1/broker", false),
        ("db.invalid/broker?host=/nowhere", false),
    ] {
        let place = Place::empty(Storage::Url(format!("postgres://u@{place}")));
        let said = place.fails(&["list"]);
        assert_eq!(said.contains("sslmode=verify-full"), refused, "{said}");
        assert_eq!(said.contains("cannot be reached"), !refused, "{said}");
    }
}
