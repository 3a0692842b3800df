//! ATTRIBUTES of a TD (TDX Module ABI, "ATTRIBUTES (TD Attributes)").

/// The TD-under-debug group: bits 7:0. With any of them the host can look into the TD or profile it.
pub const UNDER_DEBUG: u64 = 0xff;
/// SEPT_VE_DISABLE: a page that the host takes away does not become an exception that L1 might mishandle.
pub const SEPT_VE_DISABLE: u64 = 1 << 28;
/// MIGRATABLE: a migration TD may move the TD to another platform.
pub const MIGRATABLE: u64 = 1 << 29;
/// SERVTD_EXT: service TDs may be bound after the TD was created, and the TDREPORT has the hash of those at its creation.
pub const SERVTD_EXT: u64 = 1 << 17;
/// Bits that must be zero; some of them are in [`UNDER_DEBUG`].
pub const RESERVED: u64 = bits(1, 3) | bits(7, 15) | bits(23, 26) | bits(32, 61);

const fn bits(first: u32, last: u32) -> u64 {
    (u64::MAX << first) & (u64::MAX >> (63 - last))
}

/// The attributes by name, lowest bit first.
const NAMES: [(u32, &str); 13] = [
    (0, "DEBUG"),
    (4, "HGS_PLUS_PROF"),
    (5, "PERF_PROF"),
    (6, "PMT_PROF"),
    (16, "ICSSD"),
    (17, "SERVTD_EXT"),
    (27, "LASS"),
    (28, "SEPT_VE_DISABLE"),
    (29, "MIGRATABLE"),
    (30, "PKS"),
    (31, "KL"),
    (62, "TPA"),
    (63, "PERFMON"),
];

/// Names of the attributes that are set.
pub fn names(attributes: u64) -> String {
    let names: Vec<_> = NAMES
        .iter()
        .filter(|(bit, _)| attributes & (1 << bit) != 0)
        .map(|(_, name)| *name)
        .collect();
    if names.is_empty() {
        return "none".into();
    }
    names.join(" ")
}

/// What no relying party accepts, not even of a debug TD.
pub fn problems(attributes: u64) -> Vec<&'static str> {
    let mut problems = Vec::new();
    if attributes & RESERVED != 0 {
        problems.push("a reserved bit is set");
    }
    if attributes & MIGRATABLE != 0 {
        problems.push("the TD can be migrated");
    }
    if attributes & SEPT_VE_DISABLE == 0 {
        problems.push("SEPT_VE_DISABLE is clear");
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_td_has_no_problems() {
        assert!(problems(SEPT_VE_DISABLE).is_empty());
        assert_eq!(names(SEPT_VE_DISABLE | 1), "DEBUG SEPT_VE_DISABLE");
        assert_eq!(names(0), "none");
    }

    #[test]
    fn each_problem_is_named() {
        assert_eq!(problems(0).len(), 1);
        assert_eq!(problems(SEPT_VE_DISABLE | MIGRATABLE).len(), 1);
        for bit in [1, 3, 7, 8, 15, 23, 26, 32, 61] {
            assert_eq!(problems(SEPT_VE_DISABLE | 1 << bit).len(), 1, "bit {bit}");
        }
        for bit in [0, 4, 6, 16, 22, 27, 30, 31, 62, 63] {
            assert!(problems(SEPT_VE_DISABLE | 1 << bit).is_empty(), "bit {bit}");
        }
    }
}
