//! The broker's ledger, as the state store asks it.
//!
//! A request whose answer did not come is sent again byte for byte, with the same number: the ledger answers it the same.
//! Until it was answered no other one is sent. An answer that the session's key did not make, or that is to another
//! request, is passed over: one that did not come in time may still come, and of a request that was sent twice there come
//! two.
//!
//! A commit can also be sent and its acknowledgement looked for as time passes, by who waits for nothing
//! ([`Ledger::collect`]).

use crate::http::{Answer as HttpAnswer, Client, HttpError, Method, Request as HttpRequest};
use crate::{Channel, ChannelError, Deadline};
use broker_protocol::ledger::{
    Answer, Commit, Envelope, MAC_HEADER, PATH, Request, Sealed, Slot, SlotDigest, code_from_text,
    code_text, open_answer, seal_request,
};
use broker_protocol::release::Session;
use broker_protocol::{Error, MachineId, limits};
use state_store::{Collected, Grant, Ledger, LedgerError, Point, Refusal};

/// How many answers that are not this request's are passed over where none is owed.
const STALE_MAX: u32 = 4;
/// Between two times that a request is sent, once it was sent often: so many times its answer is only looked for.
const RARELY: u32 = 16;
/// Nanoseconds that the host has to take a request that nobody waits for.
const TAKEN: u64 = 100_000_000;

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
    /// Since when its answer is looked for, by nobody who waits for it.
    looked_for: Option<u64>,
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
        let next = self.next_request(request)?;
        self.settle(next)
    }

    /// The next request, with a number that none before it has.
    fn next_request(&mut self, request: &Request) -> Result<Unanswered, LedgerError> {
        let sequence = self.sequence.saturating_add(1);
        let envelope = Envelope {
            session: self.session.id.clone(),
            sequence,
            request: request.clone(),
        };
        let sealed = seal_request(&self.session.key, &envelope)
            .map_err(|error| self.failed(LedgerFault::NotTheLedgers(error)))?;
        self.sequence = sequence;
        Ok(Unanswered {
            request: request.clone(),
            sealed,
            tries: 0,
            looked_for: None,
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
                request.looked_for = None;
                self.unanswered = Some(request);
                Err(self.failed(fault))
            }
        }
    }

    /// Sends the request if it is due, in the time until `deadline`.
    fn send(&mut self, asked: &Unanswered, deadline: Deadline) -> Result<(), LedgerFault> {
        let sealed = &asked.sealed;
        let mut due = asked.is_due() && asked.looked_for.is_none();
        // A channel can be restarted a bounded number of times in a row, and a broker that is slow costs none of them.
        if self.client.is_lost() {
            self.client.restart()?;
            due = true;
        }
        let code = code_text(&sealed.code);
        let request = HttpRequest {
            path: PATH,
            fields: &[(MAC_HEADER, &code)],
            method: Method::Post(&sealed.body),
            body_max: limits::BODY,
        };
        if due {
            self.client.send(&request, deadline)?;
        }
        Ok(())
    }

    fn exchange(&mut self, asked: &Unanswered) -> Result<Answer, LedgerFault> {
        let sealed = &asked.sealed;
        let deadline = self.client.channel().after(self.patience);
        self.send(asked, deadline)?;
        let mut answer = self.next(deadline)?;
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

    /// Whether there is an answer of the ledger, which nobody waits for. The request stays unanswered if there is none.
    fn look_for(&mut self, request: &Request) -> Result<Option<Answer>, LedgerError> {
        let mut asked = match self.unanswered.take() {
            Some(earlier) => earlier,
            None => self.next_request(request)?,
        };
        let same = asked.request == *request;
        match self.looked(&mut asked) {
            Ok(Some(answer)) => {
                self.fault = None;
                // The answer to an earlier request is nobody's any more; this one is sent next time.
                Ok(Some(answer).filter(|_| same))
            }
            Ok(None) => {
                self.unanswered = Some(asked);
                Ok(None)
            }
            Err(fault) => {
                asked.tries = asked.tries.saturating_add(1);
                asked.looked_for = None;
                self.unanswered = Some(asked);
                // The log has each fault once, however often it is looked.
                match self.fault == Some(fault) {
                    true => Err(LedgerError::Unreachable),
                    false => Err(self.failed(fault)),
                }
            }
        }
    }

    fn looked(&mut self, asked: &mut Unanswered) -> Result<Option<Answer>, LedgerFault> {
        let since = match asked.looked_for {
            Some(since) => since,
            None => {
                self.send(asked, self.client.channel().after(TAKEN))?;
                *asked.looked_for.insert(self.client.channel().now())
            }
        };
        let mut stale = 0;
        while let Some(answer) = self.client.poll(limits::BODY)? {
            match self.verified(&asked.sealed, &answer) {
                Ok(answer) => return Ok(Some(answer)),
                Err(error) if stale >= STALE_MAX && self.client.owed() == 0 => {
                    return Err(LedgerFault::NotTheLedgers(error));
                }
                Err(_) if answer.status != 200 => return Err(LedgerFault::Status(answer.status)),
                Err(_) => stale += 1,
            }
        }
        match self.client.channel().now().saturating_sub(since) < self.patience {
            true => Ok(None),
            false => Err(HttpError::from(ChannelError::TimeOut).into()),
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

    fn committed(&mut self, answer: &Answer) -> Result<(), LedgerError> {
        match answer {
            Answer::Committed {} => Ok(()),
            Answer::Refused(refused) => Err(LedgerError::Refused(Refusal::named(&refused.name))),
            _ => Err(self.failed(LedgerFault::OtherAnswer)),
        }
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

fn request_to_commit(point: Point) -> Request {
    Request::Commit(Commit {
        epoch: point.epoch,
        counter: point.counter,
        digest: SlotDigest(point.digest),
    })
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
        let answer = self.ask(&request_to_commit(point))?;
        self.committed(&answer)
    }

    fn collect(&mut self, point: Point) -> Result<Collected, LedgerError> {
        match self.look_for(&request_to_commit(point))? {
            Some(answer) => self.committed(&answer).map(|()| Collected::Acknowledged),
            None => Ok(Collected::Outstanding),
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
