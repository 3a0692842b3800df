//! A channel whose other end is a function, and whose clock is counted.

use crate::{Channel, ChannelError, Deadline};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;

/// What the other side makes of the bytes that were sent and that it has not used up: bytes to receive.
pub type Peer = Box<dyn FnMut(&mut Vec<u8>) -> Vec<u8>>;

/// A channel to a [`Peer`].
pub struct Script {
    /// What was sent and not used up.
    pub sent: Vec<u8>,
    /// Bytes on their way to L1.
    pub to_receive: VecDeque<u8>,
    /// The most bytes that come at once.
    pub piece: usize,
    /// Nanoseconds that a receive takes.
    pub pace: u64,
    /// Nanoseconds from a request to the first byte of its answer.
    pub latency: Rc<Cell<u64>>,
    /// How often the channel was restarted.
    pub restarts: u32,
    /// Whether the device is gone.
    pub closed: bool,
    /// What comes later, and when.
    later: VecDeque<(u64, Vec<u8>)>,
    now: Rc<Cell<u64>>,
    peer: Peer,
}

impl core::fmt::Debug for Script {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Script").finish_non_exhaustive()
    }
}

impl Script {
    /// To this peer.
    pub fn new(peer: impl FnMut(&mut Vec<u8>) -> Vec<u8> + 'static) -> Self {
        Self {
            sent: Vec::new(),
            to_receive: VecDeque::new(),
            piece: usize::MAX,
            pace: 1,
            latency: Rc::default(),
            restarts: 0,
            closed: false,
            later: VecDeque::new(),
            now: Rc::default(),
            peer: Box::new(peer),
        }
    }

    /// Its clock, for who wants to know what it came to.
    pub fn clock(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.now)
    }

    /// What should have come by now has.
    fn arrive(&mut self) {
        let now = self.now.get();
        while self.later.front().is_some_and(|(then, _)| *then <= now) {
            let bytes = self.later.pop_front();
            self.to_receive
                .extend(bytes.into_iter().flat_map(|(_, bytes)| bytes));
        }
    }

    /// With these bytes to receive, whatever is sent.
    pub fn saying(bytes: &[u8]) -> Self {
        let mut script = Self::new(|_| Vec::new());
        script.to_receive.extend(bytes);
        script
    }
}

impl Channel for Script {
    fn now(&self) -> u64 {
        self.now.get()
    }

    fn send(&mut self, bytes: &[u8], _: Deadline) -> Result<(), ChannelError> {
        if self.closed {
            return Err(ChannelError::Closed);
        }
        self.sent.extend_from_slice(bytes);
        let answer = (self.peer)(&mut self.sent);
        let then = self.now.get() + self.latency.get();
        self.later.push_back((then, answer));
        self.arrive();
        Ok(())
    }

    fn receive(&mut self, into: &mut [u8], deadline: Deadline) -> Result<usize, ChannelError> {
        if self.closed {
            return Err(ChannelError::Closed);
        }
        self.now.set(self.now.get() + self.pace);
        if self.to_receive.is_empty()
            && let Some((then, _)) = self.later.front()
        {
            let then = (*then).min(deadline.0);
            self.now.set(self.now.get().max(then));
        }
        self.arrive();
        let count = into.len().min(self.piece).min(self.to_receive.len());
        if count == 0 {
            self.now.set(self.now.get().max(deadline.0));
            return Err(ChannelError::TimeOut);
        }
        for (to, from) in into.iter_mut().zip(self.to_receive.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    fn restart(&mut self) -> Result<(), ChannelError> {
        if self.closed {
            return Err(ChannelError::Closed);
        }
        self.restarts += 1;
        self.sent.clear();
        self.later.clear();
        self.to_receive.clear();
        Ok(())
    }
}
