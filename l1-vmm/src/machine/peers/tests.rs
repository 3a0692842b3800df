use alloc::vec::Vec;

use proptest::prelude::*;
use vcpu_signals::Signals;

use super::*;

struct Page([u32; 256]);

impl VapicPage for Page {
    fn read(&self, offset: u16) -> u32 {
        self.0[usize::from(offset >> 4)]
    }

    fn write(&mut self, offset: u16, value: u32) {
        self.0[usize::from(offset >> 4)] = value;
    }
}

/// Processors with x2APICs that accept interrupts, all of them away.
struct Machine {
    peers: Peers,
    apics: Vec<LocalApic<Page>>,
    kicks: Kicks,
}

impl Machine {
    fn new(count: u8) -> Self {
        let peers = Peers::new(count.into());
        let apics = (0..count).map(|id| {
            let mut apic = LocalApic::after_reset(Page([0; 256]), 40, id);
            apic.set_base(0xFEE0_0C00).unwrap();
            apic.write_msr(x86_defs::apic::Register::SVR, 0x1FF, 0)
                .unwrap();
            peers.publish(id.into(), apic.address());
            assert!(peers.mailbox(id.into()).unwrap().depart());
            apic
        });
        Self {
            apics: apics.collect(),
            peers,
            kicks: Kicks::default(),
        }
    }

    fn router(&mut self, index: usize) -> Router<'_, Page> {
        Router {
            own: &mut self.apics[index],
            index,
            peers: &self.peers,
            kicks: &mut self.kicks,
        }
    }

    fn command(&mut self, index: usize, command: u64) {
        self.router(index)
            .command(InterruptCommand::from(command), true);
    }

    fn told(&self, index: usize) -> Signals {
        self.peers
            .mailbox(index)
            .unwrap()
            .take()
            .unwrap_or_default()
    }

    /// Who has been sent vector 41H, a bit each.
    fn reached(&self) -> u32 {
        (0..self.apics.len()).fold(0, |all, index| {
            let posted = self.told(index).edge[1] >> 1 & 1 != 0;
            let requested = self.apics[index].status().rvi == 0x41;
            all | if posted || requested { bit(index) } else { 0 }
        })
    }
}

#[test]
fn an_ipi_reaches_whom_it_names_and_kicks_no_other() {
    for (command, reached) in [
        (0x0004_0041u64, 0b0010u32),
        (0x0008_0041, 0b1111),
        (0x000C_0041, 0b1101),
        (0x0000_0041, 0b0001),
        (2 << 32 | 0x0041, 0b0100),
        (4 << 32 | 0x0041, 0b0000),
        (0xFFFF_FFFF_0000_0041, 0b1111),
        (0b1010 << 32 | 0x0841, 0b1010),
        (0b1_0000 << 32 | 0x0841, 0b0000),
        (1 << 48 | 1 << 32 | 0x0841, 0b0000),
        // Lowest priority: one of those.
        (0b1100 << 32 | 0x0941, 0b0100),
    ] {
        let mut machine = Machine::new(4);
        machine.command(1, command);
        assert_eq!(machine.kicks.due, reached & !0b0010, "{command:#x}");
        assert_eq!(machine.reached(), reached, "{command:#x}");
    }
}

#[test]
fn nmi_init_and_start_up_reach_the_others() {
    let mut machine = Machine::new(3);
    machine.command(0, 0x000C_4400);
    assert!(machine.told(1).nmi && machine.told(2).nmi && !machine.told(0).nmi);
    machine.command(0, 1 << 32 | 0x4500);
    machine.command(0, 1 << 32 | 0x469A);
    let told = machine.told(1);
    assert_eq!((told.init, told.startup), (true, Some(0x9A)));
    // INIT level de-assert.
    machine.command(0, 1 << 32 | 0x8500);
    assert_eq!(machine.told(1), Signals::default());
    // To itself, by no shorthand.
    machine.command(2, 2 << 32 | 0x0400);
    assert!(machine.apics[2].nmi_pending());
    machine.command(2, 2 << 32 | 0x4500);
    assert!(machine.told(2).init);
}

#[test]
fn a_disabled_apic_takes_nothing_with_a_vector() {
    let mut machine = Machine::new(2);
    machine.apics[1].init();
    machine.router(1).publish();
    let message = |level_triggered| Message {
        vector: 0x41,
        delivery_mode: DELIVERY_FIXED,
        destination: 1,
        logical: false,
        level_triggered,
    };
    assert!(!machine.router(0).deliver(message(true)));
    assert_eq!(machine.told(1), Signals::default());
    assert_eq!(machine.kicks.due, 0);
}

#[test]
fn a_level_triggered_message_keeps_its_mode() {
    let mut machine = Machine::new(2);
    let accepted = machine.router(0).deliver(Message {
        vector: 0x41,
        delivery_mode: DELIVERY_FIXED,
        destination: 1,
        logical: false,
        level_triggered: true,
    });
    assert!(accepted);
    let told = machine.told(1);
    assert_eq!((told.level[1], told.edge[1]), (2, 0));
}

proptest! {
    #[test]
    fn no_command_fails_and_none_reaches_who_is_not_there(command: u64, from in 0usize..3, wide: bool) {
        let mut machine = Machine::new(3);
        machine.router(from).command(InterruptCommand::from(command), wide);
        prop_assert_eq!(machine.kicks.due >> 3, 0);
        prop_assert_eq!(machine.kicks.due & bit(from) != 0, machine.told(from) != Signals::default());
    }
}
