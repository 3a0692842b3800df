//! VM-entry checks of L2's state (SDM volume 3, "Checks on Guest Control Registers, Debug
//! Registers, and MSRs" and what follows it). The module makes none itself: the processor does, and
//! a state it refuses is exit reason 33 with bit 31 set.

use super::control_registers::ControlRegister;
use super::guest::Guest;
use crate::platform::{Event, EventKind, Platform, Register, Segment, SegmentName};
use tdx_defs::vmcs::{EntryControls, SegmentAccessRights, VmcsField};
use x86_defs::cr0;
use x86_defs::cr4;
use x86_defs::efer;
use x86_defs::msr;
use x86_defs::rflags;

/// What more than one check needs.
struct State {
    long_mode: bool,
    code_64: bool,
    protected: bool,
    virtual_8086: bool,
    address_bits: u32,
    event: Option<Event>,
}

impl State {
    fn is_canonical(&self, address: u64) -> bool {
        let shift = 64 - self.address_bits;
        (address as i64) << shift >> shift == address as i64
    }
}

impl<P: Platform> Guest<'_, P> {
    /// Whether the processor would enter L2 with this state.
    pub(super) fn is_state_valid(&mut self) -> bool {
        let entry = EntryControls::from_bits(self.l2.cell(VmcsField::ENTRY_CONTROLS) as u32);
        let long_mode = entry.ia32e_mode_guest();
        let cr4 = self.real(ControlRegister::Cr4);
        let state = State {
            long_mode,
            code_64: long_mode && access_rights(&self.segment(SegmentName::Cs)).long(),
            protected: self.register(Register::Cr0) & cr0::PE != 0,
            virtual_8086: self.register(Register::Rflags) & rflags::VM != 0,
            address_bits: if cr4 & cr4::LA57 != 0 { 57 } else { 48 },
            event: self.entry_event(),
        };
        self.are_registers_valid(&state)
            && self.are_rip_and_rflags_valid(&state)
            && self.is_non_register_state_valid(&state)
    }

    /// The checks of what only a VMCS field can give L2.
    fn are_registers_valid(&mut self, state: &State) -> bool {
        if self.l2.registers_accepted && !state.virtual_8086 {
            return true;
        }
        let valid = self.are_control_registers_valid(state)
            && self.are_msrs_valid(state)
            && (state.virtual_8086 || self.are_segments_valid(state))
            && self.are_descriptor_tables_valid(state);
        self.l2.registers_accepted = valid && !state.virtual_8086;
        valid
    }

    fn are_control_registers_valid(&mut self, state: &State) -> bool {
        let cr0 = self.real(ControlRegister::Cr0);
        let cr4 = self.real(ControlRegister::Cr4);
        let paging = cr0 & cr0::PG != 0;
        let has = |bit| cr4 & bit != 0;
        (!paging || state.protected)
            && (!has(cr4::CET) || cr0 & cr0::WP != 0)
            && (!state.long_mode || paging && has(cr4::PAE))
            && (state.long_mode || !has(cr4::PCIDE))
            && self.register(Register::Cr3) >> 52 == 0
            && self.register(Register::Dr7) >> 32 == 0
    }

    fn are_msrs_valid(&mut self, state: &State) -> bool {
        let value = self.register(Register::Efer);
        let lma = value & efer::LMA != 0;
        let lme = value & efer::LME != 0;
        let paging = self.register(Register::Cr0) & cr0::PG != 0;
        lma == state.long_mode
            && (!paging || lma == lme)
            && msr::is_pat(self.register(Register::Pat))
            && state.is_canonical(self.register(Register::SysenterEsp))
            && state.is_canonical(self.register(Register::SysenterEip))
    }

    fn are_segments_valid(&mut self, state: &State) -> bool {
        let cs = self.segment(SegmentName::Cs);
        let ss = self.segment(SegmentName::Ss);
        let (cs_rights, ss_rights) = (access_rights(&cs), access_rights(&ss));
        const REAL_MODE_DATA: u8 = 3;
        let cs_privilege = match cs_rights.segment_type() {
            REAL_MODE_DATA => cs_rights.dpl() == 0,
            9 | 11 => cs_rights.dpl() == ss_rights.dpl(),
            13 | 15 => cs_rights.dpl() <= ss_rights.dpl(),
            _ => false,
        };
        let cs_valid = cs_privilege
            && !cs_rights.unusable()
            && cs_rights.code_or_data()
            && cs_rights.present()
            && !(state.long_mode && cs_rights.long() && cs_rights.default_big())
            && is_limit_valid(&cs)
            && cs.base >> 32 == 0;
        let ss_must_be_0 = cs_rights.segment_type() == REAL_MODE_DATA || !state.protected;
        let ss_valid = (!ss_must_be_0 || ss_rights.dpl() == 0)
            && (ss_rights.unusable()
                || matches!(ss_rights.segment_type(), 3 | 7)
                    && is_data_valid(&ss)
                    && ss.base >> 32 == 0);
        cs_valid
            && ss_valid
            && [SegmentName::Ds, SegmentName::Es].into_iter().all(|name| {
                let segment = self.segment(name);
                access_rights(&segment).unusable()
                    || is_data_valid(&segment) && segment.base >> 32 == 0
            })
            && [SegmentName::Fs, SegmentName::Gs].into_iter().all(|name| {
                let segment = self.segment(name);
                state.is_canonical(segment.base)
                    && (access_rights(&segment).unusable() || is_data_valid(&segment))
            })
            && self.are_system_segments_valid(state)
    }

    fn are_system_segments_valid(&mut self, state: &State) -> bool {
        const TABLE_INDICATOR: u16 = 1 << 2;
        let tr = self.segment(SegmentName::Tr);
        let ldtr = self.segment(SegmentName::Ldtr);
        let (tr_rights, ldtr_rights) = (access_rights(&tr), access_rights(&ldtr));
        let tr_type = match tr_rights.segment_type() {
            11 => true,
            3 => !state.long_mode,
            _ => false,
        };
        let is_system = |segment: &Segment, rights: SegmentAccessRights| {
            !rights.code_or_data()
                && rights.present()
                && is_limit_valid(segment)
                && segment.selector & TABLE_INDICATOR == 0
                && state.is_canonical(segment.base)
        };
        tr_type
            && !tr_rights.unusable()
            && is_system(&tr, tr_rights)
            && (ldtr_rights.unusable()
                || ldtr_rights.segment_type() == 2 && is_system(&ldtr, ldtr_rights))
    }

    fn are_descriptor_tables_valid(&mut self, state: &State) -> bool {
        [SegmentName::Gdtr, SegmentName::Idtr]
            .into_iter()
            .all(|name| {
                let table = self.segment(name);
                state.is_canonical(table.base) && table.limit <= 0xffff
            })
    }

    fn are_rip_and_rflags_valid(&mut self, state: &State) -> bool {
        const RESERVED: u64 = !0x003f_7fd7;
        const FIXED_1: u64 = 1 << 1;
        let rip = self.register(Register::Rip);
        let flags = self.register(Register::Rflags);
        let rip_valid = if state.code_64 {
            state.is_canonical(rip)
        } else {
            rip >> 32 == 0
        };
        let interrupt = state
            .event
            .is_some_and(|event| event.kind == EventKind::ExternalInterrupt);
        rip_valid
            && flags & RESERVED == 0
            && flags & FIXED_1 != 0
            && !(state.virtual_8086 && (state.long_mode || !state.protected))
            && (!interrupt || flags & rflags::IF != 0)
    }

    fn is_non_register_state_valid(&mut self, state: &State) -> bool {
        let blocking = self.interruptibility();
        let flags = self.register(Register::Rflags);
        let kind = state.event.map(|event| event.kind);
        let sti = blocking.blocking_by_sti();
        let mov_ss = blocking.blocking_by_mov_ss();
        const RESERVED: u32 = !0x1f;
        let blocking_valid = blocking.into_bits() & RESERVED == 0
            && !(sti && mov_ss)
            && (!sti || flags & rflags::IF != 0)
            && !blocking.blocking_by_smi()
            && (kind != Some(EventKind::ExternalInterrupt) || !sti && !mov_ss)
            && (kind != Some(EventKind::Nmi) || !mov_ss && !blocking.blocking_by_nmi());
        const SINGLE_STEP: u64 = 1 << 14;
        const PENDING_RESERVED: u64 = !0x1_580f;
        let pending = self.l2.cell(VmcsField::GUEST_PENDING_DEBUG_EXCEPTIONS);
        let steps = flags & rflags::TF != 0 && !self.traps_branches_only();
        let pending_valid = pending & PENDING_RESERVED == 0
            && (!(sti || mov_ss) || (pending & SINGLE_STEP != 0) == steps);
        blocking_valid && pending_valid
    }
}

fn access_rights(segment: &Segment) -> SegmentAccessRights {
    SegmentAccessRights::from_bits(segment.access_rights)
}

/// A present data or readable code segment that has been accessed.
fn is_data_valid(segment: &Segment) -> bool {
    const ACCESSED: u8 = 1 << 0;
    const READABLE: u8 = 1 << 1;
    const CODE: u8 = 1 << 3;
    let rights = access_rights(segment);
    let kind = rights.segment_type();
    kind & ACCESSED != 0
        && (kind & CODE == 0 || kind & READABLE != 0)
        && rights.code_or_data()
        && rights.present()
        && is_limit_valid(segment)
}

/// Whether the limit is one that the granularity can give.
fn is_limit_valid(segment: &Segment) -> bool {
    let granular = access_rights(segment).granularity();
    let whole_pages = segment.limit & 0xfff == 0xfff;
    let more_than_a_megabyte = segment.limit >> 20 != 0;
    if granular {
        whole_pages
    } else {
        !more_than_a_megabyte
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;
    use crate::test_platform::TestPlatform;

    fn segment(selector: u16, access_rights: u32, limit: u32) -> Segment {
        Segment {
            selector,
            access_rights,
            limit,
            base: 0,
        }
    }

    /// 64-bit code at CPL 0, as a 64-bit boot protocol starts a kernel.
    fn long_mode() -> Fake {
        let mut fake = Fake::new();
        let mut guest = fake.guest();
        guest.set_real(ControlRegister::Cr0, 0x8000_0021);
        guest.set_real(ControlRegister::Cr4, 0x2060);
        guest.set_register(Register::Efer, 0xd01);
        guest.l2.set_cell(VmcsField::ENTRY_CONTROLS, 0x003e_c204);
        let vm = guest.vm();
        for (name, value) in [
            (SegmentName::Cs, segment(0x10, 0xa09b, u32::MAX)),
            (SegmentName::Tr, segment(0, 0x8b, 0xffff)),
        ] {
            guest.platform.set_segment(vm, name, value);
        }
        guest.set_register(Register::Rip, 0x100_0200);
        fake
    }

    #[test]
    fn the_reset_state_and_a_64_bit_state_are_valid() {
        let mut fake = Fake::new();
        assert!(fake.guest().is_state_valid());
        assert!(long_mode().guest().is_state_valid());
    }

    /// As a SIPI starts a processor: real mode at the page of its vector.
    fn real_mode() -> Fake {
        let mut fake = Fake::new();
        let mut guest = fake.guest();
        guest.set_real(ControlRegister::Cr0, 0x30);
        guest.set_register(Register::Efer, 0);
        guest.set_register(Register::Rip, 0);
        let vm = guest.vm();
        let code = Segment {
            base: 0x9_a000,
            ..segment(0x9a00, 0x9b, 0xffff)
        };
        guest.platform.set_segment(vm, SegmentName::Cs, code);
        for (name, rights) in [
            (SegmentName::Ss, 0x93),
            (SegmentName::Ds, 0x93),
            (SegmentName::Es, 0x93),
            (SegmentName::Fs, 0x93),
            (SegmentName::Gs, 0x93),
            (SegmentName::Ldtr, 0x82),
            (SegmentName::Tr, 0x8b),
            (SegmentName::Gdtr, 0),
            (SegmentName::Idtr, 0),
        ] {
            let value = segment(0, rights, 0xffff);
            guest.platform.set_segment(vm, name, value);
        }
        fake
    }

    #[test]
    fn real_mode_is_entered_and_only_as_real_mode() {
        assert!(real_mode().guest().is_state_valid());
        const NXE_LME: u64 = 0x900;
        const IA32E_GUEST: u64 = 1 << 9;
        type Spoil = fn(&mut Guest<'_, TestPlatform>);
        let rows: [(&str, Spoil, bool); 9] = [
            (
                "paging",
                |g| g.set_real(ControlRegister::Cr0, 0x8000_0030),
                false,
            ),
            ("LME", |g| g.set_register(Register::Efer, NXE_LME), true),
            (
                "LMA",
                |g| g.set_register(Register::Efer, NXE_LME | efer::LMA),
                false,
            ),
            (
                "VM",
                |g| g.set_register(Register::Rflags, 2 | rflags::VM),
                false,
            ),
            ("RIP", |g| g.set_register(Register::Rip, 1 << 32), false),
            (
                "IA-32e mode guest",
                |g| {
                    let entry = g.l2.cell(VmcsField::ENTRY_CONTROLS);
                    g.l2.set_cell(VmcsField::ENTRY_CONTROLS, entry | IA32E_GUEST);
                },
                false,
            ),
            (
                "privilege of SS",
                |g| {
                    let vm = g.vm();
                    let value = segment(0, 0xf3, 0xffff);
                    g.platform.set_segment(vm, SegmentName::Ss, value);
                },
                false,
            ),
            (
                "CS as data",
                |g| {
                    let vm = g.vm();
                    let value = segment(0x9a00, 0x93, 0xffff);
                    g.platform.set_segment(vm, SegmentName::Cs, value);
                },
                true,
            ),
            (
                "a task state of no type",
                |g| {
                    let vm = g.vm();
                    let value = segment(0, 0x89, 0xffff);
                    g.platform.set_segment(vm, SegmentName::Tr, value);
                },
                false,
            ),
        ];
        for (what, spoil, valid) in rows {
            let mut fake = real_mode();
            let mut guest = fake.guest();
            spoil(&mut guest);
            assert_eq!(guest.is_state_valid(), valid, "{what}");
        }
    }

    /// The processor pushes no error code there, and takes none.
    #[test]
    fn an_exception_in_real_mode_has_no_error_code() {
        let mut fake = real_mode();
        let mut guest = fake.guest();
        guest.set_entry_event(&Event::GENERAL_PROTECTION);
        assert_eq!(guest.entry_event(), Some(Event::exception(13, None)));
        assert!(guest.is_entry_event_legal());
        let with_error_code = Event::GENERAL_PROTECTION.information().into();
        guest
            .l2
            .set_cell(VmcsField::ENTRY_INTERRUPTION_INFO, with_error_code);
        assert!(!guest.is_entry_event_legal());
    }

    #[test]
    fn one_wrong_register_is_enough() {
        let rows = [
            (Register::Cr0, 0x8000_0020),
            (Register::Cr3, 1 << 52),
            (Register::Cr4, 0x40),
            (Register::Dr7, 1 << 32),
            (Register::Efer, 0x901),
            (Register::Efer, 0xc01),
            (Register::Pat, 2),
            (Register::SysenterEip, 1 << 63),
            (Register::Rip, 1 << 47),
            (Register::Rflags, 0),
            (Register::Rflags, 2 | 1 << 15),
            (Register::Rflags, 2 | rflags::VM),
        ];
        for (register, value) in rows {
            let mut fake = long_mode();
            let mut guest = fake.guest();
            guest.set_register(register, value);
            assert!(!guest.is_state_valid(), "{register:?} {value:#x}");
        }
    }

    #[test]
    fn one_wrong_segment_is_enough() {
        let rows = [
            (SegmentName::Cs, segment(0x10, 0xe09b, u32::MAX)),
            (SegmentName::Cs, segment(0x10, 0xa0fb, u32::MAX)),
            (SegmentName::Cs, segment(0x10, 0x209b, u32::MAX)),
            (SegmentName::Cs, segment(0x10, 0x1_a09b, u32::MAX)),
            (SegmentName::Ds, segment(0x18, 0xc092, u32::MAX)),
            (SegmentName::Ss, segment(0x18, 0xc099, u32::MAX)),
            (SegmentName::Tr, segment(0, 0x89, 0xffff)),
            (SegmentName::Tr, segment(0, 0x83, 0xffff)),
            (SegmentName::Ldtr, segment(4, 0x82, 0xffff)),
            (SegmentName::Gdtr, segment(0, 0, 0x1_0000)),
        ];
        for (name, value) in rows {
            let mut fake = long_mode();
            let guest = fake.guest();
            guest.platform.set_segment(guest.vm(), name, value);
            assert!(!fake.guest().is_state_valid(), "{name:?} {value:x?}");
        }
    }

    #[test]
    fn what_the_checks_allow_is_entered() {
        let rows = [
            // A conforming code segment below SS's privilege, and SS unusable or expand-down.
            (SegmentName::Cs, segment(0x10, 0xa09d, u32::MAX)),
            (SegmentName::Ss, segment(0, 0x1_0000, 0)),
            (SegmentName::Ss, segment(0x18, 0xc097, u32::MAX)),
            (SegmentName::Ds, segment(0, 0x1_0000, 0)),
            (SegmentName::Ds, segment(0x18, 0xc09b, u32::MAX)),
            (SegmentName::Fs, segment(0x18, 0x0093, 0xf_ffff)),
            (SegmentName::Ldtr, segment(8, 0x82, 0xffff)),
            (SegmentName::Gdtr, segment(0, 0, 0xffff)),
        ];
        for (name, value) in rows {
            let mut fake = long_mode();
            let guest = fake.guest();
            guest.platform.set_segment(guest.vm(), name, value);
            assert!(fake.guest().is_state_valid(), "{name:?} {value:x?}");
        }
    }

    /// CS and SS agree about the privilege; in real mode, or with CS as data, it is 0.
    #[test]
    fn the_stack_has_the_privilege_of_the_code() {
        const REAL: u64 = 0x30;
        const PROTECTED: u64 = 0x31;
        for (cr0, cs, ss, valid) in [
            (PROTECTED, 0x9b, 0x93, true),
            (PROTECTED, 0xfb, 0xf3, true),
            (PROTECTED, 0xfb, 0x93, false),
            (PROTECTED, 0x9b, 0xf3, false),
            // Conforming code is of its callers' privilege or above.
            (PROTECTED, 0x9f, 0xf3, true),
            (PROTECTED, 0xff, 0x93, false),
            (PROTECTED, 0x93, 0x93, true),
            (PROTECTED, 0x93, 0xf3, false),
            (PROTECTED, 0xf3, 0x93, false),
            (PROTECTED, 0x97, 0x93, false),
            (REAL, 0x9b, 0x93, true),
            (REAL, 0x93, 0x93, true),
            (REAL, 0xfb, 0xf3, false),
        ] {
            let mut fake = Fake::new();
            let mut guest = fake.guest();
            guest.set_real(ControlRegister::Cr0, cr0);
            let vm = guest.vm();
            let (cs, ss) = (segment(0, cs, 0xffff), segment(0, ss, 0xffff));
            guest.platform.set_segment(vm, SegmentName::Cs, cs);
            guest.platform.set_segment(vm, SegmentName::Ss, ss);
            assert_eq!(guest.is_state_valid(), valid, "{cr0:#x} {cs:x?} {ss:x?}");
        }
    }

    #[test]
    fn cet_needs_write_protection() {
        const WP: u64 = 1 << 16;
        for (cr0, cr4, valid) in [
            (WP, cr4::CET, true),
            (0, cr4::CET, false),
            (WP, 0, true),
            (0, 0, true),
        ] {
            let mut fake = long_mode();
            let mut guest = fake.guest();
            guest.set_real(ControlRegister::Cr0, 0x8000_0021 | cr0);
            guest.set_real(ControlRegister::Cr4, 0x2060 | cr4);
            assert_eq!(guest.is_state_valid(), valid, "{cr0:#x} {cr4:#x}");
        }
    }

    /// SDM volume 3, "Checks on Guest Segment Registers", the lines about data segments.
    #[test]
    fn data_segments_are_accessed_present_and_readable() {
        let flat = segment(0x18, 0xc093, u32::MAX);
        let rows = [
            ("not accessed", segment(0x18, 0xc092, u32::MAX)),
            ("not readable code", segment(0x18, 0xc099, u32::MAX)),
            ("a system segment", segment(0x18, 0xc083, u32::MAX)),
            ("not present", segment(0x18, 0xc013, u32::MAX)),
            ("a limit of no page", segment(0x18, 0xc093, 0xfffe)),
            (
                "a limit of bytes above 1 MiB",
                segment(0x18, 0x4093, 0x10_0000),
            ),
            (
                "a base above 4 GiB",
                Segment {
                    base: 1 << 32,
                    ..flat
                },
            ),
        ];
        let names = [
            SegmentName::Ss,
            SegmentName::Ds,
            SegmentName::Es,
            SegmentName::Fs,
            SegmentName::Gs,
        ];
        for name in names {
            // FS and GS may be anywhere that is canonical.
            let wide = matches!(name, SegmentName::Fs | SegmentName::Gs);
            for (what, value) in rows {
                let mut fake = long_mode();
                let guest = fake.guest();
                guest.platform.set_segment(guest.vm(), name, value);
                let valid = wide && value.base != 0;
                assert_eq!(fake.guest().is_state_valid(), valid, "{name:?}: {what}");
            }
        }
    }

    /// SDM volume 3, "Checks on Guest Non-Register State".
    #[test]
    fn interruptibility_and_pending_exceptions_fit_rflags() {
        const STI: u64 = 1;
        const MOV_SS: u64 = 2;
        const SMI: u64 = 4;
        const NMI: u64 = 8;
        const STEP: u64 = 1 << 14;
        let (interrupts, trap) = (2 | rflags::IF, 2 | rflags::IF | rflags::TF);
        let rows = [
            (interrupts, 0, 0, 0, true),
            (interrupts, STI, 0, 0, true),
            (2, STI, 0, 0, false),
            (2, MOV_SS, 0, 0, true),
            (interrupts, STI | MOV_SS, 0, 0, false),
            (interrupts, SMI, 0, 0, false),
            (interrupts, NMI, 0, 0, true),
            (interrupts, 1 << 5, 0, 0, false),
            // BS follows TF while a shadow holds it back, unless TF traps branches only.
            (interrupts, 0, STEP, 0, true),
            (trap, 0, 0, 0, true),
            (trap, STI, 0, 0, false),
            (trap, STI, STEP, 0, true),
            (trap, MOV_SS, 0, 0, false),
            (trap, MOV_SS, STEP, 0, true),
            (interrupts, STI, STEP, 0, false),
            (trap, STI, 0, 1 << 1, true),
            (trap, STI, STEP, 1 << 1, false),
            (interrupts, 0, 0xf | 1 << 12 | 1 << 16, 0, true),
            (interrupts, 0, 1 << 4, 0, false),
            (interrupts, 0, 1 << 13, 0, false),
        ];
        for (flags, blocking, pending, debug_control, valid) in rows {
            let mut fake = long_mode();
            let mut guest = fake.guest();
            guest.set_register(Register::Rflags, flags);
            guest.set_register(Register::DebugCtl, debug_control);
            for (field, value) in [
                (VmcsField::GUEST_INTERRUPTIBILITY, blocking),
                (VmcsField::GUEST_PENDING_DEBUG_EXCEPTIONS, pending),
            ] {
                guest.l2.set_cell(field, value);
            }
            assert_eq!(
                guest.is_state_valid(),
                valid,
                "RFLAGS {flags:#x} blocking {blocking:#x} pending {pending:#x} {debug_control}"
            );
        }
    }

    #[test]
    fn an_nmi_needs_no_blocking_by_mov_ss_or_nmi() {
        const NMI: Event = Event {
            kind: EventKind::Nmi,
            vector: 2,
            error_code: None,
            instruction_length: 0,
        };
        for (event, blocking, valid) in [
            (NMI, 0, true),
            (NMI, 1, true),
            (NMI, 2, false),
            (NMI, 8, false),
            (Event::interrupt(0xec), 2, false),
            (Event::interrupt(0xec), 8, true),
            (Event::exception(13, Some(0)), 2, true),
            (Event::exception(13, Some(0)), 8, true),
        ] {
            let mut fake = long_mode();
            let mut guest = fake.guest();
            guest.set_register(Register::Rflags, 2 | rflags::IF);
            guest.set_entry_event(&event);
            guest
                .l2
                .set_cell(VmcsField::GUEST_INTERRUPTIBILITY, blocking);
            assert_eq!(guest.is_state_valid(), valid, "{event:?} {blocking}");
        }
    }

    /// A state that was accepted is not looked at again, until L1 writes a field of it.
    #[test]
    fn an_accepted_state_is_not_checked_twice() {
        let mut fake = long_mode();
        assert!(!fake.l2.registers_accepted);
        assert!(fake.guest().is_state_valid());
        assert!(fake.l2.registers_accepted);
        // The processor itself keeps what L2 runs with valid.
        fake.guest().set_register(Register::Pat, 2);
        assert!(fake.guest().is_state_valid());
        fake.l2.registers_accepted = false;
        assert!(!fake.guest().is_state_valid());
        assert!(!fake.l2.registers_accepted);
    }

    #[test]
    fn an_interrupt_needs_the_flag_and_no_shadow() {
        let mut fake = long_mode();
        let mut guest = fake.guest();
        guest.set_entry_event(&Event::interrupt(0xec));
        assert!(!guest.is_state_valid());
        guest.set_register(Register::Rflags, 2 | rflags::IF);
        assert!(guest.is_state_valid());
        guest.l2.set_cell(VmcsField::GUEST_INTERRUPTIBILITY, 1);
        assert!(!guest.is_state_valid());
    }
}
