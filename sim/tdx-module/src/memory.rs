//! The TD's memory by guest physical address, and by linear address of a VM.

use crate::module::Module;
use crate::paging::LinearSpace;
use crate::platform::{Platform, Vm};
use x86_defs::paging::PAGE_4K;

impl Module {
    /// The machine address behind a private or shared GPA that L1 may use now.
    pub(crate) fn machine_address<P: Platform>(&self, platform: &mut P, gpa: u64) -> Option<u64> {
        if !self.td.is_gpa(gpa) {
            return None;
        }
        if !self.td.is_shared(gpa) {
            return self.td.sept.mapped(gpa);
        }
        let gpa = gpa & !self.td.gpaw().shared_bit();
        let page = platform.shared_page(gpa & !(PAGE_4K - 1))?;
        Some(page + gpa % PAGE_4K)
    }

    /// L1's linear addresses.
    pub(crate) fn l1_space<'a, P: Platform>(&'a self, platform: &'a mut P) -> LinearSpace<'a, P> {
        LinearSpace {
            vm: Vm::L1,
            platform,
            sept: &self.td.sept,
        }
    }
}
