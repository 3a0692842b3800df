//! Everything L1 does before the guest runs.

pub mod boot;
pub mod e820;
pub mod firmware_image;
pub mod gpa_range;
pub mod payload_hob;
pub mod plan;
