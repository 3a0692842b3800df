//! Openings and commits, and each way in which a host can have them go wrong.

use crate::machine::{Enrolled, Life, commit, slot};
use crate::running::{Place, Running};
use crate::storage::Kind;
use broker_protocol::ledger::{self, Answer, Envelope, Request};

fn started() -> (Place, Running, Enrolled) {
    let place = Place::new();
    let one = Enrolled::new(&place, "one");
    let broker = place.serve();
    (place, broker, one)
}

fn committed(life: &mut Life, counter: u64) {
    let commit = commit(life.epoch, counter);
    assert_eq!(life.commit(commit).unwrap(), Answer::Committed {});
}

#[test]
fn a_state_is_opened_and_committed_and_the_older_twin_is_fenced() {
    let (place, mut broker, one) = started();
    let mut first = one.start(&broker);
    let grant = first.open(Some([None, None]));
    assert_eq!((grant.epoch, grant.latest), (1, None));
    committed(&mut first, 1);
    committed(&mut first, 2);
    // A restart of the broker ends nothing: sessions are in the database.
    broker.kill();
    let broker = place.serve();
    first.connection = broker.connect();
    committed(&mut first, 3);

    let mut second = one.start(&broker);
    let disk = [commit(1, 2), commit(1, 3)].map(|commit| Some(slot(one.machine, commit)));
    let grant = second.open(Some(disk));
    assert_eq!((grant.epoch, grant.latest), (2, Some(commit(1, 3))));
    assert_eq!(first.refused(Request::Commit(commit(1, 4))), "fenced");
    // Nor with the number of the other's epoch, of which it may have heard.
    assert_eq!(first.refused(Request::Commit(commit(2, 4))), "wrong-epoch");
    committed(&mut second, 4);
    let shown = place.ok(&["show", "one"]);
    assert!(
        shown.contains(&format!("latest 2 4 {}", commit(2, 4).digest)),
        "{shown}"
    );
    assert!(
        shown.contains("ledger-refused fenced: epoch 1 is over"),
        "{shown}"
    );
    let metrics = broker.look("/metrics");
    let fenced = "tdp_vtpm_broker_ledger_requests_total{request=\"commit\",answer=\"fenced\"} 1";
    assert!(metrics.contains(fenced), "{metrics}");
}

#[test]
fn each_wrong_disk_is_refused_by_name_and_ends_no_lease() {
    let (place, broker, one) = started();
    let other = Enrolled::new(&place, "other");
    let mut first = one.start(&broker);
    first.open(Some([None, None]));
    (1..=3).for_each(|counter| committed(&mut first, counter));
    let own = |epoch, counter| Some(slot(one.machine, commit(epoch, counter)));
    let foreign = Some(slot(other.machine, commit(1, 3)));
    let mut altered = own(1, 3);
    altered.as_mut().unwrap().digest = commit(9, 9).digest;
    let mut twin = one.start(&broker);
    for (disk, name) in [
        ([own(1, 1), own(1, 2)], "rolled-back"),
        ([own(1, 2), altered], "altered"),
        ([foreign, None], "other-machine"),
        ([None, None], "state-missing"),
        ([own(1, 4), None], "uncommitted"),
        ([own(7, 3), own(1, 2)], "ledger-behind"),
        ([own(1, 3), own(1, 9)], "ledger-behind"),
    ] {
        assert_eq!(twin.refused(Request::Open { disk: Some(disk) }), name);
    }
    committed(&mut first, 4);
    let noted = twin.ask(Request::Refused {
        error: "OlderDisk".into(),
        detail: "commit 2 of 3\u{1b}".into(),
    });
    assert_eq!(noted.unwrap(), Answer::Noted {});
    let events = place.ok(&["events"]);
    assert!(
        events.contains("l1-refused OlderDisk: commit 2 of 3\\u{1b}"),
        "{events}"
    );
    assert!(events.contains("ledger-refused rolled-back: "), "{events}");
}

#[test]
fn a_request_that_comes_again_is_answered_the_same_and_no_other_in_its_place() {
    let (_place, broker, one) = started();
    let mut life = one.start(&broker);
    life.open(None);
    let envelope = |sequence, request| Envelope {
        session: life.session.id.clone(),
        sequence,
        request,
    };
    let seal = |envelope: &Envelope| ledger::seal_request(&life.session.key, envelope).unwrap();
    let two = seal(&envelope(2, Request::Commit(commit(1, 1))));
    let other = seal(&envelope(2, Request::Commit(commit(1, 2))));
    let one_again = seal(&envelope(1, Request::Open { disk: None }));
    let four = seal(&envelope(4, Request::Commit(commit(1, 2))));
    life.sequence = 2;
    assert_eq!(life.send(&two).unwrap(), Answer::Committed {});
    assert_eq!(life.send(&two).unwrap(), Answer::Committed {});
    let refused = |answer: Answer| match answer {
        Answer::Refused(refused) => refused.name,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(life.send(&other).unwrap()), "wrong-sequence");
    // The host repeats the opening: no epoch is raised, and the answer is not taken for another request's.
    life.sequence = 1;
    assert_eq!(refused(life.send(&one_again).unwrap()), "wrong-sequence");
    life.sequence = 4;
    assert_eq!(refused(life.send(&four).unwrap()), "wrong-sequence");
    life.sequence = 2;
    committed(&mut life, 2);
}

#[test]
fn what_has_no_code_of_the_session_changes_nothing() {
    let (place, broker, one) = started();
    let other = Enrolled::new(&place, "other");
    let mut life = one.start(&broker);
    life.open(None);
    let mut foreign = other.start(&broker);
    foreign.open(None);
    let envelope = Envelope {
        session: life.session.id.clone(),
        sequence: 2,
        request: Request::Commit(commit(1, 1)),
    };
    let honest = ledger::seal_request(&life.session.key, &envelope).unwrap();
    // Another session's key, with this session's name.
    let forged = ledger::seal_request(&foreign.session.key, &envelope).unwrap();
    let mut altered = honest.clone();
    let at = altered.body.iter().position(|byte| *byte == b'2').unwrap();
    altered.body[at] = b'3';
    let unknown = ledger::seal_request(
        &life.session.key,
        &Envelope {
            session: "0".repeat(32),
            ..envelope
        },
    );
    for lie in [forged, altered, unknown.unwrap()] {
        let code = ledger::code_text(&lie.code);
        for code in [code.as_str(), "", "00", &"0".repeat(64)] {
            let headers = [(ledger::MAC_HEADER, code)];
            let answer = life.connection.post(ledger::PATH, &headers, &lie.body);
            assert_eq!(answer.error(), (401, "TokenVerifierError".into()));
            assert!(!answer.headers.contains_key(ledger::MAC_HEADER));
        }
    }
    committed(&mut life, 1);
}

#[test]
fn a_commit_before_the_opening_is_refused() {
    let (_place, broker, one) = started();
    let mut life = one.start(&broker);
    assert_eq!(life.refused(Request::Commit(commit(0, 1))), "wrong-epoch");
    assert_eq!(life.refused(Request::Commit(commit(1, 1))), "wrong-epoch");
    life.open(Some([None, None]));
    committed(&mut life, 1);
    assert_eq!(
        life.refused(Request::Commit(commit(1, 1 << 40))),
        "wrong-counter"
    );
}

#[test]
fn a_revoked_machine_commits_nothing_more() {
    let (place, broker, one) = started();
    let mut life = one.start(&broker);
    life.open(None);
    committed(&mut life, 1);
    place.ok(&["revoke", "one"]);
    assert_eq!(life.refused(Request::Commit(commit(1, 2))), "revoked");
    place.ok(&["revoke", "one", "--undo"]);
    committed(&mut life, 2);
}

#[test]
fn a_broker_of_a_backup_gives_no_lease_until_the_owner_has_spoken() {
    let (place, broker, one) = started();
    let mut life = one.start(&broker);
    life.open(Some([None, None]));
    (1..=2).for_each(|counter| committed(&mut life, counter));
    let backup = place.path("backup.sqlite");
    place.ok(&["backup", backup.to_str().unwrap()]);
    assert!(
        place
            .fails(&["backup", backup.to_str().unwrap()])
            .contains("there already")
    );
    (3..=4).for_each(|counter| committed(&mut life, counter));
    drop(broker);

    let folder = place.path("broker");
    place.storage.lose(&folder);
    match place.is(Kind::Sqlite) {
        // As good as `restore`.
        true => drop(std::fs::copy(backup, folder.join("broker.sqlite")).unwrap()),
        false => drop(place.ok(&["restore", backup.to_str().unwrap()])),
    }
    let broker = place.serve();
    let mut again = one.start(&broker);
    let disk = [commit(1, 3), commit(1, 4)].map(|commit| Some(slot(one.machine, commit)));
    let open = |disk| Request::Open { disk: Some(disk) };
    assert_eq!(again.refused(open(disk)), "restored");
    // To revoke and to take it back is no way around that.
    place.ok(&["revoke", "one"]);
    place.ok(&["revoke", "one", "--undo"]);
    assert_eq!(again.refused(open(disk)), "restored");
    // The owner has looked at the disk, and knows that commit 4 is the last.
    let [epoch, counter, digest] = ["1", "4", &commit(1, 4).digest.to_string()].map(String::from);
    place.ok(&[
        "recover", "one", "accept", "--state", &epoch, &counter, &digest,
    ]);
    let grant = again.open(Some(disk));
    assert_eq!((grant.epoch, grant.latest), (3, Some(commit(1, 4))));
    committed(&mut again, 5);
    assert!(
        place
            .ok(&["show", "one"])
            .contains(" recovered commit 4 of epoch 1")
    );
    // A copy of the file that is no `backup` is told by the disk.
    place.ok(&["recover", "one", "fresh"]);
    let mut last = one.start(&broker);
    assert_eq!(last.refused(open(disk)), "ledger-behind");
    last.open(Some([None, None]));
}
