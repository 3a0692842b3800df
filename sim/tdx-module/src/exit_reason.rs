//! VMX basic exit reasons (SDM volume 3, appendix C), as TD exits, #VEs and L2 exits carry them.
#![allow(missing_docs)] // The names are the manual's.

pub const EXCEPTION_OR_NMI: u32 = 0;
pub const EXTERNAL_INTERRUPT: u32 = 1;
pub const TRIPLE_FAULT: u32 = 2;
pub const INTERRUPT_WINDOW: u32 = 7;
pub const NMI_WINDOW: u32 = 8;
pub const TASK_SWITCH: u32 = 9;
pub const CPUID: u32 = 10;
pub const HLT: u32 = 12;
pub const INVD: u32 = 13;
pub const INVLPG: u32 = 14;
pub const RDPMC: u32 = 15;
pub const RDTSC: u32 = 16;
pub const VMCALL: u32 = 18;
pub const CR_ACCESS: u32 = 28;
pub const DR_ACCESS: u32 = 29;
pub const IO_INSTRUCTION: u32 = 30;
pub const RDMSR: u32 = 31;
pub const WRMSR: u32 = 32;
pub const INVALID_GUEST_STATE: u32 = 33;
pub const MWAIT: u32 = 36;
pub const MONITOR_TRAP_FLAG: u32 = 37;
pub const MONITOR: u32 = 39;
pub const PAUSE: u32 = 40;
pub const TPR_BELOW_THRESHOLD: u32 = 43;
pub const VIRTUALIZED_EOI: u32 = 45;
pub const GDTR_IDTR_ACCESS: u32 = 46;
pub const LDTR_TR_ACCESS: u32 = 47;
pub const EPT_VIOLATION: u32 = 48;
pub const RDTSCP: u32 = 51;
pub const PREEMPTION_TIMER: u32 = 52;
pub const WBINVD: u32 = 54;
pub const XSETBV: u32 = 55;
pub const APIC_WRITE: u32 = 56;
pub const INVPCID: u32 = 58;
pub const TDCALL: u32 = 77;
/// Bit 31: the VM entry failed.
pub const ENTRY_FAILURE: u32 = 1 << 31;
