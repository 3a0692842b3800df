//! The TD's memory by guest physical address.

use crate::module::Module;
use crate::platform::Platform;

/// The GPA has no page that the guest may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unmapped;

const PAGE: u64 = 0x1000;

impl Module {
    /// The machine address behind a private or shared GPA that L1 may use.
    pub(crate) fn machine_address<P: Platform>(
        &self,
        platform: &mut P,
        gpa: u64,
    ) -> Result<u64, Unmapped> {
        if !self.td.is_gpa(gpa) {
            return Err(Unmapped);
        }
        if !self.td.is_shared(gpa) {
            return self.td.sept.mapped(gpa).ok_or(Unmapped);
        }
        let gpa = gpa & !self.td.gpaw().shared_bit();
        platform
            .shared_page(gpa & !(PAGE - 1))
            .map(|page| page + gpa % PAGE)
            .ok_or(Unmapped)
    }

    /// Reads guest memory; the range may cross pages.
    pub(crate) fn read_guest<P: Platform>(
        &self,
        platform: &mut P,
        mut gpa: u64,
        mut into: &mut [u8],
    ) -> Result<(), Unmapped> {
        while !into.is_empty() {
            let in_page = (PAGE - gpa % PAGE) as usize;
            let (now, later) = into.split_at_mut(into.len().min(in_page));
            let hpa = self.machine_address(platform, gpa)?;
            platform.read(hpa, now);
            gpa += now.len() as u64;
            into = later;
        }
        Ok(())
    }
}
