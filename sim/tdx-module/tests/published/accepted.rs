//! Where the model answers differently, and why it may.

use crate::Difference;

/// A kind of difference.
pub(crate) struct Accepted {
    /// The recording that it is in.
    pub(crate) file: &'static str,
    /// Why it is none of the model's faults.
    pub(crate) reason: &'static str,
    pub(crate) applies: fn(&Difference<'_>) -> bool,
    /// How many there are, to the one.
    pub(crate) count: usize,
}

/// x2APIC registers, which the recorded module leaves to the processor's virtual APIC, and the model
/// carries out itself.
const X2APIC: std::ops::RangeInclusive<u32> = 0x808..=0x83f;

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn is_call(difference: &Difference<'_>, leaf: &str) -> bool {
    words(difference.step)[..2] == ["call", leaf]
}

fn msr(difference: &Difference<'_>) -> u32 {
    u32::from_str_radix(words(difference.step)[1], 16).unwrap_or(0)
}

/// Whether the two lines are the same but for this word, which is so in the recording.
fn only(difference: &Difference<'_>, word: usize, recorded: &str) -> bool {
    let (real, model) = (words(difference.recorded), words(&difference.model));
    real.len() == model.len()
        && real[word] == recorded
        && (0..real.len()).all(|index| index == word || real[index] == model[index])
}

pub(crate) const ACCEPTED: [Accepted; 13] = [
    Accepted {
        file: "rd",
        reason: "TD_UUID is random here, and was zero there",
        applies: |d| only(d, 3, "0") && (is_call(d, "7") || is_call(d, "10007")),
        count: 10,
    },
    Accepted {
        file: "rd",
        reason: "the length of the last exit's instruction: there was none yet, but 4 where no processor ran",
        applies: |d| only(d, 3, "4") && d.step.starts_with("call 9 0 240000000000440c "),
        count: 1,
    },
    Accepted {
        file: "pg",
        reason: "TDG.MR.VERIFYREPORT: no processor computed a MAC there, so none was wrong",
        applies: |d| {
            only(d, 0, "0") && is_call(d, "16") && d.model.starts_with("c000100100000000 ")
        },
        count: 296,
    },
    Accepted {
        file: "pg",
        reason: "a shared operand where the host has no page: its entry was convertible there, and the \
                 host of the model has #VE suppressed",
        applies: |d| is_call(d, "4") && d.recorded == "EXC 14" && d.model.starts_with("TDEXIT 30 "),
        count: 56,
    },
    Accepted {
        file: "pg",
        reason: "TDG.SERVTD.RD and WR: the model has no service TDs",
        applies: |d| {
            (is_call(d, "12") || is_call(d, "14"))
                && d.recorded == "TDEXIT 9000000900000000 0 c000030000000080 0 0"
                && d.model.starts_with("c000010000000000 ")
        },
        count: 9,
    },
    Accepted {
        file: "pg",
        reason: "the checks of a VM entry are the processor's, and none made them there",
        applies: |d| {
            is_call(d, "19") && d.recorded == "ENTER 1" && d.model.starts_with("80000021 ")
        },
        count: 2,
    },
    Accepted {
        file: "ct",
        reason: "REPORTMACSTRUCT and TEE_TCB_INFO are the processor's",
        applies: |d| d.step == "dump 4000 200" && d.recorded.starts_with("D 5a5a5a5a"),
        count: 56,
    },
    Accepted {
        file: "ms",
        reason: "x2APIC registers: the processor's virtual APIC is the model's own",
        applies: |d| X2APIC.contains(&msr(d)) && d.recorded == "N" && d.model != "V",
        count: 124,
    },
    Accepted {
        file: "ms",
        reason: "RDMSR of IA32_EFER and IA32_XSS: native there, carried out here, for the machine's have \
                 bits of its own",
        applies: |d| {
            d.recorded == "N"
                && (d.step == "r c0000080" && d.model == "E d01"
                    || d.step == "r da0" && d.model == "E 0")
        },
        count: 2,
    },
    Accepted {
        file: "ms",
        reason: "a write to a read-only MSR: the processor gives the #GP there, the model here",
        applies: |d| [0xbd, 0x10a].contains(&msr(d)) && d.recorded == "N" && d.model == "G",
        count: 6,
    },
    Accepted {
        file: "ms",
        reason: "what the processor has decides: IA32_VMX_CR4_FIXED1, IA32_VMX_EPT_VPID_CAP, IA32_TSC_DEADLINE",
        applies: |d| [0x489, 0x48c, 0x6e0].contains(&msr(d)),
        count: 6,
    },
    Accepted {
        file: "l2",
        reason: "the guest linear address is the processor's: the recording has a constant",
        applies: |d| only(d, 3, "1234567") && d.recorded.starts_with("L1 "),
        count: 951,
    },
    Accepted {
        file: "l2",
        reason: "the vector of a host's interrupt, which the model's machine does not know",
        applies: |d| only(d, 5, "800000f3") && d.recorded.starts_with("TDEXIT 1 "),
        count: 4,
    },
];
