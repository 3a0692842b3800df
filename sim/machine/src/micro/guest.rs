//! Building a micro-guest: a TD with a few pages, and the tables its L1 starts on.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::firmware;
use super::layout::{self, Block};
use super::script::put;
use crate::arch::memory;
use crate::host::{Host, build};
use x86_defs::paging::{LARGE, PAGE_4K, PRESENT, USER, WRITABLE};

const PRESENT_WRITABLE_USER: u64 = PRESENT | WRITABLE | USER;

/// Pages that the host adds; they hold what was written to them before.
const ADDED: [(u64, u64); 10] = [
    (layout::CODE, layout::CODE_SIZE),
    (layout::IDT, PAGE_4K),
    (layout::TABLES, PAGE_4K),
    (layout::RECORDS, layout::RECORDS_SIZE),
    (layout::STACKS, layout::STACKS_SIZE),
    (layout::PAGE_TABLES, layout::PAGE_TABLES_SIZE),
    (layout::DATA, layout::DATA_SIZE),
    (layout::GUEST_STATE, 3 * PAGE_4K),
    (layout::L2_CODE, 2 * PAGE_4K),
    (
        layout::BLOCKS + layout::BLOCK_SIZE,
        (layout::PROCESSORS - 1) * layout::BLOCK_SIZE,
    ),
];

/// Clears the guest's pages and writes what is the same in every test.
pub(super) fn prepare(shared_bit: u64) {
    for (gpa, size) in ADDED {
        memory::zero(gpa, size);
    }
    memory::write(layout::CODE, firmware::code());
    write_page_tables(shared_bit);
    write_descriptor_tables();
}

/// Builds the TD around the prepared pages.
pub(super) fn build(host: &mut Host) -> Result<(), String> {
    let refused =
        |status: tdx_defs::status::Status| format!("building the TD: refused with {:#x}", status.0);
    let parameters = build::parameters(&host.options);
    let (module, hardware) = (&mut host.module, &mut host.hardware);
    module
        .tdh_mng_init(hardware, &parameters)
        .map_err(refused)?;
    for (start, size) in ADDED {
        for gpa in (start..start + size).step_by(PAGE_4K as usize) {
            module
                .tdh_mem_page_add(hardware, gpa, gpa, gpa)
                .map_err(refused)?;
            host.memory.added(gpa, gpa);
        }
    }
    let exhausted = |error| format!("building the TD: {error}");
    let reset = host.memory.take_frames(PAGE_4K).map_err(exhausted)?;
    memory::write(reset, &reset_page());
    module
        .tdh_mem_page_add(hardware, layout::RESET, reset, reset)
        .map_err(refused)?;
    host.memory.added(layout::RESET, reset);
    for _ in 0..host.options.vcpus {
        module.tdh_vp_init(hardware, 0).map_err(refused)?;
    }
    module.tdh_mr_finalize().map_err(refused)?;
    host.memory.augment_all(module, hardware).map_err(exhausted)
}

/// The page with the reset vector, which jumps to the code at the page's start.
fn reset_page() -> Vec<u8> {
    let mut page = Vec::from([0; PAGE_4K as usize]);
    let code = firmware::reset();
    page[..code.len()].copy_from_slice(code);
    // JMP rel32 from 0xFF0.
    page[0xFF0] = 0xE9;
    page[0xFF1..0xFF5].copy_from_slice(&(-0xFF5_i32).to_le_bytes());
    page
}

fn write_page_tables(shared_bit: u64) {
    let table = |index: u64| layout::PAGE_TABLES + index * PAGE_4K;
    put(table(0), table(1) | PRESENT_WRITABLE_USER);
    for gib in 0..4 {
        put(table(1) + gib * 8, table(2 + gib) | PRESENT_WRITABLE_USER);
        for index in 0..512 {
            let address = gib << 30 | index << 21;
            put(
                table(2 + gib) + index * 8,
                address | LARGE | PRESENT_WRITABLE_USER,
            );
        }
    }
    // The fifth GiB of the address space is the first again, shared.
    put(table(1) + 4 * 8, table(6) | PRESENT_WRITABLE_USER);
    for index in 0..512 {
        put(
            table(6) + index * 8,
            index << 21 | shared_bit | LARGE | PRESENT_WRITABLE_USER,
        );
    }
}

fn write_descriptor_tables() {
    const SEGMENTS: [u64; 5] = [
        0,
        0x00AF_9B00_0000_FFFF,
        0x00CF_9300_0000_FFFF,
        0x00CF_F300_0000_FFFF,
        0x00AF_FB00_0000_FFFF,
    ];
    for (index, descriptor) in (0..).zip(SEGMENTS) {
        put(layout::GDT + 8 * index, descriptor);
    }
    for processor in 0..layout::PROCESSORS {
        let block = Block::of(processor);
        let tss = layout::TSS + block.offset;
        let descriptor = layout::GDT + 8 * SEGMENTS.len() as u64 + 16 * processor;
        let low = 0x67 | (tss & 0xFF_FFFF) << 16 | 0x89 << 40 | (tss >> 24 & 0xFF) << 56;
        put(descriptor, low);
        put(descriptor + 8, tss >> 32);
        // TSS: RSP0 at 4, IST1 at 36 (unaligned quadwords).
        put(tss + 4, block.trap_stack_top);
        put(tss + 36, block.trap_stack_top);
        put(layout::STACK + block.offset, block.stack_top);
        put(layout::INDEX + block.offset, processor);
        put(layout::CURRENT + block.offset, block.records);
    }
    for vector in 0..256 {
        let handler = firmware::stubs() + vector * 16;
        let gate =
            handler & 0xFFFF | 8 << 16 | 1 << 32 | 0x8E << 40 | (handler >> 16 & 0xFFFF) << 48;
        put(layout::IDT + vector * 16, gate);
        put(layout::IDT + vector * 16 + 8, handler >> 32);
    }
    const GDT_LIMIT: u64 = layout::TSS - layout::GDT - 1;
    put(layout::GDT_POINTER, GDT_LIMIT | layout::GDT << 16);
    put(layout::IDT_POINTER, 0xFFF | layout::IDT << 16);
}
