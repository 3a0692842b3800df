//! Several processors: interrupts between them, INIT and STARTUP, halts, what they share, and how they end.
//!
//! * `smp`: writing such a program; `start`, `memory`: what its processors run and have; `apic`, `deadline`: their APICs.
//! * The other files are the programs. All but the last runs under seeded schedules of the simulated host's:
//!   `schedule=SEED:MOST` is another interleaving with each seed, and in the name of each check.

mod apic;
mod crb;
mod deadline;
mod ends;
mod halt;
mod init;
mod ipi;
mod memory;
mod resets;
mod shared;
mod smp;
mod start;

use super::guest::Guest;
use apic::Mode::{X2Apic, XApic};

const TWO: &[&str] = &["vcpus=2"];
const THREE: &[&str] = &["vcpus=3"];
const FOUR: &[&str] = &["vcpus=4"];
const THREE_CRB: &[&str] = &["vcpus=3", super::crb::CHOSEN];

/// All of them, by the simulator's usual schedule.
pub(super) fn guests() -> Vec<Guest> {
    // Not by other schedules: its processors poll the TPM's page without exits, which by turns of a microsecond takes QEMU
    // longer than a run may take.
    let crb = Guest {
        options: THREE_CRB,
        ..Guest::new("processors: a command response buffer", |_| {
            crb::both_start(X2Apic)
        })
    };
    let ends = ends::guests(TWO);
    races().into_iter().chain(ends).chain([crb]).collect()
}

/// Those that other schedules are tried with.
pub(super) fn races() -> Vec<Guest> {
    let with = |options, guest: Guest| Guest { options, ..guest };
    vec![
        with(
            FOUR,
            Guest::new("processors: kinds of IPIs", |_| ipi::kinds(X2Apic)),
        ),
        with(
            FOUR,
            Guest::new("processors: kinds of IPIs, xAPIC", |_| ipi::kinds(XApic)),
        ),
        with(
            TWO,
            Guest::new("processors: IPIs to a busy one", |_| ipi::busy(X2Apic)),
        ),
        with(
            THREE,
            Guest::new("processors: two answer each other", |_| {
                ipi::ping_pong(X2Apic)
            }),
        ),
        with(
            TWO,
            Guest::new("processors: NMI during injection", |_| {
                ipi::nmi_during_injection(X2Apic)
            }),
        ),
        with(
            TWO,
            Guest::new("processors: odd commands", |_| ipi::odd_commands(X2Apic)),
        ),
        with(
            TWO,
            Guest::new("processors: odd commands, xAPIC", |_| {
                ipi::odd_commands(XApic)
            }),
        ),
        with(
            TWO,
            Guest::new("processors: priorities", |_| ipi::priorities(X2Apic)),
        ),
        with(
            TWO,
            Guest::new("processors: after INIT", |_| init::state(X2Apic)),
        ),
        with(
            TWO,
            Guest::new("processors: after INIT, xAPIC", |_| init::state(XApic)),
        ),
        with(
            TWO,
            Guest::new("processors: INIT again and again", |_| init::storm(X2Apic)),
        ),
        with(
            FOUR,
            Guest::new("processors: INIT to all others", |_| {
                init::all_at_once(X2Apic)
            }),
        ),
        with(
            THREE,
            Guest::new("processors: wake-ups", |_| halt::wake_ups(X2Apic)),
        ),
        with(
            THREE,
            Guest::new("processors: wake-ups, xAPIC", |_| halt::wake_ups(XApic)),
        ),
        with(
            TWO,
            Guest::new("processors: deadlines of busy ones", |_| {
                halt::deadlines_of_busy_ones(X2Apic)
            }),
        ),
        with(
            THREE,
            Guest::new("processors: deadlines", |_| halt::deadlines(X2Apic)),
        ),
        with(
            THREE,
            Guest::new("processors: parked", |_| halt::parked(X2Apic)),
        ),
        with(
            TWO,
            Guest::new("processors: NMI in the handler of another", |_| {
                halt::nmi_in_handler(X2Apic)
            }),
        ),
        with(
            THREE,
            Guest::new("processors: memory and TSC", |_| {
                shared::memory_and_tsc(X2Apic)
            }),
        ),
        with(
            THREE,
            Guest::new("processors: a register of the TPM's", |_| {
                shared::tpm_register(X2Apic)
            }),
        ),
        with(
            THREE,
            Guest::new("processors: localities", |_| shared::localities(X2Apic)),
        ),
        with(
            THREE,
            Guest::new("processors: TDVMCALLs", |_| shared::vmcalls(X2Apic)),
        ),
        with(
            THREE,
            Guest {
                restarts: true,
                ..Guest::new("processors: resets of the machine", |_| {
                    resets::resets(X2Apic)
                })
            },
        ),
    ]
}
