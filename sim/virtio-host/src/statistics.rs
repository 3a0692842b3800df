//! What a device did.

/// Counts of one device since the run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Notifications by the driver.
    pub notifications: u64,
    /// Requests that were taken.
    pub requests: u64,
    /// Requests that were completed.
    pub completions: u64,
    /// Bytes that were read from buffers and written to them, headers and status included.
    pub bytes: u64,
    /// Interrupt messages.
    pub interrupts: u64,
    /// Resets by the driver.
    pub resets: u64,
    /// Rules that the driver broke.
    pub violations: u64,
}
