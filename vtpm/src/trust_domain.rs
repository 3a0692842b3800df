//! What the TPM needs of the trust domain that it runs in.

use alloc::{boxed::Box, vec::Vec};

/// The TDX module refused a call that measurement needs.
///
/// The vTPM must not go on as if it had been measured: a failed extend puts it into failure mode, a
/// failed report or random draw fails the request that needed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustDomainError {
    /// TDG.MR.RTMR.EXTEND did not extend the register.
    #[error("RTMR {0} could not be extended")]
    Extend(u8),
    /// TDG.MR.REPORT made no report.
    #[error("the TDX module made no TDREPORT")]
    Report,
    /// The CPU gave no random number.
    #[error("no random numbers")]
    Random,
}

/// Why there is no TD quote. Reports still work, and the next request asks for a quote again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// The host has no quoting service: it refused TDG.VP.VMCALL&lt;GetQuote&gt;.
    #[error("the host has no quoting service")]
    NoService,
    /// The quoting service said that it failed.
    #[error("the quoting service failed")]
    Failed,
    /// What the host answered is no answer: a status that GHCI does not define, or a length beyond the buffer.
    #[error("the host's answer to GetQuote is malformed")]
    Malformed,
}

/// How far the quote that was asked for last is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuoteStatus {
    /// None was asked for, or its end has been reported.
    Idle,
    /// The host has not answered yet.
    InFlight,
    /// The host's answer, unchecked. Reported once.
    Ready(Vec<u8>),
    /// There will be no quote. Reported once.
    Failed(QuoteError),
}

/// The trust domain: its measurement registers, its reports, and the host's quoting service.
///
/// Nothing here may wait for the host.
pub trait TrustDomain {
    /// TDG.MR.RTMR.EXTEND: RTMR `rtmr` (0 to 3) becomes SHA-384(its value ‖ `digest`).
    fn extend_rtmr(&mut self, rtmr: u8, digest: &[u8; 48]) -> Result<(), TrustDomainError>;

    /// TDG.MR.REPORT: a TDREPORT_STRUCT with `data` as its REPORTDATA.
    fn report(&mut self, data: &[u8; 64]) -> Result<Box<[u8; 1024]>, TrustDomainError>;

    /// TDG.VP.VMCALL&lt;GetQuote&gt; for `report`. At most one quote is in flight: as long as
    /// [`poll_quote`](Self::poll_quote) says so, no other may be asked for (`Failed`).
    fn start_quote(&mut self, report: &[u8; 1024]) -> Result<(), QuoteError>;

    /// Looks for the host's answer.
    fn poll_quote(&mut self) -> QuoteStatus;

    /// Fills `into` with random bytes that the host does not know.
    fn random(&mut self, into: &mut [u8]) -> Result<(), TrustDomainError>;

    /// Nanoseconds since some moment before L2 ran. Never goes back.
    fn now(&self) -> u64;

    /// Writes `bytes` at `offset` of the copy of the CC event log that L2 can read, as far as they
    /// fit. The copy is never read back. At offset 0 it is begun anew: nothing is left of what was there.
    fn publish_log(&mut self, offset: usize, bytes: &[u8]);
}
