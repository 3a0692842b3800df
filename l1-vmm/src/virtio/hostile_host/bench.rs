//! Both drivers, each on a model device.

use crate::virtio::block::{Block, BlockError, Limits};
use crate::virtio::clock::Deadline;
use crate::virtio::console::Console;
use crate::virtio::model::ModelClock;
use crate::virtio::model::device::{FUNCTION, ModelHost, window};
use crate::virtio::model::disk::{self, Disk};
use crate::virtio::model::memory::Shared;
use crate::virtio::model::port::{self, Port};
use crate::virtio::pci::Device;
use crate::virtio::stream::StreamError;
use alloc::vec;
use alloc::vec::Vec;
use virtio_defs::{block, console};

pub(super) const BASE: u64 = 0x10_0000;
/// One attempt, so that the first error is what the call gives.
pub(super) const LIMITS: Limits = Limits {
    attempt: 10_000_000,
    reset: 1_000_000,
    attempts: 1,
    faults: 100,
};
/// What a read has in its buffer before.
pub(super) const BEFORE: u8 = 0x5A;

pub(super) struct DiskBench {
    pub(super) driver: Block<ModelHost, Shared, ModelClock>,
    pub(super) host: ModelHost,
    pub(super) memory: Shared,
    pub(super) disk: Disk,
    pub(super) clock: ModelClock,
}

pub(super) struct PortBench {
    pub(super) driver: Console<ModelHost, Shared, ModelClock>,
    pub(super) host: ModelHost,
    pub(super) memory: Shared,
    pub(super) port: Port,
    pub(super) clock: ModelClock,
}

pub(super) fn open_disk(host: &ModelHost, memory: &Shared) -> Result<DiskBench, BlockError> {
    let clock = ModelClock::default();
    let device = Device::find(host.clone(), FUNCTION, block::DEVICE_TYPE, &mut window())?;
    let driver = Block::open(device, memory.clone(), clock.clone(), "disk", 0, LIMITS);
    Ok(DiskBench {
        driver: driver.map_err(|returned| returned.error)?,
        host: host.clone(),
        memory: memory.clone(),
        disk: Disk::default(),
        clock,
    })
}

pub(super) fn open_port(host: &ModelHost, memory: &Shared) -> Result<PortBench, StreamError> {
    let clock = ModelClock::default();
    let device = Device::find(host.clone(), FUNCTION, console::DEVICE_TYPE, &mut window())?;
    let driver = Console::open(device, memory.clone(), clock.clone(), "port");
    Ok(PortBench {
        driver: driver.map_err(|returned| returned.error)?,
        host: host.clone(),
        memory: memory.clone(),
        port: Port::default(),
        clock,
    })
}

pub(super) fn disk() -> DiskBench {
    let memory = Shared::new(BASE, 0x1_1000);
    let (host, disk) = disk::host(&memory);
    let mut bench = open_disk(&host, &memory).unwrap();
    for (index, byte) in disk.borrow_mut().iter_mut().enumerate() {
        *byte = (index / 512) as u8;
    }
    bench.disk = disk;
    bench
}

pub(super) fn port() -> PortBench {
    let memory = Shared::new(BASE, 0x9000);
    let (host, port) = port::host(&memory);
    let mut bench = open_port(&host, &memory).unwrap();
    bench.port = port;
    bench
}

impl DiskBench {
    /// Sectors 4 to 19, and that a read which fails leaves the buffer alone or fills it with what is on the disk.
    pub(super) fn read(&mut self) -> Result<(), BlockError> {
        let mut into = vec![BEFORE; 16 * 512];
        let result = self.driver.read(4, &mut into);
        for (sector, bytes) in (4_u8..).zip(into.chunks(512)) {
            let there = bytes.iter().all(|byte| *byte == sector);
            let untouched = bytes.iter().all(|byte| *byte == BEFORE);
            assert!(there || untouched && result.is_err(), "sector {sector}");
        }
        result
    }

    /// The host keeps the rules again: all is as if nothing had been.
    pub(super) fn recovers(&mut self) {
        disk::honest(&self.host, &self.disk);
        self.host.model().lie = None;
        assert_eq!(self.read(), Ok(()));
    }
}

impl PortBench {
    pub(super) fn soon(&self) -> Deadline {
        Deadline::after(&self.clock, 5_000_000)
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let deadline = self.soon();
        self.driver.send(bytes, &deadline)
    }

    pub(super) fn receive(&mut self, length: usize) -> Result<Vec<u8>, StreamError> {
        let deadline = self.soon();
        let mut into = vec![BEFORE; length];
        let count = self.driver.receive(&mut into, &deadline)?;
        assert!(count <= length);
        into.truncate(count);
        Ok(into)
    }

    pub(super) fn answers(&mut self, message: &[u8]) {
        self.port.borrow_mut().to_send.push_back(message.to_vec());
        self.host.model().retry(console::QUEUE_RECEIVE);
    }

    pub(super) fn recovers(&mut self) {
        port::honest(&self.host, &self.port);
        self.host.model().lie = None;
        self.driver.restart().unwrap();
        self.port.borrow_mut().received.clear();
        assert_eq!(self.send(b"request"), Ok(()));
        assert_eq!(self.port.borrow().received, b"request");
        self.answers(b"answer");
        assert_eq!(self.receive(100).unwrap(), b"answer");
    }
}
