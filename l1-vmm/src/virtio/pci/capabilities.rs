//! The list of capabilities in configuration space (PCI Local Bus 3.0, section 6.7), as a hostile host writes it.

use alloc::vec::Vec;

use super::error::{PciError, Structure};
use super::host::{Function, HostPci};
use virtio_defs::pci as virtio;
use x86_defs::pci;

/// Where a capability says that a structure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) structure: Structure,
    /// Which BAR: 0 to 5.
    pub(super) bar: u8,
    pub(super) offset: u32,
    pub(super) length: u32,
    /// notify_off_multiplier of a notification structure.
    pub(super) multiplier: u32,
}

/// What the list has that is of use, in its order.
#[derive(Debug, Default)]
pub(super) struct Capabilities {
    pub(super) places: Vec<Place>,
    /// Offset of the MSI-X capability and number of its entries.
    pub(super) msix: Option<(u8, u16)>,
}

/// Offsets of all capabilities with their first doublewords: at most as many as configuration space has room for.
fn list<H: HostPci>(host: &H, function: Function) -> Result<Vec<(u8, u32)>, PciError> {
    let mut found = Vec::new();
    let status = host.config_read(function, pci::COMMAND_STATUS)? >> 16;
    if status & u32::from(pci::STATUS_CAPABILITIES) == 0 {
        return Ok(found);
    }
    let [first, ..] = host.config_read(function, pci::CAPABILITIES)?.to_le_bytes();
    let mut at = first & pci::CAPABILITY_POINTER;
    // A bit for each doubleword of configuration space.
    let mut visited = 0_u64;
    while at != 0 {
        if at < pci::CAPABILITIES_START {
            return Err(PciError::CapabilityPlace(at));
        }
        let bit = 1_u64 << (at / 4);
        if visited & bit != 0 {
            return Err(PciError::CapabilityLoop);
        }
        visited |= bit;
        let header = host.config_read(function, at)?;
        found.push((at, header));
        let [_, next, ..] = header.to_le_bytes();
        at = next & pci::CAPABILITY_POINTER;
    }
    Ok(found)
}

/// Whether `length` bytes at `at` are inside configuration space.
fn inside(at: u8, length: u8) -> Result<(), PciError> {
    match u16::from(at) + u16::from(length) <= pci::CONFIGURATION_SIZE {
        true => Ok(()),
        false => Err(PciError::CapabilityPlace(at)),
    }
}

/// Reads the list. Structures of other types, in reserved BARs or of less than the standard length are passed over
/// (VIRTIO 4.1.4.1).
pub(super) fn read<H: HostPci>(host: &H, function: Function) -> Result<Capabilities, PciError> {
    let mut all = Capabilities::default();
    for (at, header) in list(host, function)? {
        let [id, _, length, kind] = header.to_le_bytes();
        match id {
            pci::CAPABILITY_MSIX if all.msix.is_none() => {
                inside(at, pci::MSIX_SIZE)?;
                let control = (header >> 16) as u16;
                let entries = (control & pci::MSIX_TABLE_SIZE) + 1;
                let table = host.config_read(function, at + pci::MSIX_TABLE)?;
                all.msix = Some((at, entries));
                all.places.push(Place {
                    structure: Structure::MsixTable,
                    bar: (table & pci::MSIX_BAR) as u8,
                    offset: table & !pci::MSIX_BAR,
                    length: u32::from(entries) * pci::MSIX_ENTRY,
                    multiplier: 0,
                });
            }
            pci::CAPABILITY_VENDOR => {
                let (structure, needed) = match kind {
                    virtio::CFG_COMMON => (Structure::Common, virtio::CAP_SIZE),
                    virtio::CFG_NOTIFY => (Structure::Notify, virtio::CAP_NOTIFY_SIZE),
                    virtio::CFG_DEVICE => (Structure::Device, virtio::CAP_SIZE),
                    _ => continue,
                };
                if length < needed {
                    continue;
                }
                inside(at, length)?;
                let read = |offset| host.config_read(function, at + offset);
                let [bar, ..] = read(virtio::CAP_BAR)?.to_le_bytes();
                if bar > virtio::CAP_BAR_MAX {
                    continue;
                }
                all.places.push(Place {
                    structure,
                    bar,
                    offset: read(virtio::CAP_OFFSET)?,
                    length: read(virtio::CAP_STRUCTURE_LENGTH)?,
                    multiplier: match structure {
                        Structure::Notify => read(virtio::CAP_NOTIFY_MULTIPLIER)?,
                        _ => 0,
                    },
                });
            }
            _ => {}
        }
    }
    Ok(all)
}
