//! I/O instructions.

use l2_exit::exit::{Exit, IoAccess};
use l2_exit::{PortBus, Width, port_io};

use super::L2;
use crate::machine::devices::Devices;
use crate::machine::devices::power::Request;
use crate::machine::host::HostPorts;
use crate::run::end::End;
use crate::run::environment::{Environment, Processor};
use crate::vcpu::apic::LocalApic;

/// L2's I/O ports.
struct Ports<'a, 't, E: Environment> {
    devices: &'a mut Devices<E::Tpm, HostPorts<'t, E::Raw>>,
    apic: &'a mut LocalApic<E::Vapic>,
    processor: &'a E::Processor,
}

impl<E: Environment> PortBus for Ports<'_, '_, E> {
    fn read(&mut self, port: u16, width: Width) -> u32 {
        let now = self.processor.tsc();
        self.devices.read_port(port, width, now, self.apic)
    }

    fn write(&mut self, port: u16, width: Width, value: u32) {
        let now = self.processor.tsc();
        self.devices.write_port(port, width, value, now, self.apic);
    }
}

impl<E: Environment> L2<'_, E> {
    pub(super) fn port_access(&mut self, exit: &Exit, access: &IoAccess) -> Result<(), End> {
        let (machine, vcpu) = (&mut self.machine, &mut self.vcpu);
        let mut ports = Ports::<E> {
            devices: &mut machine.devices,
            apic: &mut vcpu.apic,
            processor: &vcpu.processor,
        };
        let result = port_io::emulate(exit, access, &mut vcpu.vmcs, &machine.memory, &mut ports);
        match result {
            Ok(outcome) => {
                self.completed(outcome);
                self.power_request()
            }
            Err(error) => Err(self.guest_error(error)),
        }
    }

    pub(super) fn read_port(&mut self, port: u16, width: Width) -> u32 {
        let (now, apic) = (self.vcpu.processor.tsc(), &mut self.vcpu.apic);
        self.machine.devices.read_port(port, width, now, apic)
    }

    pub(super) fn write_port(&mut self, port: u16, width: Width, value: u32) -> Result<(), End> {
        let (now, apic) = (self.vcpu.processor.tsc(), &mut self.vcpu.apic);
        let devices = &mut self.machine.devices;
        devices.write_port(port, width, value, now, apic);
        self.power_request()
    }

    fn power_request(&mut self) -> Result<(), End> {
        match self.machine.devices.take_power_request() {
            Some(Request::PowerOff) => Err(End::PowerOff),
            Some(Request::Reset) => Err(End::Reset),
            None => Ok(()),
        }
    }
}
