//! Numbers of the TDG.* leaves, RAX bits 15:0.

/// TDG.VP.VMCALL.
pub const VP_VMCALL: u64 = 0;
/// TDG.VP.INFO.
pub const VP_INFO: u64 = 1;
/// TDG.MR.RTMR.EXTEND.
pub const MR_RTMR_EXTEND: u64 = 2;
/// TDG.VP.VEINFO.GET.
pub const VP_VEINFO_GET: u64 = 3;
/// TDG.MR.REPORT.
pub const MR_REPORT: u64 = 4;
/// TDG.VP.CPUIDVE.SET.
pub const VP_CPUIDVE_SET: u64 = 5;
/// TDG.MEM.PAGE.ACCEPT.
pub const MEM_PAGE_ACCEPT: u64 = 6;
/// TDG.VM.RD.
pub const VM_RD: u64 = 7;
/// TDG.VM.WR.
pub const VM_WR: u64 = 8;
/// TDG.VP.RD.
pub const VP_RD: u64 = 9;
/// TDG.VP.WR.
pub const VP_WR: u64 = 10;
/// TDG.SYS.RD.
pub const SYS_RD: u64 = 11;
/// TDG.SYS.RDALL.
pub const SYS_RDALL: u64 = 12;
/// TDG.MR.VERIFYREPORT.
pub const MR_VERIFYREPORT: u64 = 22;
/// TDG.MEM.PAGE.ATTR.RD.
pub const MEM_PAGE_ATTR_RD: u64 = 23;
/// TDG.MEM.PAGE.ATTR.WR.
pub const MEM_PAGE_ATTR_WR: u64 = 24;
/// TDG.VP.ENTER.
pub const VP_ENTER: u64 = 25;
/// TDG.VP.INVEPT.
pub const VP_INVEPT: u64 = 26;
/// TDG.VP.INVGLA.
pub const VP_INVGLA: u64 = 27;

/// Position of the leaf's version in RAX.
pub const VERSION_SHIFT: u32 = 16;
