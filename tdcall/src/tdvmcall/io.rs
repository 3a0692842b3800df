//! Instruction.IO and #VE.RequestMMIO.

use crate::raw::RawTdcall;
use crate::td::Td;
use crate::tdvmcall::VmcallError;
use tdx_defs::Gpa;
use tdx_defs::ghci::{DIRECTION_READ, DIRECTION_WRITE, MmioWidth, Width, sub_function};

impl<R: RawTdcall> Td<R> {
    /// `TDG.VP.VMCALL<Instruction.IO>`, in: a value of the port, cut to `width`.
    pub fn io_read(&self, port: u16, width: Width) -> Result<u32, VmcallError> {
        let arguments = [width.bytes(), DIRECTION_READ, u64::from(port), 0];
        let out = self.vmcall(sub_function::IO, arguments)?;
        Ok(out.r11 as u32 & width.mask())
    }

    /// `TDG.VP.VMCALL<Instruction.IO>`, out. Bits of `value` above `width` are not passed.
    pub fn io_write(&self, port: u16, width: Width, value: u32) -> Result<(), VmcallError> {
        let value = u64::from(value & width.mask());
        let arguments = [width.bytes(), DIRECTION_WRITE, u64::from(port), value];
        self.vmcall(sub_function::IO, arguments).map(drop)
    }

    /// `TDG.VP.VMCALL<#VE.RequestMMIO>`, read: a value cut to `width`. `gpa` must be shared for most
    /// hosts; they refuse memory.
    pub fn mmio_read(&self, gpa: Gpa, width: MmioWidth) -> Result<u64, VmcallError> {
        let arguments = [width.bytes(), DIRECTION_READ, gpa.0, 0];
        let out = self.vmcall(sub_function::MMIO, arguments)?;
        Ok(out.r11 & width.mask())
    }

    /// `TDG.VP.VMCALL<#VE.RequestMMIO>`, write. Bits of `value` above `width` are not passed.
    pub fn mmio_write(&self, gpa: Gpa, width: MmioWidth, value: u64) -> Result<(), VmcallError> {
        let arguments = [width.bytes(), DIRECTION_WRITE, gpa.0, value & width.mask()];
        self.vmcall(sub_function::MMIO, arguments).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;
    use tdx_defs::Registers;

    #[test]
    fn what_the_host_says_is_cut_to_the_width() {
        let all = Registers {
            r11: u64::MAX,
            ..Default::default()
        };
        let script = Script::new([all, all, all]);
        let td = Td::new(&script);
        assert_eq!(td.io_read(0x3FD, Width::Byte), Ok(0xFF));
        assert_eq!(
            td.mmio_read(Gpa(0xFEC0_0010), MmioWidth::Dword),
            Ok(0xFFFF_FFFF)
        );
        assert_eq!(
            td.mmio_read(Gpa(0xFEC0_0010), MmioWidth::Qword),
            Ok(u64::MAX)
        );
        let calls = script.calls();
        assert_eq!(
            (calls[0].r11, calls[0].r12, calls[0].r13, calls[0].r14),
            (30, 1, 0, 0x3FD)
        );
        assert_eq!(
            (calls[1].r11, calls[1].r12, calls[1].r14),
            (48, 4, 0xFEC0_0010)
        );
    }

    #[test]
    fn nothing_above_the_width_is_told_to_the_host() {
        let script = Script::new([Registers::default(); 2]);
        let td = Td::new(&script);
        td.io_write(0x3F8, Width::Byte, 0xDEAD_BE41).unwrap();
        td.mmio_write(Gpa(0x1000), MmioWidth::Word, u64::MAX)
            .unwrap();
        let calls = script.calls();
        assert_eq!((calls[0].r13, calls[0].r14, calls[0].r15), (1, 0x3F8, 0x41));
        assert_eq!((calls[1].r13, calls[1].r15), (1, 0xFFFF));
    }
}
