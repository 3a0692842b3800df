//! A reader of event logs that is not ours: `tpm2_eventlog` of tpm2-tools.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Registers by bank and number, in hexadecimal.
pub(crate) type Registers = BTreeMap<(String, u32), String>;

/// What the tool computes from a log. For a CC event log the numbers are RTMR + 1.
pub(crate) fn replay(log: &Path) -> Result<Registers> {
    let output = Command::new("tpm2_eventlog")
        .arg(log)
        .output()
        .context("cannot run tpm2_eventlog (package tpm2-tools)")?;
    ensure!(
        output.status.success(),
        "tpm2_eventlog refuses {}: {}",
        log.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let registers = registers(&String::from_utf8_lossy(&output.stdout));
    ensure!(
        !registers.is_empty(),
        "tpm2_eventlog computes nothing from {}",
        log.display()
    );
    Ok(registers)
}

/// The part of the output behind "pcrs:": a line for each bank, and below it one a register,
/// "  4  : 0x12…".
fn registers(yaml: &str) -> Registers {
    let mut bank = String::new();
    let mut registers = Registers::new();
    for line in yaml.lines().skip_while(|line| *line != "pcrs:").skip(1) {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        match (key.trim().parse(), value.trim().strip_prefix("0x")) {
            (Ok(number), Some(value)) => {
                registers.insert((bank.clone(), number), value.to_lowercase());
            }
            _ => key.trim().clone_into(&mut bank),
        }
    }
    registers
}

#[cfg(test)]
mod tests {
    use super::*;
    use attestation::digest::Digests;
    use attestation::event_log::cc_record;
    use attestation::launch::Launch;
    use attestation::pcr::banks_at_startup;
    use zerocopy::IntoBytes;

    const LAUNCH: Launch<'static> = Launch {
        version: "1.2.3",
        mrtd: &[1; 48],
        rtmr0: &[2; 48],
        kernel: Digests {
            sha1: [3; 20],
            sha256: [4; 32],
            sha384: [5; 48],
            sha512: [6; 64],
        },
        command_line: b"console=ttyS0",
        initrd: None,
    };

    fn replayed(log: &[u8]) -> Registers {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        std::fs::write(&file, log).unwrap();
        replay(&file).unwrap()
    }

    #[test]
    fn the_tool_reads_our_tcg_log_as_we_do() {
        let registers = replayed(LAUNCH.tcg_log().bytes());
        let mut expected = Registers::new();
        for mut bank in banks_at_startup() {
            for (pcr, event) in LAUNCH.pcr_events() {
                let digest = event.digests.get(bank.algorithm());
                bank.extend(pcr.into(), &digest).unwrap();
            }
            for pcr in 0..9 {
                let value = hex::encode(bank.value(pcr).unwrap().bytes());
                expected.insert((bank.algorithm().name().to_owned(), pcr), value);
            }
        }
        assert_eq!(registers, expected);
    }

    #[test]
    fn the_tool_reads_our_cc_log_as_we_do() {
        let mut log = attestation::event_log::SpecId::new(*b"td-shim")
            .as_bytes()
            .to_vec();
        let mut rtmrs = [[0; 48]; 4];
        for (rtmr, event) in LAUNCH.rtmr_events() {
            let digest = event.digests.sha384;
            log.extend(cc_record(rtmr, event.event_type, digest, &event.data).unwrap());
            let register = &mut rtmrs[usize::from(rtmr)];
            *register = attestation::digest::extend_sha384(register, &digest);
        }
        let expected: Registers = [(1, rtmrs[1]), (2, rtmrs[2])]
            .map(|(rtmr, value)| (("sha384".to_owned(), rtmr + 1), hex::encode(value)))
            .into();
        assert_eq!(replayed(&log), expected);
    }
}
