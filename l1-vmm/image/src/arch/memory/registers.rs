//! The pages at the addresses of the TPM's registers, where the host gave the TD memory there.

use l1_vmm::launch::firmware_image::TpmWindow;
use vtpm::ptp::register_pages::RegisterPages;

use super::copy_in;

/// Pages that L2 reads, and only reads.
pub(crate) struct TpmPages(());

impl TpmPages {
    /// Access to the pages.
    ///
    /// # Safety
    /// 1: L1's page tables map [`TpmWindow::range`] writable to itself, and the TD has private pages there; 2: no object of
    /// L1's is in them.
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

impl RegisterPages for TpmPages {
    fn show(&mut self, offset: u32, bytes: &[u8]) {
        let window = TpmWindow::range();
        let start = window.start() + u64::from(offset);
        if start + bytes.len() as u64 <= window.end() {
            // SAFETY: in the window, so mapped and no object of L1's (contract of `new`).
            unsafe { copy_in(start, bytes) };
        }
    }
}
