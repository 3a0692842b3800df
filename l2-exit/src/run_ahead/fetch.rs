//! The bytes of code.

use super::Window;
use super::blocks::{Bytes, Source, low_bytes};
use super::execute::Burst;
use super::translate::Place;
use crate::memory::GuestPages;
use crate::vcpu::Vcpu;
use x86_defs::paging::PAGE_4K;

/// The longest instruction, rounded up.
const LONGEST: u64 = 16;

impl<V: Vcpu, M: GuestPages, W: Window> Source for Burst<'_, V, M, W> {
    /// Up to the end of the page, or where that is in the next instruction, some of the next page too.
    #[cold]
    #[inline(never)]
    fn fetch(&mut self, rip: u64) -> Option<Bytes> {
        let page = self.code_page(rip)?;
        let offset = rip & (PAGE_4K - 1);
        let rest = PAGE_4K - offset;
        let mut code = Bytes::default();
        if rest >= LONGEST {
            let places = (offset..=PAGE_4K - 8).step_by(8);
            for (word, at) in code.words.iter_mut().zip(places) {
                *word = self.memory.load(page, at as u16, 8)?;
                code.length += 8;
            }
            return Some(code);
        }
        for number in 0..LONGEST {
            let Some(byte) = self.byte(rip.wrapping_add(number)) else {
                break;
            };
            if let Some(word) = code.words.get_mut(number as usize / 8) {
                *word |= byte << (number % 8 * 8);
            }
            code.length += 1;
        }
        Some(code)
    }

    #[inline]
    fn is(&mut self, rip: u64, words: &[u64; Bytes::WORDS], length: usize) -> Option<bool> {
        let page = self.code_page(rip)?;
        let mut at = rip & (PAGE_4K - 1);
        if at + 8 * words.len() as u64 > PAGE_4K {
            return Some(self.fetch(rip)?.begin_with(words, length));
        }
        let mut rest = length;
        for word in words {
            let now = self.memory.load(page, at as u16, 8)?;
            if rest <= 8 {
                return Some((now ^ word) & low_bytes(rest) == 0);
            }
            if now != *word {
                return Some(false);
            }
            rest -= 8;
            at += 8;
        }
        Some(false)
    }

    fn want_bases(&mut self, wanted: [bool; 2]) {
        self.read_bases(wanted);
    }
}

impl<V: Vcpu, M: GuestPages, W: Window> Burst<'_, V, M, W> {
    /// One byte of code.
    fn byte(&mut self, rip: u64) -> Option<u64> {
        let page = self.code_page(rip)?;
        self.memory.load(page, (rip & (PAGE_4K - 1)) as u16, 1)
    }

    /// The page of L2's memory that instructions at `linear` are fetched from.
    #[inline]
    fn code_page(&mut self, linear: u64) -> Option<M::Page> {
        match self.translations.for_fetch(linear) {
            None => self.new_code_page(linear),
            page => page,
        }
    }

    /// The same, which is not known for one yet.
    #[inline(never)]
    fn new_code_page(&mut self, linear: u64) -> Option<M::Page> {
        let page = self.translations.page(self.memory, self.window, linear)?;
        let Place::Memory(memory) = page.place else {
            return None;
        };
        if !page.executable {
            return None;
        }
        if !self.translations.execute_from(linear, memory) {
            self.now += 1;
        }
        Some(memory)
    }
}
