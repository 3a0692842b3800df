//! What the guest reads without exits is what a read by an exit gives.

use super::*;
use crate::ptp::register_pages::RegisterPages;

/// The five pages as the guest reads them, and every value that START had there.
#[derive(Clone)]
struct Pages(Arc<Mutex<(Vec<u8>, Vec<u32>)>>);

impl Pages {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().0.clone()
    }

    fn starts(&self) -> Vec<u32> {
        self.0.lock().unwrap().1.clone()
    }
}

impl RegisterPages for Pages {
    fn show(&mut self, at: u32, bytes: &[u8]) {
        let mut pages = self.0.lock().unwrap();
        let at = at as usize;
        pages.0[at..at + bytes.len()].copy_from_slice(bytes);
        if at == offset::CTRL_START as usize {
            pages.1.push(u32::from_le_bytes(bytes.try_into().unwrap()));
        }
    }
}

fn shown(guest: &mut Guest) -> Pages {
    let pages = Pages(Arc::new(Mutex::new((
        vec![0xCC; 5 * PAGE as usize],
        Vec::new(),
    ))));
    guest.0.show_in(Box::new(pages.clone()));
    pages
}

/// Every byte of the window, by exits.
fn read(guest: &mut Guest) -> Vec<u8> {
    let mut bytes = vec![0; 5 * PAGE as usize];
    guest.0.read(0, &mut bytes);
    bytes
}

fn is_as_read(guest: &mut Guest, pages: &Pages, after: &str) {
    let (read, shown) = (read(guest), pages.bytes());
    if let Some(at) = (0..read.len()).find(|at| read[*at] != shown[*at]) {
        panic!(
            "{after}: {at:#x} is {:#x}, and {:#x} is shown",
            read[at], shown[at]
        );
    }
}

#[test]
fn pages_show_every_register_after_each_step_of_a_command() {
    let mut guest = Guest::new();
    let pages = shown(&mut guest);
    is_as_read(&mut guest, &pages, "reset");
    guest.control_locality(0, REQUEST);
    is_as_read(&mut guest, &pages, "request");
    guest.write32(0, offset::CTRL_REQ, COMMAND_READY);
    is_as_read(&mut guest, &pages, "cmdReady");
    guest.put(0, &message(&[0x5A; 600]));
    guest.write(0, 0xFFF, &[0x77]);
    is_as_read(&mut guest, &pages, "command");
    guest.start(0);
    is_as_read(&mut guest, &pages, "response");
    guest.write32(0, offset::CTRL_CANCEL, 1);
    guest.write32(0, offset::INT_ENABLE, u32::MAX);
    guest.write32(0, offset::INTF_ID, 1 << 19);
    is_as_read(&mut guest, &pages, "other registers");
    guest.control_locality(2, SEIZE);
    is_as_read(&mut guest, &pages, "seizure");
    guest.write32(2, offset::CTRL_REQ, GO_IDLE);
    guest.control_locality(2, RELINQUISH);
    is_as_read(&mut guest, &pages, "relinquish");
    guest.0.reset().unwrap();
    is_as_read(&mut guest, &pages, "reset");
}

#[test]
fn pages_show_the_response_to_a_command_that_came_without_exits() {
    let (mut guest, buffer) = Guest::with_pages();
    let pages = shown(&mut guest);
    let command = message(&[3; 40]);
    buffer.set(0, &command);
    guest.start(0);
    is_as_read(&mut guest, &pages, "response");
    assert_eq!(pages.bytes()[0x80..][..60], message(&command));
}

/// Another processor of the guest does not take a command that runs for one that is over.
#[test]
fn pages_show_that_a_command_runs() {
    let mut guest = Guest::ready();
    let pages = shown(&mut guest);
    guest.start(1);
    assert_eq!(pages.starts(), [0; 0]);
    guest.start(0);
    assert_eq!(pages.starts(), [1, 0]);
}

#[test]
fn pages_of_a_fifo_show_nothing() {
    let mut fifo = Guest(Interface::new(Echo::default()));
    let pages = shown(&mut fifo);
    fifo.write(0, 0, &[2]);
    assert_eq!(pages.bytes(), [0xCC; 5 * PAGE as usize]);
}

mod properties {
    use super::super::robustness::{Act, acts};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pages_are_as_what_is_read(acts in acts()) {
            let mut guest = Guest::new();
            let pages = shown(&mut guest);
            for act in acts {
                match act {
                    Act::Write(place, bytes) => guest.0.write(place, &bytes),
                    Act::Read(..) | Act::Page(..) => {}
                }
                prop_assert!(read(&mut guest) == pages.bytes());
            }
        }
    }
}
