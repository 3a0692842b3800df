//! #VE: instructions of L1's own that the module leaves to the host.
//!
//! CPUID, RDMSR, WRMSR, IN, OUT and HLT are asked of the host by TDVMCALL. What it answers is no
//! more trusted than if L1 had called itself.

use tdcall::leaf::VeInfo;
use tdx_defs::ghci::Width;
use tdx_defs::vmcs::IoQualification;
use x86_defs::exit_reason;

use super::Frame;
use crate::arch::{image, td};
use crate::fatal::{FatalCode, fatal};

pub(super) fn handle(frame: &mut Frame) {
    let info = match td().ve_info_get() {
        Ok(info) => info,
        Err(error) => unserved(frame, format_args!("{error}")),
    };
    match info.exit_reason {
        exit_reason::CPUID => cpuid(frame),
        exit_reason::HLT => {
            // With interrupts disabled, as they are but for the wait that is a TDVMCALL itself.
            if let Err(error) = td().hlt(true) {
                unserved(frame, format_args!("HLT: {error}"));
            }
        }
        exit_reason::IO_INSTRUCTION => port(frame, &info),
        exit_reason::RDMSR => match td().rdmsr(frame.rcx as u32) {
            Ok(value) => {
                frame.rax = value & 0xFFFF_FFFF;
                frame.rdx = value >> 32;
            }
            Err(error) => {
                let index = frame.rcx as u32;
                unserved(frame, format_args!("RDMSR {index:#x}: {error}"));
            }
        },
        exit_reason::WRMSR => {
            let value = frame.rdx << 32 | frame.rax & 0xFFFF_FFFF;
            if let Err(error) = td().wrmsr(frame.rcx as u32, value) {
                let index = frame.rcx as u32;
                unserved(frame, format_args!("WRMSR {index:#x}: {error}"));
            }
        }
        reason => {
            let VeInfo { gpa, gla, .. } = info;
            unserved(
                frame,
                format_args!("exit reason {reason}, GPA {gpa:#x}, linear address {gla:#x}"),
            )
        }
    }
    if info.instruction_length > 15 {
        let length = info.instruction_length;
        unserved(frame, format_args!("instruction of {length} bytes"));
    }
    frame.rip += u64::from(info.instruction_length);
}

fn cpuid(frame: &mut Frame) {
    let (leaf, sub_leaf) = (frame.rax as u32, frame.rcx as u32);
    match td().cpuid(leaf, sub_leaf) {
        Ok(result) => {
            frame.rax = result.eax.into();
            frame.rbx = result.ebx.into();
            frame.rcx = result.ecx.into();
            frame.rdx = result.edx.into();
        }
        Err(error) => unserved(frame, format_args!("CPUID {leaf:#x}: {error}")),
    }
}

fn port(frame: &mut Frame, info: &VeInfo) {
    let qualification = IoQualification::from_bits(info.qualification);
    let port = qualification.port();
    let width = match Width::from_bytes(u64::from(qualification.size_minus_one()) + 1) {
        Some(width) if !qualification.string() => width,
        _ => unserved(frame, format_args!("string access to port {port:#x}")),
    };
    let mask = u64::from(width.mask());
    let result = if qualification.direction_in() {
        td().io_read(port, width).map(|value| {
            let kept = if width == Width::Dword { 0 } else { !mask };
            frame.rax = frame.rax & kept | u64::from(value);
        })
    } else {
        td().io_write(port, width, (frame.rax & mask) as u32)
    };
    if let Err(error) = result {
        unserved(frame, format_args!("port {port:#x}: {error}"));
    }
}

fn unserved(frame: &Frame, what: core::fmt::Arguments<'_>) -> ! {
    let at = frame.rip.wrapping_sub(image::start());
    fatal(
        FatalCode::VirtualizationException,
        format_args!("#VE at image+{at:#x}: {what}"),
    )
}
