//! EPT violations of L2: exit qualification, and who gets them (TDX Module Base Architecture, "L2
//! EPT Violations").

use super::exit::Disposition;
use super::exit_information::ExitInformation;
use super::guest::Guest;
use crate::platform::Platform;
use crate::td::sept::LeafState;
use tdx_defs::Gpaw;
use tdx_defs::attributes::VmAttributes;
use tdx_defs::vmcs::EptViolationQualification;
use x86_defs::exit_reason;

impl<P: Platform> Guest<'_, P> {
    pub(super) fn route_ept_violation(
        &mut self,
        gpa: u64,
        write: bool,
        fetch: bool,
        page_walk: bool,
    ) -> Disposition {
        let leaf = self.sept.leaf(gpa);
        let alias = leaf.map_or(VmAttributes::new(), |leaf| leaf.alias(self.index));
        // The hardware reports every page-walk access as a write; a walk reads, and writes only to
        // set an accessed or dirty flag, which is what failed if reading is allowed.
        let (read, write) = match (page_walk, write) {
            (true, _) => (true, alias.read()),
            (false, true) => (false, true),
            (false, false) => (!fetch, false),
        };
        let linear_address = if fetch {
            self.fetch_address(gpa, page_walk)
        } else {
            self.data_address(gpa, page_walk)
        };
        let mode_based = self.secondary().mode_based_execute();
        let qualification = EptViolationQualification::new()
            .with_read(read)
            .with_write(write)
            .with_fetch(fetch && !page_walk)
            .with_readable(alias.read())
            .with_writable(alias.write())
            .with_executable(alias.execute_supervisor())
            .with_executable_user(mode_based && alias.execute_user())
            .with_linear_valid(linear_address.is_some())
            .with_translated(linear_address.is_some() && !page_walk);
        let mut exit = ExitInformation {
            qualification: qualification.into_bits(),
            linear_address: linear_address.unwrap_or(0),
            gpa,
            ..ExitInformation::of(exit_reason::EPT_VIOLATION)
        };
        const BEYOND_48_BITS: u64 = 0xf << 48;
        if self.shape.gpaw == Gpaw::Bits48 && gpa & BEYOND_48_BITS != 0 {
            return if linear_address.is_some() {
                Disposition::L1(exit)
            } else {
                Disposition::Host(exit)
            };
        }
        if gpa & self.shape.gpaw.shared_bit() != 0 {
            return Disposition::Host(exit);
        }
        match leaf.map(|leaf| leaf.state) {
            Some(LeafState::Mapped) => Disposition::L1(exit),
            Some(LeafState::Pending) => {
                exit.extended = ExitInformation::PENDING;
                Disposition::L1(exit)
            }
            Some(LeafState::Blocked | LeafState::PendingBlocked) | None => Disposition::Host(exit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;
    use crate::platform::{HardwareExit, Platform, Register};
    use crate::td::sept::Leaf;
    use tdx_defs::PageLevel;

    const HOLE: u64 = 0xfed4_0000;

    fn fault(gpa: u64, write: bool) -> HardwareExit {
        HardwareExit::NestedPageFault {
            gpa,
            write,
            fetch: false,
            page_walk: false,
        }
    }

    /// L2 at `mov [eax], cl` with EAX at offset 0x18 of the window.
    fn storing_to_the_window() -> Fake {
        let mut fake = Fake::new();
        fake.platform.write(0x1000, &[0x88, 0x08]);
        let mut guest = fake.guest();
        guest.set_register(Register::Rip, 0x1000);
        guest.set_register(Register::Rax, HOLE + 0x18);
        fake
    }

    fn add(fake: &mut Fake, state: LeafState) {
        let leaf = Leaf {
            gpa: HOLE,
            hpa: 0x8000,
            level: PageLevel::Page4K,
            state,
            aliases: [VmAttributes::new(); 3],
            blocked_at: 0,
        };
        fake.sept.insert(&mut fake.platform, leaf);
    }

    #[test]
    fn the_state_of_l1s_page_says_who_gets_it() {
        let mut fake = storing_to_the_window();
        assert!(matches!(
            fake.guest().route(fault(HOLE + 0x18, true)),
            Disposition::Host(_)
        ));
        for (state, to_l1, extended) in [
            (LeafState::Mapped, true, 0),
            (LeafState::Pending, true, 6),
            (LeafState::Blocked, false, 0),
            (LeafState::PendingBlocked, false, 0),
        ] {
            let mut fake = storing_to_the_window();
            add(&mut fake, state);
            match fake.guest().route(fault(HOLE + 0x18, true)) {
                Disposition::L1(exit) => {
                    assert!(to_l1, "{state:?}");
                    assert_eq!(exit.extended, extended);
                }
                other => assert!(!to_l1, "{other:?}"),
            }
        }
    }

    #[test]
    fn a_shared_address_is_the_hosts_and_one_too_wide_is_l1s() {
        let mut fake = Fake::new();
        assert!(matches!(
            fake.guest().route(fault(1 << 47 | HOLE, false)),
            Disposition::Host(_)
        ));
    }

    #[test]
    fn a_store_reports_its_linear_address() {
        let mut fake = storing_to_the_window();
        add(&mut fake, LeafState::Mapped);
        let Disposition::L1(exit) = fake.guest().route(fault(HOLE + 0x18, true)) else {
            panic!();
        };
        assert_eq!(exit.reason, 48);
        assert_eq!(exit.qualification, 0x182);
        assert_eq!(exit.linear_address, HOLE + 0x18);
        assert_eq!(exit.gpa, HOLE + 0x18);
    }

    #[test]
    fn what_the_alias_allows_is_reported() {
        let mut fake = storing_to_the_window();
        add(&mut fake, LeafState::Mapped);
        let read_only = VmAttributes::new().with_read(true).with_valid(true);
        let platform = &mut fake.platform;
        fake.sept
            .update(platform, HOLE, |leaf| leaf.aliases[0] = read_only);
        let Disposition::L1(exit) = fake.guest().route(fault(HOLE + 0x18, true)) else {
            panic!();
        };
        assert_eq!(exit.qualification, 0x18a);
    }

    #[test]
    fn a_fetch_reports_rip() {
        let mut fake = Fake::new();
        fake.guest().set_register(Register::Rip, HOLE + 0x20);
        add(&mut fake, LeafState::Mapped);
        let exit = HardwareExit::NestedPageFault {
            gpa: HOLE + 0x20,
            write: false,
            fetch: true,
            page_walk: false,
        };
        let Disposition::L1(exit) = fake.guest().route(exit) else {
            panic!();
        };
        assert_eq!(exit.qualification, 0x184);
        assert_eq!(exit.linear_address, HOLE + 0x20);
    }
}
