//! SetupEventNotifyInterrupt and GetTdVmCallInfo.

use crate::raw::RawTdcall;
use crate::td::Td;
use crate::tdvmcall::VmcallError;
use tdx_defs::ghci::sub_function;

impl<R: RawTdcall> Td<R> {
    /// `TDG.VP.VMCALL<SetupEventNotifyInterrupt>`: the vector (32..=255) by which the host says that
    /// an asynchronous request is done.
    pub fn setup_event_notify(&self, vector: u8) -> Result<(), VmcallError> {
        if vector < 32 {
            return Err(VmcallError::InvalidOperand);
        }
        let arguments = [u64::from(vector), 0, 0, 0];
        self.vmcall(sub_function::SETUP_EVENT_NOTIFY_INTERRUPT, arguments)
            .map(drop)
    }

    /// `TDG.VP.VMCALL<GetTdVmCallInfo>`: R11 to R14 of a leaf. Leaf 0 is all zero if the host has
    /// every base sub-function.
    pub fn get_td_vm_call_info(&self, leaf: u64) -> Result<[u64; 4], VmcallError> {
        let out = self.vmcall(sub_function::GET_TD_VM_CALL_INFO, [leaf, 0, 0, 0])?;
        Ok([out.r11, out.r12, out.r13, out.r14])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;
    use tdx_defs::Registers;

    #[test]
    fn an_exception_vector_is_refused() {
        let script = Script::new([]);
        let error = Err(VmcallError::InvalidOperand);
        assert_eq!(Td::new(&script).setup_event_notify(31), error);
        let script = Script::status(0);
        assert_eq!(Td::new(&script).setup_event_notify(32), Ok(()));
        assert_eq!(script.only_call().r12, 32);
    }

    #[test]
    fn info_is_in_r11_to_r14() {
        let script = Script::new([Registers {
            r11: 2,
            r12: 3,
            r13: 4,
            r14: 5,
            ..Default::default()
        }]);
        assert_eq!(Td::new(&script).get_td_vm_call_info(1), Ok([2, 3, 4, 5]));
        assert_eq!(script.only_call().r12, 1);
    }
}
