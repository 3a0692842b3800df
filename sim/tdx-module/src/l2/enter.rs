//! TDG.VP.ENTER, TDG.VP.INVEPT and TDG.VP.INVGLA (TDX Module ABI).

use super::event::Ready;
use super::exit_information::ExitInformation;
use super::guest::Guest;
use super::state::Entry;
use super::translations;
use crate::leaf::operand::{Memory, READ};
use crate::leaf::{LeafEnd, LeafResult, invalid};
use crate::module::Module;
use crate::platform::{Action, Platform, Register, Vm};
use crate::td::seamcall;
use crate::td::sept::l2_vms;
use crate::transition::{AsynchronousExit, ExtendedQualification};
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::vmcs::VmcsField;
use tdx_defs::vp_enter::GuestState;
use tdx_defs::{Registers, VmIndex};
use x86_defs::exit_reason;

/// RCX bits 53:52: the VM.
const VM_SHIFT: u32 = 52;
const VM_MASK: u64 = 3 << VM_SHIFT;
/// RCX bits 1:0 of TDG.VP.ENTER: what to flush.
const FLUSH_MASK: u64 = 3;
/// INVEPT. The others are of linear addresses, of which the platform keeps no translations between runs.
const FLUSH_EPT: u64 = 1;
/// L2_ENTER_GUEST_STATE is 256-byte aligned.
const GUEST_STATE_ALIGNMENT: u64 = 256;

fn vm_of(module: &Module, rcx: u64, other_bits: u64) -> Option<VmIndex> {
    let vm = VmIndex::new((rcx >> VM_SHIFT & 3) as u8)?;
    (rcx & !(VM_MASK | other_bits) == 0 && module.td.has_l2(vm)).then_some(vm)
}

/// TDG.VP.ENTER. `Ok` is a call that does not end here: L2 runs, or the TD was left, and L1's
/// registers are as they were.
pub(crate) fn vp_enter<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &Registers,
) -> Result<Action, LeafEnd> {
    let gpa = registers.rdx;
    if !gpa.is_multiple_of(GUEST_STATE_ALIGNMENT) || !module.td.is_private(gpa) {
        return Err(invalid(Operand::RDX));
    }
    let vm = vm_of(module, registers.rcx, FLUSH_MASK).ok_or(invalid(Operand::RCX))?;
    let vapic = module.vcpu.l2(vm).cell(VmcsField::VIRTUAL_APIC_ADDRESS);
    if vapic == super::vmcs_table::NULL_GPA {
        return Err(invalid(Operand::L2_VAPIC_GPA));
    }
    module.vcpu.l1.apic.accept_posted();
    if module.vcpu.l1.apic.is_deliverable() {
        return Err(Status::new(Code::PendingInterrupt, 0).into());
    }
    let entry = translate(module, gpa, vapic).map_err(LeafEnd::TdExit)?;
    refuse_shared_pages(module, vm, entry);
    module.vcpu.l2_mut(vm).entry = entry;
    if registers.rcx & FLUSH_MASK == FLUSH_EPT {
        translations::flush(module, platform, vm);
    }
    platform.carry_over(Vm::L1, Vm::L2(vm));
    module.vcpu.current = Vm::L2(vm);

    let mut guest = Guest::new(module, platform, vm);
    guest.load();
    if !guest.is_entry_event_legal() || !guest.is_threshold_legal() {
        // VMRESUME fails without an exit.
        return Ok(module.td_exit_fatal(seamcall::NON_RECOVERABLE_TD, AsynchronousExit::default()));
    }
    if !guest.is_state_valid() {
        let exit =
            ExitInformation::of(exit_reason::INVALID_GUEST_STATE | exit_reason::ENTRY_FAILURE);
        return Ok(super::transition::exit_to_l1(
            module,
            platform,
            vm,
            Code::Success,
            exit,
        ));
    }
    if guest.primary().monitor_trap_flag() {
        // The exit after L2's first instruction is one that the module knows no cause for.
        return Ok(module.td_exit_fatal(
            seamcall::NON_RECOVERABLE_TD,
            AsynchronousExit {
                reason: exit_reason::MONITOR_TRAP_FLAG,
                ..AsynchronousExit::default()
            },
        ));
    }
    if guest.secondary().virtual_interrupt_delivery() {
        guest.with_virtual_apic(|apic| apic.virtualize_ppr());
    }
    Ok(run(module, platform, vm))
}

/// Finds the two pages of L1's that a run of L2 needs. One that is not there, or not accepted, is
/// the host's to supply: a TD exit, without a #VE.
pub(super) fn translate(
    module: &Module,
    guest_state: u64,
    vapic: u64,
) -> Result<Entry, AsynchronousExit> {
    let find = |gpa| {
        module
            .td
            .sept
            .mapped(gpa)
            .ok_or_else(|| AsynchronousExit::ept_violation(gpa, 0, ExtendedQualification::NONE))
    };
    Ok(Entry {
        guest_state_gpa: guest_state,
        guest_state_hpa: find(guest_state)?,
        vapic_hpa: find(vapic)?,
    })
}

/// Ends everything if another virtual processor has entered an L2 VM with the same pages. The real module does not look,
/// and both processors would write them at once.
fn refuse_shared_pages(module: &Module, vm: VmIndex, entry: Entry) {
    if module.vcpu.l2(vm).entry == entry {
        return;
    }
    for other in module.other_vcpus.values() {
        let before = other.l2.iter().map(|l2| l2.entry);
        for used in before.filter(|&used| used != Entry::default()) {
            assert!(
                used.guest_state_hpa != entry.guest_state_hpa && used.vapic_hpa != entry.vapic_hpa,
                "virtual processors {} and {} share a guest state or a virtual-APIC page: {used:x?}, {entry:x?}",
                other.index,
                module.vcpu.index,
            );
        }
    }
}

impl<P: Platform> Guest<'_, P> {
    /// Loads the state that L1 gives in memory.
    fn load(&mut self) {
        let mut bytes = [0; GuestState::ABI_SIZE];
        let hpa = self.l2.entry.guest_state_hpa;
        self.platform.read(hpa, &mut bytes);
        let words = bytes.as_chunks::<8>().0;
        let word = |index: usize| u64::from_le_bytes(words[index]);
        let status = u16::from_le_bytes([bytes[0x98], bytes[0x99]]);
        let vm = self.vm();
        let general = core::array::from_fn(word);
        self.platform.set_general_registers(vm, &general);
        self.set_register(Register::Rflags, word(16));
        self.set_register(Register::Rip, word(17));
        self.l2.set_cell(VmcsField::GUEST_SSP, word(18));
        self.l2
            .set_cell(VmcsField::GUEST_INTERRUPT_STATUS, status.into());
        self.l2.vectoring = None;
    }

    /// Writes the state back to L1's memory.
    pub(super) fn save(&mut self) {
        let mut bytes = [0; GuestState::ABI_SIZE];
        let vm = self.vm();
        let others = [
            self.register(Register::Rflags),
            self.register(Register::Rip),
            self.l2.cell(VmcsField::GUEST_SSP),
        ];
        let words = self
            .platform
            .general_registers(vm)
            .into_iter()
            .chain(others);
        for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        let status = self.l2.cell(VmcsField::GUEST_INTERRUPT_STATUS) as u16;
        bytes[0x98..].copy_from_slice(&status.to_le_bytes());
        let hpa = self.l2.entry.guest_state_hpa;
        self.platform.write(hpa, &bytes);
    }

    /// Without virtual-interrupt delivery the TPR threshold must not be above the virtual TPR (SDM
    /// volume 3, "VM-Execution Control Fields").
    fn is_threshold_legal(&mut self) -> bool {
        let threshold = self.l2.cell(VmcsField::TPR_THRESHOLD);
        self.secondary().virtual_interrupt_delivery()
            || threshold <= u64::from(self.virtual_apic().tpr() >> 4)
    }
}

/// Leaves for L2's next instruction, unless something comes first.
pub(crate) fn run<P: Platform>(module: &mut Module, platform: &mut P, vm: VmIndex) -> Action {
    match Guest::new(module, platform, vm).prepare() {
        Ready::Run => {
            translations::show(module, platform, vm);
            Action::Run(Vm::L2(vm))
        }
        Ready::Exit(exit) => {
            super::transition::exit_to_l1(module, platform, vm, Code::Success, exit)
        }
    }
}

/// TDG.VP.INVEPT: of the L2 VMs in a mask, on this virtual processor.
pub(crate) fn vp_invept<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &mut Registers,
) -> LeafResult {
    let vms = (2u64 << module.td.num_l2_vms()) - 2;
    if registers.rcx & !vms != 0 {
        return Err(invalid(Operand::RCX));
    }
    for vm in l2_vms().filter(|vm| registers.rcx >> vm.get() & 1 != 0) {
        translations::flush(module, platform, vm);
    }
    Ok(())
}

/// TDG.VP.INVGLA: by one entry in RDX, or by a list of them.
pub(crate) fn vp_invgla<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &mut Registers,
) -> LeafResult {
    const LIST: u64 = 1;
    let vm = vm_of(module, registers.rcx, LIST).ok_or(invalid(Operand::RCX))?;
    if registers.rcx & LIST == 0 {
        return Guest::new(module, platform, vm).check_gla(registers.rdx);
    }
    const LIST_ENTRIES: u64 = 512;
    const RESERVED: u64 = 0xc000_0000_0000_0e00;
    let first = registers.rdx & 0x1ff;
    let count = registers.rdx >> 52 & 0x3ff;
    let list = registers.rdx & 0x000f_ffff_ffff_f000;
    if registers.rdx & RESERVED != 0 || first + count > LIST_ENTRIES {
        return Err(invalid(Operand::RDX));
    }
    let hpa = module.operand(platform, Operand::RDX, list, Memory::Private, READ)?;
    for index in first..first + count {
        let mut entry = [0; 8];
        platform.read(hpa + 8 * index, &mut entry);
        Guest::new(module, platform, vm).check_gla(u64::from_le_bytes(entry))?;
    }
    registers.rdx = list | (first + count) & 0x1ff;
    Ok(())
}

impl<P: Platform> Guest<'_, P> {
    /// Checks a GLA_LIST_ENTRY: the first page in bits 63:12, the last page's index in bits 11:0.
    fn check_gla(&mut self, entry: u64) -> LeafResult {
        let bits = if self.register(Register::Cr4) & x86_defs::cr4::LA57 != 0 {
            57
        } else {
            48
        };
        let canonical =
            |address: u64| (address as i64) << (64 - bits) >> (64 - bits) == address as i64;
        let first = entry & !0xfff;
        let last = first.wrapping_add((entry & 0xfff) << 12);
        if canonical(first) && canonical(last) {
            Ok(())
        } else {
            Err(Status::new(Code::GlaNotCanonical, 0).into())
        }
    }
}
