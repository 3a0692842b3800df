//! L2's virtual processors as they know each other: who takes an interrupt, and how one is told of it.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tdcall::tdvmcall::VmcallError;
use tdcall::{RawTdcall, Td};
use vcpu_signals::{Kick, Mailbox};
use x86_defs::apic::{
    DELIVERY_FIXED, DELIVERY_INIT, DELIVERY_LOWEST_PRIORITY, DELIVERY_NMI, DELIVERY_STARTUP,
    InterruptCommand, SHORTHAND_ALL, SHORTHAND_NONE, SHORTHAND_OTHERS, SHORTHAND_SELF,
};

use super::devices::ioapic::{Message, MessageSink};
use super::host;
use crate::vcpu::apic::{Address, Destination, LocalApic, Mode, VapicPage};

/// One of L2's virtual processors, for the others.
#[derive(Debug, Default)]
struct Peer {
    mailbox: Mailbox,
    /// Its local APIC's [`Address`].
    address: AtomicU64,
    /// The APIC id that the host knows its virtual processor of the TD by. Only the host is told it.
    host_id: AtomicU32,
}

/// All of them, by number.
#[derive(Debug)]
pub(crate) struct Peers(Vec<Peer>);

impl Peers {
    /// As after a reset: what is posted for one that has not come yet is there when it comes.
    pub(crate) fn new(count: u32) -> Self {
        let peer = |id| Peer {
            address: AtomicU64::new(Address::after_reset(id as u8).into_bits()),
            ..Peer::default()
        };
        Self((0..count).map(peer).collect())
    }

    /// As [`Peers::new`], of the same number. While all of them have stopped.
    pub(crate) fn reset(&self) {
        for (id, peer) in (0..).zip(&self.0) {
            peer.mailbox.clear();
            let address = Address::after_reset(id).into_bits();
            peer.address.store(address, Ordering::Release);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// What is posted for one of them.
    pub(crate) fn mailbox(&self, index: usize) -> Option<&Mailbox> {
        self.0.get(index).map(|peer| &peer.mailbox)
    }

    /// Tells the others where interrupts reach this one.
    pub(crate) fn publish(&self, index: usize, address: Address) {
        if let Some(peer) = self.0.get(index) {
            peer.address.store(address.into_bits(), Ordering::Release);
        }
    }

    /// Tells the others how the host calls this one.
    pub(crate) fn publish_host_id(&self, index: usize, id: u32) {
        if let Some(peer) = self.0.get(index) {
            peer.host_id.store(id, Ordering::Release);
        }
    }

    /// Whether nothing is posted for any of them.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.0.iter().any(|peer| peer.mailbox.is_pending())
    }

    /// Posts to one of them.
    pub(crate) fn post(
        &self,
        index: usize,
        kicks: &mut Kicks,
        post: impl FnOnce(&Mailbox) -> Kick,
    ) {
        if let Some(peer) = self.0.get(index)
            && post(&peer.mailbox) == Kick::Needed
        {
            kicks.due |= bit(index);
        }
    }

    /// Posts to all but one.
    pub(crate) fn post_others(
        &self,
        own: usize,
        kicks: &mut Kicks,
        post: impl Fn(&Mailbox) -> Kick,
    ) {
        for index in (0..self.count()).filter(|index| *index != own) {
            self.post(index, kicks, &post);
        }
    }

    fn address(&self, index: usize) -> Option<Address> {
        let bits = self.0.get(index)?.address.load(Ordering::Acquire);
        Address::from_bits(bits)
    }

    /// Those that an interrupt is meant for, a bit each.
    fn destinations(&self, destination: Destination) -> u32 {
        let named = |index: &usize| {
            let address = self.address(*index);
            address.is_some_and(|address| address.is_destination(destination))
        };
        let named = (0..self.count()).filter(named);
        named.fold(0, |all, index| all | bit(index))
    }

    /// Those whose APIC is not switched off, a bit each.
    fn present(&self) -> u32 {
        let present = |index: &usize| {
            let address = self.address(*index);
            address.is_some_and(|address| address.mode != Mode::Disabled)
        };
        let present = (0..self.count()).filter(present);
        present.fold(0, |all, index| all | bit(index))
    }
}

fn bit(index: usize) -> u32 {
    1u32.checked_shl(index as u32).unwrap_or(0)
}

fn indices(mut bits: u32) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let index = (bits != 0).then_some(bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        index
    })
}

/// The processors that one processor has undertaken to kick.
#[derive(Debug, Default)]
pub(crate) struct Kicks {
    /// To be kicked now.
    due: u32,
    /// Kicked, and perhaps not heard yet.
    sent: u32,
    /// When the first of those was, or all of them again.
    at: u64,
    /// Kicks so far.
    pub(crate) count: u64,
    /// Those of them that came late, or never, and were sent again.
    pub(crate) repeated: u64,
}

impl Kicks {
    /// None is due, and none was sent of which nothing is known.
    pub(crate) const fn are_heard(&self) -> bool {
        self.due | self.sent == 0
    }

    /// Sends what is due, and again what was not heard for `patience` ticks: an inter-processor interrupt is the
    /// host's to lose. Not under a lock.
    pub(crate) fn send<R: RawTdcall>(
        &mut self,
        peers: &Peers,
        td: &Td<R>,
        now: impl Fn() -> u64,
        patience: u64,
    ) -> Result<(), VmcallError> {
        if self.are_heard() {
            return Ok(());
        }
        let deaf = |index: &usize| peers.mailbox(*index).is_some_and(Mailbox::is_deaf);
        let deaf = indices(self.sent).filter(deaf);
        self.sent = deaf.fold(0, |all, index| all | bit(index));
        let late = self.sent != 0 && now().saturating_sub(self.at) >= patience;
        if late {
            self.repeated += u64::from(self.sent.count_ones());
        }
        let now_due = self.due | if late { self.sent } else { 0 };
        if now_due == 0 {
            return Ok(());
        }
        let earlier = self.sent != 0 && !late;
        self.due = 0;
        self.sent |= now_due;
        for index in indices(now_due) {
            if let Some(peer) = peers.0.get(index) {
                self.count += 1;
                host::kick(td, peer.host_id.load(Ordering::Acquire))?;
            }
        }
        if !earlier {
            self.at = now();
        }
        Ok(())
    }

    /// All others are to hear of something, whoever has undertaken to kick them.
    pub(crate) fn insist(&mut self, peers: &Peers, own: usize, now: u64) {
        let others = (0..peers.count()).filter(|index| *index != own);
        self.sent |= others.fold(0, |all, index| all | bit(index));
        self.at = now;
    }

    /// When to look again whether they were heard: None if all were.
    pub(crate) fn recheck(&self, peers: &Peers, patience: u64) -> Option<u64> {
        let deaf = |index| peers.mailbox(index).is_some_and(Mailbox::is_deaf);
        let waits = indices(self.sent).any(deaf);
        waits.then(|| self.at.saturating_add(patience))
    }
}

/// The way of interrupts from one processor, or from the devices that it serves, to all.
pub(crate) struct Router<'a, P> {
    /// Its own APIC.
    pub(crate) own: &'a mut LocalApic<P>,
    /// Its number.
    pub(crate) index: usize,
    /// All processors.
    pub(crate) peers: &'a Peers,
    /// Whom to kick.
    pub(crate) kicks: &'a mut Kicks,
}

impl<P: VapicPage> Router<'_, P> {
    /// Delivers what the local APIC was commanded to send.
    pub(crate) fn command(&mut self, command: InterruptCommand, wide: bool) {
        self.publish();
        let to = match command.shorthand() {
            SHORTHAND_NONE => self.peers.destinations(Destination {
                value: command.destination(),
                logical: command.logical(),
                wide,
            }),
            SHORTHAND_SELF => bit(self.index),
            SHORTHAND_ALL => self.peers.present(),
            SHORTHAND_OTHERS => self.peers.present() & !bit(self.index),
            _ => 0,
        };
        // "INIT Level De-assert" means nothing to processors with an x2APIC.
        if command.delivery_mode() == DELIVERY_INIT
            && !command.assert()
            && command.level_triggered()
        {
            return;
        }
        self.send(to, command.delivery_mode(), command.vector(), false);
    }

    /// What the APIC's owner has changed is in force for what it sends next.
    fn publish(&mut self) {
        if let Some(address) = self.own.take_changed_address() {
            self.peers.publish(self.index, address);
        }
    }

    /// Sends to each of `to`; to one of them for lowest priority. Whether an end of the interrupt will be heard of.
    fn send(&mut self, to: u32, mode: u8, vector: u8, level_triggered: bool) -> bool {
        let mut accepted = false;
        match mode {
            DELIVERY_FIXED => {
                for index in indices(to) {
                    accepted |= self.request(index, vector, level_triggered);
                }
            }
            DELIVERY_LOWEST_PRIORITY => {
                let accepts = |index: &usize| {
                    let address = self.peers.address(*index);
                    address.is_some_and(|address| address.accepts)
                };
                if let Some(index) = indices(to).find(accepts) {
                    accepted = self.request(index, vector, level_triggered);
                }
            }
            DELIVERY_NMI => {
                for index in indices(to) {
                    if index == self.index {
                        self.own.request_nmi();
                    } else {
                        self.peers.post(index, self.kicks, Mailbox::post_nmi);
                    }
                }
            }
            DELIVERY_INIT => {
                for index in indices(to) {
                    self.peers.post(index, self.kicks, Mailbox::post_init);
                }
            }
            DELIVERY_STARTUP => {
                for index in indices(to) {
                    let post = |mailbox: &Mailbox| mailbox.post_startup(vector);
                    self.peers.post(index, self.kicks, post);
                }
            }
            // SMI, and what is reserved.
            _ => {}
        }
        accepted
    }

    fn request(&mut self, index: usize, vector: u8, level_triggered: bool) -> bool {
        if index == self.index {
            return self.own.request(vector, level_triggered);
        }
        let accepts = self.peers.address(index);
        if !accepts.is_some_and(|address| address.accepts) || vector < 16 {
            return false;
        }
        let post = |mailbox: &Mailbox| mailbox.post_vector(vector, level_triggered);
        self.peers.post(index, self.kicks, post);
        true
    }
}

impl<P: VapicPage> MessageSink for Router<'_, P> {
    fn deliver(&mut self, message: Message) -> bool {
        self.publish();
        let to = self.peers.destinations(Destination {
            value: message.destination.into(),
            logical: message.logical,
            // An I/O APIC without interrupt remapping has eight bits for the destination.
            wide: false,
        });
        match message.delivery_mode {
            DELIVERY_FIXED | DELIVERY_LOWEST_PRIORITY | DELIVERY_NMI => self.send(
                to,
                message.delivery_mode,
                message.vector,
                message.level_triggered,
            ),
            _ => false,
        }
    }
}

/// The way of interrupts in a machine of one processor.
#[cfg(test)]
pub(crate) fn alone<P: VapicPage, T>(
    apic: &mut LocalApic<P>,
    with: impl FnOnce(&mut Router<'_, P>) -> T,
) -> T {
    let peers = Peers::new(1);
    peers.publish(0, apic.address());
    with(&mut Router {
        own: apic,
        index: 0,
        peers: &peers,
        kicks: &mut Kicks::default(),
    })
}

#[cfg(test)]
mod tests;
