//! The mailbox at which td-shim's application processors wait.

use l1_vmm::launch::GpaRange;
use tdshim_config::layout::mailbox;

use super::copy_in;

/// The mailbox: private memory, which td-shim's loop on other processors reads and writes.
pub(crate) struct Mailbox(u64);

impl Mailbox {
    /// The mailbox at the beginning of `pages`.
    ///
    /// # Safety
    /// 1: L1's page tables map `pages` writable to the same addresses, and L1 has no objects in them; 2: td-shim's
    /// application processors are in its loop until they are woken up.
    pub(crate) unsafe fn new(pages: GpaRange) -> Self {
        Self(pages.start())
    }

    /// Sends the processor of an APIC ID to `vector`, and whoever else says that this is its ID.
    pub(crate) fn wake_up(&self, apic_id: u32, vector: u64) {
        self.put(mailbox::WAKEUP_VECTOR, &vector.to_le_bytes());
        self.put(mailbox::APIC_ID, &apic_id.to_le_bytes());
        self.put(mailbox::COMMAND, &mailbox::WAKEUP.to_le_bytes());
    }

    /// Calls nobody any more. A processor that has read the command already still comes.
    pub(crate) fn withdraw(&self) {
        self.put(mailbox::COMMAND, &[0; 4]);
        self.put(mailbox::APIC_ID, &mailbox::NOBODY.to_le_bytes());
    }

    /// Four or eight bytes, in the order of the program: processors see the writes of another in its order (SDM volume
    /// 3A, section "Memory Ordering").
    fn put(&self, offset: u64, bytes: &[u8]) {
        // SAFETY: inside the mailbox, which is mapped and has no objects (contract of `new`).
        unsafe { copy_in(self.0 + offset, bytes) };
    }
}
