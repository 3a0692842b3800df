//! A disk whose data goes into the page of the TPM's command response buffer.

use super::{DESCRIPTORS, WORKS, find, routines};
use crate::blobs::crb::{self, CMD_LADDR, SELF_TEST};
use crate::blobs::l1_image::L1Image;
use crate::blobs::program::{Blob, Program};
use crate::blobs::tpm_commands::GET_RANDOM;
use anyhow::Result;
use iced_x86::code_asm::{dword_ptr, eax, qword_ptr, rax, rbx};

/// Where the second descriptor, of a request's data, has its address.
const DATA_ADDRESS: u64 = DESCRIPTORS + 16;

pub(super) fn write(_: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    crb::take(&mut p.a)?;
    find(&mut p)?;
    let mut begin = p.a.create_label();
    p.a.jmp(begin)?;
    let routines = routines(&mut p)?;
    p.a.set_label(&mut begin)?;
    p.a.call(routines.prepare)?;
    p.a.mov(eax, dword_ptr(rbx + CMD_LADDR))?;
    p.a.mov(qword_ptr(DATA_ADDRESS), rax)?;
    p.a.call(routines.start)?;
    crb::put(&mut p, &SELF_TEST)?;
    crb::start(&mut p.a)?;
    p.a.call(routines.go)?;
    p.check(
        "a sector is read into the buffer while a command runs",
        WORKS,
    )?;
    crb::wait(&mut p.a)?;
    crb::response(&mut p.a, 6)?;
    p.check("the command is not changed by it", 0)?;
    crb::response(&mut p.a, 2)?;
    p.check("and its response is whole", 10)?;
    // The sector as a command: zeros.
    p.a.call(routines.prepare)?;
    p.a.mov(eax, dword_ptr(rbx + CMD_LADDR))?;
    p.a.mov(qword_ptr(DATA_ADDRESS), rax)?;
    p.a.call(routines.start)?;
    p.a.call(routines.go)?;
    p.check("another sector is read there", WORKS)?;
    crb::response(&mut p.a, 2)?;
    p.check("it is there", 0)?;
    crb::start(&mut p.a)?;
    crb::wait(&mut p.a)?;
    crb::response(&mut p.a, 2)?;
    p.check("as a command it has a response", 10)?;
    crb::command(&mut p, &GET_RANDOM)?;
    p.check("the TPM answers", 0)?;
    p.power_off()?;
    p.assemble()
}
