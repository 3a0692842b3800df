//! A device that is found and started, and hosts that lie about theirs.

use super::*;
use crate::virtio::model::ModelClock;
use crate::virtio::model::device::{
    CAP_COMMON, CAP_CONFIG, CAP_MSIX, CAP_NOTIFY, COMMON, CONFIG, FUNCTION, Model, ModelHost,
    WINDOW, window,
};
use crate::virtio::model::memory::Shared;
use crate::virtio::ring::{Ring, Suppression};
use alloc::boxed::Box;
use proptest::prelude::*;
use tdcall::tdvmcall::VmcallError;

const LIMIT: u64 = 1_000_000;
const OFFERED: u64 = feature::VERSION_1 | feature::ACCESS_PLATFORM | feature::EVENT_IDX;

fn host() -> (ModelHost, Shared) {
    let memory = Shared::new(0x10_0000, 0x4000);
    (ModelHost::new(2, 1, OFFERED | 1 << 40, &memory), memory)
}

fn find(change: impl FnOnce(&mut Model)) -> Result<Device<ModelHost>, PciError> {
    let (host, _) = host();
    change(&mut host.model());
    Device::find(host, FUNCTION, 2, &mut window())
}

/// What becomes of a device that lies in its registers: the value of the register at an offset of BAR 4.
fn start(lie: impl FnMut(u64, u64) -> u64 + 'static) -> Result<(), PciError> {
    let (host, memory) = host();
    let clock = ModelClock::default();
    host.model().lie = Some(Box::new(lie));
    let mut device = Device::find(host, FUNCTION, 2, &mut window())?;
    device.start(feature::ACCESS_PLATFORM, feature::EVENT_IDX, &clock, LIMIT)?;
    let size = device.queue_size(0, 8)?;
    let ring = Ring::<_, u32>::new(memory, size, Suppression::Flags).unwrap();
    let doorbell = device.set_up_queue(0, &ring.areas(), Some(0))?;
    device.run()?;
    device.notify(&doorbell)?;
    device.check()
}

#[test]
fn a_device_is_found_and_started() {
    let (host, memory) = host();
    let clock = ModelClock::default();
    let mut device = Device::find(host.clone(), FUNCTION, 2, &mut window()).unwrap();
    let required = feature::ACCESS_PLATFORM;
    let settled = device.start(required, feature::EVENT_IDX, &clock, LIMIT);
    assert_eq!(settled, Ok(OFFERED), "and not bit 40");
    assert_eq!(host.model().settled, OFFERED);
    let message = Message {
        address: 0xFEE0_1000,
        data: 0x51,
    };
    device.set_messages(&[message]).unwrap();
    assert_eq!(host.model().msix_table[..4], [0, 0x10, 0xE0, 0xFE]);
    assert_eq!(host.model().msix_table[8], 0x51);
    assert_eq!(host.model().config[CAP_MSIX + 3] & 0xC0, 0x80);
    let too_many = [message; 5];
    assert_eq!(device.set_messages(&too_many), Err(PciError::Vector(4)));
    assert_eq!(device.queue_size(0, 8), Ok(8));
    let ring = Ring::<_, u32>::new(memory, 8, Suppression::Flags).unwrap();
    let doorbell = device.set_up_queue(0, &ring.areas(), Some(1)).unwrap();
    device.run().unwrap();
    device.notify(&doorbell).unwrap();
    let areas = host.model().queues[0].side.as_ref().unwrap().areas;
    assert_eq!(areas, ring.areas());
    assert_eq!(host.model().status, 15);
    assert_eq!(device.check(), Ok(()));
    assert_eq!(host.model().config[4] & 6, 6);
}

#[test]
fn another_function_is_not_the_device() {
    let other = |change: fn(&mut Model)| find(change).unwrap_err();
    assert_eq!(other(|m| m.gone = true), PciError::Absent);
    assert_eq!(
        other(|m| m.config[2] = 0x43),
        PciError::Identity(0x1043_1AF4)
    );
    assert_eq!(other(|m| m.config[0xE] = 1), PciError::Header(1));
}

#[test]
fn a_capability_list_with_a_loop_is_refused() {
    let looped = find(|model| model.config[CAP_MSIX + 1] = CAP_NOTIFY as u8);
    assert_eq!(looped.unwrap_err(), PciError::CapabilityLoop);
    let itself = find(|model| model.config[CAP_COMMON + 1] = CAP_COMMON as u8 + 2);
    assert_eq!(itself.unwrap_err(), PciError::CapabilityLoop);
    let header = find(|model| model.config[CAP_MSIX + 1] = 0x10);
    assert_eq!(header.unwrap_err(), PciError::CapabilityPlace(0x10));
}

#[test]
fn a_capability_that_leaves_configuration_space_is_refused() {
    let long = find(|model| {
        model.config[CAP_MSIX + 1] = 0xFC;
        model.config[0xFC..].copy_from_slice(&[9, 0, 20, 2]);
    });
    assert_eq!(long.unwrap_err(), PciError::CapabilityPlace(0xFC));
    let msix = find(|model| {
        model.config[CAP_CONFIG + 1] = 0xF8;
        model.config[0xF8..0xFC].copy_from_slice(&[0x11, 0, 0, 0]);
    });
    assert_eq!(msix.unwrap_err(), PciError::CapabilityPlace(0xF8));
}

#[test]
fn a_structure_in_no_memory_bar_is_missing() {
    for bar in [6, 7, 255, 0] {
        let error = find(|model| model.config[CAP_COMMON + 4] = bar).unwrap_err();
        assert_eq!(error, PciError::Missing(Structure::Common), "BAR {bar}");
    }
    let io = find(|model| {
        model.config[0x10] = 1;
        model.bar_masks[0] = 0xFFFF_FFE0;
        model.config[CAP_NOTIFY + 4] = 0;
    });
    assert_eq!(io.unwrap_err(), PciError::Missing(Structure::Notify));
    let short = find(|model| model.config[CAP_NOTIFY + 2] = 19);
    assert_eq!(short.unwrap_err(), PciError::Missing(Structure::Notify));
}

#[test]
fn a_structure_outside_its_bar_is_refused() {
    for (offset, length) in [
        (0x4000, 0x38),
        (0x3FF0, 0x38),
        (0, 0x37),
        (0, 0x4001),
        (u32::MAX - 3, 0x38),
        (8, u32::MAX),
        (2, 0x38),
    ] {
        let error = find(|model| {
            let place = CAP_COMMON + 8;
            model.config[place..place + 4].copy_from_slice(&offset.to_le_bytes());
            model.config[place + 4..place + 8].copy_from_slice(&u32::to_le_bytes(length));
        });
        let outside = PciError::Outside(Structure::Common);
        assert_eq!(error.unwrap_err(), outside, "{offset:#x} {length:#x}");
    }
    let table = find(|model| model.config[CAP_MSIX + 5] = 0x10);
    let outside = PciError::Outside(Structure::MsixTable);
    assert_eq!(table.unwrap_err(), outside);
}

#[test]
fn structures_that_overlap_are_refused() {
    let error = find(|model| model.config[CAP_CONFIG + 9] = 0).unwrap_err();
    let overlap = PciError::Overlap(Structure::Common, Structure::Device);
    assert_eq!(error, overlap);
}

#[test]
fn of_two_structures_of_a_kind_the_first_counts() {
    let (host, _) = host();
    host.model().config[CAP_MSIX + 1] = 0x80;
    // A second common configuration, over the notifications.
    let second = [9, 0, 16, 1, 4, 0, 0, 0, 0, 0x30, 0, 0, 0x38, 0, 0, 0];
    host.model().config[0x80..0x90].copy_from_slice(&second);
    let device = Device::find(host, FUNCTION, 2, &mut window()).unwrap();
    assert_eq!(device.common.range.start() & 0x3FFF, COMMON);
}

#[test]
fn a_bar_goes_where_no_memory_is() {
    let at = |address: u64| {
        find(move |model| {
            let low = address as u32 | 4;
            model.config[0x20..0x24].copy_from_slice(&low.to_le_bytes());
            let high = (address >> 32) as u32;
            model.config[0x24..0x28].copy_from_slice(&high.to_le_bytes());
        })
    };
    assert_eq!(
        at(WINDOW + 0x4000).unwrap().common.range.start(),
        WINDOW + 0x4000
    );
    assert_eq!(at(0).unwrap().common.range.start(), WINDOW);
    for address in [
        0x10_0000,
        WINDOW - 0x4000,
        WINDOW + 0x100_0000,
        WINDOW | 1 << 40,
        1 << 51,
        !0x3FFF,
    ] {
        let refused = PciError::BarPlace { bar: 4, address };
        assert_eq!(at(address).unwrap_err(), refused, "{address:#x}");
    }
}

#[test]
fn two_bars_at_one_place_are_refused() {
    let error = find(|model| {
        let place = (WINDOW as u32) + 0x1000;
        model.config[0x14..0x18].copy_from_slice(&place.to_le_bytes());
        let place = (WINDOW as u32) | 4;
        model.config[0x20..0x24].copy_from_slice(&place.to_le_bytes());
    });
    let address = WINDOW + 0x1000;
    let refused = PciError::BarPlace { bar: 1, address };
    assert_eq!(error.unwrap_err(), refused);
}

#[test]
fn a_bar_of_an_impossible_size_is_refused() {
    for (low, high) in [
        (0, u32::MAX),
        (0xFFFF_0FF0, u32::MAX),
        (0xFFFF_C000, 1),
        (0xFFFF_C000, 0),
        (0xE000_0000, u32::MAX),
        (0, 0xFFFF_0000),
        (0, 0),
    ] {
        let error = find(|model| (model.bar_masks[4], model.bar_masks[5]) = (low, high));
        // All bits from bit 32 up are a size of 4 GiB, which the window does not have.
        assert_eq!(
            error.unwrap_err(),
            PciError::BarSize(4),
            "{low:#x} {high:#x}"
        );
    }
}

#[test]
fn a_status_that_never_becomes_zero_ends_the_wait() {
    let lie = |offset, value| if offset == 0x14 { 15 } else { value };
    assert_eq!(start(lie), Err(PciError::Reset));
}

#[test]
fn features_that_do_not_stay_are_refused() {
    let mut reads = 0;
    let cleared = move |offset, value| match offset {
        0x14 if value == 11 => 3,
        _ => value,
    };
    assert_eq!(start(cleared), Err(PciError::FeaturesRefused));
    let without_version_1 = move |offset, value: u64| {
        if offset == 4 {
            reads += 1;
            return if reads == 2 { value & !1 } else { value };
        }
        value
    };
    let error = start(without_version_1).unwrap_err();
    assert_eq!(error, PciError::Features(feature::VERSION_1));
    let none = start(|offset, value| if offset == 4 { 0 } else { value });
    assert_eq!(
        none,
        Err(PciError::Features(
            feature::VERSION_1 | feature::ACCESS_PLATFORM
        ))
    );
}

#[test]
fn a_queue_of_an_absurd_size_is_refused() {
    let with = |size: u64| start(move |offset, value| if offset == 0x18 { size } else { value });
    assert_eq!(with(0), Err(PciError::NoQueue(0)));
    assert_eq!(with(3), Err(PciError::QueueSize { queue: 0, size: 3 }));
    let all = PciError::QueueSize {
        queue: 0,
        size: 0xFFFF,
    };
    assert_eq!(with(0xFFFF), Err(all));
    assert_eq!(with(32768), Ok(()), "it gets 8");
    let none = start(|offset, value| if offset == 0x12 { 0 } else { value });
    assert_eq!(none, Err(PciError::NoQueue(0)));
    let many = start(|offset, value| if offset == 0x12 { 65535 } else { value });
    assert_eq!(many, Ok(()));
}

#[test]
fn a_queue_is_notified_inside_its_structure() {
    for offset in [0x400, 0xFFFF] {
        let error = start(move |at, value| if at == 0x1E { offset } else { value });
        assert_eq!(error, Err(PciError::NotifyPlace(0)));
    }
    // The multiplier times the offset leaves 32 bits.
    let (host, memory) = host();
    host.model().config[CAP_NOTIFY + 16..CAP_NOTIFY + 20].fill(0xFF);
    host.model().lie = Some(Box::new(|at, v| if at == 0x1E { 0xFFFF } else { v }));
    let device = Device::find(host, FUNCTION, 2, &mut window()).unwrap();
    let ring = Ring::<_, u32>::new(memory, 8, Suppression::Flags).unwrap();
    let error = device.set_up_queue(0, &ring.areas(), None).unwrap_err();
    assert_eq!(error, PciError::NotifyPlace(0));
}

#[test]
fn a_queue_that_does_not_follow_is_refused() {
    let vector = start(|at, value| if at == 0x1A { 0xFFFF } else { value });
    assert_eq!(vector, Err(PciError::Vector(0)));
    let enabled = start(|at, value| if at == 0x1C { 1 } else { value });
    assert_eq!(enabled, Err(PciError::QueueEnable(0)));
    let disabled = start(|at, value| if at == 0x1C { 0 } else { value });
    assert_eq!(disabled, Err(PciError::QueueEnable(0)));
}

#[test]
fn a_configuration_that_changes_for_ever_ends() {
    let (host, _) = host();
    let device = Device::find(host.clone(), FUNCTION, 2, &mut window()).unwrap();
    host.model().device_config[..6].copy_from_slice(b"abcdef");
    let mut into = [0; 6];
    device.read_configuration(0, &mut into).unwrap();
    assert_eq!(&into, b"abcdef");
    let outside = device.read_configuration(0xFFE, &mut into);
    assert_eq!(outside, Err(PciError::Outside(Structure::Device)));
    let mut generation = 0;
    host.model().lie = Some(Box::new(move |offset, value| {
        if offset == 0x15 {
            generation += 1;
            return generation;
        }
        value
    }));
    let before = host.model().accesses;
    let error = device.read_configuration(0, &mut into);
    assert_eq!(error, Err(PciError::ConfigurationUnstable));
    assert!(host.model().accesses - before <= 32);
    // Once is no harm.
    let mut reads = 0;
    host.model().lie = Some(Box::new(move |offset, value| {
        if offset == CONFIG {
            reads += 1;
        }
        if offset == 0x15 { reads.min(1) } else { value }
    }));
    assert_eq!(device.read_configuration(0, &mut into), Ok(()));
}

#[test]
fn a_device_that_vanishes_is_told() {
    let needs_reset = start(|at, value| match value {
        15 if at == 0x14 => 79,
        _ => value,
    });
    assert_eq!(needs_reset, Err(PciError::NeedsReset));
    let (host, _) = host();
    let mut device = Device::find(host.clone(), FUNCTION, 2, &mut window()).unwrap();
    host.model().lie = Some(Box::new(|_, _| u64::MAX));
    assert_eq!(device.check(), Err(PciError::Absent));
    let clock = ModelClock::default();
    assert_eq!(device.reset(&clock, LIMIT), Err(PciError::Absent));
    host.model().gone = true;
    let refused = PciError::Host(VmcallError::InvalidOperand);
    assert_eq!(device.check(), Err(refused));
    device.give_up();
}

proptest! {
    /// The model panics at an access outside the BARs.
    #[test]
    fn no_configuration_space_is_too_odd(
        changes in prop::collection::vec((0..256_usize, any::<u8>()), 0..40),
        masks in prop::option::of(any::<[u32; 6]>()),
        seed in any::<u64>(),
    ) {
        let (host, memory) = host();
        {
            let mut model = host.model();
            for (at, value) in changes {
                // Identity and kind of BAR stay, or nothing else is reached.
                if !(0..0x10).contains(&at) {
                    model.config[at] = value;
                }
            }
            if let Some(masks) = masks {
                model.bar_masks = masks;
            }
            let mut state = seed | 1;
            model.lie = Some(Box::new(move |_, value| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                if state % 16 == 0 { state } else { value }
            }));
        }
        let clock = ModelClock::default();
        if let Ok(mut device) = Device::find(host.clone(), FUNCTION, 2, &mut window()) {
            let found = [Some(device.common), Some(device.notify), device.configuration];
            for region in found.into_iter().flatten() {
                prop_assert!(region.range.start() >= WINDOW);
                prop_assert!(region.range.end() <= WINDOW + 0x100_0000);
            }
            // What follows needs structures where the model has its own.
            if device.common.range.start() & 0x3FFF == COMMON && host.model().config[0x20] == 4 {
                let _ = device.start(0, u64::MAX, &clock, LIMIT);
                let _ = device.queue_size(0, 8);
                let ring = Ring::<_, u32>::new(memory, 8, Suppression::Flags).unwrap();
                let _ = device.set_up_queue(0, &ring.areas(), None);
            }
        }
        prop_assert!(host.model().accesses < 2_000);
    }
}
