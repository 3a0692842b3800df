//! A virtio device on the host's PCI bus (VIRTIO 4.1), without its legacy interface.
//!
//! What the host says of the device is followed as far as it can do no harm: capabilities are read with a bound,
//! BARs go only where no memory is, a structure has to be inside its BAR and apart from the others. Of several
//! capabilities for one structure the first usable one counts, as the specification says; a device whose
//! structures are in I/O space only is refused. What is found is kept; it is never looked up again.

mod bar;
mod capabilities;
mod error;
mod host;
mod msix;
mod region;
#[cfg(test)]
mod tests;

pub use bar::BarWindow;
pub use error::{PciError, Structure};
pub use host::{Function, HostPci, TdPci};
pub use msix::Message;

use crate::launch::gpa_range::GpaRange;
use crate::virtio::clock::{Clock, Deadline};
use crate::virtio::ring::Areas;
use bar::Bars;
use core::hint::spin_loop;
use msix::Msix;
use region::Region;
use tdx_defs::ghci::MmioWidth;
use virtio_defs::{feature, pci as virtio, status};
use x86_defs::pci;

/// How often the configuration is read again because its generation has changed.
const CONFIGURATION_READS: u32 = 8;

/// A status of all ones: what a bus answers for a device that is not there.
const VANISHED: u8 = u8::MAX;

/// Where one queue of a device is notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doorbell {
    gpa: u64,
    queue: u16,
}

/// A device that a driver did not take, for another use.
#[derive(Debug)]
pub struct Returned<H, E> {
    /// Why.
    pub error: E,
    /// The device.
    pub device: Device<H>,
}

impl<H, E> Returned<H, E> {
    /// With the reason as an error of another type.
    pub fn with_error<F: From<E>>(self) -> Returned<H, F> {
        Returned {
            error: self.error.into(),
            device: self.device,
        }
    }
}

/// A device that was found. It works when it was started, its queues were set up, and it was told to run.
#[derive(Debug)]
pub struct Device<H> {
    host: H,
    function: Function,
    common: Region,
    notify: Region,
    multiplier: u32,
    configuration: Option<Region>,
    msix: Option<Msix>,
}

impl<H: HostPci> Device<H> {
    /// Finds the virtio device of type `kind` at `function`, and gives its BARs places in `window`.
    pub fn find(
        host: H,
        function: Function,
        kind: u16,
        window: &mut BarWindow,
    ) -> Result<Self, PciError> {
        match device_type(&host, function)? {
            Some(found) if found == kind => {}
            _ => {
                let identity = host.config_read(function, pci::VENDOR_DEVICE)?;
                return Err(PciError::Identity(identity));
            }
        }
        let [_, _, header, _] = host.config_read(function, pci::HEADER)?.to_le_bytes();
        if header & pci::HEADER_TYPE_MASK != 0 {
            return Err(PciError::Header(header));
        }
        let capabilities = capabilities::read(&host, function)?;
        let mut bars = Bars::read(&host, function)?;
        let mut region = |structure, at_least: u32| -> Result<Option<(Region, u32)>, PciError> {
            let mut places = capabilities.places.iter();
            let place = places.find(|p| p.structure == structure && bars.is_memory(p.bar));
            let Some(place) = place else {
                return Ok(None);
            };
            let bar = bars.range(&host, function, window, place.bar)?;
            let range = bar
                .start()
                .checked_add(place.offset.into())
                .and_then(|start| GpaRange::with_length(start, place.length.into()))
                .filter(|range| bar.contains(range) && place.length >= at_least)
                .filter(|range| range.start().is_multiple_of(4) || structure == Structure::Notify)
                .ok_or(PciError::Outside(structure))?;
            Ok(Some((Region { structure, range }, place.multiplier)))
        };
        let (common, _) = region(Structure::Common, virtio::COMMON_SIZE)?
            .ok_or(PciError::Missing(Structure::Common))?;
        let (notify, multiplier) =
            region(Structure::Notify, 2)?.ok_or(PciError::Missing(Structure::Notify))?;
        let configuration = region(Structure::Device, 1)?.map(|(region, _)| region);
        let table = region(Structure::MsixTable, 1)?.map(|(region, _)| region);
        let found = [Some(common), Some(notify), configuration, table];
        no_overlap(found.into_iter().flatten())?;
        let msix = capabilities
            .msix
            .zip(table)
            .map(|((capability, entries), table)| Msix {
                capability,
                entries,
                table,
            });
        let command = pci::COMMAND_MEMORY | pci::COMMAND_BUS_MASTER;
        host.config_write(function, pci::COMMAND_STATUS, command.into())?;
        Ok(Self {
            host,
            function,
            common,
            notify,
            multiplier,
            configuration,
            msix,
        })
    }

    /// Writes `messages` into the MSI-X table. Entries of it are what queues name as their vectors.
    pub fn set_messages(&self, messages: &[Message]) -> Result<(), PciError> {
        let msix = self
            .msix
            .as_ref()
            .ok_or(PciError::Missing(Structure::MsixTable))?;
        msix.enable(&self.host, self.function, messages)
    }

    /// Resets the device, and waits until it says that it is, up to `limit` nanoseconds.
    pub fn reset(&mut self, clock: &impl Clock, limit: u64) -> Result<(), PciError> {
        self.set_status(0)?;
        let deadline = Deadline::after(clock, limit);
        loop {
            match self.common.read_u8(&self.host, virtio::COMMON_STATUS)? {
                0 => return Ok(()),
                VANISHED => return Err(PciError::Absent),
                _ if deadline.passed(clock) => return Err(PciError::Reset),
                _ => spin_loop(),
            }
        }
    }

    /// Resets the device and settles its features (VIRTIO 3.1.1, steps 1 to 6): those of `required`, of
    /// `wanted` those that are offered, and VERSION_1. Returns what was settled.
    pub fn start(
        &mut self,
        required: u64,
        wanted: u64,
        clock: &impl Clock,
        limit: u64,
    ) -> Result<u64, PciError> {
        self.reset(clock, limit)?;
        self.set_status(status::ACKNOWLEDGE)?;
        self.set_status(status::ACKNOWLEDGE | status::DRIVER)?;
        let required = required | feature::VERSION_1;
        let mut offered = 0;
        for half in [0, 1] {
            let select = virtio::COMMON_DEVICE_FEATURE_SELECT;
            self.write_common(select, MmioWidth::Dword, half)?;
            let place = virtio::COMMON_DEVICE_FEATURE;
            let bits = self.common.read(&self.host, place, MmioWidth::Dword)?;
            offered |= bits << (32 * half);
        }
        let missing = required & !offered;
        if missing != 0 {
            self.give_up();
            return Err(PciError::Features(missing));
        }
        let settled = offered & (required | wanted);
        for half in [0, 1] {
            let select = virtio::COMMON_DRIVER_FEATURE_SELECT;
            self.write_common(select, MmioWidth::Dword, half)?;
            let bits = settled >> (32 * half);
            self.write_common(virtio::COMMON_DRIVER_FEATURE, MmioWidth::Dword, bits)?;
        }
        let chosen = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        self.set_status(chosen)?;
        if self.common.read_u8(&self.host, virtio::COMMON_STATUS)? != chosen {
            self.give_up();
            return Err(PciError::FeaturesRefused);
        }
        Ok(settled)
    }

    /// Descriptors that queue `queue` gets: at most `most`, a power of two.
    pub fn queue_size(&self, queue: u16, most: u16) -> Result<u16, PciError> {
        let queues = self
            .common
            .read_u16(&self.host, virtio::COMMON_NUM_QUEUES)?;
        if queue >= queues {
            return Err(PciError::NoQueue(queue));
        }
        self.select(queue)?;
        let size = self
            .common
            .read_u16(&self.host, virtio::COMMON_QUEUE_SIZE)?;
        match size {
            0 => Err(PciError::NoQueue(queue)),
            _ if !size.is_power_of_two() => Err(PciError::QueueSize { queue, size }),
            _ => Ok(size.min(most)),
        }
    }

    /// Gives queue `queue` its memory, the entry `vector` of the MSI-X table if it is to interrupt, and enables it.
    pub fn set_up_queue(
        &self,
        queue: u16,
        areas: &Areas,
        vector: Option<u16>,
    ) -> Result<Doorbell, PciError> {
        self.select(queue)?;
        if self.read_common(virtio::COMMON_QUEUE_ENABLE)? != 0 {
            return Err(PciError::QueueEnable(queue));
        }
        let word = MmioWidth::Word;
        self.write_common(virtio::COMMON_QUEUE_SIZE, word, areas.size.into())?;
        let vector = vector.unwrap_or(virtio::NO_VECTOR);
        self.write_common(virtio::COMMON_QUEUE_VECTOR, word, vector.into())?;
        if self.read_common(virtio::COMMON_QUEUE_VECTOR)? != vector {
            return Err(PciError::Vector(vector));
        }
        let offset = self.read_common(virtio::COMMON_QUEUE_NOTIFY_OFF)?;
        let gpa = u32::from(offset)
            .checked_mul(self.multiplier)
            .and_then(|offset| self.notify.register(offset, word).ok())
            .ok_or(PciError::NotifyPlace(queue))?;
        for (register, address) in [
            (virtio::COMMON_QUEUE_DESC, areas.descriptors),
            (virtio::COMMON_QUEUE_DRIVER, areas.available),
            (virtio::COMMON_QUEUE_DEVICE, areas.used),
        ] {
            self.common.write_u64(&self.host, register, address)?;
        }
        self.write_common(virtio::COMMON_QUEUE_ENABLE, word, 1)?;
        match self.read_common(virtio::COMMON_QUEUE_ENABLE)? {
            1 => Ok(Doorbell { gpa, queue }),
            _ => Err(PciError::QueueEnable(queue)),
        }
    }

    /// Has the device tell of changes of its configuration by the entry `vector` of the MSI-X table.
    pub fn set_configuration_vector(&self, vector: u16) -> Result<(), PciError> {
        let register = virtio::COMMON_CONFIG_VECTOR;
        self.write_common(register, MmioWidth::Word, vector.into())?;
        match self.read_common(register)? {
            kept if kept == vector => Ok(()),
            _ => Err(PciError::Vector(vector)),
        }
    }

    /// Lets the device work (VIRTIO 3.1.1, step 8).
    pub fn run(&self) -> Result<(), PciError> {
        let settled = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        self.set_status(settled | status::DRIVER_OK)
    }

    /// Tells the device that its queue has something new.
    pub fn notify(&self, doorbell: &Doorbell) -> Result<(), PciError> {
        let queue = u64::from(doorbell.queue);
        Ok(self
            .host
            .register_write(doorbell.gpa, MmioWidth::Word, queue)?)
    }

    /// Whether the device says that it still works.
    pub fn check(&self) -> Result<(), PciError> {
        match self.common.read_u8(&self.host, virtio::COMMON_STATUS)? {
            VANISHED => Err(PciError::Absent),
            now if now & status::DEVICE_NEEDS_RESET != 0 => Err(PciError::NeedsReset),
            _ => Ok(()),
        }
    }

    /// Reads the device's configuration at `offset`, all of it of the same generation (VIRTIO 2.5.3).
    pub fn read_configuration(&self, offset: u32, into: &mut [u8]) -> Result<(), PciError> {
        let missing = PciError::Missing(Structure::Device);
        let configuration = self.configuration.as_ref().ok_or(missing)?;
        for _ in 0..CONFIGURATION_READS {
            let before = self.generation()?;
            for (at, chunk) in (offset..).step_by(4).zip(into.chunks_mut(4)) {
                let width = MmioWidth::from_bytes(chunk.len() as u64).unwrap_or(MmioWidth::Dword);
                let value = configuration.read(&self.host, at, width)?;
                for (place, byte) in chunk.iter_mut().zip(value.to_le_bytes()) {
                    *place = byte;
                }
            }
            if self.generation()? == before {
                return Ok(());
            }
        }
        Err(PciError::ConfigurationUnstable)
    }

    /// Tells the device that nothing more comes. That it hears of it is not needed.
    pub fn give_up(&self) {
        if let Err(error) = self.set_status(status::FAILED) {
            log::debug!("giving a virtio device up: {error}");
        }
    }

    fn generation(&self) -> Result<u8, PciError> {
        self.common.read_u8(&self.host, virtio::COMMON_GENERATION)
    }

    fn select(&self, queue: u16) -> Result<(), PciError> {
        let register = virtio::COMMON_QUEUE_SELECT;
        self.write_common(register, MmioWidth::Word, queue.into())
    }

    fn set_status(&self, value: u8) -> Result<(), PciError> {
        self.write_common(virtio::COMMON_STATUS, MmioWidth::Byte, value.into())
    }

    fn read_common(&self, offset: u32) -> Result<u16, PciError> {
        self.common.read_u16(&self.host, offset)
    }

    fn write_common(&self, offset: u32, width: MmioWidth, value: u64) -> Result<(), PciError> {
        self.common.write(&self.host, offset, width, value)
    }
}

/// The type of the virtio device that is at `function`, if one is.
///
/// A transitional device counts: it has the legacy interface only beside the one that L1 uses.
pub fn device_type<H: HostPci>(host: &H, function: Function) -> Result<Option<u16>, PciError> {
    let identity = host.config_read(function, pci::VENDOR_DEVICE)?;
    if identity == u32::MAX {
        return Err(PciError::Absent);
    }
    let (vendor, device) = (identity as u16, (identity >> 16) as u16);
    if vendor != virtio::VENDOR {
        return Ok(None);
    }
    if virtio::TRANSITIONAL.contains(&device) {
        let subsystem = host.config_read(function, pci::SUBSYSTEM)? >> 16;
        return Ok(u16::try_from(subsystem).ok());
    }
    let modern = virtio::MODERN.contains(&device);
    Ok(modern.then(|| device - virtio::DEVICE_BASE))
}

/// Refuses structures that share an address.
fn no_overlap(regions: impl Iterator<Item = Region> + Clone) -> Result<(), PciError> {
    let mut rest = regions;
    while let Some(one) = rest.next() {
        if let Some(other) = rest.clone().find(|other| other.range.overlaps(&one.range)) {
            return Err(PciError::Overlap(one.structure, other.structure));
        }
    }
    Ok(())
}
