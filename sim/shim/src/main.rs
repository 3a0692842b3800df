//! A minimal firmware image with td-shim's contract, so that the simulator runs without td-shim.
//!
//! From the TD's reset state it does what td-shim does for an executable payload, in its order:
//! reads the TDX metadata and the TD HOB, accepts the memory, extends RTMR0 and RTMR1 and logs it,
//! loads the payload's ELF file with its relocations, sends the application processors to the payload's
//! mailbox, and calls the payload with a HOB list. What td-shim has beyond that (work for application
//! processors, secure boot, Linux payloads) is not here: a real td-shim image drops in where this one
//! stands.
#![allow(unsafe_code, reason = "a program on bare metal")]
#![no_std]
#![no_main]
#![allow(
    clippy::indexing_slicing,
    reason = "of the simulator: what it takes apart, the same build has made"
)]

mod event_log;
mod fatal;
mod handoff;
mod memory;
mod payload;
mod ram;
mod reset;

use core::panic::PanicInfo;
// For its symbols: memcpy and its kin.
use fatal::Fatal;
use freestanding as _;
use ram::Ram;
use tdcall::{Td, hw::Hw};
use tdshim_config::layout::{IMAGE_END, IMAGE_SIZE_MAX, Runtime};
use tdshim_config::metadata::{Metadata, SectionKind};

/// Called by the reset code with a stack, in 64-bit mode, on the boot processor.
extern "sysv64" fn shim_main() -> ! {
    // SAFETY: the shim passes only addresses of its own pages, of RAM that it accepted and of
    // buffers on its stack to the TDX module.
    let td = Td::new(unsafe { Hw::new() });
    match launch(&td) {
        Ok(never) => match never {},
        Err(fatal) => fatal.report(&td),
    }
}

fn launch(td: &Td<Hw>) -> Result<core::convert::Infallible, Fatal> {
    // SAFETY: the firmware image and all memory the host reports lie in the identity-mapped lower
    // half, and other processors are in the loops of `reset` until the payload wakes them up.
    let ram = unsafe { Ram::new() };
    let rom = ram.bytes(IMAGE_END - IMAGE_SIZE_MAX, IMAGE_SIZE_MAX as usize);
    let metadata = Metadata::find(rom).map_err(|_| Fatal("the image has no TDX metadata"))?;
    let hob_section = metadata
        .section(SectionKind::TdHob)
        .ok_or(Fatal("the TDX metadata has no TD_HOB section"))?;
    let td_hob = memory::td_hob(&ram, hob_section)?;
    let place = hob_section.address..hob_section.address + td_hob.len() as u64;
    let map = memory::Map::from_hobs(td_hob, place)?;
    let payload_information = payload::information(td_hob)?;
    memory::accept(td, &map)?;

    let layout = map
        .top_of_low_memory()
        .and_then(Runtime::below)
        .ok_or(Fatal("too little memory below 4 GiB for td-shim's layout"))?;
    let mut log = event_log::EventLog::new(&ram, layout.event_log);
    log.measure_td_hob(td, td_hob)?;
    if payload_information {
        // td-shim marks the end of its part before it looks which kind of payload it is, and once more for the payload
        // in its image.
        log.measure_separators(td)?;
    }
    log.measure_separators(td)?;

    let volume = metadata
        .section(SectionKind::Bfv)
        .ok_or(Fatal("the TDX metadata has no BFV section"))?;
    let entry = payload::load(&ram, volume, layout.payload)?;
    let processors = td
        .vp_info()
        .map_err(|_| Fatal("the TDX module does not say how many processors there are"))?
        .num_vcpus;
    let told = handoff::Told {
        ram: &ram,
        map: &map,
        layout: &layout,
        td_hob,
        volume,
        processors,
    };
    handoff::jump(told, entry)
}

/// The shim allocates nothing; a crate below it is linked with `alloc`, which asks for an allocator.
struct NoHeap;

// SAFETY: an allocation always fails, so there is none that could be misused.
unsafe impl core::alloc::GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: core::alloc::Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: core::alloc::Layout) {}
}

#[global_allocator]
static NO_HEAP: NoHeap = NoHeap;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: as in `shim_main`.
    let td = Td::new(unsafe { Hw::new() });
    Fatal("the shim panicked").report(&td)
}
