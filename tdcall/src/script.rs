//! A TDX module that answers from a script, for tests.

use core::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::vec::Vec;

use crate::raw::RawTdcall;
use tdx_defs::Registers;

/// Answers each call with the next prepared register set and remembers what it was asked.
pub(crate) struct Script {
    answers: RefCell<VecDeque<Registers>>,
    forever: Option<Registers>,
    calls: RefCell<Vec<Registers>>,
    count: Cell<usize>,
}

impl Script {
    /// Answers in this order; a call too many fails the test.
    pub(crate) fn new(answers: impl IntoIterator<Item = Registers>) -> Self {
        Self {
            answers: RefCell::new(answers.into_iter().collect()),
            forever: None,
            calls: RefCell::default(),
            count: Cell::new(0),
        }
    }

    /// Always the same answer.
    pub(crate) fn forever(answer: Registers) -> Self {
        Self {
            forever: Some(answer),
            ..Self::new([])
        }
    }

    /// One answer with only a status.
    pub(crate) fn status(rax: u64) -> Self {
        Self::new([Registers {
            rax,
            ..Default::default()
        }])
    }

    /// What was asked, without the answers of [`Script::forever`].
    pub(crate) fn calls(&self) -> Vec<Registers> {
        assert!(self.answers.borrow().is_empty(), "answers left over");
        self.calls.borrow().clone()
    }

    /// The only call made.
    pub(crate) fn only_call(&self) -> Registers {
        let calls = self.calls();
        assert_eq!(calls.len(), 1);
        calls[0]
    }

    /// How many calls were made.
    pub(crate) fn count(&self) -> usize {
        self.count.get()
    }
}

impl RawTdcall for Script {
    fn tdcall(&self, registers: &mut Registers) {
        self.count.set(self.count.get() + 1);
        if let Some(answer) = self.forever {
            *registers = answer;
            return;
        }
        self.calls.borrow_mut().push(*registers);
        *registers = self
            .answers
            .borrow_mut()
            .pop_front()
            .expect("no answer is left");
    }
}
