//! Our numbers beside those of the crate `virtio-spec`.

use virtio_defs::{block, console, entropy, feature, net, pci, ring, status, vsock};
use virtio_spec::pci::{Cap, CapCfgType, CommonCfg, NotifyCap};
use virtio_spec::{DeviceStatus, F, Id, blk, virtq};

#[test]
fn status_bits_are_the_same() {
    let rows = [
        (status::ACKNOWLEDGE, DeviceStatus::ACKNOWLEDGE),
        (status::DRIVER, DeviceStatus::DRIVER),
        (status::DRIVER_OK, DeviceStatus::DRIVER_OK),
        (status::FEATURES_OK, DeviceStatus::FEATURES_OK),
        (status::DEVICE_NEEDS_RESET, DeviceStatus::DEVICE_NEEDS_RESET),
        (status::FAILED, DeviceStatus::FAILED),
    ];
    for (ours, theirs) in rows {
        assert_eq!(ours, theirs.bits());
    }
}

#[test]
fn feature_bits_are_the_same() {
    let rows = [
        (feature::INDIRECT_DESC, F::INDIRECT_DESC),
        (feature::EVENT_IDX, F::EVENT_IDX),
        (feature::VERSION_1, F::VERSION_1),
        (feature::ACCESS_PLATFORM, F::ACCESS_PLATFORM),
        (feature::RING_PACKED, F::RING_PACKED),
        (feature::IN_ORDER, F::IN_ORDER),
        (feature::RING_RESET, F::RING_RESET),
    ];
    for (ours, theirs) in rows {
        assert_eq!(u128::from(ours), theirs.bits().to_ne());
    }
    let rows = [
        (block::FEATURE_SIZE_MAX, blk::F::SIZE_MAX),
        (block::FEATURE_RO, blk::F::RO),
        (block::FEATURE_FLUSH, blk::F::FLUSH),
        (block::FEATURE_SEG_MAX, blk::F::SEG_MAX),
        (block::FEATURE_BLK_SIZE, blk::F::BLK_SIZE),
        (block::FEATURE_DISCARD, blk::F::DISCARD),
        (block::FEATURE_WRITE_ZEROES, blk::F::WRITE_ZEROES),
    ];
    for (ours, theirs) in rows {
        assert_eq!(u128::from(ours), theirs.bits().to_ne());
    }
    let rows = [
        (net::FEATURE_MTU, virtio_spec::net::F::MTU),
        (net::FEATURE_MAC, virtio_spec::net::F::MAC),
        (net::FEATURE_STATUS, virtio_spec::net::F::STATUS),
    ];
    for (ours, theirs) in rows {
        assert_eq!(u128::from(ours), theirs.bits().to_ne());
    }
    let rows = [
        (
            console::FEATURE_MULTIPORT,
            virtio_spec::console::F::MULTIPORT,
        ),
        (console::FEATURE_SIZE, virtio_spec::console::F::SIZE),
    ];
    for (ours, theirs) in rows {
        assert_eq!(u128::from(ours), theirs.bits().to_ne());
    }
}

#[test]
fn packets_of_sockets_are_the_same() {
    use core::mem::offset_of;
    use virtio_spec::vsock::{Hdr, Op, Type};
    assert_eq!(vsock::HEADER_LENGTH, size_of::<Hdr>());
    let rows = [
        (vsock::HEADER_SOURCE_CID, offset_of!(Hdr, src_cid)),
        (vsock::HEADER_DESTINATION_CID, offset_of!(Hdr, dst_cid)),
        (vsock::HEADER_SOURCE_PORT, offset_of!(Hdr, src_port)),
        (vsock::HEADER_DESTINATION_PORT, offset_of!(Hdr, dst_port)),
        (vsock::HEADER_DATA_LENGTH, offset_of!(Hdr, len)),
        (vsock::HEADER_TYPE, offset_of!(Hdr, type_)),
        (vsock::HEADER_OPERATION, offset_of!(Hdr, op)),
        (vsock::HEADER_FLAGS, offset_of!(Hdr, flags)),
        (vsock::HEADER_ALLOCATED, offset_of!(Hdr, buf_alloc)),
        (vsock::HEADER_FORWARDED, offset_of!(Hdr, fwd_cnt)),
    ];
    for (ours, theirs) in rows {
        assert_eq!(ours, theirs);
    }
    assert_eq!(vsock::TYPE_STREAM, Type::Stream.into());
    for (ours, theirs) in [
        (vsock::OPERATION_REQUEST, Op::Request),
        (vsock::OPERATION_RESPONSE, Op::Response),
        (vsock::OPERATION_RESET, Op::Rst),
        (vsock::OPERATION_SHUTDOWN, Op::Shutdown),
        (vsock::OPERATION_DATA, Op::Rw),
        (vsock::OPERATION_CREDIT_UPDATE, Op::CreditUpdate),
        (vsock::OPERATION_CREDIT_REQUEST, Op::CreditRequest),
    ] {
        assert_eq!(ours, theirs.into());
    }
}

#[test]
fn ring_layouts_are_the_same() {
    assert_eq!(ring::DESCRIPTOR_LENGTH, size_of::<virtq::Desc>());
    assert_eq!(ring::USED_ELEMENT_LENGTH, size_of::<virtq::UsedElem>());
    let rows = [
        (ring::DESCRIPTOR_NEXT, virtq::DescF::NEXT),
        (ring::DESCRIPTOR_WRITE, virtq::DescF::WRITE),
        (ring::DESCRIPTOR_INDIRECT, virtq::DescF::INDIRECT),
    ];
    for (ours, theirs) in rows {
        assert_eq!(ours, theirs.bits().to_ne());
    }
    let no_interrupt = virtq::AvailF::NO_INTERRUPT.bits().to_ne();
    assert_eq!(ring::AVAILABLE_NO_INTERRUPT, no_interrupt);
    assert_eq!(ring::USED_NO_NOTIFY, virtq::UsedF::NO_NOTIFY.bits().to_ne());
}

#[test]
fn pci_structures_are_the_same() {
    assert_eq!(usize::from(pci::CAP_SIZE), size_of::<Cap>());
    assert_eq!(usize::from(pci::CAP_NOTIFY_SIZE), size_of::<NotifyCap>());
    // Theirs has four optional 16-bit fields more.
    assert_eq!(pci::COMMON_SIZE as usize + 8, size_of::<CommonCfg>());
    let rows = [
        (pci::CFG_COMMON, CapCfgType::Common),
        (pci::CFG_NOTIFY, CapCfgType::Notify),
        (pci::CFG_ISR, CapCfgType::Isr),
        (pci::CFG_DEVICE, CapCfgType::Device),
        (pci::CFG_PCI, CapCfgType::Pci),
    ];
    for (ours, theirs) in rows {
        assert_eq!(ours, u8::from(theirs));
    }
    let offset = std::mem::offset_of!(Cap, cfg_type);
    assert_eq!(usize::from(pci::CAP_TYPE), offset);
    assert_eq!(usize::from(pci::CAP_BAR), std::mem::offset_of!(Cap, bar));
    let offset = std::mem::offset_of!(Cap, offset);
    assert_eq!(usize::from(pci::CAP_OFFSET), offset);
    let offset = std::mem::offset_of!(Cap, length);
    assert_eq!(usize::from(pci::CAP_STRUCTURE_LENGTH), offset);
}

#[test]
fn device_types_and_requests_are_the_same() {
    assert_eq!(block::DEVICE_TYPE, u16::from(u8::from(Id::Block)));
    assert_eq!(console::DEVICE_TYPE, u16::from(u8::from(Id::Console)));
    assert_eq!(entropy::DEVICE_TYPE, u16::from(u8::from(Id::Rng)));
    assert_eq!(block::TYPE_IN, u32::from(blk::T::In));
    assert_eq!(block::TYPE_OUT, u32::from(blk::T::Out));
    assert_eq!(block::TYPE_FLUSH, u32::from(blk::T::Flush));
    assert_eq!(block::TYPE_GET_ID, u32::from(blk::T::GetId));
    assert_eq!(block::TYPE_DISCARD, u32::from(blk::T::Discard));
    assert_eq!(block::TYPE_WRITE_ZEROES, u32::from(blk::T::WriteZeroes));
    assert_eq!(net::DEVICE_TYPE, u16::from(u8::from(Id::Net)));
    assert_eq!(vsock::DEVICE_TYPE, u16::from(u8::from(Id::Vsock)));
    let theirs = virtio_spec::vsock::F::STREAM.bits().to_ne();
    assert_eq!(u128::from(vsock::FEATURE_STREAM), theirs);
    assert_eq!(net::HEADER_LENGTH, size_of::<virtio_spec::net::Hdr>());
    let link_up = virtio_spec::net::S::LINK_UP.bits().to_ne();
    assert_eq!(net::STATUS_LINK_UP, link_up);
    assert_eq!(block::STATUS_OK, u8::from(blk::S::Ok));
    assert_eq!(block::STATUS_IOERR, u8::from(blk::S::Ioerr));
    assert_eq!(block::STATUS_UNSUPP, u8::from(blk::S::Unsupp));
}
