//! The ACPI table that says where application processors wait for a wake-up.

use uefi_defs::acpi::{
    LOCAL_APIC_ENABLED, LocalApic, LocalX2Apic, Madt, MultiprocessorWakeup, checksum,
};
use x86_defs::pc;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of the longest table that td-shim makes.
pub const LENGTH_MAX: usize = 0xC00;

/// A MADT with the Multiprocessor Wakeup Structure at its end.
#[derive(Clone, Debug)]
pub struct WakeupTable {
    bytes: [u8; LENGTH_MAX],
    length: usize,
}

impl WakeupTable {
    /// td-shim's table for `processors` virtual processors whose mailbox is at `mailbox`: APIC IDs count from 0, and are
    /// x2APIC IDs from 255 on (ACPI 6.5, section 5.2.12.12). `None` if there is no room for so many.
    pub fn new(processors: u32, mailbox: u64) -> Option<Self> {
        let mut table = Self::empty();
        table.push(
            Madt {
                signature: *b"APIC",
                length: 0.into(),
                revision: 1,
                checksum: 0,
                oem_id: *b"TDPVTP",
                oem_table_id: *b"TDSHIM  ",
                oem_revision: 1.into(),
                creator_id: *b"TDPV",
                creator_revision: 1.into(),
                local_apic: (pc::LOCAL_APIC as u32).into(),
                flags: 1.into(),
            }
            .as_bytes(),
        )?;
        for index in 0..processors {
            let flags = LOCAL_APIC_ENABLED.into();
            match u8::try_from(index) {
                Ok(id) if id < u8::MAX => table.push(
                    LocalApic {
                        head: LocalApic::HEAD,
                        processor: id,
                        id,
                        flags,
                    }
                    .as_bytes(),
                )?,
                _ => table.push(
                    LocalX2Apic {
                        head: LocalX2Apic::HEAD,
                        reserved: 0.into(),
                        id: index.into(),
                        flags,
                        processor: index.into(),
                    }
                    .as_bytes(),
                )?,
            }
        }
        table.finish(mailbox)
    }

    /// The host's table with the structure at its end. `None` if it is malformed or there is no room.
    pub fn of_host(hosts: &[u8], mailbox: u64) -> Option<Self> {
        let (head, _) = Madt::read_from_prefix(hosts).ok()?;
        let length = usize::try_from(head.length.get()).ok()?;
        let mut table = Self::empty();
        table.push(hosts.get(..length.max(size_of::<Madt>()))?)?;
        table.finish(mailbox)
    }

    /// The table.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn empty() -> Self {
        Self {
            bytes: [0; LENGTH_MAX],
            length: 0,
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.length.checked_add(bytes.len())?;
        self.bytes.get_mut(self.length..end)?.copy_from_slice(bytes);
        self.length = end;
        Some(())
    }

    fn finish(mut self, mailbox: u64) -> Option<Self> {
        let wakeup = MultiprocessorWakeup {
            head: MultiprocessorWakeup::HEAD,
            mailbox_version: 0.into(),
            reserved: 0.into(),
            mailbox: mailbox.into(),
        };
        self.push(wakeup.as_bytes())?;
        let length = u32::try_from(self.length).ok()?;
        let (head, _) = Madt::mut_from_prefix(&mut self.bytes).ok()?;
        head.length = length.into();
        head.checksum = 0;
        let sum = checksum(self.bytes());
        let (head, _) = Madt::mut_from_prefix(&mut self.bytes).ok()?;
        head.checksum = sum;
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_each_processor_and_the_mailbox() {
        let table = WakeupTable::new(2, 0x3DED_E000).unwrap();
        let bytes = table.bytes();
        assert_eq!(bytes.len(), 44 + 2 * 8 + 16);
        assert_eq!(bytes[4], bytes.len() as u8);
        assert_eq!(checksum(bytes), 0);
        assert_eq!(
            bytes[44..60],
            [0, 8, 0, 0, 1, 0, 0, 0, 0, 8, 1, 1, 1, 0, 0, 0]
        );
        assert_eq!(
            bytes[60..],
            [0x10, 16, 0, 0, 0, 0, 0, 0, 0, 0xE0, 0xED, 0x3D, 0, 0, 0, 0]
        );
        let many = WakeupTable::new(257, 0).unwrap();
        let last = &many.bytes()[44 + 255 * 8 + 16..][..16];
        assert_eq!(last, [9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]);
        assert!(WakeupTable::new(u32::MAX, 0).is_none());
    }

    #[test]
    fn the_hosts_table_is_kept_and_the_mailbox_added() {
        let hosts = WakeupTable::new(3, 0x1000).unwrap();
        let table = WakeupTable::of_host(hosts.bytes(), 0x2000).unwrap();
        let (first, last) = table.bytes().split_at(hosts.bytes().len());
        assert_eq!(first[10..], hosts.bytes()[10..]);
        assert_eq!(last[..2], [0x10, 16]);
        assert_eq!(checksum(table.bytes()), 0);
        assert!(WakeupTable::of_host(&hosts.bytes()[..50], 0).is_none());
        let mut long = vec![0; LENGTH_MAX];
        long[4..8].copy_from_slice(&(LENGTH_MAX as u32).to_le_bytes());
        assert!(WakeupTable::of_host(&long, 0).is_none());
    }
}
