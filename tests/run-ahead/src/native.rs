//! Execution by the processor.

use std::ptr;

use iced_x86::code_asm::{
    AsmRegister64, CodeAssembler, qword_ptr, r8, r9, r10, r11, r12, r13, r14, r15, rax, rbp, rbx,
    rcx, rdi, rdx, rsi, rsp,
};
use iced_x86::{BlockEncoderOptions, IcedError};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use crate::{DATA, State};

const PAGE: usize = 0x1000;
/// Registers in the last page: 16 general ones, RFLAGS, and the RSP of who calls.
const WORDS: usize = 18;

/// Memory that code is executed in: a page of code, a page that enters and leaves it, and data.
pub struct Native {
    base: *mut u8,
    /// Where the words of the second page are, from its start.
    words: usize,
    /// Where code jumps to when it is over.
    exit: u64,
}

/// RAX, RCX .. R15 with their places.
fn registers() -> [AsmRegister64; 16] {
    [
        rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15,
    ]
}

impl Default for Native {
    fn default() -> Self {
        Self::new()
    }
}

impl Native {
    /// Maps it.
    ///
    /// # Panics
    /// If the system gives no such memory.
    #[must_use]
    #[allow(
        unsafe_code,
        clippy::expect_used,
        reason = "the oracle is the processor itself"
    )]
    pub fn new() -> Self {
        let all = ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC;
        // SAFETY: a new mapping, at an address of the system's choice.
        let base =
            unsafe { mmap_anonymous(ptr::null_mut(), 2 * PAGE + DATA, all, MapFlags::PRIVATE) };
        let base = base.expect("memory to execute").cast::<u8>();
        let at = base as u64 + PAGE as u64;
        let (bytes, exit) = gates(base as u64, at).expect("assembles");
        let words = bytes.len() - WORDS * 8;
        // SAFETY: inside of the mapping, of which there is no reference.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), base.add(PAGE), bytes.len()) };
        Self { base, words, exit }
    }

    /// Linear address of the code.
    #[must_use]
    pub fn code(&self) -> u64 {
        self.base as u64
    }

    /// Linear address of the data.
    #[must_use]
    pub fn data(&self) -> u64 {
        self.base as u64 + 2 * PAGE as u64
    }

    /// Where code has to jump to at its end.
    #[must_use]
    pub const fn exit(&self) -> u64 {
        self.exit
    }

    /// Executes `code`, which is one of [`crate::program`]'s for this place: it changes nothing but general registers
    /// but RSP's page, status flags and the data, faults nowhere and ends at [`Native::exit`].
    ///
    /// # Panics
    /// If the code is longer than a page.
    #[must_use]
    #[allow(unsafe_code, reason = "the oracle is the processor itself")]
    pub fn run(&mut self, code: &[u8], state: &State) -> State {
        assert!(code.len() <= PAGE && state.data.len() == DATA);
        let mut after = state.clone();
        // SAFETY: all of it is inside of the mapping, of which there is no reference, and what is called keeps the
        // registers that the C ABI wants kept, and has a stack of its own; what the code does between is its maker's
        // contract.
        unsafe {
            let data = self.base.add(2 * PAGE);
            let words = self.base.add(PAGE + self.words).cast::<[u64; WORDS]>();
            ptr::copy_nonoverlapping(code.as_ptr(), self.base, code.len());
            ptr::copy_nonoverlapping(state.data.as_ptr(), data, DATA);
            words.write_unaligned(registers_of(state));
            let enter: extern "sysv64" fn() = std::mem::transmute(self.base.add(PAGE));
            enter();
            ptr::copy_nonoverlapping(data, after.data.as_mut_ptr(), DATA);
            let [gprs @ .., rflags, _] = words.read_unaligned();
            (after.gprs, after.rflags) = (gprs, rflags);
        }
        after
    }
}

fn registers_of(state: &State) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    let registers = state.gprs.iter().chain([&state.rflags]);
    words
        .iter_mut()
        .zip(registers)
        .for_each(|(word, register)| *word = *register);
    words
}

/// The code that enters the code at `code` and leaves it, for `at`, with the words behind it; and where it leaves.
fn gates(code: u64, at: u64) -> Result<(Vec<u8>, u64), IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let mut words = [(); WORDS].map(|()| a.create_label());
    let kept = [rbx, rbp, r12, r13, r14, r15];
    let [.., flags, caller] = words;
    for register in kept {
        a.push(register)?;
    }
    a.mov(qword_ptr(caller), rsp)?;
    a.lea(rsp, qword_ptr(flags))?;
    a.popfq()?;
    for (register, word) in registers().into_iter().zip(words) {
        a.mov(register, qword_ptr(word))?;
    }
    a.jmp(code)?;
    let leaving = a.instructions().len();
    for (register, word) in registers().into_iter().zip(words) {
        a.mov(qword_ptr(word), register)?;
    }
    a.mov(rsp, qword_ptr(caller))?;
    a.pushfq()?;
    a.pop(rax)?;
    a.mov(qword_ptr(flags), rax)?;
    for register in kept.into_iter().rev() {
        a.pop(register)?;
    }
    a.ret()?;
    for word in &mut words {
        a.set_label(word)?;
        a.dq(&[0])?;
    }
    let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let assembled = a.assemble_options(at, options)?.inner;
    let exit = assembled.new_instruction_offsets.get(leaving);
    let exit = at + exit.copied().map_or(0, u64::from);
    Ok((assembled.code_buffer, exit))
}
