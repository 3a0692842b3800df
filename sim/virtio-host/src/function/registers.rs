//! The common configuration's registers (VIRTIO 4.1.4.3).

use alloc::vec::Vec;

use crate::queue::Queue;
use virtio_defs::pci::{self as virtio, NO_VECTOR};
use virtio_defs::{feature, status};

/// Descriptors that a queue has at most.
const QUEUE_SIZE: u16 = 128;

/// A queue's registers.
#[derive(Debug)]
pub(super) struct QueueRegisters {
    size: u16,
    pub(super) vector: u16,
    /// Descriptor area, driver area, device area.
    addresses: [u64; 3],
    /// The queue, once it is enabled.
    pub(super) queue: Option<Queue>,
}

impl QueueRegisters {
    fn new() -> Self {
        Self {
            size: QUEUE_SIZE,
            vector: NO_VECTOR,
            addresses: [0; 3],
            queue: None,
        }
    }
}

/// What a write asks of the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing more.
    Nothing,
    /// A reset.
    Reset,
    /// The driver is ready: work.
    Work,
}

/// The registers.
#[derive(Debug)]
pub(super) struct Registers {
    offered: u64,
    device_select: u32,
    driver_select: u32,
    pub(super) accepted: u64,
    pub(super) configuration_vector: u16,
    pub(super) status: u8,
    pub(super) generation: u8,
    select: u16,
    pub(super) queues: Vec<QueueRegisters>,
    vectors: u16,
}

/// Features that each device offers.
const COMMON: u64 =
    feature::VERSION_1 | feature::ACCESS_PLATFORM | feature::EVENT_IDX | feature::INDIRECT_DESC;

impl Registers {
    /// Of a device that offers `offered` of its type's features, and has so many queues and vectors.
    pub(super) fn new(offered: u64, queues: u16, vectors: u16) -> Self {
        Self {
            offered: offered | COMMON,
            device_select: 0,
            driver_select: 0,
            accepted: 0,
            configuration_vector: NO_VECTOR,
            status: 0,
            generation: 0,
            select: 0,
            queues: (0..queues).map(|_| QueueRegisters::new()).collect(),
            vectors,
        }
    }

    /// Offers other ones of its type's features.
    pub(super) fn offer(&mut self, offered: u64) {
        self.offered = offered | COMMON;
    }

    /// As after a reset.
    pub(super) fn reset(&mut self) {
        *self = Self {
            generation: self.generation,
            ..Self::new(self.offered, self.queues.len() as u16, self.vectors)
        };
    }

    /// The driver has said that it is ready, and nothing is broken.
    pub(super) fn is_running(&self) -> bool {
        let bits = status::DRIVER_OK | status::DEVICE_NEEDS_RESET | status::FAILED;
        self.status & bits == status::DRIVER_OK
    }

    /// All registers, as they read.
    pub(super) fn image(&self) -> [u8; virtio::COMMON_SIZE as usize] {
        let mut image = [0; virtio::COMMON_SIZE as usize];
        let mut put = |offset: u32, bytes: &[u8]| {
            for (place, byte) in image.iter_mut().skip(offset as usize).zip(bytes) {
                *place = *byte;
            }
        };
        let half = |features: u64, select: u32| match select {
            0 => features as u32,
            1 => (features >> 32) as u32,
            _ => 0,
        };
        let dwords = [
            (virtio::COMMON_DEVICE_FEATURE_SELECT, self.device_select),
            (
                virtio::COMMON_DEVICE_FEATURE,
                half(self.offered, self.device_select),
            ),
            (virtio::COMMON_DRIVER_FEATURE_SELECT, self.driver_select),
            (
                virtio::COMMON_DRIVER_FEATURE,
                half(self.accepted, self.driver_select),
            ),
        ];
        for (offset, value) in dwords {
            put(offset, &value.to_le_bytes());
        }
        let words = [
            (virtio::COMMON_CONFIG_VECTOR, self.configuration_vector),
            (virtio::COMMON_NUM_QUEUES, self.queues.len() as u16),
            (virtio::COMMON_QUEUE_SELECT, self.select),
        ];
        for (offset, value) in words {
            put(offset, &value.to_le_bytes());
        }
        put(virtio::COMMON_STATUS, &[self.status, self.generation]);
        // A queue that there is not has size 0.
        let Some(queue) = self.queues.get(usize::from(self.select)) else {
            return image;
        };
        let words = [
            (virtio::COMMON_QUEUE_SIZE, queue.size),
            (virtio::COMMON_QUEUE_VECTOR, queue.vector),
            (virtio::COMMON_QUEUE_ENABLE, queue.queue.is_some().into()),
            (virtio::COMMON_QUEUE_NOTIFY_OFF, self.select),
        ];
        for (offset, value) in words {
            put(offset, &value.to_le_bytes());
        }
        for (offset, address) in (virtio::COMMON_QUEUE_DESC..)
            .step_by(8)
            .zip(queue.addresses)
        {
            put(offset, &address.to_le_bytes());
        }
        image
    }

    /// Writes a register. What cannot be written, or not with this width, stays.
    pub(super) fn write(&mut self, offset: u32, width: u32, value: u64) -> Asked {
        match (offset, width) {
            (virtio::COMMON_DEVICE_FEATURE_SELECT, 4) => self.device_select = value as u32,
            (virtio::COMMON_DRIVER_FEATURE_SELECT, 4) => self.driver_select = value as u32,
            (virtio::COMMON_DRIVER_FEATURE, 4) => self.accept(value as u32),
            (virtio::COMMON_CONFIG_VECTOR, 2) => {
                self.configuration_vector = self.vector(value as u16);
            }
            (virtio::COMMON_STATUS, 1) => return self.set_status(value as u8),
            (virtio::COMMON_QUEUE_SELECT, 2) => self.select = value as u16,
            _ => self.write_queue(offset, width, value),
        }
        Asked::Nothing
    }

    fn accept(&mut self, value: u32) {
        if self.status & status::FEATURES_OK != 0 {
            return;
        }
        let value = u64::from(value);
        match self.driver_select {
            0 => self.accepted = self.accepted & !0xFFFF_FFFF | value,
            1 => self.accepted = self.accepted & 0xFFFF_FFFF | value << 32,
            _ => {}
        }
    }

    fn vector(&self, vector: u16) -> u16 {
        if vector < self.vectors {
            vector
        } else {
            NO_VECTOR
        }
    }

    fn set_status(&mut self, value: u8) -> Asked {
        if value == 0 {
            return Asked::Reset;
        }
        let was_running = self.is_running();
        let mut new = value | self.status & status::DEVICE_NEEDS_RESET;
        // A device in a TD reaches only what is shared: a driver has to know that.
        let needed = feature::VERSION_1 | feature::ACCESS_PLATFORM;
        let settled = self.accepted & !self.offered == 0 && self.accepted & needed == needed;
        if !settled {
            new &= !status::FEATURES_OK;
        }
        self.status = new;
        if !was_running && self.is_running() {
            return Asked::Work;
        }
        Asked::Nothing
    }

    fn write_queue(&mut self, offset: u32, width: u32, value: u64) {
        let vector = self.vector(value as u16);
        let features_settled = self.status & status::FEATURES_OK != 0;
        let event_index = self.accepted & feature::EVENT_IDX != 0;
        let Some(queue) = self.queues.get_mut(usize::from(self.select)) else {
            return;
        };
        if (offset, width) == (virtio::COMMON_QUEUE_VECTOR, 2) {
            queue.vector = vector;
            return;
        }
        // What an enabled queue is cannot change until a reset.
        if queue.queue.is_some() {
            return;
        }
        match (offset, width) {
            (virtio::COMMON_QUEUE_SIZE, 2) if (1..=u64::from(QUEUE_SIZE)).contains(&value) => {
                queue.size = value as u16;
            }
            (virtio::COMMON_QUEUE_ENABLE, 2) if value == 1 && features_settled => {
                queue.queue = Queue::new(queue.size, queue.addresses, event_index);
            }
            (virtio::COMMON_QUEUE_DESC..virtio::COMMON_SIZE, 4 | 8) => {
                let place = (offset - virtio::COMMON_QUEUE_DESC) / 8;
                let Some(address) = queue.addresses.get_mut(place as usize) else {
                    return;
                };
                *address = match (width, offset % 8) {
                    (8, 0) => value,
                    (4, 0) => *address & !0xFFFF_FFFF | value & 0xFFFF_FFFF,
                    (4, 4) => *address & 0xFFFF_FFFF | value << 32,
                    _ => *address,
                };
            }
            _ => {}
        }
    }
}
