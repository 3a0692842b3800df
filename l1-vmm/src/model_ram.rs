//! L2's memory on the model of the TDX module, for tests.

use crate::run::environment::{L2Memory, Owner};
use l2_exit::{GuestMemory, GuestPages, MemoryError, load_copied, store_copied};
use tdx_module::test_platform::ModelTdcall;

/// L2 has the memory from 0 on, and L1 the rest of it.
pub(crate) struct ModelRam {
    /// The TD.
    pub(crate) model: ModelTdcall,
    /// Where L1's memory begins.
    pub(crate) l1_start: u64,
    /// Where memory ends.
    pub(crate) end: u64,
}

impl GuestMemory for ModelRam {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        if !self.is_l2(gpa, into.len() as u64) {
            return Err(MemoryError { gpa });
        }
        self.model.read(gpa, into);
        Ok(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
        if !self.is_l2(gpa, from.len() as u64) {
            return Err(MemoryError { gpa });
        }
        self.model.write(gpa, from);
        Ok(())
    }
}

impl GuestPages for ModelRam {
    type Page = u64;

    fn page(&self, gpa: u64) -> Option<u64> {
        self.is_l2(gpa, 0x1000).then_some(gpa)
    }

    fn load(&self, page: u64, offset: u16, width: u8) -> Option<u64> {
        load_copied(self, page, offset, width)
    }

    fn store(&self, page: u64, offset: u16, width: u8, value: u64) -> Option<()> {
        store_copied(self, page, offset, width, value)
    }
}

impl L2Memory for ModelRam {
    fn owner(&self, gpa: u64) -> Owner {
        match gpa {
            _ if gpa < self.l1_start => Owner::L2,
            _ if gpa < self.end => Owner::L1,
            _ => Owner::Nobody,
        }
    }

    fn is_l2(&self, gpa: u64, length: u64) -> bool {
        gpa.checked_add(length)
            .is_some_and(|end| end <= self.l1_start)
    }
}
