extern crate std;

use super::*;

/// Runs `test` once, or under every interleaving that loom knows.
fn explore(test: impl Fn() + Send + Sync + 'static) {
    #[cfg(feature = "loom")]
    loom::model(test);
    #[cfg(not(feature = "loom"))]
    for _ in 0..200 {
        test();
    }
}

#[cfg(feature = "loom")]
use loom::{sync::Arc, thread};
#[cfg(not(feature = "loom"))]
use std::{sync::Arc, thread};

fn bit(vector: u8) -> Vectors {
    core::array::from_fn(|word| match usize::from(vector >> 6) == word {
        true => 1 << (vector & 63),
        false => 0,
    })
}

/// The owner leaves while another posts: it has seen the signal, or it is kicked.
#[test]
fn who_leaves_has_seen_the_signal_or_is_kicked() {
    explore(|| {
        let mailbox = Arc::new(Mailbox::new());
        let poster = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.post_vector(0x31, false))
        };
        let left = mailbox.depart();
        let kick = poster.join().unwrap();
        assert!(!left || kick == Kick::Needed, "nobody knows");
        mailbox.arrive();
        assert_eq!(mailbox.take().map(|taken| taken.edge), Some(bit(0x31)));
        assert_eq!(mailbox.take(), None);
    });
}

/// Of those who post to one that is away, one kicks.
#[test]
fn one_of_two_posters_kicks() {
    explore(|| {
        let mailbox = Arc::new(Mailbox::new());
        assert!(mailbox.depart());
        let post = |vector| {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.post_vector(vector, vector == 0x80))
        };
        let posters = [post(0x31), post(0x80)];
        let kicks = posters.map(|poster| poster.join().unwrap());
        let needed = kicks.iter().filter(|kick| **kick == Kick::Needed);
        assert_eq!(needed.count(), 1);
        assert!(mailbox.is_deaf());
        mailbox.arrive();
        let taken = mailbox.take().unwrap();
        assert_eq!((taken.edge, taken.level), (bit(0x31), bit(0x80)));
    });
}

/// A vector that is posted while others are taken is taken now or later, once.
#[test]
fn no_vector_is_lost_or_taken_twice() {
    explore(|| {
        let mailbox = Arc::new(Mailbox::new());
        let poster = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                let _ = mailbox.post_vector(0x31, false);
                let _ = mailbox.post_vector(0x32, false);
            })
        };
        let mut seen = [0; 2];
        let mut look = || {
            let taken = mailbox.take().unwrap_or_default().edge;
            for (seen, vector) in seen.iter_mut().zip([0x31, 0x32]) {
                *seen += u32::from(taken.iter().zip(bit(vector)).any(|(a, b)| a & b != 0));
            }
        };
        look();
        look();
        poster.join().unwrap();
        look();
        assert_eq!(seen, [1, 1]);
    });
}

/// INIT, start-up, start-up: the owner sees INIT no later than the start-up, and the first vector.
#[test]
fn start_up_is_told_with_or_after_its_init() {
    explore(|| {
        let mailbox = Arc::new(Mailbox::new());
        let poster = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                let _ = mailbox.post_init();
                let _ = mailbox.post_startup(0x9A);
            })
        };
        let mut told = std::vec::Vec::new();
        told.extend(mailbox.take());
        told.extend(mailbox.take());
        poster.join().unwrap();
        told.extend(mailbox.take());
        let init = told.iter().position(|taken| taken.init);
        let startup = told.iter().position(|taken| taken.startup == Some(0x9A));
        assert!(init.is_some() && init <= startup, "{told:?}");
        assert_eq!(told.iter().filter(|taken| taken.init).count(), 1);
        assert_eq!(
            told.iter().filter(|taken| taken.startup.is_some()).count(),
            1
        );
    });
}

#[cfg(not(feature = "loom"))]
#[test]
fn an_init_voids_the_start_ups_before_it_and_the_first_of_two_counts() {
    let mailbox = Mailbox::new();
    let told = |mailbox: &Mailbox| {
        let taken = mailbox.take().unwrap();
        (taken.init, taken.startup)
    };
    assert_eq!(mailbox.post_startup(1), Kick::Not);
    assert_eq!(mailbox.post_init(), Kick::Not);
    assert_eq!(told(&mailbox), (true, None));
    assert_eq!(mailbox.post_init(), Kick::Not);
    assert_eq!(mailbox.post_startup(1), Kick::Not);
    assert_eq!(mailbox.post_startup(2), Kick::Not);
    assert_eq!(told(&mailbox), (true, Some(1)));
    assert_eq!(mailbox.post_startup(3), Kick::Not);
    assert_eq!(told(&mailbox), (false, Some(3)));
    assert_eq!(mailbox.take(), None);
}

/// An NMI after the start-up is told as such, or later than it: never with the INIT, and never not at all.
#[test]
fn an_nmi_after_the_start_up_is_not_lost_with_the_init() {
    explore(|| {
        let mailbox = Arc::new(Mailbox::new());
        let poster = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                let _ = mailbox.post_init();
                let _ = mailbox.post_startup(0x9A);
                let _ = mailbox.post_nmi();
            })
        };
        let mut started = false;
        let mut nmis = 0;
        let mut look = || {
            let taken = mailbox.take().unwrap_or_default();
            assert!(!taken.nmi || started, "{taken:?}");
            started |= taken.startup.is_some();
            assert!(!taken.nmi_after_startup || started, "{taken:?}");
            nmis += u32::from(taken.nmi) + u32::from(taken.nmi_after_startup);
        };
        look();
        look();
        poster.join().unwrap();
        look();
        assert_eq!(nmis, 1);
    });
}

#[cfg(not(feature = "loom"))]
#[test]
fn an_nmi_before_the_start_up_is_told_apart_and_init_voids_it() {
    let mailbox = Mailbox::new();
    let told = |mailbox: &Mailbox| {
        let taken = mailbox.take().unwrap();
        (taken.nmi, taken.nmi_after_startup)
    };
    let _ = mailbox.post_nmi();
    let _ = mailbox.post_startup(1);
    assert_eq!(told(&mailbox), (true, false));
    let _ = mailbox.post_startup(1);
    let _ = mailbox.post_nmi();
    assert_eq!(told(&mailbox), (false, true));
    let _ = mailbox.post_nmi();
    let _ = mailbox.post_init();
    let _ = mailbox.post_nmi();
    assert_eq!(told(&mailbox), (false, false));
    let _ = mailbox.post_startup(1);
    let _ = mailbox.post_nmi();
    let _ = mailbox.post_init();
    assert_eq!(told(&mailbox), (false, false));
}

#[cfg(not(feature = "loom"))]
#[test]
fn who_is_back_is_not_kicked_and_who_leaves_again_is() {
    let mailbox = Mailbox::new();
    assert_eq!(mailbox.post_nmi(), Kick::Not);
    assert!(!mailbox.depart(), "an NMI waits");
    assert!(mailbox.take().unwrap().nmi);
    assert!(mailbox.depart());
    assert_eq!(mailbox.post_look(), Kick::Needed);
    assert_eq!(mailbox.post_stop(), Kick::Not, "kicked already");
    assert!(mailbox.is_deaf());
    mailbox.arrive();
    assert!(!mailbox.is_deaf());
    assert!(mailbox.take().unwrap().stop);
    assert!(mailbox.depart());
    assert_eq!(mailbox.post_stop(), Kick::Needed);
}
