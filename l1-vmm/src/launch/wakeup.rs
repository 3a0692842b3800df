//! How td-shim's application processors are woken up: the MADT that td-shim hands over.
//!
//! The table is td-shim's, or the host's with td-shim's Multiprocessor Wakeup Structure behind it. So the APIC IDs in it
//! are the host's word, or td-shim's invention (they count from 0), and good for nothing but calling: who answers says
//! itself which processor of the TD it is. The mailbox must be where td-shim puts one, in memory that no L2 gets, because
//! a processor that is not woken up yet runs what lies there.
//!
//! Formats: ACPI 6.5, sections 5.2.12 and 5.2.12.19; td-shim, `acpi/madt.rs`.

use super::e820::{E820Kind, E820Map};
use super::gpa_range::GpaRange;
use super::processors::SUPPORTED;
use tdshim_config::layout::{Runtime, mailbox};
use uefi_defs::acpi::{
    LOCAL_APIC_ENABLED, LocalApic, LocalX2Apic, Madt, MadtEntry, MultiprocessorWakeup, checksum,
};
use zerocopy::FromBytes;

/// Why application processors cannot be woken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WakeupError {
    /// A table with a wrong length, checksum or structure.
    #[error("the MADT in the HOB list is malformed: {0}")]
    Malformed(&'static str),
    /// No table, or no structure in it.
    #[error(
        "td-shim names no mailbox for {0} virtual processors: it must be built without no-mailbox"
    )]
    NoMailbox(u32),
    /// More processors than the TD can have.
    #[error("the MADT in the HOB list has more than {SUPPORTED} processors")]
    TooManyProcessors,
    /// A mailbox that is not a page, or where it can be somebody else's.
    #[error("the wake-up mailbox at {0:#x} is not in memory that td-shim keeps for it")]
    Misplaced(u64),
}

/// APIC IDs that a MADT names, each once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApicIds {
    ids: [u32; SUPPORTED as usize],
    count: usize,
}

impl ApicIds {
    /// The IDs in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.ids.into_iter().take(self.count)
    }

    fn add(&mut self, id: u32) -> Result<(), WakeupError> {
        if id >= mailbox::BROADCAST {
            return Err(WakeupError::Malformed("an APIC ID is that of no processor"));
        }
        if self.iter().any(|known| known == id) {
            return Ok(());
        }
        let slot = self.ids.get_mut(self.count);
        *slot.ok_or(WakeupError::TooManyProcessors)? = id;
        self.count += 1;
        Ok(())
    }
}

/// What a MADT says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wakeup {
    /// The enabled processors.
    pub apic_ids: ApicIds,
    /// Address of the mailbox; `None` without the structure.
    mailbox: Option<u64>,
}

impl Wakeup {
    /// Reads a MADT.
    pub fn parse(table: &[u8]) -> Result<Self, WakeupError> {
        let bad = WakeupError::Malformed;
        let (head, _) = Madt::read_from_prefix(table).map_err(|_| bad("it is cut off"))?;
        let length = usize::try_from(head.length.get()).unwrap_or(usize::MAX);
        let whole = table
            .get(..length)
            .filter(|whole| whole.len() >= size_of::<Madt>())
            .ok_or(bad("its length field is wrong"))?;
        if checksum(whole) != 0 {
            return Err(bad("its checksum is wrong"));
        }
        let mut wakeup = Self::default();
        let mut rest = whole.get(size_of::<Madt>()..).unwrap_or_default();
        while !rest.is_empty() {
            let (head, _) =
                MadtEntry::read_from_prefix(rest).map_err(|_| bad("a structure is cut off"))?;
            let length = usize::from(head.length).max(size_of::<MadtEntry>());
            let (entry, behind) = rest
                .split_at_checked(length)
                .ok_or(bad("a structure is cut off"))?;
            wakeup.add(entry)?;
            rest = behind;
        }
        Ok(wakeup)
    }

    fn add(&mut self, entry: &[u8]) -> Result<(), WakeupError> {
        const SHORT: WakeupError = WakeupError::Malformed("a structure is too short");
        match entry.first() {
            Some(&kind) if kind == LocalApic::HEAD.kind => {
                let (apic, _) = LocalApic::read_from_prefix(entry).map_err(|_| SHORT)?;
                if apic.flags.get() & LOCAL_APIC_ENABLED != 0 {
                    self.apic_ids.add(apic.id.into())?;
                }
            }
            Some(&kind) if kind == LocalX2Apic::HEAD.kind => {
                let (apic, _) = LocalX2Apic::read_from_prefix(entry).map_err(|_| SHORT)?;
                if apic.flags.get() & LOCAL_APIC_ENABLED != 0 {
                    self.apic_ids.add(apic.id.get())?;
                }
            }
            Some(&kind) if kind == MultiprocessorWakeup::HEAD.kind => {
                let (wakeup, _) =
                    MultiprocessorWakeup::read_from_prefix(entry).map_err(|_| SHORT)?;
                if self.mailbox.replace(wakeup.mailbox.get()).is_some() {
                    // td-shim adds one; the other is the host's.
                    return Err(WakeupError::Malformed("it has two mailboxes"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The pages of the mailbox and of the loop behind it, for the `processors` that may wait there. They are in memory
    /// that td-shim keeps over the payload's start, and in none of what L1 has there (`taken`).
    pub fn pages(
        &self,
        processors: u32,
        e820: &E820Map,
        taken: &[GpaRange],
    ) -> Result<GpaRange, WakeupError> {
        let start = self.mailbox.ok_or(WakeupError::NoMailbox(processors))?;
        let misplaced = WakeupError::Misplaced(start);
        let pages = GpaRange::with_length(start, Runtime::MAILBOX_SIZE)
            .filter(|pages| pages.align_inward(mailbox::SIZE) == *pages && pages.end() <= 1 << 32)
            .ok_or(misplaced)?;
        let mut entries = e820.entries();
        let kept = entries.all(|entry| match entry.kind {
            E820Kind::AcpiNvs => true,
            _ => !entry.range.overlaps(&pages),
        });
        let there = e820.entries().any(|entry| entry.range.contains(&pages));
        let free = taken.iter().all(|range| !range.overlaps(&pages));
        match kept && there && free {
            true => Ok(pages),
            false => Err(misplaced),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::e820::E820Entry;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use tdshim_config::madt::WakeupTable;
    use zerocopy::IntoBytes;

    const MAILBOX: u64 = 0x3DED_E000;

    fn td_shims(processors: u32) -> Vec<u8> {
        let table = WakeupTable::new(processors, MAILBOX).unwrap();
        table.bytes().to_vec()
    }

    /// The table with more structures behind it.
    fn with(table: &[u8], more: &[&[u8]]) -> Vec<u8> {
        let mut table = table.to_vec();
        more.iter().for_each(|more| table.extend(*more));
        summed(table)
    }

    fn summed(mut table: Vec<u8>) -> Vec<u8> {
        let length = table.len() as u32;
        table[4..8].copy_from_slice(&length.to_le_bytes());
        table[9] = 0;
        table[9] = checksum(&table);
        table
    }

    fn ids(wakeup: &Wakeup) -> Vec<u32> {
        wakeup.apic_ids.iter().collect()
    }

    fn e820(kind: E820Kind) -> E820Map {
        let mut map = E820Map::new();
        let ranges = [
            (0, 0x3DDD_E000, E820Kind::Memory),
            (0x3DDD_E000, 0x3DEE_0000, kind),
            (0x3DEE_0000, 0x3FF0_0000, E820Kind::Reserved),
        ];
        for (start, end, kind) in ranges {
            let range = GpaRange::new(start, end).unwrap();
            map.push(E820Entry { range, kind }).unwrap();
        }
        map
    }

    #[test]
    fn td_shims_table_is_understood() {
        let wakeup = Wakeup::parse(&td_shims(4)).unwrap();
        assert_eq!(ids(&wakeup), [0, 1, 2, 3]);
        let pages = wakeup.pages(4, &e820(E820Kind::AcpiNvs), &[]).unwrap();
        assert_eq!((pages.start(), pages.length()), (MAILBOX, 0x2000));
    }

    #[test]
    fn only_enabled_processors_count_and_each_once() {
        let x2apic = |id: u32, flags: u32| LocalX2Apic {
            head: LocalX2Apic::HEAD,
            reserved: 0.into(),
            id: id.into(),
            flags: flags.into(),
            processor: 0.into(),
        };
        let (same, off, far) = (x2apic(1, 1), x2apic(7, 2), x2apic(0x1_0000, 1));
        let more = [same.as_bytes(), off.as_bytes(), far.as_bytes()];
        let wakeup = Wakeup::parse(&with(&td_shims(2), &more)).unwrap();
        assert_eq!(ids(&wakeup), [0, 1, 0x1_0000]);
        let nobody = x2apic(u32::MAX, 1);
        assert_eq!(
            Wakeup::parse(&with(&td_shims(2), &[nobody.as_bytes()])),
            Err(WakeupError::Malformed("an APIC ID is that of no processor"))
        );
        assert_eq!(ids(&Wakeup::parse(&td_shims(SUPPORTED)).unwrap()).len(), 16);
        assert_eq!(
            Wakeup::parse(&td_shims(SUPPORTED + 1)),
            Err(WakeupError::TooManyProcessors)
        );
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let table = td_shims(2);
        let bad = |table: &[u8]| match Wakeup::parse(table) {
            Err(WakeupError::Malformed(what)) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(bad(&table[..43]), "it is cut off");
        assert_eq!(bad(&table[..50]), "its length field is wrong");
        let mut changed = table.clone();
        changed[20] ^= 1;
        assert_eq!(bad(&changed), "its checksum is wrong");
        let second = &table[table.len() - 16..];
        assert_eq!(bad(&with(&table, &[second])), "it has two mailboxes");
        assert_eq!(bad(&with(&table, &[&[0x10, 17]])), "a structure is cut off");
        assert_eq!(
            bad(&with(&table, &[&[0, 4, 0, 0]])),
            "a structure is too short"
        );
        // A length of 0 does not stand still.
        let odd = with(&table, &[&[0x7F, 0, 0x7F, 0]]);
        assert_eq!(ids(&Wakeup::parse(&odd).unwrap()), [0, 1]);
        let without = summed(table[..table.len() - 16].to_vec());
        let without = Wakeup::parse(&without).unwrap();
        assert_eq!(
            without.pages(2, &e820(E820Kind::AcpiNvs), &[]),
            Err(WakeupError::NoMailbox(2))
        );
    }

    #[test]
    fn a_mailbox_that_can_be_anothers_is_refused() {
        let at = |mailbox| {
            let table = WakeupTable::new(2, mailbox).unwrap();
            Wakeup::parse(table.bytes()).unwrap()
        };
        let nvs = e820(E820Kind::AcpiNvs);
        let taken = [GpaRange::with_length(MAILBOX + 0x1000, 0x1000).unwrap()];
        let refused = [
            // Of L2, in part of L2, in part of the page tables, nowhere, above 4 GiB, no page.
            0x10_0000,
            0x3DDD_D000,
            0x3DED_F000,
            0xFED4_0000,
            1 << 32,
            MAILBOX + 8,
            u64::MAX,
        ];
        for mailbox in refused {
            assert_eq!(
                at(mailbox).pages(2, &nvs, &[]),
                Err(WakeupError::Misplaced(mailbox))
            );
        }
        let misplaced = Err(WakeupError::Misplaced(MAILBOX));
        assert_eq!(at(MAILBOX).pages(2, &nvs, &taken), misplaced);
        let ram = e820(E820Kind::Memory);
        assert_eq!(at(MAILBOX).pages(2, &ram, &[]), misplaced);
    }

    proptest! {
        #[test]
        fn no_change_to_the_table_makes_it_panic(changes in proptest::collection::vec((any::<u8>(), any::<u8>()), 1..8)) {
            let mut table = td_shims(3);
            for (at, value) in changes {
                let at = usize::from(at) % table.len();
                table[at] = value;
            }
            let _ = Wakeup::parse(&table);
            let _ = Wakeup::parse(&summed(table));
        }
    }
}
