//! The common configuration: registers by their places (VIRTIO 4.1.4.3).

use super::super::backend::Backend;
use super::Device;
use super::Selects;
use virtio_defs::pci::{self as registers, NO_VECTOR};
use virtio_defs::status;

impl<B: Backend + ?Sized> Device<B> {
    /// Reads bytes of the common configuration.
    pub(in crate::machine::devices::virtio) fn read_common(&self, offset: u32, into: &mut [u8]) {
        let mut image = [0; registers::COMMON_SIZE as usize];
        let mut put = |at: u32, bytes: &[u8]| {
            let places = image.iter_mut().skip(at as usize);
            for (place, byte) in places.zip(bytes) {
                *place = *byte;
            }
        };
        let half = |features: u64, select: u32| match select {
            0 => features as u32,
            1 => (features >> 32) as u32,
            _ => 0,
        };
        let Selects {
            device_features,
            driver_features,
            queue,
        } = self.selects;
        let offered = half(self.offered(), device_features).to_le_bytes();
        let chosen = half(self.driver_features, driver_features).to_le_bytes();
        put(
            registers::COMMON_DEVICE_FEATURE_SELECT,
            &device_features.to_le_bytes(),
        );
        put(registers::COMMON_DEVICE_FEATURE, &offered);
        put(
            registers::COMMON_DRIVER_FEATURE_SELECT,
            &driver_features.to_le_bytes(),
        );
        put(registers::COMMON_DRIVER_FEATURE, &chosen);
        put(
            registers::COMMON_CONFIG_VECTOR,
            &self.configuration_vector.to_le_bytes(),
        );
        put(
            registers::COMMON_NUM_QUEUES,
            &(self.slots.len() as u16).to_le_bytes(),
        );
        put(registers::COMMON_STATUS, &[self.status, self.generation]);
        put(registers::COMMON_QUEUE_SELECT, &queue.to_le_bytes());
        if let Some(slot) = self.selected() {
            put(
                registers::COMMON_QUEUE_SIZE,
                &slot.places.size.to_le_bytes(),
            );
            put(registers::COMMON_QUEUE_VECTOR, &slot.vector.to_le_bytes());
            put(
                registers::COMMON_QUEUE_ENABLE,
                &u16::from(slot.enabled).to_le_bytes(),
            );
            put(registers::COMMON_QUEUE_NOTIFY_OFF, &queue.to_le_bytes());
            put(
                registers::COMMON_QUEUE_DESC,
                &slot.places.descriptors.to_le_bytes(),
            );
            put(
                registers::COMMON_QUEUE_DRIVER,
                &slot.places.available.to_le_bytes(),
            );
            put(
                registers::COMMON_QUEUE_DEVICE,
                &slot.places.used.to_le_bytes(),
            );
        }
        into.fill(0);
        for (byte, source) in into.iter_mut().zip(image.iter().skip(offset as usize)) {
            *byte = *source;
        }
    }

    /// Writes a register of the common configuration: all of it, or half of one of 64 bits. Anything else does
    /// nothing.
    pub(in crate::machine::devices::virtio) fn write_common(&mut self, offset: u32, from: &[u8]) {
        match *from {
            [value] if offset == registers::COMMON_STATUS => self.write_status(value),
            [a, b] => self.write_word(offset, u16::from_le_bytes([a, b])),
            [a, b, c, d] => self.write_dword(offset, u32::from_le_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] if offset >= registers::COMMON_QUEUE_DESC => {
                self.write_dword(offset, u32::from_le_bytes([a, b, c, d]));
                self.write_dword(offset.wrapping_add(4), u32::from_le_bytes([e, f, g, h]));
            }
            _ => {}
        }
    }

    fn write_word(&mut self, offset: u32, value: u16) {
        let vector = if value < self.vectors {
            value
        } else {
            NO_VECTOR
        };
        let settled = self.status & status::FEATURES_OK != 0;
        match offset {
            registers::COMMON_CONFIG_VECTOR => self.configuration_vector = vector,
            registers::COMMON_QUEUE_SELECT => self.selects.queue = value,
            _ => {
                let Some(slot) = self.slots.get_mut(usize::from(self.selects.queue)) else {
                    return;
                };
                match offset {
                    registers::COMMON_QUEUE_VECTOR => slot.vector = vector,
                    registers::COMMON_QUEUE_SIZE if !slot.enabled => slot.places.size = value,
                    registers::COMMON_QUEUE_ENABLE if value == 1 && settled => {
                        slot.enabled = true;
                    }
                    _ => {}
                }
            }
        }
    }

    fn write_dword(&mut self, offset: u32, value: u32) {
        match offset {
            registers::COMMON_DEVICE_FEATURE_SELECT => self.selects.device_features = value,
            registers::COMMON_DRIVER_FEATURE_SELECT => self.selects.driver_features = value,
            registers::COMMON_DRIVER_FEATURE => {
                let settled = self.status & status::FEATURES_OK != 0;
                let half = self.selects.driver_features;
                if !settled && half < 2 {
                    set_half(&mut self.driver_features, half, value);
                }
            }
            _ => {
                let slot = self.slots.get_mut(usize::from(self.selects.queue));
                let Some(slot) = slot.filter(|slot| !slot.enabled) else {
                    return;
                };
                let places = &mut slot.places;
                for (first, place) in [
                    (registers::COMMON_QUEUE_DESC, &mut places.descriptors),
                    (registers::COMMON_QUEUE_DRIVER, &mut places.available),
                    (registers::COMMON_QUEUE_DEVICE, &mut places.used),
                ] {
                    match offset.wrapping_sub(first) {
                        0 => set_half(place, 0, value),
                        4 => set_half(place, 1, value),
                        _ => {}
                    }
                }
            }
        }
    }
}

/// Sets the lower (0) or upper (1) half of a register of 64 bits.
fn set_half(register: &mut u64, half: u32, value: u32) {
    let shift = 32 * (half & 1);
    *register = *register & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
}
