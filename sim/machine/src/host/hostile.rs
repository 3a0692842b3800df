//! What a hostile host writes into pages that it adds without MR.EXTEND: nobody measures them.

use tdshim_config::layout::mailbox;
use tdx_defs::ghci::sub_function;
use x86_defs::paging::PAGE_4K;

use crate::options::Unmeasured;

/// What its code says, once it runs in the TD.
const SAYS: &[u8; 64] = b"the host's code runs in the TD\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Where in a page the code lies.
const CODE: u64 = 0x100;

/// A page at `gpa`; `None` to leave what the image has there.
pub(super) fn page(what: Unmeasured, gpa: u64) -> Option<[u8; PAGE_4K as usize]> {
    match what {
        Unmeasured::AsAsked => None,
        Unmeasured::Noise => Some(noise(gpa)),
        Unmeasured::Code => Some(code(gpa)),
    }
}

/// Bytes of no meaning, other ones in each page (Knuth's MMIX generator).
fn noise(gpa: u64) -> [u8; PAGE_4K as usize] {
    let mut state = gpa;
    core::array::from_fn(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
}

/// A mailbox that wakes up every processor which looks at it, and the program that it is to run: TDVMCALL
/// `<ReportFatalError>` with a text, in 64-bit mode.
fn code(gpa: u64) -> [u8; PAGE_4K as usize] {
    let mut page = [0; PAGE_4K as usize];
    let mut put = |at: u64, bytes: &[u8]| {
        page[at as usize..][..bytes.len()].copy_from_slice(bytes);
        at + bytes.len() as u64
    };
    put(mailbox::COMMAND, &mailbox::WAKEUP.to_le_bytes());
    put(mailbox::APIC_ID, &mailbox::BROADCAST.to_le_bytes());
    put(mailbox::WAKEUP_VECTOR, &(gpa + CODE).to_le_bytes());
    // xor eax, eax; mov ecx, 0xffcc (RDX, RBX, RSI, RDI, R8 to R15); xor r10d, r10d
    let mut at = put(CODE, b"\x31\xC0\xB9\xCC\xFF\0\0\x45\x31\xD2");
    // mov r11d, sub-function; xor r12d, r12d; xor r13d, r13d
    at = put(at, b"\x41\xBB");
    at = put(at, &(sub_function::REPORT_FATAL_ERROR as u32).to_le_bytes());
    at = put(at, b"\x45\x31\xE4\x45\x31\xED");
    // movabs r14, r15, rbx, rdi, rsi, r8, r9, rdx
    let registers: [&[u8; 2]; 8] = [
        b"\x49\xBE",
        b"\x49\xBF",
        b"\x48\xBB",
        b"\x48\xBF",
        b"\x48\xBE",
        b"\x49\xB8",
        b"\x49\xB9",
        b"\x48\xBA",
    ];
    for (register, words) in registers.into_iter().zip(SAYS.chunks(8)) {
        at = put(at, register);
        at = put(at, words);
    }
    // tdcall; jmp $
    put(at, b"\x66\x0F\x01\xCC\xEB\xFE");
    page
}
