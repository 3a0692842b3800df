//! The module's locks, as far as TDCALLs take them (TDX Module Base Architecture, "Concurrency Restrictions").
//!
//! All of them are try-locks: a TDCALL that finds one taken ends in TDX_OPERAND_BUSY at once. One logical processor alone never
//! meets itself, so a lock can be found taken only while another virtual processor is held inside a leaf
//! ([`Faults::hold`](crate::Faults::hold)), or while the host wants the object ([`Faults::host_priority`](crate::Faults::host_priority)):
//! a lock that the host has found taken is not given to a guest again before the host has had it.

use crate::leaf::{LeafEnd, LeafResult};
use crate::module::Module;
use crate::platform::Platform;
use alloc::vec::Vec;
use tdx_defs::PageLevel;
use tdx_defs::status::{Operand, Status};

/// HP_LOCK_TIMEOUT, in TSC ticks: a second.
const HOST_PRIORITY_TIMEOUT: u64 = 1_000_000_000;

/// What a lock is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    /// All four RTMRs.
    Rtmrs,
    /// The entry of the secure EPT of this level at this GPA.
    Entry(u64, PageLevel),
}

/// A lock that is to be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) leaf: u64,
    pub(crate) object: Object,
    /// Several may have it.
    pub(crate) shared: bool,
    /// What TDX_OPERAND_BUSY names.
    pub(crate) operand: Operand,
}

/// A lock that is taken while its holder does not run.
#[derive(Clone, Copy, Debug)]
struct Taken {
    vcpu: u32,
    object: Object,
    shared: bool,
}

/// The locks that are taken, and what the host waits for.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    taken: Vec<Taken>,
    /// The object, and when the host calls again.
    host_waits: Option<(Object, u64)>,
}

impl Locks {
    /// Whether one that is taken stands in the way of `vcpu`.
    fn is_busy(&self, vcpu: u32, request: &Request) -> bool {
        self.taken.iter().any(|taken| {
            taken.vcpu != vcpu
                && taken.object == request.object
                && !(taken.shared && request.shared)
        })
    }

    /// The host has had what it waited for.
    pub(crate) fn host_had_it(&mut self) {
        self.host_waits = None;
    }

    pub(crate) fn release(&mut self, vcpu: u32) {
        self.taken.retain(|taken| taken.vcpu != vcpu);
    }
}

impl Module {
    /// Takes a lock for a TDCALL, which nothing has yet come of. An error ends the TDCALL, or keeps the virtual processor
    /// inside it.
    pub(crate) fn lock<P: Platform>(&mut self, platform: &mut P, request: Request) -> LeafResult {
        let busy = Status::operand_busy(request.operand);
        if self.faults.take_busy(request.leaf) {
            return Err(busy.into());
        }
        let index = self.vcpu.index;
        let resumed = self.vcpu.held;
        if !resumed && self.host_comes_first(platform, &request) {
            return Err(LeafEnd::HostPriority(busy));
        }
        if self.locks.is_busy(index, &request) {
            return Err(busy.into());
        }
        if !resumed && self.faults.take_hold(request.leaf, index) {
            self.locks.taken.push(Taken {
                vcpu: index,
                object: request.object,
                shared: request.shared,
            });
            return Err(LeafEnd::Held);
        }
        Ok(())
    }

    /// Whether the host has found the object's lock taken and has not had it since.
    fn host_comes_first<P: Platform>(&mut self, platform: &mut P, request: &Request) -> bool {
        if self.locks.host_waits.is_none() {
            let Some(ticks) = self.faults.take_host_priority(request.leaf) else {
                return false;
            };
            let until = platform.tsc().saturating_add(ticks);
            self.locks.host_waits = Some((request.object, until));
        }
        match self.locks.host_waits {
            Some((_, until)) if until <= platform.tsc() => {
                self.locks.host_had_it();
                false
            }
            Some((object, _)) => object == request.object,
            None => false,
        }
    }

    /// A TDCALL has failed for the host's sake: whether it has for so long that the host must hear of it.
    pub(crate) fn is_host_priority_stuck<P: Platform>(&mut self, platform: &mut P) -> bool {
        let now = platform.tsc();
        let since = *self.vcpu.host_priority_since.get_or_insert(now);
        let stuck = now - since >= HOST_PRIORITY_TIMEOUT;
        if stuck {
            self.vcpu.host_priority_since = None;
        }
        stuck
    }
}

#[cfg(test)]
mod tests;
