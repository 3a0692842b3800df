//! Metadata field identifiers, as TDG.VM.RD, TDG.VP.RD, TDG.SYS.RD and their writes take them.

use crate::address::VmIndex;
use crate::vmcs::VmcsField;

/// MD_FIELD_ID (TDX Module ABI, "Global Metadata Field Identifier").
///
/// The module finds a field by context, class and code; the other bits of an identifier say how
/// wide the field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct FieldId(pub u64);

/// Whose metadata a field belongs to, bits 54:52.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// The module.
    Sys,
    /// The TD.
    Td,
    /// The virtual processor.
    Vp,
    /// A value that no leaf uses.
    Other(u8),
}

/// Width of one element, bits 33:32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ElementSize {
    /// 8 bits.
    Bits8 = 0,
    /// 16 bits.
    Bits16 = 1,
    /// 32 bits.
    Bits32 = 2,
    /// 64 bits.
    Bits64 = 3,
}

impl FieldId {
    /// The identifier that asks for the first field of a context.
    pub const FIRST: Self = Self(u64::MAX);
    /// The identifier that a read returns after the last field. The same number as [`FieldId::FIRST`].
    pub const NONE: Self = Self(u64::MAX);

    /// ATTRIBUTES of the TD.
    pub const ATTRIBUTES: Self = Self(0x1110_0003_0000_0000);
    /// XFAM of the TD.
    pub const XFAM: Self = Self(0x1110_0003_0000_0001);
    /// MAX_VCPUS.
    pub const MAX_VCPUS: Self = Self(0x1110_0002_0000_0002);
    /// GPAW: 0 is 48 bits, 1 is 52 bits.
    pub const GPAW: Self = Self(0x1110_0000_0000_0003);
    /// TSC_FREQUENCY in units of 25 MHz.
    pub const TSC_FREQUENCY: Self = Self(0x1110_0001_0000_000C);
    /// NOTIFY_ENABLES; bit 0: tell L1 of a suspected zero-step attack.
    pub const NOTIFY_ENABLES: Self = Self(0x9110_0003_0000_0010);
    /// CONFIG_FLAGS of the TD, see [`ConfigFlags`].
    pub const CONFIG_FLAGS: Self = Self(0x1110_0003_0000_0016);
    /// TD_CTLS, see [`TdCtls`].
    pub const TD_CTLS: Self = Self(0x1110_0003_0000_0017);
    /// NUM_VCPUS.
    pub const NUM_VCPUS: Self = Self(0x9010_0002_0000_0001);
    /// NUM_L2_VMS, 0..=3.
    pub const NUM_L2_VMS: Self = Self(0x9010_0001_0000_0005);

    /// VCPU_INDEX.
    pub const VCPU_INDEX: Self = Self(0xA020_0002_0000_0002);
    /// CPUID_SUPERVISOR_VE.
    pub const CPUID_SUPERVISOR_VE: Self = Self(0xA020_0000_0000_0007);
    /// CPUID_USER_VE.
    pub const CPUID_USER_VE: Self = Self(0xA020_0000_0000_0008);

    /// VENDOR_ID of the module, 0x8086.
    pub const VENDOR_ID: Self = Self(0x0800_0002_0000_0000);
    /// BUILD_DATE of the module, eight decimal digits: 20240725. Release 1.5.01 tells it to the host alone, as the next three.
    pub const BUILD_DATE: Self = Self(0x8800_0002_0000_0001);
    /// BUILD_NUM of the module.
    pub const BUILD_NUM: Self = Self(0x8800_0001_0000_0002);
    /// UPDATE_VERSION of the module.
    pub const UPDATE_VERSION: Self = Self(0x0800_0001_0000_0005);
    /// INTERNAL_VERSION of the module.
    pub const INTERNAL_VERSION: Self = Self(0x0800_0001_0000_0006);
    /// MINOR_VERSION of the module.
    pub const MINOR_VERSION: Self = Self(0x0800_0001_0000_0003);
    /// MAJOR_VERSION of the module.
    pub const MAJOR_VERSION: Self = Self(0x0800_0001_0000_0004);
    /// SYS_ATTRIBUTES.
    pub const SYS_ATTRIBUTES: Self = Self(0x0A00_0002_0000_0000);
    /// NUM_TDX_FEATURES: how many words of features there are.
    pub const NUM_TDX_FEATURES: Self = Self(0x0A00_0000_0000_0001);
    /// TDX_FEATURES0, see [`TdxFeatures0`].
    pub const TDX_FEATURES0: Self = Self(0x0A00_0003_0000_0008);
    /// GUEST_L2_GPA_ATTR_MASK: the page attributes the module knows.
    pub const GUEST_L2_GPA_ATTR_MASK: Self = Self(0xA200_0001_0000_0000);

    /// CLASS_CODE of the L2 VMCS of VM 1; VM n has 8 · (n − 1) more.
    pub const CLASS_L2_VMCS_1: u8 = 36;
    /// CLASS_CODE of the L2 MSR bitmaps of VM 1; VM n has 8 · (n − 1) more.
    pub const CLASS_L2_MSR_BITMAPS_1: u8 = 37;

    const L2_CTLS: u64 = 0xA020_0003_0000_0050;
    const TSC_DEADLINE: u64 = 0xA020_0003_0000_0058;
    const L2_VMCS: u64 = 0x2420_0000_0000_0000;
    const L2_MSR_BITMAPS: u64 = 0x2520_0003_0000_0000;
    const CPUID_CONTROL: u64 = 0xA120_0000_0000_0000;
    const MRTD: u64 = 0x1310_0003_0000_0000;
    const MRCONFIGID: u64 = 0x1310_0003_0000_0010;
    const RTMR: u64 = 0x1310_0003_0000_0040;
    const CLASS_STRIDE: u64 = 8 << 56;

    /// L2_CTLS of `vm` on this virtual processor, see [`L2Ctls`].
    pub const fn l2_ctls(vm: VmIndex) -> Self {
        Self(Self::L2_CTLS + vm.get() as u64)
    }

    /// TSC_DEADLINE of `vm` on this virtual processor, in L1's virtual TSC; all ones: none.
    pub const fn tsc_deadline(vm: VmIndex) -> Self {
        Self(Self::TSC_DEADLINE + vm.get() as u64)
    }

    /// A quadword of L2's MSR bitmaps; `qword` is 0..512, others give a field that is not there.
    pub const fn l2_msr_bitmap(vm: VmIndex, qword: u16) -> Self {
        Self(Self::L2_MSR_BITMAPS + Self::class_offset(vm) + qword as u64)
    }

    /// A field of L2's VMCS.
    pub const fn l2_vmcs(vm: VmIndex, field: VmcsField) -> Self {
        let size = (field.element_size() as u64) << 32;
        Self(Self::L2_VMCS + Self::class_offset(vm) + size + field.0 as u64)
    }

    /// CPUID_CONTROL of an entry of the module's CPUID table.
    pub const fn cpuid_control(index: u8) -> Self {
        Self(Self::CPUID_CONTROL + index as u64)
    }

    /// Quadword `qword` (0..6) of MRTD.
    pub const fn mrtd(qword: u8) -> Self {
        Self(Self::MRTD + qword as u64)
    }

    /// Quadword `qword` (0..6) of MRCONFIGID.
    pub const fn mrconfigid(qword: u8) -> Self {
        Self(Self::MRCONFIGID + qword as u64)
    }

    /// Quadword `qword` (0..6) of RTMR `index` (0..4).
    pub const fn rtmr(index: u8, qword: u8) -> Self {
        Self(Self::RTMR + 6 * index as u64 + qword as u64)
    }

    const fn class_offset(vm: VmIndex) -> u64 {
        (vm.get() as u64 - 1) * Self::CLASS_STRIDE
    }

    /// FIELD_CODE, bits 23:0.
    pub const fn code(self) -> u32 {
        (self.0 & 0x00FF_FFFF) as u32
    }

    /// CLASS_CODE, bits 61:56.
    pub const fn class(self) -> u8 {
        (self.0 >> 56 & 0x3F) as u8
    }

    /// CONTEXT, bits 54:52. The leaf, not this field, decides which context is accessed.
    pub const fn context(self) -> Context {
        match (self.0 >> 52 & 7) as u8 {
            0 => Context::Sys,
            1 => Context::Td,
            2 => Context::Vp,
            other => Context::Other(other),
        }
    }

    /// ELEMENT_SIZE_CODE, bits 33:32.
    pub const fn element_size(self) -> ElementSize {
        match self.0 >> 32 & 3 {
            0 => ElementSize::Bits8,
            1 => ElementSize::Bits16,
            2 => ElementSize::Bits32,
            _ => ElementSize::Bits64,
        }
    }

    /// Whether both name the same field of one context: class and code agree.
    pub const fn is_same_field(self, other: Self) -> bool {
        self.class() == other.class() && self.code() == other.code()
    }
}

mod bits {
    #![allow(missing_docs)] // The macro's own helpers have none; every field below has one.
    use bitfield_struct::bitfield;

    /// L2_CTLS: how the module treats an L2 VM on this virtual processor.
    #[bitfield(u64)]
    #[derive(PartialEq, Eq)]
    pub struct L2Ctls {
        /// ENABLE_SHARED_EPTP: L2 reaches shared memory that the host maps.
        pub enable_shared_eptp: bool,
        /// ENABLE_TDVMCALL: L2's TDVMCALLs go to the host, past L1.
        pub enable_tdvmcall: bool,
        /// ENABLE_EXTENDED_VE: no effect; leave 0.
        pub enable_extended_ve: bool,
        #[bits(61)]
        __: u64,
    }

    /// TD_CTLS: controls of the TD that the guest may set.
    #[bitfield(u64)]
    #[derive(PartialEq, Eq)]
    pub struct TdCtls {
        /// PENDING_VE_DISABLE: access to a pending page is a TD exit, not a #VE.
        pub pending_ve_disable: bool,
        /// ENUM_TOPOLOGY.
        pub enum_topology: bool,
        /// VIRT_CPUID2.
        pub virt_cpuid2: bool,
        /// REDUCE_VE.
        pub reduce_ve: bool,
        /// ENABLE_HW_KEYS: TDG.MR.KEY.GET may be called.
        pub enable_hw_keys: bool,
        #[bits(58)]
        __: u64,
        /// LOCK: no further change.
        pub lock: bool,
    }

    /// CONFIG_FLAGS: non-attested configuration of the TD.
    #[bitfield(u64)]
    #[derive(PartialEq, Eq)]
    pub struct ConfigFlags {
        /// GPAW: 0 is 48 bits, 1 is 52 bits.
        pub gpaw: bool,
        /// FLEXIBLE_PENDING_VE: the guest may change [`TdCtls::pending_ve_disable`].
        pub flexible_pending_ve: bool,
        /// NO_RBP_MOD: TDG.VP.VMCALL may not pass RBP.
        pub no_rbp_mod: bool,
        /// MAXPA_VIRT.
        pub maxpa_virt: bool,
        /// MAXGPA_VIRT.
        pub maxgpa_virt: bool,
        /// TDX_CONNECT.
        pub tdx_connect: bool,
        /// PAGE_RELEASE.
        pub page_release: bool,
        /// SEALING.
        pub sealing: bool,
        #[bits(56)]
        __: u64,
    }

    /// TDX_FEATURES0: what the module can do.
    #[bitfield(u64)]
    #[derive(PartialEq, Eq)]
    pub struct TdxFeatures0 {
        /// TD_MIGRATION.
        pub td_migration: bool,
        /// TD_PRESERVING.
        pub td_preserving: bool,
        /// SERVICE_TD.
        pub service_td: bool,
        /// TDG_VP_RDWR.
        pub tdg_vp_rdwr: bool,
        /// RELAXED_MEM_MNG_CONCURRENCY.
        pub relaxed_mem_mng_concurrency: bool,
        /// CPUID_VIRT_CTRL.
        pub cpuid_virt_ctrl: bool,
        __: bool,
        /// TD_PARTITIONING.
        pub td_partitioning: bool,
        /// LOCAL_ATTESTATION: TDG.MR.VERIFYREPORT exists.
        pub local_attestation: bool,
        /// TD_ENTRY_ENHANCEMENTS.
        pub td_entry_enhancements: bool,
        /// HOST_PRIORITY_LOCKS.
        pub host_priority_locks: bool,
        /// CONFIG_IA32_ARCH_CAPABILITIES.
        pub config_ia32_arch_capabilities: bool,
        /// SEALING.
        pub sealing: bool,
        #[bits(3)]
        __: u8,
        /// PENDING_EPT_VIOLATION_V2: a pending page has its own extended exit qualification.
        pub pending_ept_violation_v2: bool,
        /// FMS_CONFIG.
        pub fms_config: bool,
        /// NO_RBP_MOD.
        pub no_rbp_mod: bool,
        /// L2_TLB_INVD_OPT: TDG.VP.ENTER knows flush kinds 2 and 3.
        pub l2_tlb_invd_opt: bool,
        /// TOPOLOGY_ENUM.
        pub topology_enum: bool,
        /// PARTITIONED_TD_MIGRATION.
        pub partitioned_td_migration: bool,
        #[bits(42)]
        __: u64,
    }

    /// ATTRIBUTES of a TD (TDX Module ABI, "ATTRIBUTES").
    #[bitfield(u64)]
    #[derive(PartialEq, Eq)]
    pub struct TdAttributes {
        /// DEBUG: the host may read and write the TD's state.
        pub debug: bool,
        #[bits(26)]
        __: u32,
        /// LASS.
        pub lass: bool,
        /// SEPT_VE_DISABLE.
        pub sept_ve_disable: bool,
        /// MIGRATABLE.
        pub migratable: bool,
        /// PKS.
        pub pks: bool,
        /// KL.
        pub kl: bool,
        #[bits(30)]
        __: u32,
        /// TPA.
        pub tpa: bool,
        /// PERFMON.
        pub perfmon: bool,
    }
}
pub use bits::{ConfigFlags, L2Ctls, TdAttributes, TdCtls, TdxFeatures0};

#[cfg(test)]
mod tests {
    use super::*;

    const VM2: VmIndex = VmIndex::new(2).unwrap();
    const VM3: VmIndex = VmIndex::new(3).unwrap();

    #[test]
    fn identifiers_are_those_of_the_abi() {
        let one = VmIndex::FIRST;
        let rows = [
            (FieldId::l2_ctls(one), 0xA020_0003_0000_0051),
            (FieldId::tsc_deadline(VM3), 0xA020_0003_0000_005B),
            (FieldId::l2_msr_bitmap(one, 0), 0x2520_0003_0000_0000),
            (FieldId::l2_msr_bitmap(VM2, 511), 0x2D20_0003_0000_01FF),
            (
                FieldId::l2_vmcs(one, VmcsField::GUEST_CR3),
                0x2420_0003_0000_6802,
            ),
            (
                FieldId::l2_vmcs(VM2, VmcsField::GUEST_CS_SELECTOR),
                0x2C20_0001_0000_0802,
            ),
            (
                FieldId::l2_vmcs(VM3, VmcsField::EXCEPTION_BITMAP),
                0x3420_0002_0000_4004,
            ),
            (FieldId::rtmr(3, 5), 0x1310_0003_0000_0057),
        ];
        for (id, value) in rows {
            assert_eq!(id.0, value, "{id:x?}");
        }
    }

    #[test]
    fn decode_matches_construction() {
        let id = FieldId::l2_vmcs(VM2, VmcsField::VIRTUAL_APIC_ADDRESS);
        assert_eq!(id.class(), FieldId::CLASS_L2_VMCS_1 + 8);
        assert_eq!(id.code(), 0x2012);
        assert_eq!(id.context(), Context::Vp);
        assert_eq!(id.element_size(), ElementSize::Bits64);
        assert_eq!(FieldId::NUM_L2_VMS.context(), Context::Td);
        assert_eq!(FieldId::TDX_FEATURES0.context(), Context::Sys);
    }

    #[test]
    fn a_short_form_names_the_same_field() {
        assert!(FieldId(0x9100_0000_0000_0010).is_same_field(FieldId::NOTIFY_ENABLES));
        assert!(!FieldId::TD_CTLS.is_same_field(FieldId::CONFIG_FLAGS));
    }
}
