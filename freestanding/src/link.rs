//! Linker settings, printed as Cargo build-script instructions.

use std::path::Path;

/// How an image is placed in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// At the addresses of the linker script; no relocations are left.
    Fixed,
    /// Anywhere: linked at 0, with `R_X86_64_RELATIVE` relocations and nothing else.
    Relocatable,
}

/// Prints the link arguments for every binary of the calling package.
///
/// `script` is a path relative to the package.
pub fn image(script: &str, placement: Placement) {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let script = Path::new(&manifest).join(script);
    println!("cargo:rerun-if-changed={}", script.display());
    let common = [
        "-nostdlib",
        "-nostartfiles",
        "-static",
        "-Wl,--gc-sections",
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=4096",
        "-Wl,-z,noexecstack",
        "-Wl,-z,norelro",
        // The prebuilt core library is an unwinding build; an image aborts instead.
        "-Wl,--defsym=rust_eh_personality=0",
        "-Wl,--defsym=_Unwind_Resume=0",
    ];
    let placed: &[&str] = match placement {
        Placement::Fixed => &["-no-pie"],
        Placement::Relocatable => &["-static-pie", "-Wl,--no-dynamic-linker", "-Wl,-z,text"],
    };
    for argument in common.iter().chain(placed) {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", script.display());
}
