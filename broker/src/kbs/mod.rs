//! Sessions of the KBS protocol, and the release of a key.
//!
//! A session that only has its challenge costs nothing (`names`). Only one whose evidence passed is remembered.

mod names;

pub use names::SESSION_SECONDS;

use crate::attest::{Judged, Judgement, judge};
use crate::configuration::Asked;
use crate::metrics::Metrics;
use crate::now;
use crate::random;
use crate::refused::Refused;
use crate::seal::{OperatorKey, Purpose};
use crate::store::{Event, Machine, Policy, Session, StoreError};
use crate::writer::Writer;
use broker_ledger::Refusal;
use broker_protocol::MachineId;
use broker_protocol::jwe::{self, Fresh};
use broker_protocol::jwk::TeePubKey;
use broker_protocol::jws::{self, IdentityKey, Type};
use broker_protocol::kbs::{Attestation, Challenge, Request, TEE, TokenAnswer, VERSION};
use broker_protocol::release::{self, Release, Secret};
use init_data::Rollback;
use names::Names;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use verifier::{Collateral, LaunchEvidence};

/// Where keys of machines are, unless their documents say otherwise.
const MACHINES: &str = "/kbs/v0/resource/default/tdp-vtpm/";
/// How many sessions whose evidence passed are remembered; the oldest gives way.
const SESSIONS: usize = 1024;
/// How often the audit trail is told of refused evidence of a machine, in seconds.
const REPEATED_SECONDS: u64 = 60;
/// Sessions of the ledger that are kept of a machine that does not open.
const UNOPENED: u32 = 16;

/// A session whose evidence passed.
#[derive(Clone)]
struct Attested {
    made: u64,
    nonce: String,
    tee: TeePubKey,
    machine: MachineId,
    /// Where its key is.
    path: String,
    counted: bool,
    policy: String,
    /// Of the ledger, once the key was asked for.
    ledger: Option<release::Session>,
}

/// What answers requests of KBS.
pub struct Kbs {
    writer: Writer,
    operator: Arc<OperatorKey>,
    identity: IdentityKey,
    collateral: Arc<Collateral>,
    metrics: Arc<Metrics>,
    names: Names,
    attested: Mutex<HashMap<String, Attested>>,
    /// Verifications at a time.
    processors: Arc<Semaphore>,
}

/// What a verification needs of the database.
struct Known {
    machine: Machine,
    policies: Vec<Policy>,
}

impl Kbs {
    /// The key broker with this identity, which trusts platforms of this collateral.
    pub fn new(
        writer: Writer,
        operator: Arc<OperatorKey>,
        identity: IdentityKey,
        collateral: Collateral,
        metrics: Arc<Metrics>,
    ) -> Self {
        let names = Names::new(operator.derive("names of KBS sessions"));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            writer,
            operator,
            identity,
            collateral: Arc::new(collateral),
            metrics,
            names,
            attested: Mutex::default(),
            processors: Arc::new(Semaphore::new(processors)),
        }
    }

    /// Begins a session: its name, and the challenge as it is sent.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn auth(&self, body: &[u8]) -> Result<(String, Vec<u8>), Refused> {
        let request = Request::from_json(body)?;
        if request.version != VERSION {
            return Err(Refused::Version(verifier::printable(&request.version)));
        }
        if request.tee != TEE {
            return Err(Refused::Tee(verifier::printable(&request.tee)));
        }
        let name = self.names.give()?;
        let nonce = self.names.nonce_bytes(&name)?;
        Ok((name, Challenge::to_json(&nonce)))
    }

    /// Looks at evidence: the token as it is sent.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn attest(&self, session: Option<&str>, body: &[u8]) -> Result<Vec<u8>, Refused> {
        let result = self.attested(session, body).await;
        let outcome = match &result {
            Ok(_) => "passed",
            Err(refused) => refused.name(),
        };
        self.metrics.attested(outcome);
        if let Err(refused) = &result {
            tracing::warn!(event = "evidence-refused", name = refused.name(), %refused);
        }
        result
    }

    async fn attested(&self, session: Option<&str>, body: &[u8]) -> Result<Vec<u8>, Refused> {
        let session = session.ok_or(Refused::NoSession)?;
        let nonce = self.names.nonce(session)?;
        let attestation = Attestation::from_json(body)?;
        if attestation.runtime_data.nonce != nonce {
            return Err(Refused::OtherNonce);
        }
        let document = attestation.init_data.as_ref().ok_or(Refused::NoInitData)?;
        if document.format != "toml" {
            return Err(Refused::NoInitData);
        }
        let asked = Asked::read(&document.body, &self.identity.identity())?;
        let known = self.known(asked.machine).await?;
        known.machine.entry.check_standing().or_else(later)?;
        // MRCONFIGID says that the document is L1's; that it is the owner's, this says where the policy takes any.
        if asked.rollback != known.machine.rollback {
            return Err(Refused::OtherRollback {
                asked: asked.rollback.name(),
                enrolled: known.machine.rollback.name(),
            });
        }
        let counted = asked.rollback != Rollback::None;
        let tee = attestation.runtime_data.tee_pubkey;
        let judgement = self
            .judge(attestation, asked.digest, known.policies)
            .await?;
        let judged = match judgement {
            Judgement::Passed(judged) => judged,
            Judgement::Refused {
                judged,
                why,
                genuine,
            } => {
                // What no platform signed is anybody's, and leaves no trace but a line of the log.
                if genuine {
                    self.keep(asked.machine, judged, "evidence-refused", why.to_string())
                        .await?;
                }
                return Err(why);
            }
        };
        let policy = judged.policy.clone();
        self.keep(
            asked.machine,
            judged,
            "evidence-passed",
            format!(
                "policy {policy:?}, MRCONFIGID {}",
                hex::encode(asked.digest)
            ),
        )
        .await?;
        let token = self.token(&asked.machine, &policy, &tee)?;
        self.remember(
            session,
            Attested {
                made: now(),
                nonce,
                tee,
                machine: asked.machine,
                path: asked.path,
                counted,
                policy,
                ledger: None,
            },
        );
        serde_json::to_vec(&TokenAnswer { token })
            .map_err(|_| broker_protocol::Error::Malformed("token").into())
    }

    async fn known(&self, id: MachineId) -> Result<Known, Refused> {
        let known = self
            .writer
            .run(move |transaction| {
                let Some(machine) = transaction.machine(&id)? else {
                    return Ok(None);
                };
                let policies = transaction.policies(&id)?;
                Ok(Some(Known { machine, policies }))
            })
            .await?;
        known.ok_or(Refused::UnknownMachine(id))
    }

    async fn judge(
        &self,
        attestation: Attestation,
        init_data: [u8; 48],
        policies: Vec<Policy>,
    ) -> Result<Judgement, Refused> {
        let processors = Arc::clone(&self.processors);
        let permit = processors
            .acquire_owned()
            .await
            .map_err(|_| Refused::Busy)?;
        let collateral = Arc::clone(&self.collateral);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let additional = &attestation.tee_evidence.additional_evidence;
            let (quote, log) = (attestation.quote()?, attestation.event_log()?);
            let launch = LaunchEvidence {
                quote: &quote,
                cc_event_log: &log,
                report_data: attestation.runtime_data.report_data(additional)?,
                init_data,
            };
            judge(&launch, &policies, &collateral, now())
        })
        .await
        .map_err(|_| Refused::Busy)?
    }

    async fn keep(
        &self,
        machine: MachineId,
        judged: Judged,
        event: &'static str,
        detail: String,
    ) -> Result<(), Refused> {
        tracing::info!(%machine, event, detail);
        let verdict = serde_json::to_string(&judged).map_err(|_| StoreError::Content("verdict"))?;
        self.writer
            .run(move |transaction| {
                let known = transaction.machine(&machine)?;
                let last = known.and_then(|machine| serde_json::from_str(&machine.verdict?).ok());
                transaction.set_verdict(&machine, &verdict)?;
                if repeats(&judged, last.as_ref()) {
                    return Ok(());
                }
                transaction.tell(&Event {
                    time: judged.time,
                    machine: Some(machine),
                    event: event.into(),
                    detail,
                })
            })
            .await?;
        Ok(())
    }

    /// A JWT, for clients that want one. L1's does not, and this broker takes none.
    fn token(&self, machine: &MachineId, policy: &str, tee: &TeePubKey) -> Result<String, Refused> {
        let claims = serde_json::json!({
            "iss": "tdp-vtpm-broker",
            "iat": now(),
            "exp": now() + SESSION_SECONDS,
            "machine": machine,
            "policy": policy,
            "tee-pubkey": tee,
        });
        let token = jws::sign(&self.identity, Type::Token, claims.to_string().as_bytes())?;
        Ok(token.to_string())
    }

    fn remember(&self, session: &str, attested: Attested) {
        let mut sessions = self.attested.lock().unwrap_or_else(PoisonError::into_inner);
        let old = now().saturating_sub(SESSION_SECONDS);
        sessions.retain(|_, session| session.made >= old);
        if sessions.len() >= SESSIONS {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.made);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                sessions.remove(&oldest);
            }
        }
        sessions.insert(session.into(), attested);
    }

    /// Gives a session its machine's key: the JWE as it is sent.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn resource(&self, session: Option<&str>, path: &str) -> Result<Vec<u8>, Refused> {
        let result = self.released(session, path).await;
        let outcome = match &result {
            Ok(_) => "released",
            Err(refused) => refused.name(),
        };
        self.metrics.released(outcome);
        if let Err(refused) = &result {
            tracing::warn!(event = "release-refused", name = refused.name(), %refused);
        }
        result
    }

    async fn released(&self, session: Option<&str>, path: &str) -> Result<Vec<u8>, Refused> {
        let name = session.ok_or(Refused::NoSession)?;
        let attested = {
            let sessions = self.attested.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.get(name).cloned()
        };
        let attested = attested
            .filter(|attested| attested.made >= now().saturating_sub(SESSION_SECONDS))
            .ok_or(Refused::NoSession)?;
        if path != attested.path {
            return Err(match path.starts_with(MACHINES) {
                true => Refused::OtherMachine,
                false => Refused::NoResource,
            });
        }
        let (ledger, new) = match (&attested.ledger, attested.counted) {
            (Some(ledger), true) => (Some(ledger.clone()), None),
            (None, true) => {
                let (ledger, kept) = self.session(&attested)?;
                (Some(ledger), Some(kept))
            }
            (_, false) => (None, None),
        };
        let key = self.key(&attested, new).await?;
        if let Some(ledger) = &ledger {
            let mut sessions = self.attested.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(attested) = sessions.get_mut(name) {
                attested.ledger = Some(ledger.clone());
            }
        }
        let release = Release {
            machine: attested.machine,
            key,
            nonce: Some(attested.nonce),
            tee: Some(release::thumbprint_text(&attested.tee.thumbprint())),
            ledger: ledger.is_some(),
            session: ledger,
            policy: Some(attested.policy),
        };
        let jws = release.sign(&self.identity)?;
        let fresh = Fresh {
            ephemeral: random::tee_key()?,
            content_key: random::bytes()?,
            iv: *random::bytes()?,
        };
        Ok(jwe::encrypt(jws.as_bytes(), &attested.tee, &fresh)?)
    }

    /// A new session of the ledger: for L1, and as it is kept.
    fn session(&self, attested: &Attested) -> Result<(release::Session, Session), Refused> {
        let id = hex::encode(*random::bytes::<16>()?);
        let key = random::bytes::<32>()?;
        let sealed = self
            .operator
            .seal(Purpose::SessionKey, id.as_bytes(), &*key)?;
        let kept = Session {
            id: id.clone(),
            machine: attested.machine,
            key: sealed,
            epoch: None,
            sequence: 0,
            code: Vec::new(),
            answer: Vec::new(),
            made: now(),
        };
        let session = release::Session {
            id,
            key: Secret(*key),
        };
        Ok((session, kept))
    }

    /// The machine's key, when the audit trail has its release, and the ledger its session.
    async fn key(&self, attested: &Attested, session: Option<Session>) -> Result<Secret, Refused> {
        let machine = attested.machine;
        let event = Event {
            time: now(),
            machine: Some(machine),
            event: "released".into(),
            detail: format!(
                "policy {:?}, key of the TEE {}, {}",
                attested.policy,
                hex::encode(attested.tee.thumbprint()),
                match (&session, attested.counted) {
                    (Some(session), _) => format!("session {}", session.id),
                    (None, true) => "the same session again".into(),
                    (None, false) => "no ledger".into(),
                }
            ),
        };
        tracing::info!(%machine, event = event.event, detail = event.detail);
        let found = self
            .writer
            .run(move |transaction| {
                let Some(found) = transaction.machine(&machine)? else {
                    return Ok(Err(Refused::UnknownMachine(machine)));
                };
                if let Err(refused) = found.entry.check_standing().or_else(later) {
                    return Ok(Err(refused.into()));
                }
                if let Some(session) = session {
                    transaction.set_session(&session)?;
                    transaction.forget_sessions(&machine, found.entry.epoch, UNOPENED)?;
                }
                transaction.tell(&event)?;
                Ok(Ok(found))
            })
            .await??;
        let key = self
            .operator
            .open_key(Purpose::MachineKey, &machine.0, &found.key)?;
        Ok(Secret(*key))
    }
}

/// Whether the trail has been told of a refusal a moment ago: a host can have evidence refused as often as it likes.
fn repeats(judged: &Judged, last: Option<&Judged>) -> bool {
    last.is_some_and(|last| {
        [&judged.verdict, &last.verdict] == ["refused"; 2]
            && judged.time.saturating_sub(last.time) < REPEATED_SECONDS
    })
}

/// A ledger of a backup gives its key, and says at the opening what is wrong: L1 can show that, and tells it in its turn.
fn later(refusal: Refusal) -> Result<(), Refusal> {
    match refusal {
        Refusal::Restored => Ok(()),
        refusal => Err(refusal),
    }
}
