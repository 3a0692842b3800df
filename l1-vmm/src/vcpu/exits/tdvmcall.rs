//! TDCALLs of L2's.
//!
//! A guest that knows TDX finds a TD whose memory is accepted and stays private, and whose
//! devices answer TDVMCALLs as they answer exits. Reports and RTMRs are not its own: only L1
//! speaks for the TD, and gives L2 reports by a service.

mod service;

use l2_exit::tdvmcall::{self, FatalError, Leaf, Reply, SubFunction, Tdcall};
use l2_exit::{Exit, Gpr, MmioBus, Vcpu};
use tdx_defs::field::FieldId;
use tdx_defs::ghci::{CompletionStatus, MmioWidth};
use tdx_defs::status::{Code, Operand, Status};

use super::L2;
use super::memory::Busy;
use crate::run::end::{End, GuestError};
use crate::run::environment::{Environment, L2Memory};
use crate::vcpu::Refusal;

const OPERAND_INVALID_RAX: Status = Status::operand_invalid(Operand::RAX);
const OPERAND_INVALID_RCX: Status = Status::operand_invalid(Operand::RCX);

/// Fields of the TD that L2 may read: what it is (TDX Module ABI, "TD-Scope Metadata").
const READABLE: [FieldId; 6] = [
    FieldId::ATTRIBUTES,
    FieldId::XFAM,
    FieldId::GPAW,
    FieldId::TSC_FREQUENCY,
    FieldId::CONFIG_FLAGS,
    FieldId::TD_CTLS,
];

/// Fields that Linux writes early. They control #VE and notifications, which L2 never gets.
const IGNORED: [FieldId; 2] = [FieldId::NOTIFY_ENABLES, FieldId::TD_CTLS];

/// A leaf's completion status and output registers.
type Completion = (Status, [(Gpr, u64); 6], usize);

fn completion(status: Status, outputs: &[(Gpr, u64)]) -> Completion {
    let mut registers = [(Gpr::Rax, 0); 6];
    let mut count = 0;
    for (register, output) in registers.iter_mut().zip(outputs) {
        *register = *output;
        count += 1;
    }
    (status, registers, count)
}

impl<E: Environment> L2<'_, E> {
    pub(super) fn tdcall(&mut self, exit: &Exit) -> Result<(), End> {
        match tdvmcall::decode(exit, &self.vcpu.vmcs) {
            Ok(Tdcall::VmCall(call)) => match self.vmcall(call.function)? {
                Answer::Again => self.wait_for_tpm(),
                // In the shadow of STI it would take no interrupt in between.
                Answer::Later => self.vcpu.vmcs.end_interrupt_shadow()?,
                Answer::Reply(reply) => call.reply(exit, &mut self.vcpu.vmcs, reply),
                Answer::Idle => {
                    let rip = self.vcpu.vmcs.rip();
                    call.reply(exit, &mut self.vcpu.vmcs, Reply::SUCCESS);
                    self.idle(rip)?;
                }
            },
            Ok(Tdcall::Leaf(leaf)) => {
                let (status, registers, count) = self.leaf(leaf);
                let outputs = registers.get(..count).unwrap_or(&[]);
                tdvmcall::complete(exit, &mut self.vcpu.vmcs, status, outputs);
            }
            Err(refusal) => {
                if let Some(event) = refusal.apply(exit, &mut self.vcpu.vmcs) {
                    self.vcpu.vmcs.inject(event);
                }
            }
        }
        Ok(())
    }

    fn vmcall(&mut self, function: SubFunction) -> Result<Answer, End> {
        let reply = match function {
            SubFunction::Cpuid { leaf, subleaf } => {
                let result = self.cpuid_leaf(leaf, subleaf);
                Reply::cpuid(result.eax, result.ebx, result.ecx, result.edx)
            }
            SubFunction::Hlt { .. } => return Ok(Answer::Idle),
            SubFunction::IoRead { port, width } => {
                Reply::value(u64::from(self.read_port(port, width)))
            }
            SubFunction::IoWrite { port, width, value } => {
                self.write_port(port, width, value)?;
                Reply::SUCCESS
            }
            SubFunction::Rdmsr { index } => match self.read_msr(index) {
                Ok(value) => Reply::value(value),
                Err(Refusal::Fault(_)) => Reply::INVALID_OPERAND,
                Err(Refusal::Failure(failure)) => return Err(End::Failure(failure)),
            },
            SubFunction::Wrmsr { index, value } => match self.write_msr(index, value) {
                Ok(()) => Reply::SUCCESS,
                Err(Refusal::Fault(_)) => Reply::INVALID_OPERAND,
                Err(Refusal::Failure(failure)) => return Err(End::Failure(failure)),
            },
            SubFunction::MmioRead { gpa, width } => match self.read_mmio(gpa, width) {
                Ok(reply) => reply,
                Err(Busy) => return Ok(Answer::Again),
            },
            SubFunction::MmioWrite { gpa, width, value } => {
                match self.write_mmio(gpa, width, value) {
                    Ok(reply) => reply,
                    Err(Busy) => return Ok(Answer::Again),
                }
            }
            SubFunction::Wbinvd => Reply::SUCCESS,
            // Leaf 0: the base sub-functions of GHCI 1.0 and nothing more.
            SubFunction::GetTdVmCallInfo { leaf: 0 } => Reply {
                r11: Some(0),
                r12_to_r15: Some([0, 0, 0, self.vcpu.vmcs.gpr(Gpr::R15)]),
                ..Reply::SUCCESS
            },
            SubFunction::MapGpa { gpa, size } => self.map_gpa(gpa, size),
            SubFunction::ReportFatalError(FatalError { code, text, .. }) => {
                return Err(self.guest_error(GuestError::FatalError { code, text }));
            }
            SubFunction::SetupEventNotifyInterrupt { .. } => {
                Reply::new(CompletionStatus::SubfuncUnsupported)
            }
            SubFunction::Service {
                command,
                response,
                vector,
                ..
            } => match self.service(command, response, vector) {
                Ok(answer) => return Ok(answer),
                Err(Busy) => return Ok(Answer::Again),
            },
            // Quotes are L1's own.
            _ => Reply::INVALID_OPERAND,
        };
        Ok(Answer::Reply(reply))
    }

    fn read_mmio(&mut self, gpa: u64, width: MmioWidth) -> Result<Reply, Busy> {
        let mut bytes = [0; 8];
        let mut bus = self.bus(gpa & !self.machine.shared_bit)?;
        let Some(into) = bytes
            .get_mut(..width.bytes() as usize)
            .filter(|_| bus.claims(gpa))
        else {
            return Ok(Reply::INVALID_OPERAND);
        };
        bus.read(gpa, into);
        drop(bus);
        Ok(Reply::value(u64::from_le_bytes(bytes)))
    }

    fn write_mmio(&mut self, gpa: u64, width: MmioWidth, value: u64) -> Result<Reply, Busy> {
        let bytes = value.to_le_bytes();
        let mut bus = self.bus(gpa & !self.machine.shared_bit)?;
        let Some(from) = bytes
            .get(..width.bytes() as usize)
            .filter(|_| bus.claims(gpa))
        else {
            return Ok(Reply::INVALID_OPERAND);
        };
        bus.write(gpa, from);
        Ok(Reply::SUCCESS)
    }

    /// L2 has no shared memory, so the only conversion that succeeds is none.
    fn map_gpa(&self, gpa: u64, size: u64) -> Reply {
        if gpa & self.machine.shared_bit == 0 && self.machine.memory.is_l2(gpa, size) {
            Reply::SUCCESS
        } else {
            Reply::INVALID_OPERAND
        }
    }

    fn leaf(&self, leaf: Leaf) -> Completion {
        let processors = self.machine.peers.count() as u64;
        match leaf {
            Leaf::VpInfo => match self.machine.td.vp_info() {
                Ok(info) => completion(
                    Status::SUCCESS,
                    &[
                        (Gpr::Rcx, u64::from(info.gpaw.bits())),
                        (Gpr::Rdx, info.attributes.into_bits()),
                        // L2's processors, whatever the TD has: at most as many as there are, and this one's number.
                        (Gpr::R8, processors << 32 | processors),
                        (Gpr::R9, self.vcpu.index as u64),
                        (Gpr::R10, 0),
                        (Gpr::R11, 0),
                    ],
                ),
                Err(_) => completion(OPERAND_INVALID_RAX, &[]),
            },
            Leaf::VpVeInfoGet => completion(
                Status::new(Code::NoValidVeInfo, 0),
                &[
                    (Gpr::Rcx, 0),
                    (Gpr::Rdx, 0),
                    (Gpr::R8, 0),
                    (Gpr::R9, 0),
                    (Gpr::R10, 0),
                ],
            ),
            Leaf::MemPageAccept { page } => completion(self.accept(page), &[]),
            Leaf::VmRd { field, next } => {
                let known = READABLE
                    .into_iter()
                    .find(|id| id.is_same_field(FieldId(field)));
                let value = known.and_then(|id| self.machine.td.vm_rd(id).ok());
                let status = match value {
                    Some(_) => Status::SUCCESS,
                    None => Status::new(Code::MetadataFieldIdIncorrect, 0),
                };
                let value = (Gpr::R8, value.unwrap_or(0));
                if next {
                    completion(status, &[value, (Gpr::Rdx, FieldId::NONE.0)])
                } else {
                    completion(status, &[value])
                }
            }
            Leaf::VmWr { field, .. } => {
                let known = IGNORED.iter().any(|id| id.is_same_field(FieldId(field)));
                let status = if known {
                    Status::SUCCESS
                } else {
                    Status::new(Code::MetadataFieldNotWritable, 0)
                };
                completion(status, &[(Gpr::R8, 0)])
            }
            Leaf::VpRd { .. } | Leaf::SysRd { .. } => completion(
                Status::new(Code::MetadataFieldIdIncorrect, 0),
                &[(Gpr::Rdx, FieldId::NONE.0), (Gpr::R8, 0)],
            ),
            Leaf::VpWr { .. } => completion(
                Status::new(Code::MetadataFieldIdIncorrect, 0),
                &[(Gpr::R8, 0)],
            ),
            // Reports, RTMRs, L2s of its own: not there.
            _ => completion(OPERAND_INVALID_RAX, &[]),
        }
    }

    /// TDG.MEM.PAGE.ACCEPT: L1 accepted L2's memory before L2 started, zeroed.
    fn accept(&self, page: u64) -> Status {
        let level = page & 0b111;
        let (gpa, length) = (page & !0b111, 0x1000u64 << (9 * level.min(1)));
        let aligned = gpa & (length - 1) == 0;
        if level > 1
            || !aligned
            || gpa & self.machine.shared_bit != 0
            || !self.machine.memory.is_l2(gpa, length)
        {
            return OPERAND_INVALID_RCX;
        }
        Status::SUCCESS
    }
}

/// How a TDVMCALL goes on.
enum Answer {
    /// With this reply.
    Reply(Reply),
    /// With success, once an interrupt is pending.
    Idle,
    /// Another processor has the TPM: L2 makes the call again.
    Again,
    /// It had its slice: L2 takes its interrupts, and makes the call again.
    Later,
}
