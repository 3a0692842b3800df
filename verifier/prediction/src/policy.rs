//! A policy for the verifier, of predicted values: it names everything, and accepts nothing unseen.

use crate::Prediction;
use attestation::journal::{PcrMirror, TpmInterface};
use std::fmt::Write;
use tdshim_config::td_params;

/// The PCRs that firmware and boot loader own: nothing may extend them once L2 runs.
pub const PREDICTED_PCRS: std::ops::Range<usize> = 0..10;

/// The PCRs that are the guest's to extend (TCG PC Client Platform TPM Profile, "PCR Usage": the static OS, debugging and
/// applications; 17 to 22 are for a dynamic root of trust).
const BEYOND_LOG: [u8; 8] = [10, 11, 12, 13, 14, 15, 16, 23];

/// XFAM: x87, SSE and AVX.
const REQUIRED_XFAM: u64 = 0b111;

/// What a policy asks for beside the predicted values.
#[derive(Clone, Copy)]
pub struct Terms {
    /// The TPM's registers.
    pub interface: TpmInterface,
    /// What the journal must hold of the PCRs.
    pub mirror: PcrMirror,
    /// How many processors the TD has, and L2 with it; `None`: the policy does not ask.
    pub processors: Option<u32>,
    /// Whether evidence without a TD quote is refused.
    pub quote_required: bool,
}

/// The policy as TOML.
pub fn policy(prediction: &Prediction, command_line: &str, terms: Terms) -> String {
    let mut text =
        String::from("# Values that `cargo xtask measure` predicted from files.\n\n[quote]\n");
    let _ = writeln!(text, "required = {}", terms.quote_required);
    text.push_str("\n[td]\n# The firmware image with the L1 VMM in it.\n");
    digest(&mut text, "mrtd", &prediction.mrtd);
    if let Ok(td) = td_params::recommended() {
        let _ = writeln!(
            text,
            "attributes = \"{:x}\"\n# At least these components.\nxfam = \"{REQUIRED_XFAM:x}\"\nxfam_mask = \"{REQUIRED_XFAM:x}\"",
            td.attributes
        );
    }
    for field in ["mrconfigid", "mrowner", "mrownerconfig"] {
        digest(&mut text, field, &[0; 48]);
    }
    text.push_str("\n[firmware]\n# The machine as the host describes it.\n");
    match &prediction.td_hob {
        Some(td_hob) => digest(&mut text, "td_hob", td_hob),
        None => text.push_str("td_hob = \"none\"\n"),
    }
    text.push_str("\n[launch]\n");
    digest(&mut text, "kernel", &prediction.kernel.sha384);
    // JSON's escapes are TOML's.
    let line = serde_json::Value::from(command_line);
    let _ = writeln!(text, "command_line = [{line}]");
    match &prediction.initrd {
        Some(initrd) => digest(&mut text, "initrd", &initrd.sha384),
        None => text.push_str("initrd = \"none\"\n"),
    }
    // An image without one is none of ours: nothing is called that.
    let engine = prediction.engine.as_deref().unwrap_or("none in the image");
    let processors = terms
        .processors
        .map(|number| format!("processors = {number}\nl2_processors = {number}\n"))
        .unwrap_or_default();
    let _ = writeln!(
        text,
        "\n[vtpm]\nengines = [\"{engine}\"]\ninterfaces = [\"{}\"]\nmodes = [\"ephemeral\"]\nmirror = [\"{}\"]\nstate = \"none\"\n{processors}\
         # Its keys are made at each boot. What may become of it since: say true, or a number, where you mean it.\n\
         ek = \"ephemeral\"\nallow_clear = false\nallow_hierarchy_changes = false\nmax_resets = 0\n\n\
         [pcr]\n# What the guest's own software may extend: IMA, systemd, applications.\nbeyond_log = {BEYOND_LOG:?}",
        terms.interface.name(),
        terms.mirror.name()
    );
    for bank in &prediction.banks {
        let _ = writeln!(text, "\n[pcr.{}]", bank.algorithm().name());
        for (pcr, value) in bank.values().iter().enumerate().take(PREDICTED_PCRS.end) {
            let _ = writeln!(text, "{pcr} = [\"{}\"]", hex::encode(value.bytes()));
        }
    }
    text
}

fn digest(text: &mut String, key: &str, digest: &[u8; 48]) {
    let _ = writeln!(text, "{key} = [\"{}\"]", hex::encode(digest));
}
