//! The host's part of L1's local APIC on a virtual processor: the registers that the TDX module leaves to it (the timer, the
//! interrupt command register), as x2APIC MSRs in TDVMCALLs.

use super::interrupt_command::{InterruptCommand, logical_id};

/// MSRs (SDM volume 3, table "Local APIC Register Address Map Supported by x2APIC").
mod msr {
    use x86_defs::apic::Register;
    pub(super) use x86_defs::msr::{
        IA32_APIC_BASE as APIC_BASE, IA32_TSC_DEADLINE as TSC_DEADLINE,
    };

    pub(super) const ID: u32 = Register::ID.msr();
    pub(super) const VERSION: u32 = Register::VERSION.msr();
    pub(super) const LDR: u32 = Register::LDR.msr();
    pub(super) const SPURIOUS: u32 = Register::SVR.msr();
    pub(super) const ESR: u32 = Register::ESR.msr();
    pub(super) const ICR: u32 = Register::ICR.msr();
    pub(super) const LVT_TIMER: u32 = Register::LVT_TIMER.msr();
    pub(super) const LVT_THERMAL: u32 = Register::LVT_THERMAL.msr();
    pub(super) const LVT_ERROR: u32 = Register::LVT_ERROR.msr();
}

/// APIC base 0xFEE00000, enabled, x2APIC mode.
const APIC_BASE: u64 = x86_defs::pc::LOCAL_APIC | 0xC00;
/// APIC base: the bootstrap processor.
const BOOTSTRAP: u64 = 1 << 8;
/// Integrated APIC, six LVT entries.
const VERSION: u64 = 0x5_0014;
const LVT_MASKED: u64 = 1 << 16;
/// LVT timer mode, bits 18:17: TSC-deadline.
const TIMER_MODE_TSC_DEADLINE: u64 = x86_defs::apic::TIMER_TSC_DEADLINE as u64;

/// The registers.
#[derive(Debug)]
pub(super) struct LocalApic {
    id: u32,
    bootstrap: bool,
    lvt: [u64; 6],
    spurious: u64,
    deadline: Option<u64>,
}

impl LocalApic {
    pub(super) fn new(id: u32, bootstrap: bool) -> Self {
        Self {
            id,
            bootstrap,
            lvt: [LVT_MASKED; 6],
            spurious: 0xFF,
            deadline: None,
        }
    }

    /// The APIC id.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// RDMSR; None for a register that is not here.
    pub(super) fn read(&self, msr: u32) -> Option<u64> {
        Some(match msr {
            msr::APIC_BASE if self.bootstrap => APIC_BASE | BOOTSTRAP,
            msr::APIC_BASE => APIC_BASE,
            msr::TSC_DEADLINE => self.deadline.unwrap_or(0),
            msr::ID => self.id.into(),
            msr::ESR => 0,
            msr::VERSION => VERSION,
            msr::LDR => logical_id(self.id).into(),
            msr::SPURIOUS => self.spurious,
            msr::LVT_TIMER..=msr::LVT_ERROR => self.lvt[(msr - msr::LVT_TIMER) as usize],
            _ => return None,
        })
    }

    /// WRMSR. Answers the command if it was one to other processors.
    pub(super) fn write(
        &mut self,
        msr: u32,
        value: u64,
    ) -> Result<Option<InterruptCommand>, Refused> {
        match msr {
            msr::TSC_DEADLINE => self.deadline = (value != 0).then_some(value),
            msr::SPURIOUS => self.spurious = value & 0x1FF,
            msr::ESR => {}
            msr::LVT_TIMER => {
                let mode = value >> 17 & 3;
                if value & LVT_MASKED == 0 && mode != TIMER_MODE_TSC_DEADLINE {
                    return Err(Refused);
                }
                self.lvt[0] = value;
            }
            msr::LVT_THERMAL..=msr::LVT_ERROR => {
                self.lvt[(msr - msr::LVT_TIMER) as usize] = value;
            }
            msr::ICR => return InterruptCommand::parse(value).map(Some).ok_or(Refused),
            _ => return Err(Refused),
        }
        Ok(None)
    }

    /// When the timer is due.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.deadline
    }

    /// The vector to post when the deadline has passed, which also ends it.
    pub(super) fn expire(&mut self, now: u64) -> Option<u8> {
        if now < self.deadline? {
            return None;
        }
        self.deadline = None;
        self.timer_vector()
    }

    /// The timer's vector, if it is not masked.
    pub(super) fn timer_vector(&self) -> Option<u8> {
        (self.lvt[0] & LVT_MASKED == 0).then_some(self.lvt[0] as u8)
    }
}

/// A register or value that the host does not have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused;
