//! Another operator's key in place of the one that there is, and cuts on the way.

use crate::machine::{Enrolled, commit};
use crate::running::Place;
use broker::configuration::{Halves, Wishes};
use broker::seal::{OperatorKey, Purpose};
use broker::store::once;
use broker_protocol::ledger::Answer;
use init_data::{Otherwise, Rollback};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

const WISHES: Wishes = Wishes {
    otherwise: Otherwise::Refuse,
    rollback: Rollback::Ledger,
    halves: Halves::Broker,
};

/// The file of the operator's key.
fn key(place: &Place) -> PathBuf {
    place.path("broker").join("operator.key")
}

fn text(place: &Place) -> String {
    std::fs::read_to_string(key(place)).unwrap()
}

fn rotations(place: &Place) -> usize {
    place
        .ok(&["events"])
        .matches(" operator-key-rotated ")
        .count()
}

#[test]
fn a_new_operators_key_opens_everything_and_the_old_one_nothing() {
    let place = Place::new();
    let one = Enrolled::new(&place, "one");
    place.ok(&["upgrade", "one", "--to", "one-policy"]);
    let mut broker = place.serve();
    let mut life = one.start(&broker);
    life.open(Some([None, None]));
    let before = life.release.clone();
    let first = life.commit(commit(1, 1)).unwrap();
    assert!(matches!(first, Answer::Committed {}), "{first:?}");

    let said = place.ok(&["rotate-key"]);
    let old = said.lines().find_map(|line| line.strip_prefix("before "));
    let old = PathBuf::from(old.unwrap());
    let [old_mode, new_mode] = [&old, &key(&place)]
        .map(|file| std::os::unix::fs::MetadataExt::mode(&file.metadata().unwrap()) & 0o777);
    assert_eq!((old_mode, new_mode), (0o600, 0o600));
    assert!(
        place
            .ok(&["events"])
            .contains(" operator-key-rotated from ")
    );
    let old_path = old.to_str().unwrap();
    let refused = place.fails(&["--operator-key", old_path, "list"]);
    assert!(
        refused.contains("not sealed with this operator's key"),
        "{refused}"
    );

    // Who serves with the old one acknowledges nothing, and is no way to lose anything.
    assert!(life.commit(commit(1, 2)).is_err());
    broker.kill();
    let broker = place.serve();
    life.connection = broker.connect();
    life.sequence -= 1;
    let second = life.commit(commit(1, 2)).unwrap();
    assert!(matches!(second, Answer::Committed {}), "{second:?}");
    let after = one.start(&broker).release;
    assert_eq!(after.key, before.key);
    assert_eq!(after.carry, before.carry);
    assert!(after.carry.is_some());

    // Whatever is sealed, the old key opens none of it.
    let old = OperatorKey::read(&old).unwrap();
    let mut opened = place.open().unwrap();
    let new = opened.operator;
    let mut sealed = Vec::new();
    once(&mut *opened.storage, |transaction| {
        sealed.clear();
        for machine in transaction.machines()? {
            let owner = machine.id.0.to_vec();
            sealed.push((Purpose::MachineKey, owner, machine.key));
        }
        for session in transaction.sessions()? {
            sealed.push((Purpose::SessionKey, session.id.into_bytes(), session.key));
        }
        for (name, value) in transaction.facts()? {
            if name == "identity" {
                sealed.push((Purpose::Identity, Vec::new(), value));
            } else if name.starts_with("upgrade ") {
                let fact: serde_json::Value = serde_json::from_slice(&value).unwrap();
                let key = hex::decode(fact["key"].as_str().unwrap()).unwrap();
                sealed.push((Purpose::UpgradeKey, one.machine.0.to_vec(), key));
            }
        }
        Ok(())
    })
    .unwrap();
    assert!(sealed.len() >= 5, "{}", sealed.len());
    for (purpose, owner, value) in sealed {
        assert!(new.open(purpose, &owner, &value).is_ok(), "{purpose:?}");
        assert!(old.open(purpose, &owner, &value).is_err(), "{purpose:?}");
    }
}

/// What an operator's command seals with a key that is the old one when it is kept would be lost.
#[test]
fn what_was_opened_before_a_rotation_keeps_nothing_after_it() {
    let place = Place::new();
    Enrolled::new(&place, "one");
    let mut opened = place.open().unwrap();
    place.ok(&["rotate-key"]);
    let enrolled = opened.enrol("two", WISHES).err().unwrap().to_string();
    assert!(enrolled.contains("was replaced meanwhile"), "{enrolled}");
    let upgraded = opened.begin_upgrade("one", "one-policy").unwrap_err();
    assert!(
        upgraded.to_string().contains("was replaced meanwhile"),
        "{upgraded}"
    );
    assert_eq!(place.ok(&["list"]).lines().count(), 1);
    assert!(!place.ok(&["show", "one"]).contains("upgrade"));
}

#[test]
fn a_rotation_that_was_cut_off_is_brought_to_its_end_or_begun_again() {
    let place = Place::new();
    Enrolled::new(&place, "one");
    let next = place.path("broker").join("operator.key.next");
    let first = text(&place);
    // Before the transaction: the key there is opens the broker, and the next one is used when it is tried again.
    let second = "5a".repeat(32) + "\n";
    std::fs::write(&next, &second).unwrap();
    assert!(place.ok(&["list"]).starts_with("one "));
    assert_eq!((text(&place), rotations(&place)), (first.clone(), 0));
    place.ok(&["rotate-key"]);
    assert_eq!((text(&place), rotations(&place)), (second.clone(), 1));
    // Behind it: the next one opens the broker, and gets its place. So with the old key's name kept, and without.
    let all = std::fs::read_dir(place.path("broker")).unwrap();
    let kept: Vec<PathBuf> = all
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("operator.key.before-"))
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    for gone in [false, true] {
        if gone {
            std::fs::remove_file(&kept[0]).unwrap();
        }
        std::fs::remove_file(key(&place)).unwrap();
        std::fs::write(key(&place), &first).unwrap();
        std::fs::write(&next, &second).unwrap();
        assert!(place.ok(&["list"]).starts_with("one "));
        assert_eq!(text(&place), second);
        assert!(!next.exists());
        assert_eq!(std::fs::read_to_string(&kept[0]).unwrap(), first);
    }
    // A key that is neither is refused as before.
    std::fs::write(key(&place), "00".repeat(32)).unwrap();
    let refused = place.fails(&["list"]);
    assert!(
        refused.contains("not sealed with this operator's key"),
        "{refused}"
    );
    std::fs::write(&next, "11".repeat(32)).unwrap();
    let refused = place.fails(&["rotate-key"]);
    assert!(
        refused.contains("not sealed with this operator's key"),
        "{refused}"
    );
}

#[test]
fn a_rotation_that_is_killed_at_any_time_loses_no_key() {
    const MACHINES: usize = 150;
    const KILLS: u32 = 16;
    let place = Place::new();
    let mut opened = place.open().unwrap();
    for machine in 0..MACHINES {
        opened.enrol(&format!("m{machine}"), WISHES).unwrap();
    }
    drop(opened);
    let keys = || -> Vec<Vec<u8>> {
        let mut opened = place.open().unwrap();
        let machines = opened.machines().unwrap();
        let key = |machine: &broker::store::Machine| {
            let purpose = Purpose::MachineKey;
            let key = opened
                .operator
                .open_key(purpose, &machine.id.0, &machine.key);
            key.unwrap().to_vec()
        };
        machines.iter().map(key).collect()
    };
    let before = keys();
    let begun = Instant::now();
    place.ok(&["rotate-key"]);
    let whole = begun.elapsed();
    assert_eq!(keys(), before);
    let (mut done, mut cut) = (1, 0);
    let mut last = text(&place);
    for kill in 0..KILLS {
        let mut command = place.program(&["rotate-key"]);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(whole.mul_f64(1.2 * f64::from(kill) / f64::from(KILLS)));
        let _ = child.kill();
        child.wait().unwrap();
        assert_eq!(keys(), before, "kill {kill}");
        let now = text(&place);
        match now == last {
            true => cut += 1,
            false => done += 1,
        }
        last = now;
        // The trail tells of those that were, and of no others.
        assert_eq!(rotations(&place), done, "kill {kill}");
    }
    assert!(cut > 0 && done > 1, "{cut} were cut off, {done} were done");
    place.ok(&["rotate-key"]);
    assert_eq!(keys(), before);
}
