//! SIGKILL under load: what was acknowledged is there.

use crate::machine::{Enrolled, Life, commit};
use crate::running::Place;
use broker_protocol::ledger::Answer;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MACHINES: usize = 4;
const KILLS: usize = 6;

#[test]
fn a_broker_that_is_killed_loses_no_acknowledged_commit() {
    let place = Place::new();
    let machines: Vec<Enrolled> = (0..MACHINES)
        .map(|index| Enrolled::new(&place, &format!("m{index}")))
        .collect();
    let mut broker = place.serve();
    let mut lives: Vec<(Life, u64)> = machines
        .iter()
        .map(|machine| {
            let mut life = machine.start(&broker);
            life.open(Some([None, None]));
            (life, 0)
        })
        .collect();
    for kill in 0..KILLS {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (life, counter) in &mut lives {
                scope.spawn(|| load(life, counter, &over));
            }
            std::thread::sleep(Duration::from_millis(60 + 25 * kill as u64));
            broker.kill();
            over.store(true, Ordering::Relaxed);
        });
        broker = place.serve();
        for ((life, counter), machine) in lives.iter_mut().zip(&machines) {
            life.connection = broker.connect();
            acknowledged(&place, machine, life, counter);
        }
    }
    let all: u64 = lives.iter().map(|(_, counter)| counter).sum();
    assert!(
        all > (MACHINES * KILLS * 2) as u64,
        "{all} commits are no load"
    );
}

/// Looks whether all is there that was acknowledged, and goes on with what was not.
pub(crate) fn acknowledged(place: &Place, machine: &Enrolled, life: &mut Life, counter: &mut u64) {
    // The last one may or may not have come to its end; asked again, with a number that was not used, it has.
    let shown = place.ok(&["show", &machine.machine.to_string()]);
    let known = shown
        .lines()
        .find_map(|line| line.strip_prefix("latest 1 "));
    let known: u64 = known.map_or(0, |known| known.split(' ').next().unwrap().parse().unwrap());
    assert!(
        known == *counter || known == *counter + 1,
        "{known} after {counter} were acknowledged"
    );
    // L1 repeats what was not answered, byte for byte.
    life.sequence -= 1;
    let next = *counter + 1;
    assert_eq!(
        life.commit(commit(life.epoch, next)).unwrap(),
        Answer::Committed {}
    );
    *counter = next;
}

/// Commits until the broker is gone. `counter` is that of the last commit that was acknowledged.
pub(crate) fn load(life: &mut Life, counter: &mut u64, over: &AtomicBool) {
    loop {
        match life.commit(commit(life.epoch, *counter + 1)) {
            Ok(Answer::Committed {}) => *counter += 1,
            Ok(other) => panic!("{other:?}"),
            Err(_) => break,
        }
        assert!(!over.load(Ordering::Relaxed) || *counter > 0);
    }
}
