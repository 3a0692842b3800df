//! #VE: what L1's own instructions come to.

use alloc::vec::Vec;

use tdx_defs::vp_enter::Gpr;

use super::firmware::Code;
use super::script::Step;
use super::{Setup, Test};

/// Basic exit reasons (SDM volume 3, appendix C).
mod reason {
    pub(super) const CPUID: u32 = 10;
    pub(super) const HLT: u32 = 12;
    pub(super) const IO: u32 = 30;
    pub(super) const RDMSR: u32 = 31;
    pub(super) const WRMSR: u32 = 32;
}

pub(super) fn tests() -> Vec<Test> {
    Vec::from([
        Test::new("ve-instructions", instructions),
        Test::new("native-cpuid", native_cpuid),
    ])
}

fn instructions(_: &Setup) -> Vec<Step> {
    Vec::from([
        Step::new("CPUID of the hypervisor", Code::Cpuid)
            .set(Gpr::Rax, 0x4000_0000)
            .set(Gpr::Rcx, 0)
            .virtualized(reason::CPUID, 0)
            .keeps(Gpr::Rax)
            .keeps(Gpr::Rbx),
        Step::new("HLT", Code::Hlt).virtualized(reason::HLT, 0),
        Step::new("OUT", Code::Out)
            .set(Gpr::Rdx, 0x70)
            .virtualized(reason::IO, 0x70 << 16),
        Step::new("IN", Code::In)
            .set(Gpr::Rdx, 0x71)
            .virtualized(reason::IO, 0x71 << 16 | 1 << 3)
            .keeps(Gpr::Rax),
        Step::new("RDMSR of the host's part of the APIC", Code::Rdmsr)
            .set(Gpr::Rcx, 0x832)
            .virtualized(reason::RDMSR, 0),
        Step::new("WRMSR of the TSC deadline", Code::Wrmsr)
            .set(Gpr::Rcx, 0x6E0)
            .set(Gpr::Rax, 0)
            .set(Gpr::Rdx, 0)
            .virtualized(reason::WRMSR, 0),
    ])
}

/// CPUID leaf 21H says that this is a TD, and leaf 0 is Intel's.
fn native_cpuid(_: &Setup) -> Vec<Step> {
    let words = |text: &[u8; 4]| u64::from(u32::from_le_bytes(*text));
    Vec::from([
        Step::new("CPUID 21H", Code::Cpuid)
            .set(Gpr::Rax, 0x21)
            .set(Gpr::Rcx, 0)
            .want(Gpr::Rbx, words(b"Inte"))
            .want(Gpr::Rdx, words(b"lTDX"))
            .want(Gpr::Rcx, words(b"    ")),
        Step::new("CPUID 0", Code::Cpuid)
            .set(Gpr::Rax, 0)
            .set(Gpr::Rcx, 0)
            .want(Gpr::Rbx, words(b"Genu"))
            .want(Gpr::Rdx, words(b"ineI"))
            .want(Gpr::Rcx, words(b"ntel")),
    ])
}
