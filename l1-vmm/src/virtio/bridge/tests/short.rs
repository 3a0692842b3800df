//! A host that answers with less than there is room for.

use super::*;

#[test]
fn what_a_disk_does_not_fill_has_failed_and_shows_nothing_of_l2s_memory() {
    // The last is whole, and says itself that it failed.
    for (length, status) in [(0, 1), (1, 1), (512, 1), (1024, 1), (1025, 2)] {
        let mut machine = Machine::new();
        let held = machine.hold();
        machine.offer(0, 0, 0);
        machine.guest.put(Machine::data(0), &[0x11; 1024]);
        machine.guest.put(Machine::data(0) + 0xC00, &[0]);
        machine.notify();
        let request = held.borrow()[0].clone();
        let memory = machine.host.model().memory.clone();
        let mut bytes = alloc::vec![0xDD; 1024];
        bytes.push(2);
        request.write(&memory, &bytes);
        machine.push(request.head.into(), length);
        machine.serve();
        assert_eq!(machine.driver.done(), Some((0, 1025)), "{length}");
        assert_eq!(machine.result(0), status, "{length}");
        let data = machine.guest.get(Machine::data(0), 1024);
        let told = length.min(1024) as usize;
        assert_eq!(data[..told], alloc::vec![0xDD; told]);
        assert!(data[told..].iter().all(|byte| *byte == 0), "{length}");
        assert_eq!(machine.status(), 15);
    }
}

/// Linux's driver of sockets goes by the length in the header of a packet (from 6.2 on), and what is behind the bytes that the
/// host wrote is given to whoever reads the socket.
#[test]
fn behind_what_the_host_sends_to_sockets_is_nothing_of_l2s_memory() {
    const PACKET: u32 = 1024;
    for length in [0, 44, 100, PACKET] {
        let mut machine = Machine::with_sockets();
        let held = machine.hold();
        machine
            .driver
            .describe(0, Machine::data(0), PACKET, WRITE, 0);
        machine
            .guest
            .put(Machine::data(0), &[0x11; PACKET as usize]);
        machine.driver.offer(0);
        machine.notify();
        let request = held.borrow()[0].clone();
        let memory = machine.host.model().memory.clone();
        request.write(&memory, &[0xDD; PACKET as usize]);
        machine.push(request.head.into(), length);
        machine.serve();
        assert_eq!(machine.driver.done(), Some((0, length)));
        let data = machine.guest.get(Machine::data(0), PACKET as usize);
        let (told, rest) = data.split_at(length as usize);
        assert!(told.iter().all(|byte| *byte == 0xDD), "{length}");
        assert!(rest.iter().all(|byte| *byte == 0), "{length}");
    }
}
