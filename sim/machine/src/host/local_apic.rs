//! The host's part of L1's local APIC: the registers that the TDX module leaves to it (the timer,
//! the interrupt command register), as x2APIC MSRs in TDVMCALLs.

use crate::hardware::{Hardware, Timer};

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

/// APIC base 0xFEE00000, enabled, x2APIC mode, boot processor.
const APIC_BASE: u64 = x86_defs::pc::LOCAL_APIC | 0xD00;
/// Integrated APIC, six LVT entries.
const VERSION: u64 = 0x5_0014;
const LVT_MASKED: u64 = 1 << 16;
/// LVT timer mode, bits 18:17: TSC-deadline.
const TIMER_MODE_TSC_DEADLINE: u64 = x86_defs::apic::TIMER_TSC_DEADLINE as u64;

/// The registers.
#[derive(Debug)]
pub(crate) struct LocalApic {
    lvt: [u64; 6],
    spurious: u64,
}

impl LocalApic {
    pub(crate) fn new() -> Self {
        Self {
            lvt: [LVT_MASKED; 6],
            spurious: 0xFF,
        }
    }

    /// RDMSR; None for a register that is not here.
    pub(crate) fn read(&self, msr: u32, hardware: &Hardware) -> Option<u64> {
        Some(match msr {
            msr::APIC_BASE => APIC_BASE,
            msr::TSC_DEADLINE => hardware.deadline(Timer::LocalApic).unwrap_or(0),
            msr::ID | msr::ESR => 0,
            msr::VERSION => VERSION,
            // Cluster 0, processor 0.
            msr::LDR => 1,
            msr::SPURIOUS => self.spurious,
            msr::LVT_TIMER..=msr::LVT_ERROR => self.lvt[(msr - msr::LVT_TIMER) as usize],
            _ => return None,
        })
    }

    /// WRMSR. Answers the vector of an interrupt that L1 sent to itself.
    pub(crate) fn write(
        &mut self,
        msr: u32,
        value: u64,
        hardware: &mut Hardware,
    ) -> Result<Option<u8>, Refused> {
        match msr {
            msr::TSC_DEADLINE => {
                hardware.set_deadline(Timer::LocalApic, (value != 0).then_some(value));
            }
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
            msr::ICR => return fixed_to_self(value).map(Some).ok_or(Refused),
            _ => return Err(Refused),
        }
        Ok(None)
    }

    /// The vector to post when the deadline has passed, which also ends it.
    pub(crate) fn expire(&mut self, now: u64, hardware: &mut Hardware) -> Option<u8> {
        let deadline = hardware.deadline(Timer::LocalApic)?;
        if now < deadline {
            return None;
        }
        hardware.set_deadline(Timer::LocalApic, None);
        self.timer_vector()
    }

    /// The timer's vector, if it is not masked.
    pub(crate) fn timer_vector(&self) -> Option<u8> {
        (self.lvt[0] & LVT_MASKED == 0).then_some(self.lvt[0] as u8)
    }
}

/// A register or value that the host does not have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused;

/// The vector of a fixed interrupt command that reaches processor 0, the only one.
fn fixed_to_self(command: u64) -> Option<u8> {
    const SHORTHAND_SELF: u64 = 1;
    let delivery_mode = command >> 8 & 7;
    let shorthand = command >> 18 & 3;
    let destination = command >> 32;
    let reaches = shorthand == SHORTHAND_SELF || shorthand == 0 && destination == 0;
    (delivery_mode == 0 && reaches).then_some(command as u8)
}
