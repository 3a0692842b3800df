//! A block device that keeps the rules.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::device::ModelHost;
use super::memory::Shared;
use super::queue::Request;
use virtio_defs::{block, feature};

/// Its length.
pub(crate) const SECTORS: usize = 256;
/// Its features, one of them unknown to L1.
pub(crate) const OFFERED: u64 = feature::VERSION_1
    | feature::ACCESS_PLATFORM
    | feature::EVENT_IDX
    | block::FEATURE_FLUSH
    | 1 << 40;

/// What is stored; clones are the same disk.
pub(crate) type Disk = Rc<RefCell<Vec<u8>>>;

/// What an honest disk does with a request.
pub(crate) fn serve(disk: &mut [u8], memory: &Shared, request: &Request) -> u32 {
    let bytes = request.read(memory);
    let (header, data) = bytes.split_at(16);
    let kind = u32::from_le_bytes(header[..4].try_into().unwrap());
    let sector = u64::from_le_bytes(header[8..].try_into().unwrap());
    let at = sector as usize * 512;
    match kind {
        0 => {
            let length = request.writable_length() as usize - 1;
            let mut answer = disk[at..at + length].to_vec();
            answer.push(0);
            request.write(memory, &answer)
        }
        1 => {
            disk[at..at + data.len()].copy_from_slice(data);
            request.write(memory, &[0])
        }
        4 => request.write(memory, &[0]),
        _ => request.write(memory, &[2]),
    }
}

/// Makes a host serve `disk` as it should.
pub(crate) fn honest(host: &ModelHost, disk: &Disk) {
    let disk = disk.clone();
    let mut model = host.model();
    model.answer = Box::new(|queue, request, length| queue.push(request.head.into(), length));
    model.work =
        Box::new(move |memory, _, request| Some(serve(&mut disk.borrow_mut(), memory, request)));
}

/// A host with a disk, and its disk.
pub(crate) fn host(memory: &Shared) -> (ModelHost, Disk) {
    let host = ModelHost::new(block::DEVICE_TYPE, 1, OFFERED, memory);
    let disk: Disk = Rc::new(RefCell::new(vec![0; SECTORS * 512]));
    host.model().device_config[..8].copy_from_slice(&(SECTORS as u64).to_le_bytes());
    honest(&host, &disk);
    (host, disk)
}
