//! The recorded cases and their answers, as text.

use flate2::read::GzDecoder;
use std::io::Read;
use tdx_module::HardwareExit;

/// One line of a case.
pub(crate) enum Step {
    /// TDCALL with RAX, RCX, RDX, R8, R9 and R10.
    Call([u64; 6]),
    /// 256 bytes, `seed` and then 7 more each.
    Memory { gpa: u64, seed: u8 },
    /// Bytes.
    Bytes { gpa: u64, bytes: Vec<u8> },
    /// An L2_ENTER_GUEST_STATE of these registers.
    GuestState {
        gpa: u64,
        rax: u64,
        rcx: u64,
        rip: u64,
    },
    /// Bytes are shown.
    Dump { gpa: u64, length: usize },
    /// An interrupt is posted for L1.
    Post(u8),
    /// How L2 will end the run that comes.
    Exit(HardwareExit),
    /// L1's RDMSR.
    ReadMsr(u32),
    /// L1's WRMSR.
    WriteMsr(u32, u64),
}

/// A case: its lines, as text and as steps, and the lines of its answer.
pub(crate) struct Case {
    pub(crate) number: u32,
    pub(crate) steps: Vec<(String, Step)>,
    pub(crate) answers: Vec<String>,
}

/// The cases of two compressed files.
pub(crate) fn cases(input: &[u8], output: &[u8]) -> Vec<Case> {
    let (input, output) = (unpack(input), unpack(output));
    let inputs = blocks(&input);
    let outputs = blocks(&output);
    assert_eq!(inputs.len(), outputs.len());
    inputs
        .into_iter()
        .zip(outputs)
        .map(|((number, lines), (same, answers))| {
            assert_eq!(number, same);
            Case {
                number,
                steps: lines
                    .into_iter()
                    .map(|line| (line.to_owned(), step(line)))
                    .collect(),
                answers: answers.into_iter().map(str::to_owned).collect(),
            }
        })
        .collect()
}

fn unpack(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes)
        .read_to_string(&mut text)
        .expect("a gzip file of text");
    text
}

fn blocks(text: &str) -> Vec<(u32, Vec<&str>)> {
    let mut blocks: Vec<(u32, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        if let Some(number) = line.strip_prefix("case ") {
            blocks.push((number.parse().expect("a number"), Vec::new()));
        } else {
            blocks.last_mut().expect("a case first").1.push(line);
        }
    }
    blocks
}

fn number(word: &str) -> u64 {
    u64::from_str_radix(word, 16).unwrap_or_else(|_| panic!("{word}: not a number"))
}

fn step(line: &str) -> Step {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["call", rax, rcx, rdx, r8, r9, r10] => {
            Step::Call([rax, rcx, rdx, r8, r9, r10].map(number))
        }
        ["mem", gpa, seed] => Step::Memory {
            gpa: number(gpa),
            seed: number(seed) as u8,
        },
        ["bytes", gpa, ref bytes @ ..] => Step::Bytes {
            gpa: number(gpa),
            bytes: bytes.iter().map(|byte| number(byte) as u8).collect(),
        },
        ["state", gpa, rax, rcx, rip] => Step::GuestState {
            gpa: number(gpa),
            rax: number(rax),
            rcx: number(rcx),
            rip: number(rip),
        },
        ["dump", gpa, length] => Step::Dump {
            gpa: number(gpa),
            length: number(length) as usize,
        },
        ["post", vector] => Step::Post(number(vector) as u8),
        ["r", msr] => Step::ReadMsr(number(msr) as u32),
        ["w", msr, value] => Step::WriteMsr(number(msr) as u32, number(value)),
        ["x", kind, ..] => Step::Exit(exit(kind)),
        _ => panic!("{line}: not a step"),
    }
}

fn exit(kind: &str) -> HardwareExit {
    match kind {
        "T" => HardwareExit::Exception {
            vector: 6,
            error_code: None,
            cr2: 0,
        },
        "a" => HardwareExit::Mwait,
        "b" => HardwareExit::CacheFlush,
        "c" => HardwareExit::Cpuid,
        "d" => HardwareExit::Rdtsc,
        "h" => HardwareExit::Hlt,
        "i" => HardwareExit::Interrupt,
        "j" => HardwareExit::Invalid,
        "m" => HardwareExit::Monitor,
        "n" => HardwareExit::Nmi,
        "p" => HardwareExit::Rdpmc,
        "r" => HardwareExit::ReadMsr,
        "t" => HardwareExit::TripleFault,
        "u" => HardwareExit::Pause,
        "v" => HardwareExit::Vmcall,
        "w" => HardwareExit::WriteMsr,
        "x" => HardwareExit::Xsetbv,
        _ => panic!("{kind}: not a kind of exit"),
    }
}
