//! Many requests, one transaction.
//!
//! A commit costs a flush of the disk, and nothing may be acknowledged before it. One thread has the database; it takes
//! all requests that wait, makes them in one transaction, and answers them when that is on the disk. So a hundred
//! machines that commit at once cost little more than one.

use crate::metrics::Metrics;
use crate::store::{Storage, StoreError, Transaction};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;
use tokio::sync::oneshot;

/// Most requests that wait, beyond which callers wait to be let in.
const QUEUE: usize = 1024;
/// Most requests in one transaction.
const BATCH: usize = 256;

type Answered = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A piece of work: what it returns is called when the transaction has come to its end.
type Job = Box<dyn FnOnce(&mut dyn Transaction) -> (Result<(), StoreError>, Answered) + Send>;

/// The way to the database.
#[derive(Clone)]
pub struct Writer(SyncSender<Job>);

impl Writer {
    /// Starts the thread that has the database. It ends when the last writer is gone.
    pub fn start(storage: Box<dyn Storage>, metrics: Arc<Metrics>) -> Self {
        let (sender, receiver) = sync_channel(QUEUE);
        std::thread::spawn(move || run(storage, &receiver, &metrics));
        Self(sender)
    }

    /// Does `work` in a transaction, and returns when that is on the disk.
    ///
    /// # Errors
    /// What `work` returned, in which case nothing of it was kept; [`StoreError::NotMade`] or the transaction's own.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let (kept, result) = match work(transaction) {
                Ok(value) => (Ok(()), Ok(value)),
                Err(error) => (Err(error.clone()), Err(error)),
            };
            let after: Answered = Box::new(move |transaction| {
                // Who asked may be gone.
                let _ = answer.send(transaction.and(result));
            });
            (kept, after)
        });
        let sender = self.0.clone();
        // The queue is full only where the disk does not keep up.
        let sent = match sender.try_send(job) {
            Ok(()) => true,
            Err(std::sync::mpsc::TrySendError::Full(job)) => {
                tokio::task::spawn_blocking(move || sender.send(job).is_ok())
                    .await
                    .unwrap_or(false)
            }
            Err(std::sync::mpsc::TrySendError::Disconnected(_)) => false,
        };
        match sent {
            true => answered.await.unwrap_or(Err(StoreError::NotMade)),
            false => Err(StoreError::NotMade),
        }
    }
}

fn run(mut storage: Box<dyn Storage>, jobs: &Receiver<Job>, metrics: &Metrics) {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match jobs.try_recv() {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        let begun = Instant::now();
        let count = batch.len();
        let mut answers: Vec<Answered> = Vec::with_capacity(count);
        let mut jobs = batch.into_iter();
        let done = storage.transaction(count, &mut |transaction| match jobs.next() {
            Some(job) => {
                let (kept, answer) = job(transaction);
                answers.push(answer);
                kept
            }
            None => Err(StoreError::NotMade),
        });
        if let Err(error) = &done {
            tracing::error!(%error, requests = count, "a transaction failed");
        }
        metrics.transaction(count, begun.elapsed());
        for answer in answers {
            answer(done.clone());
        }
    }
}
