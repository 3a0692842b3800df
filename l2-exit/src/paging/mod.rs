//! Translation of L2's linear addresses with L2's own page tables.
//!
//! What the processor does and this walk does too: all paging modes (SDM Vol. 3A, chapter
//! "Paging"), U/S, R/W, XD, CR0.WP, SMEP, SMAP with EFLAGS.AC, protection keys of user pages,
//! reserved bits, accessed and dirty flags, error codes.
//!
//! What it does not do:
//! * Protection keys of supervisor pages (CR4.PKS) and shadow stacks (CR4.CET): L1 offers
//!   neither to L2. LAM (CR3, CR4): likewise.
//! * No TLB: a translation that L2 changed without invalidating it is seen as it is now. The
//!   page of the exit itself is not walked again but taken from the exit.
//! * Accessed and dirty flags are set when the whole walk succeeded, by a write of the one byte
//!   that holds them: not atomic against another vCPU of this L2, of which there is none. The
//!   processor may also set accessed flags on the way to a fault; no software can rely on that.

mod entry;

use crate::event::Event;
use crate::memory::{GuestMemory, MemoryError};
use crate::vcpu::Vcpu;
use entry::{Entry, Step};
use x86_defs::exception;
use x86_defs::paging::{ACCESSED, ADDRESS, DIRTY, EXECUTE_DISABLE, PRESENT, USER, WRITABLE};
use x86_defs::{cr0, cr4, efer, rflags};

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessKind {
    /// Data read.
    Read,
    /// Data write, or the read of a read-modify-write.
    Write,
    /// Instruction fetch.
    Fetch,
}

/// An explicit access of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// What it does.
    pub kind: AccessKind,
    /// CPL is 3.
    pub user: bool,
}

/// Why a linear address has no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkError {
    /// #PF, as the processor would raise it.
    Fault(PageFault),
    /// A paging structure is not in L2's memory.
    PagingStructure {
        /// Guest-physical address of the entry.
        gpa: u64,
    },
}

impl From<MemoryError> for WalkError {
    fn from(error: MemoryError) -> Self {
        Self::PagingStructure { gpa: error.gpa }
    }
}

/// A page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// CR2.
    pub linear: u64,
    /// Error code: bits of [`error_code`].
    pub error_code: u32,
}

impl PageFault {
    /// The event to inject. CR2 must be set to [`PageFault::linear`].
    pub const fn event(self) -> Event {
        Event::fault(exception::PAGE_FAULT, self.error_code)
    }
}

/// Bits of the page-fault error code (SDM Vol. 3A, figure "Page-Fault Error Code").
pub mod error_code {
    /// P: a protection violation, not a missing page.
    pub const PRESENT: u32 = 1 << 0;
    /// W/R: a write.
    pub const WRITE: u32 = 1 << 1;
    /// U/S: CPL 3.
    pub const USER: u32 = 1 << 2;
    /// RSVD: a reserved bit was set in a present entry.
    pub const RESERVED: u32 = 1 << 3;
    /// I/D: an instruction fetch, where fetches can be forbidden.
    pub const FETCH: u32 = 1 << 4;
    /// PK: the protection key forbids it.
    pub const PROTECTION_KEY: u32 = 1 << 5;
}

/// How linear addresses become guest-physical ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// CR0.PG is 0.
    Off,
    /// 32-bit entries.
    Bits32,
    /// PAE: 64-bit entries below four PDPTEs that the processor holds.
    Pae([u64; 4]),
    /// IA-32e, 4 levels.
    Level4,
    /// IA-32e, 5 levels.
    Level5,
}

/// The registers that translation depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    mode: Mode,
    cr3: u64,
    large_pages: bool,
    write_protect: bool,
    smep: bool,
    smap: bool,
    execute_disable: bool,
    /// EFLAGS.AC: supervisor accesses to user pages are allowed despite SMAP.
    allow_user: bool,
    /// PKRU if CR4.PKE.
    protection_keys: Option<u32>,
    address_width: u32,
}

impl Paging {
    /// Reads them: CR0, CR3, CR4 and EFER, under PAE paging also the PDPTEs.
    pub fn of<V: Vcpu>(vcpu: &V) -> Self {
        let cr0 = vcpu.cr0();
        let cr4 = vcpu.cr4();
        let efer = vcpu.efer();
        let mode = if cr0 & cr0::PG == 0 {
            Mode::Off
        } else if efer & efer::LMA != 0 {
            if cr4 & cr4::LA57 != 0 {
                Mode::Level5
            } else {
                Mode::Level4
            }
        } else if cr4 & cr4::PAE != 0 {
            Mode::Pae([0, 1, 2, 3].map(|index| vcpu.pdpte(index)))
        } else {
            Mode::Bits32
        };
        Self {
            mode,
            cr3: vcpu.cr3(),
            large_pages: cr4 & cr4::PSE != 0,
            write_protect: cr0 & cr0::WP != 0,
            smep: cr4 & cr4::SMEP != 0,
            smap: cr4 & cr4::SMAP != 0,
            execute_disable: efer & efer::NXE != 0,
            allow_user: vcpu.rflags() & rflags::AC != 0,
            protection_keys: if cr4 & cr4::PKE != 0 && efer & efer::LMA != 0 {
                Some(vcpu.pkru())
            } else {
                None
            },
            address_width: vcpu.physical_address_width().clamp(32, 52),
        }
    }

    /// The paging mode.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Translates `linear` for `access`, setting accessed and dirty flags.
    pub fn translate<M: GuestMemory>(
        &self,
        memory: &M,
        linear: u64,
        access: Access,
    ) -> Result<u64, WalkError> {
        let walk = Walk {
            paging: self,
            memory,
            linear,
            access,
        };
        let cr3 = self.cr3 & ADDRESS;
        match self.mode {
            Mode::Off => Ok(linear & 0xFFFF_FFFF),
            Mode::Bits32 => walk.run(&entry::BITS_32, self.cr3 & 0xFFFF_F000),
            Mode::Level4 => walk.run(&entry::LEVEL_4, cr3),
            Mode::Level5 => walk.run(&entry::LEVEL_5, cr3),
            Mode::Pae([first, second, third, fourth]) => {
                let pdpte = match linear >> 30 & 0b11 {
                    0 => first,
                    1 => second,
                    2 => third,
                    _ => fourth,
                };
                if pdpte & PRESENT == 0 {
                    return Err(walk.fault(0));
                }
                walk.run(&entry::PAE, pdpte & ADDRESS)
            }
        }
    }
}

/// One translation.
struct Walk<'a, M> {
    paging: &'a Paging,
    memory: &'a M,
    linear: u64,
    access: Access,
}

impl<M: GuestMemory> Walk<'_, M> {
    fn run(&self, steps: &[Step], root: u64) -> Result<u64, WalkError> {
        let mut used = [Entry::default(); 5];
        let mut table = root;
        for (step, used_here) in steps.iter().zip(used.iter_mut()) {
            let entry = self.read(step, table)?;
            *used_here = entry;
            if entry.value & PRESENT == 0 {
                return Err(self.fault(0));
            }
            let leaf = step.is_leaf(entry.value, self.paging.large_pages);
            let reserved =
                step.reserved(leaf, self.paging.address_width, self.paging.execute_disable);
            if entry.value & reserved != 0 {
                return Err(self.fault(error_code::PRESENT | error_code::RESERVED));
            }
            if leaf {
                self.check(&used, step.size == 4)?;
                self.mark(&used, entry)?;
                return Ok(step.frame(entry.value) | self.linear & step.offset_mask());
            }
            table = step.table(entry.value);
        }
        // The last step of every mode is a leaf.
        Err(self.fault(0))
    }

    fn read(&self, step: &Step, table: u64) -> Result<Entry, WalkError> {
        let gpa = table + step.index(self.linear) * u64::from(step.size);
        let mut bytes = [0; 8];
        let (low, _) = bytes.split_at_mut(usize::from(step.size).min(8));
        self.memory.read(gpa, low)?;
        Ok(Entry {
            gpa,
            value: u64::from_le_bytes(bytes),
        })
    }

    /// Checks the rights that the entries grant together.
    fn check(&self, used: &[Entry; 5], legacy: bool) -> Result<(), WalkError> {
        let mut user = true;
        let mut writable = true;
        let mut executable = true;
        let mut leaf = 0;
        for entry in used.iter().filter(|entry| entry.value != 0) {
            user &= entry.value & USER != 0;
            writable &= entry.value & WRITABLE != 0;
            executable &= legacy || entry.value & EXECUTE_DISABLE == 0;
            leaf = entry.value;
        }
        let paging = self.paging;
        let write = self.access.kind == AccessKind::Write;
        let writable = writable || !self.access.user && !paging.write_protect;
        let allowed = match (self.access.user, self.access.kind) {
            (true, AccessKind::Read) => user,
            (true, AccessKind::Write) => user && writable,
            (true, AccessKind::Fetch) => user && executable,
            (false, AccessKind::Fetch) => executable && !(user && paging.smep),
            (false, AccessKind::Read | AccessKind::Write) => {
                !(user && paging.smap && !paging.allow_user) && (!write || writable)
            }
        };
        let key_allows = match paging.protection_keys {
            Some(pkru) if user && self.access.kind != AccessKind::Fetch => {
                let rights = pkru >> (2 * (leaf >> 59 & 0xF));
                let access_disabled = rights & 0b01 != 0;
                let write_disabled =
                    rights & 0b10 != 0 && (self.access.user || paging.write_protect);
                !(access_disabled || write && write_disabled)
            }
            _ => true,
        };
        match (allowed, key_allows) {
            (true, true) => Ok(()),
            (_, true) => Err(self.fault(error_code::PRESENT)),
            (_, false) => Err(self.fault(error_code::PRESENT | error_code::PROTECTION_KEY)),
        }
    }

    /// Sets the accessed flag of every entry used and the dirty flag of the leaf.
    fn mark(&self, used: &[Entry; 5], leaf: Entry) -> Result<(), WalkError> {
        for entry in used.iter().filter(|entry| entry.value != 0) {
            let mut flags = ACCESSED;
            if entry.gpa == leaf.gpa && self.access.kind == AccessKind::Write {
                flags |= DIRTY;
            }
            if entry.value & flags != flags {
                let [low, ..] = (entry.value | flags).to_le_bytes();
                self.memory.write(entry.gpa, &[low])?;
            }
        }
        Ok(())
    }

    /// A page fault of this access, for the reason that `bits` give.
    fn fault(&self, bits: u32) -> WalkError {
        let paging = self.paging;
        let mut code = bits;
        match self.access.kind {
            AccessKind::Read => {}
            AccessKind::Write => code |= error_code::WRITE,
            AccessKind::Fetch => {
                let can_forbid =
                    paging.execute_disable && !matches!(paging.mode, Mode::Off | Mode::Bits32);
                if paging.smep || can_forbid {
                    code |= error_code::FETCH;
                }
            }
        }
        if self.access.user {
            code |= error_code::USER;
        }
        WalkError::Fault(PageFault {
            linear: self.linear,
            error_code: code,
        })
    }
}

#[cfg(test)]
mod tests;
