//! Holds that a number of a specification is written once: in `defs/`.

use crate::images::root;
use crate::soundness::files;
use std::fs;
use std::path::PathBuf;

/// Sources of the product, the simulator and the tasks; tests may restate what they compare with.
fn sources() -> Vec<PathBuf> {
    let mut all = Vec::new();
    files(&root(), ".rs", &mut all);
    all.retain(|file| {
        let path = file.strip_prefix(root()).unwrap().to_str().unwrap();
        !path.starts_with("defs/") && !path.contains("tests") && !path.ends_with(file!())
    });
    all
}

/// Name and value of a constant that is a plain number: `const NAME: u32 = 0x1F;`.
fn number(line: &str) -> Option<(&str, u64)> {
    let (_, rest) = line.split_once("const ")?;
    let (name, rest) = rest.split_once(": u")?;
    let (_, value) = rest.split_once(" = ")?;
    let value = value.split_once(';')?.0.replace('_', "");
    let value = match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None => value.parse().ok()?,
    };
    Some((name.trim(), value))
}

/// Numbers that no other thing has by chance: MSRs, addresses and ports of the PC, the TPM's window.
fn defined() -> Vec<(String, u64)> {
    let mut defined = Vec::new();
    for file in [
        "x86/src/msr.rs",
        "x86/src/pc.rs",
        "tcg/src/ptp.rs",
        "x86/src/exit_reason.rs",
    ] {
        let text = fs::read_to_string(root().join("defs").join(file)).unwrap();
        let numbers = text.lines().filter_map(number);
        defined.extend(numbers.map(|(name, value)| (name.to_owned(), value)));
    }
    defined.retain(|(_, value)| *value > 0xFF);
    defined
}

/// Whether two names are of the same thing: they share a word that is not in every other name.
fn alike(first: &str, second: &str) -> bool {
    first.split('_').any(|word| {
        word.len() > 2 && !["IA32", "SIZE"].contains(&word) && second.split('_').any(|w| w == word)
    })
}

#[test]
fn numbers_of_specifications_are_written_once() {
    let defined = defined();
    assert!(defined.len() > 40, "{}", defined.len());
    let mut again = Vec::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        for (name, value) in text.lines().filter_map(number) {
            let twin = defined
                .iter()
                .find(|(known, same)| value == *same && alike(name, known));
            if let Some((known, _)) = twin {
                again.push(format!("{}: {name} is {known}", file.display()));
            }
        }
    }
    assert!(again.is_empty(), "use the definition: {again:#?}");
}

#[test]
fn bits_of_control_registers_are_written_once() {
    let mut again = Vec::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        for line in text.lines() {
            let module = ["cr0", "cr4", "efer", "rflags", "xcr0", "debugctl"]
                .iter()
                .any(|name| line.trim_start().contains(&format!("mod {name} {{")));
            let bit = ["CR0_", "CR4_", "EFER_", "RFLAGS_", "DEBUGCTL_"]
                .iter()
                .any(|start| line.contains(&format!("const {start}")) && line.contains("= 1 <<"));
            if module || bit {
                again.push(format!("{}: {line}", file.display()));
            }
        }
    }
    assert!(again.is_empty(), "use x86-defs: {again:#?}");
}

#[test]
fn a_constant_is_read_as_the_compiler_does() {
    assert_eq!(
        number("    pub(crate) const IA32_EFER: u32 = 0xC000_0080;"),
        Some(("IA32_EFER", 0xC000_0080))
    );
    assert_eq!(number("const COM1_IRQ: u8 = 4;"), Some(("COM1_IRQ", 4)));
    assert_eq!(number("const A: u64 = B | 1;"), None);
    assert!(alike("TSC_DEADLINE", "IA32_TSC_DEADLINE") && !alike("IA32_PAT", "IA32_EFER"));
}
