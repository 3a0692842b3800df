//! Everything L1 does before the guest runs.
//!
//! The image's main calls these in order. The first three need no heap: only the plan says where
//! the heap can be. Before all of them [`processors::check`] looks for processors that L1 does not
//! run.
//!
//! 1. [`payload_hob::list_length`] on the hand-off HOB, then [`PayloadHobs::parse`] on the list:
//!    memory map, event log, firmware volume, and in [`wakeup`] where the other processors wait.
//! 2. [`firmware_image::tpm_window`]: whether the image asked for private pages at the TPM's
//!    window.
//! 3. [`MemoryPlan::new`]: L1's own region (heap, stacks, page tables, guest-state and VAPIC pages,
//!    bounce buffer) and L2's memory. Then main switches to its own page tables and brings the heap
//!    up.
//! 4. [`give()`] for each [`MemoryPlan::grants`]: L2's access to its pages.
//! 5. MapGPA of the bounce buffer, once, by main; [`FwCfg::open`](fw_cfg::FwCfg::open).
//! 6. [`load()`]: kernel, initrd and command line from the host into L2's memory, measured as they
//!    pass; boot structures and ACPI tables. [`LoadedGuest::image`] is what to log and to measure,
//!    [`LoadedGuest::entry`] what L2's processor starts with.
//!
//! 7. [`hand_off::check`]: td-shim has started L1, and nothing before it; what is measured from here
//!    on is L1's.
//! 8. [`options`]: what else the host may choose. [`tcg_log`]: what the TPM has measured, for L2.
//!
//! Each error is one line that names what is wrong; every one of them ends the launch.
//!
//! What is not here: TDCALLs that set up L2's virtual processor, and devices.

pub mod acpi;
pub mod boot;
pub mod configuration;
pub mod e820;
pub mod firmware_image;
pub mod fw_cfg;
pub mod give;
pub mod gpa_range;
pub mod guest_page;
pub mod hand_off;
pub mod image;
pub mod load;
pub mod module;
pub mod options;
pub mod payload_hob;
pub mod plan;
pub mod processors;
pub mod stopwatch;
pub mod tcg_log;
pub mod unlock;
pub mod wakeup;

pub use give::give;
pub use gpa_range::{GpaRange, GpaRanges};
pub use image::LaunchedImage;
pub use load::{Choices, LoadedGuest, load};
pub use payload_hob::PayloadHobs;
pub use plan::{Grant, MemoryPlan, PlanRequest};
