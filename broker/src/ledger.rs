//! Openings and commits under a session's key.

use crate::metrics::Metrics;
use crate::now;
use crate::refused::Refused;
use crate::seal::{OperatorKey, Purpose};
use crate::store::{About, Event, Session, StoreError, Transaction};
use crate::writer::Writer;
use broker_ledger::{Entry, Refusal};
use broker_protocol::ledger::{
    self, Answer, Code, Commit, Envelope, Refused as Answered, Request, Sealed,
};
use broker_protocol::release::Secret;
use std::sync::Arc;

/// Sessions of a machine that are kept beside that of the live epoch: an older twin is told that it is fenced.
const SESSIONS: u32 = 16;

/// The name of the refusal of a request out of its order.
const WRONG_SEQUENCE: &str = "wrong-sequence";
/// The name of the refusal of a commit before an opening, or of an epoch that is not the session's.
const WRONG_EPOCH: &str = "wrong-epoch";

/// What answers requests of the ledger.
#[derive(Clone)]
pub struct Ledger {
    writer: Writer,
    operator: Arc<OperatorKey>,
    metrics: Arc<Metrics>,
}

/// What a transaction came to.
struct Outcome {
    sealed: Sealed,
    request: &'static str,
    answer: String,
}

impl Ledger {
    /// The ledger in the database.
    pub fn new(writer: Writer, operator: Arc<OperatorKey>, metrics: Arc<Metrics>) -> Self {
        Self {
            writer,
            operator,
            metrics,
        }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// The request is of no session, or nothing could be kept: an answer that no code covers. What the ledger refuses is
    /// an answer under the session's key.
    pub async fn answer(&self, body: &[u8], code: &str) -> Result<Sealed, Refused> {
        let code = ledger::code_from_text(code).map_err(|_| Refused::NotAuthentic)?;
        let envelope = ledger::unchecked_request(body)?;
        let operator = Arc::clone(&self.operator);
        let body = body.to_vec();
        let outcome = self
            .writer
            .run(
                About::Session(envelope.session.clone()),
                move |transaction| {
                    let done = handle(transaction, &operator, &body, &code, &envelope);
                    // A refusal without a code changes nothing, and is no failure of the transaction.
                    match done {
                        Ok(outcome) => Ok(Ok(outcome)),
                        Err(Refused::Store(error)) => Err(error),
                        Err(refused) => Ok(Err(refused)),
                    }
                },
            )
            .await??;
        self.metrics.ledger(outcome.request, &outcome.answer);
        Ok(outcome.sealed)
    }
}

fn handle(
    transaction: &mut dyn Transaction,
    operator: &OperatorKey,
    body: &[u8],
    code: &Code,
    envelope: &Envelope,
) -> Result<Outcome, Refused> {
    let mut session = transaction
        .session(&envelope.session)?
        .ok_or(Refused::NotAuthentic)?;
    let key = operator.open_key(Purpose::SessionKey, session.id.as_bytes(), &session.key)?;
    let key = Secret(*key);
    ledger::open_request(&key, body, code).map_err(|_| Refused::NotAuthentic)?;
    let request = name_of(&envelope.request);
    if session.sequence == envelope.sequence && session.code == *code {
        let answer: Answer =
            serde_json::from_slice(&session.answer).map_err(|_| StoreError::Content("answer"))?;
        let sealed = ledger::seal_answer(&key, code, envelope.sequence, &answer)?;
        let answer = "repeated".into();
        return Ok(Outcome {
            sealed,
            request,
            answer,
        });
    }
    if session.sequence.checked_add(1) != Some(envelope.sequence) {
        let answer = refused(
            WRONG_SEQUENCE,
            format!("request {} after {}", envelope.sequence, session.sequence),
        );
        let sealed = ledger::seal_answer(&key, code, envelope.sequence, &answer)?;
        let answer = WRONG_SEQUENCE.into();
        return Ok(Outcome {
            sealed,
            request,
            answer,
        });
    }
    let answer = act(transaction, &mut session, &envelope.request)?;
    let name = match &answer {
        Answer::Refused(refused) => refused.name.clone(),
        _ => "done".into(),
    };
    session.sequence = envelope.sequence;
    session.code = code.to_vec();
    session.answer = serde_json::to_vec(&answer).map_err(|_| StoreError::Content("answer"))?;
    transaction.set_session(&session)?;
    Ok(Outcome {
        sealed: ledger::seal_answer(&key, code, envelope.sequence, &answer)?,
        request,
        answer: name,
    })
}

fn name_of(request: &Request) -> &'static str {
    match request {
        Request::Open { .. } => "open",
        Request::Prepare(_) => "prepare",
        Request::Commit(_) => "commit",
        Request::Refused { .. } => "refused",
    }
}

fn refused(name: &str, text: String) -> Answer {
    Answer::Refused(Answered {
        name: name.into(),
        text,
    })
}

/// Does what is asked.
fn act(
    transaction: &mut dyn Transaction,
    session: &mut Session,
    request: &Request,
) -> Result<Answer, StoreError> {
    let mut entry = transaction
        .entry(&session.machine)?
        .ok_or(StoreError::Content("session"))?;
    let done = match request {
        Request::Open { disk } => entry.open(&session.machine, disk.as_ref()).map(|grant| {
            session.epoch = Some(grant.epoch);
            Answer::Granted(grant)
        }),
        Request::Prepare(commit) => match not_own(session, commit) {
            None => entry.prepare(*commit).map(|()| Answer::Prepared {}),
            Some(answer) => return Ok(answer),
        },
        Request::Commit(commit) => match not_own(session, commit) {
            None => entry.commit(*commit).map(|()| Answer::Committed {}),
            Some(answer) => return Ok(answer),
        },
        Request::Refused { error, detail } => {
            let plain = |text: &str| verifier::printable(text);
            tell(
                transaction,
                session,
                "l1-refused",
                format!("{}: {}", plain(error), plain(detail)),
            )?;
            return Ok(Answer::Noted {});
        }
    };
    match done {
        Ok(answer) => {
            transaction.set_entry(&session.machine, &entry)?;
            if let Answer::Granted(grant) = &answer {
                opened(transaction, session, &entry, grant.epoch)?;
            }
            Ok(answer)
        }
        Err(refusal) => {
            let answer = refused(refusal.name(), refusal.to_string());
            // A machine that asks again and again tells the trail once.
            if !was(session, refusal) {
                tell(
                    transaction,
                    session,
                    "ledger-refused",
                    format!("{}: {refusal}", refusal.name()),
                )?;
            }
            Ok(answer)
        }
    }
}

/// A session commits for its own lease alone, whatever number of an epoch it has heard of.
fn not_own(session: &Session, commit: &Commit) -> Option<Answer> {
    let text = match session.epoch {
        Some(epoch) if epoch == commit.epoch => return None,
        Some(epoch) => format!(
            "the session has the lease of epoch {epoch}, and the commit is of {}",
            commit.epoch
        ),
        None => "the session has no lease: open first".into(),
    };
    Some(refused(WRONG_EPOCH, text))
}

fn opened(
    transaction: &mut dyn Transaction,
    session: &Session,
    entry: &Entry,
    epoch: u64,
) -> Result<(), StoreError> {
    // Before others are forgotten, so that its own stays.
    transaction.set_session(session)?;
    transaction.forget_sessions(&session.machine, epoch, SESSIONS)?;
    let latest = match &entry.latest {
        Some(latest) => format!(
            "commit {} of epoch {}, {}",
            latest.counter, latest.epoch, latest.digest
        ),
        None => "no state".into(),
    };
    tell(
        transaction,
        session,
        "opened",
        format!("epoch {epoch}, latest: {latest}"),
    )
}

fn was(session: &Session, refusal: Refusal) -> bool {
    let last = serde_json::from_slice(&session.answer).ok();
    matches!(last, Some(Answer::Refused(last)) if last.name == refusal.name())
}

fn tell(
    transaction: &mut dyn Transaction,
    session: &Session,
    event: &str,
    detail: String,
) -> Result<(), StoreError> {
    tracing::info!(machine = %session.machine, event, detail);
    transaction.tell(&Event {
        time: now(),
        machine: Some(session.machine),
        event: event.into(),
        detail,
    })
}
