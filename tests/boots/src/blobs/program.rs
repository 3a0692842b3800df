//! Writing a blob's program: a [`CodeAssembler`] with checks that print one line each.
//!
//! A program runs as the boot protocol starts it: 64-bit mode, the first 4 GiB mapped to
//! themselves, interrupts off, and the local APIC in x2APIC mode. RBX is the TPM window throughout. Everything else may be used.

use super::kernel::{BASE, ENTRY};
use super::runtime::{self, place};
use anyhow::{Result, ensure};
use iced_x86::BlockEncoderOptions;
use iced_x86::code_asm::{
    CodeAssembler, CodeLabel, al, byte_ptr, cr3, dword_ptr, dx, eax, ecx, ptr, qword_ptr, rax, rbx,
    rcx, rdi, rdx, rsi, rsp,
};
use x86_defs::msr::IA32_APIC_BASE;

/// What the assembler's methods give.
pub(super) type Assembled = Result<()>;

/// IA32_APIC_BASE: EXTD.
const X2APIC_MODE: i32 = 1 << 10;

/// The TPM window: the value of RBX.
pub(super) const TPM: u64 = tcg_defs::ptp::BASE;
/// Offsets in the window (PTP 1.05, "FIFO Interface").
pub(super) mod tpm {
    pub(crate) const ACCESS: i32 = 0x000;
    pub(crate) const INT_ENABLE: i32 = 0x008;
    pub(crate) const STS: i32 = 0x018;
    pub(crate) const FIFO: i32 = 0x024;
    pub(crate) const REQUEST_USE: u32 = 0x02;
    pub(crate) const COMMAND_READY: u32 = 0x40;
    pub(crate) const GO: u32 = 0x20;
    pub(crate) const DATA_AVAIL: u32 = 0x10;
}

/// Selectors of the program's GDT.
pub(super) mod selector {
    pub(crate) const CODE_64: u64 = 0x10;
    pub(crate) const DATA: u64 = 0x18;
    pub(crate) const USER_DATA: u64 = 0x20 | 3;
    pub(crate) const USER_CODE: u64 = 0x28 | 3;
    pub(crate) const TASK: u32 = 0x30;
    pub(crate) const CODE_32: u64 = 0x40;
}

/// #UD, #GP.
pub(super) const INVALID_OPCODE: u64 = fault(6, 0);
pub(super) const GENERAL_PROTECTION: u64 = fault(13, 0);
/// No exception came.
pub(super) const NO_FAULT: u64 = 0;

/// What [`Program::check_fault`] compares: an exception with this error code.
pub(super) const fn fault(vector: u64, error: u64) -> u64 {
    1 << 63 | vector << 32 | error
}

/// tpmGo, and polls until the response is there.
pub(super) fn execute(a: &mut CodeAssembler) -> Assembled {
    a.mov(dword_ptr(rbx + tpm::STS), tpm::GO)?;
    let mut poll = a.create_label();
    a.set_label(&mut poll)?;
    a.test(byte_ptr(rbx + tpm::STS), tpm::DATA_AVAIL)?;
    a.jz(poll)?;
    Ok(())
}

/// A program that is being written.
pub(super) struct Program {
    /// The instructions so far.
    pub(super) a: CodeAssembler,
    check: CodeLabel,
    show: CodeLabel,
    print: CodeLabel,
    tpm_command: CodeLabel,
    data: Vec<(CodeLabel, Vec<u8>)>,
    parts: Vec<(u64, Vec<u8>)>,
    checks: Vec<String>,
    last: Option<CodeLabel>,
    touched: Option<u64>,
}

/// A program as it runs.
pub(super) struct Blob {
    /// What is loaded at [`BASE`].
    pub(super) code: Vec<u8>,
    /// Names of the checks in the order in which they print.
    pub(super) checks: Vec<String>,
    /// What a report of the run's end must name: where L2 was, what it touched.
    pub(super) reported: Vec<String>,
}

impl Program {
    /// An empty program: descriptor tables, exception handlers and RBX are there.
    pub(super) fn new() -> Result<Self> {
        let mut program = Self::in_apic_mode_of_reset()?;
        let a = &mut program.a;
        a.mov(ecx, IA32_APIC_BASE)?;
        a.rdmsr()?;
        a.or(eax, X2APIC_MODE)?;
        a.wrmsr()?;
        Ok(program)
    }

    /// The same with the local APIC as a reset leaves it: its registers are in memory.
    pub(super) fn in_apic_mode_of_reset() -> Result<Self> {
        let mut a = CodeAssembler::new(64)?;
        let (check, print, tpm_command) = (a.create_label(), a.create_label(), a.create_label());
        let show = a.create_label();
        let mut program = Self {
            a,
            check,
            show,
            print,
            tpm_command,
            data: Vec::new(),
            parts: Vec::new(),
            checks: Vec::new(),
            last: None,
            touched: None,
        };
        program.start()?;
        Ok(program)
    }

    fn start(&mut self) -> Assembled {
        let a = &mut self.a;
        a.cld()?;
        a.mov(rdi, place::VARIABLES)?;
        a.mov(ecx, (place::END - place::VARIABLES) as u32)?;
        a.xor(eax, eax)?;
        a.rep().stosb()?;
        a.mov(rbx, TPM)?;
        a.lgdt(ptr(place::GDT_POINTER))?;
        a.lidt(ptr(place::IDT_POINTER))?;
        a.mov(qword_ptr(place::TASK + 4), place::INTERRUPT_STACK as i32)?;
        a.mov(eax, selector::TASK)?;
        a.ltr(iced_x86::code_asm::ax)?;
        Ok(())
    }

    /// Prints a line.
    pub(super) fn say(&mut self, line: &str) -> Assembled {
        let text = self.text(&format!("{line}\n"));
        self.a.lea(rsi, qword_ptr(text))?;
        self.a.call(self.print)?;
        Ok(())
    }

    /// Keeps bytes behind the code.
    pub(super) fn data(&mut self, bytes: &[u8]) -> CodeLabel {
        let label = self.a.create_label();
        self.data.push((label, bytes.to_vec()));
        label
    }

    fn text(&mut self, text: &str) -> CodeLabel {
        self.data(&[text.as_bytes(), b"\0"].concat())
    }

    /// Puts other code or data at a fixed address, which must be behind the program.
    pub(super) fn place(&mut self, address: u64, bytes: Vec<u8>) {
        self.parts.push((address, bytes));
    }

    /// The check `name` is that RAX has this value.
    pub(super) fn check(&mut self, name: &str, expected: u64) -> Assembled {
        self.checks.push(name.to_owned());
        let text = self.text(name);
        self.a.lea(rsi, qword_ptr(text))?;
        self.a.mov(rdx, expected)?;
        self.a.call(self.check)?;
        Ok(())
    }

    /// Prints the value of RAX: `@value NAME` and 16 digits, of which those after 9 are the characters after 9.
    pub(super) fn show(&mut self, name: &str) -> Assembled {
        let text = self.text(&format!("@value {name} "));
        self.a.lea(rsi, qword_ptr(text))?;
        self.a.call(self.show)?;
        Ok(())
    }

    /// The check `name` is that the instructions of `body` raise this exception, or none.
    pub(super) fn check_fault(
        &mut self,
        name: &str,
        expected: u64,
        body: impl FnOnce(&mut CodeAssembler) -> Assembled,
    ) -> Assembled {
        let mut recover = self.a.create_label();
        self.a.lea(rax, qword_ptr(recover))?;
        self.a.mov(qword_ptr(place::RECOVER), rax)?;
        self.a.mov(qword_ptr(place::RECOVER_STACK), rsp)?;
        self.a.mov(qword_ptr(place::FAULT), 0)?;
        body(&mut self.a)?;
        self.a.set_label(&mut recover)?;
        self.a.mov(qword_ptr(place::RECOVER), 0)?;
        self.a.mov(rax, qword_ptr(place::FAULT))?;
        self.check(name, expected)
    }

    /// Goes on at an alias of the first 4 GiB, 512 GiB below the end of the address space.
    pub(super) fn move_to_upper_half(&mut self) -> Assembled {
        const LAST_PML4_ENTRY: i32 = 511 * 8;
        const ALIAS: u64 = u64::MAX << 39;
        let mut there = self.a.create_label();
        let a = &mut self.a;
        a.mov(rdx, cr3)?;
        a.mov(rax, qword_ptr(rdx))?;
        a.mov(qword_ptr(rdx + LAST_PML4_ENTRY), rax)?;
        a.lea(rax, qword_ptr(there))?;
        a.mov(rdx, ALIAS)?;
        a.or(rax, rdx)?;
        a.jmp(rax)?;
        a.set_label(&mut there)?;
        Ok(())
    }

    /// Requests locality 0.
    pub(super) fn take_tpm(&mut self) -> Assembled {
        self.a.mov(byte_ptr(rbx + tpm::ACCESS), tpm::REQUEST_USE)?;
        Ok(())
    }

    /// Sends a TPM command through locality 0, which the program holds. RAX is its response code,
    /// the response is at [`place::RESPONSE`].
    pub(super) fn tpm_command(&mut self, command: &[u8]) -> Assembled {
        let data = self.data(command);
        self.send(data, command)
    }

    /// As [`tpm_command`](Self::tpm_command); the command is in the program's memory only, and not in its file.
    pub(super) fn masked_tpm_command(&mut self, command: &[u8]) -> Assembled {
        const MASK: u8 = 0xA5;
        let masked: Vec<u8> = command.iter().map(|byte| byte ^ MASK).collect();
        let data = self.data(&masked);
        let mut next = self.a.create_label();
        self.a.lea(rsi, qword_ptr(data))?;
        self.a.mov(ecx, command.len() as u32)?;
        self.a.set_label(&mut next)?;
        self.a.xor(byte_ptr(rsi), u32::from(MASK))?;
        self.a.inc(rsi)?;
        self.a.dec(ecx)?;
        self.a.jnz(next)?;
        self.send(data, command)
    }

    fn send(&mut self, data: CodeLabel, command: &[u8]) -> Assembled {
        self.a.lea(rsi, qword_ptr(data))?;
        self.a.mov(ecx, command.len() as u32)?;
        self.a.call(self.tpm_command)?;
        Ok(())
    }

    /// The next instruction must be L2's last.
    pub(super) fn ends_here(&mut self) -> Assembled {
        let mut last = self.a.create_label();
        self.a.set_label(&mut last)?;
        self.last = Some(last);
        Ok(())
    }

    /// The next instruction must be L2's last, because it touches this guest-physical address.
    pub(super) fn ends_touching(&mut self, address: u64) -> Assembled {
        self.touched = Some(address);
        self.ends_here()
    }

    /// ACPI S5.
    pub(super) fn power_off(&mut self) -> Assembled {
        self.a.mov(dx, 0x605)?;
        self.a.mov(al, 0x20)?;
        self.a.out(dx, al)?;
        self.say("@still running")?;
        self.halt()
    }

    /// HLT with interrupts disabled.
    pub(super) fn halt(&mut self) -> Assembled {
        self.a.cli()?;
        self.a.hlt()?;
        Ok(())
    }

    /// The finished program. It must not run into its end.
    pub(super) fn assemble(mut self) -> Result<Blob> {
        runtime::check(&mut self.a, &mut self.check, self.print)?;
        runtime::show(&mut self.a, &mut self.show, self.print)?;
        runtime::print(&mut self.a, &mut self.print)?;
        self.write_tpm_command()?;
        for (mut label, bytes) in std::mem::take(&mut self.data) {
            self.a.set_label(&mut label)?;
            self.a.db(&bytes)?;
        }
        let code = self
            .a
            .assemble_options(ENTRY, BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS)?;
        let mut reported = Vec::new();
        if let Some(label) = &self.last {
            reported.push(format!(" at {:#x}", code.label_ip(label)?));
        }
        reported.extend(self.touched.map(|address| format!(" {address:#x}")));
        let code = code.inner.code_buffer;
        let mut whole = vec![0; (ENTRY - BASE) as usize];
        whole.extend_from_slice(&code);
        ensure!(
            whole.len() as u64 <= place::TABLES - BASE,
            "the program is too long"
        );
        let parts = runtime::tables()?.into_iter().chain(self.parts);
        for (address, bytes) in parts {
            let start = (address - BASE) as usize;
            let end = start + bytes.len();
            whole.resize(whole.len().max(end), 0);
            whole[start..end].copy_from_slice(&bytes);
        }
        Ok(Blob {
            code: whole,
            checks: self.checks,
            reported,
        })
    }

    /// RSI, RCX: the command. Polls for the response alone: nothing else is ever busy.
    fn write_tpm_command(&mut self) -> Assembled {
        let a = &mut self.a;
        let (mut send, mut head, mut rest, mut end) = (
            a.create_label(),
            a.create_label(),
            a.create_label(),
            a.create_label(),
        );
        a.set_label(&mut self.tpm_command)?;
        a.mov(dword_ptr(rbx + tpm::STS), tpm::COMMAND_READY)?;
        a.set_label(&mut send)?;
        a.lodsb()?;
        a.mov(byte_ptr(rbx + tpm::FIFO), al)?;
        a.dec(rcx)?;
        a.jnz(send)?;
        execute(a)?;
        a.mov(rdi, place::RESPONSE)?;
        a.mov(ecx, 10)?;
        a.set_label(&mut head)?;
        a.mov(al, byte_ptr(rbx + tpm::FIFO))?;
        a.stosb()?;
        a.dec(rcx)?;
        a.jnz(head)?;
        a.mov(ecx, dword_ptr(place::RESPONSE + 2))?;
        a.bswap(ecx)?;
        a.sub(ecx, 10)?;
        a.jbe(end)?;
        a.cmp(ecx, 4086)?;
        a.ja(end)?;
        a.set_label(&mut rest)?;
        a.mov(al, byte_ptr(rbx + tpm::FIFO))?;
        a.stosb()?;
        a.dec(rcx)?;
        a.jnz(rest)?;
        a.set_label(&mut end)?;
        a.mov(eax, dword_ptr(place::RESPONSE + 6))?;
        a.bswap(eax)?;
        a.ret()?;
        Ok(())
    }
}
