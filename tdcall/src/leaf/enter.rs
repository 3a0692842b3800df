//! TDG.VP.ENTER.

use thiserror::Error;

use crate::raw::RawTdcall;
use crate::td::Td;
use tdx_defs::Registers;
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::tdg;
use tdx_defs::vp_enter::{Outcome, TlbFlush};
use tdx_defs::{Gpa, VmIndex};

/// Why L2 was not entered, where trying again as it is does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VpEnterError {
    /// The guest state is not 256-byte aligned or not private.
    #[error("TDG.VP.ENTER: the module refuses the address of the guest state")]
    GuestState,
    /// The TD has no such L2 VM, or the module does not know the kind of flush.
    #[error("TDG.VP.ENTER: the module refuses the VM index or the flush")]
    VmIndex,
    /// The GPA of L2's virtual-APIC page was never written.
    #[error("TDG.VP.ENTER: the virtual-APIC page is not set")]
    NoVirtualApicPage,
    /// A status the ABI does not list.
    #[error("TDG.VP.ENTER: {0}")]
    Unexpected(Status),
}

impl<R: RawTdcall> Td<R> {
    /// TDG.VP.ENTER: runs L2 until something happens. `state` is the GPA of a
    /// [`GuestState`](tdx_defs::vp_enter::GuestState), 256-byte aligned and private.
    ///
    /// Never repeated here: [`EntryStatus::PendingInterrupt`] means the interrupt must be taken
    /// first. State that the module does not switch (vector registers, XCR0, CR2, DR0 to DR3, DR6)
    /// is the raw call's matter. Bad L2 state is no error: it is an outcome with exit reason 33
    /// and bit 31.
    ///
    /// [`EntryStatus::PendingInterrupt`]: tdx_defs::vp_enter::EntryStatus::PendingInterrupt
    pub fn vp_enter(
        &self,
        vm: VmIndex,
        flush: TlbFlush,
        state: Gpa,
    ) -> Result<Outcome, VpEnterError> {
        let mut registers = Registers {
            rax: tdg::VP_ENTER,
            rcx: flush as u64 | u64::from(vm.get()) << 52,
            rdx: state.0,
            ..Default::default()
        };
        self.raw().tdcall(&mut registers);
        Outcome::from_registers(&registers).ok_or_else(|| {
            let status = Status(registers.rax);
            match (status.code(), status.operand()) {
                (Code::OperandInvalid, Operand::RDX) => VpEnterError::GuestState,
                (Code::OperandInvalid, Operand::RCX) => VpEnterError::VmIndex,
                (Code::OperandInvalid, Operand::L2_VAPIC_GPA) => VpEnterError::NoVirtualApicPage,
                _ => VpEnterError::Unexpected(status),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;
    use tdx_defs::vp_enter::EntryStatus;

    #[test]
    fn vm_index_and_flush_are_in_rcx() {
        let script = Script::status(48);
        let vm = VmIndex::new(3).unwrap();
        let outcome = Td::new(&script)
            .vp_enter(vm, TlbFlush::Invept, Gpa(0x1100))
            .unwrap();
        assert_eq!(
            (outcome.status, outcome.exit_reason),
            (EntryStatus::Exit, 48)
        );
        let call = script.only_call();
        assert_eq!(
            (call.rax, call.rcx, call.rdx),
            (25, 0x0030_0000_0000_0001, 0x1100)
        );
    }

    #[test]
    fn every_end_of_a_run_is_told_apart() {
        let rows = [
            (0x0000_0000_8000_0021, EntryStatus::Exit),
            (0x0000_1100_0000_0030, EntryStatus::HostRoutedAsync),
            (0x0000_1101_0000_004D, EntryStatus::HostRoutedTdvmcall),
            (0x0000_1102_0000_0001, EntryStatus::PendingInterruptExit),
            (0x0000_1120_0000_0000, EntryStatus::PendingInterrupt),
        ];
        for (rax, expected) in rows {
            let script = Script::status(rax);
            let outcome = Td::new(&script)
                .vp_enter(VmIndex::FIRST, TlbFlush::None, Gpa(0))
                .unwrap();
            assert_eq!(outcome.status, expected, "{rax:#x}");
            assert_eq!(outcome.exit_reason, rax as u32);
        }
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        let rows = [
            (0xC000_0100_0000_0002, VpEnterError::GuestState),
            (0xC000_0100_0000_0001, VpEnterError::VmIndex),
            (0xC000_0100_0000_00AA, VpEnterError::NoVirtualApicPage),
            (
                0x8000_0200_0000_0001,
                VpEnterError::Unexpected(Status(0x8000_0200_0000_0001)),
            ),
        ];
        for (rax, expected) in rows {
            let script = Script::status(rax);
            let result = Td::new(&script).vp_enter(VmIndex::FIRST, TlbFlush::None, Gpa(0));
            assert_eq!(result, Err(expected), "{rax:#x}");
        }
    }
}
