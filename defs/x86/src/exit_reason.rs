//! VMX basic exit reasons (SDM Vol. 3C, appendix "VMX Basic Exit Reasons"), as TD exits, #VEs and
//! L2 exits carry them.

/// Bits of the exit-reason field that hold the basic reason.
pub const BASIC: u32 = 0xFFFF;
/// Bit 26: a bus lock was asserted.
pub const BUS_LOCK_ASSERTED: u32 = 1 << 26;
/// Bit 31: the VM entry failed.
pub const ENTRY_FAILURE: u32 = 1 << 31;

macro_rules! reasons {
    ($($number:literal $constant:ident $name:literal;)*) => {
        $(#[doc = concat!("Basic reason ", $number, ": ", $name, ".")] pub const $constant: u32 = $number;)*

        /// What a basic exit reason is called in words.
        pub const fn name(basic: u32) -> Option<&'static str> {
            Some(match basic {
                $($constant => $name,)*
                _ => return None,
            })
        }
    };
}

reasons! {
    0 EXCEPTION_OR_NMI "exception or NMI";
    1 EXTERNAL_INTERRUPT "external interrupt";
    2 TRIPLE_FAULT "triple fault";
    3 INIT "INIT signal";
    4 SIPI "start-up IPI";
    7 INTERRUPT_WINDOW "interrupt window";
    8 NMI_WINDOW "NMI window";
    9 TASK_SWITCH "task switch";
    10 CPUID "CPUID";
    11 GETSEC "GETSEC";
    12 HLT "HLT";
    13 INVD "INVD";
    14 INVLPG "INVLPG";
    15 RDPMC "RDPMC";
    16 RDTSC "RDTSC";
    17 RSM "RSM";
    18 VMCALL "VMCALL";
    19 VMCLEAR "VMCLEAR";
    20 VMLAUNCH "VMLAUNCH";
    21 VMPTRLD "VMPTRLD";
    22 VMPTRST "VMPTRST";
    23 VMREAD "VMREAD";
    24 VMRESUME "VMRESUME";
    25 VMWRITE "VMWRITE";
    26 VMXOFF "VMXOFF";
    27 VMXON "VMXON";
    28 CR_ACCESS "control-register access";
    29 DR_ACCESS "MOV DR";
    30 IO_INSTRUCTION "I/O instruction";
    31 RDMSR "RDMSR";
    32 WRMSR "WRMSR";
    33 INVALID_GUEST_STATE "entry failure: guest state";
    34 MSR_LOADING "entry failure: MSR loading";
    36 MWAIT "MWAIT";
    37 MONITOR_TRAP_FLAG "monitor trap flag";
    39 MONITOR "MONITOR";
    40 PAUSE "PAUSE";
    41 MACHINE_CHECK "entry failure: machine check";
    43 TPR_BELOW_THRESHOLD "TPR below threshold";
    44 APIC_ACCESS "APIC access";
    45 VIRTUALIZED_EOI "virtualized EOI";
    46 GDTR_IDTR_ACCESS "access to GDTR or IDTR";
    47 LDTR_TR_ACCESS "access to LDTR or TR";
    48 EPT_VIOLATION "EPT violation";
    49 EPT_MISCONFIGURATION "EPT misconfiguration";
    50 INVEPT "INVEPT";
    51 RDTSCP "RDTSCP";
    52 PREEMPTION_TIMER "preemption timer";
    53 INVVPID "INVVPID";
    54 WBINVD "WBINVD";
    55 XSETBV "XSETBV";
    56 APIC_WRITE "APIC write";
    57 RDRAND "RDRAND";
    58 INVPCID "INVPCID";
    59 VMFUNC "VMFUNC";
    60 ENCLS "ENCLS";
    61 RDSEED "RDSEED";
    62 PML_FULL "page-modification log full";
    63 XSAVES "XSAVES";
    64 XRSTORS "XRSTORS";
    65 PCONFIG "PCONFIG";
    66 SPP "sub-page permission";
    67 UMWAIT "UMWAIT";
    68 TPAUSE "TPAUSE";
    69 LOADIWKEY "LOADIWKEY";
    70 ENCLV "ENCLV";
    74 BUS_LOCK "bus lock";
    75 NOTIFY "notify";
    76 SEAMCALL "SEAMCALL";
    77 TDCALL "TDCALL";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_names_and_others_do_not() {
        assert_eq!(name(EPT_VIOLATION), Some("EPT violation"));
        assert_eq!(name(TDCALL), Some("TDCALL"));
        assert_eq!(name(5), None);
        assert_eq!(name(ENTRY_FAILURE | INVALID_GUEST_STATE), None);
    }
}
