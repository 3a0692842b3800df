//! Of which TCB the hardware's half of the key is: what L1 has to know before it has the key.
//!
//! A platform gives the sealing keys of its own TCB and of older ones. A state that was sealed before an update of the
//! platform is opened with the key of the TCB of then, which the disk says in a sector of its own. It is no secret and
//! needs no code: a host that says another TCB gets a key that opens nothing.

use crate::device::{self, Device, DeviceError};
use crate::key::MachineId;
use crate::layout::{Fault, KEY_SECTOR, LABEL_SECTOR, Label, SECTORS_MIN};
use crate::open::{OpenError, is_blank};
use zerocopy::IntoBytes;

pub use crate::layout::KeyRecord;

/// The record of a disk that has a state of this machine. None where there is no whole one of this version: a damaged one
/// tells nothing; and none of a disk without a state: a host that leaves one there would have the first state sealed to a
/// TCB that it chose.
///
/// # Errors
/// [`DeviceError`].
pub fn read<D: Device>(
    device: &mut D,
    machine: MachineId,
) -> Result<Option<KeyRecord>, DeviceError> {
    let label = Label::parse(&device::sector(device, LABEL_SECTOR)?);
    if !label.is_ok_and(|label| label.machine == machine.0) {
        return Ok(None);
    }
    let sector = device::sector(device, KEY_SECTOR)?;
    Ok(KeyRecord::parse(&sector).ok())
}

/// Writes the record, to a disk that is this machine's or blank.
///
/// # Errors
/// [`OpenError::OtherMachine`], [`OpenError::NotAStateDisk`], [`OpenError::FutureFormat`], [`OpenError::UnknownVersion`],
/// [`OpenError::TooSmall`], [`OpenError::Device`].
pub fn write<D: Device>(
    device: &mut D,
    machine: MachineId,
    record: &KeyRecord,
) -> Result<(), OpenError> {
    let sectors = device.sectors();
    if sectors < SECTORS_MIN {
        return Err(OpenError::TooSmall { sectors });
    }
    match Label::parse(&device::sector(device, LABEL_SECTOR)?) {
        Ok(label) if label.machine == machine.0 => {}
        Ok(label) => {
            return Err(OpenError::OtherMachine {
                found: MachineId(label.machine),
            });
        }
        Err(Fault::Version(version)) => return Err(OpenError::version(version)),
        Err(Fault::Blank | Fault::Damaged) if is_blank(device)? => {}
        Err(_) => return Err(OpenError::NotAStateDisk),
    }
    device::put(device, KEY_SECTOR, record.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests;
