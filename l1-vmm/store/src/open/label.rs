//! Whose disk it is, by its label.

use super::OpenError;
use crate::commit::Labelled;
use crate::device::{self, Device, DeviceError};
use crate::key::{Keys, MachineId};
use crate::layout::{Fault, KEY_SECTOR, LABEL_SECTOR, Label, SECTOR, SECTORS_MIN, magic};
use zerocopy::IntoBytes;

/// Whether the disk has our label. It has not yet where it is blank, or its label was torn when it was written.
pub(super) fn read<D: Device>(
    device: &mut D,
    machine: MachineId,
    keys: &Keys,
) -> Result<Labelled, OpenError> {
    let sectors = device.sectors();
    if sectors < SECTORS_MIN {
        return Err(OpenError::TooSmall { sectors });
    }
    let sector = device::sector(device, LABEL_SECTOR)?;
    let ours = Label::new(machine.0, keys.key_id);
    if sector == ours.as_bytes() {
        return Ok(Labelled::Yes);
    }
    let mut part = sector.iter().zip(ours.as_bytes());
    if part.all(|(found, ours)| *found == 0 || found == ours) {
        return match blank(device)? {
            true => Ok(Labelled::NotYet),
            false if sector == [0; SECTOR] => Err(OpenError::NotAStateDisk),
            false => Err(OpenError::LabelDamaged),
        };
    }
    match Label::parse(&sector) {
        Ok(label) if label.machine != machine.0 => Err(OpenError::OtherMachine {
            found: MachineId(label.machine),
        }),
        Ok(_) => Err(OpenError::OtherKey),
        Err(Fault::Version(found)) => Err(OpenError::version(found)),
        Err(Fault::Damaged) => Err(OpenError::LabelDamaged),
        Err(Fault::Magic | Fault::Blank) => Err(OpenError::NotAStateDisk),
    }
}

/// Whether all that a state disk uses is zero behind the label and the key's record: a disk of somebody else's is not
/// written to.
pub(crate) fn blank<D: Device>(device: &mut D) -> Result<bool, DeviceError> {
    /// Sectors that are read at once.
    const CHUNK: usize = 128;
    const { assert!(SECTORS_MIN.is_multiple_of(CHUNK as u64)) };
    let zero = alloc::vec![0; CHUNK * SECTOR];
    let mut chunk = zero.clone();
    for at in (0..SECTORS_MIN).step_by(CHUNK) {
        device::read(device, at, &mut chunk)?;
        if at == LABEL_SECTOR {
            chunk.iter_mut().take(SECTOR).for_each(|byte| *byte = 0);
            let (sectors, _) = chunk.as_chunks_mut::<SECTOR>();
            let key = sectors.get_mut(KEY_SECTOR as usize);
            // Also one that was torn when it was written.
            if let Some(key) = key.filter(|key| key.starts_with(&magic::KEY)) {
                key.fill(0);
            }
        }
        if chunk != zero {
            return Ok(false);
        }
    }
    Ok(true)
}
