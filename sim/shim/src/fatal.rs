//! The one way the shim ends other than by calling the payload.

use tdcall::{Td, hw::Hw};

/// Why the payload cannot be started; reported to the host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fatal(pub(crate) &'static str);

impl Fatal {
    /// Tells the host by `TDVMCALL<ReportFatalError>` and stops for good.
    pub(crate) fn report(self, td: &Td<Hw>) -> ! {
        loop {
            td.report_fatal_error(0, self.0);
            let _ = td.hlt(true);
        }
    }
}
