//! TDVMCALLs: what the TD asks of the host (GHCI 1.5, section 3).

use alloc::string::String;

use tdx_defs::Registers;
use tdx_defs::ghci::{CompletionStatus, MmioWidth, Width, sub_function};
use tdx_defs::ghci::{DIRECTION_READ, DIRECTION_WRITE, STANDARD};

use super::memory::MemoryError;
use super::ports::{MachineRequest, PM1A_CONTROL};
use super::{End, Host, io_apic};
use crate::console::say;
use crate::options::Fault;
use x86_defs::paging::PAGE_4K;

/// The most that one MapGPA call converts, as in KVM; the rest is asked for again.
const MAP_GPA_MAX: u64 = 2 << 20;
/// Vectors that SetupEventNotifyInterrupt takes.
const EVENT_VECTORS: core::ops::RangeInclusive<u8> = 32..=255;

/// CPUID leaves of the processors' topology.
const TOPOLOGY: u64 = 0xB;
const TOPOLOGY_V2: u64 = 0x1F;

/// What becomes of the TD after a TDVMCALL.
pub(super) enum Served {
    /// It gets these registers.
    Answer(Registers),
    /// It waits for an event, and then gets these registers.
    Halt { answer: Registers, blocked: bool },
    /// It is over.
    End(End),
}

impl Host {
    /// Serves the TDVMCALL whose registers the TD exit gave.
    pub(super) fn serve_tdvmcall(&mut self, call: &Registers) -> Served {
        let mut answer = *call;
        self.count_exit_for_devices();
        if call.r10 != STANDARD {
            if self.options.test.is_some() {
                return Served::End(End::VendorCall(call.r10));
            }
            // A hypercall of another vendor's interface.
            answer.r10 = CompletionStatus::InvalidOperand.r10();
            return Served::Answer(answer);
        }
        if let Some(nonsense) = self.nonsense(call) {
            return Served::Answer(nonsense);
        }
        let status = match call.r11 {
            sub_function::GET_TD_VM_CALL_INFO => get_info(call, &mut answer),
            sub_function::MAP_GPA => match self.let_held_finish() {
                Ok(()) => self.map_gpa(call, &mut answer),
                Err(end) => return Served::End(end),
            },
            sub_function::GET_QUOTE => self.get_quote(call),
            sub_function::REPORT_FATAL_ERROR => return Served::End(self.fatal_error(call)),
            sub_function::SETUP_EVENT_NOTIFY_INTERRUPT => self.setup_event_notify(call),
            sub_function::CPUID => self.cpuid(call, &mut answer),
            sub_function::HLT => {
                answer.r10 = CompletionStatus::Success.r10();
                return Served::Halt {
                    answer,
                    blocked: call.r12 & 1 != 0,
                };
            }
            sub_function::IO => match self.io(call, &mut answer) {
                Ok(status) => status,
                Err(request) => return Served::End(End::from(request)),
            },
            sub_function::RDMSR => self.read_msr(call, &mut answer),
            sub_function::WRMSR => self.write_msr(call),
            sub_function::MMIO => self.mmio(call, &mut answer),
            sub_function::WBINVD if call.r12 <= 1 => CompletionStatus::Success,
            // Service among them: this host has none to offer.
            _ => CompletionStatus::InvalidOperand,
        };
        if let Some(end) = self.power_cut() {
            return Served::End(end);
        }
        answer.r10 = status.r10();
        Served::Answer(answer)
    }

    /// The nonsense that a fault asks for.
    fn nonsense(&self, call: &Registers) -> Option<Registers> {
        let name = match call.r11 {
            sub_function::MAP_GPA => "mapgpa",
            sub_function::CPUID => "cpuid",
            sub_function::HLT => "hlt",
            sub_function::IO => "io",
            sub_function::RDMSR => "rdmsr",
            sub_function::WRMSR => "wrmsr",
            sub_function::MMIO => "mmio",
            // A TD must always be able to say why it gives up.
            sub_function::REPORT_FATAL_ERROR => return None,
            _ => "other",
        };
        let asked = |fault: &Fault| matches!(fault, Fault::TdvmcallNonsense { what } if what == name || what == "all");
        self.options.faults.iter().any(asked).then_some(Registers {
            rax: u64::MAX,
            r10: 0x0123_4567_89AB_CDEF,
            r11: u64::MAX,
            r12: u64::MAX,
            r13: 0xDEAD_BEEF_DEAD_BEEF,
            r14: u64::MAX,
            r15: u64::MAX,
            ..*call
        })
    }

    /// GHCI 3.2, MapGPA.
    fn map_gpa(&mut self, call: &Registers, answer: &mut Registers) -> CompletionStatus {
        let shared_bit = self.shared_bit();
        let to_shared = call.r12 & shared_bit != 0;
        let start = call.r12 & !shared_bit;
        let length = call.r13;
        if !start.is_multiple_of(PAGE_4K) || !length.is_multiple_of(PAGE_4K) {
            return CompletionStatus::AlignError;
        }
        let Some(end) = start.checked_add(length).filter(|_| length != 0) else {
            return CompletionStatus::InvalidOperand;
        };
        let step_end = end.min((start / MAP_GPA_MAX + 1) * MAP_GPA_MAX);
        if !to_shared && let Err(error) = self.take_from_devices(start..step_end) {
            say!("MapGPA of {start:#x} + {length:#x}: {error}");
            return CompletionStatus::InvalidOperand;
        }
        let (module, hardware) = (&mut self.module, &mut self.hardware);
        let converted = if to_shared {
            self.memory.make_shared(module, hardware, start..step_end)
        } else {
            self.memory.make_private(module, hardware, start..step_end)
        };
        if to_shared && let Err(error) = self.give_to_devices(start..step_end) {
            say!("MapGPA of {start:#x} + {length:#x}: {error}");
            return CompletionStatus::InvalidOperand;
        }
        match converted {
            Ok(()) if step_end < end => {
                answer.r11 = step_end | (call.r12 & shared_bit);
                CompletionStatus::Retry
            }
            Ok(()) => CompletionStatus::Success,
            Err(MemoryError::NotRam) => CompletionStatus::InvalidOperand,
            Err(error) => {
                say!("MapGPA of {start:#x} + {length:#x}: {error}");
                CompletionStatus::InvalidOperand
            }
        }
    }

    /// GHCI 3.4, ReportFatalError, with the text as Linux passes it. A reserved error code (bits 31:0) is an error of the
    /// TD's to QEMU, which then ends without a word of the text.
    fn fatal_error(&mut self, call: &Registers) -> End {
        if call.r12 as u32 != 0 {
            self.ports.flush();
            say!("REPORT_FATAL_ERROR: invalid error code: {:#x}", call.r12);
            return End::FatalError {
                code: call.r12,
                text: String::new(),
            };
        }
        let words = [
            call.r14, call.r15, call.rbx, call.rdi, call.rsi, call.r8, call.r9, call.rdx,
        ];
        let text: String = words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .take_while(|&byte| byte != 0)
            .map(|byte| match byte {
                b' '..=b'~' => char::from(byte),
                _ => '?',
            })
            .collect();
        self.ports.flush();
        let code = call.r12 >> 32 & 0x7FFF_FFFF;
        say!("the TD reports a fatal error, code {code:#x}: {text}");
        End::FatalError { code, text }
    }

    /// GHCI 3.5, SetupEventNotifyInterrupt.
    fn setup_event_notify(&mut self, call: &Registers) -> CompletionStatus {
        let Some(vector) = u8::try_from(call.r12)
            .ok()
            .filter(|vector| EVENT_VECTORS.contains(vector))
        else {
            return CompletionStatus::InvalidOperand;
        };
        self.quotes.event = Some((self.processors.current(), vector));
        CompletionStatus::Success
    }

    /// GHCI 3.6, Instruction.CPUID: what the TDX module leaves to the host. KVM has its signature, no paravirtual
    /// features for a TD, and answers zeros for what it does not know.
    fn cpuid(&mut self, call: &Registers, answer: &mut Registers) -> CompletionStatus {
        const SIGNATURE: u64 = 0x4000_0000;
        const FEATURES: u64 = 0x4000_0001;
        let [eax, ebx, ecx, edx] = match call.r12 {
            SIGNATURE => [FEATURES as u32, 0x4B4D_564B, 0x564B_4D56, 0x4D],
            TOPOLOGY | TOPOLOGY_V2 => self.topology(call.r13 as u32),
            _ => [0; 4],
        };
        (answer.r12, answer.r13) = (eax.into(), ebx.into());
        (answer.r14, answer.r15) = (ecx.into(), edx.into());
        CompletionStatus::Success
    }

    /// CPUID leaves 0BH and 1FH: one package of cores with one thread each, and the APIC id of the processor that asks
    /// (SDM volume 2, CPUID).
    fn topology(&mut self, subleaf: u32) -> [u32; 4] {
        const THREADS: u32 = 1;
        const CORES: u32 = 2;
        let count = u32::from(self.options.vcpus);
        let [eax, ebx, kind] = match subleaf {
            0 => [0, 1, THREADS],
            1 => [count.next_power_of_two().trailing_zeros(), count, CORES],
            _ => [0, 0, 0],
        };
        let id = self.processors.local_apic().id();
        [eax, ebx, kind << 8 | subleaf & 0xFF, id]
    }

    /// GHCI 3.9, Instruction.IO.
    fn io(
        &mut self,
        call: &Registers,
        answer: &mut Registers,
    ) -> Result<CompletionStatus, MachineRequest> {
        let (Some(width), Ok(port)) = (Width::from_bytes(call.r12), u16::try_from(call.r14)) else {
            return Ok(CompletionStatus::InvalidOperand);
        };
        match call.r13 {
            DIRECTION_READ => {
                let value = self.devices.port_read(port, width.bytes() as u32);
                answer.r11 = value.unwrap_or_else(|| self.ports.read(port, width)).into();
            }
            DIRECTION_WRITE => {
                let value = call.r15 as u32 & width.mask();
                if self.device_port_write(port, width.bytes() as u32, value) {
                    return Ok(CompletionStatus::Success);
                }
                if self.devices.pm1_control() != Some(port) && port == PM1A_CONTROL {
                    return Ok(CompletionStatus::Success);
                }
                let shared_bit = self.shared_bit();
                if let Some(request) =
                    self.ports
                        .write(port, width, value, &self.memory, shared_bit)
                {
                    return Err(request);
                }
            }
            _ => return Ok(CompletionStatus::InvalidOperand),
        }
        Ok(CompletionStatus::Success)
    }

    /// GHCI 3.12, Instruction.RDMSR.
    fn read_msr(&mut self, call: &Registers, answer: &mut Registers) -> CompletionStatus {
        let value = u32::try_from(call.r12)
            .ok()
            .and_then(|msr| self.processors.local_apic().read(msr));
        match value {
            Some(value) => {
                answer.r11 = value;
                CompletionStatus::Success
            }
            None => CompletionStatus::InvalidOperand,
        }
    }

    /// GHCI 3.13, Instruction.WRMSR.
    fn write_msr(&mut self, call: &Registers) -> CompletionStatus {
        let Ok(msr) = u32::try_from(call.r12) else {
            return CompletionStatus::InvalidOperand;
        };
        match self.processors.local_apic().write(msr, call.r13) {
            Ok(command) => {
                if let Some(command) = command {
                    self.command(command);
                }
                self.arm_timers();
                CompletionStatus::Success
            }
            Err(_) => CompletionStatus::InvalidOperand,
        }
    }

    /// GHCI 3.11, #VE.RequestMMIO.
    fn mmio(&mut self, call: &Registers, answer: &mut Registers) -> CompletionStatus {
        let gpa = call.r14 & !self.shared_bit();
        let Some(width) = MmioWidth::from_bytes(call.r12) else {
            return CompletionStatus::InvalidOperand;
        };
        if self.memory.ram().iter().any(|range| range.contains(&gpa)) {
            return CompletionStatus::InvalidOperand;
        }
        let io_apic = gpa
            .checked_sub(io_apic::BASE)
            .filter(|&offset| offset < io_apic::SIZE);
        match (call.r13, io_apic) {
            (DIRECTION_READ, None) => {
                let value = self.device_read(gpa, width.bytes() as u32);
                answer.r11 = value.unwrap_or(width.mask());
            }
            (DIRECTION_WRITE, None) => self.device_write(gpa, width.bytes() as u32, call.r15),
            (DIRECTION_READ, Some(offset)) => match self.io_apic.read(offset, width) {
                Some(value) => answer.r11 = value.into(),
                None => return CompletionStatus::InvalidOperand,
            },
            (DIRECTION_WRITE, Some(offset)) => {
                match self.io_apic.write(offset, width, call.r15 as u32) {
                    Some(Some(interrupt)) => {
                        self.post_to_apic(interrupt.apic_id, interrupt.vector);
                    }
                    Some(None) => {}
                    None => return CompletionStatus::InvalidOperand,
                }
            }
            _ => return CompletionStatus::InvalidOperand,
        }
        CompletionStatus::Success
    }
}

/// GHCI 3.1, GetTdVmCallInfo.
fn get_info(call: &Registers, answer: &mut Registers) -> CompletionStatus {
    /// Leaf 1, R11: optional sub-functions. Bit 1 is SetupEventNotifyInterrupt.
    const SETUP_EVENT_NOTIFY_INTERRUPT: u64 = 1 << 1;
    let optional = match call.r12 {
        0 => 0,
        1 => SETUP_EVENT_NOTIFY_INTERRUPT,
        _ => return CompletionStatus::InvalidOperand,
    };
    (answer.r11, answer.r12, answer.r13, answer.r14) = (optional, 0, 0, 0);
    CompletionStatus::Success
}
