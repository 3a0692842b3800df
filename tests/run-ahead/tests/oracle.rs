//! Streams of instructions end the same in the emulator and on the processor.

use l2_exit::run_ahead::Stop;
use run_ahead_oracle::model::Model;
use run_ahead_oracle::native::Native;
use run_ahead_oracle::program::{INDEX_END, codes, stream};
use run_ahead_oracle::{DATA, Random, State};
use x86_defs::rflags;

/// Status flags, with interrupts enabled as they always are here.
const STATUS: u64 = rflags::CF | rflags::PF | rflags::AF | rflags::ZF | rflags::SF | rflags::OF;

// AF is not compared: shifts and logic leave it undefined, processors differ, and nothing that is executed reads it. That of
// ADD, SUB and their kin is held by the unit tests of `l2_exit::alu`.

/// Instructions that are compared, at least.
const INSTRUCTIONS: u64 = 1_000_000;

fn state(data: u64, random: &mut Random) -> State {
    let mut gprs = [(); 16].map(|()| random.operand());
    gprs[3] = data;
    gprs[4] = data + 0x1800;
    gprs[13] = random.word() % INDEX_END;
    State {
        gprs,
        rflags: rflags::IF | 2 | random.word() & STATUS,
        data: (0..DATA).map(|_| random.word() as u8).collect(),
    }
}

#[test]
fn a_million_instructions_end_as_the_processor_ends_them() {
    let seed = 0x5EED_0000_0000_0001;
    let mut random = Random(seed);
    let mut native = Native::new();
    let mut model = Model::new(native.code(), native.data());
    let codes = codes();
    assert!(codes.len() > 200, "{}", codes.len());
    let mut before = state(native.data(), &mut random);
    for number in 0.. {
        if model.instructions() >= INSTRUCTIONS {
            break;
        }
        let fresh = state(native.data(), &mut random.clone());
        let data = before.data;
        before = State { data, ..fresh };
        random.word();
        let code = stream(&codes, native.code(), native.exit(), &mut random);
        let (stop, rip, ahead) = model.run(&code, &before);
        let (executed, _) = code.split_at(code.len().min((rip - native.code()) as usize));
        assert_eq!(
            (stop, rip),
            (Stop::Code, native.exit()),
            "{number}: {executed:02x?} of {code:02x?}"
        );
        let truth = native.run(&code, &before);
        assert_eq!(
            ahead.gprs, truth.gprs,
            "{number}: {code:02x?} from {:x?}",
            before.gprs
        );
        assert_eq!(
            ahead.rflags & !rflags::AF,
            truth.rflags & !rflags::AF,
            "{number}: {:#x}: {code:02x?} from {:x?}",
            ahead.rflags ^ truth.rflags,
            before.gprs
        );
        assert!(ahead.data == truth.data, "{number}: {code:02x?}");
        before = truth;
    }
}
