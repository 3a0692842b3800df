//! Numbers of the TDG.* leaves, RAX bits 15:0.

macro_rules! leaves {
    ($($number:literal $constant:ident $name:literal;)*) => {
        $(#[doc = concat!($name, ".")] pub const $constant: u64 = $number;)*

        /// A leaf's name in the specification.
        pub const fn name(number: u64) -> Option<&'static str> {
            Some(match number {
                $($constant => $name,)*
                _ => return None,
            })
        }
    };
}

leaves! {
    0 VP_VMCALL "TDG.VP.VMCALL";
    1 VP_INFO "TDG.VP.INFO";
    2 MR_RTMR_EXTEND "TDG.MR.RTMR.EXTEND";
    3 VP_VEINFO_GET "TDG.VP.VEINFO.GET";
    4 MR_REPORT "TDG.MR.REPORT";
    5 VP_CPUIDVE_SET "TDG.VP.CPUIDVE.SET";
    6 MEM_PAGE_ACCEPT "TDG.MEM.PAGE.ACCEPT";
    7 VM_RD "TDG.VM.RD";
    8 VM_WR "TDG.VM.WR";
    9 VP_RD "TDG.VP.RD";
    10 VP_WR "TDG.VP.WR";
    11 SYS_RD "TDG.SYS.RD";
    12 SYS_RDALL "TDG.SYS.RDALL";
    22 MR_VERIFYREPORT "TDG.MR.VERIFYREPORT";
    23 MEM_PAGE_ATTR_RD "TDG.MEM.PAGE.ATTR.RD";
    24 MEM_PAGE_ATTR_WR "TDG.MEM.PAGE.ATTR.WR";
    25 VP_ENTER "TDG.VP.ENTER";
    26 VP_INVEPT "TDG.VP.INVEPT";
    27 VP_INVGLA "TDG.VP.INVGLA";
    29 MR_KEY_GET "TDG.MR.KEY.GET";
}

/// Position of the leaf's version in RAX.
pub const VERSION_SHIFT: u32 = 16;
