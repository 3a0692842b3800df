//! The host's PCI bus and the registers behind its BARs, by TDVMCALLs.

use core::fmt;
use tdcall::tdvmcall::VmcallError;
use tdcall::{RawTdcall, Td};
use tdx_defs::Gpa;
use tdx_defs::ghci::{MmioWidth, Width};
use x86_defs::pc::{PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA};
use x86_defs::pci::CONFIG_ENABLE;

/// A PCI function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    /// Bus.
    pub bus: u8,
    /// Device, 0 to 31, in bits 7:3, and function, 0 to 7, in bits 2:0.
    pub device_function: u8,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (device, function) = (self.device_function >> 3, self.device_function & 7);
        write!(f, "{:02x}:{device:02x}.{function}", self.bus)
    }
}

/// What the host does for L1 on its PCI bus. Each answer is whatever the host likes.
pub trait HostPci {
    /// A doubleword of configuration space; `offset` is a multiple of 4.
    fn config_read(&self, function: Function, offset: u8) -> Result<u32, VmcallError>;
    /// Writes a doubleword of configuration space; `offset` is a multiple of 4.
    fn config_write(&self, function: Function, offset: u8, value: u32) -> Result<(), VmcallError>;
    /// A register; `gpa` is without the SHARED bit.
    fn register_read(&self, gpa: u64, width: MmioWidth) -> Result<u64, VmcallError>;
    /// Writes a register; `gpa` is without the SHARED bit.
    fn register_write(&self, gpa: u64, width: MmioWidth, value: u64) -> Result<(), VmcallError>;
}

/// The host as a TD has it: configuration mechanism 1 and `#VE.RequestMMIO`.
#[derive(Debug)]
pub struct TdPci<'a, R> {
    td: &'a Td<R>,
    shared_bit: u64,
}

impl<R> Clone for TdPci<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for TdPci<'_, R> {}

impl<'a, R> TdPci<'a, R> {
    /// The host of `td`, whose SHARED bit `shared_bit` is (a mask).
    pub const fn new(td: &'a Td<R>, shared_bit: u64) -> Self {
        Self { td, shared_bit }
    }
}

impl<R: RawTdcall> TdPci<'_, R> {
    fn select(&self, function: Function, offset: u8) -> Result<(), VmcallError> {
        let place = u32::from_be_bytes([0, function.bus, function.device_function, offset & !3]);
        self.td
            .io_write(PCI_CONFIG_ADDRESS, Width::Dword, CONFIG_ENABLE | place)
    }
}

impl<R: RawTdcall> HostPci for TdPci<'_, R> {
    fn config_read(&self, function: Function, offset: u8) -> Result<u32, VmcallError> {
        self.select(function, offset)?;
        self.td.io_read(PCI_CONFIG_DATA, Width::Dword)
    }

    fn config_write(&self, function: Function, offset: u8, value: u32) -> Result<(), VmcallError> {
        self.select(function, offset)?;
        self.td.io_write(PCI_CONFIG_DATA, Width::Dword, value)
    }

    fn register_read(&self, gpa: u64, width: MmioWidth) -> Result<u64, VmcallError> {
        self.td.mmio_read(Gpa(gpa | self.shared_bit), width)
    }

    fn register_write(&self, gpa: u64, width: MmioWidth, value: u64) -> Result<(), VmcallError> {
        self.td.mmio_write(Gpa(gpa | self.shared_bit), width, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::cell::RefCell;
    use tdx_defs::Registers;

    /// Keeps the calls, and answers each with ones.
    #[derive(Default)]
    struct Calls(RefCell<Vec<[u64; 5]>>);

    impl RawTdcall for &Calls {
        fn tdcall(&self, registers: &mut Registers) {
            let r = *registers;
            self.0
                .borrow_mut()
                .push([r.r11, r.r12, r.r13, r.r14, r.r15]);
            *registers = Registers {
                r11: u64::MAX,
                ..Default::default()
            };
        }
    }

    #[test]
    fn accesses_are_calls_with_the_right_addresses() {
        let calls = Calls::default();
        let td = Td::new(&calls);
        let host = TdPci::new(&td, 1 << 47);
        let function = Function {
            bus: 1,
            device_function: 2 << 3 | 1,
        };
        assert_eq!(host.config_read(function, 0x34), Ok(u32::MAX));
        host.config_write(function, 0x10, 7).unwrap();
        host.register_write(0xC000_0000, MmioWidth::Word, 5)
            .unwrap();
        let value = host.register_read(0xC000_0004, MmioWidth::Byte);
        assert_eq!(value, Ok(0xFF));
        let expected = [
            [30, 4, 1, 0xCF8, 0x8001_1134],
            [30, 4, 0, 0xCFC, 0],
            [30, 4, 1, 0xCF8, 0x8001_1110],
            [30, 4, 1, 0xCFC, 7],
            [48, 2, 1, 1 << 47 | 0xC000_0000, 5],
            [48, 1, 0, 1 << 47 | 0xC000_0004, 0],
        ];
        assert_eq!(*calls.0.borrow(), expected);
    }
}
