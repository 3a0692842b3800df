//! CPUID as L2 sees it: a package of cores without what L2 is not given, made once from L1's own.
//!
//! L1 runs with the leaves that the module virtualizes for the TD (TDX Module ABI, "CPUID
//! Virtualization"). L2 gets those, less what L1 does not emulate or switch, plus a hypervisor
//! that Linux knows. Leaf 21H is zero: an L2 that took itself for a TD would look for #VE.

mod features;

use alloc::vec::Vec;
use x86_defs::cr4;

use tdcall::tdvmcall::CpuidResult;

use crate::vcpu::xcr0::{self, Component, Components};
use features::{
    LEAF1_EDX_APIC, LEAF1_EDX_HTT, LEAF1_EDX_KEPT, LEAF7_1_EAX_KEPT, LEAF7_2_EDX_KEPT,
    LEAF7_EBX_AVX, LEAF7_EBX_AVX512, LEAF7_EBX_FSGSBASE, LEAF7_EBX_KEPT, LEAF7_EBX_SMAP,
    LEAF7_EBX_SMEP, LEAF7_ECX_AVX, LEAF7_ECX_AVX512, LEAF7_ECX_KEPT, LEAF7_ECX_UMIP,
    LEAF7_EDX_AVX512, LEAF7_EDX_KEPT, XSAVE_FEATURES_KEPT, leaf1_ecx,
};

/// Frequency of the core crystal clock of every TD (TDX Module ABI, "TSC Virtualization").
pub const CRYSTAL_HZ: u32 = 25_000_000;
/// Highest basic leaf: the last one that says something.
const MAX_BASIC: u32 = 0x16;
/// Highest extended leaf.
const MAX_EXTENDED: u32 = 0x8000_0008;
/// Leaf BH: level type of the threads of a core.
const TOPOLOGY_SMT: u32 = 1;
/// Leaf BH: level type of the cores of a package.
const TOPOLOGY_CORE: u32 = 2;
/// First hypervisor leaf.
const HYPERVISOR: u32 = 0x4000_0000;
/// Bits of the physical address without LA57: 48 linear bits.
const LINEAR_BITS: u32 = 48;

/// CR4 bits that L2 owns whatever the processor: VME to PAE, PGE, PCE, OSFXSR, OSXMMEXCPT.
const CR4_ALWAYS: u64 = cr4::VME
    | cr4::PVI
    | cr4::TSD
    | cr4::DE
    | cr4::PSE
    | cr4::PAE
    | cr4::PGE
    | cr4::PCE
    | cr4::OSFXSR
    | cr4::OSXMMEXCPT;

/// The machine that the leaves describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Ratio of TSC to crystal: TSC_FREQUENCY of the TD.
    pub tsc_ratio: u32,
    /// XFAM of the TD.
    pub xfam: u64,
    /// Virtual processors, each a core of one package. Their APIC ids are their numbers.
    pub processors: u32,
}

/// What of the leaves follows L2's state, and which processor asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dynamic {
    /// CR4.OSXSAVE.
    pub os_xsave: bool,
    /// XCR0.
    pub xcr0: u64,
    /// APIC id.
    pub id: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    leaf: u32,
    /// None: the leaf has no subleaves.
    subleaf: Option<u32>,
    registers: CpuidResult,
}

/// L2's leaves.
#[derive(Clone, Debug)]
pub struct CpuidTable {
    entries: Vec<Entry>,
    components: Components,
    xcr0: u64,
}

impl CpuidTable {
    /// Makes L2's leaves from L1's, which `own` executes CPUID for.
    pub fn new(own: impl Fn(u32, u32) -> CpuidResult, machine: &Described) -> Self {
        let reported = own(0xD, 0);
        let reported = u64::from(reported.edx) << 32 | u64::from(reported.eax);
        let has_xsave = own(1, 0).ecx & leaf1_ecx::XSAVE != 0;
        let xcr0 = xcr0::offered(machine.xfam, if has_xsave { reported } else { 0 });
        let mut table = Self {
            entries: Vec::new(),
            components: Components::default(),
            xcr0,
        };
        table.add_basic(&own, machine);
        if has_xsave {
            table.add_xsave(&own);
        }
        table.add_hypervisor();
        table.add_extended(&own);
        table
    }

    /// What CPUID returns.
    pub fn get(&self, leaf: u32, subleaf: u32, dynamic: impl Fn() -> Dynamic) -> CpuidResult {
        let mut registers = self.find(leaf, subleaf);
        match (leaf, subleaf) {
            (1, _) => {
                let dynamic = dynamic();
                registers.ebx |= u32::from(dynamic.id) << 24;
                if registers.ecx & leaf1_ecx::XSAVE != 0 && dynamic.os_xsave {
                    registers.ecx |= leaf1_ecx::OSXSAVE;
                }
            }
            // The id is in every subleaf, and so is the subleaf's number.
            (0xB, _) => {
                registers.ecx |= subleaf & 0xFF;
                registers.edx = dynamic().id.into();
            }
            (0xD, 0) if registers != CpuidResult::default() => {
                registers.ebx = xcr0::standard_size(&self.components, dynamic().xcr0);
            }
            (0xD, 1) if registers != CpuidResult::default() => {
                registers.ebx = xcr0::compacted_size(&self.components, dynamic().xcr0);
            }
            _ => {}
        }
        registers
    }

    /// The components that XSETBV takes.
    pub fn xcr0(&self) -> u64 {
        self.xcr0
    }

    /// Bits of CR4 that L2 may set besides MCE.
    pub fn cr4(&self) -> u64 {
        let (one, seven) = (self.find(1, 0), self.find(7, 0));
        [
            (seven.ecx & LEAF7_ECX_UMIP, cr4::UMIP),
            (seven.ebx & LEAF7_EBX_FSGSBASE, cr4::FSGSBASE),
            (one.ecx & leaf1_ecx::PCID, cr4::PCIDE),
            (one.ecx & leaf1_ecx::XSAVE, cr4::OSXSAVE),
            (seven.ebx & LEAF7_EBX_SMEP, cr4::SMEP),
            (seven.ebx & LEAF7_EBX_SMAP, cr4::SMAP),
        ]
        .iter()
        .filter(|(feature, _)| *feature != 0)
        .fold(CR4_ALWAYS, |bits, (_, bit)| bits | bit)
    }

    /// MAXPHYADDR.
    pub fn physical_address_width(&self) -> u32 {
        (self.find(MAX_EXTENDED, 0).eax & 0xFF).clamp(36, 52)
    }

    fn find(&self, leaf: u32, subleaf: u32) -> CpuidResult {
        self.entries
            .iter()
            .find(|entry| entry.leaf == leaf && entry.subleaf.is_none_or(|own| own == subleaf))
            .map_or(CpuidResult::default(), |entry| entry.registers)
    }

    fn add(&mut self, leaf: u32, subleaf: Option<u32>, registers: CpuidResult) {
        self.entries.push(Entry {
            leaf,
            subleaf,
            registers,
        });
    }

    fn add_basic(&mut self, own: &impl Fn(u32, u32) -> CpuidResult, machine: &Described) {
        let avx = self.xcr0 & xcr0::AVX != 0;
        let avx512 = self.xcr0 & xcr0::AVX512 != 0;
        let without = |present: bool, bits: u32| if present { 0 } else { bits };
        self.add(
            0,
            None,
            CpuidResult {
                eax: MAX_BASIC,
                ..own(0, 0)
            },
        );
        let mut one = own(1, 0);
        let processors = machine.processors.max(1);
        let ids = processors.next_power_of_two();
        // Brand index and CLFLUSH size stay; the APIC ids that the package has room for.
        one.ebx = one.ebx & 0xFFFF | (ids & 0xFF) << 16;
        one.ecx = one.ecx & leaf1_ecx::KEPT & !without(avx, leaf1_ecx::NEED_AVX) | leaf1_ecx::SET;
        one.edx = one.edx & LEAF1_EDX_KEPT | LEAF1_EDX_APIC;
        if processors > 1 {
            one.edx |= LEAF1_EDX_HTT;
        }
        self.add(1, None, one);
        self.add(2, None, own(2, 0));
        for subleaf in 0..8 {
            let mut cache = own(4, subleaf);
            if cache.eax & 0x1F == 0 {
                break;
            }
            // The cores of the package; the last level is the one that they share.
            let sharing = if cache.eax >> 5 & 7 >= 3 { ids } else { 1 };
            cache.eax = cache.eax & 0x3FFF | (sharing - 1) << 14 | (ids - 1) << 26;
            self.add(4, Some(subleaf), cache);
        }
        // ARAT: the APIC timer does not stop.
        self.add(
            6,
            None,
            CpuidResult {
                eax: 1 << 2,
                ..CpuidResult::default()
            },
        );
        let mut seven = own(7, 0);
        let last_subleaf = seven.eax.min(2);
        seven.eax = last_subleaf;
        seven.ebx &=
            LEAF7_EBX_KEPT & !without(avx, LEAF7_EBX_AVX) & !without(avx512, LEAF7_EBX_AVX512);
        seven.ecx &=
            LEAF7_ECX_KEPT & !without(avx, LEAF7_ECX_AVX) & !without(avx512, LEAF7_ECX_AVX512);
        seven.edx &= LEAF7_EDX_KEPT & !without(avx512, LEAF7_EDX_AVX512);
        self.add(7, Some(0), seven);
        if last_subleaf >= 1 {
            let kept = LEAF7_1_EAX_KEPT & !without(avx, 1 << 4) & !without(avx512, 1 << 5);
            let eax = own(7, 1).eax & kept;
            self.add(
                7,
                Some(1),
                CpuidResult {
                    eax,
                    ..CpuidResult::default()
                },
            );
        }
        if last_subleaf >= 2 {
            let edx = own(7, 2).edx & LEAF7_2_EDX_KEPT;
            self.add(
                7,
                Some(2),
                CpuidResult {
                    edx,
                    ..CpuidResult::default()
                },
            );
        }
        // A core has one thread; above the cores there is no further level.
        for (subleaf, kind, shift, count) in [
            (0, TOPOLOGY_SMT, 0, 1),
            (1, TOPOLOGY_CORE, ids.trailing_zeros(), processors),
        ] {
            let level = CpuidResult {
                eax: shift,
                ebx: count,
                ecx: kind << 8,
                edx: 0,
            };
            self.add(0xB, Some(subleaf), level);
        }
        let clock = CpuidResult {
            eax: 1,
            ebx: machine.tsc_ratio,
            ecx: CRYSTAL_HZ,
            edx: 0,
        };
        self.add(0x15, None, clock);
        let megahertz = machine.tsc_ratio.saturating_mul(CRYSTAL_HZ / 1_000_000) & 0xFFFF;
        let frequency = CpuidResult {
            eax: megahertz,
            ebx: megahertz,
            ecx: 100,
            edx: 0,
        };
        self.add(0x16, None, frequency);
    }

    fn add_xsave(&mut self, own: &impl Fn(u32, u32) -> CpuidResult) {
        for (index, component) in (0u32..).zip(&mut self.components).skip(2) {
            if self.xcr0 >> index & 1 != 0 {
                let state = own(0xD, index);
                *component = Component {
                    size: state.eax,
                    offset: state.ebx,
                    aligned: state.ecx & 1 << 1 != 0,
                };
                self.entries.push(Entry {
                    leaf: 0xD,
                    subleaf: Some(index),
                    registers: state,
                });
            }
        }
        let all = xcr0::standard_size(&self.components, self.xcr0);
        let main = CpuidResult {
            eax: self.xcr0 as u32,
            ebx: all,
            ecx: all,
            edx: (self.xcr0 >> 32) as u32,
        };
        self.add(0xD, Some(0), main);
        let features = own(0xD, 1).eax & XSAVE_FEATURES_KEPT;
        self.add(
            0xD,
            Some(1),
            CpuidResult {
                eax: features,
                ..CpuidResult::default()
            },
        );
    }

    /// "KVMKVMKVM" without a single paravirtual feature: Linux then keeps the x2APIC though
    /// there is no interrupt remapping, and asks for nothing.
    fn add_hypervisor(&mut self) {
        let signature = CpuidResult {
            eax: HYPERVISOR + 1,
            ebx: u32::from_le_bytes(*b"KVMK"),
            ecx: u32::from_le_bytes(*b"VMKV"),
            edx: u32::from_le_bytes(*b"M\0\0\0"),
        };
        self.add(HYPERVISOR, None, signature);
    }

    fn add_extended(&mut self, own: &impl Fn(u32, u32) -> CpuidResult) {
        const BASE: u32 = 0x8000_0000;
        self.add(
            BASE,
            None,
            CpuidResult {
                eax: MAX_EXTENDED,
                ..CpuidResult::default()
            },
        );
        let features = own(BASE + 1, 0);
        let features = CpuidResult {
            // LAHF, LZCNT, PREFETCHW.
            ecx: features.ecx & (1 << 0 | 1 << 5 | 1 << 8),
            // SYSCALL, execute-disable, 1 GiB pages, RDTSCP, long mode.
            edx: features.edx & (1 << 11 | 1 << 20 | 1 << 26 | 1 << 27 | 1 << 29),
            ..CpuidResult::default()
        };
        self.add(BASE + 1, None, features);
        for leaf in [BASE + 2, BASE + 3, BASE + 4, BASE + 6] {
            self.add(leaf, None, own(leaf, 0));
        }
        // The TSC of a TD is invariant.
        self.add(
            BASE + 7,
            None,
            CpuidResult {
                edx: 1 << 8,
                ..CpuidResult::default()
            },
        );
        let physical = own(BASE + 8, 0).eax & 0xFF;
        let eax = LINEAR_BITS << 8 | physical;
        self.add(
            BASE + 8,
            None,
            CpuidResult {
                eax,
                ..CpuidResult::default()
            },
        );
    }
}

#[cfg(test)]
mod tests;
