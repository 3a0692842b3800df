//! VMCS fields that were read since the last exit.

use core::cell::Cell;

use l2_exit::{Segment, SegmentRegister};
use tdx_defs::vmcs::VmcsField;

/// A control register that is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Cr0 = 0,
    Cr3 = 1,
    Cr4 = 2,
    Efer = 3,
}

impl Control {
    const COUNT: u8 = 4;

    pub(super) const fn field(self) -> VmcsField {
        match self {
            Self::Cr0 => VmcsField::GUEST_CR0,
            Self::Cr3 => VmcsField::GUEST_CR3,
            Self::Cr4 => VmcsField::GUEST_CR4,
            Self::Efer => VmcsField::GUEST_EFER,
        }
    }
}

/// Values with one bit each that says whether they are there: clearing is one store.
#[derive(Debug, Default)]
pub(super) struct Cache {
    valid: Cell<u16>,
    controls: [Cell<u64>; Control::COUNT as usize],
    segments: [Cell<Segment>; 6],
}

impl Cache {
    pub(super) fn clear(&self) {
        self.valid.set(0);
    }

    pub(super) fn control(&self, control: Control, read: impl FnOnce() -> u64) -> u64 {
        self.value(self.controls.get(control as usize), control as u8, read)
    }

    pub(super) fn set_control(&self, control: Control, value: u64) {
        if let Some(cell) = self.controls.get(control as usize) {
            cell.set(value);
            self.valid.set(self.valid.get() | 1 << control as u8);
        }
    }

    pub(super) fn segment(
        &self,
        register: SegmentRegister,
        read: impl FnOnce() -> Segment,
    ) -> Segment {
        let number = register as u8;
        self.value(
            self.segments.get(usize::from(number)),
            Control::COUNT + number,
            read,
        )
    }

    fn value<T: Copy>(&self, cell: Option<&Cell<T>>, bit: u8, read: impl FnOnce() -> T) -> T {
        let Some(cell) = cell else { return read() };
        if self.valid.get() & 1 << bit == 0 {
            cell.set(read());
            self.valid.set(self.valid.get() | 1 << bit);
        }
        cell.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_once_between_two_exits() {
        let cache = Cache::default();
        let reads = Cell::new(0);
        let read = || {
            reads.set(reads.get() + 1);
            reads.get()
        };
        assert_eq!(cache.control(Control::Cr3, read), 1);
        assert_eq!(cache.control(Control::Cr3, read), 1);
        assert_eq!(cache.control(Control::Cr4, read), 2);
        cache.set_control(Control::Cr3, 7);
        assert_eq!(cache.control(Control::Cr3, read), 7);
        cache.clear();
        assert_eq!(cache.control(Control::Cr3, read), 3);
    }
}
