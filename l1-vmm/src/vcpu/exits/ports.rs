//! I/O instructions.

use l2_exit::exit::{Exit, IoAccess};
use l2_exit::{PortBus, Width, port_io};

use super::L2;
use crate::machine::DevicesHeld;
use crate::machine::devices::power::Request;
use crate::machine::map::{self, Id};
use crate::run::end::End;
use crate::run::environment::{Environment, Processor};
use crate::vcpu::processor::Near;

/// L2's I/O ports: those of the devices, held to the end of the instruction.
struct Ports<'a, 't, E: Environment> {
    devices: DevicesHeld<'a, 't, E>,
    near: Near<'a, E>,
}

impl<E: Environment> PortBus for Ports<'_, '_, E> {
    fn read(&mut self, port: u16, width: Width) -> u32 {
        *self.near.look_at_devices |= is_pci(port);
        let now = self.near.processor.tsc();
        let router = &mut self.near.router;
        self.devices.read_port(port, width, now, router)
    }

    fn write(&mut self, port: u16, width: Width, value: u32) {
        *self.near.look_at_devices |= is_pci(port);
        let now = self.near.processor.tsc();
        let router = &mut self.near.router;
        self.devices.write_port(port, width, value, now, router);
    }
}

fn is_pci(port: u16) -> bool {
    map::PORTS
        .iter()
        .any(|row| row.device == Id::Pci && row.range.contains(&port))
}

impl<E: Environment> L2<'_, E> {
    pub(super) fn port_access(&mut self, exit: &Exit, access: &IoAccess) -> Result<(), End> {
        let (near, vmcs, _) = self.vcpu.split(&self.machine);
        let mut ports = Ports {
            devices: self.machine.devices(),
            near,
        };
        let result = port_io::emulate(exit, access, vmcs, &self.machine.memory, &mut ports);
        let request = ports.devices.take_power_request();
        drop(ports);
        match result {
            Ok(outcome) => {
                self.completed(outcome);
                answer(request)
            }
            Err(error) => Err(self.guest_error(error)),
        }
    }

    pub(super) fn read_port(&mut self, port: u16, width: Width) -> u32 {
        let (near, _, _) = self.vcpu.split(&self.machine);
        let devices = self.machine.devices();
        Ports { devices, near }.read(port, width)
    }

    pub(super) fn write_port(&mut self, port: u16, width: Width, value: u32) -> Result<(), End> {
        let (near, _, _) = self.vcpu.split(&self.machine);
        let devices = self.machine.devices();
        let mut ports = Ports { devices, near };
        ports.write(port, width, value);
        answer(ports.devices.take_power_request())
    }
}

fn answer(request: Option<Request>) -> Result<(), End> {
    match request {
        Some(Request::PowerOff) => Err(End::PowerOff),
        Some(Request::Reset) => Err(End::Reset),
        None => Ok(()),
    }
}
