//! A virtual processor of L2's: its registers, and the VMCS that L1 reaches by TDG.VP.RD and TDG.VP.WR.

pub mod apic;
mod cache;
pub mod control_registers;
mod event;
pub mod exits;
mod msr_bitmap;
pub mod mtrr;
mod processor;
mod refusal;
mod set_up;
pub mod xcr0;

use core::cell::Cell;

use l2_exit::{Event, Exit, Gpr, Segment, SegmentRegister, Vcpu};
use tdcall::{RawTdcall, Td};
use tdx_defs::VmIndex;
use tdx_defs::field::FieldId;
use tdx_defs::vmcs::{PrimaryControls, VmcsField};
use tdx_defs::vp_enter::{EntryStatus, GuestState, Outcome, TlbFlush};

use crate::run::end::{Failure, Snapshot};
use crate::run::environment::Processor;
use cache::{Cache, Control};
pub use refusal::Refusal;
pub use set_up::{CR0_HOST_OWNED, InitialState, segment_fields};

/// A virtual processor of L2's between two entries.
///
/// General registers, RIP and RFLAGS are in [`GuestState`]. Everything else is a TDCALL away:
/// it is read when first asked for after an exit, and forgotten at the next entry.
pub struct L2Vcpu<'t, R> {
    td: &'t Td<R>,
    vm: VmIndex,
    state: GuestState,
    cs: Segment,
    cache: Cache,
    /// What L2 believes the bits of CR0 and CR4 to be that it does not own.
    cr0_shadow: u64,
    cr4_shadow: u64,
    /// Bits of CR4 that L2 changes without an exit.
    cr4_native: u64,
    physical_address_width: u32,
    primary: PrimaryControls,
    flush: TlbFlush,
    injection: Option<Event>,
    /// The injection is in the VMCS and L2 was not entered since.
    injection_prepared: bool,
    cr2: Option<u64>,
    /// The first TDCALL that failed where no error could be returned.
    failure: Cell<Option<Failure>>,
}

impl<'t, R: RawTdcall> L2Vcpu<'t, R> {
    /// The vCPU of `vm`, not set up yet. `physical_address_width` is MAXPHYADDR as L2's CPUID
    /// has it, `cr4_native` what L2 may change in CR4 by itself.
    pub fn new(td: &'t Td<R>, vm: VmIndex, physical_address_width: u32, cr4_native: u64) -> Self {
        Self {
            td,
            vm,
            state: GuestState::new(),
            cs: Segment::default(),
            cache: Cache::default(),
            cr0_shadow: 0,
            cr4_shadow: 0,
            cr4_native,
            physical_address_width,
            primary: PrimaryControls::new(),
            flush: TlbFlush::Invept,
            injection: None,
            injection_prepared: false,
            cr2: None,
            failure: Cell::new(None),
        }
    }

    /// Runs L2 until it exits. One TDCALL, and those that an injection needs before it.
    pub fn enter<P: Processor>(&mut self, processor: &mut P) -> Result<(Outcome, Exit), Failure> {
        if let Some(event) = self.injection.take() {
            self.prepare_injection(event)?;
        }
        if let Some(cr2) = self.cr2.take() {
            processor.set_l2_cr2(cr2);
        }
        let outcome = processor.enter(self.td, self.vm, self.flush, &mut self.state)?;
        let exit = Exit::decode(&outcome);
        if outcome.status != EntryStatus::PendingInterrupt {
            self.flush = TlbFlush::None;
            self.injection_prepared = false;
            self.cache.clear();
            self.cs = exit.cs;
        }
        Ok((outcome, exit))
    }

    /// What L1 shares with the module.
    pub fn state(&self) -> &GuestState {
        &self.state
    }

    /// Sets RVI and SVI.
    pub fn set_interrupt_status(&mut self, status: u16) {
        self.state.interrupt_status = status;
    }

    /// L2's translations of every kind are dropped at the next entry.
    pub fn flush_translations(&mut self) {
        self.flush = TlbFlush::Invept;
    }

    /// The TDCALL that failed since the last call, if any.
    pub fn take_failure(&self) -> Option<Failure> {
        self.failure.take()
    }

    /// The registers, for a report.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            state: self.state,
            control: [self.cr0(), self.cr3(), self.cr4(), self.efer()],
            code: (self.cs.selector, self.cs.base),
            instruction: None,
        }
    }

    /// Reads a VMCS field.
    pub fn read(&self, field: VmcsField) -> Result<u64, Failure> {
        self.td
            .vp_rd(FieldId::l2_vmcs(self.vm, field))
            .map_err(|error| Failure::Vmcs { field, error })
    }

    /// Writes the bits of a VMCS field that `mask` names.
    pub fn write_masked(&self, field: VmcsField, value: u64, mask: u64) -> Result<(), Failure> {
        self.td
            .vp_wr(FieldId::l2_vmcs(self.vm, field), value, mask)
            .map(drop)
            .map_err(|error| Failure::Vmcs { field, error })
    }

    /// Writes a VMCS field.
    pub fn write(&self, field: VmcsField, value: u64) -> Result<(), Failure> {
        self.write_masked(field, value, u64::MAX)
    }

    /// Reads a field where L2's emulation cannot be told of a failure: the run loop is, by
    /// [`L2Vcpu::take_failure`], before L2 runs again.
    fn read_or_note(&self, field: VmcsField) -> u64 {
        self.read(field).unwrap_or_else(|failure| {
            self.note(failure);
            0
        })
    }

    fn note(&self, failure: Failure) {
        if self.failure.get().is_none() {
            self.failure.set(Some(failure));
        }
    }

    fn control(&self, control: Control) -> u64 {
        self.cache
            .control(control, || self.read_or_note(control.field()))
    }
}

impl<R: RawTdcall> Vcpu for L2Vcpu<'_, R> {
    fn gpr(&self, register: Gpr) -> u64 {
        self.state.gpr(register)
    }

    fn set_gpr(&mut self, register: Gpr, value: u64) {
        self.state.set_gpr(register, value);
    }

    fn rip(&self) -> u64 {
        self.state.rip
    }

    fn set_rip(&mut self, value: u64) {
        self.state.rip = value;
    }

    fn rflags(&self) -> u64 {
        self.state.rflags
    }

    fn set_rflags(&mut self, value: u64) {
        self.state.rflags = value;
    }

    fn cr0(&self) -> u64 {
        self.control(Control::Cr0) & !CR0_HOST_OWNED | self.cr0_shadow & CR0_HOST_OWNED
    }

    fn cr3(&self) -> u64 {
        self.control(Control::Cr3)
    }

    fn cr4(&self) -> u64 {
        self.control(Control::Cr4) & self.cr4_native | self.cr4_shadow & !self.cr4_native
    }

    fn efer(&self) -> u64 {
        self.control(Control::Efer)
    }

    fn segment(&self, register: SegmentRegister) -> Segment {
        if register == SegmentRegister::Cs {
            return self.cs;
        }
        self.cache.segment(register, || {
            let [selector, base, limit, rights] = segment_fields(register);
            Segment {
                selector: self.read_or_note(selector) as u16,
                base: self.read_or_note(base),
                limit: self.read_or_note(limit) as u32,
                access_rights: (self.read_or_note(rights) as u32).into(),
            }
        })
    }

    fn segment_base(&self, register: SegmentRegister) -> u64 {
        let [_, base, ..] = segment_fields(register);
        self.read_or_note(base)
    }

    fn pdpte(&self, index: u8) -> u64 {
        match index {
            0 => self.read_or_note(VmcsField::GUEST_PDPTE0),
            1 => self.read_or_note(VmcsField::GUEST_PDPTE1),
            2 => self.read_or_note(VmcsField::GUEST_PDPTE2),
            _ => self.read_or_note(VmcsField::GUEST_PDPTE3),
        }
    }

    fn physical_address_width(&self) -> u32 {
        self.physical_address_width
    }

    fn set_cr2(&mut self, value: u64) {
        self.cr2 = Some(value);
    }

    fn single_step(&mut self) {
        if let Err(failure) = self.pend_single_step() {
            self.note(failure);
        }
    }
}
