//! One broker's database into another: backups, what is restored from them, and the way from SQLite to PostgreSQL.

use super::{RESTORED, Storage, StoreError, Transaction, once};
use broker_ledger::Standing;

/// Events that are read at a time.
const EVENTS: u32 = 4096;

/// Copies everything out of `from` into `to`, whose tables are empty, and marks `to` as a backup: it gives no lease until
/// each machine is recovered. Sessions of KBS, which live for minutes, stay behind.
///
/// # Errors
/// See [`StoreError`]; `to` is as empty as it was.
pub fn copy(from: &mut dyn Storage, to: &mut dyn Storage) -> Result<(), StoreError> {
    once(from, |from| into(from, to))
}

/// [`copy`] out of a transaction, which sees one state of the database.
///
/// # Errors
/// See [`copy`].
pub(super) fn into(from: &mut dyn Transaction, to: &mut dyn Storage) -> Result<(), StoreError> {
    once(to, |to| {
        if !to.facts()?.is_empty() || !to.machines()?.is_empty() {
            return Err(StoreError::BrokerThere);
        }
        everything(from, to)
    })
}

fn everything(from: &mut dyn Transaction, to: &mut dyn Transaction) -> Result<(), StoreError> {
    for (name, value) in from.facts()? {
        to.set_fact(&name, &value)?;
    }
    to.set_fact(RESTORED, &[1])?;
    for machine in from.machines()? {
        let mut entry = machine.entry.clone();
        if entry.standing == Standing::Enrolled {
            entry.standing = Standing::Restored;
        }
        to.add_machine(&machine)?;
        to.set_entry(&machine.id, &entry)?;
        if let Some(verdict) = &machine.verdict {
            to.set_verdict(&machine.id, verdict)?;
        }
        // The last allowed comes first, and is the last to be allowed again.
        for policy in from.policies(&machine.id)?.iter().rev() {
            to.allow(&machine.id, policy)?;
        }
    }
    for session in from.sessions()? {
        to.set_session(&session)?;
    }
    let mut last = i64::MIN;
    loop {
        let events = from.events_after(last, EVENTS)?;
        for (number, event) in &events {
            to.tell(event)?;
            last = *number;
        }
        if events.len() < EVENTS as usize {
            return Ok(());
        }
    }
}
