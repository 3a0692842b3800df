//! An update of the L1 of a machine whose key the hardware has a part in.

use crate::machine::{Enrolled, commit};
use crate::running::Place;
use broker_protocol::release::CarrySeal;

#[test]
fn the_key_of_an_update_goes_to_both_l1s_until_the_new_one_has_the_state() {
    let place = Place::new();
    let mut one = Enrolled::without_policy(&place, "one", &["--key", "both"]);
    one.allow(&place, "one", &one.boot);
    let old = one.boot.clone();
    let new = evidence::Boot {
        firmware: evidence::FirmwareImage::with_l1(b"the next L1 VMM"),
        ..old.clone()
    };
    let broker = place.serve();
    let mut life = one.start(&broker);
    assert_eq!(life.release.carry, None);
    life.open(Some([None, None]));
    life.commit(commit(1, 1)).unwrap();

    let refused = place.fails(&["upgrade", "one", "--to", "next"]);
    assert!(refused.contains("has no policy"), "{refused}");
    let policy = place.file("next.toml", &new.policy_file());
    place.ok(&["allow", "one", policy.to_str().unwrap()]);
    assert!(
        place
            .fails(&["upgrade", "one", "--end"])
            .contains("no update")
    );
    place.ok(&["upgrade", "one", "--to", "next"]);
    assert!(place.ok(&["show", "one"]).contains("upgrade to next\n"));

    // The old one gives the state away, and may start again.
    let mut life = one.start(&broker);
    let carry = life.release.carry.clone().unwrap();
    assert_eq!(carry.seal, CarrySeal::Carry);
    life.open(None);
    life.commit(commit(2, 2)).unwrap();
    assert_eq!(one.start(&broker).release.carry.as_ref(), Some(&carry));
    // Now the state is lost with the key.
    let refused = place.fails(&["upgrade", "one", "--end"]);
    assert!(
        refused.contains("is sealed with this update's key"),
        "{refused}"
    );
    // Another policy is another one that takes it, and the key stays.
    place.ok(&["upgrade", "one", "--to", "next"]);

    // The new one takes it; it has it when it has committed.
    one.boot = new;
    let mut life = one.start(&broker);
    let taken = life.release.carry.clone().unwrap();
    assert_eq!((taken.seal, &taken.key), (CarrySeal::Own, &carry.key));
    life.open(None);
    assert!(
        place
            .fails(&["upgrade", "one", "--end"])
            .contains("start it with the L1")
    );
    life.commit(commit(3, 3)).unwrap();
    place.ok(&["upgrade", "one", "--end"]);
    assert_eq!(one.start(&broker).release.carry, None);

    let shown = place.ok(&["show", "one"]);
    for told in [
        " upgrade to policy \"next\"",
        "this one gives the state away",
        "this one takes the state",
        " upgraded to policy \"next\"",
    ] {
        assert!(shown.contains(told), "{told}: {shown}");
    }
    assert!(!shown.contains("upgrade to next\n"));
    // The key is sealed where it was kept, and another update has another.
    place.ok(&["upgrade", "one", "--to", "one-policy"]);
    let other = one.start(&broker).release.carry.clone().unwrap();
    assert_ne!(other.key, carry.key);
    place.ok(&["upgrade", "one", "--end", "--anyway"]);
    drop(broker);
    for file in ["broker.sqlite", "broker.sqlite-wal", "log"] {
        let bytes = std::fs::read(place.path("broker").join(file)).unwrap_or_default();
        assert!(
            !bytes.windows(32).any(|window| window == carry.key.0),
            "{file}"
        );
    }
}
