//! A console: what goes through it is for L2 to judge, as on every console.

use alloc::vec;
use alloc::vec::Vec;

use super::Shown;
use crate::machine::devices::virtio::backend::QueueKind;
use crate::machine::devices::virtio::queue::Bounds;
use virtio_defs::console;

/// Descriptors of a queue. Linux fills the one for input with a page each.
const QUEUE: u16 = 64;
/// Bytes of a buffer for input at most.
const INPUT: u32 = 0x1000;
/// Bytes of output at once: Linux gives the page of a TTY, or 32 KiB of a port's file.
const OUTPUT: u32 = 0x8000;

/// What a console of the host's may do for L2: have a size. Not on the list: several ports, whose control messages come and
/// go between the host and L2's driver, and output by a write to the configuration.
pub(super) const PASSED: u64 = console::FEATURE_SIZE;

/// The size that L2 is shown, of the host's.
pub(super) fn changed(passed: u64, now: &[u8]) -> Vec<u8> {
    match passed & console::FEATURE_SIZE {
        0 => vec![0; now.len()],
        _ => now.to_vec(),
    }
}

/// A console: its size is the host's word.
pub(super) fn shown(offered: u64, host: &[u8]) -> Shown {
    let passed = offered & PASSED;
    let mut shown = vec![0; console::CONFIG_SIZE];
    let size = changed(passed, host);
    for (place, byte) in shown.iter_mut().zip(size).take(console::CONFIG_SIZE_LENGTH) {
        *place = byte;
    }
    let queue = |readable, writable| QueueKind {
        size: QUEUE,
        bounds: Bounds { readable, writable },
    };
    Shown {
        features: passed,
        passed,
        configuration: shown,
        queues: vec![queue(0, INPUT), queue(OUTPUT, 0)],
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    #[test]
    fn a_console_has_a_size_and_one_port() {
        let host = [80, 0, 25, 0, 31, 0, 0, 0, 1, 2, 3, 4];
        let shown = Kind::Console.shown(u64::MAX, &host, 0).unwrap();
        assert_eq!((shown.features, shown.passed), (1, 1));
        let configuration = [80, 0, 25, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(shown.configuration, configuration, "no number of ports");
        assert_eq!(shown.queues.len(), 2);
        let bare = Kind::Console.shown(0, &host, 0).unwrap();
        assert_eq!((bare.features, bare.configuration), (0, vec![0; 12]));
    }
}
