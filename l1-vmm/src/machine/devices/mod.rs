//! The machine's devices, and the bus that finds them by [`map`].

pub mod cmos;
mod frequency;
pub mod ioapic;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod pm_timer;
pub mod power;
pub mod uart;
pub mod virtio;

use l2_exit::Width;

use crate::machine::map::{self, Id, Row};
use cmos::{ClockRegisters, Rtc};
use ioapic::{IoApic, MessageSink};
use pci::{Bus, PciHost};
use pic::Pic;
use pit::Pit;
use pm_timer::PmTimer;
use power::{Power, Request};
use uart::{Com1, SerialLine};
use virtio::backend::Backend;

/// What the bus and the reset path know of a device. Where it is, and which interrupt it has, is in [`map`].
pub trait Device {
    /// Reads `into.len()` (1, 2, 4 or 8) bytes of registers from `offset` on.
    fn read(&mut self, offset: u32, into: &mut [u8]);
    /// Writes `from` (1, 2, 4 or 8 bytes) to the registers from `offset` on.
    fn write(&mut self, offset: u32, from: &[u8]);
    /// The level of its interrupt line, asked for after each access; of the TPM after [`expire`](Self::expire) and
    /// [`work`](Self::work) as well.
    fn line(&self) -> bool {
        false
    }
    /// It is `now` on the TSC: told before each access at a port.
    fn advance(&mut self, _now: u64) {}
    /// TSC value at which it has something to do by itself: asked of the TPM alone.
    fn expiry(&self) -> Option<u64> {
        None
    }
    /// Does what was to be done at or before `now` on the TSC.
    fn expire(&mut self, _now: u64) {}
    /// Whether it has something to do that takes long, for which it takes the time that L2 does not need: asked of the TPM
    /// alone.
    fn has_work(&self) -> bool {
        false
    }
    /// Does some of that, to `until` on the TSC or little longer.
    fn work(&mut self, _until: u64) {}
    /// The machine was reset.
    fn reset(&mut self);
}

/// The host's side of the devices that have one.
pub trait HostLines: SerialLine + ClockRegisters + Copy {}

impl<T: SerialLine + ClockRegisters + Copy> HostLines for T {}

/// The devices that [`map`] names, but the TPM, which has a lock of its own. `H` is the host's side, `B`
/// what is behind the devices on the PCI bus.
pub struct Devices<H, B: ?Sized = dyn Backend> {
    /// The I/O APIC. Not a [`Device`]: what it is accessed for is sent on.
    pub ioapic: IoApic,
    /// The PCI bus. Its addresses in memory are none of [`map`]'s: they depend on the memory that the machine has.
    pub pci: PciHost<B>,
    com1: Com1<H>,
    rtc: Rtc<H>,
    power: Power,
    pm_timer: PmTimer,
    pic: Pic,
    pit: Pit,
}

impl<H: HostLines, B: Backend + ?Sized> Devices<H, B> {
    /// Everything as after a reset. `ratio`: TSC ticks per tick of the crystal clock, for the timers.
    /// `bus`: the devices on its PCI bus.
    pub fn new(host: H, ratio: u32, bus: Option<Bus<B>>) -> Self {
        Self {
            ioapic: IoApic::new(),
            com1: Com1::new(host),
            rtc: Rtc::new(host),
            power: Power::default(),
            pci: bus.map(PciHost::new).unwrap_or_default(),
            pm_timer: PmTimer::new(ratio),
            pic: Pic::default(),
            pit: Pit::new(ratio),
        }
    }

    /// Every device as after a reset.
    pub fn reset(&mut self) {
        self.ioapic = IoApic::new();
        for id in [
            Id::Com1,
            Id::Rtc,
            Id::Power,
            Id::Pci,
            Id::PmTimer,
            Id::Pic,
            Id::Pit,
        ] {
            if let Some(device) = self.device(id) {
                device.reset();
            }
        }
    }

    /// Reads at `gpa` inside `row`.
    pub fn read_memory(&mut self, row: &Row<u64>, gpa: u64, into: &mut [u8]) {
        let offset = gpa.wrapping_sub(row.range.start) as u32;
        match row.device {
            Id::IoApic => {
                let value = self.ioapic.read(u64::from(offset & !0xF)) >> ((offset & 3) * 8);
                into.fill(0);
                for (byte, source) in into.iter_mut().zip(value.to_le_bytes()) {
                    *byte = source;
                }
            }
            id => match self.device(id) {
                Some(device) => device.read(offset, into),
                None => into.fill(0xFF),
            },
        }
    }

    /// Writes at `gpa` inside `row`; interrupts go to `sink`.
    pub fn write_memory(
        &mut self,
        row: &Row<u64>,
        gpa: u64,
        from: &[u8],
        sink: &mut impl MessageSink,
    ) {
        let offset = gpa.wrapping_sub(row.range.start) as u32;
        match row.device {
            Id::IoApic => {
                let mut value = [0; 4];
                for (byte, source) in value.iter_mut().zip(from) {
                    *byte = *source;
                }
                let value = u32::from_le_bytes(value);
                self.ioapic.write(u64::from(offset), value, sink);
            }
            id => {
                if let Some(device) = self.device(id) {
                    device.write(offset, from);
                }
            }
        }
    }

    /// Reads `width` bytes at `port`, when it is `now` on the TSC: all ones where nothing is.
    pub fn read_port(
        &mut self,
        port: u16,
        width: Width,
        now: u64,
        sink: &mut impl MessageSink,
    ) -> u32 {
        let mut bytes = [0xFF; 4];
        let Some(into) = bytes.get_mut(..width.bytes() as usize) else {
            return u32::MAX;
        };
        if let Some(row) = map::port(port, width.bytes() as u16) {
            self.at_port(row, port, now, sink, |device, offset| {
                device.read(offset, into);
            });
        } else {
            for (byte, port) in into.iter_mut().zip(ports_from(port)) {
                if let Some(row) = map::port(port, 1) {
                    let one = core::slice::from_mut(byte);
                    self.at_port(row, port, now, sink, |device, offset| {
                        device.read(offset, one);
                    });
                }
            }
        }
        u32::from_le_bytes(bytes) & width.mask()
    }

    /// Writes the low `width` bytes of `value` at `port`, when it is `now` on the TSC; lost where nothing is.
    pub fn write_port(
        &mut self,
        port: u16,
        width: Width,
        value: u32,
        now: u64,
        sink: &mut impl MessageSink,
    ) {
        let bytes = value.to_le_bytes();
        let from = bytes.get(..width.bytes() as usize).unwrap_or(&bytes);
        if let Some(row) = map::port(port, width.bytes() as u16) {
            self.at_port(row, port, now, sink, |device, offset| {
                device.write(offset, from);
            });
        } else {
            for (byte, port) in from.iter().zip(ports_from(port)) {
                if let Some(row) = map::port(port, 1) {
                    let one = core::slice::from_ref(byte);
                    self.at_port(row, port, now, sink, |device, offset| {
                        device.write(offset, one);
                    });
                }
            }
        }
    }

    /// Takes what arrived on the serial line.
    pub fn receive(&mut self, sink: &mut impl MessageSink) {
        self.com1.receive();
        if let Some(row) = map::ports_of(Id::Com1) {
            self.update_line(row, sink);
        }
    }

    /// Brings the interrupt controllers' inputs to the level of the TPM's line.
    pub fn set_tpm_line(&mut self, level: bool, sink: &mut impl MessageSink) {
        self.set_line(map::TPM_LINE, level, sink);
    }

    /// TSC value at which a timer of the machine's next interrupts.
    pub fn timer_expiry(&self) -> Option<u64> {
        self.pit.expiry()
    }

    /// Raises the interrupts of timers that expired at or before `now`.
    pub fn run_timers(&mut self, now: u64, sink: &mut impl MessageSink) {
        if self.pit.expire(now)
            && let Some(line) = map::ports_of(Id::Pit).and_then(|row| row.line)
        {
            for level in [false, true] {
                self.set_line(line, level, sink);
            }
        }
    }

    /// The level of INTR, the output of the 8259A pair.
    pub fn interrupt_output(&self) -> bool {
        self.pic.output()
    }

    /// The processor's acknowledge of INTR: the vector.
    pub fn acknowledge_interrupt(&mut self) -> u8 {
        self.pic.acknowledge()
    }

    /// Takes what a write to a power register asked for.
    pub fn take_power_request(&mut self) -> Option<Request> {
        self.power.take_request()
    }

    fn device(&mut self, id: Id) -> Option<&mut dyn Device> {
        Some(match id {
            Id::Com1 => &mut self.com1,
            Id::Rtc => &mut self.rtc,
            Id::Power => &mut self.power,
            Id::Pci => &mut self.pci,
            Id::PmTimer => &mut self.pm_timer,
            Id::Pic => &mut self.pic,
            Id::Pit => &mut self.pit,
            Id::IoApic | Id::Tpm => return None,
        })
    }

    fn at_port(
        &mut self,
        row: &Row<u16>,
        port: u16,
        now: u64,
        sink: &mut impl MessageSink,
        access: impl FnOnce(&mut dyn Device, u32),
    ) {
        let offset = row.first + u32::from(port.wrapping_sub(row.range.start));
        if let Some(device) = self.device(row.device) {
            device.advance(now);
            access(device, offset);
        }
        self.update_line(row, sink);
    }

    /// Brings the interrupt controllers' inputs to the level of the device's line.
    fn update_line<A>(&mut self, row: &Row<A>, sink: &mut impl MessageSink) {
        if let Some(line) = row.line {
            let level = self.device(row.device).is_some_and(|device| device.line());
            self.set_line(line, level, sink);
        }
    }

    fn set_line(&mut self, line: map::Line, level: bool, sink: &mut impl MessageSink) {
        self.ioapic.set_line(line.pin.into(), level, sink);
        self.pic.set_line(line.isa, level);
    }
}

/// `first` and the ports behind it; the last is followed by port 0, as on a PC's address lines.
fn ports_from(first: u16) -> impl Iterator<Item = u16> {
    (0u16..).map(move |index| first.wrapping_add(index))
}

#[cfg(test)]
pub(crate) mod tests;
