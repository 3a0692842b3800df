//! The TD that the answers were recorded in, and the steps of a case in it.

use crate::recording::Step;
use tdx_defs::{PageLevel, Registers, tdg};
use tdx_module::platform::{Event, Register};
use tdx_module::test_platform::ModelTdcall;
use tdx_module::{Action, Exited, Faults, HardwareExit, Platform, TdParams, Vm, VpEnterInput};

const CODE: u64 = 0xffff_e000;
const TDCALL: [u8; 4] = [0x66, 0x0f, 0x01, 0xcc];
const RDMSR: [u8; 2] = [0x0f, 0x32];
const WRMSR: [u8; 2] = [0x0f, 0x30];
const INVALID_OPCODE: u8 = 6;

/// What the general registers that a call does not set have before it.
const OTHERS: [(Register, u64); 10] = [
    (Register::Rbx, 0xb0b0),
    (Register::Rbp, 0xb1b1),
    (Register::Rsi, 0xb2b2),
    (Register::Rdi, 0xb3b3),
    (Register::R11, 0xb5b5),
    (Register::R12, 0xb6b6),
    (Register::R13, 0xb7b7),
    (Register::R14, 0xb8b8),
    (Register::R15, 0xb9b9),
    (Register::Rflags, 2),
];

/// A TD in which one case runs.
pub(crate) struct Td {
    model: ModelTdcall,
    /// How L2 will end its next run.
    exit: Option<HardwareExit>,
}

/// What a step gave.
pub(crate) struct Answer {
    /// The line that the recording would have; `None` for a step that gives none.
    pub(crate) line: Option<String>,
    /// The case is over.
    pub(crate) ends: bool,
}

impl Td {
    /// The TD before a case: one L2 VM, GPAW 48, SEPT_VE_DISABLE. It has pages of its own and pending
    /// ones of both sizes below 8 MiB, and a page of the secure EPT without any at 14 MiB.
    pub(crate) fn new() -> Td {
        let model = ModelTdcall::built(&TdParams::default(), 0, |module, platform| {
            (0x20_0000..0x20_4000)
                .step_by(0x1000)
                .chain([0xffff_e000, 0xffff_d000, 0xffff_c000])
                .try_for_each(|page| module.tdh_mem_page_add(platform, page, page, page))
        });
        for (gpa, level) in [
            (0x20_4000, PageLevel::Page4K),
            (0x20_5000, PageLevel::Page4K),
            (0x20_6000, PageLevel::Page4K),
            (0, PageLevel::Page2M),
            (0x40_0000, PageLevel::Page2M),
            (0x60_0000, PageLevel::Page2M),
        ] {
            model.augment(gpa, level);
        }
        for gpa in [0, 0x40_0000] {
            let accepted = model.call(Registers {
                rax: tdg::MEM_PAGE_ACCEPT,
                rcx: gpa | PageLevel::Page2M.number(),
                ..Registers::default()
            });
            assert_eq!(accepted.map(|registers| registers.rax), Ok(0));
        }
        model.with(|module, platform| {
            let added = module.tdh_mem_sept_add(0xe0_0000, PageLevel::Page2M);
            assert_eq!(added, Ok(()));
            for (register, value) in [
                (Register::Cr0, 0x8000_0033),
                (Register::Cr4, 0x2060),
                (Register::Efer, 0xd01),
            ] {
                platform.set_register(Vm::L1, register, value);
            }
        });
        Td { model, exit: None }
    }

    /// The model's faults.
    pub(crate) fn set_faults(&mut self, set: impl FnOnce(&mut Faults)) {
        self.model.with(|module, _| {
            *module.faults() = Faults::default();
            set(module.faults());
        });
    }

    /// After a TD exit, the host enters L1: its line is as after an exit of L2.
    pub(crate) fn resume_l1(&mut self) -> String {
        self.model.with(|module, platform| {
            let input = VpEnterInput {
                resume_l1: true,
                ..VpEnterInput::default()
            };
            assert_eq!(module.tdh_vp_enter(platform, input), Action::Run(Vm::L1));
            exit_line(platform)
        })
    }

    /// Carries out one step.
    pub(crate) fn step(&mut self, step: &Step) -> Answer {
        let line = match step {
            Step::Call(registers) => return self.call(registers),
            Step::Memory { gpa, seed } => {
                let bytes: Vec<u8> = (0..=255)
                    .map(|i: u8| seed.wrapping_add(i.wrapping_mul(7)))
                    .collect();
                self.model.write(*gpa, &bytes);
                None
            }
            Step::Bytes { gpa, bytes } => {
                self.model.write(*gpa, bytes);
                None
            }
            Step::GuestState { gpa, rax, rcx, rip } => {
                const RFLAGS: u64 = 2;
                for (offset, value) in [(0, rax), (8, rcx), (0x80, &RFLAGS), (0x88, rip)] {
                    self.model.write(gpa + offset, &value.to_le_bytes());
                }
                None
            }
            Step::Dump { gpa, length } => {
                let mut bytes = vec![0; *length];
                self.model.read(*gpa, &mut bytes);
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                Some(format!("D {hex}"))
            }
            Step::Post(vector) => {
                self.model
                    .with(|module, _| module.post_interrupt(0, *vector));
                None
            }
            Step::Exit(exit) => {
                self.exit = Some(*exit);
                None
            }
            Step::ReadMsr(msr) => Some(self.msr(*msr, None)),
            Step::WriteMsr(msr, value) => Some(self.msr(*msr, Some(*value))),
        };
        Answer { line, ends: false }
    }

    fn call(&mut self, input: &[u64; 6]) -> Answer {
        let exit = self.exit.take();
        self.model.with(|module, platform| {
            let [rax, rcx, rdx, r8, r9, r10] = *input;
            let inputs = [
                (Register::Rax, rax),
                (Register::Rcx, rcx),
                (Register::Rdx, rdx),
                (Register::R8, r8),
                (Register::R9, r9),
                (Register::R10, r10),
                (Register::Rip, CODE),
            ];
            for (register, value) in inputs.into_iter().chain(OTHERS) {
                platform.set_register(Vm::L1, register, value);
            }
            platform.write(CODE, &TDCALL);
            let tdcall = HardwareExit::Exception {
                vector: INVALID_OPCODE,
                error_code: None,
                cr2: 0,
            };
            let mut action = module.handle_exit(platform, tdcall.into());
            while action == Action::Run(Vm::L1)
                && platform.register(Vm::L1, Register::Rip) == CODE
                && !platform.injected.contains_key(&Vm::L1)
            {
                // It was interrupted.
                action = module.handle_exit(platform, tdcall.into());
            }
            let mut entered = false;
            if let (Action::Run(vm @ Vm::L2(_)), Some(exit)) = (action, exit) {
                entered = true;
                let mut registers = platform.general_registers(vm);
                for (index, register) in registers.iter_mut().enumerate() {
                    // What L2 has beside the two registers that the case gives it.
                    if index > 1 {
                        *register = 0x1000 + index as u64;
                    }
                }
                platform.set_general_registers(vm, &registers);
                action = module.handle_exit(platform, Exited::from(exit));
            }
            match action {
                Action::Run(Vm::L1) => {
                    let line = if let Some(event) = platform.injected.remove(&Vm::L1) {
                        format!("EXC {:x}", event.vector)
                    } else if entered {
                        exit_line(platform)
                    } else {
                        call_line(platform)
                    };
                    Answer {
                        line: Some(line),
                        ends: false,
                    }
                }
                Action::Run(Vm::L2(vm)) => Answer {
                    line: Some(if entered {
                        let event = platform.injected.remove(&Vm::L2(vm));
                        l2_line(platform, Vm::L2(vm), event)
                    } else {
                        format!("ENTER {}", vm.get())
                    }),
                    ends: true,
                },
                Action::TdExit(exit) => Answer {
                    line: Some(td_exit_line(&exit.registers)),
                    ends: true,
                },
                Action::Held => unreachable!("nobody asked for it"),
            }
        })
    }

    /// RDMSR, or WRMSR of a value.
    fn msr(&mut self, msr: u32, value: Option<u64>) -> String {
        self.model.with(|module, platform| {
            let (read, write) = platform
                .msr_intercepts
                .get(&(Vm::L1, msr))
                .copied()
                .unwrap_or((true, true));
            let (intercepted, code, exit) = match value {
                None => (read, RDMSR, HardwareExit::ReadMsr),
                Some(_) => (write, WRMSR, HardwareExit::WriteMsr),
            };
            if !intercepted {
                return "N".to_owned();
            }
            platform.write(CODE, &code);
            let value = value.unwrap_or(0);
            for (register, value) in [
                (Register::Rip, CODE),
                (Register::Rcx, msr.into()),
                (Register::Rax, value & 0xffff_ffff),
                (Register::Rdx, value >> 32),
            ] {
                platform.set_register(Vm::L1, register, value);
            }
            let action = module.handle_exit(platform, exit.into());
            assert_eq!(action, Action::Run(Vm::L1));
            match platform.injected.remove(&Vm::L1) {
                Some(Event::VIRTUALIZATION | Event::DOUBLE_FAULT) => "V".to_owned(),
                Some(Event::GENERAL_PROTECTION) => "G".to_owned(),
                Some(event) => format!("{event:?}"),
                None if matches!(exit, HardwareExit::WriteMsr) => "E 0".to_owned(),
                None => {
                    let low = platform.register(Vm::L1, Register::Rax);
                    let high = platform.register(Vm::L1, Register::Rdx);
                    format!("E {:x}", high << 32 | low)
                }
            }
        })
    }
}

fn hex(values: impl IntoIterator<Item = u64>) -> String {
    let words: Vec<String> = values
        .into_iter()
        .map(|value| format!("{value:x}"))
        .collect();
    words.join(" ")
}

/// L1's registers after a call that ended.
fn call_line(platform: &mut impl Platform) -> String {
    let changed = OTHERS
        .into_iter()
        .filter(|(register, _)| !matches!(register, Register::R11 | Register::Rflags))
        .fold(0, |all, (register, before)| {
            all ^ platform.register(Vm::L1, register) ^ before
        });
    let registers = [
        Register::Rax,
        Register::Rcx,
        Register::Rdx,
        Register::R8,
        Register::R9,
        Register::R10,
        Register::R11,
    ]
    .map(|register| platform.register(Vm::L1, register));
    hex(registers.into_iter().chain([changed]))
}

/// L1's registers after L2 was entered and left.
fn exit_line(platform: &mut impl Platform) -> String {
    let registers = [
        Register::Rax,
        Register::Rcx,
        Register::Rdx,
        Register::Rbx,
        Register::Rbp,
        Register::Rsi,
        Register::Rdi,
        Register::R8,
        Register::R9,
        Register::R10,
        Register::R11,
        Register::R12,
        Register::R13,
        Register::R14,
        Register::R15,
    ]
    .map(|register| platform.register(Vm::L1, register));
    format!("L1 {}", hex(registers))
}

/// L2's after an exit that the module handled itself.
fn l2_line(platform: &mut impl Platform, vm: Vm, event: Option<Event>) -> String {
    format!(
        "L2 {:x} rip {:x} rax {:x} rdx {:x}",
        event.map_or(0, |event| event.vector),
        platform.register(vm, Register::Rip),
        platform.register(vm, Register::Rax),
        platform.register(vm, Register::Rdx),
    )
}

/// What the host finds after a TD exit.
fn td_exit_line(registers: &Registers) -> String {
    let Registers {
        rax,
        rcx,
        rdx,
        r8,
        r9,
        ..
    } = *registers;
    format!("TDEXIT {}", hex([rax, rcx, rdx, r8, r9]))
}
