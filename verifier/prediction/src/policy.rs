//! A policy for the verifier, of predicted values.

use crate::Prediction;
use attestation::journal::PcrMirror;
use std::fmt::Write;
use tdshim_config::td_params;

/// The PCRs that firmware and boot loader own: nothing may extend them once L2 runs.
pub const PREDICTED_PCRS: std::ops::Range<usize> = 0..10;

/// XFAM: x87, SSE and AVX.
const REQUIRED_XFAM: u64 = 0b111;

/// As L1's journal names the engine and its interface.
const ENGINE: &str = "libtpms 0.9.2-3.1+deb12u1";
const INTERFACE: &str = "PTP FIFO";

/// What a policy asks for beside the predicted values.
#[derive(Clone, Copy)]
pub struct Terms {
    /// What the journal must hold of the PCRs.
    pub mirror: PcrMirror,
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
    if let Some(td_hob) = &prediction.td_hob {
        text.push_str("\n[firmware]\n# The machine as the host describes it.\n");
        digest(&mut text, "td_hob", td_hob);
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
    let _ = writeln!(
        text,
        "\n[vtpm]\nengines = [\"{ENGINE}\"]\ninterfaces = [\"{INTERFACE}\"]\nmodes = [\"ephemeral\"]\nmirror = [\"{}\"]\nek = \"any\"",
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
