//! What is measured, as the kernel's command line has it: `tdp.measure=disk:ROUNDS:SHARE`, the same with `zeroes` for a disk that
//! reads as zero, or `tdp.measure=network:ROUNDS:SHARE[:PORT]`. A round is a SHARE-th of the usual one.

/// The word.
const WORD: &str = "tdp.measure=";

/// Whom the network leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A computer with the services discard and chargen (RFC 863, RFC 864).
    Services,
    /// The host's program at this TCP port, which is told what to do.
    Host(u16),
}

/// What the disk reads as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Each 4 KiB begin with their number.
    Numbers,
    /// Zero.
    Zeroes,
}

/// What.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The first virtio disk.
    Disk(Content),
    /// The first network.
    Network(Peer),
}

/// What is measured, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) what: What,
    /// Rounds of each case: at least 1.
    pub(crate) rounds: u32,
    /// A round is this part of the usual one: at least 1.
    pub(crate) share: u64,
}

impl Plan {
    /// What a command line says.
    pub(crate) fn of(command_line: &str) -> Option<Self> {
        let mut words = command_line.split_whitespace();
        let word = words.find_map(|word| word.strip_prefix(WORD))?;
        let mut fields = word.split(':');
        let what = fields.next()?;
        let rounds = fields.next()?.parse().ok().filter(|&rounds| rounds != 0)?;
        let share = fields.next()?.parse().ok().filter(|&share| share != 0)?;
        let what = match (what, fields.next()) {
            ("disk", None) => What::Disk(Content::Numbers),
            ("zeroes", None) => What::Disk(Content::Zeroes),
            ("network", None) => What::Network(Peer::Services),
            ("network", Some(port)) => What::Network(Peer::Host(port.parse().ok()?)),
            _ => return None,
        };
        Some(Self {
            what,
            rounds,
            share,
        })
    }

    /// So much of the usual round, and at least `least`.
    pub(crate) fn part(&self, usual: u64, least: u64) -> u64 {
        (usual / self.share).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_says_what_is_measured() {
        let plan = |word: &str| Plan::of(&format!("console=ttyS0 {word} quiet"));
        assert_eq!(
            plan("tdp.measure=disk:3:1"),
            Some(Plan {
                what: What::Disk(Content::Numbers),
                rounds: 3,
                share: 1
            })
        );
        let zeroes = plan("tdp.measure=zeroes:1:1").unwrap();
        assert_eq!(zeroes.what, What::Disk(Content::Zeroes));
        let network = plan("tdp.measure=network:1:8:4711").unwrap();
        assert_eq!(network.what, What::Network(Peer::Host(4711)));
        assert_eq!(
            (network.part(4096, 64), network.part(16, 64)),
            (512, 64),
            "never less than the least"
        );
        let services = plan("tdp.measure=network:1:1").unwrap();
        assert_eq!(services.what, What::Network(Peer::Services));
        for wrong in [
            "",
            "tdp.measure=",
            "tdp.measure=disk",
            "tdp.measure=disk:0:1",
            "tdp.measure=disk:1:0",
            "tdp.measure=disk:1:1:1",
            "tdp.measure=tape:1:1",
            "tdp.measure=network:1:1:70000",
        ] {
            assert_eq!(plan(wrong), None, "{wrong}");
        }
    }
}
