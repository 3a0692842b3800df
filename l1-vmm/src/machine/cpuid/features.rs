//! Feature bits: which the processor may have and L2 may use.
//!
//! Bits are those of SDM Vol. 2, "CPUID". A leaf that is not here is either made up as a whole
//! or not shown.

/// Leaf 1, ECX: features that the processor may have and L2 may use.
pub(super) mod leaf1_ecx {
    /// SSE3 to F16C and RDRAND, without DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, CNXT-ID,
    /// SDBG, xTPR, PDCM and DCA.
    pub(crate) const KEPT: u32 = 0x76DA_3203;
    /// x2APIC, TSC-deadline timer, hypervisor.
    pub(crate) const SET: u32 = 1 << 21 | 1 << 24 | 1 << 31;
    pub(crate) const PCID: u32 = 1 << 17;
    pub(crate) const XSAVE: u32 = 1 << 26;
    pub(crate) const OSXSAVE: u32 = 1 << 27;
    /// AVX, FMA, F16C.
    pub(crate) const NEED_AVX: u32 = 1 << 12 | 1 << 28 | 1 << 29;
}

/// Leaf 1, EDX without DS, ACPI, HTT, TM and PBE.
pub(super) const LEAF1_EDX_KEPT: u32 = !(1 << 21 | 1 << 22 | 1 << 28 | 1 << 29 | 1 << 31);
/// Leaf 1, EDX: HTT: the package has several logical processors.
pub(super) const LEAF1_EDX_HTT: u32 = 1 << 28;
/// Leaf 1, EDX: APIC.
pub(super) const LEAF1_EDX_APIC: u32 = 1 << 9;

/// Leaf 7.0, EBX without TSC_ADJUST, SGX, HLE, PQM, RTM, MPX, PQE and Intel PT.
pub(super) const LEAF7_EBX_KEPT: u32 =
    !(1 << 1 | 1 << 2 | 1 << 4 | 1 << 11 | 1 << 12 | 1 << 14 | 1 << 15 | 1 << 25);
/// AVX2.
pub(super) const LEAF7_EBX_AVX: u32 = 1 << 5;
/// AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL.
pub(super) const LEAF7_EBX_AVX512: u32 =
    1 << 16 | 1 << 17 | 1 << 21 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 30 | 1 << 31;
pub(super) const LEAF7_EBX_FSGSBASE: u32 = 1 << 0;
pub(super) const LEAF7_EBX_SMEP: u32 = 1 << 7;
pub(super) const LEAF7_EBX_SMAP: u32 = 1 << 20;
/// Leaf 7.0, ECX: PREFETCHWT1, AVX512_VBMI, UMIP, VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG,
/// VPOPCNTDQ, RDPID, CLDEMOTE, MOVDIRI, MOVDIR64B.
pub(super) const LEAF7_ECX_KEPT: u32 = 0x1A40_5F47;
/// VAES and VPCLMULQDQ.
pub(super) const LEAF7_ECX_AVX: u32 = 1 << 9 | 1 << 10;
/// AVX512_VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ.
pub(super) const LEAF7_ECX_AVX512: u32 = 1 << 1 | 1 << 6 | 1 << 11 | 1 << 12 | 1 << 14;
pub(super) const LEAF7_ECX_UMIP: u32 = 1 << 2;
/// Leaf 7.0, EDX: AVX512_4VNNIW, 4FMAPS, FSRM, VP2INTERSECT, MD_CLEAR, SERIALIZE, FP16,
/// IBRS, STIBP, L1D_FLUSH, ARCH_CAPABILITIES, SSBD.
pub(super) const LEAF7_EDX_KEPT: u32 = 0xBC80_451C;
/// AVX512_4VNNIW, 4FMAPS, VP2INTERSECT, FP16.
pub(super) const LEAF7_EDX_AVX512: u32 = 1 << 2 | 1 << 3 | 1 << 8 | 1 << 23;
/// Leaf 7.1, EAX: AVX-VNNI, AVX512_BF16, FZLRM, FSRS, FSRCS.
pub(super) const LEAF7_1_EAX_KEPT: u32 = 1 << 4 | 1 << 5 | 1 << 10 | 1 << 11 | 1 << 12;
/// Leaf 7.2, EDX: how branch prediction can be controlled through IA32_SPEC_CTRL.
pub(super) const LEAF7_2_EDX_KEPT: u32 = 0x3F;

/// Leaf 0DH.1, EAX: XSAVEOPT, XSAVEC, XGETBV with ECX 1, XSAVES.
pub(super) const XSAVE_FEATURES_KEPT: u32 = 0xF;
