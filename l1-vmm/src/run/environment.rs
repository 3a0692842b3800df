//! What the image brings: everything about the machine that is not a TDCALL.

use l2_exit::{GuestMemory, GuestPages, MemoryError};
use tdcall::leaf::VpEnterError;
use tdcall::tdvmcall::CpuidResult;
use tdcall::{RawTdcall, SharedBuffer, Td};
use tdx_defs::vp_enter::{GuestState, Outcome, TlbFlush};
use tdx_defs::{Gpa, VmIndex};
use vtpm::service::{Answer, Call};

pub use crate::machine::devices::Device;
use crate::machine::devices::virtio::backend::Backend;
pub use crate::vcpu::apic::VapicPage;

/// The types of the parts that [`super::L2`] is put together from.
pub trait Environment {
    /// The TDCALL instruction.
    type Raw: RawTdcall;
    /// The processor that L1 runs on.
    type Processor: Processor;
    /// L2's memory.
    type Memory: L2Memory + GuestPages;
    /// L2's virtual-APIC page.
    type Vapic: VapicPage;
    /// What is behind the devices on L2's PCI bus.
    type Backend: Backend + ?Sized;
    /// What answers in the TPM window, and serves L2 besides.
    type Tpm: Device + Services;
}

/// The processor that L1 runs on, and the part of L2's state that lives in it.
///
/// Interrupts are disabled whenever L1 runs, but inside [`Processor::take_interrupts`] and
/// [`Processor::halt`].
pub trait Processor {
    /// The TSC, as L1 and L2 both read it.
    fn tsc(&self) -> u64;

    /// CPUID as L1 sees it.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidResult;

    /// TDG.VP.ENTER with `state`, around which the state that the module does not switch and
    /// L1 uses is switched: L2's vector registers, XCR0 and CR2 are loaded before and saved
    /// after, and L1's put back (TDX Module ABI, TDG.VP.ENTER).
    fn enter<R: RawTdcall>(
        &mut self,
        td: &Td<R>,
        vm: VmIndex,
        flush: TlbFlush,
        state: &mut GuestState,
    ) -> Result<Outcome, VpEnterError>;

    /// Sets the CR2 that L2 is entered with.
    fn set_l2_cr2(&mut self, value: u64);

    /// DR0 to DR3 and DR6 of L2 become what they are after INIT: 0, and FFFF0FF0H.
    fn reset_l2_debug_registers(&mut self);

    /// What is in the processor of L2's, and not in its VMCS, becomes what it is after a reset: vector registers, XCR0,
    /// CR2, the debug registers and the model-specific registers that L2 has for itself.
    fn reset_l2(&mut self);

    /// XCR0 as L2 left it.
    fn l2_xcr0(&self) -> u64;

    /// Sets the XCR0 that L2 is entered with. The value is one that XSETBV takes.
    fn set_l2_xcr0(&mut self, value: u64);

    /// Blocks of L1's heap that were given out so far, to any processor.
    fn allocations(&self) -> u64;

    /// Opens interrupts for the length of an instruction, and says which were taken since the
    /// last call. Costs no TDCALL if none is pending.
    fn take_interrupts(&mut self) -> Interrupts;

    /// `TDG.VP.VMCALL<Instruction.HLT>` with interrupts enabled by the instruction before the
    /// TDCALL, so that none is taken between; disabled again when it returns. It may return
    /// early.
    fn halt<R: RawTdcall>(&mut self, td: &Td<R>);
}

/// Interrupts of L1's own that were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interrupts {
    /// [`crate::machine::host::TIMER_VECTOR`].
    pub timer: bool,
    /// [`crate::machine::host::CONSOLE_VECTOR`].
    pub console: bool,
    /// [`crate::machine::host::DEVICES_VECTOR`] or [`crate::machine::host::CONFIGURATION_VECTOR`].
    pub devices: bool,
}

/// Whose a guest-physical address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// L2's memory.
    L2,
    /// L1's memory: no address of it may ever be mapped into L2.
    L1,
    /// No memory at all.
    Nobody,
}

/// L2's memory, and what lies around it.
pub trait L2Memory: GuestMemory {
    /// Whose the page at `gpa` (without the shared bit) is. Device windows are nobody's.
    fn owner(&self, gpa: u64) -> Owner;

    /// Whether all `length` bytes at `gpa` are L2's. Takes no longer for a long range.
    fn is_l2(&self, gpa: u64, length: u64) -> bool;

    /// Copies `length` bytes at `gpa` to `offset` of `shared`, each read once; says how many bytes that took to copy.
    /// It is an error if they are not L2's, or not inside of `shared`. Here it is two for a byte, by way of L1's memory:
    /// who reaches both copies once.
    fn copy_to_shared(
        &self,
        gpa: u64,
        shared: &dyn SharedBuffer,
        offset: usize,
        length: usize,
    ) -> Result<u64, MemoryError> {
        by_pieces(gpa, shared, offset, length, |gpa, at, piece| {
            self.read(gpa, piece)?;
            shared.write(at, piece);
            Ok(())
        })
    }

    /// Copies `length` bytes at `offset` of `shared` to `gpa`, as [`L2Memory::copy_to_shared`] does.
    fn copy_from_shared(
        &self,
        gpa: u64,
        shared: &dyn SharedBuffer,
        offset: usize,
        length: usize,
    ) -> Result<u64, MemoryError> {
        by_pieces(gpa, shared, offset, length, |gpa, at, piece| {
            shared.read(at, piece);
            self.write(gpa, piece)
        })
    }
}

/// Bytes that are copied at once by way of L1's memory.
const PIECE: usize = 256;

/// Calls `copy` with address, offset and L1's memory for each piece of what is to be copied.
fn by_pieces(
    gpa: u64,
    shared: &dyn SharedBuffer,
    offset: usize,
    length: usize,
    mut copy: impl FnMut(u64, usize, &mut [u8]) -> Result<(), MemoryError>,
) -> Result<u64, MemoryError> {
    let end = offset.checked_add(length);
    if end.is_none_or(|end| end > shared.length()) {
        return Err(MemoryError { gpa });
    }
    let mut memory = [0; PIECE];
    let mut done = 0;
    while done < length {
        let here = (length - done).min(PIECE);
        let piece = memory.get_mut(..here).unwrap_or_default();
        copy(gpa.wrapping_add(done as u64), offset + done, piece)?;
        done += here;
    }
    Ok((length as u64).saturating_mul(2))
}

/// Services of L1 that L2 asks for by GUID (GHCI 1.5, "`TDG.VP.VMCALL<Service>`").
pub trait Services {
    /// Answers `call`, of which every byte is L2's choice, and L1's own copy. `None`: not yet. What is under way has had its
    /// slice, and L2 makes the call again.
    fn serve(&mut self, call: Call) -> Option<Answer>;
}

/// The numbers and addresses that a virtual processor is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// L2's index.
    pub vm: VmIndex,
    /// The virtual processor's number, which is its APIC id. The first is L2's boot processor.
    pub index: u8,
    /// Guest-physical address of the virtual-APIC page: private, and never L2's.
    pub vapic: Gpa,
}
