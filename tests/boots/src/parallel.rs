//! Runs side by side: each keeps one processor busy.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// A run takes up to 3 GiB of memory.
const MOST: usize = 4;

/// Does `act` for every case, as many at a time as there are processors, and returns the results in
/// the order of the cases. `act` also gets the place that it runs at, which no other has meanwhile.
pub(crate) fn each<C: Sync, R: Send>(cases: &[C], act: impl Fn(usize, &C) -> R + Sync) -> Vec<R> {
    let places = std::thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(cases.len()));
    std::thread::scope(|scope| {
        for place in 0..places.min(MOST) {
            let (next, results, act) = (&next, &results, &act);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(number) else {
                        break;
                    };
                    let result = act(place, case);
                    results
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((number, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_cases() {
        let cases: Vec<usize> = (0..100).collect();
        let squares = each(&cases, |place, case| {
            assert!(place < MOST);
            case * case
        });
        assert_eq!(squares, cases.iter().map(|c| c * c).collect::<Vec<_>>());
        assert!(each(&[] as &[u8], |_, _| ()).is_empty());
    }
}
