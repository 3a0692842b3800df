//! The virtual machine control block: layout only (APM volume 2, appendix B).

use bitfield_struct::bitfield;
use core::mem::offset_of;

/// Intercepts, offset 0x00C (APM volume 2, table B-1).
#[bitfield(u64)]
pub(crate) struct Intercepts {
    pub(crate) intr: bool,
    pub(crate) nmi: bool,
    pub(crate) smi: bool,
    pub(crate) init: bool,
    pub(crate) vintr: bool,
    pub(crate) cr0_selective_write: bool,
    pub(crate) idtr_read: bool,
    pub(crate) gdtr_read: bool,
    pub(crate) ldtr_read: bool,
    pub(crate) tr_read: bool,
    pub(crate) idtr_write: bool,
    pub(crate) gdtr_write: bool,
    pub(crate) ldtr_write: bool,
    pub(crate) tr_write: bool,
    pub(crate) rdtsc: bool,
    pub(crate) rdpmc: bool,
    pub(crate) pushf: bool,
    pub(crate) popf: bool,
    pub(crate) cpuid: bool,
    pub(crate) rsm: bool,
    pub(crate) iret: bool,
    pub(crate) int_n: bool,
    pub(crate) invd: bool,
    pub(crate) pause: bool,
    pub(crate) hlt: bool,
    pub(crate) invlpg: bool,
    pub(crate) invlpga: bool,
    pub(crate) io: bool,
    pub(crate) msr: bool,
    pub(crate) task_switch: bool,
    pub(crate) ferr_freeze: bool,
    pub(crate) shutdown: bool,
    pub(crate) vmrun: bool,
    pub(crate) vmmcall: bool,
    pub(crate) vmload: bool,
    pub(crate) vmsave: bool,
    pub(crate) stgi: bool,
    pub(crate) clgi: bool,
    pub(crate) skinit: bool,
    pub(crate) rdtscp: bool,
    pub(crate) icebp: bool,
    pub(crate) wbinvd: bool,
    pub(crate) monitor: bool,
    pub(crate) mwait: bool,
    pub(crate) mwait_conditional: bool,
    pub(crate) xsetbv: bool,
    #[bits(18)]
    _reserved: u32,
}

/// Virtual interrupt control, offset 0x060.
#[bitfield(u64)]
pub(crate) struct InterruptControl {
    pub(crate) v_tpr: u8,
    /// V_IRQ: a virtual interrupt is pending.
    pub(crate) v_irq: bool,
    #[bits(7)]
    _reserved0: u8,
    #[bits(4)]
    pub(crate) v_intr_prio: u8,
    /// V_IGN_TPR.
    pub(crate) v_ignore_tpr: bool,
    #[bits(3)]
    _reserved1: u8,
    /// V_INTR_MASKING: the host's RFLAGS.IF masks physical interrupts.
    pub(crate) v_intr_masking: bool,
    #[bits(7)]
    _reserved2: u8,
    pub(crate) v_intr_vector: u8,
    #[bits(24)]
    _reserved3: u32,
}

/// EVENTINJ, offset 0x0A8, and EXITINTINFO, offset 0x088 (APM volume 2, 15.20).
#[bitfield(u64)]
pub(crate) struct EventInformation {
    pub(crate) vector: u8,
    #[bits(3)]
    pub(crate) kind: u8,
    pub(crate) error_code_valid: bool,
    #[bits(19)]
    _reserved: u32,
    pub(crate) valid: bool,
    pub(crate) error_code: u32,
}

/// EXITINFO1 of an I/O exit (APM volume 2, figure 15-2).
#[bitfield(u64)]
pub(crate) struct IoInformation {
    pub(crate) input: bool,
    _reserved0: bool,
    pub(crate) string: bool,
    pub(crate) repeat: bool,
    /// 1, 2 or 4.
    #[bits(3)]
    pub(crate) width: u8,
    #[bits(9)]
    _reserved1: u16,
    pub(crate) port: u16,
    _reserved2: u32,
}

/// EXITINFO1 of a nested page fault (APM volume 2, 15.25.6).
#[bitfield(u64)]
pub(crate) struct NestedFaultInformation {
    pub(crate) present: bool,
    pub(crate) write: bool,
    pub(crate) user: bool,
    pub(crate) reserved_bit: bool,
    pub(crate) fetch: bool,
    #[bits(27)]
    _reserved0: u32,
    /// The access was to the guest's final physical address.
    pub(crate) translated: bool,
    /// The access was to a guest page table.
    pub(crate) page_walk: bool,
    #[bits(30)]
    _reserved1: u32,
}

/// EXITCODE (APM volume 2, appendix C).
pub(crate) mod exit_code {
    pub(crate) const READ_CR0: u64 = 0x00;
    pub(crate) const WRITE_CR15: u64 = 0x1F;
    pub(crate) const READ_DR0: u64 = 0x20;
    pub(crate) const WRITE_DR15: u64 = 0x3F;
    pub(crate) const EXCEPTION0: u64 = 0x40;
    pub(crate) const EXCEPTION31: u64 = 0x5F;
    pub(crate) const INTR: u64 = 0x60;
    pub(crate) const NMI: u64 = 0x61;
    pub(crate) const VINTR: u64 = 0x64;
    pub(crate) const CR0_SELECTIVE_WRITE: u64 = 0x65;
    pub(crate) const IDTR_READ: u64 = 0x66;
    pub(crate) const TR_WRITE: u64 = 0x6D;
    pub(crate) const RDTSC: u64 = 0x6E;
    pub(crate) const RDPMC: u64 = 0x6F;
    pub(crate) const CPUID: u64 = 0x72;
    pub(crate) const IRET: u64 = 0x74;
    pub(crate) const INVD: u64 = 0x76;
    pub(crate) const PAUSE: u64 = 0x77;
    pub(crate) const HLT: u64 = 0x78;
    pub(crate) const INVLPG: u64 = 0x79;
    pub(crate) const INVLPGA: u64 = 0x7A;
    pub(crate) const IOIO: u64 = 0x7B;
    pub(crate) const MSR: u64 = 0x7C;
    pub(crate) const TASK_SWITCH: u64 = 0x7D;
    pub(crate) const SHUTDOWN: u64 = 0x7F;
    pub(crate) const VMRUN: u64 = 0x80;
    pub(crate) const VMMCALL: u64 = 0x81;
    pub(crate) const VMLOAD: u64 = 0x82;
    pub(crate) const SKINIT: u64 = 0x86;
    pub(crate) const RDTSCP: u64 = 0x87;
    pub(crate) const WBINVD: u64 = 0x89;
    pub(crate) const MONITOR: u64 = 0x8A;
    pub(crate) const MWAIT: u64 = 0x8B;
    pub(crate) const MWAIT_CONDITIONAL: u64 = 0x8C;
    pub(crate) const XSETBV: u64 = 0x8D;
    pub(crate) const NPF: u64 = 0x400;
    /// VMEXIT_INVALID, -1: QEMU stores its low half only. No other code is as high.
    pub(crate) const INVALID: u64 = 0xFFFF_FFFF;
}

/// A segment register (APM volume 2, table B-2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Segment {
    pub(crate) selector: u16,
    /// Descriptor bits 47:40 in \[7:0\], 55:52 in \[11:8\].
    pub(crate) attributes: u16,
    pub(crate) limit: u32,
    pub(crate) base: u64,
}

/// The control area, offsets 0x000-0x3FF.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct ControlArea {
    /// CR reads in \[15:0\], writes in \[31:16\].
    pub(crate) intercept_cr: u32,
    /// DR reads in \[15:0\], writes in \[31:16\].
    pub(crate) intercept_dr: u32,
    pub(crate) intercept_exceptions: u32,
    intercepts: [u32; 2],
    _reserved0: [u8; 0x2C],
    pub(crate) iopm_base: u64,
    pub(crate) msrpm_base: u64,
    pub(crate) tsc_offset: u64,
    pub(crate) asid: u32,
    pub(crate) tlb_control: u32,
    pub(crate) interrupt_control: InterruptControl,
    pub(crate) interrupt_shadow: u64,
    pub(crate) exit_code: u64,
    pub(crate) exit_info1: u64,
    pub(crate) exit_info2: u64,
    pub(crate) exit_interrupt_info: EventInformation,
    pub(crate) nested_paging: u64,
    _reserved1: [u8; 0x10],
    pub(crate) event_injection: EventInformation,
    pub(crate) nested_cr3: u64,
    _reserved2: [u8; 0x348],
}

impl ControlArea {
    pub(crate) fn set_intercepts(&mut self, intercepts: Intercepts) {
        let bits = u64::from(intercepts);
        self.intercepts = [bits as u32, (bits >> 32) as u32];
    }
}

/// The state save area, offsets 0x400 on.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct StateSaveArea {
    pub(crate) es: Segment,
    pub(crate) cs: Segment,
    pub(crate) ss: Segment,
    pub(crate) ds: Segment,
    pub(crate) fs: Segment,
    pub(crate) gs: Segment,
    pub(crate) gdtr: Segment,
    pub(crate) ldtr: Segment,
    pub(crate) idtr: Segment,
    pub(crate) tr: Segment,
    _reserved0: [u8; 0x2B],
    pub(crate) cpl: u8,
    _reserved1: u32,
    pub(crate) efer: u64,
    _reserved2: [u8; 0x70],
    pub(crate) cr4: u64,
    pub(crate) cr3: u64,
    pub(crate) cr0: u64,
    pub(crate) dr7: u64,
    pub(crate) dr6: u64,
    pub(crate) rflags: u64,
    pub(crate) rip: u64,
    _reserved3: [u8; 0x58],
    pub(crate) rsp: u64,
    _reserved4: [u8; 0x18],
    pub(crate) rax: u64,
    pub(crate) star: u64,
    pub(crate) lstar: u64,
    pub(crate) cstar: u64,
    pub(crate) sfmask: u64,
    pub(crate) kernel_gs_base: u64,
    pub(crate) sysenter_cs: u64,
    pub(crate) sysenter_esp: u64,
    pub(crate) sysenter_eip: u64,
    pub(crate) cr2: u64,
    _reserved5: [u8; 0x20],
    pub(crate) g_pat: u64,
    pub(crate) debug_ctl: u64,
    _reserved6: [u8; 0x988],
}

/// The block, one page.
#[derive(Debug)]
#[repr(C, align(4096))]
pub(crate) struct Vmcb {
    pub(crate) control: ControlArea,
    pub(crate) save: StateSaveArea,
}

const _: () = {
    assert!(offset_of!(ControlArea, iopm_base) == 0x40);
    assert!(offset_of!(ControlArea, interrupt_control) == 0x60);
    assert!(offset_of!(ControlArea, exit_code) == 0x70);
    assert!(offset_of!(ControlArea, event_injection) == 0xA8);
    assert!(offset_of!(ControlArea, nested_cr3) == 0xB0);
    assert!(offset_of!(Vmcb, save) == 0x400);
    assert!(offset_of!(StateSaveArea, cpl) == 0xCB);
    assert!(offset_of!(StateSaveArea, efer) == 0xD0);
    assert!(offset_of!(StateSaveArea, cr4) == 0x148);
    assert!(offset_of!(StateSaveArea, rip) == 0x178);
    assert!(offset_of!(StateSaveArea, rsp) == 0x1D8);
    assert!(offset_of!(StateSaveArea, rax) == 0x1F8);
    assert!(offset_of!(StateSaveArea, cr2) == 0x240);
    assert!(offset_of!(StateSaveArea, g_pat) == 0x268);
    assert!(size_of::<Vmcb>() == 4096);
};
