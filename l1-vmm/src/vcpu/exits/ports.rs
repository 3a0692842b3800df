//! I/O instructions.

use l2_exit::exit::{Exit, IoAccess};
use l2_exit::{PortBus, Width, port_io};
use tdcall::RawTdcall;

use super::Platform;
use crate::machine::devices::Devices;
use crate::machine::devices::power::Request;
use crate::machine::host::HostPorts;
use crate::run::end::End;
use crate::run::environment::{Environment, MmioDevice, VapicPage};

/// L2's I/O ports.
struct Ports<'a, 't, A, T, R> {
    devices: &'a mut Devices<A, T>,
    host: &'a mut HostPorts<'t, R>,
}

impl<A: VapicPage, T: MmioDevice, R: RawTdcall> PortBus for Ports<'_, '_, A, T, R> {
    fn read(&mut self, port: u16, width: Width) -> u32 {
        self.devices.read_port(port, width, self.host)
    }

    fn write(&mut self, port: u16, width: Width, value: u32) {
        self.devices.write_port(port, width, value, self.host);
    }
}

impl<E: Environment> Platform<'_, E> {
    pub(super) fn port_access(&mut self, exit: &Exit, access: &IoAccess) -> Result<(), End> {
        let mut ports = Ports {
            devices: &mut self.devices,
            host: &mut self.host,
        };
        let result = port_io::emulate(exit, access, &mut self.vcpu, &self.memory, &mut ports);
        match result {
            Ok(outcome) => {
                self.completed(outcome);
                self.power_request()
            }
            Err(error) => Err(self.guest_error(error)),
        }
    }

    pub(super) fn read_port(&mut self, port: u16, width: Width) -> u32 {
        self.devices.read_port(port, width, &mut self.host)
    }

    pub(super) fn write_port(&mut self, port: u16, width: Width, value: u32) -> Result<(), End> {
        self.devices.write_port(port, width, value, &mut self.host);
        self.power_request()
    }

    fn power_request(&mut self) -> Result<(), End> {
        match self.devices.power.take_request() {
            Some(Request::PowerOff) => Err(End::PowerOff),
            Some(Request::Reset) => Err(End::Reset),
            None => Ok(()),
        }
    }
}
