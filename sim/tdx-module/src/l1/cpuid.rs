//! L1's CPUID (TDX Module ABI, "CPUID Virtualization").
//!
//! The module answers what it vouches for; a leaf that is not in [`TABLE`] is the host's to answer,
//! through #VE. Values are the platform's, cut to what the TD's XFAM and ATTRIBUTES allow.

use crate::l1::exit::Emulation;
use crate::module::Module;
use crate::platform::{CpuidResult, Platform, Register, Vm};
use x86_defs::cr4;
use x86_defs::exit_reason;
use x86_defs::xcr0::{self, AMX, AVX, AVX512, PKRU};

const BASE_MAXIMUM: u32 = 0x23;
const EXTENDED_MAXIMUM: u32 = 0x8000_0008;
const HYPERVISOR_LEAVES: core::ops::RangeInclusive<u32> = 0x4000_0000..=0x4fff_ffff;

/// Leaves that the module virtualizes, by their index in CPUID_CONTROL; sub-leaf `None` is any.
const TABLE: [(u32, Option<u32>); 55] = {
    const fn sub(leaf: u32, subleaf: u32) -> (u32, Option<u32>) {
        (leaf, Some(subleaf))
    }
    const fn all(leaf: u32) -> (u32, Option<u32>) {
        (leaf, None)
    }
    [
        all(0x0),
        all(0x1),
        all(0x3),
        sub(0x4, 0),
        sub(0x4, 1),
        sub(0x4, 2),
        sub(0x4, 3),
        sub(0x4, 4),
        sub(0x7, 0),
        sub(0x7, 1),
        sub(0x7, 2),
        all(0x8),
        all(0xa),
        sub(0xd, 0),
        sub(0xd, 1),
        sub(0xd, 2),
        sub(0xd, 3),
        sub(0xd, 4),
        sub(0xd, 5),
        sub(0xd, 6),
        sub(0xd, 7),
        sub(0xd, 8),
        sub(0xd, 9),
        sub(0xd, 10),
        sub(0xd, 11),
        sub(0xd, 12),
        sub(0xd, 13),
        sub(0xd, 14),
        sub(0xd, 15),
        sub(0xd, 16),
        sub(0xd, 17),
        sub(0xd, 18),
        all(0xe),
        all(0x11),
        all(0x12),
        all(0x13),
        sub(0x14, 0),
        sub(0x14, 1),
        all(0x15),
        all(0x19),
        all(0x1c),
        sub(0x1d, 0),
        sub(0x1d, 1),
        all(0x1e),
        all(0x20),
        sub(0x21, 0),
        all(0x22),
        sub(0x23, 0),
        sub(0x23, 1),
        sub(0x23, 2),
        sub(0x23, 3),
        all(0x8000_0000),
        all(0x8000_0001),
        all(0x8000_0007),
        all(0x8000_0008),
    ]
};

/// Answers CPUID, or says that L1 gets #VE.
pub(super) fn emulate<P: Platform>(module: &mut Module, platform: &mut P) -> Emulation {
    let leaf = platform.register(Vm::L1, Register::Rax) as u32;
    let subleaf = platform.register(Vm::L1, Register::Rcx) as u32;
    let leaf = clamp(leaf);
    let refused = Emulation::VirtualizationException(exit_reason::CPUID, 0);
    let Some(index) = TABLE
        .iter()
        .position(|&(l, s)| l == leaf && s.is_none_or(|s| s == subleaf))
    else {
        return refused;
    };
    let l1 = &module.vcpu.l1;
    let (everything, control_bit) = match platform.register(Vm::L1, Register::Cpl) {
        0 => (l1.cpuid_supervisor_ve, 1),
        _ => (l1.cpuid_user_ve, 2),
    };
    if everything & 1 != 0 || l1.cpuid_control[index] & control_bit != 0 {
        return refused;
    }
    let result = virtualize(module, platform, leaf, subleaf);
    for (register, value) in [
        (Register::Rax, result.eax),
        (Register::Rbx, result.ebx),
        (Register::Rcx, result.ecx),
        (Register::Rdx, result.edx),
    ] {
        platform.set_register(Vm::L1, register, value.into());
    }
    Emulation::Done
}

/// A leaf above the highest of its range reads as the highest basic one.
fn clamp(leaf: u32) -> u32 {
    let basic = leaf <= BASE_MAXIMUM;
    let extended = (0x8000_0000..=EXTENDED_MAXIMUM).contains(&leaf);
    if basic || extended || HYPERVISOR_LEAVES.contains(&leaf) {
        leaf
    } else {
        BASE_MAXIMUM
    }
}

/// The TD's value of a leaf in [`TABLE`].
fn virtualize<P: Platform>(
    module: &Module,
    platform: &mut P,
    leaf: u32,
    subleaf: u32,
) -> CpuidResult {
    let native = platform.cpuid(leaf, subleaf);
    let xfam = module.td.params.xfam;
    let cr4 = platform.register(Vm::L1, Register::Cr4);
    match (leaf, subleaf) {
        (0x0, _) => CpuidResult {
            eax: BASE_MAXIMUM,
            // "GenuineIntel"
            ebx: 0x756e_6547,
            ecx: 0x6c65_746e,
            edx: 0x4965_6e69,
        },
        (0x1, _) => leaf_1(native, xfam, cr4, module.vcpu.index),
        (0x4, _) => native,
        (0x7, 0) => leaf_7_0(native, xfam, cr4),
        (0x7, 1) => CpuidResult {
            eax: native.eax & !0xfb77_e20f & unless(xfam, AVX512, 0x20),
            edx: native.edx & !0xfffd_fbcf,
            ..CpuidResult::default()
        },
        (0x7, 2) => CpuidResult {
            edx: native.edx & 0x3f,
            ..CpuidResult::default()
        },
        (0xd, 0) => CpuidResult {
            eax: native.eax & xfam as u32,
            edx: 0,
            ..native
        },
        (0xd, 1) => CpuidResult {
            eax: native.eax & 0x1f,
            ebx: native.ebx,
            ecx: native.ecx & xfam as u32 & 0xd900,
            edx: 0,
        },
        (0xd, component) if xfam & 1 << component != 0 => native,
        (0x14, _) if xfam & 1 << 8 != 0 => native,
        (0x15, _) => CpuidResult {
            eax: 1,
            ebx: module.td.params.tsc_frequency.into(),
            ecx: 25_000_000,
            edx: 0,
        },
        (0x1c, _) if xfam & 1 << 15 != 0 => native,
        (0x1d | 0x1e, _) if xfam & AMX == AMX => native,
        (0x21, 0) => CpuidResult {
            eax: 0,
            // "IntelTDX    "
            ebx: 0x6574_6e49,
            edx: 0x5844_546c,
            ecx: 0x2020_2020,
        },
        (0x8000_0000, _) => CpuidResult {
            eax: EXTENDED_MAXIMUM,
            ..CpuidResult::default()
        },
        (0x8000_0001, _) => leaf_8000_0001(native, module.l1_space(platform).code_width()),
        (0x8000_0007, _) => CpuidResult {
            edx: INVARIANT_TSC,
            ..CpuidResult::default()
        },
        (0x8000_0008, _) => CpuidResult {
            eax: native.eax & 0xffff,
            ebx: native.ebx & WBNOINVD,
            ..CpuidResult::default()
        },
        _ => CpuidResult::default(),
    }
}

const CET: u64 = xcr0::CET_U | xcr0::CET_S;

const INVARIANT_TSC: u32 = 1 << 8;
const WBNOINVD: u32 = 1 << 9;

/// A mask that takes `bits` away unless XFAM has all of `components`.
fn unless(xfam: u64, components: u64, bits: u32) -> u32 {
    if xfam & components == components {
        !0
    } else {
        !bits
    }
}

fn leaf_1(native: CpuidResult, xfam: u64, cr4: u64, vcpu_index: u32) -> CpuidResult {
    const CLFLUSH_64_BYTES: u32 = 8 << 8;
    /// MONITOR, DS_CPL, VMX, SMX, EST, TM2, CNXT_ID, SDBG, xTPR, PDCM, DCA, OSXSAVE.
    const HIDDEN_ECX: u32 = 0x0804_cdf8;
    /// x2APIC, TSC deadline, and the hypervisor bit: the host emulates what the module does not.
    const SET_ECX: u32 = 1 << 21 | 1 << 24 | 1 << 31;
    /// PSN, DS, ACPI, SS, HTT, TM, PBE and the reserved ones.
    const HIDDEN_EDX: u32 = 0xf874_0400;
    const APIC: u32 = 1 << 9;
    let osxsave = if cr4 & cr4::OSXSAVE != 0 { 1 << 27 } else { 0 };
    CpuidResult {
        eax: native.eax & 0x0fff_3fff,
        // The initial APIC id is VCPU_INDEX; one logical processor.
        ebx: CLFLUSH_64_BYTES | 1 << 16 | vcpu_index << 24,
        ecx: native.ecx & !HIDDEN_ECX & unless(xfam, AVX, 0x3000_1000) | SET_ECX | osxsave,
        edx: native.edx & !HIDDEN_EDX | APIC,
    }
}

fn leaf_7_0(native: CpuidResult, xfam: u64, cr4: u64) -> CpuidResult {
    /// TSC_ADJUST, SGX, HLE, RTM, RDT_M, MPX, RDT_A, PT and the reserved ones.
    const HIDDEN_EBX: u32 = 0x0240_d816;
    /// OSPKE, WAITPKG, TME, KL and the reserved ones.
    const HIDDEN_ECX: u32 = 0x64be_a030;
    const HIDDEN_EDX: u32 = 0x0022_98c3;
    let ospke = if cr4 & cr4::PKE != 0 { 1 << 4 } else { 0 };
    CpuidResult {
        eax: 2,
        ebx: native.ebx & !HIDDEN_EBX & unless(xfam, AVX, 0x20) & unless(xfam, AVX512, 0xdc23_0000),
        ecx: native.ecx
            & !HIDDEN_ECX
            & unless(xfam, AVX, 0x600)
            & unless(xfam, AVX512, 0x5842)
            & unless(xfam, PKRU, 1 << 3)
            & unless(xfam, CET, 1 << 7)
            | ospke,
        edx: native.edx
            & !HIDDEN_EDX
            & unless(xfam, AVX512, 0x80_010c)
            & unless(xfam, CET, 1 << 20)
            & unless(xfam, AMX, 0x0340_0000),
    }
}

fn leaf_8000_0001(native: CpuidResult, code_width: u32) -> CpuidResult {
    const SYSCALL: u32 = 1 << 11;
    let syscall = if code_width == 64 { SYSCALL } else { 0 };
    CpuidResult {
        ecx: native.ecx & 0x121,
        edx: native.edx & 0x2c10_0000 | syscall,
        ..CpuidResult::default()
    }
}
