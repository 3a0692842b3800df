//! A driver of a virtio device that keeps to no rule: rings and registers by hand.
//!
//! The device is a disk of the host's, so that all of L1's way is there: its PCI function, the queue of L2's, the bridge, the
//! queue of the host's. A case of a table changes one thing of a request that is right, and says what must come of it: the device
//! needs a reset, or works. After each the device is reset, and a request that is right is answered. At the end and on the
//! way the TPM answers.

mod cases;
mod crb;

use super::guest::Guest;
use super::l1_image::L1Image;
use super::program::{Blob, Program, TPM};
use super::runtime::place;
use super::tpm_commands::GET_RANDOM;
use anyhow::Result;
use cases::{available, cases, data, descriptor};
use iced_x86::code_asm::{
    CodeLabel, al, ax, byte_ptr, dword_ptr, dx, eax, ebx, ecx, edi, qword_ptr, r12, r12d, r13,
    r13d, rax, rbx, rcx, rdi, rsi, word_ptr,
};
use virtio_defs::pci as virtio;
use virtio_defs::ring::{DESCRIPTOR_NEXT as NEXT, DESCRIPTOR_WRITE as WRITE};
use virtio_defs::status;
use x86_defs::pc::{PCI_CONFIG_ADDRESS, PCI_CONFIG_DATA};
use x86_defs::pci;

/// The function at 00:01.0.
const FUNCTION: u32 = pci::CONFIG_ENABLE | 1 << 11;
/// Where the structures are in BAR 0.
const DEVICE: i32 = 0x2000;
const NOTIFY: i32 = 0x3000;
/// Descriptors of the queue, whose areas these are.
const SIZE: u64 = 8;
const DESCRIPTORS: u64 = place::BUFFER;
const AVAILABLE: u64 = place::BUFFER + 0x1000;
const USED: u64 = place::BUFFER + 0x2000;
/// A request's header, data and status.
const HEADER: u64 = place::BUFFER + 0x3000;
const DATA: u64 = place::BUFFER + 0x3200;
const STATUS: u64 = place::BUFFER + 0x3800;
/// A table of descriptors.
const TABLE: u64 = place::BUFFER + 0x4000;
const END: u64 = place::BUFFER + 0x5000;
/// What the device is told of its queue: size, and the three areas.
const QUEUE: u64 = place::RESULTS;

/// Status, used index, and the request's status byte, as `go` puts them together.
const WORKS: u64 = 0x0001_000F;
const BROKEN: u64 = 0xEE00_004F;
/// The device did nothing at all.
const IDLE: u64 = 0xEE00_000F;

pub(super) fn guests() -> Vec<Guest> {
    const DISK: [&str; 2] = ["disk=ram:65536", "fwcfg=opt/org.tdp-vtpm/devices:disks"];
    // Each reset of a device makes it anew.
    vec![
        Guest {
            options: &DISK,
            allocates: true,
            ..Guest::new("a virtio driver that keeps to no rule", write)
        },
        Guest {
            options: &[DISK[0], DISK[1], super::crb::CHOSEN],
            allocates: true,
            ..Guest::new("CRB pages, written by a disk", crb::write)
        },
    ]
}

/// The program's own routines.
struct Routines {
    /// Makes a request that is right, in memory.
    prepare: CodeLabel,
    /// Resets the device and sets it up.
    start: CodeLabel,
    /// Notifies it; EAX is status, used index and status byte.
    go: CodeLabel,
}

fn write(l1: &L1Image) -> Result<Blob> {
    let mut p = Program::new()?;
    p.take_tpm()?;
    find(&mut p)?;
    let mut begin = p.a.create_label();
    p.a.jmp(begin)?;
    let routines = routines(&mut p)?;
    p.a.set_label(&mut begin)?;
    for (name, changes, expected) in cases(l1) {
        p.a.call(routines.prepare)?;
        for (address, value) in changes {
            p.a.mov(rax, value)?;
            p.a.mov(qword_ptr(address), rax)?;
        }
        p.a.call(routines.start)?;
        p.a.call(routines.go)?;
        p.check(name, expected)?;
        if expected != WORKS {
            works(&mut p, &routines, &format!("after {name}"))?;
        }
    }
    order(&mut p, &routines)?;
    registers(&mut p, &routines)?;
    messages(&mut p, &routines)?;
    bars(&mut p, &routines, l1)?;
    storm(&mut p, &routines)?;
    p.tpm_command(&GET_RANDOM)?;
    p.check("the TPM answers", 0)?;
    p.power_off()?;
    p.assemble()
}

/// Reads (EAX) or writes a doubleword of the function's configuration space.
fn select(p: &mut Program, offset: u8) -> Result<()> {
    p.a.mov(dx, u32::from(PCI_CONFIG_ADDRESS))?;
    p.a.mov(eax, FUNCTION | u32::from(offset))?;
    p.a.out(dx, eax)?;
    p.a.mov(dx, u32::from(PCI_CONFIG_DATA))?;
    Ok(())
}

fn set_configuration(p: &mut Program, offset: u8, value: u32) -> Result<()> {
    select(p, offset)?;
    p.a.mov(eax, value)?;
    p.a.out(dx, eax)?;
    Ok(())
}

/// R12 is where the registers are, R13 where the MSI-X table is. The function may access memory.
fn find(p: &mut Program) -> Result<()> {
    set_configuration(
        p,
        pci::COMMAND_STATUS,
        (pci::COMMAND_MEMORY | pci::COMMAND_BUS_MASTER).into(),
    )?;
    select(p, pci::BAR)?;
    p.a.in_(eax, dx)?;
    p.a.and(eax, !0xF_i32)?;
    p.a.mov(r12d, eax)?;
    select(p, pci::BAR + 4)?;
    p.a.in_(eax, dx)?;
    p.a.and(eax, !0xF_i32)?;
    p.a.mov(r13d, eax)?;
    Ok(())
}

fn routines(p: &mut Program) -> Result<Routines> {
    let (mut prepare, mut start, mut go) =
        (p.a.create_label(), p.a.create_label(), p.a.create_label());
    let a = &mut p.a;
    a.set_label(&mut prepare)?;
    a.mov(rdi, place::BUFFER)?;
    a.mov(ecx, (END - place::BUFFER) as u32)?;
    a.xor(eax, eax)?;
    a.rep().stosb()?;
    let mut right = vec![
        (QUEUE, SIZE),
        (QUEUE + 8, DESCRIPTORS),
        (QUEUE + 16, AVAILABLE),
        (QUEUE + 24, USED),
        (STATUS, 0xEE),
    ];
    right.extend(descriptor(DESCRIPTORS, 0, HEADER, 16, NEXT, 1));
    right.extend(data(DATA, 512));
    right.extend(descriptor(DESCRIPTORS, 2, STATUS, 1, WRITE, 0));
    right.extend(available(1, 0));
    for (address, value) in right {
        a.mov(rax, value)?;
        a.mov(qword_ptr(address), rax)?;
    }
    a.ret()?;

    a.set_label(&mut start)?;
    let register = |offset: u32| r12 + offset as i32;
    a.mov(byte_ptr(register(virtio::COMMON_STATUS)), 0)?;
    let known = u32::from(status::ACKNOWLEDGE | status::DRIVER);
    a.mov(byte_ptr(register(virtio::COMMON_STATUS)), known)?;
    // VIRTIO_F_INDIRECT_DESC and VIRTIO_F_VERSION_1.
    for (half, bits) in [(0, 1 << 28), (1, 1)] {
        let select = virtio::COMMON_DRIVER_FEATURE_SELECT;
        a.mov(dword_ptr(register(select)), half)?;
        a.mov(dword_ptr(register(virtio::COMMON_DRIVER_FEATURE)), bits)?;
    }
    let settled = known | u32::from(status::FEATURES_OK);
    a.mov(byte_ptr(register(virtio::COMMON_STATUS)), settled)?;
    a.mov(word_ptr(register(virtio::COMMON_QUEUE_SELECT)), 0)?;
    a.mov(rax, qword_ptr(QUEUE))?;
    a.mov(word_ptr(register(virtio::COMMON_QUEUE_SIZE)), ax)?;
    for (offset, from) in [
        (virtio::COMMON_QUEUE_DESC, QUEUE + 8),
        (virtio::COMMON_QUEUE_DRIVER, QUEUE + 16),
        (virtio::COMMON_QUEUE_DEVICE, QUEUE + 24),
    ] {
        a.mov(rax, qword_ptr(from))?;
        a.mov(qword_ptr(register(offset)), rax)?;
    }
    a.mov(word_ptr(register(virtio::COMMON_QUEUE_ENABLE)), 1)?;
    let running = settled | u32::from(status::DRIVER_OK);
    a.mov(byte_ptr(register(virtio::COMMON_STATUS)), running)?;
    a.ret()?;

    a.set_label(&mut go)?;
    a.mov(word_ptr(r12 + NOTIFY), 0)?;
    a.movzx(ecx, byte_ptr(STATUS))?;
    a.shl(ecx, 24)?;
    a.movzx(eax, word_ptr(USED + 2))?;
    a.shl(eax, 16)?;
    a.or(ecx, eax)?;
    a.movzx(eax, byte_ptr(r12 + virtio::COMMON_STATUS as i32))?;
    a.or(eax, ecx)?;
    a.ret()?;
    Ok(Routines { prepare, start, go })
}

/// The check that the device, reset, answers a request that is right.
fn works(p: &mut Program, routines: &Routines, name: &str) -> Result<()> {
    p.a.call(routines.prepare)?;
    p.a.call(routines.start)?;
    p.a.call(routines.go)?;
    p.check(name, WORKS)
}

/// Steps of the set-up in an order that is none.
fn order(p: &mut Program, routines: &Routines) -> Result<()> {
    let register = |offset: u32| r12 + offset as i32;
    // A queue before the features, features after it, DRIVER_OK without FEATURES_OK.
    p.a.call(routines.prepare)?;
    p.a.mov(byte_ptr(register(virtio::COMMON_STATUS)), 0)?;
    p.a.mov(word_ptr(register(virtio::COMMON_QUEUE_ENABLE)), 1)?;
    p.a.movzx(eax, word_ptr(register(virtio::COMMON_QUEUE_ENABLE)))?;
    p.check("a queue is not enabled before the features", 0)?;
    p.a.mov(byte_ptr(register(virtio::COMMON_STATUS)), 7)?;
    p.a.call(routines.go)?;
    p.check("DRIVER_OK without FEATURES_OK", 0xEE00_0003)?;
    // Features that were not offered.
    p.a.mov(byte_ptr(register(virtio::COMMON_STATUS)), 0)?;
    p.a.mov(dword_ptr(register(virtio::COMMON_DRIVER_FEATURE)), -1)?;
    p.a.mov(byte_ptr(register(virtio::COMMON_STATUS)), 11)?;
    p.a.movzx(eax, byte_ptr(register(virtio::COMMON_STATUS)))?;
    p.check("features that are not offered", 3)?;
    // DRIVER_OK with a queue that is not enabled, and a queue that changes while it works.
    p.a.call(routines.start)?;
    p.a.mov(rax, TPM)?;
    p.a.mov(qword_ptr(register(virtio::COMMON_QUEUE_DEVICE)), rax)?;
    p.a.mov(word_ptr(register(virtio::COMMON_QUEUE_SIZE)), 3)?;
    p.a.call(routines.go)?;
    p.check("a queue that works does not change", WORKS)?;
    // Nothing is available before it gives up.
    p.a.call(routines.prepare)?;
    p.a.mov(word_ptr(AVAILABLE + 2), 0)?;
    p.a.call(routines.start)?;
    p.a.mov(byte_ptr(register(virtio::COMMON_STATUS)), 0x8F)?;
    p.a.mov(word_ptr(AVAILABLE + 2), 1)?;
    p.a.call(routines.go)?;
    p.check(
        "a driver that has given up",
        IDLE | u64::from(status::FAILED),
    )?;
    works(p, routines, "after every order")
}

/// Writes of every register with every width, at every status.
fn registers(p: &mut Program, routines: &Routines) -> Result<()> {
    p.a.call(routines.prepare)?;
    let table = p.data(&[0, 1, 3, 11, 15, 0x4F, 0x80, 0xFF]);
    p.a.lea(rsi, qword_ptr(table))?;
    p.a.mov(ebx, 8)?;
    let (mut state, mut next) = (p.a.create_label(), p.a.create_label());
    p.a.set_label(&mut state)?;
    p.a.call(routines.start)?;
    p.a.lodsb()?;
    p.a.mov(byte_ptr(r12 + virtio::COMMON_STATUS as i32), al)?;
    p.a.xor(ecx, ecx)?;
    p.a.mov(rax, -1_i64 as u64)?;
    p.a.set_label(&mut next)?;
    p.a.mov(byte_ptr(r12 + rcx), al)?;
    p.a.mov(word_ptr(r12 + rcx), ax)?;
    p.a.mov(dword_ptr(r12 + rcx), eax)?;
    p.a.mov(qword_ptr(r12 + rcx), rax)?;
    p.a.mov(byte_ptr(r12 + rcx + DEVICE), al)?;
    p.a.mov(qword_ptr(r12 + rcx + DEVICE), rax)?;
    p.a.inc(ecx)?;
    p.a.cmp(ecx, 0x48)?;
    p.a.jne(next)?;
    p.a.dec(ebx)?;
    p.a.jnz(state)?;
    p.a.mov(rbx, TPM)?;
    works(p, routines, "after every register at every status")
}

/// Interrupts to odd addresses, with odd data.
fn messages(p: &mut Program, routines: &Routines) -> Result<()> {
    /// Offset of the MSI-X capability, which is the last of the function's.
    const CONTROL: u32 = (pci::MSIX_ENABLE as u32) << 16;
    // The list of capabilities ends with it: follow it.
    let (mut next, mut found) = (p.a.create_label(), p.a.create_label());
    select(p, pci::CAPABILITIES)?;
    p.a.in_(eax, dx)?;
    p.a.set_label(&mut next)?;
    p.a.and(eax, 0xFC)?;
    p.a.mov(edi, eax)?;
    p.a.or(eax, FUNCTION as i32)?;
    p.a.mov(dx, u32::from(PCI_CONFIG_ADDRESS))?;
    p.a.out(dx, eax)?;
    p.a.mov(dx, u32::from(PCI_CONFIG_DATA))?;
    p.a.in_(eax, dx)?;
    p.a.cmp(al, i32::from(pci::CAPABILITY_MSIX))?;
    p.a.je(found)?;
    p.a.shr(eax, 8)?;
    p.a.jmp(next)?;
    p.a.set_label(&mut found)?;
    p.a.mov(eax, CONTROL)?;
    p.a.out(dx, eax)?;
    for (name, address, message) in [
        ("an interrupt to the TPM window", TPM, 0x41),
        ("an interrupt to the guest's memory", DATA, 0x41),
        ("an interrupt to no processor", 0xFEE7_F000, 0x41),
        ("an interrupt above 4 GiB", 0x1_FEE0_0000, 0x41),
        ("an interrupt of a vector for exceptions", 0xFEE0_0000, 0x05),
        ("a system-management interrupt", 0xFEE0_0000, 0x200),
        ("an INIT", 0xFEE0_0000, 0x500),
        ("a start-up", 0xFEE0_0000, 0x641),
        ("an interrupt of the 8259's", 0xFEE0_0000, 0x700),
        ("an interrupt with every bit", u64::MAX, u64::MAX >> 32),
    ] {
        p.a.mov(rax, address)?;
        p.a.mov(qword_ptr(r13), rax)?;
        p.a.mov(rax, message)?;
        p.a.mov(qword_ptr(r13 + 8), rax)?;
        p.a.call(routines.prepare)?;
        p.a.call(routines.start)?;
        p.a.mov(word_ptr(r12 + virtio::COMMON_QUEUE_VECTOR as i32), 0)?;
        p.a.call(routines.go)?;
        p.check(name, WORKS)?;
    }
    Ok(())
}

/// BARs where something else is, which answers as before.
fn bars(p: &mut Program, routines: &Routines, l1: &L1Image) -> Result<()> {
    p.a.call(routines.prepare)?;
    for (name, to, expected) in [
        ("a BAR over the guest's memory", STATUS, Some(0xEE)),
        // TPM_DID_VID_0 is checked behind it.
        ("a BAR over the TPM window", TPM, None),
        ("a BAR over the local APIC", 0xFEE0_0000, None),
        ("a BAR over L1's memory", l1.start, None),
        ("a BAR at the end of 32 bits", 0xFFFF_C000, None),
    ] {
        set_configuration(p, pci::BAR, (to & !0x3FFF) as u32)?;
        match expected {
            Some(value) => {
                p.a.movzx(eax, byte_ptr(to))?;
                p.check(name, value)?;
            }
            None => {
                p.tpm_command(&GET_RANDOM)?;
                p.check(name, 0)?;
            }
        }
    }
    select(p, pci::BAR)?;
    p.a.mov(rax, r12)?;
    p.a.out(dx, eax)?;
    works(p, routines, "after a BAR that was everywhere")
}

/// Notifications of queues that there are not, with every width, and of nothing, very often.
fn storm(p: &mut Program, routines: &Routines) -> Result<()> {
    p.a.call(routines.prepare)?;
    p.a.call(routines.start)?;
    p.a.call(routines.go)?;
    p.check("before the storm", WORKS)?;
    p.a.mov(ecx, 1000)?;
    let mut next = p.a.create_label();
    p.a.set_label(&mut next)?;
    p.a.mov(word_ptr(r12 + NOTIFY), 0)?;
    p.a.mov(dword_ptr(r12 + rcx * 4 + NOTIFY), -1)?;
    p.a.mov(byte_ptr(r12 + rcx * 2 + NOTIFY + 1), 0)?;
    p.a.dec(ecx)?;
    p.a.jnz(next)?;
    p.a.call(routines.go)?;
    p.check("after the storm", WORKS)?;
    works(p, routines, "after the storm, reset")
}
