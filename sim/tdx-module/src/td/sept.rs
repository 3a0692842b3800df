//! The secure EPT: what each private GPA of the TD is, for L1 and for every L2 VM.
//!
//! The tree's pages below its root are known by level and GPA, so that a walk ends where the real
//! one does; a page that the host gives brings those above it along, as if the host had called
//! TDH.MEM.SEPT.ADD for each. A GPA has one leaf, which carries the L2 aliases of the same page (an
//! alias has no address of its own: L2's GPAs are L1's).

use crate::platform::{Permissions, Platform, Vm};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use core::cell::Cell;
use tdx_defs::attributes::VmAttributes;
use tdx_defs::{PageLevel, VmIndex};

/// State of a leaf (TDX Module Base Architecture, "Secure EPT Entry").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeafState {
    /// TDH.MEM.PAGE.ADD gave it, or the guest accepted it.
    Mapped,
    /// TDH.MEM.PAGE.AUG gave it, and the guest has not accepted it.
    Pending,
    /// Mapped, and blocked by the host.
    Blocked,
    /// Pending, and blocked by the host.
    PendingBlocked,
}

impl LeafState {
    /// The state's number in an extended exit qualification.
    pub(crate) fn number(self) -> u64 {
        match self {
            LeafState::Blocked => 1,
            LeafState::Pending => 2,
            LeafState::PendingBlocked => 3,
            LeafState::Mapped => 4,
        }
    }
}

/// A private page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Its first GPA.
    pub(crate) gpa: u64,
    /// The machine page.
    pub(crate) hpa: u64,
    pub(crate) level: PageLevel,
    pub(crate) state: LeafState,
    /// The alias in each L2 VM; bit VALID says that there is one.
    pub(crate) aliases: [VmAttributes; VmIndex::MAX as usize],
    /// The TLB epoch in which the host blocked it.
    pub(crate) blocked_at: u64,
}

impl Leaf {
    pub(crate) fn contains(&self, gpa: u64) -> bool {
        gpa >= self.gpa && gpa - self.gpa < self.level.size()
    }

    pub(crate) fn alias(&self, vm: VmIndex) -> VmAttributes {
        self.aliases[usize::from(vm.get() - 1)]
    }

    pub(crate) fn set_alias(&mut self, vm: VmIndex, attributes: VmAttributes) {
        self.aliases[usize::from(vm.get() - 1)] = attributes;
    }
}

/// Where a walk to a level ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walk {
    /// At a leaf of the level asked for, or of a larger one.
    Leaf(Leaf),
    /// At an entry of the level asked for that has smaller pages under it.
    NonLeaf,
    /// At a free entry of this level, which is the one asked for or a higher one.
    Free(u64),
}

/// A page of the tree: the level of its entries, and the first GPA that they map.
type Table = (u64, u64);

/// All private pages of the TD.
#[derive(Debug)]
pub(crate) struct SecureEpt {
    /// Level of the root's entries: 3 with four levels of tables, 4 with five.
    root: u64,
    tables: BTreeSet<Table>,
    leaves: BTreeMap<u64, Leaf>,
    cache: TranslationCache,
}

/// Translations of mapped 4 KiB pages that were looked up lately. Any change of any leaf empties
/// it, so that it has nothing that the leaves do not say.
#[derive(Debug)]
struct TranslationCache {
    /// What an entry must have been made in to count.
    generation: u64,
    entries: Box<[Cell<Translation>; TranslationCache::ENTRIES]>,
    /// The leaf that was looked up last, and the generation that it is of.
    last: Cell<Option<(u64, Leaf)>>,
}

#[derive(Clone, Copy, Debug)]
struct Translation {
    generation: u64,
    gpa: u64,
    hpa: u64,
}

impl Default for TranslationCache {
    fn default() -> TranslationCache {
        TranslationCache {
            // No entry's.
            generation: 1,
            entries: Box::new([const { Cell::new(Translation::NONE) }; Self::ENTRIES]),
            last: Cell::new(None),
        }
    }
}

impl Translation {
    const NONE: Translation = Translation {
        generation: 0,
        gpa: 0,
        hpa: 0,
    };
}

impl TranslationCache {
    const ENTRIES: usize = 1024;

    fn entry(&self, page: u64) -> &Cell<Translation> {
        &self.entries[(page >> 12) as usize % Self::ENTRIES]
    }

    fn empty(&mut self) {
        self.generation += 1;
    }
}

/// What an entry of this level maps, in bytes.
const fn entry_size(level: u64) -> u64 {
    0x1000 << (9 * level)
}

/// The page of the tree whose entries are of this level, where `gpa` is.
const fn table(level: u64, gpa: u64) -> Table {
    (level, gpa & !(entry_size(level + 1) - 1))
}

impl SecureEpt {
    /// An empty tree of `levels` levels, 4 or 5.
    pub(crate) fn new(levels: u64) -> SecureEpt {
        SecureEpt {
            root: levels - 1,
            tables: BTreeSet::new(),
            leaves: BTreeMap::new(),
            cache: TranslationCache::default(),
        }
    }

    /// The page that covers `gpa`, in whatever state.
    pub(crate) fn find(&self, gpa: u64) -> Option<&Leaf> {
        let (_, leaf) = self.leaves.range(..=gpa).next_back()?;
        leaf.contains(gpa).then_some(leaf)
    }

    /// The same as a value: that of the page that was asked for last is kept.
    pub(crate) fn leaf(&self, gpa: u64) -> Option<Leaf> {
        if let Some((generation, leaf)) = self.cache.last.get()
            && generation == self.cache.generation
            && leaf.contains(gpa)
        {
            return Some(leaf);
        }
        let leaf = *self.find(gpa)?;
        self.cache.last.set(Some((self.cache.generation, leaf)));
        Some(leaf)
    }

    /// Walks to `level` at `gpa`, which is aligned to it.
    pub(crate) fn walk(&self, gpa: u64, level: PageLevel) -> Walk {
        let level = level.number();
        let leaf = self.find(gpa).filter(|leaf| leaf.level.number() >= level);
        if let Some(leaf) = leaf {
            return Walk::Leaf(*leaf);
        }
        let missing = (level..self.root)
            .rev()
            .find(|&level| !self.tables.contains(&table(level, gpa)));
        match (missing, level.checked_sub(1)) {
            (Some(missing), _) => Walk::Free(missing + 1),
            (None, Some(below)) if self.tables.contains(&table(below, gpa)) => Walk::NonLeaf,
            (None, _) => Walk::Free(level),
        }
    }

    /// Adds the page of the tree under the entry of `level` at `gpa`, and those above it.
    pub(crate) fn insert_table(&mut self, gpa: u64, level: u64) {
        self.tables
            .extend((level - 1..self.root).map(|level| table(level, gpa)));
    }

    /// Adds a page where [`walk`](Self::walk) finds nothing.
    pub(crate) fn insert<P: Platform>(&mut self, platform: &mut P, leaf: Leaf) {
        self.cache.empty();
        self.insert_table(leaf.gpa, leaf.level.number() + 1);
        self.leaves.insert(leaf.gpa, leaf);
        apply(platform, &leaf);
    }

    /// Changes a page's state or aliases. The page is found by its first GPA.
    pub(crate) fn update<P: Platform>(
        &mut self,
        platform: &mut P,
        gpa: u64,
        change: impl FnOnce(&mut Leaf),
    ) {
        self.cache.empty();
        if let Some(leaf) = self.leaves.get_mut(&gpa) {
            change(leaf);
            apply(platform, leaf);
        }
    }

    /// Takes a page out, with its aliases.
    pub(crate) fn remove<P: Platform>(&mut self, platform: &mut P, gpa: u64) {
        self.cache.empty();
        if let Some(leaf) = self.leaves.remove(&gpa) {
            platform.unmap(Vm::L1, leaf.gpa, leaf.level);
            for vm in l2_vms() {
                platform.unmap(Vm::L2(vm), leaf.gpa, leaf.level);
            }
        }
    }

    /// Makes the platform's tables say again what the leaves say of the range of a page, for one L2 VM.
    pub(crate) fn restore<P: Platform>(
        &self,
        platform: &mut P,
        vm: VmIndex,
        gpa: u64,
        level: PageLevel,
    ) {
        let first = self.find(gpa).map_or(gpa, |leaf| leaf.gpa);
        for leaf in self.leaves.range(first..gpa + level.size()) {
            apply_alias(platform, leaf.1, vm);
        }
    }

    /// Where a private GPA is in machine memory, if the guest may use it now.
    #[inline]
    pub(crate) fn mapped(&self, gpa: u64) -> Option<u64> {
        let page = gpa & !0xfff;
        let entry = self.cache.entry(page);
        let cached = entry.get();
        if cached.gpa == page && cached.generation == self.cache.generation {
            return Some(cached.hpa + (gpa - page));
        }
        self.find_mapped(gpa)
    }

    #[cold]
    fn find_mapped(&self, gpa: u64) -> Option<u64> {
        let page = gpa & !0xfff;
        let leaf = self.find(gpa)?;
        if leaf.state != LeafState::Mapped {
            return None;
        }
        self.cache.entry(page).set(Translation {
            generation: self.cache.generation,
            gpa: page,
            hpa: leaf.hpa + (page - leaf.gpa),
        });
        Some(leaf.hpa + (gpa - leaf.gpa))
    }
}

/// The indices of all the L2 VMs that a TD can have.
pub(crate) fn l2_vms() -> impl Iterator<Item = VmIndex> {
    (1..=VmIndex::MAX).filter_map(VmIndex::new)
}

/// Makes the platform's tables say what the leaf says.
fn apply<P: Platform>(platform: &mut P, leaf: &Leaf) {
    let mapped = leaf.state == LeafState::Mapped;
    if mapped {
        platform.map(Vm::L1, leaf.gpa, leaf.level, leaf.hpa, Permissions::ALL);
    } else {
        platform.unmap(Vm::L1, leaf.gpa, leaf.level);
    }
    for vm in l2_vms() {
        apply_alias(platform, leaf, vm);
    }
}

/// The same for one L2 VM.
fn apply_alias<P: Platform>(platform: &mut P, leaf: &Leaf, vm: VmIndex) {
    let alias = leaf.alias(vm);
    if leaf.state == LeafState::Mapped && alias.valid() {
        let permissions = permissions(alias);
        platform.map(Vm::L2(vm), leaf.gpa, leaf.level, leaf.hpa, permissions);
    } else {
        platform.unmap(Vm::L2(vm), leaf.gpa, leaf.level);
    }
}

/// What an alias allows.
pub(crate) fn permissions(alias: VmAttributes) -> Permissions {
    Permissions {
        read: alias.read(),
        write: alias.write(),
        execute_supervisor: alias.execute_supervisor(),
        execute_user: alias.execute_user(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_platform::TestPlatform;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const LEVELS: [PageLevel; 3] = [PageLevel::Page4K, PageLevel::Page2M, PageLevel::Page1G];

    fn leaf(gpa: u64, level: PageLevel) -> Leaf {
        Leaf {
            gpa,
            // Not the identity, so that a mixed-up address shows.
            hpa: gpa + (1 << 40),
            level,
            state: LeafState::Mapped,
            aliases: [VmAttributes::new(); 3],
            blocked_at: 0,
        }
    }

    /// A page near a few boundaries, so that pages of different sizes meet.
    fn page() -> impl Strategy<Value = (u64, PageLevel)> {
        (0..3_u64, 0..3_u64, 0..4_u64, 0..3_usize).prop_map(|(giga, mega, kilo, level)| {
            let gpa = giga << 30 | mega << 21 | kilo << 12;
            let level = LEVELS[level];
            (gpa & !(level.size() - 1), level)
        })
    }

    fn overlap(one: &Leaf, other: &Leaf) -> bool {
        one.contains(other.gpa) || other.contains(one.gpa)
    }

    proptest! {
        #[test]
        fn pages_never_overlap_and_every_address_finds_its_own(
            pages in proptest::collection::vec(page(), 1..24),
            (gpa, level) in page(),
            offset in 0..0x1000_u64,
        ) {
            let mut platform = TestPlatform::default();
            let mut sept = SecureEpt::new(4);
            let mut inserted: Vec<Leaf> = Vec::new();
            for (gpa, level) in pages {
                let new = leaf(gpa, level);
                let free = !inserted.iter().any(|other| overlap(&new, other));
                prop_assert_eq!(matches!(sept.walk(gpa, level), Walk::Free(_)), free);
                if free {
                    sept.insert(&mut platform, new);
                    inserted.push(new);
                }
            }

            let address = gpa + offset;
            let owner = inserted.iter().find(|leaf| leaf.contains(address));
            prop_assert_eq!(sept.find(address), owner);
            prop_assert_eq!(sept.leaf(address), owner.copied());
            prop_assert_eq!(sept.mapped(address), owner.map(|_| address + (1 << 40)));
            let wanted = leaf(gpa, level);
            let expected = match inserted.iter().find(|leaf| overlap(leaf, &wanted)) {
                Some(leaf) if leaf.level >= level => Walk::Leaf(*leaf),
                Some(_) => Walk::NonLeaf,
                None => return Ok(()),
            };
            prop_assert_eq!(sept.walk(gpa, level), expected);

            for leaf in &inserted {
                sept.remove(&mut platform, leaf.gpa);
            }
            prop_assert!(platform.pages.is_empty());
        }
    }

    proptest! {
        /// The cache of translations never answers for another page or for another time: whatever
        /// was looked up before, an address is where its leaf says it is now.
        #[test]
        fn a_lookup_never_remembers_what_the_leaves_do_not_say(
            steps in proptest::collection::vec(
                (0..4_u64, 0..2_u64, 0..0x1000_u64, proptest::option::of(any::<bool>())),
                1..40,
            ),
        ) {
            // Two neighbours, and as many pages that have their places in the cache.
            const SAME_PLACE: u64 = 0x1000 * TranslationCache::ENTRIES as u64;
            let mut platform = TestPlatform::default();
            let mut sept = SecureEpt::new(4);
            for (index, neighbour, offset, change) in steps {
                let gpa = index * SAME_PLACE + neighbour * 0x1000;
                let known = sept.find(gpa).copied();
                match (change, known) {
                    (Some(true), None) => {
                        // Elsewhere each time.
                        let hpa = (offset + 1) << 40 | gpa;
                        let new = Leaf { hpa, ..leaf(gpa, PageLevel::Page4K) };
                        sept.insert(&mut platform, new);
                    }
                    (Some(true), Some(_)) => sept.remove(&mut platform, gpa),
                    (Some(false), _) => sept.update(&mut platform, gpa, |leaf| {
                        leaf.state = match leaf.state {
                            LeafState::Mapped => LeafState::Blocked,
                            _ => LeafState::Mapped,
                        }
                    }),
                    (None, _) => {}
                }
                let expected = sept
                    .find(gpa)
                    .filter(|leaf| leaf.state == LeafState::Mapped)
                    .map(|leaf| leaf.hpa + offset);
                prop_assert_eq!(sept.mapped(gpa + offset), expected);
            }
        }
    }

    /// Each page of a large leaf has a place of its own in the cache, and pages of the same place
    /// do not answer for each other.
    #[test]
    fn pages_that_share_a_place_in_the_cache_keep_their_own_addresses() {
        const SAME_PLACE: u64 = 0x1000 * TranslationCache::ENTRIES as u64;
        let mut platform = TestPlatform::default();
        let mut sept = SecureEpt::new(4);
        sept.insert(&mut platform, leaf(0, PageLevel::Page1G));
        for gpa in [
            0x5123,
            SAME_PLACE + 0x5123,
            0x5123,
            0x6123,
            2 * SAME_PLACE,
            0,
        ] {
            for _ in 0..2 {
                assert_eq!(sept.mapped(gpa), Some(gpa + (1 << 40)), "{gpa:#x}");
            }
        }
        assert_eq!(sept.mapped(1 << 30), None, "the page at 0 has its place");
    }

    #[test]
    fn hardware_has_what_is_mapped_and_nothing_that_is_not() {
        let mut platform = TestPlatform::default();
        let mut sept = SecureEpt::new(4);
        let alias = VmIndex::FIRST;
        sept.insert(&mut platform, leaf(0, PageLevel::Page4K));
        sept.update(&mut platform, 0, |leaf| {
            leaf.set_alias(alias, VmAttributes::RWX)
        });
        for (state, mapped) in [
            (LeafState::Mapped, true),
            (LeafState::Blocked, false),
            (LeafState::Pending, false),
            (LeafState::PendingBlocked, false),
        ] {
            sept.update(&mut platform, 0, |leaf| leaf.state = state);
            for vm in [Vm::L1, Vm::L2(alias)] {
                assert_eq!(
                    platform.pages.contains_key(&(vm, 0)),
                    mapped,
                    "{vm:?} {state:?}"
                );
            }
            assert_eq!(sept.mapped(0).is_some(), mapped);
        }
    }
}
