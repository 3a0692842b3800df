//! L1's side of the TD: its own [`LaunchedTd`] over the model of the TDX module.

use l1_vmm::launch::GpaRange;
use l1_vmm::launch::boot::CC_LOG_LENGTH;
use l1_vmm::shared_buffer::Part;
use l1_vmm::trust_domain::{LaunchedTd, Parts, QuoteBuffer};
use l2_exit::{GuestMemory, MemoryError};
use tdcall::Td;
use tdx_module::test_platform::{ModelPage, ModelShared, ModelTdcall};

use crate::quoting_host::QuotingHost;
use crate::turn;

/// The page for operands of TDCALLs.
const OPERANDS: u64 = 0x1000;
/// L2's copy of the CC event log.
const LOG_COPY: u64 = 0x10_0000;
/// The memory shared with the host.
const SHARED: u64 = 0x30_0000;
const SHARED_LENGTH: usize = 0x8000;
const SHARED_BIT: u64 = 1 << 47;

/// What L2 finds in the area that the CCEL table names.
pub(crate) fn cc_log_area(model: &ModelTdcall) -> Vec<u8> {
    let mut area = vec![0; CC_LOG_LENGTH as usize];
    model.read(LOG_COPY, &mut area);
    area
}

/// What speaks for the TD to the vTPM.
pub type Domain = LaunchedTd<ModelTdcall, ModelPage, Part<ModelShared>, L2Ram>;

fn log_copy() -> GpaRange {
    GpaRange::with_length(LOG_COPY, CC_LOG_LENGTH).expect("a range")
}

/// L2's memory, of which L1 writes the copy of the log.
pub struct L2Ram(ModelTdcall);

/// L1's access to the TD that `model` runs, with `host` outside.
pub(crate) fn domain(model: ModelTdcall, host: QuotingHost) -> Domain {
    let mut earlier = 0;
    model.set_host(move |module, platform, exit| {
        let input = host.serve(earlier, module, platform, exit);
        earlier += 1;
        input
    });
    let shared = ModelShared::new(&model, SHARED..SHARED + SHARED_LENGTH as u64);
    let buffer = Part::new(shared, 0..SHARED_LENGTH).expect("all of the shared memory");
    LaunchedTd::new(Parts {
        td: Td::new(model.clone()),
        operands: ModelPage::new(&model, OPERANDS),
        quotes: QuoteBuffer::new(buffer, SHARED_BIT).expect("whole pages"),
        memory: L2Ram(model),
        log_copy: log_copy(),
        random: |into| {
            turn::l1_entropy(into);
            Ok(())
        },
        clock: turn::clock,
    })
}

impl GuestMemory for L2Ram {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read(gpa, into);
        Ok(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.0.write(gpa, from);
        Ok(())
    }
}
