//! GDT and TSS: flat 64-bit segments, and a stack for each class of interrupts.

use core::arch::asm;

use x86::bits64::task::TaskStateSegment;
use x86::dtables::{DescriptorTablePointer, lgdt};
use x86::segmentation::SegmentSelector;
use x86::task::load_tr;

use super::image;

/// Selector of the code segment.
pub(super) const CODE: u16 = 0x08;
const DATA: u16 = 0x10;
const TASK: u16 = 0x18;

/// 64-bit code, privilege level 0, accessed.
const CODE_DESCRIPTOR: u64 = 0x00AF_9B00_0000_FFFF;
/// Data, privilege level 0, accessed.
const DATA_DESCRIPTOR: u64 = 0x00CF_9300_0000_FFFF;

/// GDT and TSS of one processor.
pub(crate) struct Segments {
    gdt: [u64; 5],
    tss: TaskStateSegment,
}

impl Segments {
    /// Before [`load`].
    pub(crate) const fn new() -> Self {
        Self {
            gdt: [0; 5],
            tss: TaskStateSegment::new(),
        }
    }
}

/// Loads the tables and every segment register; the bases of FS and GS become 0. `stacks` are the
/// tops of the processor's interrupt stacks.
pub(crate) fn load(tables: &'static mut Segments, stacks: [u64; image::INTERRUPT_STACKS]) {
    for (index, top) in stacks.into_iter().enumerate() {
        tables.tss.set_ist(index, top);
    }
    let base = (&raw const tables.tss) as u64;
    let limit = size_of::<TaskStateSegment>() as u64 - 1;
    tables.gdt = [
        0,
        CODE_DESCRIPTOR,
        DATA_DESCRIPTOR,
        // Available 64-bit TSS (SDM volume 3, "TSS Descriptor in 64-bit mode").
        limit | (base & 0xFF_FFFF) << 16 | 0x89 << 40 | (base >> 24 & 0xFF) << 56,
        base >> 32,
    ];
    let pointer = DescriptorTablePointer::new_from_slice(&tables.gdt);
    // SAFETY: the descriptors are flat as td-shim's were, the tables are static, from here on only the
    // processor's (it sets the TSS descriptor's busy bit), and mapped identically by td-shim and later by L1; the far return reloads CS with the same base and
    // uses 16 bytes of the stack.
    unsafe {
        lgdt(&pointer);
        asm!(
            "push {code}",
            "lea {address}, [rip + 2f]",
            "push {address}",
            "retfq",
            "2:",
            "mov ds, {data:e}",
            "mov es, {data:e}",
            "mov ss, {data:e}",
            "mov fs, {data:e}",
            "mov gs, {data:e}",
            code = in(reg) u64::from(CODE),
            data = in(reg) u32::from(DATA),
            address = out(reg) _,
        );
        load_tr(SegmentSelector::from_raw(TASK));
    }
}
