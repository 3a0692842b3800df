//! The entry points of the fuzz targets with bytes from a generator, bounded and always the same.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

// Public in the crate of the fuzz targets.
#[allow(unreachable_pub)]
#[path = "../fuzz/src/lib.rs"]
mod entry_points;

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled").
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 24
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit.max(1)
    }

    /// Bytes of which one in `every` is any, and the others are small: choices that keep the rules.
    fn bytes(&mut self, count: usize, every: usize, small: usize) -> Vec<u8> {
        let byte = |_| match self.below(every) {
            0 => self.next() as u8,
            _ => self.below(small) as u8,
        };
        (0..count).map(byte).collect()
    }
}

/// Inputs from those that break hardly a rule to those that break all of them.
fn generated(rounds: usize, target: fn(&[u8])) {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    target(&[]);
    for _ in 0..rounds {
        let every = 1 + random.below(40);
        let small = 1 + random.below(0xF0);
        let count = random.below(3000);
        let bytes = random.bytes(count, every, small);
        target(&bytes);
    }
}

#[test]
fn a_queue_whose_device_is_hostile() {
    generated(4000, entry_points::driver_ring);
}

#[test]
fn disks_of_a_hostile_host() {
    generated(600, entry_points::host_block);
}

#[test]
fn consoles_of_a_hostile_host() {
    generated(600, entry_points::host_console);
}

#[test]
fn sockets_of_a_hostile_host() {
    generated(600, entry_points::host_vsock);
}

#[test]
fn devices_of_a_hostile_guest() {
    generated(1500, entry_points::l2_device);
}
