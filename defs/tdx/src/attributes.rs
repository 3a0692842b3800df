//! Attributes of a page in the secure EPT of the L2 VMs (TDX Module ABI, "GPA_ATTR").
#![allow(missing_docs)] // The macro's own constants have none; every field has one.

use bitfield_struct::bitfield;

use crate::address::{Gpa, PageLevel, VmIndex};

/// Attributes of a page for one L2 VM.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct VmAttributes {
    /// R.
    pub read: bool,
    /// W; needs R.
    pub write: bool,
    /// Xs: execute, supervisor mode; without mode-based execute control, any mode.
    pub execute_supervisor: bool,
    /// Xu: execute, user mode; used with mode-based execute control only.
    pub execute_user: bool,
    /// VGP: verify guest paging.
    pub verify_guest_paging: bool,
    /// PWA: paging-write access; needs R.
    pub paging_write: bool,
    /// SSS: supervisor shadow stack.
    pub supervisor_shadow_stack: bool,
    /// SVE: suppress #VE; must be 0 in a write.
    pub suppress_ve: bool,
    #[bits(7)]
    __: u8,
    /// VALID. In: act on this VM. Out: the page has an alias in this VM.
    pub valid: bool,
}

impl VmAttributes {
    /// Read, write and execute, to be written.
    pub const RWX: Self = Self::new()
        .with_read(true)
        .with_write(true)
        .with_execute_supervisor(true)
        .with_valid(true);
    /// Read access only, to be written.
    pub const READ: Self = Self::new().with_read(true).with_valid(true);
    /// No access, to be written: takes the alias away.
    pub const NONE: Self = Self::new().with_valid(true);

    /// Whether any access is allowed.
    pub const fn is_present(self) -> bool {
        self.into_bits() & 0xF != 0
    }
}

/// GPA_ATTR: the attributes of a page for every VM, four 16-bit parts. Part 0 (L1) is always 0.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct GpaAttributes(pub u64);

impl GpaAttributes {
    /// Attributes for one VM, none for the others.
    pub const fn of(vm: VmIndex, attributes: VmAttributes) -> Self {
        Self((attributes.into_bits() as u64) << (16 * vm.get() as u32))
    }

    /// The part for `vm`.
    pub const fn vm(self, vm: VmIndex) -> VmAttributes {
        VmAttributes::from_bits((self.0 >> (16 * vm.get() as u32)) as u16)
    }
}

/// ATTR_FLAGS for one L2 VM.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct VmAttributeFlags {
    /// Attributes to change, in the positions of [`VmAttributes`].
    #[bits(15)]
    pub mask: u16,
    /// INVEPT: flush this VM's translations on this virtual processor.
    pub invept: bool,
}

/// ATTR_FLAGS: which attributes to change for every VM, four 16-bit parts.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct AttrFlags(pub u64);

impl AttrFlags {
    /// Flags for one VM, none for the others.
    pub const fn of(vm: VmIndex, flags: VmAttributeFlags) -> Self {
        Self((flags.into_bits() as u64) << (16 * vm.get() as u32))
    }

    /// Change read, write and both execute attributes of `vm`.
    pub const fn permissions(vm: VmIndex) -> Self {
        Self::of(vm, VmAttributeFlags::new().with_mask(0xF))
    }

    /// The part for `vm`.
    pub const fn vm(self, vm: VmIndex) -> VmAttributeFlags {
        VmAttributeFlags::from_bits((self.0 >> (16 * vm.get() as u32)) as u16)
    }
}

/// GPA_MAPPING_INFO: a page and its level, as the page leaves take and return it.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Mapping {
    /// Level number, see [`PageLevel`].
    #[bits(3)]
    pub level_number: u8,
    #[bits(9)]
    __: u16,
    /// GPA bits 51:12.
    #[bits(40)]
    pub frame: u64,
    #[bits(10)]
    __: u16,
    /// PENDING (output): the page is not accepted yet.
    pub pending: bool,
    __: bool,
}

impl Mapping {
    /// The page of `level` at `gpa`; the caller keeps `gpa` aligned.
    pub const fn page(gpa: Gpa, level: PageLevel) -> Self {
        Self::from_bits(gpa.0 & Gpa::MASK & !0xFFF | level.number())
    }

    /// Where the page begins.
    pub const fn gpa(self) -> Gpa {
        Gpa(self.frame() << 12)
    }

    /// The level, unless the module returned a number that is none.
    pub const fn level(self) -> Option<PageLevel> {
        PageLevel::from_number(self.level_number() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_a_vm_sit_in_its_part() {
        let vm = VmIndex::new(2).unwrap();
        let attributes = GpaAttributes::of(vm, VmAttributes::RWX);
        assert_eq!(attributes.0, 0x0000_8007_0000_0000);
        assert_eq!(attributes.vm(vm), VmAttributes::RWX);
        assert_eq!(attributes.vm(VmIndex::FIRST), VmAttributes::new());
        assert_eq!(AttrFlags::permissions(VmIndex::FIRST).0, 0x000F_0000);
    }

    #[test]
    fn a_mapping_is_level_and_address() {
        let mapping = Mapping::page(Gpa(0x4020_0000), PageLevel::Page2M);
        assert_eq!(mapping.into_bits(), 0x4020_0001);
        assert_eq!(mapping.gpa(), Gpa(0x4020_0000));
        assert_eq!(mapping.level(), Some(PageLevel::Page2M));
        assert!(Mapping::from_bits(1 << 62).pending());
    }
}
