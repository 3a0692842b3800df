//! GetQuote, Service and ReportFatalError: data for someone behind the host.

use crate::raw::RawTdcall;
use crate::td::Td;
use crate::tdvmcall::VmcallError;
use tdx_defs::Gpa;
use tdx_defs::Registers;
use tdx_defs::ghci::{STANDARD, mask, sub_function};
use tdx_defs::tdg;

/// R12 of ReportFatalError: the extended error code.
const EXTENDED_CODE: u64 = 0x7FFF_FFFF << 32;
/// Length of the message that ReportFatalError carries in registers.
pub(crate) const FATAL_MESSAGE: usize = 64;

impl<R: RawTdcall> Td<R> {
    /// `TDG.VP.VMCALL<GetQuote>`: hands the shared buffer with a request to the host. Success means
    /// that the request is under way; the answer is in the buffer's status field later.
    /// `buffer` and `size` are multiples of 4 KiB.
    pub fn get_quote(&self, buffer: Gpa, size: u64) -> Result<(), VmcallError> {
        self.vmcall(sub_function::GET_QUOTE, [buffer.0, size, 0, 0])
            .map(drop)
    }

    /// `TDG.VP.VMCALL<Service>`: hands command and response page to a service. With a vector
    /// (32..=255) the call returns at once and the interrupt says when the response is there.
    pub fn service(
        &self,
        command: Gpa,
        response: Gpa,
        vector: Option<u8>,
        timeout: u64,
    ) -> Result<(), VmcallError> {
        let vector = vector.map_or(0, u64::from);
        let arguments = [command.0, response.0, vector, timeout];
        self.vmcall(sub_function::SERVICE, arguments).map(drop)
    }

    /// `TDG.VP.VMCALL<ReportFatalError>`: tells the host that the TD can not go on, with the first
    /// 64 bytes of `message` in R14, R15, RBX, RDI, RSI, R8, R9 and RDX, where Linux puts them. `code` is the extended
    /// error code, of 31 bits.
    ///
    /// The host should not return; if it does, so does this, and the caller must stop by itself.
    pub fn report_fatal_error(&self, code: u32, message: &str) {
        let mut text = [0; FATAL_MESSAGE];
        for (to, from) in text.iter_mut().zip(message.bytes()) {
            *to = from;
        }
        let (words, _) = text.as_chunks::<8>();
        let &[r14, r15, rbx, rdi, rsi, r8, r9, rdx] = words else {
            return;
        };
        self.call(Registers {
            rax: tdg::VP_VMCALL,
            rcx: mask::WIDE,
            r10: STANDARD,
            r11: sub_function::REPORT_FATAL_ERROR,
            r12: u64::from(code) << 32 & EXTENDED_CODE,
            r14: u64::from_le_bytes(r14),
            r15: u64::from_le_bytes(r15),
            rbx: u64::from_le_bytes(rbx),
            rdi: u64::from_le_bytes(rdi),
            rsi: u64::from_le_bytes(rsi),
            r8: u64::from_le_bytes(r8),
            r9: u64::from_le_bytes(r9),
            rdx: u64::from_le_bytes(rdx),
            ..Default::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    #[test]
    fn a_fatal_message_is_spread_over_the_registers_linux_uses() {
        let script = Script::status(0);
        let text = "0000000011111111222222223333333344444444555555556666666677777777beyond";
        Td::new(&script).report_fatal_error(3, text);
        let call = script.only_call();
        assert_eq!(
            (call.rax, call.rcx, call.r10, call.r11),
            (0, 0xFFCC, 0, 0x10003)
        );
        assert_eq!((call.r12, call.r13), (3 << 32, 0));
        let order = [
            call.r14, call.r15, call.rbx, call.rdi, call.rsi, call.r8, call.r9, call.rdx,
        ];
        for (digit, register) in (b'0'..).zip(order) {
            assert_eq!(register.to_le_bytes(), [digit; 8]);
        }
        assert_eq!(call.rbp, 0);
    }

    #[test]
    fn a_short_message_ends_with_zeros() {
        let script = Script::status(0);
        Td::new(&script).report_fatal_error(u32::MAX, "no");
        // Bit 63 would say that R13 is an address.
        assert_eq!(script.only_call().r12, 0x7FFF_FFFF_0000_0000);
        assert_eq!(script.only_call().r14.to_le_bytes(), *b"no\0\0\0\0\0\0");
        assert_eq!(script.only_call().rdx, 0);
    }

    #[test]
    fn buffers_are_passed_as_they_are() {
        let script = Script::new([Registers::default(); 2]);
        let td = Td::new(&script);
        td.get_quote(Gpa(1 << 47 | 0x4000), 0x2000).unwrap();
        td.service(Gpa(0x1000), Gpa(0x2000), Some(0x50), 9).unwrap();
        let calls = script.calls();
        assert_eq!(
            (calls[0].r11, calls[0].r12, calls[0].r13),
            (0x10002, 1 << 47 | 0x4000, 0x2000)
        );
        assert_eq!(
            (calls[1].r12, calls[1].r13, calls[1].r14, calls[1].r15),
            (0x1000, 0x2000, 0x50, 9)
        );
    }
}
