//! Where things lie: in our own image, and in memory when td-shim starts its payload.

/// An image ends where the 32-bit address space does, so that its last 16 bytes are the reset vector.
pub const IMAGE_END: u64 = 0x1_0000_0000;
/// The largest image td-shim's default layout has.
pub const IMAGE_SIZE_MAX: u64 = 0x100_0000;
/// Distance from the image's end of the u32 that holds the file offset of the metadata descriptor.
pub const DESCRIPTOR_OFFSET_FROM_END: u64 = 0x20;

/// Parts of the built-in shim's image; the payload and the metadata lie below, as large as needed.
pub mod shim {
    /// The shim itself: code, constants, reset vector.
    pub const CODE: u64 = 0xFFFE_0000;
    /// Its writable data and stack: zeros, measured like the code.
    pub const WORK: u64 = 0xFF00_0000;
    /// Size of [`WORK`].
    pub const WORK_SIZE: u64 = 0x3_0000;
    /// Where its application processors wait, as in td-shim's own images; measured as well.
    pub const MAILBOX: u64 = 0xFF04_0000;
}

/// The mailbox by which application processors are woken up (ACPI, "Multiprocessor Wakeup Mailbox Structure"; td-shim,
/// `ResetVector/Main.asm`).
pub mod mailbox {
    /// Bytes of a mailbox.
    pub const SIZE: u64 = 0x1000;
    /// Offset of the u32 command.
    pub const COMMAND: u64 = 0;
    /// Offset of the u32 index of the processor that is meant; the APIC ID, once the mailbox is the payload's.
    pub const APIC_ID: u64 = 4;
    /// Offset of the u64 address that [`WAKEUP`] leads to.
    pub const WAKEUP_VECTOR: u64 = 8;
    /// Offset of what the built-in shim tells its own processors: the u64 addresses of the page tables and of the mailbox
    /// that are the payload's.
    pub const FIRMWARE: u64 = 0x800;
    /// Command: jump to the wakeup vector.
    pub const WAKEUP: u32 = 1;
    /// Every processor is meant; an extension of td-shim's.
    pub const BROADCAST: u32 = 0xFFFF_FFFE;
    /// No processor is meant.
    pub const NOBODY: u32 = 0xFFFF_FFFF;
}

/// Where the host puts the TD HOB, as in td-shim's own images.
pub const TD_HOB: u64 = 0x80_0000;
/// Size of the TD HOB section.
pub const TD_HOB_SIZE: u64 = 0x2_0000;

/// td-shim's run-time layout for an executable payload, from the top of low memory down
/// (td-shim, `td-layout/src/runtime/exec.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// The payload's HOB list and the ACPI tables in it.
    pub hob: u64,
    /// The loaded payload image.
    pub payload: u64,
    /// The page tables the payload starts on.
    pub page_tables: u64,
    /// Wake-up mailbox, interrupt table and AP loop.
    pub mailbox: u64,
    /// The event log that the CCEL table points to.
    pub event_log: u64,
}

impl Runtime {
    /// Size of the HOB region.
    pub const HOB_SIZE: u64 = 0x10_0000;
    /// Size of the payload region: no loaded payload may be larger.
    pub const PAYLOAD_SIZE: u64 = 0x200_0000;
    /// Size of the page-table region.
    pub const PAGE_TABLES_SIZE: u64 = 0x2_0000;
    /// Size of the mailbox region.
    pub const MAILBOX_SIZE: u64 = 0x2000;
    /// Size of the event-log region.
    pub const EVENT_LOG_SIZE: u64 = 0x10_0000;

    /// The layout below `top_of_low_memory`; `None` if it does not fit above the TD HOB.
    pub fn below(top_of_low_memory: u64) -> Option<Self> {
        let hob = top_of_low_memory.checked_sub(Self::HOB_SIZE)?;
        let payload = hob.checked_sub(Self::PAYLOAD_SIZE)?;
        let page_tables = payload.checked_sub(Self::PAGE_TABLES_SIZE)?;
        let mailbox = page_tables.checked_sub(Self::MAILBOX_SIZE)?;
        let event_log = mailbox.checked_sub(Self::EVENT_LOG_SIZE)?;
        (event_log >= TD_HOB + TD_HOB_SIZE).then_some(Self {
            hob,
            payload,
            page_tables,
            mailbox,
            event_log,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The addresses seen in a real boot of td-shim with 1 GiB.
    #[test]
    fn runtime_layout_is_td_shims() {
        let layout = Runtime::below(0x4000_0000).unwrap();
        assert_eq!(
            layout,
            Runtime {
                hob: 0x3FF0_0000,
                payload: 0x3DF0_0000,
                page_tables: 0x3DEE_0000,
                mailbox: 0x3DED_E000,
                event_log: 0x3DDD_E000,
            }
        );
        assert_eq!(Runtime::below(0x200_0000), None);
    }
}
