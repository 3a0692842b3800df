//! `cargo xtask broker`: the key broker alone, on loopback.

use crate::images::{root, target, work_folder};
use crate::{postgresql, progress};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The broker's folder; a new one below target/xtask without it.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Where machines reach it.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: String,
    /// Where its page and figures are.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    operator_listen: String,
    /// Enrol a machine of this name, if there is none.
    #[arg(long, value_name = "NAME")]
    enrol: Option<String>,
    /// Allow this policy for it, as `cargo xtask measure --policy` writes one.
    #[arg(long, value_name = "FILE", requires = "enrol")]
    policy: Option<PathBuf>,
}

/// Builds the broker and the proxy; the folder that they are in.
pub(crate) fn build() -> Result<PathBuf> {
    let step = progress::step("building the key broker");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "broker", "--bins"])
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("building the key broker failed");
    }
    step.done();
    Ok(target().join("debug"))
}

/// Where the simulated platform's root and collateral are.
pub(crate) fn roots() -> PathBuf {
    root().join("sim/quoting/pki")
}

/// Prints what the broker's benchmark measures.
pub(crate) fn bench() -> Result<bool> {
    let database = postgresql::unpacked()?;
    let status = Command::new(env!("CARGO"))
        .args(["bench", "--quiet", "--package", "broker", "--bench", "load"])
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target())
        .env(postgresql::VARIABLE, database)
        .status()
        .context("cannot run cargo")?;
    Ok(status.success())
}

/// Serves until it is ended.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let program = build()?.join("tdp-vtpm-broker");
    let folder = match &options.directory {
        Some(folder) => folder.clone(),
        None => work_folder()?.join("broker"),
    };
    if options.directory.is_none() && folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    if !folder.join("broker.sqlite").exists() {
        command(&program, &folder, &["init"])?;
    }
    if let Some(name) = &options.enrol {
        enrol(&program, &folder, name, options.policy.as_deref())?;
    }
    let (machines, operator) = (&options.listen, &options.operator_listen);
    println!(
        "
The simulated platform's root is accepted. Look at it, and speak to it:

    curl http://{operator}/                     the page (a browser is better)
    curl http://{operator}/metrics
    curl -i http://{machines}/kbs/v0/auth -d '{{\"version\":\"0.4.0\",\"tee\":\"tdx\",\"extra-params\":\"\"}}'

    {} --directory {} enrol NAME
"
        ,
        program.display(),
        folder.display()
    );
    let status = Command::new(&program)
        .arg("--directory")
        .arg(&folder)
        .args(["serve", "--listen", machines, "--operator-listen", operator])
        .arg("--roots")
        .arg(roots())
        .arg("--accept-simulated-platform")
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    Ok(status.success())
}

fn enrol(program: &Path, folder: &Path, name: &str, policy: Option<&Path>) -> Result<()> {
    let known = Command::new(program)
        .arg("--directory")
        .arg(folder)
        .args(["show", name])
        .output()?;
    if !known.status.success() {
        let document = folder.join(format!("{name}.init-data.toml"));
        let document = document.to_string_lossy();
        command(program, folder, &["enrol", name, "--init-data", &document])?;
        println!("init-data {document}");
    }
    if let Some(policy) = policy {
        command(program, folder, &["allow", name, &policy.to_string_lossy()])?;
    }
    Ok(())
}

fn command(program: &Path, folder: &Path, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program)
        .arg("--directory")
        .arg(folder)
        .args(arguments)
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    match status.success() {
        true => Ok(()),
        false => bail!("the broker's {} failed", arguments.join(" ")),
    }
}
