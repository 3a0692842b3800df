//! A console with one port that keeps the rules.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::device::ModelHost;
use super::memory::Shared;
use virtio_defs::{console, feature};

/// Its features.
const OFFERED: u64 =
    feature::VERSION_1 | feature::ACCESS_PLATFORM | feature::EVENT_IDX | console::FEATURE_MULTIPORT;

/// The far end of the port.
#[derive(Default)]
pub(crate) struct Peer {
    /// What L1 has sent.
    pub(crate) received: Vec<u8>,
    /// What L1 shall receive, a message a buffer.
    pub(crate) to_send: VecDeque<Vec<u8>>,
}

/// Clones are the same far end.
pub(crate) type Port = Rc<RefCell<Peer>>;

/// Makes a host do what it should: take what is sent, and write into what is there to write to.
pub(crate) fn honest(host: &ModelHost, peer: &Port) {
    let peer = peer.clone();
    let mut model = host.model();
    model.answer = Box::new(|queue, request, length| queue.push(request.head.into(), length));
    model.work = Box::new(move |memory, queue, request| {
        let mut peer = peer.borrow_mut();
        match queue {
            console::QUEUE_TRANSMIT => {
                peer.received.extend(request.read(memory));
                Some(0)
            }
            _ => Some(request.write(memory, &peer.to_send.pop_front()?)),
        }
    });
}

/// A host with a port, and the far end.
pub(crate) fn host(memory: &Shared) -> (ModelHost, Port) {
    let host = ModelHost::new(console::DEVICE_TYPE, 2, OFFERED, memory);
    let peer = Port::default();
    honest(&host, &peer);
    (host, peer)
}
