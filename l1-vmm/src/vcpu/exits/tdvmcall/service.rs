//! `TDG.VP.VMCALL<Service>`: services that L1 itself gives to L2.
//!
//! Command and response are in memory of L2's, the response's length field says how long it may be
//! (GHCI 1.5, "`TDG.VP.VMCALL<Service>`"). L1 is the VMM here and reaches private memory, so both are
//! private; shared memory L2 has none.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use l2_exit::tdvmcall::Reply;
use l2_exit::{GuestMemory, MemoryError};
use vtpm::service::{Call, DATA_MAX, Guid, ServiceError};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};
use zeroize::Zeroizing;

use super::Answer;
use crate::run::environment::{Environment, L2Memory, Services};
use crate::vcpu::exits::L2;
use crate::vcpu::exits::memory::Busy;

/// The longest command.
const COMMAND_MAX: u32 = HEADER + DATA_MAX as u32;
/// The longest response, whatever L2 has room for: bounds what one call costs.
const RESPONSE_MAX: u32 = 0x1_0000;

/// What command and response begin with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    guid: Guid,
    /// Bytes with this header. In a response L2 first says here how many there is room for.
    length: le::U32,
    /// 0 in a command.
    status: le::U32,
}

const HEADER: u32 = size_of::<Header>() as u32;

/// STATUS of a response.
mod status {
    pub(super) const SUCCESS: u32 = 0;
    pub(super) const DEVICE_ERROR: u32 = 1;
    pub(super) const RESPONSE_TOO_SMALL: u32 = 3;
    pub(super) const BAD_COMMAND_LENGTH: u32 = 4;
    pub(super) const INVALID_PARAMETER: u32 = 7;
    pub(super) const UNSUPPORTED: u32 = 0xFFFF_FFFF;
}

/// How far a call is.
enum Served {
    /// Its response is there.
    Answered,
    /// L2 makes it again.
    Later,
}

impl<E: Environment> L2<'_, E> {
    /// Serves the command at `command` and leaves the response at `response`. The service is done when the call is
    /// answered; where L2 asks to be notified, it is in the same moment. What takes longer than a slice of the TPM's goes on
    /// each time that L2 makes the call again.
    pub(super) fn service(
        &mut self,
        command: u64,
        response: u64,
        vector: Option<u8>,
    ) -> Result<Answer, Busy> {
        let machine = &*self.machine;
        let mut tpm = machine.try_tpm().ok_or(Busy)?;
        let served = self.serve(&mut tpm, command, response);
        machine.update_tpm_line(&tpm, &mut self.vcpu.router(machine));
        drop(tpm);
        match served {
            Ok(Served::Later) => return Ok(Answer::Later),
            Ok(Served::Answered) => {}
            Err(_) => return Ok(Answer::Reply(Reply::INVALID_OPERAND)),
        }
        if let Some(vector) = vector {
            self.vcpu.apic.request(vector, false);
        }
        Ok(Answer::Reply(Reply::SUCCESS))
    }

    /// An error if there is nowhere to put a response.
    fn serve(&self, tpm: &mut E::Tpm, command: u64, response: u64) -> Result<Served, MemoryError> {
        let asked: Header = self.header(command)?;
        let room = self.header(response)?.length.get().min(RESPONSE_MAX);
        if room < HEADER || !self.machine.memory.is_l2(response, u64::from(room)) {
            return Err(MemoryError { gpa: response });
        }
        let length = asked.length.get();
        let result = if (HEADER..=COMMAND_MAX).contains(&length) {
            let mut data = Zeroizing::new(vec![0; (length - HEADER) as usize]);
            self.machine
                .memory
                .read(command + u64::from(HEADER), &mut data)?;
            let call = Call {
                places: [command, response],
                guid: asked.guid,
                data: Arc::new(data),
                room: (room - HEADER) as usize,
            };
            match tpm.serve(call) {
                Some(answer) => answer,
                None => return Ok(Served::Later),
            }
        } else {
            Err(ServiceError::CommandLength)
        };
        let (status, data) = match result {
            Ok(data) => (status::SUCCESS, data),
            Err(error) => (status_of(error), Vec::new()),
        };
        let header = Header {
            guid: asked.guid,
            length: HEADER.saturating_add(data.len() as u32).into(),
            status: status.into(),
        };
        self.machine
            .memory
            .write(response + u64::from(HEADER), &data)?;
        self.machine.memory.write(response, header.as_bytes())?;
        Ok(Served::Answered)
    }

    /// Reads a header once.
    fn header(&self, gpa: u64) -> Result<Header, MemoryError> {
        let mut bytes = [0; HEADER as usize];
        self.machine.memory.read(gpa, &mut bytes)?;
        Ok(zerocopy::transmute!(bytes))
    }
}

const fn status_of(error: ServiceError) -> u32 {
    match error {
        ServiceError::Unsupported => status::UNSUPPORTED,
        ServiceError::CommandLength => status::BAD_COMMAND_LENGTH,
        ServiceError::ResponseTooLong => status::RESPONSE_TOO_SMALL,
        ServiceError::Locality => status::INVALID_PARAMETER,
        ServiceError::Engine | ServiceError::Events(_) => status::DEVICE_ERROR,
    }
}
