//! The TPM2 table (*TCG ACPI Specification* 1.4, section 8).

/// Start method: the memory-mapped FIFO interface.
pub const START_METHOD_MEMORY_MAPPED: u32 = 6;
/// Start method of the TPM2 table: the CRB interface.
pub const START_METHOD_CRB: u32 = 7;
