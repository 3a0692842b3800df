//! The broker's ledger, as the state store asks it.
//!
//! A request whose answer did not come is sent again byte for byte, with the same number: the ledger answers it the same.
//! Until it was answered no other one is sent. An answer that the session's key did not make, or that is to another
//! request, is passed over: one that did not come in time may still come, and of a request that was sent twice there come
//! two.

use crate::http::{Answer as HttpAnswer, Client, HttpError, Method, Request as HttpRequest};
use crate::{Channel, Deadline};
use broker_protocol::ledger::{
    Answer, Commit, Envelope, MAC_HEADER, PATH, Request, Sealed, Slot, SlotDigest, code_from_text,
    code_text, open_answer, seal_request,
};
use broker_protocol::release::Session;
use broker_protocol::{Error, MachineId, limits};
use state_store::{Grant, Ledger, LedgerError, Point, Refusal};

/// How many answers that are not this request's are passed over where none is owed.
const STALE_MAX: u32 = 4;
/// Between two times that a request is sent, once it was sent often: so many times its answer is only looked for.
const RARELY: u32 = 16;

/// Why there is no answer of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerFault {
    /// None at all.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// One that nobody vouches for.
    #[error("status {0} that the ledger does not vouch for")]
    Status(u16),
    /// Only answers that the ledger does not vouch for, or that are to other requests.
    #[error("an answer that is not the ledger's: {0}")]
    NotTheLedgers(Error),
    /// The ledger's answer is to something else than was asked.
    #[error("the ledger answers something else than was asked")]
    OtherAnswer,
}

/// The ledger, in the session that the broker released.
#[derive(Debug)]
pub struct BrokerLedger<C> {
    client: Client<C>,
    machine: MachineId,
    session: Session,
    /// Nanoseconds that an answer may take.
    patience: u64,
    /// Of the last request.
    sequence: u64,
    /// The last request, if its answer has not come.
    unanswered: Option<Unanswered>,
    fault: Option<LedgerFault>,
}

/// A request whose answer has not come.
#[derive(Clone, Debug)]
struct Unanswered {
    request: Request,
    sealed: Sealed,
    /// How often an answer was waited for.
    tries: u32,
}

impl Unanswered {
    /// Whether it is sent again before the next wait. What is sent while the broker is away waits on the host's side, and
    /// there is no room for any number of copies: after three it is sent less and less often.
    fn is_due(&self) -> bool {
        self.tries < 3
            || (self.tries + 1).is_power_of_two() && self.tries < RARELY
            || (self.tries + 1).is_multiple_of(RARELY)
    }
}

impl<C: Channel> BrokerLedger<C> {
    /// In this session, of which nothing was asked yet. An answer has `patience` nanoseconds to come.
    pub fn new(client: Client<C>, machine: MachineId, session: Session, patience: u64) -> Self {
        Self {
            client,
            machine,
            session,
            patience,
            sequence: 0,
            unanswered: None,
            fault: None,
        }
    }

    /// Why the last request had no answer.
    pub fn fault(&self) -> Option<LedgerFault> {
        self.fault
    }

    /// Asks, after the request before was answered.
    fn ask(&mut self, request: &Request) -> Result<Answer, LedgerError> {
        if let Some(earlier) = self.unanswered.take() {
            let same = earlier.request == *request;
            let answer = self.settle(earlier)?;
            if same {
                return Ok(answer);
            }
        }
        let sequence = self.sequence.saturating_add(1);
        let envelope = Envelope {
            session: self.session.id.clone(),
            sequence,
            request: request.clone(),
        };
        let sealed = seal_request(&self.session.key, &envelope)
            .map_err(|error| self.failed(LedgerFault::NotTheLedgers(error)))?;
        self.sequence = sequence;
        self.settle(Unanswered {
            request: request.clone(),
            sealed,
            tries: 0,
        })
    }

    /// Waits for an answer, and sends the request before if it is due. It stays unanswered if there is no answer.
    fn settle(&mut self, mut request: Unanswered) -> Result<Answer, LedgerError> {
        match self.exchange(&request) {
            Ok(answer) => {
                self.fault = None;
                Ok(answer)
            }
            Err(fault) => {
                request.tries = request.tries.saturating_add(1);
                self.unanswered = Some(request);
                Err(self.failed(fault))
            }
        }
    }

    fn exchange(&mut self, asked: &Unanswered) -> Result<Answer, LedgerFault> {
        let sealed = &asked.sealed;
        let mut due = asked.is_due();
        // A channel can be restarted a bounded number of times in a row, and a broker that is slow costs none of them.
        if !self.client.is_between() {
            self.client.restart()?;
            due = true;
        }
        let deadline = self.client.channel().after(self.patience);
        let code = code_text(&sealed.code);
        let request = HttpRequest {
            path: PATH,
            fields: &[(MAC_HEADER, &code)],
            method: Method::Post(&sealed.body),
            body_max: limits::BODY,
        };
        let mut answer = match due {
            true => self.client.ask(&request, deadline)?,
            false => self.next(deadline)?,
        };
        let mut stale = 0;
        loop {
            match self.verified(sealed, &answer) {
                Ok(answer) => return Ok(answer),
                // It may be to an earlier request, and this one's behind it.
                Err(error) if stale >= STALE_MAX && self.client.owed() == 0 => {
                    return Err(LedgerFault::NotTheLedgers(error));
                }
                Err(_) if answer.status != 200 => return Err(LedgerFault::Status(answer.status)),
                Err(_) => stale += 1,
            }
            answer = self.next(deadline)?;
        }
    }

    fn next(&mut self, deadline: Deadline) -> Result<HttpAnswer, HttpError> {
        self.client.answer(limits::BODY, deadline)
    }

    /// The ledger's answer in HTTP's, whatever its status: the code alone says whose it is.
    fn verified(&self, request: &Sealed, answer: &HttpAnswer) -> Result<Answer, Error> {
        let mut codes = answer.fields(MAC_HEADER);
        let (Some(code), None) = (codes.next(), codes.next()) else {
            return Err(Error::Mac);
        };
        let code = code_from_text(code)?;
        open_answer(
            &self.session.key,
            request,
            self.sequence,
            &answer.body,
            &code,
        )
    }

    fn failed(&mut self, fault: LedgerFault) -> LedgerError {
        log::warn!("the broker's ledger: {fault}");
        self.fault = Some(fault);
        LedgerError::Unreachable
    }

    fn slot(&self, point: Point) -> Slot {
        Slot {
            machine: self.machine,
            epoch: point.epoch,
            counter: point.counter,
            digest: SlotDigest(point.digest),
        }
    }
}

impl<C: Channel> Ledger for BrokerLedger<C> {
    fn open(&mut self, disk: [Option<Point>; 2]) -> Result<Grant, LedgerError> {
        let disk = disk.map(|point| point.map(|point| self.slot(point)));
        match self.ask(&Request::Open { disk: Some(disk) })? {
            Answer::Granted(grant) => Ok(Grant {
                epoch: grant.epoch,
                latest: grant.latest.map(|commit| Point {
                    epoch: commit.epoch,
                    counter: commit.counter,
                    digest: commit.digest.0,
                }),
            }),
            Answer::Refused(refused) => Err(LedgerError::Refused(Refusal::named(&refused.name))),
            _ => Err(self.failed(LedgerFault::OtherAnswer)),
        }
    }

    fn commit(&mut self, point: Point) -> Result<(), LedgerError> {
        let commit = Commit {
            epoch: point.epoch,
            counter: point.counter,
            digest: SlotDigest(point.digest),
        };
        match self.ask(&Request::Commit(commit))? {
            Answer::Committed {} => Ok(()),
            Answer::Refused(refused) => Err(LedgerError::Refused(Refusal::named(&refused.name))),
            _ => Err(self.failed(LedgerFault::OtherAnswer)),
        }
    }

    fn note(&mut self, error: &str, text: &str) {
        // A character has up to four bytes.
        let cut = |text: &str, most: usize| text.chars().take(most / 4).collect();
        let request = Request::Refused {
            error: cut(error, limits::NAME),
            detail: cut(text, limits::TEXT),
        };
        if let Ok(answer) = self.ask(&request)
            && answer != (Answer::Noted {})
        {
            self.failed(LedgerFault::OtherAnswer);
        }
    }
}

#[cfg(test)]
mod tests;
