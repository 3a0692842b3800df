//! Streams on model devices, and what holds for them whatever kind of device it is.

use super::{Kind, Stream, StreamError};
use crate::virtio::buffers::BUFFER;
use crate::virtio::clock::{Clock, Deadline};
use crate::virtio::model::ModelClock;
use crate::virtio::model::device::{Lie, ModelHost, numbers};
use crate::virtio::model::memory::Shared;
use crate::virtio::restarts::IN_A_ROW;
use crate::virtio::ring::Broken;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// A stream, the device that it is on, and the far end.
pub(in crate::virtio) struct Bench<K: Kind<Shared>, P> {
    pub(in crate::virtio) stream: Stream<ModelHost, Shared, ModelClock, K>,
    pub(in crate::virtio) host: ModelHost,
    pub(in crate::virtio) memory: Shared,
    pub(in crate::virtio) peer: P,
    pub(in crate::virtio) clock: ModelClock,
}

impl<K: Kind<Shared>, P> Bench<K, P> {
    fn soon(&self) -> Deadline {
        Deadline::after(&self.clock, 10_000_000)
    }

    pub(in crate::virtio) fn send(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let deadline = self.soon();
        self.stream.send(bytes, &deadline)
    }

    pub(in crate::virtio) fn receive(&mut self, length: usize) -> Result<Vec<u8>, StreamError> {
        let deadline = self.soon();
        let mut into = vec![0; length];
        let count = self.stream.receive(&mut into, &deadline)?;
        into.truncate(count);
        Ok(into)
    }

    /// The queues and what is under way, while the stream is open.
    pub(in crate::virtio) fn link(&self) -> Option<&K::Link> {
        self.stream.link.as_ref()
    }

    /// Each call ends in time and gives no more bytes than asked for; no buffer is lost. The host is a hostile one.
    pub(in crate::virtio) fn every_call_ends(
        &mut self,
        seed: u64,
        holds_all: impl Fn(&K::Link) -> bool,
    ) {
        let mut number = numbers(!seed);
        for _ in 0..30 {
            let length = number() as usize % 5000;
            let start = self.clock.now();
            let result = match number() % 2 {
                0 => self.send(&vec![3; length]),
                _ => self
                    .receive(length)
                    .map(|bytes| assert!(bytes.len() <= length)),
            };
            assert!(self.clock.now() - start < 20_000_000);
            if matches!(result, Err(error) if error != StreamError::TimeOut) {
                let _ = self.stream.restart();
            }
            assert!(self.link().is_none_or(&holds_all), "a buffer is lost");
        }
    }

    /// A stream that closed starts again a bounded number of times: `fails` has the device do nothing, `keeps` the rules
    /// again.
    pub(in crate::virtio) fn starts_a_bounded_number_of_times(&mut self, keeps: impl Fn(&Self)) {
        for _ in 0..IN_A_ROW {
            self.host.model().work = Box::new(|_, _, _| None);
            assert_eq!(self.send(b"x"), Err(StreamError::TimeOut));
            // How much of it was taken nobody knows.
            assert_eq!(self.send(b"x"), Err(StreamError::Closed));
            assert_eq!(self.receive(1), Err(StreamError::Closed));
            keeps(self);
            self.stream.restart().unwrap();
            self.send(b"y").unwrap();
            assert_eq!(self.receive(100), Err(StreamError::TimeOut));
        }
        assert_eq!(self.stream.restart(), Err(StreamError::GivenUp));
    }
}

/// Lies about the first request that a device gets, and the rules that they break.
pub(in crate::virtio) const LIES: [(Lie, Broken); 3] = [
    (
        |queue, _, _| queue.push(9, 0),
        Broken::UsedId { id: 9, size: 8 },
    ),
    (
        |queue, request, _| queue.push(request.head.into(), BUFFER + 1),
        Broken::UsedLength {
            length: BUFFER + 1,
            writable: 0,
        },
    ),
    (
        |queue, _, _| queue.set_used_index(3),
        Broken::UsedIndex {
            index: 3,
            seen: 0,
            in_flight: 1,
        },
    ),
];
