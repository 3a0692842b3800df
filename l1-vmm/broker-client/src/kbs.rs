//! A session of the KBS protocol 0.4.0: what the broker released, or at which step it did not and why.

use crate::http::{Answer, Client, HttpError, Method, Request};
use crate::{Channel, Deadline};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use broker_protocol::jwk::{TeeKey, TeePubKey};
use broker_protocol::jws::Identity;
use broker_protocol::kbs::{
    Attestation, COOKIE, Challenge, ErrorInformation, PATH_ATTEST, PATH_AUTH, PATH_RESOURCE,
    Request as Begin, RuntimeData, session_of,
};
use broker_protocol::release::{Binding, Release};
use broker_protocol::{Error, MachineId, jwe, limits};
use core::fmt;
use zeroize::Zeroizing;

/// A step of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The session begins: a nonce.
    Auth,
    /// Evidence for the nonce.
    Attest,
    /// What is released.
    Resource,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auth => "auth",
            Self::Attest => "attest",
            Self::Resource => "resource",
        })
    }
}

/// Evidence of the TD that L1 is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// A TD quote.
    pub quote: Vec<u8>,
    /// The CC event log.
    pub log: Vec<u8>,
}

/// Why there is no evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// No TDREPORT.
    #[error("the TDX module made no TDREPORT")]
    NoReport,
    /// The host has no quoting service, or it failed.
    #[error("the host made no TD quote")]
    NoQuote,
    /// Not before the deadline.
    #[error("the host made no TD quote in time")]
    TimeOut,
    /// No random numbers.
    #[error("no random numbers")]
    NoRandom,
}

/// Who can tell what TD this is.
pub trait Attester {
    /// Evidence with this REPORTDATA.
    ///
    /// # Errors
    /// See [`EvidenceError`].
    fn evidence(
        &mut self,
        report_data: &[u8; 64],
        deadline: Deadline,
    ) -> Result<Evidence, EvidenceError>;

    /// Fills `into` with random bytes that the host does not know.
    ///
    /// # Errors
    /// [`EvidenceError::NoRandom`].
    fn random(&mut self, into: &mut [u8]) -> Result<(), EvidenceError>;
}

/// How a release has to be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// To this start: an older one, replayed, is refused.
    Start,
    /// To the machine, or to this start if it says so: what a KBS stores that knows nothing of starts.
    Machine,
}

/// What is asked for, and of whom.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The attested configuration, for the broker to look at.
    pub init_data: Option<&'a str>,
    /// Whose key.
    pub machine: MachineId,
    /// Who is believed.
    pub identity: &'a Identity,
    /// Where it has it: repository, type and tag.
    pub resource: &'a str,
    /// How it has to be bound.
    pub bound: Bound,
}

/// Why nothing was released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KbsError {
    /// No answer.
    #[error("{step}: {error}")]
    Http {
        /// To what.
        step: Step,
        /// Why.
        error: HttpError,
    },
    /// The broker, or who plays it, says no.
    #[error("{step}: the broker refuses with status {status}, {name}: {detail}")]
    Refused {
        /// What.
        step: Step,
        /// HTTP's status.
        status: u16,
        /// The protocol's name of the error; empty if there is none.
        name: String,
        /// For people; printable ASCII.
        detail: String,
    },
    /// An answer that is none of the protocol's, or not for this start, or not of the broker that is believed.
    #[error("{step}: {error}")]
    Protocol {
        /// To what.
        step: Step,
        /// Why not.
        error: Error,
    },
    /// No session's cookie.
    #[error("auth: the answer has no cookie {COOKIE}")]
    NoSession,
    /// The TD has no evidence.
    #[error("attest: {0}")]
    Evidence(#[from] EvidenceError),
}

impl KbsError {
    /// Its name in logs and records.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Http { error, .. } => match error {
                HttpError::Channel(_) => "broker-unreachable",
                _ => "broker-nonsense",
            },
            Self::Refused { .. } => "broker-refused",
            Self::Protocol { error, .. } => error.name(),
            Self::NoSession => "broker-nonsense",
            Self::Evidence(_) => "no-evidence",
        }
    }

    /// Whether nothing was said, or not to its end: what was said to another attempt tells more.
    pub fn is_silence(&self) -> bool {
        let Self::Http { error, .. } = self else {
            return false;
        };
        matches!(error, HttpError::Channel(_))
    }

    /// Whether another attempt, on an empty stream, may end otherwise: the bytes may have been an earlier request's.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Http { .. } => true,
            Self::Protocol { error, .. } => matches!(error, Error::Malformed(_)),
            Self::NoSession => true,
            Self::Refused { status, .. } => *status >= 500,
            Self::Evidence(error) => *error == EvidenceError::TimeOut,
        }
    }
}

/// One session, from its beginning to what is released.
///
/// # Errors
/// See [`KbsError`]; the client has to be restarted then.
pub fn obtain<C: Channel>(
    client: &mut Client<C>,
    attester: &mut impl Attester,
    wanted: &Wanted<'_>,
    deadline: Deadline,
) -> Result<Release, KbsError> {
    let mut session = Session {
        client,
        deadline,
        cookie: String::new(),
    };
    let nonce = session.begin()?;
    let key = tee_key(attester)?;
    let public = key.public();
    session.attest(attester, wanted, &nonce, public)?;
    session.resource(wanted, &nonce, &key, &public)
}

/// L1's key of this session.
fn tee_key(attester: &mut impl Attester) -> Result<TeeKey, EvidenceError> {
    let mut random = Zeroizing::new([0; 32]);
    // One in 2^32 numbers is no key.
    for _ in 0..2 {
        attester.random(&mut *random)?;
        if let Some(key) = TeeKey::from_random(&random) {
            return Ok(key);
        }
    }
    Err(EvidenceError::NoRandom)
}

struct Session<'a, C> {
    client: &'a mut Client<C>,
    deadline: Deadline,
    cookie: String,
}

impl<C: Channel> Session<'_, C> {
    fn begin(&mut self) -> Result<String, KbsError> {
        let begins = |answer: &Answer| cookie(answer).is_some();
        let begin = Begin::to_json();
        let answer = self.ask(Step::Auth, PATH_AUTH, Method::Post(&begin), begins)?;
        let cookie = cookie(&answer).ok_or(KbsError::NoSession)?;
        self.cookie = format!("{COOKIE}={cookie}");
        let challenge = Challenge::from_json(&answer.body).map_err(protocol(Step::Auth))?;
        Ok(challenge.nonce)
    }

    fn attest(
        &mut self,
        attester: &mut impl Attester,
        wanted: &Wanted<'_>,
        nonce: &str,
        tee_pubkey: TeePubKey,
    ) -> Result<(), KbsError> {
        let wrong = protocol(Step::Attest);
        let runtime_data = RuntimeData {
            nonce: nonce.to_string(),
            tee_pubkey,
        };
        let report_data = runtime_data.report_data("").map_err(&wrong)?;
        let evidence = attester.evidence(&report_data, self.deadline)?;
        let body = Attestation::new(
            wanted.init_data,
            runtime_data,
            &evidence.quote,
            &evidence.log,
        );
        let body = body.to_json().map_err(&wrong)?;
        // Its token says to others what the cookie says to this broker.
        let attested = |answer: &Answer| {
            cookie(answer).is_none() && Challenge::from_json(&answer.body).is_err()
        };
        self.ask(Step::Attest, PATH_ATTEST, Method::Post(&body), attested)?;
        Ok(())
    }

    fn resource(
        &mut self,
        wanted: &Wanted<'_>,
        nonce: &str,
        key: &TeeKey,
        tee: &TeePubKey,
    ) -> Result<Release, KbsError> {
        let wrong = protocol(Step::Resource);
        let path = format!("{PATH_RESOURCE}{}", wanted.resource);
        let released = |answer: &Answer| {
            let opened = jwe::decrypt(&answer.body, key);
            !matches!(opened, Err(Error::Malformed(_) | Error::OtherRecipient))
        };
        let answer = self.ask(Step::Resource, &path, Method::Get, released)?;
        let jws = jwe::decrypt(&answer.body, key).map_err(&wrong)?;
        let binding = match wanted.bound {
            Bound::Start => Binding::Start { nonce, tee },
            Bound::Machine => Binding::Machine { nonce, tee },
        };
        Release::open(&jws, wanted.identity, &wanted.machine, binding).map_err(&wrong)
    }

    /// A request of the session, and its answer if that is a good one. Of an earlier attempt there may still be answers to
    /// come: what does not `fit` is passed over then.
    fn ask(
        &mut self,
        step: Step,
        path: &str,
        method: Method<'_>,
        fits: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, KbsError> {
        let cookie = [("Cookie", self.cookie.as_str())];
        let request = Request {
            path,
            fields: if self.cookie.is_empty() { &[] } else { &cookie },
            method,
            body_max: limits::BODY,
        };
        let answer = self.client.ask_for(&request, self.deadline, fits);
        let answer = answer.map_err(|error| KbsError::Http { step, error })?;
        match answer.status {
            200 => Ok(answer),
            status => Err(refused(step, status, &answer.body)),
        }
    }
}

/// The session that an answer begins.
fn cookie(answer: &Answer) -> Option<&str> {
    answer.fields("set-cookie").find_map(session_of)
}

fn protocol(step: Step) -> impl Fn(Error) -> KbsError {
    move |error| KbsError::Protocol { step, error }
}

/// The broker's reason, cut to what a log takes; KBS has it as JSON.
fn refused(step: Step, status: u16, body: &[u8]) -> KbsError {
    let cut = |text: &str, most| text.chars().take(most).collect::<String>();
    let (name, detail) = match ErrorInformation::from_json(body) {
        Ok(error) => (
            cut(error.name(), limits::NAME),
            cut(&error.detail, DETAIL_MAX),
        ),
        Err(_) => (String::new(), "without a reason".to_string()),
    };
    KbsError::Refused {
        step,
        status,
        name,
        detail,
    }
}

/// The most characters of a reason that are shown.
const DETAIL_MAX: usize = 256;

#[cfg(test)]
mod tests;
