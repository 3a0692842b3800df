//! Translations that a processor keeps of an L2 VM's memory after L1 has changed it.
//!
//! TDG.MEM.PAGE.ATTR.WR changes the L2 secure EPT at once; what a processor has cached of it stays until that processor
//! flushes it: INVEPT acts where it is executed, and nobody tells the others. The model is a processor that caches
//! everything it could, for ever: on a virtual processor that has run the VM since its last flush, a page that L1 takes
//! away or tightens keeps its rights until TDG.VP.INVEPT, the INVEPT of ATTR.WR or the flush of TDG.VP.ENTER on that
//! virtual processor, or its first TD entry after a TDH.MEM.TRACK. Rights that are added count at once, as a processor
//! walks again before it reports a violation.

use crate::module::Module;
use crate::platform::{Permissions, Platform, Vm};
use crate::td::sept::{Leaf, LeafState, l2_vms, permissions};
use alloc::collections::BTreeMap;
use tdx_defs::attributes::VmAttributes;
use tdx_defs::{PageLevel, VmIndex};

/// A page as the processor had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    level: PageLevel,
    hpa: u64,
    permissions: Permissions,
}

/// What a virtual processor keeps of one L2 VM.
#[derive(Clone, Debug, Default)]
pub(crate) struct Translations {
    /// It has run the VM since the last flush.
    used: bool,
    /// Pages with rights that they do not have any more, by first GPA.
    stale: BTreeMap<u64, Page>,
}

/// Whose stale pages the second-stage tables of each L2 VM have, by VCPU_INDEX.
pub(crate) type Shown = [Option<u32>; VmIndex::MAX as usize];

fn place(vm: VmIndex) -> usize {
    usize::from(vm.get() - 1)
}

fn union(one: Permissions, other: Permissions) -> Permissions {
    Permissions {
        read: one.read || other.read,
        write: one.write || other.write,
        execute_supervisor: one.execute_supervisor || other.execute_supervisor,
        execute_user: one.execute_user || other.execute_user,
    }
}

/// What an alias allows; nothing if it is none.
fn allowed(alias: VmAttributes) -> Permissions {
    match alias.valid() {
        true => permissions(alias),
        false => Permissions::default(),
    }
}

/// L1 changes an alias of a mapped page: who has used the VM keeps what it had. Before the change.
pub(crate) fn change<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    leaf: &Leaf,
    vm: VmIndex,
    alias: VmAttributes,
) {
    let before = allowed(leaf.alias(vm));
    let after = allowed(alias);
    if leaf.state != LeafState::Mapped || union(before, after) == after {
        return;
    }
    withdraw(module, platform, vm);
    let all = core::iter::once(&mut module.vcpu).chain(module.other_vcpus.values_mut());
    for translations in all.map(|vcpu| &mut vcpu.l2_mut(vm).translations) {
        if !translations.used {
            continue;
        }
        let page = Page {
            level: leaf.level,
            hpa: leaf.hpa,
            permissions: before,
        };
        let kept = translations.stale.entry(leaf.gpa).or_insert(page);
        kept.permissions = union(kept.permissions, before);
    }
}

/// The virtual processor is to run the VM: the tables get what it still has.
pub(crate) fn show<P: Platform>(module: &mut Module, platform: &mut P, vm: VmIndex) {
    let index = module.vcpu.index;
    module.vcpu.l2_mut(vm).translations.used = true;
    match module.shown[place(vm)] {
        Some(owner) if owner == index => return,
        Some(_) => withdraw(module, platform, vm),
        None => {}
    }
    let stale = &module.vcpu.l2(vm).translations.stale;
    if stale.is_empty() {
        return;
    }
    for (&gpa, page) in stale {
        let now = module.td.sept.find(gpa).filter(|leaf| leaf.hpa == page.hpa);
        let now = now.map_or(Permissions::default(), |leaf| allowed(leaf.alias(vm)));
        let permissions = union(page.permissions, now);
        platform.map(Vm::L2(vm), gpa, page.level, page.hpa, permissions);
    }
    module.shown[place(vm)] = Some(index);
}

/// The tables have what the secure EPT says, and nothing more.
fn withdraw<P: Platform>(module: &mut Module, platform: &mut P, vm: VmIndex) {
    let Some(owner) = module.shown[place(vm)].take() else {
        return;
    };
    let owner = match owner == module.vcpu.index {
        true => Some(&module.vcpu),
        false => module.other_vcpus.get(&owner),
    };
    for (&gpa, page) in owner
        .iter()
        .flat_map(|vcpu| &vcpu.l2(vm).translations.stale)
    {
        platform.unmap(Vm::L2(vm), gpa, page.level);
        module.td.sept.restore(platform, vm, gpa, page.level);
    }
}

/// INVEPT of a VM's secure EPT on the virtual processor.
pub(crate) fn flush<P: Platform>(module: &mut Module, platform: &mut P, vm: VmIndex) {
    if module.shown[place(vm)] == Some(module.vcpu.index) {
        withdraw(module, platform, vm);
    }
    module.vcpu.l2_mut(vm).translations = Translations::default();
}

/// The virtual processor is entered: in a new TLB epoch it has nothing.
pub(crate) fn follow_epoch<P: Platform>(module: &mut Module, platform: &mut P) {
    let epoch = module.td.epoch();
    if core::mem::replace(&mut module.vcpu.epoch, epoch) != epoch {
        for vm in l2_vms() {
            flush(module, platform, vm);
        }
    }
}
