//! Places of connections: as many as there are, and who has to leave when they are all taken.
//!
//! Who waits for a client keeps nobody out: while all places are taken, each new connection ends the one whose client has
//! let the broker wait longest, in a handshake, in the head or the body of a request, or between two requests. So clients
//! that are slow on purpose end each other, and an honest one, whose request is there in no time, is not among them. A
//! connection whose request is being answered stays.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The places of one address.
pub(super) struct Places {
    most: usize,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Default)]
struct State {
    /// Those that are taken.
    taken: usize,
    /// Those of them whose connections were told to end.
    leaving: usize,
    /// How often a connection began to wait for its client.
    waits: u64,
    /// The connections that wait for their clients, the longest first, and what ends each.
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// The place of a connection; free again when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    /// Where it is among those that wait, if it does.
    waits: Mutex<Option<u64>>,
    end: Arc<Notify>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Places {
    /// `most` places; at least one.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            state: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// A place, of a connection that waits for its client. Where all are taken, somebody has to leave first.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.try_take() {
                return place;
            }
            if locked(&self.state).leaving == 0 {
                self.end_longest();
            }
            self.freed.notified().await;
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Place> {
        {
            let mut state = locked(&self.state);
            if state.taken >= self.most {
                return None;
            }
            state.taken += 1;
        }
        let place = Place {
            places: Arc::clone(self),
            waits: Mutex::new(None),
            end: Arc::new(Notify::new()),
        };
        place.waits();
        Some(place)
    }

    /// Ends the connection whose client has let the broker wait longest.
    pub(super) fn end_longest(&self) {
        let mut state = locked(&self.state);
        if let Some((_, end)) = state.waiting.pop_first() {
            state.leaving += 1;
            end.notify_one();
        }
    }
}

impl Place {
    /// The connection waits for its client from now on.
    pub(super) fn waits(&self) {
        self.works();
        let mut own = locked(&self.waits);
        if own.is_none() {
            let mut state = locked(&self.places.state);
            state.waits += 1;
            let now = state.waits;
            state.waiting.insert(now, Arc::clone(&self.end));
            *own = Some(now);
        }
        // Whoever looks for a place found nobody that waited, perhaps.
        self.places.freed.notify_one();
    }

    /// The client has done its part: the connection is not ended for another one, unless it was told to end already.
    pub(super) fn works(&self) {
        let mut own = locked(&self.waits);
        if let Some(since) = *own
            && locked(&self.places.state).waiting.remove(&since).is_some()
        {
            *own = None;
        }
    }

    /// Returns when the place is needed for another.
    pub(super) async fn ended(&self) {
        self.end.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.works();
        let told = locked(&self.waits).is_some();
        let mut state = locked(&self.places.state);
        state.taken -= 1;
        if told {
            state.leaving -= 1;
        }
        drop(state);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn soon<T>(future: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(Duration::from_millis(100), future)
            .await
            .ok()
    }

    #[tokio::test]
    async fn who_lets_the_broker_wait_longest_leaves() {
        let places = Places::new(3);
        let (one, two, three) = (
            places.take().await,
            places.take().await,
            places.take().await,
        );
        one.works();
        two.works();
        two.waits();
        // `three` has waited longest: `two` was answered meanwhile, and `one` is being answered.
        let mut fourth = std::pin::pin!(places.take());
        assert!(soon(&mut fourth).await.is_none());
        assert!(soon(three.ended()).await.is_some());
        // One place is wanted, and one connection leaves, however often somebody looks.
        one.waits();
        three.works();
        three.waits();
        assert!(soon(&mut fourth).await.is_none());
        assert!(soon(one.ended()).await.is_none());
        assert!(soon(two.ended()).await.is_none());
        one.works();
        drop(three);
        let fourth = soon(fourth).await.unwrap();
        let mut fifth = std::pin::pin!(places.take());
        assert!(soon(&mut fifth).await.is_none());
        assert!(soon(two.ended()).await.is_some());
        drop(two);
        drop(soon(fifth).await.unwrap());
        drop((one, fourth));
        let state = locked(&places.state);
        assert_eq!((state.taken, state.leaving, state.waiting.len()), (0, 0, 0));
    }

    #[tokio::test]
    async fn who_is_being_answered_stays_and_the_first_that_waits_again_leaves() {
        let places = Places::new(2);
        let (one, two) = (places.take().await, places.take().await);
        one.works();
        two.works();
        let mut third = std::pin::pin!(places.take());
        assert!(soon(&mut third).await.is_none());
        two.waits();
        assert!(soon(&mut third).await.is_none());
        assert!(soon(two.ended()).await.is_some());
        assert!(soon(one.ended()).await.is_none());
        drop(two);
        assert!(soon(third).await.is_some());
    }
}
