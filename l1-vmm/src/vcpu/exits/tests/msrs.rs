//! The table of `docs/msrs.md`, tried row by row.

use super::*;
use crate::vcpu::msr_bitmap::exits;

/// A row of the table.
struct Row<'a> {
    msr: u32,
    tried: u64,
    written: &'a str,
    read: &'a str,
}

fn number(text: &str) -> u64 {
    u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
}

fn rows() -> Vec<Row<'static>> {
    let table = include_str!("../../../../../docs/msrs.md");
    let rows = table.lines().filter(|line| line.starts_with("| 0x"));
    rows.map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, msr, _, _, tried, written, read, _] = cells[..] else {
            panic!("{line}");
        };
        Row {
            msr: number(msr) as u32,
            tried: number(tried),
            written,
            read,
        }
    })
    .collect()
}

#[test]
fn every_row_of_the_document_is_true() {
    let rows = rows();
    assert!(rows.len() >= 48);
    for Row {
        msr,
        tried,
        written,
        read,
    } in rows
    {
        let platform = &mut Fixture::new(&[]).platform;
        assert_eq!(exits(msr, true, true), written != "own", "WRMSR {msr:#x}");
        let before = platform.read_msr(msr);
        match platform.write_msr(msr, tried) {
            Ok(()) => assert!(["own", "kept", "ignored"].contains(&written), "{msr:#x}"),
            Err(_) => assert!(["own", "refused"].contains(&written), "{msr:#x}"),
        }
        assert_eq!(exits(msr, false, true), read != "own", "RDMSR {msr:#x}");
        let after = platform.read_msr(msr);
        match read {
            "own" => {}
            "refused" => assert_eq!(after, Err(Refusal::GENERAL_PROTECTION), "{msr:#x}"),
            value => assert_eq!(after, Ok(number(value)), "{msr:#x}"),
        }
        if written == "ignored" && read != "own" {
            assert_eq!(after, before, "{msr:#x}");
        }
    }
}

#[test]
fn cstar_takes_canonical_addresses_only() {
    let platform = &mut Fixture::new(&[]).platform;
    for (value, taken) in [
        (0xFFFF_8000_0000_0000, true),
        (0x0000_7FFF_FFFF_FFFF, true),
        (0x0000_8000_0000_0000, false),
    ] {
        assert_eq!(platform.write_msr(0xC000_0083, value).is_ok(), taken);
    }
    assert_eq!(platform.read_msr(0xC000_0083), Ok(0x0000_7FFF_FFFF_FFFF));
}
