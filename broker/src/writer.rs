//! Many requests, one transaction.
//!
//! A commit costs a flush of the disk, and nothing may be acknowledged before it. One thread has the database; it takes
//! all requests that wait, makes them in one transaction, and answers them when that is on the disk. So a hundred
//! machines that commit at once cost little more than one. Where several processes use one database, each has its thread;
//! those of the others are kept apart by the database.

use crate::metrics::Metrics;
use crate::store::{About, Storage, StoreError, Transaction};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;
use tokio::sync::oneshot;

/// Most requests that wait, beyond which callers wait to be let in.
const QUEUE: usize = 1024;
/// Most requests in one transaction.
const BATCH: usize = 256;

/// A piece of work that waits for its transaction.
trait Job: Send {
    fn about(&self) -> About;
    /// Does it. A transaction that collided with another process's does it again.
    fn work(&mut self, transaction: &mut dyn Transaction) -> Result<(), StoreError>;
    /// The transaction has come to its end.
    fn answer(self: Box<Self>, transaction: Result<(), StoreError>);
}

struct Piece<T, W> {
    about: About,
    work: W,
    result: Result<T, StoreError>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, W> Job for Piece<T, W>
where
    T: Send,
    W: FnMut(&mut dyn Transaction) -> Result<T, StoreError> + Send,
{
    fn about(&self) -> About {
        self.about.clone()
    }

    fn work(&mut self, transaction: &mut dyn Transaction) -> Result<(), StoreError> {
        self.result = (self.work)(transaction);
        self.result.as_ref().map(drop).map_err(Clone::clone)
    }

    fn answer(self: Box<Self>, transaction: Result<(), StoreError>) {
        // Who asked may be gone.
        let _ = self.answer.send(transaction.and(self.result));
    }
}

/// The way to the database.
#[derive(Clone)]
pub struct Writer(SyncSender<Box<dyn Job>>);

impl Writer {
    /// Starts the thread that has the database. It ends when the last writer is gone.
    pub fn start(storage: Box<dyn Storage>, metrics: Arc<Metrics>) -> Self {
        let (sender, receiver) = sync_channel(QUEUE);
        std::thread::spawn(move || run(storage, &receiver, &metrics));
        Self(sender)
    }

    /// Does `work` in a transaction, perhaps more than once of which one is kept, and returns when that is on the disk.
    ///
    /// # Errors
    /// What `work` returned, in which case nothing of it was kept; [`StoreError::NotMade`] or the transaction's own.
    pub async fn run<T: Send + 'static>(
        &self,
        about: About,
        work: impl FnMut(&mut dyn Transaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Box<dyn Job> = Box::new(Piece {
            about,
            work,
            result: Err(StoreError::NotMade),
            answer,
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

fn run(mut storage: Box<dyn Storage>, jobs: &Receiver<Box<dyn Job>>, metrics: &Metrics) {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match jobs.try_recv() {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        let begun = Instant::now();
        let pieces: Vec<About> = batch.iter().map(|job| job.about()).collect();
        let done = storage.transaction(&pieces, &mut |piece, transaction| {
            let job = batch.get_mut(piece).ok_or(StoreError::NotMade)?;
            job.work(transaction)
        });
        if let Err(error) = &done {
            tracing::error!(%error, requests = batch.len(), "a transaction failed");
            metrics.transaction_failed();
        }
        metrics.transaction(batch.len(), begun.elapsed());
        for job in batch {
            job.answer(done.clone());
        }
    }
}
