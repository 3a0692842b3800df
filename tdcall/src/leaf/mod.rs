//! The TDG.* leaves, one file a family: [`Td`](crate::Td) methods and their error types.

mod enter;
mod info;
mod key;
mod measurement;
mod metadata;
mod page;
mod page_attributes;
mod tlb;
mod virtualization_exception;

pub use enter::VpEnterError;
pub use info::{VpInfo, VpInfoError};
pub use key::KeyGetError;
pub use measurement::{ReportError, RtmrExtendError, VerifyReportError};
pub use metadata::{FieldList, FieldValue, MetadataError};
pub use page::AcceptError;
pub use page_attributes::{PageAttrError, PageAttributes};
pub use tlb::{GlaList, GlaPages, TlbError, VmSet};
pub use virtualization_exception::{CpuidVe, CpuidVeError, VeInfo, VeInfoError};

#[cfg(test)]
mod tests;
