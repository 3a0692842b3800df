//! Giving pages to an L2 VM: TDG.MEM.PAGE.ATTR.WR over a [`Grant`], and over the TPM's registers for reads.
//!
//! Large pages first: a page that the secure EPT maps larger than asked for ends in the host, one
//! that it maps smaller is answered with PAGE_SIZE_MISMATCH and costs only that call. td-shim's 2
//! MiB pages so take one call each.

use super::firmware_image::TpmWindow;
use super::gpa_range::GpaRange;
use super::plan::Grant;
use tdcall::leaf::{AcceptError, PageAttrError};
use tdcall::{RawTdcall, Td};
use tdx_defs::attributes::{AttrFlags, GpaAttributes, VmAttributes};
use tdx_defs::{Gpa, PageLevel, VmIndex};

/// What giving a range took.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Given {
    /// Pages given, by level: 4 KiB, 2 MiB, 1 GiB.
    pub pages: [u64; 3],
    /// Bytes that were pending and had to be accepted first. td-shim accepts all RAM, so anything
    /// but 0 means that the host took pages away and put empty ones in their place.
    pub accepted: u64,
}

impl core::ops::AddAssign for Given {
    fn add_assign(&mut self, other: Self) {
        for (sum, more) in self.pages.iter_mut().zip(other.pages) {
            *sum += more;
        }
        self.accepted += other.accepted;
    }
}

/// Why a page could not be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GiveError {
    /// The TDX module refused.
    #[error("cannot give L2 the page at {:#x}: {error}", gpa.0)]
    Refused {
        /// The page.
        gpa: Gpa,
        /// Why.
        error: PageAttrError,
    },
    /// The TDX module reports other attributes than were asked for.
    #[error("L2's page at {:#x} has attributes {:#x} instead of {:#x}", gpa.0, found.0, asked.0)]
    NotInEffect {
        /// The page.
        gpa: Gpa,
        /// What was asked for.
        asked: GpaAttributes,
        /// What it has.
        found: GpaAttributes,
    },
    /// A pending page could not be accepted.
    #[error("cannot accept the pending page at {:#x}: {error}", gpa.0)]
    NotAccepted {
        /// The page.
        gpa: Gpa,
        /// Why.
        error: AcceptError,
    },
}

/// Gives `vm` read, write and execute access to every page of `grant`.
///
/// Pages keep their contents, but for pending ones, which are accepted and so read as zeros.
pub fn give<R: RawTdcall>(td: &Td<R>, vm: VmIndex, grant: &Grant) -> Result<Given, GiveError> {
    let range = grant.range();
    let mut given = Given::default();
    let mut at = range.start();
    // Up to these addresses the secure EPT is known to have smaller pages.
    let mut smaller_than_1g = 0;
    let mut smaller_than_2m = 0;
    while at < range.end() {
        let level = if at >= smaller_than_1g && fits(range, at, PageLevel::Page1G) {
            PageLevel::Page1G
        } else if at >= smaller_than_2m && fits(range, at, PageLevel::Page2M) {
            PageLevel::Page2M
        } else {
            PageLevel::Page4K
        };
        let gpa = Gpa(at);
        match give_page(td, vm, gpa, level, VmAttributes::RWX) {
            Ok(pending) => {
                at += level.size();
                if let Some(count) = given.pages.get_mut(level as usize) {
                    *count += 1;
                }
                if pending {
                    given.accepted += level.size();
                }
            }
            Err(GiveError::Refused {
                error: PageAttrError::SizeMismatch { .. },
                ..
            }) if level == PageLevel::Page1G => smaller_than_1g = at + level.size(),
            Err(GiveError::Refused {
                error: PageAttrError::SizeMismatch { .. },
                ..
            }) if level == PageLevel::Page2M => smaller_than_2m = at + level.size(),
            Err(error) => return Err(error),
        }
    }
    Ok(given)
}

/// Lets `vm` read the pages at the addresses of the TPM's registers, of which nothing but registers may be in them.
///
/// They must be private pages of the TD. Those that are pending are accepted, and so are zeros.
pub fn give_registers<R: RawTdcall>(td: &Td<R>, vm: VmIndex) -> Result<(), GiveError> {
    let range = TpmWindow::range();
    for at in (range.start()..range.end()).step_by(PageLevel::Page4K.size() as usize) {
        give_page(td, vm, Gpa(at), PageLevel::Page4K, VmAttributes::READ)?;
    }
    Ok(())
}

fn fits(range: GpaRange, at: u64, level: PageLevel) -> bool {
    at.is_multiple_of(level.size()) && range.end() - at >= level.size()
}

/// Gives one page and returns whether it was pending.
fn give_page<R: RawTdcall>(
    td: &Td<R>,
    vm: VmIndex,
    gpa: Gpa,
    level: PageLevel,
    access: VmAttributes,
) -> Result<bool, GiveError> {
    let asked = GpaAttributes::of(vm, access);
    let page = td
        .mem_page_attr_wr(gpa, level, asked, AttrFlags::permissions(vm))
        .map_err(|error| GiveError::Refused { gpa, error })?;
    let found = page.attributes;
    if found != asked {
        return Err(GiveError::NotInEffect { gpa, asked, found });
    }
    let pending = page.mapping.pending();
    if pending {
        td.mem_page_accept(gpa, level)
            .map_err(|error| GiveError::NotAccepted { gpa, error })?;
    }
    Ok(pending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::plan::tests::plan;
    use alloc::collections::{BTreeMap, BTreeSet};
    use alloc::string::ToString;
    use core::cell::RefCell;
    use tdx_defs::Registers;
    use tdx_module::TdParams;
    use tdx_module::test_platform::ModelTdcall;

    const ATTR_WR: u64 = 24;
    const ACCEPT: u64 = 6;
    const SIZE_MISMATCH: u64 = 0xC000_0B0B_0000_0000;

    /// A secure EPT with 2 MiB leaves, but for the 2 MiB pages in `small` (4 KiB leaves).
    #[derive(Default)]
    struct SecureEpt {
        small: BTreeSet<u64>,
        pending: BTreeSet<u64>,
        given: RefCell<BTreeMap<u64, u64>>,
        accepted: RefCell<BTreeSet<u64>>,
        calls: RefCell<u64>,
        wrong_echo_at: Option<u64>,
        status: Option<(u64, u64)>,
    }

    impl tdcall::RawTdcall for SecureEpt {
        fn tdcall(&self, registers: &mut Registers) {
            *self.calls.borrow_mut() += 1;
            let level = registers.rcx & 7;
            let gpa = registers.rcx & !0xFFF;
            assert_eq!(gpa % (0x1000 << (9 * level)), 0);
            match registers.rax {
                ATTR_WR => {
                    assert_eq!((registers.rdx, registers.r8), (0x8007_0000, 0xF_0000));
                    let actual = u64::from(!self.small.contains(&(gpa & !0x1F_FFFF)));
                    assert!(level >= actual, "asked below the leaf: ends in the host");
                    registers.rax = match self.status {
                        Some((at, status)) if at == gpa => status,
                        _ if level > actual => SIZE_MISMATCH | level,
                        _ => 0,
                    };
                    if registers.rax == 0 {
                        self.given.borrow_mut().insert(gpa, 0x1000 << (9 * level));
                        registers.rcx |= u64::from(self.pending.contains(&gpa)) << 62;
                        if self.wrong_echo_at == Some(gpa) {
                            registers.rdx = 0x8003_0000;
                        }
                    } else {
                        (registers.rcx, registers.rdx) = (0, 0);
                    }
                }
                ACCEPT => {
                    assert!(self.pending.contains(&gpa));
                    self.accepted.borrow_mut().insert(gpa);
                    registers.rax = 0;
                }
                other => panic!("leaf {other}"),
            }
        }
    }

    fn give_all(ept: &SecureEpt) -> Result<Given, GiveError> {
        let plan = plan(0x1000_0000, 0x4000_1000, 64 << 20).unwrap();
        let td = Td::new(ept);
        let mut sum = Given::default();
        for grant in plan.grants() {
            sum += give(&td, VmIndex::FIRST, &grant)?;
        }
        Ok(sum)
    }

    /// The end of RAM is in 4 KiB pages, as td-shim accepts it.
    fn as_td_shim_accepts() -> SecureEpt {
        SecureEpt {
            small: BTreeSet::from([0, 0x20_0000, 0x80_0000, (1 << 32) + 0x4000_0000]),
            ..SecureEpt::default()
        }
    }

    #[test]
    fn every_page_is_given_once_and_large_where_it_can_be() {
        let ept = as_td_shim_accepts();
        let given = give_all(&ept).unwrap();
        let plan = plan(0x1000_0000, 0x4000_1000, 64 << 20).unwrap();
        let mut ranges = crate::launch::gpa_range::GpaRanges::new();
        for (gpa, size) in ept.given.borrow().iter() {
            let page = GpaRange::with_length(*gpa, *size).unwrap();
            assert!(!ranges.overlaps(&page));
            ranges.insert(page).unwrap();
        }
        assert_eq!(&ranges, plan.l2());
        let small = 3 * 512 + 1;
        let large = (plan.l2().length() - small * 0x1000) >> 21;
        assert_eq!(
            given,
            Given {
                pages: [small, large, 0],
                accepted: 0
            }
        );
        // One call a page, one more for each mismatch: three at 2 MiB, one at 1 GiB.
        assert_eq!(*ept.calls.borrow(), small + large + 4);
    }

    /// The same against the module's own rules: L2 has every page of the plan, and no other.
    #[test]
    fn the_module_gives_l2_its_pages_and_none_of_l1s() {
        let memory = 0x1000_0000;
        let plan = plan(memory, 0, 64 << 20).unwrap();
        let params = TdParams {
            num_l2_vms: 1,
            ..TdParams::default()
        };
        let model = ModelTdcall::new(&params, 0);
        let td = Td::new(&model);
        let accept = |gpa, level| {
            model.augment(gpa, level);
            td.mem_page_accept(Gpa(gpa), level).unwrap();
        };
        (0..0x20_0000)
            .step_by(0x1000)
            .for_each(|gpa| accept(gpa, PageLevel::Page4K));
        (0x20_0000..memory)
            .step_by(0x20_0000)
            .for_each(|gpa| accept(gpa, PageLevel::Page2M));

        let mut given = Given::default();
        for grant in plan.grants() {
            given += give(&td, VmIndex::FIRST, &grant).unwrap();
        }
        let large = (plan.l2().length() >> 21) - 1;
        assert_eq!(
            given,
            Given {
                pages: [512, large, 0],
                accepted: 0
            }
        );
        for gpa in (0..memory).step_by(0x20_0000) {
            let page = td.mem_page_attr_rd(Gpa(gpa)).unwrap();
            let range = GpaRange::with_length(gpa, 0x1000).unwrap();
            let whole = page.is_present(VmIndex::FIRST);
            assert_eq!(whole, plan.l2().contains(&range), "{range}");
        }
    }

    #[test]
    fn l2_reads_the_registers_and_cannot_write_them() {
        let params = TdParams {
            num_l2_vms: 1,
            ..TdParams::default()
        };
        let model = ModelTdcall::new(&params, 0);
        let td = Td::new(&model);
        let window = TpmWindow::range();
        let pages = || (window.start()..window.end()).step_by(0x1000);
        for gpa in pages() {
            model.augment(gpa, PageLevel::Page4K);
        }
        // One is pending yet.
        for gpa in pages().skip(1) {
            td.mem_page_accept(Gpa(gpa), PageLevel::Page4K).unwrap();
        }
        give_registers(&td, VmIndex::FIRST).unwrap();
        for gpa in pages() {
            let page = td.mem_page_attr_rd(Gpa(gpa)).unwrap();
            let readable = GpaAttributes::of(VmIndex::FIRST, VmAttributes::READ);
            assert_eq!((page.attributes, page.mapping.pending()), (readable, false));
        }
    }

    #[test]
    fn pending_pages_are_accepted_and_counted() {
        let ept = SecureEpt {
            pending: BTreeSet::from([0x5000, 0x40_0000]),
            ..as_td_shim_accepts()
        };
        assert_eq!(give_all(&ept).unwrap().accepted, 0x20_1000);
        assert_eq!(*ept.accepted.borrow(), ept.pending);
    }

    #[test]
    fn what_did_not_take_effect_is_an_error() {
        let ept = SecureEpt {
            wrong_echo_at: Some(0x40_0000),
            ..as_td_shim_accepts()
        };
        assert_eq!(
            give_all(&ept).unwrap_err().to_string(),
            "L2's page at 0x400000 has attributes 0x80030000 instead of 0x80070000"
        );
        let ept = SecureEpt {
            status: Some((0x40_0000, 0xC000_0B0F_0001_0001)),
            ..as_td_shim_accepts()
        };
        assert_eq!(
            give_all(&ept).unwrap_err().to_string(),
            "cannot give L2 the page at 0x400000: page attributes: VM 1 has no page table at level 1"
        );
        // A mismatch at the lowest level is the module contradicting itself, not a reason to loop.
        let ept = SecureEpt {
            status: Some((0x1000, SIZE_MISMATCH)),
            ..as_td_shim_accepts()
        };
        assert!(matches!(give_all(&ept), Err(GiveError::Refused { .. })));
    }
}
