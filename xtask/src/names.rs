//! Names for the numbers of the bench's records.

/// The basic reason of a VM exit (SDM volume 3, appendix C).
pub(crate) fn exit_reason(number: u64) -> Option<&'static str> {
    Some(match number {
        0 => "exception or NMI",
        1 => "external interrupt",
        2 => "triple fault",
        7 => "interrupt window",
        10 => "CPUID",
        12 => "HLT",
        13 => "INVD",
        15 => "RDPMC",
        16 => "RDTSC",
        18 => "VMCALL",
        28 => "control-register access",
        29 => "MOV DR",
        30 => "I/O instruction",
        31 => "RDMSR",
        32 => "WRMSR",
        33 => "entry failure: guest state",
        36 => "MWAIT",
        39 => "MONITOR",
        40 => "PAUSE",
        43 => "TPR below threshold",
        45 => "virtualized EOI",
        46 => "access to GDTR or IDTR",
        47 => "access to LDTR or TR",
        48 => "EPT violation",
        51 => "RDTSCP",
        52 => "preemption timer",
        54 => "WBINVD",
        55 => "XSETBV",
        56 => "APIC write",
        77 => "TDCALL",
        _ => return None,
    })
}

/// A TDG leaf (TDX Module ABI).
pub(crate) fn leaf(number: u64) -> Option<&'static str> {
    Some(match number {
        0 => "TDG.VP.VMCALL",
        1 => "TDG.VP.INFO",
        2 => "TDG.MR.RTMR.EXTEND",
        3 => "TDG.VP.VEINFO.GET",
        4 => "TDG.MR.REPORT",
        5 => "TDG.VP.CPUIDVE.SET",
        6 => "TDG.MEM.PAGE.ACCEPT",
        7 => "TDG.VM.RD",
        8 => "TDG.VM.WR",
        9 => "TDG.VP.RD",
        10 => "TDG.VP.WR",
        11 => "TDG.SYS.RD",
        12 => "TDG.SYS.RDALL",
        22 => "TDG.MR.VERIFYREPORT",
        23 => "TDG.MEM.PAGE.ATTR.RD",
        24 => "TDG.MEM.PAGE.ATTR.WR",
        25 => "TDG.VP.ENTER",
        26 => "TDG.VP.INVEPT",
        27 => "TDG.VP.INVGLA",
        29 => "TDG.MR.KEY.GET",
        _ => return None,
    })
}

/// "48:l1" as the bench counts exits, in words.
pub(crate) fn counted_exit(key: &str) -> String {
    let (number, route) = key.split_once(':').unwrap_or((key, ""));
    let reason = number.parse().ok().and_then(exit_reason);
    let reason = reason.map_or_else(|| format!("reason {number}"), str::to_owned);
    match route {
        "l1" | "" => reason,
        "module" => format!("{reason} (by the module)"),
        "host" => format!("{reason} (to the host)"),
        other => format!("{reason} ({other})"),
    }
}

/// A TDCALL leaf's number in words.
pub(crate) fn counted_leaf(key: &str) -> String {
    match key.parse().ok().and_then(leaf) {
        Some(name) => name.to_owned(),
        None => format!("leaf {key}"),
    }
}
