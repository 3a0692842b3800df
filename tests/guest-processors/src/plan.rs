//! What to do, from the kernel's command line.

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Everything,
    Measure,
    Load,
    Topology,
    Hotplug,
    Tpm,
    End(End),
}

/// How the machine is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A panic, upon which the kernel restarts the machine (`panic=-1`).
    Panic,
    /// A restart that leaves the other processors running.
    Restart,
    /// A power-off.
    PowerOff,
}

/// The words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// `tdp.what=`: measure, load, topology, hotplug, tpm, panic, restart or poweroff; everything without it.
    pub(crate) what: What,
    /// `tdp.cpus=N`: how many processors there must be.
    pub(crate) cpus: usize,
    /// `tdp.from=N`: the processor that ends the machine.
    pub(crate) from: usize,
    /// `maxcpus=`: the kernel has left processors for later.
    pub(crate) held_back: bool,
    /// `tdp.long`: each step for much longer.
    pub(crate) long: bool,
}

impl Plan {
    pub(crate) fn of(command_line: &str) -> Self {
        let words = || command_line.split_whitespace();
        let value = |name: &str| words().find_map(|word| word.strip_prefix(name));
        let number = |name: &str| value(name).and_then(|digits| digits.parse().ok());
        Self {
            what: match value("tdp.what=") {
                Some("load") => What::Load,
                Some("measure") => What::Measure,
                Some("topology") => What::Topology,
                Some("hotplug") => What::Hotplug,
                Some("tpm") => What::Tpm,
                Some("panic") => What::End(End::Panic),
                Some("restart") => What::End(End::Restart),
                Some("poweroff") => What::End(End::PowerOff),
                _ => What::Everything,
            },
            cpus: number("tdp.cpus=").unwrap_or(1),
            from: number("tdp.from=").unwrap_or(0),
            held_back: value("maxcpus=").is_some(),
            long: words().any(|word| word == "tdp.long"),
        }
    }

    /// How often something is done, in a short and in a long run.
    pub(crate) fn times(&self, short: usize, long: usize) -> usize {
        if self.long { long } else { short }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        let plan = Plan::of("quiet tdp.mode=processors maxcpus=1 tdp.cpus=4 tdp.long\n");
        let expected = Plan {
            what: What::Everything,
            cpus: 4,
            from: 0,
            held_back: true,
            long: true,
        };
        assert_eq!(plan, expected);
        assert_eq!((plan.times(2, 9), Plan::of("").times(2, 9)), (9, 2));
        let plan = Plan::of("tdp.what=panic tdp.from=3");
        assert_eq!((plan.what, plan.from), (What::End(End::Panic), 3));
    }
}
