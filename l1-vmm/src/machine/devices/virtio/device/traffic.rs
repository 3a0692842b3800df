//! What a device has moved.

/// Counts of one device since the machine began. What a request costs is a quotient of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Notifications by L2: each an exit.
    pub notifications: u64,
    /// Requests that were given back to L2.
    pub requests: u64,
    /// Bytes of requests: those that L2 gave, and those that it got.
    pub bytes: u64,
    /// Bytes that L1 copied for them.
    pub copied: u64,
    /// Interrupts of queues that L2 was sent.
    pub interrupts: u64,
    /// Notifications of the host's device: each a TDVMCALL.
    pub host_notifications: u64,
}

impl Traffic {
    /// Logs them: as a sentence, and as the record "device". `kind` is the device's type, `place` its number on the bus.
    pub fn log(&self, kind: u16, place: u64) {
        let Self {
            notifications,
            requests,
            bytes,
            copied,
            interrupts,
            host_notifications,
        } = *self;
        log::info!(
            target: "device",
            kind, place, notifications, requests, bytes, copied, interrupts, host_notifications;
            "virtio device {place} of type {kind}: {requests} requests of {bytes} bytes, {copied} bytes copied, \
             {notifications} notifications, {interrupts} interrupts, {host_notifications} notifications of the host"
        );
    }
}
