//! CPUID as L2 sees it: one processor without what L2 is not given, made once from L1's own.
//!
//! L1 runs with the leaves that the module virtualizes for the TD (TDX Module ABI, "CPUID
//! Virtualization"). L2 gets those, less what L1 does not emulate or switch, plus a hypervisor
//! that Linux knows. Leaf 21H is zero: an L2 that took itself for a TD would look for #VE.

use alloc::vec::Vec;

use tdcall::tdvmcall::CpuidResult;

use super::xcr0::{self, Component, Components};

/// Frequency of the core crystal clock of every TD (TDX Module ABI, "TSC Virtualization").
const CRYSTAL_HZ: u32 = 25_000_000;
/// Highest basic leaf: the last one that says something.
const MAX_BASIC: u32 = 0x16;
/// Highest extended leaf.
const MAX_EXTENDED: u32 = 0x8000_0008;
/// First hypervisor leaf.
const HYPERVISOR: u32 = 0x4000_0000;
/// Bits of the physical address without LA57: 48 linear bits.
const LINEAR_BITS: u32 = 48;

/// Leaf 1, ECX: features that the processor may have and L2 may use.
mod leaf1_ecx {
    /// SSE3 to F16C and RDRAND, without DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, CNXT-ID,
    /// SDBG, xTPR, PDCM and DCA.
    pub(super) const KEPT: u32 = 0x76DA_3203;
    /// x2APIC, TSC-deadline timer, hypervisor.
    pub(super) const SET: u32 = 1 << 21 | 1 << 24 | 1 << 31;
    pub(super) const PCID: u32 = 1 << 17;
    pub(super) const XSAVE: u32 = 1 << 26;
    pub(super) const OSXSAVE: u32 = 1 << 27;
    /// AVX, FMA, F16C.
    pub(super) const NEED_AVX: u32 = 1 << 12 | 1 << 28 | 1 << 29;
}

/// Leaf 1, EDX without DS, ACPI, HTT, TM and PBE.
const LEAF1_EDX_KEPT: u32 = !(1 << 21 | 1 << 22 | 1 << 28 | 1 << 29 | 1 << 31);
/// Leaf 1, EDX: APIC.
const LEAF1_EDX_APIC: u32 = 1 << 9;

/// Leaf 7.0, EBX without TSC_ADJUST, SGX, HLE, PQM, RTM, MPX, PQE and Intel PT.
const LEAF7_EBX_KEPT: u32 =
    !(1 << 1 | 1 << 2 | 1 << 4 | 1 << 11 | 1 << 12 | 1 << 14 | 1 << 15 | 1 << 25);
/// AVX2.
const LEAF7_EBX_AVX: u32 = 1 << 5;
/// AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL.
const LEAF7_EBX_AVX512: u32 =
    1 << 16 | 1 << 17 | 1 << 21 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 30 | 1 << 31;
const LEAF7_EBX_FSGSBASE: u32 = 1 << 0;
const LEAF7_EBX_SMEP: u32 = 1 << 7;
const LEAF7_EBX_SMAP: u32 = 1 << 20;
/// Leaf 7.0, ECX: PREFETCHWT1, AVX512_VBMI, UMIP, VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG,
/// VPOPCNTDQ, RDPID, CLDEMOTE, MOVDIRI, MOVDIR64B.
const LEAF7_ECX_KEPT: u32 = 0x1A40_5F47;
/// VAES and VPCLMULQDQ.
const LEAF7_ECX_AVX: u32 = 1 << 9 | 1 << 10;
/// AVX512_VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ.
const LEAF7_ECX_AVX512: u32 = 1 << 1 | 1 << 6 | 1 << 11 | 1 << 12 | 1 << 14;
const LEAF7_ECX_UMIP: u32 = 1 << 2;
/// Leaf 7.0, EDX: AVX512_4VNNIW, 4FMAPS, FSRM, VP2INTERSECT, MD_CLEAR, SERIALIZE, FP16,
/// IBRS, STIBP, L1D_FLUSH, ARCH_CAPABILITIES, SSBD.
const LEAF7_EDX_KEPT: u32 = 0xBC80_451C;
/// AVX512_4VNNIW, 4FMAPS, VP2INTERSECT, FP16.
const LEAF7_EDX_AVX512: u32 = 1 << 2 | 1 << 3 | 1 << 8 | 1 << 23;
/// Leaf 7.1, EAX: AVX-VNNI, AVX512_BF16, FZLRM, FSRS, FSRCS.
const LEAF7_1_EAX_KEPT: u32 = 1 << 4 | 1 << 5 | 1 << 10 | 1 << 11 | 1 << 12;
/// Leaf 7.2, EDX: how branch prediction can be controlled through IA32_SPEC_CTRL.
const LEAF7_2_EDX_KEPT: u32 = 0x3F;

/// Leaf 0DH.1, EAX: XSAVEOPT, XSAVEC, XGETBV with ECX 1, XSAVES.
const XSAVE_FEATURES_KEPT: u32 = 0xF;

/// CR4 bits that L2 owns whatever the processor: VME to PAE, PGE, PCE, OSFXSR, OSXMMEXCPT.
const CR4_ALWAYS: u64 = 0x3F | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10;

/// The machine that the leaves describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Ratio of TSC to crystal: TSC_FREQUENCY of the TD.
    pub tsc_ratio: u32,
    /// XFAM of the TD.
    pub xfam: u64,
}

/// What of the leaves follows L2's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dynamic {
    /// CR4.OSXSAVE.
    pub os_xsave: bool,
    /// XCR0.
    pub xcr0: u64,
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
    pub fn new(own: impl Fn(u32, u32) -> CpuidResult, machine: &Machine) -> Self {
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
        let mut registers = match leaf {
            // Every subleaf says that there is no further level.
            0xB => CpuidResult {
                ecx: subleaf & 0xFF,
                ..self.find(leaf, subleaf)
            },
            _ => self.find(leaf, subleaf),
        };
        match (leaf, subleaf) {
            (1, _) if registers.ecx & leaf1_ecx::XSAVE != 0 && dynamic().os_xsave => {
                registers.ecx |= leaf1_ecx::OSXSAVE;
            }
            (0xD, 0) if registers != CpuidResult::default() => {
                registers.ebx = xcr0::standard_size(&self.components, dynamic().xcr0);
            }
            (0xD, 1) if registers != CpuidResult::default() => {
                registers.ebx = xcr0::compacted_size(&self.components, dynamic().xcr0);
            }
            _ => {}
        }
        if leaf == 0xB && subleaf < 2 {
            registers.ecx |= (subleaf + 1) << 8;
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
            (seven.ecx & LEAF7_ECX_UMIP, 11),
            (seven.ebx & LEAF7_EBX_FSGSBASE, 16),
            (one.ecx & leaf1_ecx::PCID, 17),
            (one.ecx & leaf1_ecx::XSAVE, 18),
            (seven.ebx & LEAF7_EBX_SMEP, 20),
            (seven.ebx & LEAF7_EBX_SMAP, 21),
        ]
        .iter()
        .filter(|(feature, _)| *feature != 0)
        .fold(CR4_ALWAYS, |bits, (_, bit)| bits | 1 << bit)
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

    fn add_basic(&mut self, own: &impl Fn(u32, u32) -> CpuidResult, machine: &Machine) {
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
        // Brand index and CLFLUSH size stay; one logical processor, APIC id 0.
        one.ebx = one.ebx & 0xFFFF | 1 << 16;
        one.ecx = one.ecx & leaf1_ecx::KEPT & !without(avx, leaf1_ecx::NEED_AVX) | leaf1_ecx::SET;
        one.edx = one.edx & LEAF1_EDX_KEPT | LEAF1_EDX_APIC;
        self.add(1, None, one);
        self.add(2, None, own(2, 0));
        for subleaf in 0..8 {
            let mut cache = own(4, subleaf);
            if cache.eax & 0x1F == 0 {
                break;
            }
            // One core, and nobody to share with.
            cache.eax &= 0x3FFF;
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
        for subleaf in 0..2 {
            self.add(
                0xB,
                Some(subleaf),
                CpuidResult {
                    ebx: 1,
                    ..CpuidResult::default()
                },
            );
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
mod tests {
    use super::*;

    const MACHINE: Machine = Machine {
        tsc_ratio: 40,
        xfam: 0xE7,
    };

    /// A processor with every feature there is.
    fn everything(leaf: u32, subleaf: u32) -> CpuidResult {
        let all = CpuidResult {
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
        };
        match (leaf, subleaf) {
            (0, _) => CpuidResult {
                eax: 0x21,
                ebx: 1,
                ecx: 2,
                edx: 3,
            },
            (4, 0..=2) => CpuidResult {
                eax: 0xFFFF_FC21,
                ..all
            },
            (4, _) => CpuidResult::default(),
            (7, 0) => CpuidResult { eax: 5, ..all },
            (0xD, 0) => CpuidResult {
                eax: 0x602E7,
                ebx: 0,
                ecx: 0,
                edx: 0,
            },
            (0xD, 1) => all,
            (0xD, 2) => CpuidResult {
                eax: 256,
                ebx: 576,
                ecx: 0,
                edx: 0,
            },
            (0xD, 5) => CpuidResult {
                eax: 64,
                ebx: 1088,
                ecx: 0,
                edx: 0,
            },
            (0xD, 6) => CpuidResult {
                eax: 512,
                ebx: 1152,
                ecx: 0,
                edx: 0,
            },
            (0xD, 7) => CpuidResult {
                eax: 1024,
                ebx: 1664,
                ecx: 0,
                edx: 0,
            },
            (0x21, 0) => CpuidResult {
                eax: 0,
                ebx: 1,
                ecx: 2,
                edx: 3,
            },
            (0x8000_0008, _) => CpuidResult { eax: 0x3934, ..all },
            _ => all,
        }
    }

    fn at(table: &CpuidTable, leaf: u32, subleaf: u32) -> CpuidResult {
        table.get(leaf, subleaf, || Dynamic {
            os_xsave: true,
            xcr0: 7,
        })
    }

    #[test]
    fn l2_does_not_take_itself_for_a_td() {
        let table = CpuidTable::new(everything, &MACHINE);
        assert_eq!(at(&table, 0x21, 0), CpuidResult::default());
        assert_eq!(at(&table, 0, 0).eax, 0x16);
    }

    #[test]
    fn what_is_not_emulated_is_not_offered() {
        let table = CpuidTable::new(everything, &MACHINE);
        let one = at(&table, 1, 0);
        for bit in [2, 3, 4, 5, 6, 7, 8, 10, 11, 14, 15, 16, 18] {
            assert_eq!(one.ecx >> bit & 1, 0, "CPUID.1:ECX[{bit}]");
        }
        for bit in [
            0, 1, 9, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
        ] {
            assert_eq!(one.ecx >> bit & 1, 1, "CPUID.1:ECX[{bit}]");
        }
        assert_eq!(one.ebx >> 16, 1, "one processor, APIC id 0");
        let seven = at(&table, 7, 0);
        for bit in [1, 2, 4, 11, 12, 14, 15, 25] {
            assert_eq!(seven.ebx >> bit & 1, 0, "CPUID.7:EBX[{bit}]");
        }
        for bit in [3, 4, 5, 7, 13, 16, 23, 24, 29, 30, 31] {
            assert_eq!(seven.ecx >> bit & 1, 0, "CPUID.7:ECX[{bit}]");
        }
        for bit in [5, 11, 13, 15, 18, 19, 20, 22, 24, 25, 30] {
            assert_eq!(seven.edx >> bit & 1, 0, "CPUID.7:EDX[{bit}]");
        }
        for leaf in [5, 0xA, 0x12, 0x14, 0x19, 0x1A, 0x1C, 0x1D, 0x1E, 0x1F, 0x20] {
            assert_eq!(at(&table, leaf, 0), CpuidResult::default(), "{leaf:#x}");
        }
    }

    #[test]
    fn vector_features_follow_xfam() {
        let table = CpuidTable::new(everything, &Machine { xfam: 3, ..MACHINE });
        assert_eq!(table.xcr0(), 3);
        assert_eq!(at(&table, 1, 0).ecx & leaf1_ecx::NEED_AVX, 0);
        assert_eq!(at(&table, 7, 0).ebx & (LEAF7_EBX_AVX | LEAF7_EBX_AVX512), 0);
    }

    #[test]
    fn xsave_leaves_follow_l2s_xcr0() {
        let table = CpuidTable::new(everything, &MACHINE);
        let of = |subleaf, xcr0| {
            table.get(0xD, subleaf, || Dynamic {
                os_xsave: true,
                xcr0,
            })
        };
        assert_eq!(
            (of(0, 3).eax, of(0, 3).ebx, of(0, 3).ecx),
            (0xE7, 576, 2688)
        );
        assert_eq!((of(0, 7).ebx, of(0, 0xE7).ebx), (832, 2688));
        assert_eq!((of(1, 7).eax, of(1, 0xE7).ebx), (0xF, 2432));
        assert_eq!((of(1, 7).ecx, of(1, 7).edx), (0, 0), "no supervisor state");
        assert_eq!(of(9, 7), CpuidResult::default());
        assert_eq!(of(2, 7).eax, 256);
    }

    #[test]
    fn os_xsave_shows_cr4() {
        let table = CpuidTable::new(everything, &MACHINE);
        let ecx = |os_xsave| table.get(1, 0, || Dynamic { os_xsave, xcr0: 1 }).ecx;
        assert_eq!((ecx(true) >> 27 & 1, ecx(false) >> 27 & 1), (1, 0));
    }

    #[test]
    fn clocks_are_known_without_calibration() {
        let table = CpuidTable::new(everything, &MACHINE);
        let clock = at(&table, 0x15, 0);
        assert_eq!((clock.eax, clock.ebx, clock.ecx), (1, 40, 25_000_000));
        assert_eq!(at(&table, 0x16, 0).eax, 1000);
        assert_eq!(at(&table, 0x8000_0007, 0).edx, 1 << 8);
    }

    #[test]
    fn the_hypervisor_is_kvm_without_features() {
        let table = CpuidTable::new(everything, &MACHINE);
        let leaf = at(&table, 0x4000_0000, 0);
        let mut signature = [0; 12];
        for (bytes, register) in signature.chunks_mut(4).zip([leaf.ebx, leaf.ecx, leaf.edx]) {
            bytes.copy_from_slice(&register.to_le_bytes());
        }
        assert_eq!(&signature, b"KVMKVMKVM\0\0\0");
        assert_eq!(at(&table, 0x4000_0001, 0), CpuidResult::default());
    }

    #[test]
    fn the_topology_is_one_processor() {
        let table = CpuidTable::new(everything, &MACHINE);
        for (subleaf, ebx, ecx) in [(0, 1, 0x100), (1, 1, 0x201), (2, 0, 2), (3, 0, 3)] {
            let level = at(&table, 0xB, subleaf);
            assert_eq!(
                (level.eax, level.ebx, level.ecx, level.edx),
                (0, ebx, ecx, 0)
            );
        }
        assert_eq!(at(&table, 4, 0).eax & !0x3FFF, 0);
        assert_eq!(at(&table, 4, 3), CpuidResult::default());
    }

    #[test]
    fn addresses_are_48_bits_linear() {
        let table = CpuidTable::new(everything, &MACHINE);
        assert_eq!(at(&table, 0x8000_0008, 0).eax, 0x3034);
        assert_eq!(table.physical_address_width(), 52);
        assert_eq!(table.cr4(), 0x37_0FBF);
    }
}
