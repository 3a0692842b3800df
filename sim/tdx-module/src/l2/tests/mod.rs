//! L2 VMs as L1 sees them: through TDCALLs on the model.

mod entry;
mod fields;
mod interrupts;
mod processors;
mod routing;

use crate::TdParams;
use crate::platform::{Action, Event, Exited, HardwareExit, Platform, Register, Vm};
use crate::test_platform::ModelTdcall;
use tdx_defs::field::FieldId;
use tdx_defs::status::Status;
use tdx_defs::tdg;
use tdx_defs::vmcs::VmcsField;
use tdx_defs::{Registers, VmIndex};

const VM: VmIndex = VmIndex::FIRST;
const STATE: u64 = 0x1_0000;
const VAPIC: u64 = 0x1_1000;
/// Where L2's code is; it runs in the reset state, unpaged.
const CODE: u64 = 0x2_0000;
/// RFLAGS.IF and the bit that is always 1.
const INTERRUPTS_ON: u64 = 0x202;
const TSC_DEADLINE_MSR: u64 = 0x6e0;

struct L1 {
    model: ModelTdcall,
}

impl L1 {
    /// An L1 with an L2 VM that has its virtual-APIC page, with code at RIP.
    fn with_l2(code: &[u8]) -> L1 {
        let l1 = L1 {
            model: ModelTdcall::new(&TdParams::default(), 4 << 20),
        };
        l1.model.write(CODE, code);
        l1.model.write(STATE + 0x80, &2u64.to_le_bytes());
        l1.model.write(STATE + 0x88, &CODE.to_le_bytes());
        l1.set(VmcsField::VIRTUAL_APIC_ADDRESS, VAPIC);
        l1
    }

    fn call(&self, registers: Registers) -> Registers {
        self.model.call(registers).unwrap()
    }

    fn write(&self, id: FieldId, value: u64, mask: u64) -> Registers {
        self.call(Registers {
            rax: tdg::VP_WR,
            rdx: id.0,
            r8: value,
            r9: mask,
            ..Registers::default()
        })
    }

    fn set(&self, field: VmcsField, value: u64) {
        let written = self.write(FieldId::l2_vmcs(VM, field), value, u64::MAX);
        assert_eq!(Status(written.rax), Status::SUCCESS, "{field:x?}");
    }

    fn read(&self, id: FieldId) -> Registers {
        self.call(Registers {
            rax: tdg::VP_RD,
            rdx: id.0,
            ..Registers::default()
        })
    }

    fn get(&self, field: VmcsField) -> u64 {
        let read = self.read(FieldId::l2_vmcs(VM, field));
        assert_eq!(Status(read.rax), Status::SUCCESS, "{field:x?}");
        read.r8
    }

    fn status_of(&self, registers: Registers) -> Status {
        Status(self.call(registers).rax)
    }

    fn enter(&self) -> Registers {
        self.call(Self::entering())
    }

    fn entering() -> Registers {
        Registers {
            rax: tdg::VP_ENTER,
            rcx: 1 << 52,
            rdx: STATE,
            ..Registers::default()
        }
    }

    fn state(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.model.read(STATE + offset, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn set_state(&self, offset: u64, value: u64) {
        self.model.write(STATE + offset, &value.to_le_bytes());
    }

    /// Lets RDMSR and WRMSR of a low MSR through L1's bitmaps.
    fn open_msr(&self, msr: u64) {
        for first in [0, 0x800] {
            let id = FieldId::l2_msr_bitmap(VM, ((first + msr / 8) / 8) as u16);
            let written = self.write(id, 0, 1 << (msr % 64));
            assert_eq!(Status(written.rax), Status::SUCCESS);
        }
    }

    fn vapic(&self, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.model.read(VAPIC + offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn set_vapic(&self, offset: u64, value: u32) {
        self.model.write(VAPIC + offset, &value.to_le_bytes());
    }

    fn request_interrupt(&self, vector: u8) {
        let offset = 0x200 + u64::from(vector / 32) * 0x10;
        self.set_vapic(offset, self.vapic(offset) | 1 << (vector % 32));
        self.model.write(STATE + 0x98, &[vector]);
    }

    /// L1's TDG.VP.ENTER, up to where L2 would run.
    fn begin(&self) -> Action {
        let call = Self::entering();
        self.model.with(|module, platform| {
            let after_last_call = platform.register(Vm::L1, Register::Rip);
            for (register, value) in [
                (Register::Rip, after_last_call - 4),
                (Register::Rax, call.rax),
                (Register::Rcx, call.rcx),
                (Register::Rdx, call.rdx),
            ] {
                platform.set_register(Vm::L1, register, value);
            }
            let tdcall = HardwareExit::Exception {
                vector: 6,
                error_code: None,
                cr2: 0,
            };
            module.handle_exit(platform, tdcall.into())
        })
    }

    fn start_l2(&self) {
        assert_eq!(self.begin(), Action::Run(Vm::L2(VM)));
    }

    fn exit(&self, exited: Exited) -> Action {
        self.model
            .with(|module, platform| module.handle_exit(platform, exited))
    }

    fn l1_register(&self, register: Register) -> u64 {
        self.model
            .with(|_, platform| platform.register(Vm::L1, register))
    }

    fn l2_register(&self, register: Register) -> u64 {
        self.model
            .with(|_, platform| platform.register(Vm::L2(VM), register))
    }

    fn injected(&self) -> Option<Event> {
        self.model
            .with(|_, platform| platform.injected.get(&Vm::L2(VM)).copied())
    }
}
