//! What is committed in `pki/` is what the generator makes.

use std::path::Path;

use quoting::pki::{Options, Pki};

#[test]
fn committed_files_are_those_that_the_generator_makes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pki");
    for (name, content) in Pki::new(&Options::default()).unwrap().files().unwrap() {
        let committed = std::fs::read(folder.join(name)).unwrap();
        assert!(
            committed == content,
            "{name} differs: run `cargo run -p quoting --example make-pki`"
        );
    }
}
