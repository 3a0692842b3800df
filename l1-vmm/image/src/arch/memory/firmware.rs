//! The firmware image below 4 GiB, the payload HOB list and the event log: private memory that
//! td-shim filled.

use alloc::vec;
use alloc::vec::Vec;
use core::slice;

use l1_vmm::launch::GpaRange;
use l1_vmm::launch::firmware_image::FirmwareMemory;
use l1_vmm::launch::payload_hob::{PayloadHobError, PayloadHobs, list_length};

use super::copy_out;

/// The image of td-shim in its ROM window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Firmware;

impl FirmwareMemory for Firmware {
    fn read(&self, gpa: u64, into: &mut [u8]) {
        // SAFETY: the caller keeps to the firmware image, which both td-shim's and L1's page tables
        // map, and in which L1 has no objects.
        unsafe { copy_out(gpa, into) };
    }
}

/// Bytes of the hand-off HOB, which says how long the list is.
const HANDOFF: usize = 56;

/// Reads the list that td-shim passed at `start`.
///
/// # Safety
/// `start` is what td-shim passed: private memory, mapped, which L1 has not used for anything.
pub(crate) unsafe fn payload_hobs(start: u64) -> Result<PayloadHobs, PayloadHobError> {
    // SAFETY: td-shim's list begins with the hand-off HOB; nobody writes to it any more.
    let handoff = unsafe { slice::from_raw_parts(start as *const u8, HANDOFF) };
    let length = list_length(handoff, start)?;
    // SAFETY: as long as td-shim says, at most the 1 MiB that it has for the list.
    let list = unsafe { slice::from_raw_parts(start as *const u8, length) };
    PayloadHobs::parse(list, start)
}

/// Copies the first `most` bytes of the area in which td-shim keeps its event log.
///
/// # Safety
/// L1's page tables map `area` to itself, and L1 has no objects in it.
pub(crate) unsafe fn event_log(area: GpaRange, most: usize) -> Vec<u8> {
    let length = usize::try_from(area.length()).map_or(most, |length| length.min(most));
    let mut log = vec![0; length];
    // SAFETY: the caller's, for as many bytes at most.
    unsafe { copy_out(area.start(), &mut log) };
    log
}
