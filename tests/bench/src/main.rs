//! A simulated TDX platform on QEMU TCG.
//!
//! The program is what lies below a TD: it runs the simulated TDX module (`tdx-module`) on AMD's
//! SVM and nested paging, which stand in for VMX and EPT, and plays the untrusted host VMM, which
//! builds the TD from a firmware image's TDX metadata and answers its TDVMCALLs. Nothing in the TD
//! can tell but by the figures the program prints.
//!
//! * [`arch`]: the bare machine.
//! * [`svm`]: virtual machines.
//! * [`host`]: the host VMM.
//! * [`micro`]: small guests that test the module on this platform.
#![no_std]
#![no_main]

extern crate alloc;
extern crate freestanding;

mod arch;
mod console;
mod hardware;
mod heap;
mod profile;
mod svm;

use arch::pvh::BootInformation;
use console::say;

unsafe extern "C" {
    /// The first address behind the image, from the linker script.
    static __image_end: u8;
}

/// The first Rust code, on the boot stack.
pub(crate) extern "sysv64" fn main(start_info: u32) -> ! {
    arch::descriptors::install();
    // SAFETY: what follows the image in the pool is free: QEMU puts the pack at the pool's end.
    let _pool = unsafe { heap::start(&raw const __image_end as usize) };
    // SAFETY: nothing outside the image and the heap was written yet.
    let boot = unsafe { BootInformation::read(start_info) };
    say!("{boot:x?}");
    say!("{} levels", arch::cpu::paging_levels());
    arch::interrupts::start();
    arch::cpu::enable_xsave();
    let mut hw = hardware::Hardware::start(1 << 51);
    say!("hello {}", hw.profile.entry_cost());
    exit(true)
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
    say!("the bench failed: {info}");
    exit(false)
}
