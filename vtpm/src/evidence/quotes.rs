//! Who waits for a TD quote, and what came of it.
//!
//! The host gives one quote at a time and may never answer. Two ask: L1 for its certificate
//! authority, and the relying party through L2. Each has one request, which a newer one of the same
//! asker replaces; nobody's request is lost because the other's is under way.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::quote_body::is_quote_of;
use crate::{QuoteError, QuoteStatus, TrustDomain};

/// How long a request stands before its asker is told that the host is late, in nanoseconds.
pub(crate) const PATIENCE: u64 = 30_000_000_000;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// L1, for the certificate of its authority.
    Authority,
    /// A relying party, through L2.
    RelyingParty,
}

/// What a request has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It waits for the host, or for the other's quote.
    Pending,
    /// A quote of the report of the request, its signature unchecked.
    Quote(Vec<u8>),
    /// The host was not able to, or what it gave is no quote of the report.
    Missing(QuoteError),
    /// The host has not answered for [`PATIENCE`]. A quote that comes later still counts.
    Late,
}

struct Request {
    report: Box<[u8; 1024]>,
    asked: u64,
    outcome: Outcome,
}

/// The requests and the one that is under way.
#[derive(Default)]
pub(crate) struct Quotes {
    authority: Option<Request>,
    relying_party: Option<Request>,
    /// The host's answer will be for the request with this report, even if that has been replaced.
    in_flight: Option<(Asker, Box<[u8; 1024]>)>,
}

impl Quotes {
    /// Asks for a quote of `report`, at once if the host is free.
    pub(crate) fn ask(
        &mut self,
        asker: Asker,
        report: Box<[u8; 1024]>,
        trust_domain: &mut impl TrustDomain,
    ) {
        *self.request_mut(asker) = Some(Request {
            report,
            asked: trust_domain.now(),
            outcome: Outcome::Pending,
        });
        self.poll(trust_domain);
    }

    /// Asks once more for the quote that `asker` did not get. No effect without a request, or when
    /// it has its quote or may still get it.
    pub(crate) fn ask_again(&mut self, asker: Asker, trust_domain: &mut impl TrustDomain) {
        let now = trust_domain.now();
        if let Some(request) = self.request_mut(asker)
            && matches!(request.outcome, Outcome::Missing(_) | Outcome::Late)
        {
            request.asked = now;
            request.outcome = Outcome::Pending;
        }
        self.poll(trust_domain);
    }

    /// What became of the request of `asker`, if it made one.
    pub(crate) fn outcome(&self, asker: Asker) -> Option<&Outcome> {
        self.request(asker).map(|request| &request.outcome)
    }

    /// The report that `asker` wants a quote of.
    pub(crate) fn report(&self, asker: Asker) -> Option<&[u8; 1024]> {
        self.request(asker).map(|request| &*request.report)
    }

    /// Takes the host's answer, if it is there, and starts what waited for it.
    pub(crate) fn poll(&mut self, trust_domain: &mut impl TrustDomain) {
        let answer = match trust_domain.poll_quote() {
            QuoteStatus::InFlight => None,
            QuoteStatus::Ready(quote) => Some(Ok(quote)),
            QuoteStatus::Failed(error) => Some(Err(error)),
            // Nobody waits, or the request got lost.
            QuoteStatus::Idle => Some(Err(QuoteError::Failed)),
        };
        if let Some(answer) = answer {
            self.answered(answer);
            self.start_next(trust_domain);
        }
        self.lose_patience(trust_domain.now());
    }

    fn answered(&mut self, answer: Result<Vec<u8>, QuoteError>) {
        let Some((asker, report)) = self.in_flight.take() else {
            return;
        };
        let Some(request) = self.request_mut(asker) else {
            return;
        };
        if request.report != report {
            return;
        }
        request.outcome = match answer {
            Ok(quote) if is_quote_of(&quote, &report) => Outcome::Quote(quote),
            Ok(_) => Outcome::Missing(QuoteError::Malformed),
            Err(error) => Outcome::Missing(error),
        };
    }

    fn start_next(&mut self, trust_domain: &mut impl TrustDomain) {
        while let Some(asker) = self.next() {
            let Some(request) = self.request_mut(asker) else {
                return;
            };
            match trust_domain.start_quote(&request.report) {
                Ok(()) => {
                    self.in_flight = Some((asker, request.report.clone()));
                    return;
                }
                Err(error) => request.outcome = Outcome::Missing(error),
            }
        }
    }

    /// Whose turn it is: who has waited longest.
    fn next(&self) -> Option<Asker> {
        [Asker::Authority, Asker::RelyingParty]
            .into_iter()
            .filter_map(|asker| Some((asker, self.request(asker)?)))
            .filter(|(_, request)| request.outcome == Outcome::Pending)
            .min_by_key(|(_, request)| request.asked)
            .map(|(asker, _)| asker)
    }

    fn lose_patience(&mut self, now: u64) {
        for request in [&mut self.authority, &mut self.relying_party]
            .into_iter()
            .flatten()
        {
            if request.outcome == Outcome::Pending && now.saturating_sub(request.asked) >= PATIENCE
            {
                request.outcome = Outcome::Late;
            }
        }
    }

    fn request(&self, asker: Asker) -> Option<&Request> {
        match asker {
            Asker::Authority => self.authority.as_ref(),
            Asker::RelyingParty => self.relying_party.as_ref(),
        }
    }

    fn request_mut(&mut self, asker: Asker) -> &mut Option<Request> {
        match asker {
            Asker::Authority => &mut self.authority,
            Asker::RelyingParty => &mut self.relying_party,
        }
    }
}
