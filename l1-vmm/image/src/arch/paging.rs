//! L1's own address space.
//!
//! Everything is mapped to its own address: the image by its sections (code read and execute,
//! constants and the page tables themselves read, the rest read and write, guard pages not at all), RAM
//! and what td-shim handed over read and write without execute, so the addresses of the TPM's registers, where there may be
//! private pages; the firmware image read-only. Shared
//! memory has an alias at [`SHARED_WINDOW`], because the address with the SHARED bit is no canonical
//! linear address; so has the RAM at the addresses of null pointers ([`l1_vmm::paging::linear`]).

use core::arch::x86_64::__cpuid;
use core::slice;
use core::sync::atomic::{AtomicBool, Ordering};

use l1_vmm::launch::firmware_image::TpmWindow;
use l1_vmm::launch::gpa_range::GpaRange;
use l1_vmm::paging::{ALIASES, Access, PageTable, PageTables, PagingError};

use super::image;
use tdshim_config::layout::Runtime;
use x86_defs::paging::ADDRESS;

use crate::fatal::{FatalCode, fatal};

/// Where shared memory is mapped; the address without the SHARED bit is added.
pub(crate) const SHARED_WINDOW: u64 = ALIASES;

/// The firmware image of td-shim: the last 16 MiB below 4 GiB.
const FIRMWARE: (u64, u64) = (0xFF00_0000, 0x100_0000);

/// Whether [`start`] has the memory of the page tables.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The page tables that are in use: td-shim's before [`start`], which processors that still wait in td-shim have for as
/// long as they do.
pub(crate) fn current() -> GpaRange {
    // SAFETY: reading CR3 changes nothing.
    let root = unsafe { x86::controlregs::cr3() } & ADDRESS;
    GpaRange::with_length(root, Runtime::PAGE_TABLES_SIZE).unwrap_or(GpaRange::EMPTY)
}

/// Replaces td-shim's page tables, once. `memory` is what shall be mapped besides the image and the firmware;
/// `shared` is a range of it that is mapped with `shared_bit` instead, and nowhere else.
pub(crate) fn start(
    memory: impl Iterator<Item = GpaRange>,
    shared: GpaRange,
    shared_bit: u64,
) -> Result<usize, PagingError> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        fatal(
            FatalCode::Configuration,
            format_args!("L1 has its page tables already"),
        );
    }
    let pool_start = image::page_tables_start();
    let count = (image::page_tables_end() - pool_start) as usize / size_of::<PageTable>();
    // SAFETY: this part of the image is page-aligned, as long as that, and for nothing else; any bytes
    // are a valid `PageTable`. Taken once.
    let pool = unsafe { slice::from_raw_parts_mut(pool_start as *mut PageTable, count) };
    let gigabyte_pages = __cpuid(0x8000_0001).edx & 1 << 26 != 0;
    let mut tables = PageTables::new(pool, pool_start, gigabyte_pages)?;

    let guards = image::guard_pages().unwrap_or_else(|| {
        fatal(
            FatalCode::Configuration,
            format_args!("the linker script has other stacks than the program"),
        )
    });
    for guard in guards {
        tables.map_identity(guard.start(), guard.length(), Access::None)?;
    }
    let start = image::start();
    let text = image::text_end() - start;
    let constant = image::constant_end() - image::text_end();
    let rest = image::end() - image::constant_end();
    tables.map_identity(start, text, Access::ReadExecute)?;
    tables.map_identity(image::text_end(), constant, Access::Read)?;
    // CR0.WP is set (`extended_state`): once these tables are in use, nothing changes them.
    let pool_length = image::page_tables_end() - pool_start;
    tables.map_identity(pool_start, pool_length, Access::Read)?;
    tables.map_identity(image::constant_end(), rest, Access::ReadWrite)?;
    tables.map_identity(FIRMWARE.0, FIRMWARE.1, Access::Read)?;
    let registers = TpmWindow::range();
    tables.map_identity(registers.start(), registers.length(), Access::ReadWrite)?;
    tables.map_identity(shared.start(), shared.length(), Access::None)?;
    for range in memory {
        let pages = range.align_outward(0x1000);
        tables.map_ram(pages.start(), pages.length())?;
    }
    tables.map_alias(
        shared.start(),
        shared_bit | shared.start(),
        shared.length(),
        Access::ReadWrite,
    )?;
    // SAFETY: the tables map the running code, its stack, tables and data at the same addresses
    // as before; EFER.NXE is set in every TD.
    unsafe { x86::controlregs::cr3_write(tables.root()) };
    Ok(tables.used())
}
