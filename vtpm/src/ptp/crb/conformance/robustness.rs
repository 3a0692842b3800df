//! Guests that keep to no rule.

use proptest::prelude::*;

use super::*;
use crate::EngineFailure;

/// Every byte of the buffer, the last one of the page included, at every width and alignment.
#[test]
fn every_byte_of_the_buffer_is_reached() {
    let mut guest = Guest::ready();
    let bytes: Vec<_> = (0..SIZE).map(|at| (at * 7 % 251) as u8).collect();
    for width in [1, 2, 3, 4, 8, 16] {
        guest.put(0, &[0; SIZE]);
        for (at, chunk) in (offset::DATA_BUFFER..)
            .step_by(width)
            .zip(bytes.chunks(width))
        {
            guest.write(0, at, chunk);
        }
        assert_eq!(guest.take(0, SIZE), bytes, "{width}");
    }
    let mut unaligned = [0; 8];
    guest.0.read(PAGE - 9, &mut unaligned);
    assert_eq!(unaligned, bytes[SIZE - 9..SIZE - 1]);
    // The first byte behind the page is the next one's LOC_STATE.
    guest.0.read(PAGE - 4, &mut unaligned);
    assert_eq!(unaligned[..4], bytes[SIZE - 4..]);
    assert_eq!(unaligned[4..], [0x83, 0, 0, 0]);
}

#[test]
fn a_command_may_fill_the_buffer() {
    let mut guest = Guest::ready();
    let command = message(&[0x5A; SIZE - 10]);
    guest.0.engine_mut().answer = Some(Ok((message(&[1]), 11)));
    guest.put(0, &command);
    guest.start(0);
    assert_eq!(guest.commands(), [(Locality::Zero, command)]);
    assert_eq!(guest.take(0, 11), message(&[1]));
}

/// The engine is given no more than there is, and sees that it is not what the header says.
#[test]
fn a_size_that_cannot_be_is_the_engines_to_refuse() {
    for (size, given) in [
        (0, 10),
        (9, 10),
        (SIZE as u32 + 1, SIZE),
        (0x10_0000, SIZE),
        (u32::MAX, SIZE),
    ] {
        let mut guest = Guest::ready();
        guest.0.engine_mut().answer = Some(Ok((message(&[]), 10)));
        let mut command = message(&[]);
        command[2..6].copy_from_slice(&size.to_be_bytes());
        guest.put(0, &command);
        guest.start(0);
        assert_eq!(guest.commands()[0].1.len(), given, "{size}");
        assert_eq!(guest.commands()[0].1[2..6], size.to_be_bytes());
    }
}

#[test]
fn a_response_too_long_for_the_buffer_is_a_failure() {
    let mut guest = Guest::ready();
    let answer = message(&[0x5A; SIZE - 9]);
    let length = answer.len();
    guest.0.engine_mut().answer = Some(Ok((answer, length)));
    guest.put(0, &message(&[]));
    guest.start(0);
    assert_eq!(guest.take(0, 10), FAILURE);
    assert_eq!(guest.take(0, SIZE)[10..], [0; SIZE - 10]);
}

#[test]
fn an_engine_that_dies_is_a_failure_and_no_fatal_error() {
    let mut guest = Guest::ready();
    guest.0.engine_mut().answer = Some(Err(EngineFailure));
    guest.put(0, &message(&[1]));
    guest.start(0);
    assert_eq!(guest.take(0, 10), FAILURE);
    assert_eq!(guest.read32(0, offset::CTRL_START), 0);
    assert_eq!(guest.read32(0, offset::CTRL_STS), 0);
}

/// A second processor of the guest may write while the TPM reads: each byte is read once, and what the size was is what
/// the engine sees.
#[test]
fn every_byte_of_a_command_is_read_once() {
    let (mut guest, pages) = Guest::with_pages();
    let command = message(&[1; 90]);
    pages.set(0, &command);
    guest.start(0);
    pages.with(|memory| {
        assert_eq!(memory.reads[..100], [1; 100]);
        assert_eq!(memory.reads[100..], [0; SIZE - 100]);
    });
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    Read(u32, usize),
    Write(u32, Vec<u8>),
    /// The guest writes to its pages.
    Page(usize, u8),
}

/// Mostly registers that do something, at any width, in any locality; sometimes anywhere.
pub(super) fn acts() -> impl Strategy<Value = Vec<Act>> {
    let register = prop_oneof![
        4 => Just(offset::LOC_CTRL),
        4 => Just(offset::CTRL_REQ),
        4 => Just(offset::CTRL_START),
        2 => Just(offset::CTRL_CANCEL),
        2 => Just(offset::DATA_BUFFER + 2),
        2 => offset::DATA_BUFFER..PAGE,
        1 => 0..PAGE,
    ];
    let place = prop_oneof![
        20 => (0..5u32, register).prop_map(|(locality, register)| locality * PAGE + register),
        1 => any::<u32>(),
    ];
    let width = prop::sample::select(vec![1usize, 2, 4, 8]);
    let value = prop_oneof![3 => 0..8u8, 1 => any::<u8>()];
    let access = (place, width, any::<bool>(), value).prop_map(|(place, width, reads, value)| {
        if reads {
            Act::Read(place, width)
        } else {
            let mut bytes = vec![0; width];
            bytes[0] = value;
            Act::Write(place, bytes)
        }
    });
    let page = (0..SIZE, any::<u8>()).prop_map(|(at, byte)| Act::Page(at, byte));
    prop::collection::vec(prop_oneof![6 => access, 1 => page], 0..120)
}

proptest! {
    #[test]
    fn any_accesses_keep_the_registers_lawful(acts in acts()) {
        let (mut guest, pages) = Guest::with_pages();
        for act in acts {
            match act {
                Act::Read(place, width) => {
                    let mut bytes = vec![0; width];
                    guest.0.read(place, &mut bytes);
                }
                Act::Write(place, bytes) => guest.0.write(place, &bytes),
                Act::Page(at, byte) => pages.set(at, &[byte]),
            }
            let granted: Vec<_> = (0..5)
                .filter(|locality| guest.read32(*locality, offset::LOC_STS) & GRANTED != 0)
                .collect();
            prop_assert!(granted.len() <= 1);
            prop_assert!(!granted.contains(&4));
            let state = guest.read32(0, offset::LOC_STATE);
            prop_assert_eq!(state >> 1 & 1, granted.len() as u32);
            prop_assert_eq!(state & 0x90, 0x80);
            for locality in 0..5 {
                prop_assert_eq!(guest.read32(locality, offset::LOC_STATE), state);
                prop_assert_eq!(guest.read32(locality, offset::CTRL_START), 0);
                prop_assert_eq!(guest.read32(locality, offset::CTRL_REQ), 0);
                prop_assert_eq!(guest.read32(locality, offset::CTRL_STS) & !IDLE, 0);
                prop_assert_eq!(guest.read32(locality, offset::CTRL_RSP_SIZE), 0xF80);
            }
            for (_, command) in guest.commands() {
                prop_assert!((10..=SIZE).contains(&command.len()));
            }
        }
    }
}
