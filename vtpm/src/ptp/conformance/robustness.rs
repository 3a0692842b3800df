//! Laws under any accesses at all.

use super::*;

#[derive(Clone, Debug)]
enum Access {
    Read(u32, usize),
    Write(u32, Vec<u8>),
}

/// Mostly registers that do something, at any width, in any locality; sometimes anywhere.
fn accesses() -> impl Strategy<Value = Vec<Access>> {
    let register = prop_oneof![
        4 => Just(offset::ACCESS),
        4 => Just(offset::STS),
        6 => Just(offset::DATA_FIFO),
        1 => Just(offset::XDATA_FIFO),
        1 => Just(offset::STS + 1),
        1 => Just(offset::INT_ENABLE),
        1 => Just(offset::HASH_START),
        1 => Just(offset::HASH_END),
        1 => 0..PAGE,
    ];
    let place = prop_oneof![
        20 => (0..5u32, register).prop_map(|(locality, register)| locality * PAGE + register),
        1 => any::<u32>(),
    ];
    let width = prop::sample::select(vec![1usize, 2, 4, 8]);
    let value = prop_oneof![
        3 => prop::sample::select(vec![REQUEST_USE, SEIZE, ACTIVE, READY, GO, RETRY, BEEN_SEIZED]),
        1 => any::<u8>(),
    ];
    let access = (place, width, any::<bool>(), value).prop_map(|(place, width, reads, value)| {
        if reads {
            Access::Read(place, width)
        } else {
            let mut bytes = vec![0; width];
            bytes[0] = value;
            Access::Write(place, bytes)
        }
    });
    prop::collection::vec(access, 0..120)
}

impl Guest {
    fn active(&mut self) -> Vec<u32> {
        let localities = 0..5;
        localities
            .filter(|locality| {
                let mut access = [0];
                self.0.read(locality * PAGE, &mut access);
                access[0] & ACTIVE != 0
            })
            .collect()
    }
}

proptest! {
    #[test]
    fn any_accesses_keep_the_registers_lawful(accesses in accesses()) {
        let mut guest = Guest::new();
        for access in accesses {
            match access {
                Access::Read(place, width) => {
                    let mut bytes = vec![0; width];
                    guest.0.read(place, &mut bytes);
                }
                Access::Write(place, bytes) => guest.0.write(place, &bytes),
            }
            let active = guest.active();
            prop_assert!(active.len() <= 1);
            prop_assert!(!active.contains(&4));
            for locality in 0..5 {
                let access = guest.access(locality);
                prop_assert_eq!(access & 0xc8, 0x80);
                let sts = guest.sts(locality);
                if active.contains(&locality) {
                    prop_assert_eq!(sts & 0x23, 0);
                } else {
                    prop_assert_eq!(guest.read32(locality, offset::STS), u32::MAX);
                    prop_assert_eq!(guest.read32(locality, offset::DATA_FIFO), u32::MAX);
                }
            }
            prop_assert!(guest.0.engine().commands.iter().all(|(locality, _)| *locality < Locality::Four));
        }
    }

    /// Once the locality of a command has not been active for a moment, nobody reads its response.
    #[test]
    fn nobody_reads_the_response_of_another_locality(
        owner in 0..4u32,
        read in 0..60usize,
        accesses in accesses(),
    ) {
        const MARK: u8 = 0xd7;
        let mut guest = Guest::new();
        guest.set_access(owner, REQUEST_USE);
        guest.set_sts(owner, READY);
        let secret = message(&[MARK; 40]);
        guest.0.engine_mut().answer = Some(Ok((secret.clone(), secret.len())));
        guest.send(owner, &message(&[]));
        guest.set_sts(owner, GO);
        guest.receive(owner, read);
        // From here the engine gives back what it is given.
        guest.0.engine_mut().answer = None;
        let mut left = false;
        for access in accesses {
            match access {
                Access::Read(place, width) => {
                    let mut bytes = vec![0; width];
                    guest.0.read(place, &mut bytes);
                    let fifo = matches!(place % PAGE, offset::DATA_FIFO | offset::XDATA_FIFO);
                    if fifo && (left || place / PAGE != owner) {
                        prop_assert!(!bytes.contains(&MARK));
                    }
                }
                Access::Write(place, bytes) => {
                    let bytes: Vec<u8> = bytes.into_iter().filter(|byte| *byte != MARK).collect();
                    guest.0.write(place, &bytes);
                }
            }
            left |= guest.active() != [owner];
        }
    }

    #[test]
    fn every_command_that_is_streamed_in_gets_its_response(
        data in prop::collection::vec(any::<u8>(), 0..200),
        locality in 0..4u32,
    ) {
        let mut guest = Guest::new();
        guest.set_access(locality, REQUEST_USE);
        guest.set_sts(locality, READY);
        let command = message(&data);
        guest.send(locality, &command);
        guest.set_sts(locality, GO);
        let response = message(&command);
        prop_assert_eq!(guest.receive(locality, response.len()), response);
        prop_assert_eq!(guest.sts(locality), VALID);
    }
}
