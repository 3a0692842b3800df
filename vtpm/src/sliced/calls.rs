//! Calls of services that take longer than a slice: the guest makes them again until they are answered.
//!
//! A call is known by what it says and where, not by the processor that makes it: the guest may go on with it on another
//! one, after whatever it has done meanwhile. So its answer is kept until it is made again.

use alloc::collections::VecDeque;

use crate::service::{Answer, Call};

/// So many answers are kept. The oldest goes for one more: a guest that leaves calls in their midst costs no more.
const KEPT: usize = 16;

/// The call that is executed, and answers that were not fetched.
#[derive(Default)]
pub(super) struct Calls {
    executed: Option<Call>,
    answered: VecDeque<(Call, Answer)>,
}

impl Calls {
    /// `call` is executed now.
    pub(super) fn begin(&mut self, call: Call) {
        self.executed = Some(call);
    }

    /// What is executed has this answer.
    pub(super) fn end(&mut self, answer: Answer) {
        let Some(call) = self.executed.take() else {
            return;
        };
        if self.answered.len() == KEPT {
            self.answered.pop_front();
        }
        self.answered.push_back((call, answer));
    }

    /// The answer to `call`, if there is one, which is given once.
    pub(super) fn take(&mut self, call: &Call) -> Option<Answer> {
        let place = self.answered.iter().position(|(kept, _)| kept == call)?;
        self.answered.remove(place).map(|(_, answer)| answer)
    }

    /// Nobody makes any of them again.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::sync::Arc;
    use alloc::vec;
    use zeroize::Zeroizing;

    fn call(number: u8) -> Call {
        Call {
            places: [0x1000, 0x2000],
            guid: [1; 16],
            data: Arc::new(Zeroizing::new(vec![number])),
            room: 100,
        }
    }

    #[test]
    fn an_answer_is_given_once_to_the_same_call() {
        let mut calls = Calls::default();
        calls.begin(call(1));
        assert_eq!(calls.take(&call(1)), None);
        calls.end(Ok(vec![7]));
        let others = [
            call(2),
            Call {
                places: [0x1000, 0x3000],
                ..call(1)
            },
            Call {
                guid: [2; 16],
                ..call(1)
            },
            Call {
                room: 99,
                ..call(1)
            },
        ];
        for other in &others {
            assert_eq!(calls.take(other), None);
        }
        assert_eq!(calls.take(&call(1)), Some(Ok(vec![7])));
        assert_eq!(calls.take(&call(1)), None);
    }

    #[test]
    fn answers_that_nobody_fetches_go_in_their_order() {
        let mut calls = Calls::default();
        for number in 0..=KEPT as u8 {
            calls.begin(call(number));
            calls.end(Ok(vec![number]));
        }
        assert_eq!(calls.take(&call(0)), None);
        assert_eq!(calls.take(&call(1)), Some(Ok(vec![1])));
        calls.forget();
        assert_eq!(calls.take(&call(2)), None);
        // Of a call that was executed when all were forgotten.
        calls.begin(call(3));
        calls.forget();
        calls.end(Ok(vec![3]));
        assert_eq!(calls.take(&call(3)), None);
    }
}
