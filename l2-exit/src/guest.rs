//! L2's memory as its instructions address it: segments, pages, and the faults of both.

use crate::event::Event;
use crate::exit::{EptViolation, Exit};
use crate::memory::GuestMemory;
use crate::outcome::{EmulationError, Outcome};
use crate::paging::{Access, AccessKind, PageFault, Paging, WalkError};
use crate::vcpu::{Segment, SegmentRegister, Vcpu};
use x86_defs::exception;
use x86_defs::paging::PAGE_4K;
use x86_defs::{cr0, cr4, rflags};

const OFFSET: u64 = PAGE_4K - 1;

/// Why an instruction did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A fault other than #PF.
    Fault(Event),
    /// #PF.
    PageFault(PageFault),
    /// It cannot be emulated.
    Error(EmulationError),
}

impl From<EmulationError> for Stop {
    fn from(error: EmulationError) -> Self {
        Self::Error(error)
    }
}

impl From<WalkError> for Stop {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::Fault(fault) => Self::PageFault(fault),
            WalkError::PagingStructure { gpa } => {
                Self::Error(EmulationError::PagingStructure { gpa })
            }
        }
    }
}

/// Guest-physical bytes inside one page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) gpa: u64,
    /// 0: there is no such part.
    pub(crate) length: u8,
}

/// An operand's bytes: in one page, or in two.
pub(crate) type Span = [Part; 2];

/// A page translated in the course of this instruction.
#[derive(Clone, Copy, Default)]
struct Known {
    linear: u64,
    gpa: u64,
    read: bool,
    write: bool,
}

/// The vCPU that exited, with its memory.
pub(crate) struct Guest<'a, V, M> {
    pub(crate) exit: &'a Exit,
    pub(crate) vcpu: &'a mut V,
    pub(crate) memory: &'a M,
    /// L2 ran 64-bit code.
    pub(crate) long: bool,
    paging: Option<Paging>,
    /// The page of the exit, translated by the processor.
    exit_page: Option<Known>,
    /// What a TLB would keep while one instruction runs: repeated string instructions use at
    /// most four pages per iteration.
    known: [Known; 4],
    next: u8,
}

impl<'a, V: Vcpu, M: GuestMemory> Guest<'a, V, M> {
    pub(crate) fn new(exit: &'a Exit, vcpu: &'a mut V, memory: &'a M) -> Self {
        Self {
            exit,
            long: exit.is_64_bit(vcpu),
            vcpu,
            memory,
            paging: None,
            exit_page: None,
            known: [Known::default(); 4],
            next: 0,
        }
    }

    /// As [`Guest::new`], knowing what the processor has translated and checked already.
    pub(crate) fn at_violation(
        exit: &'a Exit,
        violation: &EptViolation,
        vcpu: &'a mut V,
        memory: &'a M,
    ) -> Self {
        let mut guest = Self::new(exit, vcpu, memory);
        if let Some(linear) = violation.linear
            && violation.final_access
        {
            guest.exit_page = Some(Known {
                linear: linear & !OFFSET,
                gpa: violation.gpa & !OFFSET,
                // A page that may be written may be read.
                read: violation.read || violation.write,
                write: violation.write,
            });
        }
        guest
    }

    /// The end of an instruction that was stopped: its fault, with CR2 set.
    pub(crate) fn stop(&mut self, stop: Stop) -> Result<Outcome, EmulationError> {
        match stop {
            Stop::Error(error) => Err(error),
            Stop::PageFault(fault) => {
                self.vcpu.set_cr2(fault.linear);
                Ok(Outcome::Fault(fault.event()))
            }
            Stop::Fault(event) => {
                let protected = self.long || self.vcpu.cr0() & cr0::PE != 0;
                Ok(Outcome::Fault(if protected {
                    event
                } else {
                    event.in_real_mode()
                }))
            }
        }
    }

    /// The guest-physical bytes of a data operand at `offset` in `segment`, checked for `kind`
    /// as the processor checks them: segment, canonical form, alignment, paging.
    pub(crate) fn operand(
        &mut self,
        segment: SegmentRegister,
        offset: u64,
        size: u8,
        kind: AccessKind,
    ) -> Result<Span, Stop> {
        let linear = self.linear(segment, offset, size, kind)?;
        if self.exit.cpl == 3
            && self.vcpu.rflags() & rflags::AC != 0
            && linear & u64::from(size.wrapping_sub(1)) != 0
            && self.vcpu.cr0() & cr0::AM != 0
        {
            return Err(Stop::Fault(Event::fault(exception::ALIGNMENT_CHECK, 0)));
        }
        self.span(linear, size, kind)
    }

    /// The guest-physical bytes at `linear`.
    pub(crate) fn span(&mut self, linear: u64, size: u8, kind: AccessKind) -> Result<Span, Stop> {
        let left = PAGE_4K - (linear & OFFSET);
        let first = if u64::from(size) > left {
            left as u8
        } else {
            size
        };
        let mut span = [
            Part {
                gpa: self.translate(linear, kind)?,
                length: first,
            },
            Part::default(),
        ];
        if first < size {
            let next = self.truncate(linear.wrapping_add(left));
            let [_, second] = &mut span;
            *second = Part {
                gpa: self.translate(next, kind)?,
                length: size - first,
            };
        }
        Ok(span)
    }

    /// Adds segment base and offset, checking what the segment allows (SDM Vol. 3A, chapter
    /// "Protection"; canonical form: Vol. 1, "Canonical Addressing").
    fn linear(
        &self,
        register: SegmentRegister,
        offset: u64,
        size: u8,
        kind: AccessKind,
    ) -> Result<u64, Stop> {
        let fault = Stop::Fault(Event::fault(
            if register == SegmentRegister::Ss {
                exception::STACK_FAULT
            } else {
                exception::GENERAL_PROTECTION
            },
            0,
        ));
        let last = u64::from(size.saturating_sub(1));
        if self.long {
            let base = match register {
                SegmentRegister::Fs | SegmentRegister::Gs => self.vcpu.segment(register).base,
                _ => 0,
            };
            let linear = base.wrapping_add(offset);
            if self.is_canonical(linear) && self.is_canonical(linear.wrapping_add(last)) {
                return Ok(linear);
            }
            return Err(fault);
        }
        let segment = match register {
            SegmentRegister::Cs => self.exit.cs,
            _ => self.vcpu.segment(register),
        };
        let protected = self.vcpu.cr0() & cr0::PE != 0 && self.vcpu.rflags() & rflags::VM == 0;
        if !within(&segment, offset, last) || protected && !permits(&segment, kind) {
            return Err(fault);
        }
        Ok(self.truncate(segment.base.wrapping_add(offset)))
    }

    /// Linear addresses have 32 bits outside 64-bit mode.
    fn truncate(&self, linear: u64) -> u64 {
        if self.long {
            linear
        } else {
            linear & 0xFFFF_FFFF
        }
    }

    fn is_canonical(&self, linear: u64) -> bool {
        let extended = |bits: u32| ((linear << (64 - bits)) as i64 >> (64 - bits)) as u64 == linear;
        // CR4 costs a TDCALL: look only if it matters.
        extended(48) || extended(57) && self.vcpu.cr4() & cr4::LA57 != 0
    }

    fn translate(&mut self, linear: u64, kind: AccessKind) -> Result<u64, Stop> {
        let page = linear & !OFFSET;
        let offset = linear & OFFSET;
        let fetch = kind == AccessKind::Fetch;
        let write = kind == AccessKind::Write;
        let serves = |known: &Known| {
            known.linear == page && !fetch && if write { known.write } else { known.read }
        };
        let exit_page = self.exit_page.filter(|known| known.linear == page);
        if let Some(known) = exit_page
            .iter()
            .chain(&self.known)
            .find(|known| serves(known))
        {
            return Ok(known.gpa | offset);
        }
        let user = self.exit.cpl == 3;
        let paging = *self.paging.get_or_insert_with(|| Paging::of(self.vcpu));
        let walked = paging.translate(self.memory, linear, Access { kind, user })?;
        // Where the processor has been, its translation counts, even if it came from a TLB
        // entry that L2 has not invalidated yet.
        let gpa = match exit_page {
            Some(known) if !fetch => known.gpa,
            _ => walked & !OFFSET,
        };
        if !fetch {
            let slot = usize::from(self.next) % self.known.len();
            if let Some(known) = self.known.get_mut(slot) {
                *known = Known {
                    linear: page,
                    gpa,
                    read: true,
                    write,
                };
            }
            self.next = self.next.wrapping_add(1);
        }
        Ok(gpa | offset)
    }
}

/// Bytes of an instruction with the places they were fetched from.
#[derive(Clone, Copy, Default)]
pub(crate) struct Code {
    pub(crate) bytes: [u8; 15],
    pub(crate) length: u8,
    pub(crate) parts: Span,
}

impl Code {
    /// What has been fetched.
    pub(crate) fn fetched(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or(&[])
    }
}

impl<V: Vcpu, M: GuestMemory> Guest<'_, V, M> {
    /// Linear address of the instruction at RIP.
    pub(crate) fn instruction_address(&self) -> u64 {
        let rip = self.vcpu.rip();
        if self.long {
            rip
        } else {
            self.truncate(self.exit.cs.base.wrapping_add(rip & 0xFFFF_FFFF))
        }
    }

    /// Fetches the bytes at RIP that are in one more page, up to 15 in all. Fetching page by
    /// page keeps an instruction at the end of a page from faulting on the next one.
    ///
    /// #GP(0) if the instruction is longer than 15 bytes, leaves the segment or is at an
    /// address that is not canonical.
    pub(crate) fn fetch(&mut self, code: &mut Code) -> Result<(), Stop> {
        let fault = Stop::Fault(Event::general_protection());
        let done = u64::from(code.length);
        let mut wanted = code.bytes.len() as u64 - done;
        let start = self.instruction_address();
        let linear = self.truncate(start.wrapping_add(done));
        if self.long {
            if !self.is_canonical(linear) {
                return Err(fault);
            }
        } else {
            let first = (self.vcpu.rip() & 0xFFFF_FFFF) + done;
            wanted = wanted.min((u64::from(self.exit.cs.limit) + 1).saturating_sub(first));
        }
        let length = wanted.min(PAGE_4K - (linear & OFFSET)) as u8;
        let [first, second] = &mut code.parts;
        let part = if first.length == 0 { first } else { second };
        if length == 0 || part.length != 0 {
            return Err(fault);
        }
        let gpa = self.translate(linear, AccessKind::Fetch)?;
        let end = usize::from(code.length) + usize::from(length);
        if let Some(bytes) = code.bytes.get_mut(usize::from(code.length)..end) {
            self.memory
                .read(gpa, bytes)
                .map_err(|error| EmulationError::Fetch { gpa: error.gpa })?;
        }
        *part = Part { gpa, length };
        code.length += length;
        Ok(())
    }
}

/// Whether the bytes from `offset` to `offset + last` are within the segment's limit.
fn within(segment: &Segment, offset: u64, last: u64) -> bool {
    let rights = segment.access_rights;
    let limit = u64::from(segment.limit);
    let end = offset.saturating_add(last);
    if rights.code_or_data() && rights.segment_type() & 0b1100 == 0b0100 {
        let top = if rights.default_big() {
            0xFFFF_FFFF
        } else {
            0xFFFF
        };
        offset > limit && end <= top
    } else {
        end <= limit
    }
}

/// Whether protected mode allows the access by the segment's type.
fn permits(segment: &Segment, kind: AccessKind) -> bool {
    let rights = segment.access_rights;
    let code = rights.segment_type() & 0b1000 != 0;
    let writable_or_readable = rights.segment_type() & 0b0010 != 0;
    !rights.unusable()
        && match kind {
            AccessKind::Write => !code && writable_or_readable,
            AccessKind::Read | AccessKind::Fetch => !code || writable_or_readable,
        }
}
