//! One transfer of fw_cfg's DMA interface (QEMU, docs/specs/fw_cfg.rst, "Guest-side DMA
//! Interface").

use super::PORT_DMA;
use core::hint::spin_loop;
use tdcall::SharedBuffer;
use tdcall::tdvmcall::VmcallError;
use tdcall::{RawTdcall, Td};
use tdx_defs::ghci::Width;

/// Why a transfer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DmaError {
    /// The device set its error bit.
    #[error("the host's device reports a DMA error")]
    Device,
    /// The device did not answer.
    #[error("the host's device does not finish the transfer")]
    TimeOut,
    /// The request could not be started.
    #[error("starting a transfer: {0}")]
    Port(#[from] VmcallError),
}

/// FW_CFG_DMA_CTL_ERROR.
const CONTROL_ERROR: u32 = 1;
/// FW_CFG_DMA_CTL_READ.
const CONTROL_READ: u32 = 1 << 1;
/// FW_CFG_DMA_CTL_SELECT; the key is in bits 31:16.
const CONTROL_SELECT: u32 = 1 << 3;

/// The request (`FWCfgDmaAccess`: control u32, length u32, address u64, all big-endian) is at the
/// buffer's start, the data behind it.
const DATA: usize = 64;

/// How often the request is looked at. QEMU's device is done when the port write returns; another
/// host gets time to be slow, not for ever.
const POLLS: u32 = 1_000_000;

/// Bytes of a transfer at most: L1's copy of them is on its heap, however much memory is shared with the host.
const TRANSFER: usize = 0x10_0000;

/// Bytes one transfer can carry; 0 if the buffer is too small to use.
pub(super) fn room(buffer: &impl SharedBuffer) -> usize {
    buffer.length().saturating_sub(DATA).min(TRANSFER)
}

/// Reads the next bytes of the item selected last, or the first of `select`. `into` fits [`room`].
pub(super) fn read<R: RawTdcall>(
    td: &Td<R>,
    buffer: &impl SharedBuffer,
    select: Option<u16>,
    into: &mut [u8],
) -> Result<(), DmaError> {
    let control = match select {
        Some(key) => u32::from(key) << 16 | CONTROL_SELECT | CONTROL_READ,
        None => CONTROL_READ,
    };
    let mut request = [0; 16];
    let fields = [
        &control.to_be_bytes()[..],
        &(into.len() as u32).to_be_bytes(),
        &(buffer.gpa() + DATA as u64).to_be_bytes(),
    ];
    for (place, byte) in request.iter_mut().zip(fields.into_iter().flatten()) {
        *place = *byte;
    }
    buffer.write(0, &request);
    let gpa = buffer.gpa();
    td.io_write(PORT_DMA, Width::Dword, ((gpa >> 32) as u32).swap_bytes())?;
    td.io_write(PORT_DMA + 4, Width::Dword, (gpa as u32).swap_bytes())?;
    for _ in 0..POLLS {
        let mut control = [0; 4];
        buffer.read(0, &mut control);
        match u32::from_be_bytes(control) {
            0 => {
                buffer.read(DATA, into);
                return Ok(());
            }
            control if control & CONTROL_ERROR != 0 => return Err(DmaError::Device),
            _ => spin_loop(),
        }
    }
    Err(DmaError::TimeOut)
}
