//! The L1 image: what td-shim starts.
//!
//! Everything that needs the machine is here: [`arch`] (entry, page tables, handlers, state
//! switch, raw memory), [`crt`] (the C library of the TPM engine), [`heap`], the log and the fatal
//! path. What L1 decides is in the library of this crate, which this file puts together with the
//! machine.
#![no_std]
#![no_main]
#![deny(clippy::unwrap_used, clippy::expect_used)]

extern crate alloc;
// `memcpy` and its kin.
extern crate freestanding as _;

mod arch;
mod crt;
mod debug_port;
mod fatal;
mod heap;

use arch::{clock, image, memory, paging, random, td, thread};
use fatal::{FatalCode, OrFatal, fatal};
use l1_vmm::launch::gpa_range::GpaRange;
use l1_vmm::launch::plan::{MemoryPlan, PlanRequest};
use tdcall::field::FieldId;

/// Memory that L1 takes out of the RAM below 4 GiB: the buffer that it shares with the host, one
/// 2 MiB page of the secure EPT. All else is in the image.
const L1_REGION: u64 = 0x20_0000;

/// Called by the entry code with td-shim's HOB list, on L1's stack.
extern "sysv64" fn l1_main(hob: u64) -> ! {
    arch::start();
    debug_port::start();
    heap::start();
    let base = image::start();
    log::info!("l1-vmm {} at {base:#x}", env!("CARGO_PKG_VERSION"));

    random::start().or_fatal(FatalCode::Entropy);
    thread::start().or_fatal(FatalCode::Entropy);
    let info = td().vp_info().or_fatal(FatalCode::Configuration);
    let frequency = clock::start().or_fatal(FatalCode::Configuration);
    let vms = td().vm_rd(FieldId::NUM_L2_VMS).or_fatal(FatalCode::Configuration);
    if vms == 0 {
        fatal(
            FatalCode::Configuration,
            format_args!("this TD has no L2 VM: it must be created with NUM_L2_VMS of 1 or more"),
        );
    }
    let gpaw = info.gpaw;
    log::info!(
        "TD: {} address bits, {vms} L2 VMs, TSC {} MHz, attributes {:#x}",
        gpaw.bits(),
        frequency / 1_000_000,
        info.attributes.into_bits()
    );

    // SAFETY: `hob` is what td-shim passed; nothing of L1's is there.
    let hobs = unsafe { memory::payload_hobs(hob) }.or_fatal(FatalCode::Configuration);
    let event_log = hobs.event_log.map_or(GpaRange::EMPTY, |log| log.range);
    let plan = MemoryPlan::new(&PlanRequest {
        e820: &hobs.e820,
        gpaw,
        l1_in_use: &[image::range(), hobs.range, event_log],
        l1_region_length: L1_REGION,
    })
    .or_fatal(FatalCode::Configuration);
    let region = plan.l1_region();
    let all = hobs.e820.entries().map(|entry| entry.range);
    let tables = paging::start(all, region, gpaw.shared_bit()).or_fatal(FatalCode::Configuration);
    // SAFETY: the page tables have just been made so; the region is new and of no other use.
    let bounce = unsafe { memory::Bounce::share(region, gpaw.shared_bit()) }
        .or_fatal(FatalCode::Configuration);
    log::info!(
        "memory: {} MiB for L2, L1 at {}, {tables} page tables",
        plan.l2().length() >> 20,
        image::range()
    );
    let _ = bounce;
    fatal(FatalCode::Launch, format_args!("there is nothing to launch"))
}
