//! Tables of fixed layout: FADT, MADT, TPM2, CCEL.

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, header};
use crate::launch::gpa_range::GpaRange;
use acpi_tables::fadt::{FADT, FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::mcfg::MCFG;
use acpi_tables::sdt::Sdt;
use tcg_defs::acpi::{START_METHOD_CRB, START_METHOD_MEMORY_MAPPED};
use tcg_defs::ptp;
use uefi_defs::acpi;
use x86_defs::pc;

use crate::machine::devices::pci::window::PciWindow;
use crate::machine::map;

/// IAPC_BOOT_ARCH: "VGA Not Present". No 8042, no legacy devices but those in the DSDT; the CMOS
/// RTC is there.
const VGA_NOT_PRESENT: u16 = 1 << 2;

/// Fixed ACPI Description Table (ACPI 6.5, section 5.2.9).
pub(super) fn fadt(dsdt: u64) -> FADT {
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless);
    fadt.iapc_boot_arch = VGA_NOT_PRESENT.into();
    fadt.reset_reg = byte_port(pc::RESET_CONTROL);
    fadt.reset_value = pc::SYSTEM_RESET | pc::RESET_CPU;
    fadt.sci_int = u16::from(map::SCI.pin).into();
    fadt.pm1a_evt_blk = u32::from(map::PM1_EVENT).into();
    fadt.pm1_evt_len = 4;
    fadt.pm1a_cnt_blk = u32::from(map::PM1_CONTROL).into();
    fadt.pm1_cnt_len = 2;
    fadt.pm_tmr_blk = u32::from(map::PM_TIMER).into();
    fadt.pm_tmr_len = map::PM_TIMER_LENGTH;
    fadt.finalize()
}

fn byte_port(port: u16) -> GAS {
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        u64::from(port),
    )
}

/// MADT revision of ACPI 6.5.
const MADT_REVISION: u8 = 6;

/// Multiple APIC Description Table (ACPI 6.5, section 5.2.12). PCAT_COMPAT: there is an 8259A pair. The overrides
/// say where ISA interrupt 0 and the SCI are; the others are where their numbers say. Each of the `processors` is enabled,
/// and its APIC id is its number.
pub(super) fn madt(processors: u8) -> Sdt {
    const PCAT_COMPAT: u32 = 1;
    const PROCESSOR_LOCAL_APIC: [u8; 2] = [0, 8];
    const ENABLED: u32 = 1;
    const IO_APIC: [u8; 4] = [1, 12, 0, 0];
    const GSI_BASE: u32 = 0;
    const ISA: u8 = 0;
    const AS_THE_BUS: u16 = 0;
    const ACTIVE_HIGH_LEVEL: u16 = 0b1101;
    let mut madt = header(*b"APIC", MADT_REVISION);
    madt.append_slice(&(pc::LOCAL_APIC as u32).to_le_bytes());
    madt.append_slice(&PCAT_COMPAT.to_le_bytes());
    for number in 0..processors.max(1) {
        madt.append_slice(&PROCESSOR_LOCAL_APIC);
        madt.append_slice(&[number, number]);
        madt.append_slice(&ENABLED.to_le_bytes());
    }
    madt.append_slice(&IO_APIC);
    madt.append_slice(&(pc::IO_APIC as u32).to_le_bytes());
    madt.append_slice(&GSI_BASE.to_le_bytes());
    for (source, pin, flags) in [
        (pc::TIMER_IRQ, pc::TIMER_GSI, AS_THE_BUS),
        (map::SCI.isa, map::SCI.pin, ACTIVE_HIGH_LEVEL),
    ] {
        const INTERRUPT_SOURCE_OVERRIDE: [u8; 2] = [2, 10];
        madt.append_slice(&INTERRUPT_SOURCE_OVERRIDE);
        madt.append_slice(&[ISA, source]);
        madt.append_slice(&u32::from(pin).to_le_bytes());
        madt.append_slice(&flags.to_le_bytes());
    }
    madt
}

/// TPM2 revision: the last whose LAML and LASA are where every reader expects them.
const TPM2_REVISION: u8 = 4;

/// TPM2 table (TCG ACPI Specification 1.3, table 7): a CRB or a FIFO interface at its fixed address.
pub(super) fn tpm2(is_crb: bool, event_log: GpaRange) -> Sdt {
    const CLIENT_PLATFORM: u32 = 0;
    const CONTROL_AREA: u64 = ptp::BASE + ptp::crb::CTRL_REQ as u64;
    let (control_area, method) = match is_crb {
        true => (CONTROL_AREA, START_METHOD_CRB),
        false => (0, START_METHOD_MEMORY_MAPPED),
    };
    const START_METHOD_PARAMETERS: [u8; 12] = [0; 12];
    let mut tpm2 = header(*b"TPM2", TPM2_REVISION);
    tpm2.append_slice(&CLIENT_PLATFORM.to_le_bytes());
    tpm2.append_slice(&control_area.to_le_bytes());
    tpm2.append_slice(&method.to_le_bytes());
    tpm2.append_slice(&START_METHOD_PARAMETERS);
    tpm2.append_slice(&(event_log.length() as u32).to_le_bytes());
    tpm2.append_slice(&event_log.start().to_le_bytes());
    tpm2
}

/// MCFG (PCI Firmware Specification 3.3, section 4.1.2): configuration space of bus 0.
pub(super) fn mcfg(window: &PciWindow) -> MCFG {
    let mut mcfg = MCFG::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    mcfg.add_ecam(window.configuration().start(), 0, 0, 0);
    mcfg
}

/// CCEL revision.
const CCEL_REVISION: u8 = 1;

/// CC Event Log ACPI Table (ACPI 6.5, section 5.2.34).
pub(super) fn ccel(event_log: GpaRange) -> Sdt {
    const CC_SUBTYPE: u8 = 0;
    const RESERVED: [u8; 2] = [0; 2];
    let mut ccel = header(*b"CCEL", CCEL_REVISION);
    ccel.append_slice(&[acpi::CC_TYPE_TDX, CC_SUBTYPE]);
    ccel.append_slice(&RESERVED);
    ccel.append_slice(&event_log.length().to_le_bytes());
    ccel.append_slice(&event_log.start().to_le_bytes());
    ccel
}
