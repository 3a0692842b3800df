//! From the host's files to a kernel ready to run in L2's memory.

use super::acpi::{Platform, Tables};
use super::boot::{
    Contents, EntryState, Format, KernelError, Layout, LowMemory, PlaceError, SetupHeader,
    boot_structures,
};
use super::fw_cfg::{FwCfg, FwCfgError, Item};
use super::gpa_range::GpaRange;
use super::image::{LaunchedFile, LaunchedImage, Measurer};
use super::plan::MemoryPlan;
use super::stopwatch::Stopwatch;
use crate::machine::devices::pci::window::PciWindow;
use alloc::vec::Vec;
use attestation::journal::TpmInterface;
use attestation::launch::canonical_setup;
use attestation::pcr::PcrBanks;
use l2_exit::{GuestMemory, MemoryError};
use tdcall::{RawTdcall, SharedBuffer};

/// Why L2 cannot be launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// fw_cfg does not work.
    #[error(transparent)]
    FwCfg(#[from] FwCfgError),
    /// The host has no kernel for us.
    #[error("the host gives no kernel (start QEMU with -kernel)")]
    NoKernel,
    /// No kernel has that much setup code.
    #[error("the host claims {0} bytes of kernel setup code; no bzImage has more than {SETUP_MAX}")]
    SetupTooLarge(u64),
    /// The kernel is not one L1 can start.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The command line is longer than the kernel takes.
    #[error("the command line is too long: {length} bytes, but the kernel takes {most} at most")]
    CommandLineTooLong {
        /// Its length without the NUL.
        length: u64,
        /// The kernel's `cmdline_size`, or L1's room if that is less.
        most: u64,
    },
    /// The command line has no NUL at its end, or one before.
    #[error("the host's command line does not end where its size says")]
    CommandLineNotTerminated,
    /// Something does not fit into L2's memory.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// L2's memory could not be written.
    #[error("loading L2: {0}")]
    Memory(#[from] MemoryError),
}

/// A boot sector and 255 more.
const SETUP_MAX: u64 = 256 * 512;

/// L2 before its first instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedGuest {
    /// What was loaded.
    pub image: LaunchedImage,
    /// Where it was loaded, and the memory map L2 was told.
    pub layout: Layout,
    /// How its processor starts.
    pub entry: EntryState,
}

/// What a launch depends on besides the host's files.
#[derive(Clone, Copy)]
pub struct Choices<'a> {
    /// The TPM's PCR banks.
    pub banks: PcrBanks,
    /// The TPM's registers.
    pub interface: TpmInterface,
    /// Addresses of the PCI bus, if there are devices on it.
    pub pci: Option<&'a PciWindow>,
    /// L2's virtual processors.
    pub processors: u8,
    /// Is told how long the measuring takes.
    pub hashing: &'a Stopwatch,
}

/// Loads the host's kernel, initrd and command line into L2's memory, and what the kernel expects
/// besides.
///
/// Every size is checked before anything is allocated or copied for it. The tables announce the
/// layout's areas for event logs; the caller puts the logs there before L2 runs. Measures what it
/// loads for the TPM's banks and the TD's registers at once.
pub fn load<R: RawTdcall, B: SharedBuffer, M: GuestMemory>(
    fw_cfg: &FwCfg<'_, R, B>,
    plan: &MemoryPlan,
    memory: &M,
    choices: &Choices<'_>,
) -> Result<LoadedGuest, LoadError> {
    let &Choices {
        banks,
        interface,
        pci,
        processors,
        hashing,
    } = choices;
    let setup = read_setup(fw_cfg)?;
    let header = SetupHeader::parse(&setup)?;
    let code_length = fw_cfg.size(Item::KernelSize)?;
    header.check_code_length(code_length)?;
    let command_line = read_command_line(fw_cfg, &header)?;
    let initrd_length = fw_cfg.size(Item::InitrdSize)?;
    let layout = Layout::new(
        plan.l2(),
        &Contents {
            header: &header,
            code_length,
            initrd_length,
            interface,
        },
    )?;

    clear_legacy_areas(memory)?;
    let mut measurer = Measurer::new(banks, hashing);
    measurer.update(&canonical_setup(&setup));
    let range = GpaRange::with_length(layout.kernel.start(), code_length);
    let range = range.unwrap_or(GpaRange::EMPTY);
    let kernel = load_item(fw_cfg, memory, Item::KernelData, range, measurer)?;
    let initrd = match layout.initrd {
        Some(range) => Some(load_item(
            fw_cfg,
            memory,
            Item::InitrdData,
            range,
            Measurer::new(banks, hashing),
        )?),
        None => None,
    };
    let line = command_line;
    let command_line = place_command_line(memory, &line, Measurer::new(banks, hashing))?;
    for (gpa, bytes) in boot_structures(&header, &layout) {
        memory.write(gpa, &bytes)?;
    }
    let tables = Tables::build(
        layout.acpi.start(),
        &Platform {
            event_logs: layout.event_logs,
            interface,
            data_buffer: layout.data_buffer,
            pci,
            processors,
        },
    );
    if tables.tables.len() as u64 > layout.acpi.length() {
        return Err(PlaceError::Tables.into());
    }
    memory.write(LowMemory::RSDP, &tables.rsdp)?;
    memory.write(layout.acpi.start(), &tables.tables)?;
    Ok(LoadedGuest {
        image: LaunchedImage {
            kernel,
            initrd,
            command_line,
            line,
        },
        entry: EntryState::new(layout.kernel.start()),
        layout,
    })
}

fn read_setup<R: RawTdcall, B: SharedBuffer>(
    fw_cfg: &FwCfg<'_, R, B>,
) -> Result<Vec<u8>, LoadError> {
    let length = fw_cfg.size(Item::SetupSize)?;
    if length == 0 {
        return Err(match fw_cfg.size(Item::KernelSize)? {
            0 => LoadError::NoKernel,
            _ => KernelError::NotBzImage(Format::Unknown).into(),
        });
    }
    if length > SETUP_MAX {
        return Err(LoadError::SetupTooLarge(length));
    }
    Ok(fw_cfg.read_whole(Item::SetupData, length)?)
}

fn read_command_line<R: RawTdcall, B: SharedBuffer>(
    fw_cfg: &FwCfg<'_, R, B>,
    header: &SetupHeader,
) -> Result<Vec<u8>, LoadError> {
    let size = fw_cfg.size(Item::CmdlineSize)?;
    let Some(length) = size.checked_sub(1) else {
        return Ok(Vec::new());
    };
    let most = u64::from(header.cmdline_size).min(LowMemory::COMMAND_LINE_ROOM - 1);
    if length > most {
        return Err(LoadError::CommandLineTooLong { length, most });
    }
    let mut line = fw_cfg.read_whole(Item::CmdlineData, size)?;
    if line.pop() != Some(0) || line.contains(&0) {
        return Err(LoadError::CommandLineNotTerminated);
    }
    Ok(line)
}

/// Copies an item to its place and measures it as it passes.
fn load_item<R: RawTdcall, B: SharedBuffer>(
    fw_cfg: &FwCfg<'_, R, B>,
    memory: &impl GuestMemory,
    item: Item,
    range: GpaRange,
    mut measurer: Measurer<'_>,
) -> Result<LaunchedFile, LoadError> {
    let mut at = range.start();
    fw_cfg.read(item, range.length(), |piece| {
        memory.write(at, piece)?;
        measurer.update(piece);
        at += piece.len() as u64;
        Ok::<(), LoadError>(())
    })?;
    Ok(measurer.finish(range))
}

fn place_command_line(
    memory: &impl GuestMemory,
    line: &[u8],
    mut measurer: Measurer<'_>,
) -> Result<LaunchedFile, LoadError> {
    memory.write(LowMemory::COMMAND_LINE, line)?;
    memory.write(LowMemory::COMMAND_LINE + line.len() as u64, &[0])?;
    measurer.update(line);
    let range = GpaRange::with_length(LowMemory::COMMAND_LINE, line.len() as u64);
    Ok(measurer.finish(range.unwrap_or(GpaRange::EMPTY)))
}

/// Zeros where a PC has its BIOS data and its ROMs, so that a kernel that looks there finds
/// nothing.
fn clear_legacy_areas(memory: &impl GuestMemory) -> Result<(), MemoryError> {
    const PAGE: [u8; 0x1000] = [0; 0x1000];
    let bios_data = 0..0x1000;
    let roms = LowMemory::CONVENTIONAL_END & !0xFFF..LowMemory::END;
    for area in [bios_data, roms] {
        for page in area.step_by(PAGE.len()) {
            memory.write(page, &PAGE)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
