//! The TD's registers and event log, as L1 takes them over from td-shim.

use alloc::vec::Vec;

use l1_vmm::launch::boot::CC_LOG_CAPACITY;
use l1_vmm::launch::{GpaRange, PayloadHobs, hand_off};
use l1_vmm::paging::linear;
use l1_vmm::shared_buffer::Part;
use l1_vmm::trust_domain::{LaunchedTd, Parts, QuoteBuffer};
use tdx_defs::report::TdReport;
use vtpm::TrustDomain;
use vtpm::log::MeasurementLog;
use zerocopy::FromBytes;

use crate::arch::memory::{self, Bounce, L2Ram, Operands};
use crate::arch::{Instruction, clock, image, random, td};
use crate::fatal::{FatalCode, OrFatal, fatal};

/// The TD that this image runs in.
pub(crate) type Domain = LaunchedTd<Instruction, Operands, Part<Bounce>, L2Ram>;

/// What speaks for the TD. `quotes` is shared memory for quotes and nothing else, `log_copy` L2's
/// memory for its copy of the event log.
pub(crate) fn domain(
    quotes: Part<Bounce>,
    shared_bit: u64,
    memory: L2Ram,
    log_copy: GpaRange,
) -> Domain {
    LaunchedTd::new(Parts {
        td: td(),
        operands: Operands::new(),
        quotes: QuoteBuffer::new(quotes, shared_bit).or_fatal(FatalCode::Configuration),
        memory,
        log_copy,
        random: random::fill,
        clock: clock::nanoseconds,
    })
}

/// td-shim's event log, to be continued, if td-shim has started L1 and nothing before it.
pub(crate) fn event_log(hobs: &PayloadHobs, domain: &mut Domain) -> MeasurementLog {
    let firmware = firmware_log(hobs);
    let report = domain.report(&[0; 64]).or_fatal(FatalCode::Configuration);
    let registers = TdReport::ref_from_bytes(report.as_slice())
        .map(|report| report.td_info.rtmr)
        .map_err(|_| "the TDX module's report has another size")
        .or_fatal(FatalCode::Configuration);
    hand_off::check(firmware.as_deref(), &registers).or_fatal(FatalCode::Configuration);
    let log = MeasurementLog::continuing(firmware.as_deref(), CC_LOG_CAPACITY)
        .or_fatal(FatalCode::Configuration);
    let length = log.bytes().len();
    log::info!("event log: {length} bytes of td-shim, room for {CC_LOG_CAPACITY}");
    log
}

fn firmware_log(hobs: &PayloadHobs) -> Option<Vec<u8>> {
    let area = hobs.event_log?.range;
    let in_memory = hobs
        .e820
        .entries()
        .any(|entry| entry.range.intersection(&area) == area);
    let (address, _) = linear(area.start());
    if !in_memory || address != area.start() || area.overlaps(&image::range()) {
        fatal(
            FatalCode::Configuration,
            format_args!("td-shim's event log at {area} is not in memory of its own"),
        );
    }
    // SAFETY: `address_space` mapped every E820 range where `linear` says, which is here the same
    // address, and the memory plan took the area for L1's, whose only objects are in the image.
    Some(unsafe { memory::event_log(area, CC_LOG_CAPACITY) })
}
