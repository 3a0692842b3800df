//! Of which TCBs the hardware's halves of the keys are: what L1 has to know before it has the keys.
//!
//! A platform gives the sealing keys of its own TCB and of older ones. What was sealed before an update of the platform is
//! opened with the key of the TCB of then, which a slot's header says; version 1 had it in a sector of its own. It is no
//! secret: a host that says another TCB gets a key that opens nothing.

use crate::device::{self, Device, DeviceError};
use crate::key::MachineId;
use crate::layout::{FIRST_VERSION, KEY_SECTOR, LABEL_SECTOR, Label, Slot};
use crate::seal;
use alloc::vec::Vec;

pub use crate::layout::{KeyRecord, Tcb};

/// The TCBs that the states of this machine on the disk are sealed to, each once: of slots whose bytes are what their
/// digests say. On a disk without any a first state is sealed to the TCB that the platform has, which no host chooses.
///
/// # Errors
/// [`DeviceError`].
pub fn sealed_to<D: Device>(device: &mut D, machine: MachineId) -> Result<Vec<Tcb>, DeviceError> {
    let mut tcbs: Vec<Tcb> = Vec::new();
    for slot in Slot::BOTH {
        let Ok(whole) = seal::read(device, slot)? else {
            continue;
        };
        let header = whole.header();
        if header.machine != machine.0 {
            continue;
        }
        let tcb = match header.version.get() {
            FIRST_VERSION => of_version_1(device, machine)?,
            _ => header.tcb,
        };
        if tcb != Tcb::NONE && !tcbs.contains(&tcb) {
            tcbs.push(tcb);
        }
    }
    Ok(tcbs)
}

/// What the record of a disk of version 1 says; none where there is no whole one.
fn of_version_1<D: Device>(device: &mut D, machine: MachineId) -> Result<Tcb, DeviceError> {
    let label = Label::parse(&device::sector(device, LABEL_SECTOR)?);
    if !label.is_ok_and(|label| label.machine == machine.0) {
        return Ok(Tcb::NONE);
    }
    let record = KeyRecord::parse(&device::sector(device, KEY_SECTOR)?);
    Ok(record.map_or(Tcb::NONE, |record| Tcb {
        cpusvn: record.cpusvn,
        tee_tcb_svn: record.tee_tcb_svn,
    }))
}
