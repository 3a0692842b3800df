//! What every policy has to speak of: absent is not accepted.

use super::tables::File;

/// For each key that a policy must have and this one lacks: what to write.
pub(super) fn missing(file: &File) -> Vec<&'static str> {
    let File {
        td,
        firmware,
        launch,
        vtpm,
        ..
    } = file;
    let persistent = vtpm
        .modes
        .as_ref()
        .is_some_and(|modes| modes.has("persistent"));
    let needed = [
        (
            td.mrtd.is_some() || td.image.is_some(),
            "td.mrtd = [\"48 bytes of hex\"], or td.image = \"FILE\": the firmware image with L1 in it",
        ),
        (
            td.attributes.is_some(),
            "td.attributes = \"10000000\": ATTRIBUTES of the TD, in hex",
        ),
        (
            td.xfam.is_some(),
            "td.xfam = \"7\": XFAM of the TD, in hex, with td.xfam_mask",
        ),
        (
            td.mrconfigid.is_some(),
            "td.mrconfigid = [\"48 bytes of hex\"]: zeros, unless the TD's owner sets it",
        ),
        (
            td.mrowner.is_some(),
            "td.mrowner = [\"48 bytes of hex\"]: zeros, unless the TD's owner sets it",
        ),
        (
            td.mrownerconfig.is_some(),
            "td.mrownerconfig = [\"48 bytes of hex\"]: zeros, unless the TD's owner sets it",
        ),
        (
            firmware.td_hob.is_some(),
            "firmware.td_hob = [\"48 bytes of hex\"]: the machine as the host describes it",
        ),
        (
            launch.kernel.is_some() || launch.kernel_file.is_some(),
            "launch.kernel = [\"48 bytes of hex\"], or launch.kernel_file = \"FILE\"",
        ),
        (
            launch.command_line.is_some() || launch.command_line_digest.is_some(),
            "launch.command_line = [\"text\"], or launch.command_line_digest",
        ),
        (
            launch.initrd.is_some() || launch.initrd_file.is_some(),
            "launch.initrd = [\"48 bytes of hex\"], or launch.initrd_file = \"FILE\"; \"none\": there is no initrd",
        ),
        (
            vtpm.engines.is_some(),
            "vtpm.engines = [\"text\"]: as `measure` writes it",
        ),
        (
            vtpm.interfaces.is_some(),
            "vtpm.interfaces = [\"PTP FIFO\"]",
        ),
        (
            vtpm.modes.is_some(),
            "vtpm.modes = [\"ephemeral\"]; or \"persistent\"",
        ),
        (
            vtpm.mirror.is_some(),
            "vtpm.mirror = [\"summary\"]; or \"off\", \"full\"",
        ),
        (
            vtpm.ek.is_some(),
            "vtpm.ek = \"ephemeral\": EKs made at this boot; or names of EKs",
        ),
        (
            !persistent || vtpm.machine.is_some(),
            "vtpm.machine = [\"32 bytes of hex\"]: whose state a persistent vTPM has",
        ),
        (
            !persistent || vtpm.broker.is_some(),
            "vtpm.broker = [\"32 bytes of hex\"]: SHA-256 of the public key of the broker that unlocked it; \
             \"none\": there is none",
        ),
        (
            !persistent || vtpm.key.is_some(),
            "vtpm.key = [\"both\"]; or \"broker\", \"hardware\": what the state's key is made of",
        ),
        (
            !persistent || vtpm.rollback.is_some(),
            "vtpm.rollback = [\"ledger\"]; or \"lazy\", \"none\": what protects it from being an older one",
        ),
    ];
    needed
        .into_iter()
        .filter(|(said, _)| !said)
        .map(|(_, what)| what)
        .collect()
}
