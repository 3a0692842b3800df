//! Options of Linux's command line, each of which takes away or forces a part of the machine.

use super::trial::{Outcome, Trial};

/// What boots, with the TPM.
const WORK: [&str; 30] = [
    "pci=off",
    "nolapic",
    "nox2apic",
    "maxcpus=1",
    "nr_cpus=1",
    "tsc=unstable",
    "clocksource=jiffies",
    "clocksource=kvm-clock",
    "no_timer_check",
    "lapic=notscdeadline",
    "nopat",
    "nopti",
    "mitigations=off",
    "nosmap",
    "init_on_free=1",
    "nokaslr",
    "earlyprintk=ttyS0",
    "efi=noruntime",
    "pci=nomsi",
    "mce=off",
    "nomce",
    "idle=poll",
    "idle=halt",
    "highres=off nohz=off",
    "intel_pstate=disable",
    "tpm_tis.interrupts=1",
    "tpm_tis.interrupts=0",
    "tpm_tis.force=1",
    "tpm_tis.itpm=1",
    "ima_policy=tcb ima_hash=sha512",
];

/// What comes to something else, or needs a device that not every PC has.
const OTHERS: [(&str, Outcome); 5] = [
    ("acpi=off", Outcome::WithoutTpm),
    ("noapic", Outcome::Works),
    ("nosmp", Outcome::Works),
    ("clocksource=acpi_pm", Outcome::Works),
    ("hpet=force", Outcome::Works),
];

/// Ways to reboot (`reboot=`): each ends the run as a reset.
const REBOOTS: [(&str, &str); 5] = [
    ("", "reboot"),
    ("k", "reboot"),
    ("t", "reboot"),
    ("a", "reboot"),
    ("p", "reboot"),
];

pub(super) fn trials() -> Vec<Trial> {
    let works = WORK.map(|option| (option, Outcome::Works));
    works
        .into_iter()
        .chain(OTHERS)
        .map(|(option, outcome)| Trial {
            outcome,
            ..Trial::new(
                format!("option {option}"),
                format!("quiet tdp.mode=tpm {option}"),
            )
        })
        .collect()
}

pub(super) fn reboots() -> Vec<Trial> {
    REBOOTS
        .map(|(way, end)| Trial {
            outcome: Outcome::Ends(end),
            ..Trial::new(
                format!("reboot={way}"),
                format!("quiet tdp.mode=reboot reboot={way}"),
            )
        })
        .into()
}
