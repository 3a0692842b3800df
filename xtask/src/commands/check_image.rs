//! `cargo xtask check-image`: does a finished td-shim image fit?

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
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

/// An error that says what is wrong with an image, if it cannot launch the L1 VMM.
pub(crate) fn require(path: &Path) -> Result<()> {
    let image = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let findings = check::image(&image);
    if check::fits(&findings) {
        return Ok(());
    }
    let faults = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Fail)
        .map(|finding| format!("\n  {:12} {}", finding.check, finding.text));
    bail!(
        "{} cannot launch the L1 VMM:{}\nto boot it nevertheless, add --unchecked-td-shim",
        path.display(),
        faults.collect::<String>()
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_cannot_launch_l1_is_refused_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.bin");
        std::fs::write(&path, vec![0; 0x100_0000]).unwrap();
        let error = require(&path).unwrap_err().to_string();
        assert!(
            error.contains("cannot launch the L1 VMM:\n  metadata "),
            "{error}"
        );
        assert!(error.ends_with("add --unchecked-td-shim"), "{error}");
        let absent = require(&folder.path().join("none")).unwrap_err();
        assert!(absent.to_string().starts_with("cannot read "), "{absent}");
    }
}
