//! L2's VMCS before its first entry, and the parts of it that change with L2's mode.

use l2_exit::{GuestMemory, Segment, SegmentRegister, Vcpu};
use tdcall::RawTdcall;
use tdx_defs::Gpa;
use tdx_defs::field::FieldId;
use tdx_defs::vmcs::{EntryControls, PrimaryControls, SecondaryControls, VmcsField};
use tdx_defs::vp_enter::GuestState;
use x86_defs::exception;
use x86_defs::{cr0, cr4, efer};

use super::L2Vcpu;
use super::cache::Control;
use crate::launch::boot::EntryState;
use crate::run::end::Failure;

/// Bits of CR0 that L2 sees a shadow of: the module fixes NE, NW and CD, and a change of PG is
/// more than the processor does by itself.
pub const CR0_HOST_OWNED: u64 = cr0::PG | cr0::NE | cr0::NW | cr0::CD;
/// Bits of CR0 that L1 may write (TDX Module ABI, "L2 VMCS").
const CR0_WRITABLE: u64 = 0x8005_001F;
/// Bits of CR4 that L1 may write in some TD.
const CR4_WRITABLE: u64 = 0x03FF_1FBF;
/// Bits of IA32_EFER that L1 may write: SCE, LME, LMA.
const EFER_WRITABLE: u64 = efer::SCE | efer::LME | efer::LMA;
/// The virtual-APIC address without its page offset.
const PAGE_FRAME: u64 = !0xFFF;
/// #MC: fixed in the exception bitmap, and all that is in it.
const MACHINE_CHECK: u64 = 1 << exception::MACHINE_CHECK;
/// IA32_PAT after a reset.
const PAT_RESET: u64 = 0x0007_0406_0007_0406;
/// DR7 after a reset.
const DR7_RESET: u64 = 0x400;
/// L2_CTLS bits that exist in every version of the module.
const L2_CTLS: u64 = 0b11;
/// No TSC deadline.
const NO_DEADLINE: u64 = u64::MAX;

/// How L2 starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitialState<'a> {
    /// Registers. Any mode of the processor.
    pub entry: &'a EntryState,
    /// Guest-physical address of the virtual-APIC page.
    pub vapic: Gpa,
    /// The local APIC is in x2APIC mode.
    pub x2apic: bool,
    /// L2 is offered UMWAIT, TPAUSE and UMONITOR.
    pub user_wait: bool,
}

impl<R: RawTdcall> L2Vcpu<'_, R> {
    /// Writes everything that L2's VMCS must hold before the first entry.
    pub fn set_up(&mut self, initial: &InitialState<'_>) -> Result<(), Failure> {
        let controls = FieldId::l2_ctls(self.vm);
        self.td
            .vp_wr(controls, 0, L2_CTLS)
            .map_err(|error| Failure::Field {
                field: controls,
                error,
            })?;
        self.set_deadline(None)?;
        self.write_masked(VmcsField::VIRTUAL_APIC_ADDRESS, initial.vapic.0, PAGE_FRAME)?;
        self.set_up_controls(initial.user_wait)?;
        self.write_msr_bitmaps(initial.x2apic)?;
        for (field, value) in [
            (VmcsField::GUEST_PAT, PAT_RESET),
            (VmcsField::GUEST_DEBUGCTL, 0),
            (VmcsField::GUEST_SYSENTER_CS, 0),
            (VmcsField::GUEST_SYSENTER_ESP, 0),
            (VmcsField::GUEST_SYSENTER_EIP, 0),
        ] {
            self.write(field, value)?;
        }
        self.set_up_registers(initial.entry)
    }

    /// INIT: the registers of `entry`, and nothing pending. General registers that it does not name are 0; MSRs stay as
    /// they are.
    pub fn initialize(&mut self, entry: &EntryState) -> Result<(), Failure> {
        self.state = GuestState::new();
        self.injection = None;
        self.injection_prepared = false;
        self.cr2 = Some(0);
        self.cache.clear();
        self.set_nmi_window(false)?;
        self.set_interrupt_window(false)?;
        self.set_up_registers(entry)
    }

    /// Start-up with `vector`: in real mode at the start of that page (SDM Vol. 3A, section "MP Initialization
    /// Protocol Algorithm for MP Systems").
    pub fn start_up(&mut self, vector: u8) -> Result<(), Failure> {
        self.cs = EntryState::start_up_code(vector);
        self.state.rip = 0;
        self.set_segment(SegmentRegister::Cs, self.cs)
    }

    /// Sets the TSC value at which L2 exits with the preemption timer.
    pub fn set_deadline(&self, deadline: Option<u64>) -> Result<(), Failure> {
        let field = FieldId::tsc_deadline(self.vm);
        // All ones is "none".
        let value = deadline.unwrap_or(NO_DEADLINE);
        self.td
            .vp_wr(field, value, u64::MAX)
            .map(drop)
            .map_err(|error| Failure::Field { field, error })
    }

    /// The interrupts whose end exits.
    pub fn set_eoi_exits(&self, vectors: [u64; 4]) -> Result<(), Failure> {
        let fields = [
            VmcsField::EOI_EXIT_BITMAP_0,
            VmcsField::EOI_EXIT_BITMAP_1,
            VmcsField::EOI_EXIT_BITMAP_2,
            VmcsField::EOI_EXIT_BITMAP_3,
        ];
        for (field, bits) in fields.into_iter().zip(vectors) {
            self.write(field, bits)?;
        }
        Ok(())
    }

    /// Makes `value` L2's CR0. It is one that the processor takes.
    pub fn set_cr0(&mut self, value: u64) -> Result<(), Failure> {
        self.write_masked(VmcsField::GUEST_CR0, value & CR0_WRITABLE, CR0_WRITABLE)?;
        self.write(VmcsField::CR0_READ_SHADOW, value & CR0_HOST_OWNED)?;
        self.cr0_shadow = value;
        self.cache.set_control(Control::Cr0, value);
        Ok(())
    }

    /// Makes `value` L2's CR4. It is one that the processor takes.
    pub fn set_cr4(&mut self, value: u64) -> Result<(), Failure> {
        let native = self.cr4_native & CR4_WRITABLE;
        self.write_masked(VmcsField::GUEST_CR4, value & native, native)?;
        self.write(VmcsField::CR4_READ_SHADOW, value & !self.cr4_native)?;
        self.cr4_shadow = value;
        self.cache.set_control(Control::Cr4, value);
        Ok(())
    }

    /// Makes `value` L2's CR3.
    pub fn set_cr3(&mut self, value: u64) -> Result<(), Failure> {
        self.write(VmcsField::GUEST_CR3, value)?;
        self.cache.set_control(Control::Cr3, value);
        Ok(())
    }

    /// Makes `value` L2's IA32_EFER, and the entry's mode follow its LMA. NXE stays set: the
    /// module allows nothing else.
    pub fn set_efer(&mut self, value: u64) -> Result<(), Failure> {
        self.write_masked(VmcsField::GUEST_EFER, value & EFER_WRITABLE, EFER_WRITABLE)?;
        let ia32e = EntryControls::new().with_ia32e_mode_guest(true);
        let long = if value & efer::LMA != 0 {
            ia32e
        } else {
            EntryControls::new()
        };
        let bits = |controls: EntryControls| u64::from(controls.into_bits());
        self.write_masked(VmcsField::ENTRY_CONTROLS, bits(long), bits(ia32e))?;
        let value = value & EFER_WRITABLE | efer::NXE;
        self.cache.set_control(Control::Efer, value);
        Ok(())
    }

    /// Writes a segment register.
    pub fn set_segment(&self, register: SegmentRegister, value: Segment) -> Result<(), Failure> {
        self.write_segment(segment_fields(register), value)
    }

    /// TR as VM entry demands it in IA-32e mode: a busy 64-bit TSS.
    pub fn make_task_register_64_bit(&self) -> Result<(), Failure> {
        const BUSY_TSS: u64 = 11;
        self.write_masked(VmcsField::GUEST_TR_ACCESS_RIGHTS, BUSY_TSS, 0xF)
    }

    /// Writes the PDPTEs that the processor keeps under PAE paging.
    pub fn set_pdptes(&self, entries: [u64; 4]) -> Result<(), Failure> {
        let fields = [
            VmcsField::GUEST_PDPTE0,
            VmcsField::GUEST_PDPTE1,
            VmcsField::GUEST_PDPTE2,
            VmcsField::GUEST_PDPTE3,
        ];
        for (field, entry) in fields.into_iter().zip(entries) {
            self.write(field, entry)?;
        }
        Ok(())
    }

    /// The PDPTEs that `cr3` leads to, or None where the processor would fault: memory that is
    /// not L2's, or a present entry with a reserved bit (SDM Vol. 3A, "PDPTE Registers").
    pub fn pdptes_at<M: GuestMemory>(&self, memory: &M, cr3: u64) -> Option<[u64; 4]> {
        const PRESENT: u64 = 1;
        const RESERVED_LOW: u64 = 0x1E6;
        let reserved = RESERVED_LOW | u64::MAX << self.physical_address_width.min(52);
        let table = cr3 & 0xFFFF_FFE0;
        let mut entries = [0; 4];
        for (index, entry) in (0..).zip(&mut entries) {
            let mut bytes = [0; 8];
            memory.read(table + 8 * index, &mut bytes).ok()?;
            *entry = u64::from_le_bytes(bytes);
            if *entry & PRESENT != 0 && *entry & reserved != 0 {
                return None;
            }
        }
        Some(entries)
    }

    pub(super) fn set_primary_controls(
        &mut self,
        controls: PrimaryControls,
    ) -> Result<(), Failure> {
        let (old, new) = (self.primary.into_bits(), controls.into_bits());
        self.change(VmcsField::PRIMARY_CONTROLS, u64::from(old), u64::from(new))?;
        self.primary = controls;
        Ok(())
    }

    fn set_up_controls(&mut self, user_wait: bool) -> Result<(), Failure> {
        let bits = self.read(VmcsField::PRIMARY_CONTROLS)? as u32;
        self.primary = PrimaryControls::from_bits(bits);
        self.set_primary_controls(
            self.primary
                .with_interrupt_window(false)
                .with_invlpg(false)
                .with_rdpmc(true)
                .with_rdtsc(false)
                .with_cr3_load(false)
                .with_cr3_store(false)
                .with_cr8_load(false)
                .with_cr8_store(false)
                .with_nmi_window(false)
                .with_mov_dr(false)
                .with_monitor_trap_flag(false)
                .with_pause(false),
        )?;
        let old = self.read(VmcsField::SECONDARY_CONTROLS)?;
        let secondary = SecondaryControls::from_bits(old as u32);
        let user_wait = secondary.user_wait_pause() && user_wait;
        let new = secondary
            .with_descriptor_table(false)
            .with_rdtscp(true)
            .with_virtual_interrupt_delivery(true)
            .with_pause_loop(false)
            .with_rdrand(false)
            .with_invpcid(true)
            .with_vm_functions(false)
            .with_rdseed(false)
            .with_xsaves(true)
            .with_mode_based_execute(false)
            .with_user_wait_pause(user_wait);
        self.change(
            VmcsField::SECONDARY_CONTROLS,
            old,
            u64::from(new.into_bits()),
        )?;
        let old = self.read(VmcsField::EXCEPTION_BITMAP)?;
        self.change(VmcsField::EXCEPTION_BITMAP, old, MACHINE_CHECK)?;
        self.write(VmcsField::CR3_TARGET_COUNT, 0)?;
        self.write(VmcsField::TPR_THRESHOLD, 0)?;
        self.write(VmcsField::CR0_GUEST_HOST_MASK, CR0_HOST_OWNED)?;
        self.write(VmcsField::CR4_GUEST_HOST_MASK, !self.cr4_native)
    }

    fn set_up_registers(&mut self, entry: &EntryState) -> Result<(), Failure> {
        self.state.rip = entry.rip;
        self.state.rflags = entry.rflags;
        self.set_gpr(l2_exit::Gpr::Rsi, entry.rsi);
        self.set_gpr(l2_exit::Gpr::Rdx, entry.rdx);
        self.set_gpr(l2_exit::Gpr::Rsp, entry.rsp);
        self.set_cr3(entry.cr3)?;
        self.set_cr4(entry.cr4)?;
        self.set_efer(entry.efer)?;
        self.set_cr0(entry.cr0)?;
        self.cs = entry.cs;
        self.set_segment(SegmentRegister::Cs, entry.cs)?;
        for register in [
            SegmentRegister::Ds,
            SegmentRegister::Es,
            SegmentRegister::Ss,
            SegmentRegister::Fs,
            SegmentRegister::Gs,
        ] {
            self.set_segment(register, entry.data)?;
        }
        self.write_segment(LDTR_FIELDS, entry.ldtr)?;
        self.write_segment(TR_FIELDS, entry.tr)?;
        for (base, limit, table) in [
            (
                VmcsField::GUEST_GDTR_BASE,
                VmcsField::GUEST_GDTR_LIMIT,
                entry.gdtr,
            ),
            (
                VmcsField::GUEST_IDTR_BASE,
                VmcsField::GUEST_IDTR_LIMIT,
                entry.idtr,
            ),
        ] {
            self.write(base, table.base)?;
            self.write(limit, u64::from(table.limit))?;
        }
        for (field, value) in [
            (VmcsField::GUEST_DR7, DR7_RESET),
            (VmcsField::GUEST_PENDING_DEBUG_EXCEPTIONS, 0),
            (VmcsField::GUEST_INTERRUPTIBILITY, 0),
            (VmcsField::ENTRY_INTERRUPTION_INFO, 0),
        ] {
            self.write(field, value)?;
        }
        self.flush_translations();
        Ok(())
    }

    fn write_segment(&self, fields: [VmcsField; 4], value: Segment) -> Result<(), Failure> {
        let [selector, base, limit, rights] = fields;
        self.write(selector, u64::from(value.selector))?;
        self.write(base, value.base)?;
        self.write(limit, u64::from(value.limit))?;
        self.write(rights, u64::from(value.access_rights.into_bits()))
    }

    /// Writes the bits of a control field that change: the module refuses a write that names a
    /// fixed bit with another value, and one that changes nothing writable.
    fn change(&self, field: VmcsField, old: u64, new: u64) -> Result<(), Failure> {
        match old ^ new {
            0 => Ok(()),
            mask => self.write_masked(field, new & mask, mask),
        }
    }

    /// Whether L2's paging uses PDPTE registers with these values of CR0, CR4 and EFER.
    pub const fn uses_pdptes(cr0: u64, cr4: u64, efer: u64) -> bool {
        cr0 & cr0::PG != 0 && cr4 & cr4::PAE != 0 && efer & efer::LMA == 0
    }
}

const LDTR_FIELDS: [VmcsField; 4] = [
    VmcsField::GUEST_LDTR_SELECTOR,
    VmcsField::GUEST_LDTR_BASE,
    VmcsField::GUEST_LDTR_LIMIT,
    VmcsField::GUEST_LDTR_ACCESS_RIGHTS,
];

const TR_FIELDS: [VmcsField; 4] = [
    VmcsField::GUEST_TR_SELECTOR,
    VmcsField::GUEST_TR_BASE,
    VmcsField::GUEST_TR_LIMIT,
    VmcsField::GUEST_TR_ACCESS_RIGHTS,
];

/// Selector, base, limit and access rights of a segment register.
pub const fn segment_fields(register: SegmentRegister) -> [VmcsField; 4] {
    match register {
        SegmentRegister::Es => [
            VmcsField::GUEST_ES_SELECTOR,
            VmcsField::GUEST_ES_BASE,
            VmcsField::GUEST_ES_LIMIT,
            VmcsField::GUEST_ES_ACCESS_RIGHTS,
        ],
        SegmentRegister::Cs => [
            VmcsField::GUEST_CS_SELECTOR,
            VmcsField::GUEST_CS_BASE,
            VmcsField::GUEST_CS_LIMIT,
            VmcsField::GUEST_CS_ACCESS_RIGHTS,
        ],
        SegmentRegister::Ss => [
            VmcsField::GUEST_SS_SELECTOR,
            VmcsField::GUEST_SS_BASE,
            VmcsField::GUEST_SS_LIMIT,
            VmcsField::GUEST_SS_ACCESS_RIGHTS,
        ],
        SegmentRegister::Ds => [
            VmcsField::GUEST_DS_SELECTOR,
            VmcsField::GUEST_DS_BASE,
            VmcsField::GUEST_DS_LIMIT,
            VmcsField::GUEST_DS_ACCESS_RIGHTS,
        ],
        SegmentRegister::Fs => [
            VmcsField::GUEST_FS_SELECTOR,
            VmcsField::GUEST_FS_BASE,
            VmcsField::GUEST_FS_LIMIT,
            VmcsField::GUEST_FS_ACCESS_RIGHTS,
        ],
        SegmentRegister::Gs => [
            VmcsField::GUEST_GS_SELECTOR,
            VmcsField::GUEST_GS_BASE,
            VmcsField::GUEST_GS_LIMIT,
            VmcsField::GUEST_GS_ACCESS_RIGHTS,
        ],
    }
}
