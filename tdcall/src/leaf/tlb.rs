//! TDG.VP.INVEPT and TDG.VP.INVGLA.

use thiserror::Error;

use crate::raw::RawTdcall;
use crate::td::Td;
use tdx_defs::Registers;
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::tdg;
use tdx_defs::{Gpa, VmIndex};

/// A set of L2 VMs: bit n is VM n, bit 0 is never set.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct VmSet(u64);

impl VmSet {
    /// One VM.
    pub const fn of(vm: VmIndex) -> Self {
        Self(1 << vm.get())
    }

    /// This set and one more VM.
    pub const fn with(self, vm: VmIndex) -> Self {
        Self(self.0 | 1 << vm.get())
    }
}

/// Some consecutive pages of L2's linear address space (GLA_LIST_ENTRY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct GlaPages(u64);

impl GlaPages {
    /// `pages` pages of 4 KiB from the one with `gla` in it; 1..=4096.
    pub const fn new(gla: u64, pages: u16) -> Option<Self> {
        match pages {
            1..=0x1000 => Some(Self(gla & !0xFFF | (pages as u64 - 1))),
            _ => None,
        }
    }

    /// The entry as a list holds it.
    pub const fn into_bits(self) -> u64 {
        self.0
    }
}

/// A page of [`GlaPages`] entries (GLA_LIST_INFO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct GlaList(u64);

impl GlaList {
    /// `entries` entries from entry `first` of the private page at `page`. `first + entries` is at
    /// most 512, `page` is 4 KiB aligned.
    pub const fn new(page: Gpa, first: u16, entries: u16) -> Option<Self> {
        if first as u32 + entries as u32 > 512 || !page.is_aligned(0x1000) || page.0 > Gpa::MASK {
            return None;
        }
        Some(Self(first as u64 | page.0 | (entries as u64) << 52))
    }

    /// How many entries are left to do.
    pub const fn entries(self) -> u16 {
        (self.0 >> 52 & 0x3FF) as u16
    }
}

/// Why a flush was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TlbError {
    /// The TD has no such L2 VM.
    #[error("TLB flush: the TD has no such L2 VM")]
    Vm,
    /// The list of addresses is not a private page.
    #[error("TLB flush: the module refuses the list")]
    List,
    /// An address is not canonical.
    #[error("TLB flush: an address is not canonical")]
    NotCanonical,
    /// A status the ABI does not list, or a flush that was interrupted over and over.
    #[error("TLB flush: {0}")]
    Unexpected(Status),
}

impl TlbError {
    fn of(status: Status) -> Result<(), Self> {
        match (status.code(), status.operand()) {
            (Code::Success, _) => Ok(()),
            (Code::OperandInvalid, Operand::RCX) => Err(Self::Vm),
            (Code::OperandInvalid, Operand::RDX) => Err(Self::List),
            (Code::GlaNotCanonical, _) => Err(Self::NotCanonical),
            _ => Err(Self::Unexpected(status)),
        }
    }
}

impl<R: RawTdcall> Td<R> {
    /// TDG.VP.INVEPT: forgets every translation of these L2 VMs on this virtual processor.
    pub fn vp_invept(&self, vms: VmSet) -> Result<(), TlbError> {
        let out = self.call(Registers {
            rax: tdg::VP_INVEPT,
            rcx: vms.0,
            ..Default::default()
        });
        TlbError::of(Status(out.rax))
    }

    /// TDG.VP.INVGLA: forgets the translations of some linear addresses of an L2 VM on this
    /// virtual processor.
    pub fn vp_invgla(&self, vm: VmIndex, pages: GlaPages) -> Result<(), TlbError> {
        let out = self.call(Registers {
            rax: tdg::VP_INVGLA,
            rcx: u64::from(vm.get()) << 52,
            rdx: pages.0,
            ..Default::default()
        });
        TlbError::of(Status(out.rax))
    }

    /// TDG.VP.INVGLA with a list. An interrupted call continues where it stopped.
    pub fn vp_invgla_list(&self, vm: VmIndex, list: GlaList) -> Result<(), TlbError> {
        let out = self.call_resuming(
            Registers {
                rax: tdg::VP_INVGLA,
                rcx: 1 | u64::from(vm.get()) << 52,
                rdx: list.0,
                ..Default::default()
            },
            |done, next| next.rdx = done.rdx,
        );
        TlbError::of(Status(out.rax))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    #[test]
    fn invept_takes_a_bitmap_of_vms() {
        let script = Script::status(0);
        let vms = VmSet::of(VmIndex::FIRST).with(VmIndex::new(3).unwrap());
        Td::new(&script).vp_invept(vms).unwrap();
        assert_eq!(
            (script.only_call().rax, script.only_call().rcx),
            (26, 0b1010)
        );
    }

    #[test]
    fn a_vm_is_in_a_set_once() {
        let two = VmSet::of(VmIndex::FIRST).with(VmIndex::new(2).unwrap());
        assert_eq!(two.with(VmIndex::FIRST), two);
    }

    #[test]
    fn pages_are_counted_from_zero() {
        let script = Script::status(0);
        let pages = GlaPages::new(0xFFFF_8000_0000_1234, 2).unwrap();
        Td::new(&script).vp_invgla(VmIndex::FIRST, pages).unwrap();
        let call = script.only_call();
        assert_eq!((call.rcx, call.rdx), (1 << 52, 0xFFFF_8000_0000_1001));
        assert_eq!(GlaPages::new(0, 0), None);
        assert_eq!(GlaPages::new(0, 0x1001), None);
    }

    #[test]
    fn an_interrupted_list_continues() {
        let list = GlaList::new(Gpa(0x5000), 2, 10).unwrap();
        assert_eq!(list.entries(), 10);
        let rest = GlaList::new(Gpa(0x5000), 7, 5).unwrap();
        let script = Script::new([
            Registers {
                rax: 0x8000_0003_0000_0000,
                rdx: rest.0,
                ..Default::default()
            },
            Registers::default(),
        ]);
        Td::new(&script)
            .vp_invgla_list(VmIndex::FIRST, list)
            .unwrap();
        assert_eq!(script.calls()[1].rdx, rest.0);
    }

    #[test]
    fn a_list_beyond_its_page_can_not_be_made() {
        assert_eq!(GlaList::new(Gpa(0x5000), 500, 13), None);
        assert_eq!(GlaList::new(Gpa(0x5008), 0, 1), None);
    }

    #[test]
    fn statuses_are_decoded() {
        let rows = [
            (0, Ok(())),
            (0xC000_0100_0000_0001, Err(TlbError::Vm)),
            (0xC000_0100_0000_0002, Err(TlbError::List)),
            (0xC000_1160_0000_0000, Err(TlbError::NotCanonical)),
            (
                0xC000_0100_0000_0000,
                Err(TlbError::Unexpected(Status(0xC000_0100_0000_0000))),
            ),
        ];
        for (rax, expected) in rows {
            let script = Script::new(
                [Registers {
                    rax,
                    ..Registers::default()
                }; 3],
            );
            let td = Td::new(&script);
            let pages = GlaPages::new(0, 1).unwrap();
            let list = GlaList::new(Gpa(0), 0, 1).unwrap();
            let vm = VmIndex::FIRST;
            let results = [
                td.vp_invept(VmSet::of(vm)),
                td.vp_invgla(vm, pages),
                td.vp_invgla_list(vm, list),
            ];
            assert_eq!(results, [expected; 3], "{rax:#x}");
        }
    }

    #[test]
    fn an_entry_of_a_list_is_what_the_call_with_one_passes() {
        let pages = GlaPages::new(0xFFFF_8000_0000_1234, 0x1000).unwrap();
        assert_eq!(pages.into_bits(), 0xFFFF_8000_0000_1FFF);
    }
}
