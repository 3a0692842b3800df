//! Servers that are set up so that they could lose what was acknowledged, and ones that are not there.

use crate::cluster::Cluster;
use crate::running::Place;
use crate::storage::Storage;
use broker::store::postgresql::{Failover, Postgresql};

#[test]
fn what_is_acknowledged_waits_for_the_disk_whatever_the_operator_has_set() {
    let place = Place::new();
    let url = place.storage.url().unwrap();
    let cluster = Cluster::shared();
    let Storage::Postgresql(name) = &place.storage else {
        panic!("not a database of PostgreSQL");
    };
    let shown = |setting: &str| cluster.sql(name, &format!("SHOW {setting}"));
    assert_eq!(shown("synchronous_commit"), "off\n");
    assert_eq!(session(&url, "synchronous_commit"), "on");
    for (setting, value, of_session) in [
        ("synchronous_commit", "local", "on"),
        ("synchronous_commit", "remote_write", "on"),
        ("synchronous_commit", "remote_apply", "remote_apply"),
        ("statement_timeout", "'7s'", "0"),
        (
            "default_transaction_isolation",
            "'serializable'",
            "read committed",
        ),
        ("search_path", "nowhere", "tdp_vtpm_broker"),
    ] {
        cluster.sql(
            name,
            &format!("ALTER DATABASE {name} SET {setting} = {value}"),
        );
        let setting = match setting {
            "default_transaction_isolation" => "transaction_isolation",
            setting => setting,
        };
        assert_eq!(session(&url, setting), of_session, "{setting} = {value}");
    }
}

/// A setting in a transaction of the broker's.
fn session(url: &str, setting: &str) -> String {
    let mut session = Postgresql::open(url, Failover::MayLose).unwrap();
    session.setting(setting).unwrap()
}

#[test]
fn a_server_that_may_forget_is_refused() {
    for setting in ["fsync", "full_page_writes"] {
        let cluster = Cluster::new(&[&format!("{setting}=off")]);
        let place = Place::empty(Storage::Url(cluster.url("postgres")));
        let refused = place.fails(&["init"]);
        assert!(
            refused.contains(&format!("the server has {setting} = off")),
            "{refused}"
        );
    }
}

#[test]
fn what_is_wrong_with_a_database_is_said_without_its_password() {
    let place = Place::empty(Storage::Postgresql(Cluster::shared().database()));
    assert!(
        place
            .fails(&["list"])
            .contains("has no broker: `init` makes one")
    );
    place.ok(&["init"]);
    assert!(place.fails(&["init"]).contains("has a broker already"));
    for (url, said) in [
        (
            "mysql://u:hidden@localhost/x",
            "--database names no PostgreSQL",
        ),
        (
            "postgres://u:hidden@127.0.0.1:1/x",
            "the database cannot be reached",
        ),
        (
            "postgres://u:hidden@localhost/x?host=/nowhere",
            "the database cannot be reached",
        ),
        ("postgres://u:hidden@localhost/x?sslmode=maybe", "its URL"),
    ] {
        let other = Place::empty(Storage::Url(url.into()));
        let refused = other.fails(&["list"]);
        assert!(refused.contains(said), "{url}: {refused}");
        assert!(!refused.contains("hidden"), "{refused}");
    }
    let url = Cluster::shared().url("nothing");
    let refused = Place::empty(Storage::Url(url)).fails(&["init"]);
    assert!(refused.contains("does not exist"), "{refused}");
}

#[test]
fn the_environment_names_the_database_as_well() {
    let place = Place::new();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tdp-vtpm-broker"))
        .arg("--directory")
        .arg(place.path("broker"))
        .arg("key")
        .env("TDP_VTPM_BROKER_DATABASE", place.storage.url().unwrap())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        place.ok(&["key"])
    );
}
