//! Calling the payload: page tables, mailbox, HOB list, and the registers td-shim leaves.

use crate::fatal::Fatal;
use crate::memory::Map;
use crate::ram::Ram;
use crate::reset;
use core::arch::asm;
use tdshim_config::ccel::ccel;
use tdshim_config::hob_list;
use tdshim_config::layout::{Runtime, mailbox, shim};
use tdshim_config::madt::WakeupTable;
use tdshim_config::metadata::Section;
use uefi_defs::guid::{Guid, HOB_ACPI_TABLE, HOB_E820};
use uefi_defs::hob::{self, Cpu, FirmwareVolume, GuidExtension, HANDOFF_VERSION, Handoff, Header};
use x86_defs::e820;
use x86_defs::paging::{LARGE, PAGE_1G, PAGE_2M, PRESENT, WRITABLE};
use zerocopy::{FromBytes, IntoBytes};

const FOUR_GIB: u64 = 1 << 32;
const TABLE: u64 = PRESENT | WRITABLE;
const LEAF: u64 = TABLE | LARGE;

/// What the payload is told about.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) ram: &'a Ram,
    pub(crate) map: &'a Map,
    pub(crate) layout: &'a Runtime,
    /// The list from the host.
    pub(crate) td_hob: &'a [u8],
    /// The section with the payload's volume.
    pub(crate) volume: &'a Section,
    /// NUM_VCPUS.
    pub(crate) processors: u32,
}

/// Prepares what the payload is handed, sends the other processors to its mailbox, and jumps to it.
pub(crate) fn jump(told: Told<'_>, entry: u64) -> Result<core::convert::Infallible, Fatal> {
    let Told {
        ram, map, layout, ..
    } = told;
    build_page_tables(ram, map, layout.page_tables)?;
    build_hob_list(told)?;
    hand_over_processors(ram, layout);
    // SAFETY: 1: the page tables map all memory that was mapped before, at the same addresses;
    // 2: `entry` is the entry point of the loaded payload, which td-shim's contract gives the HOB
    // list in RDI and its base in RSI, on a stack that it may use; 3: nothing returns here.
    unsafe {
        asm!(
            "mov cr3, {tables}",
            "xor ebp, ebp",
            "call {entry}",
            "ud2",
            tables = in(reg) layout.page_tables,
            entry = in(reg) entry,
            in("rdi") layout.hob,
            in("rsi") layout.payload,
            options(noreturn),
        )
    }
}

/// Lets every processor but this one go on to the payload's mailbox, be it here already or not.
fn hand_over_processors(ram: &Ram, layout: &Runtime) {
    ram.fill(layout.mailbox, Runtime::MAILBOX_SIZE as usize, 0);
    ram.publish(layout.mailbox + mailbox::APIC_ID, mailbox::NOBODY);
    let own = shim::MAILBOX;
    ram.write_u64(own + mailbox::FIRMWARE, layout.page_tables);
    ram.write_u64(own + mailbox::FIRMWARE + 8, layout.mailbox);
    let next = reset::wait_at_the_payloads_mailbox();
    ram.write_u64(own + mailbox::WAKEUP_VECTOR, next);
    ram.publish(own + mailbox::APIC_ID, mailbox::BROADCAST);
    ram.publish(own + mailbox::COMMAND, mailbox::WAKEUP);
}

/// Identity map: [0, 4 GiB) and the memory above in 1 GiB leaves where they fit, else 2 MiB.
fn build_page_tables(ram: &Ram, map: &Map, tables: u64) -> Result<(), Fatal> {
    let full = Fatal("the memory above 4 GiB needs more page tables than td-shim reserves");
    ram.fill(tables, Runtime::PAGE_TABLES_SIZE as usize, 0);
    let limit = tables + Runtime::PAGE_TABLES_SIZE;
    let pdpt = tables + 0x1000;
    let mut next = tables + 0x2000;
    ram.write_u64(tables, pdpt | TABLE);
    for gib in 0..4 {
        ram.write_u64(pdpt + gib * 8, (gib * PAGE_1G) | LEAF);
    }
    for region in map.regions().filter(|region| region.end > FOUR_GIB) {
        let mut at = region.start.max(FOUR_GIB);
        while at < region.end {
            if at >= 512 * PAGE_1G {
                return Err(full);
            }
            let slot = pdpt + (at / PAGE_1G) * 8;
            if at % PAGE_1G == 0 && region.end - at >= PAGE_1G {
                ram.write_u64(slot, at | LEAF);
                at += PAGE_1G;
                continue;
            }
            if ram.read_u64(slot) == 0 {
                if next >= limit {
                    return Err(full);
                }
                ram.write_u64(slot, next | TABLE);
                next += 0x1000;
            }
            let directory = ram.read_u64(slot) & !0xFFF;
            ram.write_u64(
                directory + (at % PAGE_1G) / PAGE_2M * 8,
                (at & !(PAGE_2M - 1)) | LEAF,
            );
            at = (at & !(PAGE_2M - 1)) + PAGE_2M;
        }
    }
    Ok(())
}

/// Writes HOBs one after another.
struct HobWriter<'a> {
    ram: &'a Ram,
    next: u64,
    end: u64,
}

impl HobWriter<'_> {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Fatal> {
        if self.end - self.next < bytes.len() as u64 {
            return Err(Fatal("the payload's HOB list is too long for its region"));
        }
        self.ram.write(self.next, bytes);
        self.next += bytes.len() as u64;
        Ok(())
    }

    fn push_guid(&mut self, name: &Guid, data: &[u8]) -> Result<(), Fatal> {
        let (extension, padding) =
            GuidExtension::new(*name, data.len()).ok_or(Fatal("a table is too long for a HOB"))?;
        self.push(extension.as_bytes())?;
        self.push(data)?;
        self.push([0; 8].get(..padding).unwrap_or_default())
    }
}

fn build_hob_list(told: Told<'_>) -> Result<(), Fatal> {
    let Told {
        ram,
        map,
        layout,
        volume,
        ..
    } = told;
    let mut list = HobWriter {
        ram,
        next: layout.hob + size_of::<Handoff>() as u64,
        end: layout.hob + Runtime::HOB_SIZE,
    };
    list.push(
        Cpu {
            header: Header::new(hob::CPU, size_of::<Cpu>() as u16),
            size_of_memory_space: 52,
            size_of_io_space: 16,
            reserved: [0; 6],
        }
        .as_bytes(),
    )?;
    list.push(
        FirmwareVolume {
            header: Header::new(hob::FIRMWARE_VOLUME, size_of::<FirmwareVolume>() as u16),
            start: volume.address.into(),
            length: volume.size.into(),
        }
        .as_bytes(),
    )?;
    pass_acpi_tables(&mut list, told)?;
    let ccel = ccel(layout.event_log, Runtime::EVENT_LOG_SIZE);
    list.push_guid(&HOB_ACPI_TABLE, ccel.as_bytes())?;
    let mut table = [e820::Entry {
        address: 0.into(),
        size: 0.into(),
        kind: 0.into(),
    }; 40];
    let count = fill_e820(&mut table, map, layout)?;
    let table = table.get(..count).unwrap_or_default();
    list.push_guid(&HOB_E820, table.as_bytes())?;
    list.push(Header::new(hob::END, 8).as_bytes())?;
    let handoff = Handoff {
        header: Header::new(hob::HANDOFF, size_of::<Handoff>() as u16),
        version: HANDOFF_VERSION.into(),
        boot_mode: 0.into(),
        memory_top: map.top().into(),
        memory_bottom: 0.into(),
        free_memory_top: map.top().into(),
        free_memory_bottom: 0.into(),
        end_of_hob_list: list.next.into(),
    };
    ram.write(layout.hob, handoff.as_bytes());
    Ok(())
}

/// The host's ACPI tables go to the payload unchanged, in order, but for the MADT, which comes last and names the
/// mailbox; where the host has none, td-shim makes one.
fn pass_acpi_tables(list: &mut HobWriter<'_>, told: Told<'_>) -> Result<(), Fatal> {
    let mut hosts_madt = None;
    for entry in hob_list::walk(told.td_hob) {
        let (kind, bytes) = entry.map_err(|_| Fatal("the TD HOB list is malformed"))?;
        let Ok((extension, table)) = GuidExtension::ref_from_prefix(bytes) else {
            continue;
        };
        if kind != hob::GUID_EXTENSION || extension.name != HOB_ACPI_TABLE {
            continue;
        }
        if table.starts_with(b"APIC") && hosts_madt.is_none() {
            hosts_madt = Some(table);
        } else {
            list.push(bytes)?;
        }
    }
    let mailbox = told.layout.mailbox;
    let madt = match hosts_madt {
        Some(table) => WakeupTable::of_host(table, mailbox),
        None => WakeupTable::new(told.processors, mailbox),
    }
    .ok_or(Fatal(
        "the host's MADT is malformed, or there are too many virtual processors for one",
    ))?;
    list.push_guid(&HOB_ACPI_TABLE, madt.bytes())
}

/// Memory minus what the layout took, then what it took; returns the number of entries.
fn fill_e820(table: &mut [e820::Entry], map: &Map, layout: &Runtime) -> Result<usize, Fatal> {
    let taken = [
        (layout.event_log, Runtime::EVENT_LOG_SIZE, e820::NVS),
        (layout.mailbox, Runtime::MAILBOX_SIZE, e820::NVS),
        (
            layout.page_tables,
            Runtime::PAGE_TABLES_SIZE,
            e820::RESERVED,
        ),
        (layout.payload, Runtime::PAYLOAD_SIZE, e820::RESERVED),
        (layout.hob, Runtime::HOB_SIZE, e820::ACPI),
    ];
    let mut count = 0;
    let mut push = |address: u64, size: u64, kind: u32| {
        if size == 0 {
            return Ok(());
        }
        let slot = table
            .get_mut(count)
            .ok_or(Fatal("the E820 table has too many entries"))?;
        *slot = e820::Entry {
            address: address.into(),
            size: size.into(),
            kind: kind.into(),
        };
        count += 1;
        Ok(())
    };
    for region in map.regions() {
        let reserved_here = region.end == layout.hob + Runtime::HOB_SIZE;
        let end = if reserved_here {
            layout.event_log
        } else {
            region.end
        };
        push(region.start, end.saturating_sub(region.start), e820::MEMORY)?;
        if reserved_here {
            for (address, size, kind) in taken {
                push(address, size, kind)?;
            }
        }
    }
    Ok(count)
}
