//! Commands whose size, or what they say of it, is odd.

use crate::Steps;
use crate::device::Device;
use attestation::tpm::{commands, rc, response_code};

/// What a command must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// TPM_RC.
    Code(u32),
    /// The kernel refuses it: errno.
    Refused(i32),
    /// The TPM waits for more, and the driver gives up: as an error or as a cancelled command.
    Unfinished,
}

/// Of Linux (`errno.h`).
const EIO: i32 = 5;
const ECANCELED: i32 = 125;
const E2BIG: i32 = 7;
const EINVAL: i32 = 22;
const ENODATA: i32 = 61;

/// Behind the parameters are bytes that are none.
const SIZE: u32 = 0x095;
/// The command ends within a field: of its header; of parameter 1.
const INSUFFICIENT: u32 = 0x09A;
const INSUFFICIENT_PARAMETER: u32 = 0x1DA;
/// TPM_RC_COMMAND_CODE of the kernel's resource manager.
const MANAGER_COMMAND_CODE: u32 = 0xB_0143;
/// The kernel's buffer, and the vTPM's.
const BUFFER: usize = 4096;

/// A command: what it is called, how many bytes are written, what its header says, what must come
/// from `/dev/tpm0`, and from `/dev/tpmrm0` if that differs.
type Case = (usize, u32, Answer, Option<Answer>);

/// The sizes of FIFO and CRB buffers and of Linux's, and their neighbours. The driver refuses what is
/// longer than its buffer or shorter than it says; sends no more than the header says, so that fewer than
/// the header's six first bytes never end; and the rest is the TPM's.
const CASES: [Case; 22] = [
    // As long as they say.
    // The command code ends with whatever was in the kernel's buffer.
    (
        9,
        9,
        Answer::Code(INSUFFICIENT),
        Some(Answer::Code(MANAGER_COMMAND_CODE)),
    ),
    (10, 10, Answer::Code(INSUFFICIENT_PARAMETER), None),
    (11, 11, Answer::Code(INSUFFICIENT_PARAMETER), None),
    (12, 12, Answer::Code(rc::SUCCESS), None),
    (13, 13, Answer::Code(SIZE), None),
    (3967, 3967, Answer::Code(SIZE), None),
    (3968, 3968, Answer::Code(SIZE), None),
    (3969, 3969, Answer::Code(SIZE), None),
    (4095, 4095, Answer::Code(SIZE), None),
    (4096, 4096, Answer::Code(SIZE), None),
    (4097, 4097, Answer::Refused(E2BIG), None),
    (5000, 5000, Answer::Refused(E2BIG), None),
    // They say more than there is.
    (12, 13, Answer::Refused(EINVAL), None),
    (12, 4096, Answer::Refused(EINVAL), None),
    (4096, 4097, Answer::Refused(EINVAL), None),
    (12, u32::MAX, Answer::Refused(EINVAL), None),
    // They say less.
    (12, 0, Answer::Refused(ENODATA), None),
    (12, 1, Answer::Unfinished, None),
    (12, 5, Answer::Unfinished, None),
    (12, 9, Answer::Code(INSUFFICIENT), None),
    (12, 10, Answer::Code(INSUFFICIENT_PARAMETER), None),
    (4096, 12, Answer::Code(rc::SUCCESS), None),
];

pub(crate) fn steps(steps: &mut Steps, path: &str) {
    let name = path.trim_start_matches("/dev/");
    for (written, said, raw, managed) in CASES {
        let wanted = match managed {
            Some(managed) if name == "tpmrm0" => managed,
            _ => raw,
        };
        let result = case(path, written, said, wanted);
        steps.step(&format!("{name}-{written}-bytes-say-{said}"), result);
    }
}

fn case(path: &str, written: usize, said: u32, wanted: Answer) -> Result<(), String> {
    let mut command = commands::get_random(16);
    command.resize(written, 0);
    if let Some(size) = command.get_mut(2..6) {
        size.copy_from_slice(&said.to_be_bytes());
    }
    let mut device = Device::open(path).map_err(|error| format!("open: {error}"))?;
    let answer = match device.transmit(&command) {
        Ok(response) => Answer::Code(well_formed(&response)?),
        Err(error) => match error.raw_os_error().unwrap_or(0) {
            EIO | ECANCELED => Answer::Unfinished,
            errno => Answer::Refused(errno),
        },
    };
    // One client at a time has `/dev/tpm0`.
    drop(device);
    if answer != wanted {
        return Err(format!("{answer:x?}, and not {wanted:x?}"));
    }
    // The next client finds nothing of it.
    let response = Device::open(path)
        .and_then(|mut device| device.transmit(&commands::get_random(16)))
        .map_err(|error| format!("the command after it: {error}"))?;
    match (well_formed(&response)?, response.len()) {
        (rc::SUCCESS, 28) => Ok(()),
        (code, length) => Err(format!("the command after it: {code:#x}, {length} bytes")),
    }
}

/// The response's code, if it is as long as it says.
fn well_formed(response: &[u8]) -> Result<u32, String> {
    let size = response.get(2..6).and_then(|size| size.try_into().ok());
    let whole = size
        .map(u32::from_be_bytes)
        .and_then(|size| usize::try_from(size).ok())
        == Some(response.len());
    match response_code(response) {
        Some(code) if whole && response.len() <= BUFFER => Ok(code),
        _ => Err(format!(
            "a response of {} bytes: {response:x?}",
            response.len()
        )),
    }
}
