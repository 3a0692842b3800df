//! Several virtual processors on one machine, in turns: each step of one runs to its end before the next of any.

mod ends;
mod interrupts;
mod restarts;
mod start;
mod storms;

use super::*;
use crate::machine::notices::SERVES;
use crate::run::environment::Interrupts;
use crate::vcpu::processor::{Activity, Deadline};
use x86_defs::apic::Register as Apic;

/// HLT, at the start of [`CODE`]: where start-up with vector 20H leads as well.
const HLT: u64 = 0;
/// WRMSR.
const WRMSR: u64 = 0x10;
/// MOV EAX, [RBX].
const LOAD: u64 = 0x20;
/// OUT DX, AL.
const OUT: u64 = 0x30;
const START_UP: u64 = CODE >> 12;

const ICR: u32 = 0x830;
/// An x2APIC's command: INIT, to all others.
const INIT_OTHERS: u64 = 0x000C_4500;
/// Start-up at [`CODE`], to all others.
const START_UP_OTHERS: u64 = 0x000C_4600 | START_UP;
const NMI_OTHERS: u64 = 0x000C_4400;

/// The host's word for an interrupt to processor `index`.
fn kick(index: u32) -> (u32, u64) {
    (ICR, u64::from(HOST_IDS * index) << 32 | 0x40E4)
}

pub(super) struct Processors {
    pub(super) surroundings: Surroundings,
    /// What each has seen; the first one's is the host's and the TPM's as well.
    pub(super) seen: Vec<Rc<RefCell<Seen>>>,
    pub(super) l2: Vec<L2<'static, Modelled>>,
}

impl Processors {
    /// The first with an x2APIC that is enabled, the others waiting to be started.
    fn new(count: u8) -> Self {
        let mut code = [0x90; 0x40];
        code[HLT as usize] = 0xF4;
        code[WRMSR as usize..][..2].copy_from_slice(&[0x0F, 0x30]);
        code[LOAD as usize..][..2].copy_from_slice(&[0x8B, 0x03]);
        code[OUT as usize] = 0xEE;
        let surroundings = Surroundings::new(&code, true, count.into());
        let own = || {
            Rc::new(RefCell::new(Seen {
                xcr0: 1,
                ..Seen::default()
            }))
        };
        let mut seen: Vec<_> = (1..count).map(|_| own()).collect();
        seen.insert(0, Rc::clone(&surroundings.seen));
        let l2 = (0..count).zip(&seen);
        let l2 = l2.map(|(index, seen)| surroundings.processor(index, Rc::clone(seen)));
        let l2: Vec<_> = l2.collect();
        let mut processors = Self {
            surroundings,
            seen,
            l2,
        };
        processors.enable_apic(0);
        processors
    }

    /// All of them started.
    pub(super) fn started(count: u8) -> Self {
        let mut processors = Self::new(count);
        processors.command(0, INIT_OTHERS);
        processors.command(0, START_UP_OTHERS);
        for index in 1..usize::from(count) {
            processors.run(index, &[], HardwareExit::Interrupt).unwrap();
            processors.enable_apic(index);
        }
        processors.host_msrs();
        processors
    }

    fn enable_apic(&mut self, index: usize) {
        let apic = &mut self.l2[index].vcpu.apic;
        apic.set_base(apic.base() | 0xC00).unwrap();
        apic.write_msr(Apic::SVR, 0x1FF, 0).unwrap();
        self.at(index).prepare_entry().unwrap();
    }

    /// The processor, and the test is on its virtual processor of the TD.
    pub(super) fn at(&mut self, index: usize) -> &mut L2<'static, Modelled> {
        self.surroundings.current.set(index as u32);
        &mut self.l2[index]
    }

    fn step(&mut self, index: usize) -> Result<(), End> {
        self.at(index).step()
    }

    /// Runs the processor, which has these registers when it exits.
    fn run(
        &mut self,
        index: usize,
        registers: &[(Register, u64)],
        exit: HardwareExit,
    ) -> Result<(), End> {
        self.prepare(index, registers, exit);
        self.step(index)
    }

    fn prepare(&self, index: usize, registers: &[(Register, u64)], exit: HardwareExit) {
        let model = self.surroundings.model.on_vcpu(index as u32);
        let registers = registers.to_vec();
        model.push_run(move |platform, vm| {
            for (register, value) in &registers {
                platform.set_register(vm, *register, *value);
            }
            exit.into()
        });
    }

    /// RIP for some of the code, in the mode that the processor is in.
    fn code(&self, index: usize, offset: u64) -> u64 {
        match index {
            0 => UPPER + CODE + offset,
            _ => offset,
        }
    }

    fn wrmsr(&mut self, index: usize, msr: u32, value: u64) -> Result<(), End> {
        self.prepare_wrmsr(index, msr, value);
        self.step(index)
    }

    fn prepare_wrmsr(&self, index: usize, msr: u32, value: u64) {
        let registers = [
            (Register::Rip, self.code(index, WRMSR)),
            (Register::Rcx, msr.into()),
            (Register::Rax, value & 0xFFFF_FFFF),
            (Register::Rdx, value >> 32),
        ];
        self.prepare(index, &registers, HardwareExit::WriteMsr);
    }

    /// Writes the processor's ICR.
    fn command(&mut self, index: usize, command: u64) {
        self.wrmsr(index, ICR, command).unwrap();
    }

    /// Posts an interrupt from one to another.
    fn post(&mut self, from: usize, to: usize) {
        let machine = Arc::clone(&self.surroundings.machine);
        let l2 = self.at(from);
        let post = |mailbox: &vcpu_signals::Mailbox| mailbox.post_vector(0x41, false);
        machine.peers.post(to, &mut l2.vcpu.kicks, post);
        l2.send_kicks().unwrap();
    }

    /// HLT.
    fn halt(&mut self, index: usize, rflags: u64) -> Result<(), End> {
        let registers = [
            (Register::Rip, self.code(index, HLT)),
            (Register::Rflags, rflags),
        ];
        self.run(index, &registers, HardwareExit::Hlt)
    }

    /// The run has ended on the processor. Nobody else runs: that they do not stop takes 2 s of a fast clock.
    fn conclude(&mut self, index: usize, end: End) -> Option<End> {
        self.seen[index].borrow_mut().tsc_step = 10_000_000;
        self.at(index).conclude(end)
    }

    /// What the host was asked to write to MSRs since this was last called.
    fn host_msrs(&self) -> Vec<(u32, u64)> {
        core::mem::take(&mut self.seen[0].borrow_mut().msrs)
    }

    /// Calls `act` when the processor next waits in the host.
    fn when_halted(&self, index: usize, act: impl FnOnce() + 'static) {
        let hook: Box<dyn FnOnce()> = Box::new(act);
        self.seen[index].borrow_mut().when_halted.push_back(hook);
    }

    pub(super) fn mailbox(&self, index: usize) -> &vcpu_signals::Mailbox {
        self.surroundings.machine.peers.mailbox(index).unwrap()
    }
}
