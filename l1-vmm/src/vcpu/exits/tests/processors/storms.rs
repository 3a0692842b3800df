//! A hostile L2.

use proptest::prelude::*;

use super::*;

/// What a hostile L2 does on one of its processors.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Writes any command to the ICR.
    Command(u64),
    /// Writes SVR.
    Enable(bool),
    /// Writes IA32_APIC_BASE.
    Base(u64),
    /// Sends itself an interrupt.
    ToItself(u8),
    /// Is interrupted by the host.
    Nothing,
}

fn act() -> impl Strategy<Value = Act> {
    let command = (any::<u8>(), 0u64..8, any::<u8>(), 0u64..5);
    let command = command.prop_map(|(vector, mode, flags, destination)| {
        let vector = match mode {
            6 => START_UP,
            _ => vector.into(),
        };
        let flags = u64::from(flags);
        let other = (flags & 1) << 11 | (flags >> 1 & 3) << 14 | (flags >> 3 & 3) << 18;
        Act::Command(vector | mode << 8 | other | destination << 32)
    });
    prop_oneof![
        4 => command,
        1 => any::<bool>().prop_map(Act::Enable),
        1 => prop_oneof![Just(0), Just(0x800), Just(0xC00)].prop_map(Act::Base),
        1 => any::<u8>().prop_map(Act::ToItself),
        4 => Just(Act::Nothing),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_storm_of_interrupts_breaks_what_counts(
        acts in proptest::collection::vec((0usize..3, act()), 0..60),
        away in any::<u8>(),
    ) {
        let mut three = Processors::started(3);
        for (turn, (index, act)) in acts.into_iter().enumerate() {
            // One of the others may be in L2.
            let absent = (index + 1) % 3;
            let absent = (away >> (turn & 7) & 1 != 0 && three.mailbox(absent).depart()).then_some(absent);
            let result = match act {
                Act::Command(command) => three.wrmsr(index, ICR, command),
                Act::Enable(on) => three.wrmsr(index, 0x80F, 0xFF | u64::from(on) << 8),
                Act::Base(mode) => three.wrmsr(index, 0x1B, 0xFEE0_0000 | mode | u64::from(index == 0) << 8),
                Act::ToItself(vector) => {
                    let model = three.surroundings.model.on_vcpu(index as u32);
                    // Where the processor does it by itself, L2 runs on.
                    three.prepare_wrmsr(index, 0x83F, vector.into());
                    model.push_exit(HardwareExit::Interrupt);
                    three.step(index)
                }
                Act::Nothing => three.run(index, &[], HardwareExit::Interrupt),
            };
            if let Some(absent) = absent {
                three.mailbox(absent).arrive();
            }
            // INIT of the boot processor.
            prop_assert!(matches!(result, Ok(()) | Err(End::Reset)), "{result:?}");
            let asleep = three.l2.iter().filter(|l2| {
                l2.vcpu.activity == Activity::WaitsForStartUp { asleep: true }
            });
            prop_assert_eq!(three.surroundings.machine.ending.count_asleep(), asleep.count());
            if result.is_err() {
                break;
            }
        }
    }
}
