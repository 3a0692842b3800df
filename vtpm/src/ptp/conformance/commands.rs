//! A command's way in and a response's way out (PTP 1.05, TPM_STS_x, table 21, and the table of state transitions).

use super::*;

/// What a driver does, and the low byte of STS after it. From a ready interface, with a command of
/// 12 bytes and the response of 22 that it has.
enum Step {
    Sts(u8),
    Send(usize),
    Receive(usize),
}
use Step::{Receive, Send, Sts};

/// The state machine of the FIFO interface, a row a transition.
const TRANSITIONS: &[(&str, &[Step], u8)] = &[
    ("ready again", &[Sts(READY)], READY),
    ("ready, go", &[Sts(GO)], READY),
    ("ready, retry", &[Sts(RETRY)], READY),
    ("ready, read", &[Receive(4)], READY),
    ("first byte", &[Send(1)], VALID | EXPECT),
    ("size is known", &[Send(6)], VALID | EXPECT),
    ("all but the last byte", &[Send(11)], VALID | EXPECT),
    ("last byte", &[Send(12)], VALID),
    ("bytes too many", &[Send(15)], VALID),
    ("incomplete, go", &[Send(11), Sts(GO)], VALID | EXPECT),
    ("incomplete, retry", &[Send(11), Sts(RETRY)], VALID | EXPECT),
    ("incomplete, read", &[Send(11), Receive(2)], VALID | EXPECT),
    ("incomplete, ready", &[Send(11), Sts(READY)], READY),
    ("complete, ready", &[Send(12), Sts(READY)], READY),
    ("complete, retry", &[Send(12), Sts(RETRY)], VALID),
    ("complete, read", &[Send(12), Receive(1)], VALID),
    ("complete, go", &[Send(12), Sts(GO)], VALID | DATA_AVAIL),
    (
        "header read",
        &[Send(12), Sts(GO), Receive(10)],
        VALID | DATA_AVAIL,
    ),
    (
        "all but the last byte read",
        &[Send(12), Sts(GO), Receive(21)],
        VALID | DATA_AVAIL,
    ),
    ("all read", &[Send(12), Sts(GO), Receive(22)], VALID),
    (
        "more than all read",
        &[Send(12), Sts(GO), Receive(30)],
        VALID,
    ),
    (
        "all read, retry",
        &[Send(12), Sts(GO), Receive(22), Sts(RETRY)],
        VALID | DATA_AVAIL,
    ),
    (
        "half read, retry",
        &[Send(12), Sts(GO), Receive(11), Sts(RETRY)],
        VALID | DATA_AVAIL,
    ),
    (
        "response, go",
        &[Send(12), Sts(GO), Sts(GO)],
        VALID | DATA_AVAIL,
    ),
    (
        "response, write",
        &[Send(12), Sts(GO), Send(12)],
        VALID | DATA_AVAIL,
    ),
    ("response, ready", &[Send(12), Sts(GO), Sts(READY)], READY),
    (
        "half read, ready",
        &[Send(12), Sts(GO), Receive(11), Sts(READY)],
        READY,
    ),
    (
        "response gone, retry",
        &[Send(12), Sts(GO), Sts(READY), Sts(RETRY)],
        READY,
    ),
    ("two at once", &[Sts(READY | GO)], READY),
    ("two at once, complete", &[Send(12), Sts(READY | GO)], VALID),
    (
        "two at once, response",
        &[Send(12), Sts(GO), Sts(READY | RETRY)],
        VALID | DATA_AVAIL,
    ),
];

#[test]
fn every_transition_ends_in_its_state() {
    let command = message(&[1, 2]);
    for (name, steps, expected) in TRANSITIONS {
        let mut guest = Guest::ready();
        for step in *steps {
            match step {
                Sts(value) => guest.set_sts(0, *value),
                Send(count) => {
                    let bytes = command.iter().chain(&[0xee; 8]).copied();
                    let bytes: Vec<u8> = bytes.take(*count).collect();
                    guest.send(0, &bytes);
                }
                Receive(count) => {
                    guest.receive(0, *count);
                }
            }
            assert_eq!(guest.sts(0) & 0x23, 0, "{name}");
        }
        assert_eq!(guest.sts(0), *expected, "{name}");
    }
}

#[test]
fn idle_takes_nothing_but_command_ready() {
    let mut guest = Guest::new();
    guest.set_access(0, REQUEST_USE);
    assert_eq!(guest.sts(0), 0);
    guest.send(0, &message(&[]));
    guest.set_sts(0, GO);
    guest.set_sts(0, RETRY);
    assert_eq!(guest.sts(0), 0);
    assert_eq!(guest.receive(0, 4), [0xff; 4]);
    assert!(guest.commands().is_empty());
    // At either width.
    guest.write32(0, offset::STS, READY.into());
    assert_eq!(guest.sts(0), READY);
}

#[test]
fn engine_gets_the_command_and_the_locality() {
    for locality in 0..4 {
        let mut guest = Guest::new();
        guest.set_access(locality, REQUEST_USE);
        guest.set_sts(locality, READY);
        let command = message(&[locality as u8; 7]);
        guest.send(locality, &command);
        guest.send(locality, &[0xee, 0xee]);
        guest.write32(locality, offset::STS, GO.into());
        let who = Locality::new(locality).unwrap();
        assert_eq!(guest.commands(), [(who, command.clone())]);
        let response = message(&command);
        assert_eq!(usize::from(guest.burst_count(locality)), response.len());
        assert_eq!(guest.receive(locality, response.len()), response);
    }
}

#[test]
fn abort_drops_what_was_sent() {
    let mut guest = Guest::ready();
    guest.send(0, &[0xee; 9]);
    guest.set_sts(0, READY);
    let command = message(&[5]);
    guest.send(0, &command);
    guest.set_sts(0, GO);
    assert_eq!(guest.commands(), [(Locality::Zero, command)]);
}

#[test]
fn response_can_be_read_again_from_its_start() {
    let (mut guest, response) = Guest::answered();
    for count in [22, 11, 0, 22] {
        guest.receive(0, count);
        guest.set_sts(0, RETRY);
        assert_eq!(guest.read8(0, offset::DATA_FIFO), response[0]);
        guest.set_sts(0, RETRY);
        assert_eq!(guest.burst_count(0), 22);
    }
    assert_eq!(
        guest.receive(0, 24)[..],
        [&response[..], &[0xff; 2]].concat()
    );
}

/// But once after so many bytes, each time: then the driver waits, and its guest has the processor.
const STRETCH: usize = 768;

#[test]
fn burst_count_is_never_0_for_long_while_there_is_something_to_move() {
    let mut guest = Guest::ready();
    let command = message(&[0; 4096 - 10]);
    let mut moved = 0;
    let mut count = |guest: &mut Guest, left: usize| {
        let expected = left.min(STRETCH - moved);
        assert_eq!(usize::from(guest.burst_count(0)), expected);
        if expected == 0 {
            moved = 0;
            assert_eq!(usize::from(guest.burst_count(0)), left.min(STRETCH));
        }
        assert_ne!(guest.read8(0, offset::STS + 1), 0);
        moved += 1;
    };
    for (written, byte) in command.iter().enumerate() {
        count(&mut guest, 4096 - written);
        guest.send(0, &[*byte]);
    }
    guest.0.engine_mut().answer = Some(Ok((command.clone(), 4096)));
    guest.set_sts(0, GO);
    moved = 0;
    for remaining in (1..=4096).rev() {
        let expected = remaining.min(STRETCH - moved);
        assert_eq!(usize::from(guest.burst_count(0)), expected);
        if expected == 0 {
            moved = 0;
            // By the byte, and by whoever does not look at it.
            assert_ne!(guest.read8(0, offset::STS + 1), 0);
        }
        guest.receive(0, 1);
        moved += 1;
    }
    assert_eq!(guest.burst_count(0), 0);
}

/// A slice was just spent on it, on the driver's processor perhaps.
#[test]
fn a_driver_waits_once_before_the_response_to_a_long_command() {
    let mut guest = Guest::ready();
    guest.0.engine_mut().slices = 1;
    guest.send(0, &message(&[]));
    guest.set_sts(0, GO);
    assert_eq!(guest.sts(0), VALID | DATA_AVAIL, "the poll is its slice");
    assert_eq!(guest.sts(0), VALID | DATA_AVAIL, "not the count");
    assert_eq!(guest.burst_count(0), 0);
    assert_eq!(guest.burst_count(0), 20);
    // It does not have to.
    guest.set_sts(0, READY);
    guest.0.engine_mut().slices = 1;
    guest.send(0, &message(&[]));
    guest.set_sts(0, GO);
    assert_eq!(guest.sts(0), VALID | DATA_AVAIL);
    assert_eq!(guest.receive(0, 20), message(&message(&[])));
    assert_eq!(guest.sts(0), VALID);
}

/// EDK2 puts the count together from two bytes; a promise of more than there is would hurt it.
#[test]
fn burst_count_by_the_byte_never_exceeds_the_count() {
    let mut guest = Guest::ready();
    let by_byte = |guest: &mut Guest| {
        u16::from_le_bytes([
            guest.read8(0, offset::STS + 1),
            guest.read8(0, offset::STS + 2),
        ])
    };
    assert_eq!(by_byte(&mut guest), 0xff);
    guest.0.engine_mut().answer = Some(Ok((message(&[0; 300]), 310)));
    guest.send(0, &message(&[]));
    guest.set_sts(0, GO);
    for remaining in (0..=310).rev() {
        assert_eq!(by_byte(&mut guest), remaining.min(0xff));
        guest.receive(0, 1);
    }
}

#[test]
fn wide_fifo_access_moves_bytes_in_order() {
    let mut guest = Guest::ready();
    let command = message(&[1, 2, 3, 4, 5, 6]);
    guest.write(0, offset::DATA_FIFO, &command[..4]);
    guest.write(0, offset::XDATA_FIFO, &command[4..12]);
    guest.write(0, offset::XDATA_FIFO + 0x3e, &command[12..14]);
    // Four bytes, of which two complete the command.
    guest.write(0, offset::DATA_FIFO, &[5, 6, 0xee, 0xee]);
    guest.set_sts(0, GO);
    assert_eq!(guest.commands(), [(Locality::Zero, command.clone())]);

    let response = message(&command);
    assert_eq!(guest.read::<4>(0, offset::DATA_FIFO), response[..4]);
    assert_eq!(guest.read::<8>(0, offset::XDATA_FIFO + 8), response[4..12]);
    assert_eq!(guest.receive(0, 12), response[12..24]);
    assert_eq!(
        guest.read::<4>(0, offset::DATA_FIFO),
        [response[24], response[25], 0xff, 0xff]
    );
}

#[test]
fn a_wide_fifo_access_does_not_leave_its_four_bytes() {
    let mut guest = Guest::ready();
    // The second half is at 0x28, which is no FIFO.
    guest.write(0, offset::DATA_FIFO, &message(&[])[..8]);
    guest.send(0, &message(&[])[4..]);
    guest.set_sts(0, GO);
    assert_eq!(guest.commands(), [(Locality::Zero, message(&[]))]);
    assert_eq!(
        guest.read::<8>(0, offset::DATA_FIFO),
        [0x80, 0x01, 0, 0, 0xff, 0xff, 0xff, 0xff]
    );
}

/// Declared size, bytes that complete the command.
const SIZES: [(u32, usize); 9] = [
    (0, 6),
    (1, 6),
    (5, 6),
    (6, 6),
    (7, 7),
    (9, 9),
    (10, 10),
    (11, 11),
    (4096, 4096),
];

#[test]
fn expect_drops_exactly_with_the_last_byte() {
    for (size, complete) in SIZES {
        let mut guest = Guest::ready();
        let mut command = vec![0x11; 4096];
        command[2..6].copy_from_slice(&size.to_be_bytes());
        for (sent, byte) in command.iter().take(complete).enumerate() {
            if sent != 0 {
                assert_eq!(guest.sts(0), VALID | EXPECT, "size {size}, {sent} sent");
            }
            guest.send(0, &[*byte]);
        }
        assert_eq!(guest.sts(0), VALID, "size {size}");
        guest.set_sts(0, GO);
        assert_eq!(guest.sts(0), VALID | DATA_AVAIL);
        assert_eq!(guest.commands()[0].1, command[..complete]);
    }
}

#[test]
fn a_size_beyond_the_buffer_is_cut_and_left_to_the_engine() {
    for size in [4097, 5000, 0x1_0000, 0x1_000a, u32::MAX] {
        let mut guest = Guest::ready();
        let mut command = vec![0x11; 6000];
        command[2..6].copy_from_slice(&size.to_be_bytes());
        guest.send(0, &command[..4096]);
        assert_eq!(guest.sts(0), VALID | EXPECT, "size {size:#x}");
        assert_ne!([guest.burst_count(0), guest.burst_count(0)], [0; 2]);
        guest.send(0, &command[4096..]);
        assert_eq!(guest.sts(0), VALID, "size {size:#x}");
        guest.set_sts(0, GO);
        assert_eq!(guest.commands()[0].1, command[..4096]);
    }
}

const FAILURE: [u8; 10] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01];

#[test]
fn a_failing_engine_answers_rc_failure() {
    let answers = [
        Err(EngineFailure),
        Ok((vec![], 0)),
        Ok((vec![0x80; 9], 9)),
        // Longer or shorter than it says, longer than the buffer.
        Ok((message(&[1]), 10)),
        Ok((message(&[]), 11)),
        Ok((message(&[]), 4097)),
        Ok((message(&[]), usize::MAX)),
    ];
    for answer in answers {
        let mut guest = Guest::ready();
        guest.0.engine_mut().answer = Some(answer);
        guest.send(0, &message(&[]));
        guest.set_sts(0, GO);
        assert_eq!(guest.burst_count(0), 10);
        assert_eq!(guest.receive(0, 11)[..], [&FAILURE[..], &[0xff]].concat());
        // And the next command is none the worse.
        guest.0.engine_mut().answer = None;
        guest.set_sts(0, READY);
        guest.send(0, &message(&[]));
        guest.set_sts(0, GO);
        assert_eq!(guest.burst_count(0), 20);
    }
}

#[test]
fn the_longest_response_is_read_whole() {
    let mut guest = Guest::ready();
    let longest = message(&[0xa5; 4086]);
    guest.0.engine_mut().answer = Some(Ok((longest.clone(), 4096)));
    guest.send(0, &message(&[]));
    guest.set_sts(0, GO);
    assert_eq!(guest.receive(0, 4096), longest);
    assert_eq!(guest.sts(0), VALID);
}

#[test]
fn cancel_outside_execution_has_no_effect() {
    let (mut guest, response) = Guest::answered();
    guest.write32(0, offset::STS, CANCEL);
    guest.write(0, offset::STS + 3, &[1]);
    assert_eq!(guest.receive(0, 22), response);
    guest.set_sts(0, READY);
    guest.write32(0, offset::STS, CANCEL);
    assert_eq!(guest.sts(0), READY);
    guest.send(0, &message(&[]));
    guest.set_sts(0, GO);
    assert_eq!(guest.receive(0, 20), message(&message(&[])));
}

#[test]
fn burst_count_is_the_room_that_is_left_for_the_command() {
    let mut guest = Guest::ready();
    let mut command = vec![0x11; 4096];
    command[2..6].copy_from_slice(&4096u32.to_be_bytes());
    let (most, rest) = command.split_at(4000);
    guest.send(0, most);
    guest.burst_count(0);
    for (left, byte) in (0..=96).rev().zip(rest) {
        assert_eq!(guest.burst_count(0), left);
        guest.send(0, &[*byte]);
    }
    assert_eq!(guest.burst_count(0), 1, "it is whole");
}
