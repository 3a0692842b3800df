//! Memory that somebody else can write at the same time: a type for each kind.
//!
//! Nothing here makes a reference into such memory. Bytes are copied, each once, by instructions the
//! compiler can not repeat, merge or leave out; what a copy holds is L1's own.

mod firmware;
mod l2;
mod mailbox;
mod pages;
mod registers;
mod shared;

pub(crate) use firmware::{Firmware, event_log, payload_hobs};
pub(crate) use l2::L2Ram;
pub(crate) use mailbox::Mailbox;
pub(crate) use pages::{Operands, Vapic};
pub(crate) use registers::TpmPages;
pub(crate) use shared::Bounce;

use core::arch::asm;

/// The `width` (1, 2, 4 or 8) bytes at `address`, zero-extended, by one access. None for another width.
///
/// # Safety
/// As of [`copy_out`].
#[inline]
unsafe fn load(address: u64, width: u8) -> Option<u64> {
    let value: u64;
    // SAFETY: of each, the caller's, for as many bytes.
    unsafe {
        match width {
            1 => {
                asm!("movzx {:e}, byte ptr [{}]", out(reg) value, in(reg) address, options(nostack, readonly, preserves_flags));
            }
            2 => {
                asm!("movzx {:e}, word ptr [{}]", out(reg) value, in(reg) address, options(nostack, readonly, preserves_flags));
            }
            4 => {
                asm!("mov {:e}, [{}]", out(reg) value, in(reg) address, options(nostack, readonly, preserves_flags));
            }
            8 => {
                asm!("mov {}, [{}]", out(reg) value, in(reg) address, options(nostack, readonly, preserves_flags));
            }
            _ => return None,
        }
    }
    Some(value)
}

/// Replaces the `width` (1, 2, 4 or 8) bytes at `address` by the low bytes of `value`, by one access. None, and nothing
/// is written, for another width.
///
/// # Safety
/// As of [`copy_in`].
#[inline]
unsafe fn store(address: u64, width: u8, value: u64) -> Option<()> {
    // SAFETY: of each, the caller's, for as many bytes.
    unsafe {
        match width {
            1 => {
                asm!("mov [{}], {}", in(reg) address, in(reg_byte) value as u8, options(nostack, preserves_flags));
            }
            2 => {
                asm!("mov [{}], {:x}", in(reg) address, in(reg) value, options(nostack, preserves_flags));
            }
            4 => {
                asm!("mov [{}], {:e}", in(reg) address, in(reg) value, options(nostack, preserves_flags));
            }
            8 => {
                asm!("mov [{}], {}", in(reg) address, in(reg) value, options(nostack, preserves_flags));
            }
            _ => return None,
        }
    }
    Some(())
}

/// Copies `into.len()` bytes from `address`. Eight, four or two of them are one access: an index that somebody else writes at the
/// same time is the old one or the new one, and never half of each.
///
/// # Safety
/// The bytes at `address` are mapped, and no Rust object that anything else refers to is among
/// them.
unsafe fn copy_out(address: u64, into: &mut [u8]) {
    let mut from = address as *const u8;
    let (words, rest) = into.as_chunks_mut::<8>();
    if words.len() > 8 {
        // SAFETY: the caller's, for as many bytes; `words` is exclusively ours.
        unsafe {
            asm!(
                "rep movsq",
                inout("rcx") words.len() => _,
                inout("rsi") from => from,
                inout("rdi") words.as_mut_ptr() => _,
                options(nostack, preserves_flags),
            );
        }
    } else {
        for word in words {
            let value: u64;
            // SAFETY: the caller's, for these 8 bytes.
            unsafe {
                asm!("mov {}, [{}]", out(reg) value, in(reg) from, options(nostack, readonly, preserves_flags));
            }
            *word = value.to_le_bytes();
            from = from.wrapping_add(8);
        }
    }
    let (fours, rest) = rest.as_chunks_mut::<4>();
    for four in fours {
        let value: u32;
        // SAFETY: the caller's, for these 4 bytes.
        unsafe {
            asm!("mov {:e}, [{}]", out(reg) value, in(reg) from, options(nostack, readonly, preserves_flags));
        }
        *four = value.to_le_bytes();
        from = from.wrapping_add(4);
    }
    let (twos, rest) = rest.as_chunks_mut::<2>();
    for two in twos {
        let value: u16;
        // SAFETY: the caller's, for these 2 bytes.
        unsafe {
            asm!("mov {:x}, [{}]", out(reg) value, in(reg) from, options(nostack, readonly, preserves_flags));
        }
        *two = value.to_le_bytes();
        from = from.wrapping_add(2);
    }
    for byte in rest {
        // SAFETY: the caller's, for this byte.
        *byte = unsafe { from.read_volatile() };
    }
}

/// Copies `from` to `address`. Eight, four or two bytes are one access, as in [`copy_out`].
///
/// # Safety
/// The bytes at `address` are mapped writable, and no Rust object that anything else refers to is
/// among them.
unsafe fn copy_in(address: u64, from: &[u8]) {
    let mut to = address as *mut u8;
    let (words, rest) = from.as_chunks::<8>();
    if words.len() > 8 {
        // SAFETY: the caller's, for as many bytes.
        unsafe {
            asm!(
                "rep movsq",
                inout("rcx") words.len() => _,
                inout("rsi") words.as_ptr() => _,
                inout("rdi") to => to,
                options(nostack, preserves_flags),
            );
        }
    } else {
        for word in words {
            let value = u64::from_le_bytes(*word);
            // SAFETY: the caller's, for these 8 bytes.
            unsafe {
                asm!("mov [{}], {}", in(reg) to, in(reg) value, options(nostack, preserves_flags));
            }
            to = to.wrapping_add(8);
        }
    }
    let (fours, rest) = rest.as_chunks::<4>();
    for four in fours {
        let value = u32::from_le_bytes(*four);
        // SAFETY: the caller's, for these 4 bytes.
        unsafe {
            asm!("mov [{}], {:e}", in(reg) to, in(reg) value, options(nostack, preserves_flags));
        }
        to = to.wrapping_add(4);
    }
    let (twos, rest) = rest.as_chunks::<2>();
    for two in twos {
        let value = u16::from_le_bytes(*two);
        // SAFETY: the caller's, for these 2 bytes.
        unsafe {
            asm!("mov [{}], {:x}", in(reg) to, in(reg) value, options(nostack, preserves_flags));
        }
        to = to.wrapping_add(2);
    }
    for byte in rest {
        // SAFETY: the caller's, for this byte.
        unsafe { to.write_volatile(*byte) };
    }
}

/// Copies `length` bytes from one memory that is not L1's to another, each read once, by way of no memory of L1's.
///
/// # Safety
/// The bytes at `from` are mapped, those at `to` mapped writable, none of the one are of the other, and no Rust object
/// that anything refers to is among them.
unsafe fn copy_across(from: u64, to: u64, length: usize) {
    // SAFETY: the caller's, for as many bytes.
    unsafe {
        asm!(
            "rep movsq",
            "mov rcx, {rest}",
            "rep movsb",
            rest = in(reg) length % 8,
            inout("rcx") length / 8 => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Makes `length` bytes at `address` zero, a multiple of 8.
///
/// # Safety
/// As of [`copy_in`].
unsafe fn clear(address: u64, length: u64) {
    // SAFETY: the caller's, for as many bytes.
    unsafe {
        asm!(
            "rep stosq",
            in("rax") 0_u64,
            inout("rcx") length / 8 => _,
            inout("rdi") address => _,
            options(nostack, preserves_flags),
        );
    }
}
