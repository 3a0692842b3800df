//! What the module keeps of one L2 VM of the virtual processor.

use super::exit_information::ExitInformation;
use super::shape::Shape;
use super::translations::Translations;
use super::virtual_vmx_msr::control;
use super::vmcs_table::{FIELD_COUNT, FIELDS, Storage, index_of};
use crate::instruction::Decoded;
use crate::platform::{Event, Platform, Register, Segment, SegmentName, Vm};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use tdx_defs::field::L2Ctls;
use tdx_defs::vmcs::{SegmentAccessRights as Rights, VmcsField};

/// Quadwords of a page of MSR bitmaps.
pub(super) const MSR_BITMAP_QWORDS: usize = 512;
/// TSC_DEADLINE: no deadline.
pub(super) const NO_DEADLINE: u64 = u64::MAX;

/// A guest/host mask and read shadow as the hardware would have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MaskAndShadow {
    pub(super) mask: u64,
    pub(super) shadow: u64,
}

/// A run of L2 that TDG.VP.ENTER began and no exit to L1 has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where L1's guest state is.
    pub(super) guest_state_gpa: u64,
    /// The same, in machine memory.
    pub(super) guest_state_hpa: u64,
    /// The virtual-APIC page in machine memory.
    pub(super) vapic_hpa: u64,
}

/// One L2 VM. Guest registers are in the platform's hardware context.
#[derive(Debug)]
pub(crate) struct L2 {
    pub(super) shape: Shape,
    /// By the field's place. Their number is a constant, so that no access by a field's name needs a check of its place.
    pub(super) cells: Box<[u64; FIELD_COUNT]>,
    pub(super) cr0: MaskAndShadow,
    pub(super) cr4: MaskAndShadow,
    /// L1's own bitmaps; the module's are rules, see [`super::msr_policy`].
    pub(super) msr_bitmaps: Vec<u64>,
    pub(super) controls: L2Ctls,
    /// The processor has accepted the registers, and L1 has written no field since: what an exit
    /// saves, the next entry can load.
    pub(super) registers_accepted: bool,
    pub(super) tsc_deadline: u64,
    pub(super) entry: Entry,
    /// The event whose delivery the last exit cut short, until somebody delivers it.
    pub(super) vectoring: Option<Event>,
    /// The IRET that ends blocking by NMI once it has run: its address.
    pub(super) nmi_iret: Option<u64>,
    /// What the processor keeps of its memory.
    pub(super) translations: Translations,
    /// What it exited at lately.
    pub(super) decoded: Decoded,
    /// The last exit, for a host that routes it to L1 later.
    pub(super) last_exit: ExitInformation,
}

impl L2 {
    pub(crate) fn new() -> L2 {
        L2 {
            shape: Shape::NONE,
            cells: Box::new(core::array::from_fn(|index| match FIELDS[index].storage {
                Storage::Cell(initial) => initial,
                _ => 0,
            })),
            cr0: MaskAndShadow {
                mask: u64::MAX,
                shadow: INITIAL_CR0,
            },
            cr4: MaskAndShadow {
                mask: u64::MAX,
                shadow: INITIAL_CR4,
            },
            msr_bitmaps: vec![u64::MAX; MSR_BITMAP_QWORDS],
            controls: L2Ctls::new(),
            registers_accepted: false,
            tsc_deadline: NO_DEADLINE,
            entry: Entry::default(),
            vectoring: None,
            nmi_iret: None,
            translations: Translations::default(),
            decoded: Decoded::default(),
            last_exit: ExitInformation::default(),
        }
    }

    /// TDH.VP.INIT: the control fields take the TD's shape, the hardware context its reset state.
    pub(super) fn initialize(&mut self, platform: &mut impl Platform, vm: Vm, shape: Shape) {
        *self = L2::new();
        for field in [
            VmcsField::PRIMARY_CONTROLS,
            VmcsField::SECONDARY_CONTROLS,
            VmcsField::TERTIARY_CONTROLS,
            VmcsField::ENTRY_CONTROLS,
            VmcsField::EXIT_CONTROLS,
        ] {
            self.set_cell(field, control(&shape, field).0);
        }
        if shape.gpaw == tdx_defs::Gpaw::Bits52 {
            // Write-back, a walk of five levels.
            self.set_cell(VmcsField::EPT_POINTER, 0x26);
        }
        self.shape = shape;
        reset_context(platform, vm);
    }

    /// A field that lives in the VMCS itself.
    #[inline]
    pub(super) fn cell(&self, field: VmcsField) -> u64 {
        index_of(field).map_or(0, |index| self.cells[index])
    }

    #[inline]
    pub(super) fn set_cell(&mut self, field: VmcsField, value: u64) {
        if let Some(index) = index_of(field) {
            self.cells[index] = value;
        }
    }
}

pub(super) const INITIAL_CR0: u64 = 0x21;
pub(super) const INITIAL_CR4: u64 = 0x2040;

/// The state of a virtual processor at TDH.VP.INIT (TDX Module Base Architecture, "Initial State
/// of Guest"). L1's own is the same; L2's general registers come with TDG.VP.ENTER.
fn reset_context(platform: &mut impl Platform, vm: Vm) {
    for (register, value) in [
        (Register::Rip, 0xffff_fff0),
        (Register::Rflags, 2),
        (Register::Cr0, INITIAL_CR0),
        (Register::Cr3, 0),
        (Register::Cr4, INITIAL_CR4 & !x86_defs::cr4::VMXE),
        (Register::Efer, 0x901),
        (Register::Dr7, 0x400),
        (Register::Pat, 0x0007_0406_0007_0406),
        (Register::DebugCtl, 0),
        (Register::SysenterCs, 0),
        (Register::SysenterEsp, 0),
        (Register::SysenterEip, 0),
    ] {
        platform.set_register(vm, register, value);
    }
    let segment = |access_rights: Rights, limit| Segment {
        selector: 0,
        access_rights: access_rights.into_bits(),
        limit,
        base: 0,
    };
    for (name, value) in [
        (SegmentName::Cs, segment(Rights::CODE_32, u32::MAX)),
        (SegmentName::Ds, segment(Rights::DATA, u32::MAX)),
        (SegmentName::Es, segment(Rights::DATA, u32::MAX)),
        (SegmentName::Ss, segment(Rights::DATA, u32::MAX)),
        (SegmentName::Fs, segment(Rights::DATA, u32::MAX)),
        (SegmentName::Gs, segment(Rights::DATA, u32::MAX)),
        (SegmentName::Ldtr, segment(Rights::NO_LDT, 0xffff)),
        (SegmentName::Tr, segment(Rights::BUSY_TSS, 0xffff)),
        (SegmentName::Gdtr, segment(Rights::new(), 0xffff)),
        (SegmentName::Idtr, segment(Rights::new(), 0)),
    ] {
        platform.set_segment(vm, name, value);
    }
}
