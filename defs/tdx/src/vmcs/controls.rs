//! Layout of control and guest-state fields (Intel SDM volume 3, chapter "Virtual Machine Control
//! Structures"). Bits that a partitioned TD fixes are named too: L1 reads them back.
#![allow(missing_docs)] // The macro's own constants have none; every field has one.

use bitfield_struct::bitfield;

/// Primary processor-based VM-execution controls.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct PrimaryControls {
    #[bits(2)]
    __: u8,
    /// Interrupt-window exiting.
    pub interrupt_window: bool,
    /// Use TSC offsetting.
    pub tsc_offsetting: bool,
    #[bits(3)]
    __: u8,
    /// HLT exiting.
    pub hlt: bool,
    __: bool,
    /// INVLPG exiting.
    pub invlpg: bool,
    /// MWAIT exiting.
    pub mwait: bool,
    /// RDPMC exiting.
    pub rdpmc: bool,
    /// RDTSC exiting.
    pub rdtsc: bool,
    #[bits(2)]
    __: u8,
    /// CR3-load exiting.
    pub cr3_load: bool,
    /// CR3-store exiting.
    pub cr3_store: bool,
    /// Activate tertiary controls.
    pub tertiary: bool,
    __: bool,
    /// CR8-load exiting.
    pub cr8_load: bool,
    /// CR8-store exiting.
    pub cr8_store: bool,
    /// Use TPR shadow.
    pub tpr_shadow: bool,
    /// NMI-window exiting.
    pub nmi_window: bool,
    /// MOV-DR exiting.
    pub mov_dr: bool,
    /// Unconditional I/O exiting.
    pub unconditional_io: bool,
    /// Use I/O bitmaps.
    pub io_bitmaps: bool,
    __: bool,
    /// Monitor trap flag. Never set it: the module ends the TD on the exit it causes.
    pub monitor_trap_flag: bool,
    /// Use MSR bitmaps.
    pub msr_bitmaps: bool,
    /// MONITOR exiting.
    pub monitor: bool,
    /// PAUSE exiting.
    pub pause: bool,
    /// Activate secondary controls.
    pub secondary: bool,
}

/// Secondary processor-based VM-execution controls.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct SecondaryControls {
    /// Virtualize APIC accesses.
    pub virtualize_apic_accesses: bool,
    /// Enable EPT.
    pub ept: bool,
    /// Descriptor-table exiting.
    pub descriptor_table: bool,
    /// Enable RDTSCP.
    pub rdtscp: bool,
    /// Virtualize x2APIC mode.
    pub virtualize_x2apic: bool,
    /// Enable VPID.
    pub vpid: bool,
    /// WBINVD exiting.
    pub wbinvd: bool,
    /// Unrestricted guest.
    pub unrestricted_guest: bool,
    /// APIC-register virtualization.
    pub apic_register_virtualization: bool,
    /// Virtual-interrupt delivery.
    pub virtual_interrupt_delivery: bool,
    /// PAUSE-loop exiting.
    pub pause_loop: bool,
    /// RDRAND exiting.
    pub rdrand: bool,
    /// Enable INVPCID.
    pub invpcid: bool,
    /// Enable VM functions.
    pub vm_functions: bool,
    /// VMCS shadowing.
    pub vmcs_shadowing: bool,
    /// ENCLS exiting.
    pub encls: bool,
    /// RDSEED exiting.
    pub rdseed: bool,
    /// Enable PML.
    pub pml: bool,
    /// EPT-violation #VE.
    pub ept_violation_ve: bool,
    /// Conceal VMX from PT.
    pub conceal_vmx_from_pt: bool,
    /// Enable XSAVES/XRSTORS.
    pub xsaves: bool,
    /// PASID translation.
    pub pasid_translation: bool,
    /// Mode-based execute control for EPT.
    pub mode_based_execute: bool,
    /// Sub-page write permissions for EPT.
    pub sub_page_write: bool,
    /// Intel PT uses guest physical addresses.
    pub pt_guest_physical: bool,
    /// Use TSC scaling.
    pub tsc_scaling: bool,
    /// Enable user wait and pause.
    pub user_wait_pause: bool,
    /// Enable PCONFIG.
    pub pconfig: bool,
    /// ENCLV exiting.
    pub enclv: bool,
    __: bool,
    /// VMM bus-lock detection.
    pub bus_lock_detection: bool,
    /// Instruction timeout.
    pub instruction_timeout: bool,
}

/// VM-entry controls. L1 may change IA-32e mode guest only.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct EntryControls {
    #[bits(2)]
    __: u8,
    /// Load debug controls.
    pub load_debug_controls: bool,
    #[bits(6)]
    __: u8,
    /// IA-32e mode guest: must equal EFER.LMA.
    pub ia32e_mode_guest: bool,
    #[bits(3)]
    __: u8,
    /// Load IA32_PERF_GLOBAL_CTRL.
    pub load_perf_global_ctrl: bool,
    /// Load IA32_PAT.
    pub load_pat: bool,
    /// Load IA32_EFER.
    pub load_efer: bool,
    #[bits(16)]
    __: u16,
}

/// Guest interruptibility state.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct InterruptibilityState {
    /// Blocking by STI.
    pub blocking_by_sti: bool,
    /// Blocking by MOV SS.
    pub blocking_by_mov_ss: bool,
    /// Blocking by SMI.
    pub blocking_by_smi: bool,
    /// Blocking by NMI.
    pub blocking_by_nmi: bool,
    /// Enclave interruption.
    pub enclave_interruption: bool,
    #[bits(27)]
    __: u32,
}

/// Access rights of a segment, as the VMCS and TDG.VP.ENTER give them.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct SegmentAccessRights {
    /// Segment type.
    #[bits(4)]
    pub segment_type: u8,
    /// S: code or data, not system.
    pub code_or_data: bool,
    /// Descriptor privilege level.
    #[bits(2)]
    pub dpl: u8,
    /// P: present.
    pub present: bool,
    #[bits(4)]
    __: u8,
    /// AVL.
    pub available: bool,
    /// L: 64-bit code segment.
    pub long: bool,
    /// D/B: default operation size.
    pub default_big: bool,
    /// G: granularity.
    pub granularity: bool,
    /// The segment is unusable.
    pub unusable: bool,
    #[bits(15)]
    __: u16,
}

/// Those of the segments that a processor starts with (SDM Vol. 3C, table "Format of Access Rights").
impl SegmentAccessRights {
    /// 64-bit code: present, DPL 0, read, accessed, L, G.
    pub const CODE_64: Self = Self::from_bits(0xa09b);
    /// 32-bit code: present, DPL 0, read, accessed, D, G.
    pub const CODE_32: Self = Self::from_bits(0xc09b);
    /// Data: present, DPL 0, write, accessed, B, G.
    pub const DATA: Self = Self::from_bits(0xc093);
    /// A busy 32-bit or 64-bit TSS: present.
    pub const BUSY_TSS: Self = Self::from_bits(0x8b);
    /// Code in real mode, of 64 KiB: present, DPL 0, read, accessed.
    pub const REAL_MODE_CODE: Self = Self::from_bits(0x9b);
    /// Data in real mode: present, DPL 0, write, accessed.
    pub const REAL_MODE_DATA: Self = Self::from_bits(0x93);
    /// An LDT as after a reset: present.
    pub const REAL_MODE_LDT: Self = Self::from_bits(0x82);
    /// An LDT that is unusable.
    pub const NO_LDT: Self = Self::from_bits(0x1_0082);
    /// Unusable, and nothing else.
    pub const UNUSABLE: Self = Self::from_bits(1 << 16);
}
