//! Direct boot of a Linux bzImage by the 64-bit boot protocol.

mod entry;
mod header;
mod place;
mod zero_page;

pub use entry::{DescriptorTable, EntryState};
pub use header::{KernelError, SetupHeader, canonical_setup};
pub use place::{ACPI_LENGTH, EVENT_LOG_LENGTH, Layout, LowMemory, PlaceError};
