//! The operator's command, and what the operator's address shows.

use crate::machine::Enrolled;
use crate::running::Place;

#[test]
fn a_broker_is_made_once_and_is_one_operators() {
    let place = Place::new();
    assert!(place.fails(&["init"]).contains("has a broker already"));
    let key = place.ok(&["key"]);
    assert_eq!(key.trim().len(), 66);
    Enrolled::new(&place, "one");
    assert!(place.fails(&["enrol", "one"]).contains("is taken"));
    assert!(place.fails(&["enrol", "<b>"]).contains("is no name"));
    assert!(
        place
            .fails(&["show", "two"])
            .contains("there is no machine")
    );
    assert!(
        place
            .fails(&["disallow", "one", "other"])
            .contains("has no policy")
    );
    let nonsense = place.file("nonsense.toml", "x = 1");
    assert!(
        place
            .fails(&["allow", "one", nonsense.to_str().unwrap()])
            .contains("nonsense.toml")
    );
    let listed = place.ok(&["list"]);
    assert!(
        listed.starts_with("one ") && listed.ends_with(" enrolled epoch 0 counter 0\n"),
        "{listed}"
    );

    let other = place.file("other.key", &"0".repeat(64));
    let refused = place.fails(&["--operator-key", other.to_str().unwrap(), "list"]);
    assert!(
        refused.contains("not sealed with this operator's key"),
        "{refused}"
    );
}

#[test]
fn the_simulated_platform_is_trusted_only_when_that_is_said() {
    let place = Place::new();
    let roots = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/quoting/pki");
    let refused = place.fails(&["serve", "--roots", roots, "--listen", "127.0.0.1:0"]);
    assert!(refused.contains("whose keys everybody has"), "{refused}");
}

#[test]
fn the_page_shows_machines_epochs_and_the_last_verdict() {
    let place = Place::new();
    let one = Enrolled::new(&place, "one");
    let broker = place.serve();
    let page = broker.look("/");
    assert!(
        page.contains("<td>none yet<td>none yet<td>none yet"),
        "{page}"
    );
    one.start(&broker).open(Some([None, None]));
    let page = broker.look("/");
    assert!(
        page.contains("<td>epoch 1<td>none yet<td><span class=\"checked\">checked</span>"),
        "{page}"
    );
    assert!(
        page.contains("<td>launch-kernel<td class=\"passed\">passed"),
        "{page}"
    );
    assert!(page.contains("<td>opened<td>"), "{page}");
    assert_eq!(broker.look("/healthz"), "ok\n");
    let metrics = broker.look("/metrics");
    for line in [
        "tdp_vtpm_broker_challenges_total 1",
        "tdp_vtpm_broker_attestations_total{outcome=\"passed\"} 1",
        "tdp_vtpm_broker_releases_total{outcome=\"released\"} 1",
        "tdp_vtpm_broker_ledger_requests_total{request=\"open\",answer=\"done\"} 1",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    // Every line of the log is a JSON object of its own.
    let log = std::fs::read_to_string(place.path("broker").join("log")).unwrap();
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}
