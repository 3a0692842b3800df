//! Where things are in a micro-guest. L2's addresses are L1's.

/// The interpreter.
pub(super) const CODE: u64 = 0x10_0000;
pub(super) const CODE_SIZE: u64 = 0x4000;
/// The IDT, a page.
pub(super) const IDT: u64 = 0x10_8000;
/// GDT, TSS and the table registers' values, a page.
pub(super) const TABLES: u64 = 0x10_9000;
pub(super) const GDT: u64 = TABLES;
/// Of each virtual processor, at the same place in its block.
pub(super) const TSS: u64 = TABLES + 0x180;
pub(super) const GDT_POINTER: u64 = TABLES + 0x200;
pub(super) const IDT_POINTER: u64 = TABLES + 0x210;
/// The record being run.
pub(super) const CURRENT: u64 = TABLES + 0x220;
pub(super) const SCRATCH: u64 = TABLES + 0x228;
/// Where the interpreter's stack begins.
pub(super) const STACK: u64 = TABLES + 0x230;
/// The virtual processor's index.
pub(super) const INDEX: u64 = TABLES + 0x238;
/// Records of steps, as far as they are number 0's.
pub(super) const RECORDS: u64 = 0x11_0000;
pub(super) const RECORDS_SIZE: u64 = 0xC000;
/// Stacks: the interpreter's, the exception handlers', user mode's.
pub(super) const STACKS: u64 = 0x12_0000;
pub(super) const STACKS_SIZE: u64 = 0x3000;
const STACK_TOP: u64 = STACKS + 0x1000;
const TRAP_STACK_TOP: u64 = STACKS + 0x2000;
pub(super) const USER_STACK_TOP: u64 = STACKS + 0x3000;
/// Page tables: one to one below 4 GiB, and again with the shared bit at [`SHARED_ALIAS`].
pub(super) const PAGE_TABLES: u64 = 0x13_0000;
/// PML4, PDPT, four page directories, the alias's page directory.
pub(super) const PAGE_TABLES_SIZE: u64 = 0x7000;
/// L1's data: a test's own.
pub(super) const DATA: u64 = 0x14_0000;
pub(super) const DATA_SIZE: u64 = 0x3000;
/// L2_ENTER_GUEST_STATE.
pub(super) const GUEST_STATE: u64 = 0x15_0000;
/// L2's virtual-APIC page.
pub(super) const VAPIC: u64 = 0x15_1000;
/// A page that is L1's alone.
pub(super) const SECRET: u64 = 0x15_2000;
/// L2's code, and a page for its data.
pub(super) const L2_CODE: u64 = 0x16_0000;
pub(super) const L2_DATA: u64 = 0x16_1000;

/// What virtual processors but number 0 have of their own: a copy of the second half of [`TABLES`], stacks, records.
/// Number 0 has it above, and number n in block n.
pub(super) const BLOCKS: u64 = 0x17_0000;
pub(super) const BLOCK_SIZE: u64 = 0x8000;
/// Virtual processors at most.
pub(super) const PROCESSORS: u64 = 16;
/// In a block.
const BLOCK_STACK_TOP: u64 = 0x2000;
const BLOCK_TRAP_STACK_TOP: u64 = 0x3000;
const BLOCK_RECORDS: u64 = 0x3000;

/// What is different for each virtual processor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// Added to addresses in [`TABLES`].
    pub(super) offset: u64,
    pub(super) stack_top: u64,
    pub(super) trap_stack_top: u64,
    pub(super) records: u64,
    pub(super) records_size: u64,
}

impl Block {
    pub(super) const fn of(processor: u64) -> Self {
        if processor == 0 {
            return Self {
                offset: 0,
                stack_top: STACK_TOP,
                trap_stack_top: TRAP_STACK_TOP,
                records: RECORDS,
                records_size: RECORDS_SIZE,
            };
        }
        let start = BLOCKS + processor * BLOCK_SIZE;
        Self {
            offset: start - TABLES,
            stack_top: start + BLOCK_STACK_TOP,
            trap_stack_top: start + BLOCK_TRAP_STACK_TOP,
            records: start + BLOCK_RECORDS,
            records_size: BLOCK_SIZE - BLOCK_RECORDS,
        }
    }
}

/// L1's linear address of shared memory: GPA 0 to 1 GiB with the shared bit.
pub(super) const SHARED_ALIAS: u64 = 0x1_0000_0000;
/// The page with the reset vector.
pub(super) const RESET: u64 = 0xFFFF_F000;

/// A 2 MiB page that the host has augmented and nobody accepted.
pub(super) const PENDING_LARGE: u64 = 0x20_0000;
/// More of them, for conversions.
pub(super) const CONVERTIBLE: u64 = 0x40_0000;
/// RAM of the TD.
pub(super) const RAM_SIZE: u64 = 16 << 20;
/// No RAM, and no device.
pub(super) const HOLE: u64 = 0xC000_0000;

/// R10 of the TDVMCALL by which the interpreter says that it is through.
pub(super) const DONE: u64 = 0x454E_4F44;
