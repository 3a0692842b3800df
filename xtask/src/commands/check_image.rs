//! `cargo xtask check-image`: does a finished td-shim image fit?

use anyhow::{Context, Result};
use std::path::PathBuf;
use tdshim_config::check::{self, Verdict};
use tdshim_config::measurement::mrtd;
use tdshim_config::metadata::Metadata;

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The image, as td-shim-ld wrote it.
    image: PathBuf,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// Prints every check and its outcome; true if the image can launch the L1 VMM.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let image = std::fs::read(&options.image)
        .with_context(|| format!("cannot read {}", options.image.display()))?;
    let findings = check::image(&image);
    let fits = check::fits(&findings);
    let mrtd = Metadata::find(&image)
        .ok()
        .map(|metadata| hex::encode(mrtd(&image, &metadata)));
    if options.json {
        let value = serde_json::json!({ "fits": fits, "mrtd": mrtd, "findings": findings });
        println!("{}", serde_json::to_string_pretty(&value)?);
        return Ok(fits);
    }
    for finding in &findings {
        let verdict = match finding.verdict {
            Verdict::Pass => "ok  ",
            Verdict::Note => "note",
            Verdict::Fail => "FAIL",
        };
        println!("{verdict}  {:12} {}", finding.check, finding.text);
    }
    if let Some(mrtd) = mrtd {
        println!("      {:12} {mrtd}", "MRTD");
    }
    let path = options.image.display();
    println!(
        "{}",
        if fits {
            format!("{path} can launch the L1 VMM")
        } else {
            format!("{path} cannot launch the L1 VMM")
        }
    );
    Ok(fits)
}
