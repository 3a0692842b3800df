//! A type of device.

use alloc::vec::Vec;
use core::fmt;

use crate::lie::PlannedLie;
use crate::requests::Requests;

/// What a type of device has of its own. The transport around it is a [`Function`](crate::Function).
pub trait Device: fmt::Debug {
    /// Its type (VIRTIO chapter 5).
    fn kind(&self) -> u16;
    /// PCI class code, 24 bits.
    fn class(&self) -> u32;
    /// How many queues it has.
    fn queues(&self) -> u16;
    /// The feature bits of its type that it offers.
    fn features(&self) -> u64;
    /// Its configuration.
    fn configuration(&self) -> Vec<u8>;
    /// Does what can be done now: requests that were made available, input from outside.
    fn work(&mut self, requests: &mut Requests<'_>);
    /// Forgets every request.
    fn reset(&mut self);
    /// Does something that is wrong for its type from now on, if it knows how.
    fn lie(&mut self, _lie: PlannedLie) {}
    /// The guest makes a mark: lies may begin and end with it.
    fn mark(&mut self, _value: u8) {}
    /// The power has failed: nothing goes on.
    fn has_power(&self) -> bool {
        true
    }
    /// Whether input may come from outside at any time.
    fn hears_the_outside(&self) -> bool {
        false
    }
}
