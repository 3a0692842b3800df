//! Writes the files of `sim/quoting/pki/`: `cargo run -p quoting --example make-pki`.

use std::path::Path;

use quoting::pki::{Options, Pki};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pki");
    for (name, content) in Pki::new(&Options::default())?.files()? {
        std::fs::write(folder.join(name), content)?;
    }
    Ok(())
}
