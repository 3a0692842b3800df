//! Whose disk it is, by its label.

use super::OpenError;
use crate::device::{self, Device, DeviceError};
use crate::key::{MachineId, Ring};
use crate::layout::{
    FIRST_VERSION, Fault, KEY_SECTOR, LABEL_SECTOR, Label, SECTOR, SECTORS_MIN, VERSION, magic,
};
use zerocopy::IntoBytes;

/// A label that is the machine's.
pub(super) enum OurLabel {
    /// There is one. Whether it names a key that we have: it names the first one that the disk was sealed with.
    There {
        /// It does.
        known_key: bool,
    },
    /// The disk is blank, or its label was torn when it was written.
    NotYet,
}

/// Whether the disk has our label.
pub(super) fn read<D: Device>(
    device: &mut D,
    machine: MachineId,
    ring: &Ring,
) -> Result<OurLabel, OpenError> {
    let sectors = device.sectors();
    if sectors < SECTORS_MIN {
        return Err(OpenError::TooSmall { sectors });
    }
    let sector = device::sector(device, LABEL_SECTOR)?;
    let fault = match Label::parse(&sector) {
        Ok(label) if label.machine != machine.0 => {
            return Err(OpenError::OtherMachine {
                found: MachineId(label.machine),
            });
        }
        Ok(label) => {
            let known_key = ring.named(&label.key_id).is_some();
            return Ok(OurLabel::There { known_key });
        }
        Err(fault) => fault,
    };
    let torn = (FIRST_VERSION..=VERSION).any(|version| {
        ring.all().any(|keys| {
            let ours = Label::of_version(version, machine.0, keys.key_id);
            let mut part = sector.iter().zip(ours.as_bytes());
            part.all(|(found, ours)| *found == 0 || found == ours)
        })
    });
    if torn {
        return match blank(device)? {
            true => Ok(OurLabel::NotYet),
            false if sector == [0; SECTOR] => Err(OpenError::NotAStateDisk),
            false => Err(OpenError::LabelDamaged),
        };
    }
    match fault {
        Fault::Version(found) => Err(OpenError::version(found)),
        Fault::Damaged => Err(OpenError::LabelDamaged),
        Fault::Magic | Fault::Blank => Err(OpenError::NotAStateDisk),
    }
}

/// Whether all that a state disk uses is zero behind the label and the key's record: a disk of somebody else's is not
/// written to.
fn blank<D: Device>(device: &mut D) -> Result<bool, DeviceError> {
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
