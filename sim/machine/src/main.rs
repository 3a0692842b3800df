//! The simulator: a TDX platform on QEMU TCG.
//!
//! The program is what lies below a TD: it runs the simulated TDX module (`tdx-module`) on AMD's
//! SVM and nested paging, which stand in for VMX and EPT, and plays the untrusted host VMM, which
//! builds the TD from a firmware image's TDX metadata and answers its TDVMCALLs. Nothing in the TD
//! can tell but by the figures the program prints.
//!
//! * [`arch`], [`svm`]: the bare machine and its virtual machines.
//! * [`hardware`]: both as the module's platform.
//! * [`host`]: the host VMM.
//! * [`micro`]: small guests that test the module on this platform.
#![allow(unsafe_code, reason = "a program on bare metal")]
#![no_std]
#![no_main]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a simulator: a wrong index ends a test"
)]

extern crate alloc;
extern crate freestanding;

mod arch;
mod console;
mod hardware;
mod heap;
mod host;
mod json;
mod micro;
mod options;
mod pack;
mod profile;
mod svm;

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use sha2::Digest;

use arch::memory::{POOL_END, POOL_START};
use arch::pvh::BootInformation;
use console::say;
use hardware::Hardware;
use host::memory::Frames;
use host::{FwCfg, Host};
use json::Object;
use options::Options;
use pack::Pack;

unsafe extern "C" {
    /// The first address behind the image, from the linker script.
    static __image_end: u8;
}

/// The first Rust code, on the boot stack.
pub(crate) extern "sysv64" fn main(start_info: u32) -> ! {
    arch::descriptors::install();
    // SAFETY: what follows the image in the pool is free: QEMU puts the pack at the pool's end.
    let heap_end = unsafe { heap::start(&raw const __image_end as usize) };
    // SAFETY: nothing outside the image and the heap was written yet.
    let boot = unsafe { BootInformation::read(start_info) };
    let ok = match run(&boot, heap_end) {
        Ok(ok) => ok,
        Err(text) => {
            say!("{text}");
            let result = Object::new()
                .text("reason", "setup")
                .flag("ok", false)
                .text("text", &text);
            Object::new().object("result", result).print();
            false
        }
    };
    exit(ok)
}

/// Does what the options ask. `heap_end` is where the free part of the pool starts.
fn run(boot: &BootInformation, heap_end: u64) -> Result<bool, String> {
    // `sha2` looks once for vector instructions, and keeps what it found: let it look while XCR0
    // offers none, because the simulator leaves the guests' upper vector halves in the processor.
    let _ = sha2::Sha384::digest([]);
    let options = Options::parse(&boot.command_line).map_err(|error| alloc::format!("{error}"))?;
    if options.gpaw.bits() == 52 && arch::cpu::paging_levels() < 5 {
        return Err("gpaw=52 needs a processor with five-level paging".into());
    }
    let pool_end = boot.module.as_ref().map_or(POOL_END, |pack| pack.start);
    let frames = Frames::new(heap_end..pool_end.clamp(heap_end, POOL_END));
    // SAFETY: the ranges are RAM by the firmware's word, without the image and the heap.
    unsafe { arch::memory::declare(td_and_host_memory(boot, heap_end)) };
    arch::cpu::enable_xsave();
    arch::interrupts::start();
    let mut hardware = Hardware::start(options.gpaw.shared_bit(), options.cpuid);
    if options.threads {
        hardware.start_runners(options.vcpus.into());
    }

    if let Some(test) = &options.test {
        return Ok(micro::run(test, &options, frames, hardware));
    }
    let range = boot
        .module
        .clone()
        .ok_or("there is no pack: start QEMU with -initrd")?;
    // SAFETY: QEMU put the pack there; it is not among the frames and not the TD's.
    let bytes = unsafe { arch::memory::frozen(range) };
    let pack = Pack::new(bytes).ok_or("the -initrd file is no pack")?;
    let fw_cfg = FwCfg::new(&pack, &options);
    let mut host = Host::new(options, fw_cfg, frames, hardware)?;
    host.build(&pack)?;
    let end = host.run();
    Ok(host.conclude(&end))
}

/// RAM that is not this program's: below its image, the pool behind the heap, and above 4 GiB.
fn td_and_host_memory(boot: &BootInformation, heap_end: u64) -> Vec<Range<u64>> {
    let low_end = boot
        .ram
        .iter()
        .filter(|range| range.start < POOL_START)
        .map(|range| range.end.min(POOL_START))
        .max()
        .unwrap_or(0);
    let mut memory = Vec::from([0..low_end, heap_end..POOL_END]);
    memory.extend(
        boot.ram
            .iter()
            .filter(|range| range.start >= 1 << 32)
            .cloned(),
    );
    memory
}

/// Ends the run: QEMU's exit status is 1 for success, 3 for failure.
pub(crate) fn exit(ok: bool) -> ! {
    arch::port::Port::DEBUG_EXIT.write8(if ok { 0 } else { 1 });
    loop {
        arch::interrupts::wait();
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    say!("the simulator failed: {info}");
    console::plain("@{\"result\":{\"reason\":\"panic\",\"ok\":false}}");
    exit(false)
}
