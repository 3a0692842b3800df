//! L1's side of the TD: its own [`LaunchedTd`] over the model of the TDX module.

use std::rc::Rc;

use l1_vmm::launch::GpaRange;
use l1_vmm::shared_buffer::Part;
use l1_vmm::trust_domain::{LaunchedTd, Parts, QuoteBuffer};
use l2_exit::{GuestMemory, MemoryError};
use tdcall::{OperandPage, RawTdcall, SharedBuffer, Td};
use tdx_defs::{Gpa, Registers};
use tdx_module::test_platform::{ModelTdcall, SHARED_MEMORY};

use crate::quoting_host::QuotingHost;
use crate::turn;

/// The page for operands of TDCALLs.
const OPERANDS: u64 = 0x1000;
/// L2's copy of the CC event log.
const LOG_COPY: u64 = 0x10_0000;
const LOG_COPY_LENGTH: u64 = 0x1_0000;
/// The memory shared with the host.
const SHARED: u64 = 0x20_0000;
const SHARED_LENGTH: usize = 0x8000;
const SHARED_BIT: u64 = 1 << 47;

/// What speaks for the TD to the vTPM.
pub type Domain = LaunchedTd<Model, Model, Part<Model>, Model>;

/// The model, as everything that L1 reaches through it.
#[derive(Clone)]
pub struct Model(Rc<ModelTdcall>);

/// L1's access to the TD that `model` runs, with `host` outside.
pub(crate) fn domain(model: ModelTdcall, host: QuotingHost) -> Domain {
    let mut earlier = 0;
    model.set_host(move |module, platform, exit| {
        let input = host.serve(earlier, module, platform, exit);
        earlier += 1;
        input
    });
    let model = Model(Rc::new(model));
    for page in (SHARED..).step_by(0x1000).take(SHARED_LENGTH / 0x1000) {
        model.0.share(page);
    }
    let buffer = Part::new(model.clone(), 0..SHARED_LENGTH).expect("all of the shared memory");
    LaunchedTd::new(Parts {
        td: Td::new(model.clone()),
        operands: model.clone(),
        quotes: QuoteBuffer::new(buffer, SHARED_BIT).expect("whole pages"),
        memory: model,
        log_copy: GpaRange::with_length(LOG_COPY, LOG_COPY_LENGTH).expect("a range"),
        random: |into| {
            turn::l1_entropy(into);
            Ok(())
        },
        clock: turn::clock,
    })
}

impl RawTdcall for Model {
    fn tdcall(&self, registers: &mut Registers) {
        self.0.tdcall(registers);
    }
}

impl OperandPage for Model {
    fn gpa(&self) -> Gpa {
        Gpa(OPERANDS)
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.0.read(OPERANDS + offset as u64, into);
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        self.0.write(OPERANDS + offset as u64, from);
    }
}

impl SharedBuffer for Model {
    fn gpa(&self) -> u64 {
        SHARED
    }

    fn length(&self) -> usize {
        SHARED_LENGTH
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.0.read(SHARED_MEMORY + SHARED + offset as u64, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.0.write(SHARED_MEMORY + SHARED + offset as u64, from);
    }
}

impl GuestMemory for Model {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read(gpa, into);
        Ok(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.0.write(gpa, from);
        Ok(())
    }
}
