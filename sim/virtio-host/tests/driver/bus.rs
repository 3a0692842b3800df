//! Configuration space and BARs.

use super::host::{Content, FUNCTION, Host, PLACE, SHARED, window};
use l1_vmm::virtio::pci::{Device, Function, HostPci};
use tdx_defs::ghci::MmioWidth;
use virtio_defs::{block, feature, pci as virtio, status};
use virtio_host::Bus;
use x86_defs::pc::{PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA};
use x86_defs::pci;

fn host() -> Host {
    Host::disk(&Content::of_sectors(4), &[])
}

fn at(device: u8, function: u8, bus: u8) -> Function {
    Function {
        bus,
        device_function: device << 3 | function,
    }
}

#[test]
fn functions_are_where_they_were_put() {
    let host = host();
    let identity = |place| host.config_read(place, 0).unwrap();
    assert_eq!(identity(at(0, 0, 0)), 0x29C0_8086, "a host bridge");
    assert_eq!(identity(FUNCTION), 0x1042_1AF4);
    for nothing in [at(1, 0, 0), at(PLACE, 1, 0), at(PLACE, 0, 1), at(31, 7, 0)] {
        assert_eq!(identity(nothing), u32::MAX, "{nothing:?}");
    }
    host.port_write(PCI_CONFIG_ADDRESS, 4, u32::from(PLACE) << 11)
        .unwrap();
    let disabled = host.port_read(PCI_CONFIG_DATA, 4);
    assert_eq!(disabled, Some(u32::MAX), "without the enable bit");
}

#[test]
fn configuration_is_read_and_written_by_bytes_and_words() {
    let host = host();
    let select = pci::CONFIG_ENABLE | u32::from(PLACE) << 11;
    host.port_write(PCI_CONFIG_ADDRESS, 4, select).unwrap();
    assert_eq!(host.port_read(PCI_CONFIG_ADDRESS, 4), Some(select));
    assert_eq!(host.port_read(PCI_CONFIG_DATA + 2, 2), Some(0x1042));
    assert_eq!(host.port_read(PCI_CONFIG_DATA + 3, 1), Some(0x10));
    assert_eq!(host.port_read(PCI_CONFIG_DATA + 1, 4), None);
    assert_eq!(host.port_read(PCI_CONFIG_ADDRESS + 1, 1), None, "RST_CNT");
    host.port_write(PCI_CONFIG_ADDRESS, 4, select | 4).unwrap();
    host.port_write(PCI_CONFIG_DATA, 1, 0xFF).unwrap();
    let command = host.port_read(PCI_CONFIG_DATA, 2);
    assert_eq!(command, Some(6), "memory and bus master, no more");
}

#[test]
fn bars_have_sizes_and_answer_when_they_are_on() {
    let host = host();
    let bar = |index: u8| pci::BAR + 4 * index;
    for index in 0..6 {
        host.config_write(FUNCTION, bar(index), u32::MAX).unwrap();
    }
    let masks = [0, 1, 2, 3, 4, 5].map(|index| host.config_read(FUNCTION, bar(index)).unwrap());
    assert_eq!(masks, [0, 0xFFFF_F000, 0, 0, 0xFFFF_C00C, 0xFFFF_FFFF]);
    host.config_write(FUNCTION, bar(4), 0xC000_0000).unwrap();
    host.config_write(FUNCTION, bar(5), 0x12).unwrap();
    let queues = 0x12_C000_0000 + u64::from(virtio::COMMON_NUM_QUEUES);
    let read = || host.register_read(queues, MmioWidth::Word).unwrap();
    assert_eq!(read(), 0xFFFF);
    let command = u32::from(pci::COMMAND_MEMORY);
    host.config_write(FUNCTION, pci::COMMAND_STATUS, command)
        .unwrap();
    assert_eq!(read(), 1);
    let beyond = host.register_read(0x12_C000_3FFF, MmioWidth::Word);
    assert_eq!(beyond, Ok(0xFFFF), "the last byte and one more");
}

#[test]
fn l1_finds_the_device() {
    let host = host();
    let found = Device::find(host.clone(), FUNCTION, block::DEVICE_TYPE, &mut window());
    assert!(found.is_ok());
    assert!(Device::find(host, FUNCTION, 3, &mut window()).is_err());
    assert_eq!(Bus::default().port_read(PCI_CONFIG_ADDRESS, 4), Some(0));
}

/// Writes the status and gives what it then is.
fn set_status(host: &Host, value: u8) -> u64 {
    let place = registers(host) + u64::from(virtio::COMMON_STATUS);
    host.register_write(place, MmioWidth::Byte, value.into())
        .unwrap();
    host.register_read(place, MmioWidth::Byte).unwrap()
}

/// Where L1 has put the registers.
fn registers(host: &Host) -> u64 {
    host.config_low().into()
}

fn accept(host: &Host, features: u64) {
    for half in [0, 1] {
        let select = registers(host) + u64::from(virtio::COMMON_DRIVER_FEATURE_SELECT);
        host.register_write(select, MmioWidth::Dword, half).unwrap();
        let place = registers(host) + u64::from(virtio::COMMON_DRIVER_FEATURE);
        let bits = features >> (32 * half) & 0xFFFF_FFFF;
        host.register_write(place, MmioWidth::Dword, bits).unwrap();
    }
}

#[test]
fn features_that_cannot_be_are_refused() {
    let host = host();
    let _ = Device::find(host.clone(), FUNCTION, block::DEVICE_TYPE, &mut window()).unwrap();
    let needed = feature::VERSION_1 | feature::ACCESS_PLATFORM;
    let wanted = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
    for (features, settled) in [
        (needed, true),
        (needed | feature::EVENT_IDX, true),
        (feature::VERSION_1, false),
        (feature::ACCESS_PLATFORM, false),
        (needed | feature::RING_PACKED, false),
        (needed | block::FEATURE_RO, false),
    ] {
        assert_eq!(set_status(&host, 0), 0);
        accept(&host, features);
        let now = set_status(&host, wanted);
        let has = now & u64::from(status::FEATURES_OK) != 0;
        assert_eq!(has, settled, "{features:#x}");
    }
}

#[test]
fn a_queue_is_enabled_with_settled_features_and_addresses_that_can_be() {
    let host = host();
    let _ = Device::find(host.clone(), FUNCTION, block::DEVICE_TYPE, &mut window()).unwrap();
    let needed = feature::VERSION_1 | feature::ACCESS_PLATFORM;
    let place = |offset: u32| registers(&host) + u64::from(offset);
    let enable = |size: u64, addresses: [u64; 3]| {
        let word = MmioWidth::Word;
        host.register_write(place(virtio::COMMON_QUEUE_SIZE), word, size)
            .unwrap();
        for (offset, address) in (virtio::COMMON_QUEUE_DESC..).step_by(8).zip(addresses) {
            let width = MmioWidth::from_bytes(8).unwrap();
            host.register_write(place(offset), width, address).unwrap();
            let back = host.register_read(place(offset), width);
            assert_eq!(back, Ok(address));
        }
        let enable = place(virtio::COMMON_QUEUE_ENABLE);
        host.register_write(enable, word, 1).unwrap();
        host.register_read(enable, word) == Ok(1)
    };
    let good = [SHARED, SHARED + 0x1000, SHARED + 0x2000];
    assert!(!enable(8, good), "before the features");
    accept(&host, needed);
    set_status(
        &host,
        status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK,
    );
    for (size, addresses) in [
        (7, good),
        (8, [SHARED + 8, good[1], good[2]]),
        (8, [good[0], SHARED + 1, good[2]]),
        (8, [good[0], good[1], SHARED + 2]),
        (8, [!0xF, good[1], good[2]]),
    ] {
        assert!(!enable(size, addresses), "{size} {addresses:x?}");
    }
    assert!(enable(8, good));
}

#[test]
fn without_bus_mastering_there_is_no_access_to_memory() {
    let content = Content::of_sectors(4);
    let host = Host::disk(&content, &[]);
    let mut disk = super::block::Disk::start(&host);
    let memory = u32::from(pci::COMMAND_MEMORY);
    host.config_write(FUNCTION, pci::COMMAND_STATUS, memory)
        .unwrap();
    assert_eq!(disk.write(0, &[1; 512]), 0xFF);
    assert_eq!(content.all(), Content::of_sectors(4).all());
    let both = memory | u32::from(pci::COMMAND_BUS_MASTER);
    host.config_write(FUNCTION, pci::COMMAND_STATUS, both)
        .unwrap();
    assert_eq!(disk.0.done().map(|done| done.written), Some(1));
    assert_eq!(content.all()[..512], [1; 512]);
}
