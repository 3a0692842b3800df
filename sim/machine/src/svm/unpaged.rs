//! A VM whose own paging is off.
//!
//! QEMU's TCG (7.2 as well as 10.0) applies the nested page tables to a guest without paging while its EFER.LME is 0, and
//! not while it is 1, which is the reset state of a TD. So a guest in protected mode with LME set runs on page tables of
//! ours that map each linear address to itself, and is shown its own control registers where it asks. In real mode LME
//! has no effect: the processor is not told of it.

use super::machine::VirtualMachine;
use super::nested_paging::{Access, NestedPaging};
use super::vmcb::exit_code;
use crate::arch::memory;
use x86_defs::{cr0, cr4, efer};

/// Where the VM finds the page directory while it runs so: nothing else is ever there.
const DIRECTORY_GPA: u64 = 0xFEFF_F000;

/// Bits that have a meaning only with paging, and would need other tables.
const CR4_PAGING: u64 =
    cr4::PAE | cr4::PGE | cr4::LA57 | cr4::PCIDE | cr4::SMEP | cr4::SMAP | cr4::PKE | cr4::CET;

/// 4 MiB pages, one to one, for every access.
#[repr(C, align(4096))]
struct PageDirectory([u32; 1024]);

static DIRECTORY: PageDirectory = PageDirectory(directory());

const fn directory() -> [u32; 1024] {
    const PRESENT_WRITABLE_USER_LARGE: u32 = 0x87;
    let mut entries = [0; 1024];
    let mut index = 0;
    while index < 1024 {
        // Accessed and dirty already: the processor never writes to the table.
        entries[index] = (index as u32) << 22 | 0x60 | PRESENT_WRITABLE_USER_LARGE;
        index += 1;
    }
    entries
}

/// The control registers as the VM has set them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ControlRegisters {
    pub(crate) cr0: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
    /// Without SVM's bit.
    pub(crate) efer: u64,
}

impl ControlRegisters {
    /// Whether the VM has to be run on our tables.
    fn needs_tables(&self) -> bool {
        self.cr0 & (cr0::PG | cr0::PE) == cr0::PE && self.efer & efer::LME != 0
    }

    /// Whether the VM is in real mode.
    pub(super) fn is_real_mode(&self) -> bool {
        self.cr0 & cr0::PE == 0
    }

    /// What the processor is given.
    fn effective(&self) -> Self {
        if self.is_real_mode() {
            Self {
                efer: self.efer & !(efer::LME | efer::LMA),
                ..*self
            }
        } else if self.needs_tables() {
            Self {
                cr0: self.cr0 | cr0::PG,
                cr3: DIRECTORY_GPA,
                cr4: self.cr4 & !CR4_PAGING | cr4::PSE,
                efer: self.efer & !(efer::LME | efer::LMA),
            }
        } else {
            let long_mode = self.efer & efer::LME != 0 && self.cr0 & cr0::PG != 0;
            Self {
                efer: self.efer & !efer::LMA | if long_mode { efer::LMA } else { 0 },
                ..*self
            }
        }
    }
}

/// Puts the page directory into a VM's memory, or takes it out.
#[cold]
fn set_directory(paging: &mut NestedPaging, wanted: bool) {
    paging.has_directory = wanted;
    if wanted {
        let directory = DIRECTORY.0.as_ptr().expose_provenance() as u64;
        let access = Access {
            // QEMU checks every access to a guest page table as a write.
            write: true,
            execute: false,
        };
        paging.map(DIRECTORY_GPA, 1, directory, access);
    } else {
        paging.unmap(DIRECTORY_GPA, 1);
    }
}

impl VirtualMachine {
    /// The control registers as the VM has set them.
    pub(crate) fn control_registers(&self) -> &ControlRegisters {
        &self.control_registers
    }

    /// The same, to change them while the VM does not run.
    pub(crate) fn control_registers_mut(&mut self) -> &mut ControlRegisters {
        self.control_registers_changed = true;
        &mut self.control_registers
    }

    /// Puts the control registers into the VMCB for a run, which has them already unless they were changed: all that a
    /// run itself changes is CR3.
    pub(super) fn load_control_registers(&mut self, paging: &mut NestedPaging) {
        if self.control_registers_changed {
            let unpaged = self.control_registers.needs_tables();
            if unpaged != self.runs_unpaged {
                self.runs_unpaged = unpaged;
                self.apply_cr_intercepts();
            }
            let effective = self.control_registers.effective();
            let save = &mut self.vmcb.save;
            save.cr0 = effective.cr0;
            save.cr3 = effective.cr3;
            save.cr4 = effective.cr4;
            save.efer = effective.efer | super::machine::SVME;
        }
        // Other virtual processors' runs of the VM have the same tables.
        let unpaged = self.runs_unpaged;
        if unpaged != paging.has_directory && (unpaged || !paging.keeps_directory) {
            set_directory(paging, unpaged);
        }
    }

    /// Takes over what a run may have changed: CR3 only, all else ends it. EFER.LMA is the processor's to set, where the
    /// registers were changed before the run.
    pub(super) fn store_control_registers(&mut self) {
        if self.vmcb.control.exit_code >= exit_code::INVALID {
            // The save area may have anything.
            self.control_registers_changed = true;
            return;
        }
        let changed = core::mem::take(&mut self.control_registers_changed);
        if !self.runs_unpaged {
            self.control_registers.cr3 = self.vmcb.save.cr3;
            if changed && !self.control_registers.is_real_mode() {
                self.control_registers.efer = self.vmcb.save.efer & !super::machine::SVME;
            }
        }
    }

    /// Carries out an access to a control register that ended a run only because of our tables.
    /// Answers whether it was one.
    pub(super) fn emulate_cr_access(&mut self, paging: &NestedPaging) -> bool {
        if !self.runs_unpaged {
            return false;
        }
        let Some(instruction) = self.instruction_bytes(paging) else {
            return false;
        };
        let [0x0F, opcode @ (0x20 | 0x22), modrm] = instruction else {
            return false;
        };
        let general = usize::from(modrm & 7);
        let control = modrm >> 3 & 7;
        match (opcode, control) {
            (0x20, 0) if !self.wanted.cr_read() => {
                self.set_general(general, self.control_registers.cr0);
            }
            (0x20, 4) if !self.wanted.cr_read() => {
                self.set_general(general, self.control_registers.cr4);
            }
            (0x20, 3) if !self.wanted.cr3_store() => {
                self.set_general(general, self.control_registers.cr3);
            }
            (0x22, 3) if !self.wanted.cr3_load() => {
                self.control_registers.cr3 = self.general(general);
            }
            _ => return false,
        }
        self.vmcb.save.rip += 3;
        true
    }

    /// Three bytes at CS:RIP, where linear addresses are guest-physical ones.
    fn instruction_bytes(&self, paging: &NestedPaging) -> Option<[u8; 3]> {
        let linear = self.vmcb.save.cs.base.wrapping_add(self.vmcb.save.rip) as u32;
        let mut bytes = [0; 3];
        for (offset, byte) in (0..).zip(bytes.iter_mut()) {
            let found = paging.lookup(u64::from(linear.wrapping_add(offset)))?;
            memory::read(found.hpa, core::slice::from_mut(byte));
        }
        Some(bytes)
    }
}
