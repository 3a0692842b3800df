//! Names for the numbers of the simulator's records.

use tdx_defs::tdg;
use x86_defs::exit_reason;

/// "48:l1" as the simulator counts exits, in words.
pub(crate) fn counted_exit(key: &str) -> String {
    let (number, route) = key.split_once(':').unwrap_or((key, ""));
    let reason = number.parse().ok().and_then(exit_reason::name);
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
    match key.parse().ok().and_then(tdg::name) {
        Some(name) => name.to_owned(),
        None => format!("leaf {key}"),
    }
}
