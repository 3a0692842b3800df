//! What QEMU says at the PVH entry (xen: public/arch-x86/hvm/start_info.h).

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

const MAGIC: u32 = 0x336E_C578;
const RAM: u32 = 1;

#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    _reserved: u32,
}

#[repr(C)]
struct Module {
    address: u64,
    size: u64,
    command_line: u64,
    _reserved: u64,
}

#[repr(C)]
struct MemoryMapEntry {
    address: u64,
    size: u64,
    kind: u32,
    _reserved: u32,
}

/// The boot information, copied out of the memory that becomes the TD's.
#[derive(Debug)]
pub(crate) struct BootInformation {
    pub(crate) command_line: String,
    /// Where QEMU put the `-initrd` file.
    pub(crate) module: Option<Range<u64>>,
    /// RAM, as the firmware's memory map has it.
    pub(crate) ram: Vec<Range<u64>>,
}

impl BootInformation {
    /// Reads the structure at `address`.
    ///
    /// # Safety
    /// `address` is the one the PVH entry was given, and nothing has been written to memory
    /// outside this program since.
    pub(crate) unsafe fn read(address: u32) -> Self {
        // SAFETY: the boot protocol puts a `StartInfo` there; nothing says it is aligned.
        let info = unsafe { (address as usize as *const StartInfo).read_unaligned() };
        assert!(info.magic == MAGIC, "not started through the PVH entry");
        let mut ram = Vec::new();
        for index in 0..u64::from(info.memory_map_entries) {
            let entry = info.memory_map + index * size_of::<MemoryMapEntry>() as u64;
            // SAFETY: as above, `memory_map_entries` of them.
            let entry = unsafe { (entry as *const MemoryMapEntry).read_unaligned() };
            if entry.kind == RAM {
                ram.push(entry.address..entry.address + entry.size);
            }
        }
        let module = (info.module_count > 0).then(|| {
            // SAFETY: as above.
            let module = unsafe { (info.modules as *const Module).read_unaligned() };
            module.address..module.address + module.size
        });
        let mut command_line = String::new();
        let mut at = info.command_line as *const u8;
        while !at.is_null() {
            // SAFETY: the command line is a zero-terminated string.
            let byte = unsafe { at.read() };
            if byte == 0 {
                break;
            }
            command_line.push(char::from(byte));
            at = at.wrapping_add(1);
        }
        Self {
            command_line,
            module,
            ram,
        }
    }
}
