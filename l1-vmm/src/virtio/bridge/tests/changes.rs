//! A configuration that changes while L2 works with the device.

use super::*;
use crate::virtio::model::device;
use core::sync::atomic::Ordering;

impl Machine {
    /// The host's disk has so many sectors from now on, and says so.
    fn resize(&mut self, sectors: u64) {
        {
            let mut model = self.host.model();
            model.device_config[..8].copy_from_slice(&sectors.to_le_bytes());
            model.generation = model.generation.wrapping_add(1);
        }
        self.interrupt_for_configuration();
    }

    fn interrupt_for_configuration(&mut self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.serve();
    }

    fn read<const N: usize>(&mut self, offset: u64) -> [u8; N] {
        let mut bytes = [0; N];
        let place = self.function.place(BARS + offset, N).unwrap();
        self.function.read(place, &mut bytes);
        bytes
    }

    /// Generation and capacity, as L2 sees them.
    fn seen(&mut self) -> (u8, u64) {
        let [generation] = self.read(0x15);
        (generation, u64::from_le_bytes(self.read(0x2000)))
    }
}

#[test]
fn a_disk_that_gets_larger_or_smaller_is_so_for_l2() {
    let mut machine = Machine::new();
    machine.function.write_configuration(4, &[6, 4]);
    assert_eq!(machine.host.model().configuration_vector, 1);
    assert_eq!(machine.host.model().msix_table[0x18..0x1C], [0xE3, 0, 0, 0]);
    assert_eq!(machine.seen(), (0, 256));
    // While requests are with the host, which are as they were.
    let held = machine.hold();
    machine.offer(0, 0, 0);
    machine.notify();
    for (times, sectors) in (1..).zip([1024, 3, 0, 1 << 54]) {
        machine.resize(sectors);
        assert_eq!(machine.seen(), (times, sectors));
        assert_eq!(machine.read(0x1000), [2], "the interrupt's cause");
    }
    let head = held.borrow()[0].head;
    machine.push(head.into(), 1025);
    machine.serve();
    assert_eq!(machine.driver.done(), Some((0, 1025)));
    assert_eq!(machine.status(), 15);
}

#[test]
fn only_the_capacity_changes_and_only_to_one_that_can_be() {
    let mut machine = Machine::new();
    machine.host.model().device_config[8..].fill(0xEE);
    let limits: [u8; 52] = machine.read(0x2008);
    machine.resize((1 << 54) + 1);
    machine.resize(u64::MAX);
    assert_eq!(machine.seen(), (0, 256), "refused");
    machine.resize(7);
    assert_eq!((machine.seen(), machine.read(0x2008)), ((1, 7), limits));
    // Nothing is looked at without an interrupt, and nothing told where nothing changed.
    machine.host.model().device_config[0] = 9;
    machine.serve();
    assert_eq!(machine.seen(), (1, 7));
    machine.interrupt_for_configuration();
    machine.interrupt_for_configuration();
    assert_eq!(machine.seen(), (2, 9));
    assert_eq!(machine.status(), 15);
}

#[test]
fn a_configuration_that_never_stands_still_stays_as_it_was() {
    let mut machine = Machine::new();
    let mut reads = 0;
    machine.host.model().lie = Some(Box::new(move |offset, value| {
        reads += 1;
        match offset {
            0x15 => reads,
            0x1000.. => reads,
            _ => value,
        }
    }));
    for _ in 0..20 {
        machine.interrupt_for_configuration();
    }
    assert_eq!((machine.seen(), machine.status()), ((0, 256), 15));
    machine.offer(0, 0, 0);
    machine.notify();
    assert_eq!(machine.result(0), 0, "it goes on");
}

#[test]
fn a_device_that_says_it_cannot_go_on_or_is_gone_costs_a_reset() {
    for status in [0x4F, 0xFF] {
        let mut machine = Machine::new();
        machine.host.model().lie = Some(Box::new(move |offset, value| match offset {
            0x14 if value != 0 => status,
            _ => value,
        }));
        machine.interrupt_for_configuration();
        assert_eq!(machine.status(), 15 | NEEDS_RESET, "{status:#x}");
        machine.host.model().lie = None;
        machine.set_up();
        machine.offer(0, 0, 0);
        machine.notify();
        assert_eq!(machine.result(0), 0, "it works again");
    }
}

#[test]
fn a_change_while_l2_has_reset_the_device_is_told_when_it_is_started() {
    let mut machine = Machine::new();
    machine.write(0x14, &[0]);
    machine.host.model().device_config[..2].copy_from_slice(&[5, 0]);
    machine.set_up();
    assert_eq!(machine.seen(), (1, 5));
}

#[test]
fn a_device_with_one_interrupt_or_none_for_its_configuration_works() {
    for (entries, refuses) in [(0, false), (1, true)] {
        let memory = Shared::new(SHARED, 0x8_0000);
        let (host, _) = disk::host(&memory);
        host.model().config[device::CAP_MSIX + 2] = entries;
        if refuses {
            host.model().lie = Some(Box::new(|offset, value| match offset {
                0x10 => 0xFFFF,
                _ => value,
            }));
        }
        let device = Device::find(host.clone(), FUNCTION, 2, &mut window()).unwrap();
        let clock = ModelClock::default();
        let mut bridge =
            Bridge::open(device, &memory, clock, Kind::Block, 0, interrupts()).unwrap();
        bridge.start(0).unwrap();
        assert_eq!(host.model().queues[0].vector, 0);
        assert_eq!(bridge.vectors.configuration, None);
    }
}
