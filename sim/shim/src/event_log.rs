//! The event log: every RTMR extend has its record, written in the same step.

use crate::fatal::Fatal;
use crate::ram::Ram;
use attestation::event_log::{
    EV_PLATFORM_CONFIG_FLAGS, EV_SEPARATOR, RecordHeader, SpecId, TD_HOB_EVENT_NAME,
};
use sha2::{Digest, Sha384};
use tdcall::Td;
use tdcall::hw::Hw;
use tdshim_config::layout::Runtime;
use tdx_defs::Gpa;
use zerocopy::IntoBytes;

/// TDG.MR.RTMR.EXTEND takes its 48 bytes at a 64-byte boundary.
#[repr(C, align(64))]
struct ExtendBuffer([u8; 48]);

/// The log in the region that the CCEL table names.
pub(crate) struct EventLog<'a> {
    ram: &'a Ram,
    next: u64,
    end: u64,
}

impl<'a> EventLog<'a> {
    /// An empty log: its header record, and 0xFF to the end.
    pub(crate) fn new(ram: &'a Ram, start: u64) -> Self {
        ram.fill(start, Runtime::EVENT_LOG_SIZE as usize, 0xFF);
        let mut log = Self {
            ram,
            next: start,
            end: start + Runtime::EVENT_LOG_SIZE,
        };
        log.append(SpecId::new(*b"td-shim").as_bytes());
        log
    }

    /// Extends RTMR0 with the TD HOB list.
    pub(crate) fn measure_td_hob(&mut self, td: &Td<Hw>, list: &[u8]) -> Result<(), Fatal> {
        let digest = Sha384::digest(list).into();
        extend(td, 0, &digest)?;
        let length = (list.len() as u32).to_le_bytes();
        let event = [TD_HOB_EVENT_NAME.as_slice(), &length, list];
        self.record(0, EV_PLATFORM_CONFIG_FLAGS, digest, &event)
    }

    /// Extends RTMR0 and RTMR1 with a separator each.
    pub(crate) fn measure_separators(&mut self, td: &Td<Hw>) -> Result<(), Fatal> {
        let event = [0; 4];
        let digest = Sha384::digest(event).into();
        let registers = [0, 1];
        for register in registers {
            extend(td, register, &digest)?;
        }
        for register in registers {
            self.record(register, EV_SEPARATOR, digest, &[&event])?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        register: u8,
        event_type: u32,
        digest: [u8; 48],
        event: &[&[u8]],
    ) -> Result<(), Fatal> {
        let event_size: usize = event.iter().map(|part| part.len()).sum();
        let header = RecordHeader::new(register, event_type, digest, event_size as u32);
        let size = size_of::<RecordHeader>() + event_size;
        if self.end - self.next < size as u64 {
            return Err(Fatal("the event log is full"));
        }
        self.append(header.as_bytes());
        for part in event {
            self.append(part);
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) {
        self.ram.write(self.next, bytes);
        self.next += bytes.len() as u64;
    }
}

fn extend(td: &Td<Hw>, register: u8, digest: &[u8; 48]) -> Result<(), Fatal> {
    let buffer = ExtendBuffer(*digest);
    let address = core::ptr::from_ref(core::hint::black_box(&buffer)) as u64;
    td.rtmr_extend(register, Gpa(address))
        .map_err(|_| Fatal("the TDX module did not extend an RTMR"))
}
