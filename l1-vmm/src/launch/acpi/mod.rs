//! The ACPI tables that describe L2's platform.
//!
//! The platform is not *hardware-reduced* (ACPI 6.5, section 4.1) although it has little hardware: a
//! kernel started without EFI on a hardware-reduced machine reboots through real mode, and never tries
//! the FADT's reset register (Linux, `arch/x86/kernel/reboot.c`). So there is a PM1 block, whose
//! events never happen, an SCI that is never raised, and the PM timer; no FACS.
//!
//! There is no power or sleep button, no keyboard controller and no VGA. Power-off is the
//! S5 write to PM1a_CNT, reboot the FADT's reset register.
//!
//! [`Tables::build`] is the only entry: it turns a place in L2's memory into bytes to put there.

mod dsdt;
mod fixed;

use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, sdt::Sdt};
use alloc::vec::Vec;
use attestation::journal::TpmInterface;

use super::boot::EventLogs;
use super::gpa_range::GpaRange;
use crate::machine::devices::pci::window::PciWindow;

/// OEM ID of every table.
const OEM_ID: [u8; 6] = *b"TDVTPM";
/// OEM table ID of every table.
const OEM_TABLE_ID: [u8; 8] = *b"TDPL1VMM";
/// OEM revision of every table.
const OEM_REVISION: u32 = 1;

/// What the tables tell.
#[derive(Clone, Copy, Debug)]
pub struct Platform<'a> {
    /// Areas in which L2 will find event logs.
    pub event_logs: EventLogs,
    /// The TPM's registers.
    pub interface: TpmInterface,
    /// The page of the CRB interface, if it has one.
    pub data_buffer: Option<GpaRange>,
    /// The window of the PCI bus, if there are devices on it.
    pub pci: Option<&'a PciWindow>,
    /// How many processors there are.
    pub processors: u8,
}

/// The tables as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// The root pointer; it goes where a kernel searches for it.
    pub rsdp: Vec<u8>,
    /// All tables, to be put at the address they were built for.
    pub tables: Vec<u8>,
}

impl Tables {
    /// Builds the tables for `address`, a multiple of 64 below 4 GiB.
    pub fn build(address: u64, platform: &Platform<'_>) -> Self {
        let &Platform {
            event_logs,
            interface,
            data_buffer,
            pci,
            processors,
        } = platform;
        let mut placed = Placed {
            address,
            bytes: Vec::new(),
        };
        let dsdt = placed.put(dsdt::dsdt(pci, data_buffer, interface.interrupts()).as_slice());
        let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
        xsdt.add_entry(placed.put(&encoded(&fixed::fadt(dsdt))));
        xsdt.add_entry(placed.put(fixed::madt(processors).as_slice()));
        xsdt.add_entry(placed.put(fixed::tpm2(interface.is_crb(), event_logs.tcg).as_slice()));
        xsdt.add_entry(placed.put(fixed::ccel(event_logs.cc).as_slice()));
        if let Some(window) = pci {
            xsdt.add_entry(placed.put(&encoded(&fixed::mcfg(window))));
        }
        let xsdt = placed.put(&encoded(&xsdt));
        Self {
            rsdp: encoded(&Rsdp::new(OEM_ID, xsdt)),
            tables: placed.bytes,
        }
    }
}

/// Tables laid out one after the other.
struct Placed {
    address: u64,
    bytes: Vec<u8>,
}

impl Placed {
    fn put(&mut self, table: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(64), 0);
        let address = self.address + self.bytes.len() as u64;
        self.bytes.extend_from_slice(table);
        address
    }
}

fn encoded(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// A table with only its header.
fn header(signature: [u8; 4], revision: u8) -> Sdt {
    const HEADER_LENGTH: u32 = 36;
    Sdt::new(
        signature,
        HEADER_LENGTH,
        revision,
        OEM_ID,
        OEM_TABLE_ID,
        OEM_REVISION,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::boot::ACPI_LENGTH;

    const AT: u64 = 0x39BE_0000;

    fn tables() -> Tables {
        tables_with(None)
    }

    fn tables_with(pci: Option<&PciWindow>) -> Tables {
        tables_of(pci, None)
    }

    fn tables_of(pci: Option<&PciWindow>, data_buffer: Option<GpaRange>) -> Tables {
        let interface = match data_buffer {
            Some(_) => TpmInterface::Crb,
            None => TpmInterface::Fifo,
        };
        tables_by(pci, interface, data_buffer)
    }

    fn tables_by(
        pci: Option<&PciWindow>,
        interface: TpmInterface,
        data_buffer: Option<GpaRange>,
    ) -> Tables {
        let log = |start, length| GpaRange::with_length(start, length).unwrap();
        let logs = EventLogs {
            tcg: log(0x39C0_0000, 0x1_0000),
            cc: log(0x39BF_0000, 0x10_0000),
        };
        let platform = Platform {
            event_logs: logs,
            interface,
            data_buffer,
            pci,
            processors: 1,
        };
        Tables::build(AT, &platform)
    }

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    /// The table at `address`: its length field decides, and its bytes must sum to 0.
    fn table(tables: &Tables, address: u64, signature: &[u8; 4]) -> Vec<u8> {
        let at = (address - AT) as usize;
        let length = u32_at(&tables.tables, at + 4) as usize;
        let table = tables.tables[at..at + length].to_vec();
        assert_eq!(&table[..4], signature);
        assert_eq!(sum(&table), 0, "{signature:?}");
        table
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn find(tables: &Tables, signature: &[u8; 4]) -> Vec<u8> {
        let xsdt = table(tables, u64_at(&tables.rsdp, 24), b"XSDT");
        let address = xsdt[36..]
            .chunks_exact(8)
            .map(|entry| u64::from_le_bytes(entry.try_into().unwrap()))
            .find(|address| {
                let at = (address - AT) as usize;
                &tables.tables[at..at + 4] == signature
            });
        table(tables, address.unwrap(), signature)
    }

    #[test]
    fn the_root_pointer_is_revision_2_and_sums_to_zero_twice() {
        let rsdp = tables().rsdp;
        assert_eq!(rsdp.len(), 36);
        assert_eq!(&rsdp[..8], b"RSD PTR ");
        assert_eq!((rsdp[15], u32_at(&rsdp, 20)), (2, 36));
        assert_eq!((sum(&rsdp[..20]), sum(&rsdp)), (0, 0));
    }

    #[test]
    fn every_table_is_found_and_sums_to_zero() {
        let tables = tables();
        assert!(tables.tables.len() as u64 <= ACPI_LENGTH);
        let fadt = find(&tables, b"FACP");
        table(&tables, u64_at(&fadt, 140), b"DSDT");
        find(&tables, b"APIC");
        find(&tables, b"TPM2");
        find(&tables, b"CCEL");
    }

    /// Method 7, the control area behind the localities' registers of page 0, and the page among the device's resources.
    #[test]
    fn a_crb_is_announced_as_one() {
        let page = GpaRange::with_length(0x39AD_F000, 0x1000).unwrap();
        let crb = tables_of(None, Some(page));
        let tpm2 = find(&crb, b"TPM2");
        assert_eq!((tpm2.len(), tpm2[8]), (76, 4));
        assert_eq!(u64_at(&tpm2, 40), 0xFED4_0040);
        assert_eq!(u32_at(&tpm2, 48), 7);
        assert_eq!(u64_at(&tpm2, 68), 0x39C0_0000, "LASA");
        // Memory32Fixed (ReadWrite, 0xFED40000, 0x5000), Memory32Fixed (ReadWrite, 0x39ADF000, 0x1000)
        let resources = [
            [0x86, 9, 0, 1, 0, 0, 0xD4, 0xFE, 0, 0x50, 0, 0],
            [0x86, 9, 0, 1, 0, 0xF0, 0xAD, 0x39, 0, 0x10, 0, 0],
        ]
        .concat();
        let holds = |tables: &Tables| {
            let mut windows = tables.tables.windows(resources.len());
            windows.any(|window| window == resources)
        };
        assert!(holds(&crb));
        // FreeBSD wants the buffer in one range with the registers.
        let registers = tables_by(None, TpmInterface::CrbRegisters, None);
        let tpm2 = find(&registers, b"TPM2");
        assert_eq!((u64_at(&tpm2, 40), u32_at(&tpm2, 48)), (0xFED4_0040, 7));
        assert!(!holds(&registers));
        let fifo = tables();
        let tpm2 = find(&fifo, b"TPM2");
        assert_eq!((u64_at(&tpm2, 40), u32_at(&tpm2, 48)), (0, 6));
        assert!(!holds(&fifo));
    }

    #[test]
    fn an_interface_that_interrupts_says_so() {
        let page = GpaRange::with_length(0x39AD_F000, 0x1000).unwrap();
        for (interface, buffer) in [
            (TpmInterface::Fifo, None),
            (TpmInterface::FifoInterrupt, None),
            (TpmInterface::Crb, Some(page)),
            (TpmInterface::CrbInterrupt, Some(page)),
            (TpmInterface::CrbRegisters, None),
        ] {
            // Interrupt (ResourceConsumer, Level, ActiveLow, Exclusive) {5}
            let interrupt = [0x89, 6, 0, 0b0101, 1, 5, 0, 0, 0];
            let tables = tables_by(None, interface, buffer);
            let mut windows = tables.tables.windows(interrupt.len());
            let says = windows.any(|window| window == interrupt);
            assert_eq!(says, interface.interrupts(), "{}", interface.word());
        }
    }

    #[test]
    fn the_fadt_has_a_pm1_block_and_can_sleep_and_reset() {
        let fadt = find(&tables(), b"FACP");
        assert_eq!((fadt.len(), fadt[8]), (276, 6));
        assert_eq!(u32_at(&fadt, 112) >> 20 & 1, 0, "HW_REDUCED_ACPI");
        assert_eq!(u32_at(&fadt, 112) >> 10 & 1, 1, "RESET_REG_SUP");
        let register = |at: usize| (fadt[at], fadt[at + 1], u64_at(&fadt, at + 4));
        assert_eq!((register(116), fadt[128]), ((1, 8, 0xCF9), 6));
        assert_eq!((fadt[46], fadt[47]), (9, 0), "SCI_INT");
        assert_eq!((u32_at(&fadt, 56), fadt[88]), (0x600, 4), "PM1a_EVT_BLK");
        assert_eq!((u32_at(&fadt, 64), fadt[89]), (0x604, 2), "PM1a_CNT_BLK");
        assert_eq!((u32_at(&fadt, 76), fadt[91]), (0x608, 4), "PM_TMR_BLK");
        assert_eq!(u32_at(&fadt, 112) >> 8 & 1, 0, "TMR_VAL_EXT: 24 bits");
        assert_eq!(
            u16::from_le_bytes([fadt[109], fadt[110]]),
            4,
            "no VGA, nothing else"
        );
    }

    #[test]
    fn a_bus_with_devices_has_its_configuration_space_in_memory() {
        let range = GpaRange::with_length(0x3980_0000, PciWindow::SIZE).unwrap();
        let window = PciWindow::new(range).unwrap();
        let with = tables_with(Some(&window));
        let mcfg = find(&with, b"MCFG");
        assert_eq!((mcfg.len(), u64_at(&mcfg, 44)), (60, 0x3980_0000));
        assert_eq!(
            mcfg[52..],
            [0, 0, 0, 0, 0, 0, 0, 0],
            "segment 0, bus 0 only"
        );
        assert!(!tables().tables.windows(4).any(|four| four == b"MCFG"));
    }

    #[test]
    fn the_madt_has_one_processor_one_io_apic_and_8259s() {
        let madt = find(&tables(), b"APIC");
        assert_eq!((u32_at(&madt, 36), u32_at(&madt, 40)), (0xFEE0_0000, 1));
        assert_eq!(madt[44..52], [0, 8, 0, 0, 1, 0, 0, 0]);
        assert_eq!(madt[52..64], [1, 12, 0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0]);
        assert_eq!(madt[64..74], [2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
        assert_eq!(madt[74..], [2, 10, 0, 9, 9, 0, 0, 0, 0x0D, 0]);
    }

    #[test]
    fn the_tpm2_table_names_the_interface_and_the_log() {
        let table = find(&tables(), b"TPM2");
        assert_eq!((table.len(), table[8]), (76, 4));
        assert_eq!(u32_at(&table, 36), 0, "client platform");
        assert_eq!((u64_at(&table, 40), u32_at(&table, 48)), (0, 6));
        assert_eq!(
            (u32_at(&table, 64), u64_at(&table, 68)),
            (0x1_0000, 0x39C0_0000)
        );
    }

    #[test]
    fn the_ccel_table_names_the_copy_of_a_tdx_log() {
        let table = find(&tables(), b"CCEL");
        assert_eq!((table.len(), table[8]), (56, 1));
        assert_eq!(table[36..40], [2, 0, 0, 0]);
        assert_eq!(
            (u64_at(&table, 40), u64_at(&table, 48)),
            (0x10_0000, 0x39BF_0000)
        );
    }
}
