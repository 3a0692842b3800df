//! What an L2 and the host choose of an exit, whose every choice is a byte of an input: instructions with page tables and
//! registers, the arguments of TDCALLs, the information of exits. Whatever the bytes: nothing panics, every access is one that
//! memory and devices are promised, and what is executed ahead is what is executed at an exit.
//!
//! The fuzz targets beside this file and `tests/any_input.rs` call the same functions.

mod exits;
#[allow(
    dead_code,
    reason = "shared with the fuzz targets of the queues, which use all of it"
)]
#[path = "../../../l1-vmm/fuzz/src/input.rs"]
mod input;
mod instructions;
mod machine;

pub use exits::{exit_information, tdvmcall_arguments};
pub use instructions::instructions;
