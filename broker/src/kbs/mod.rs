//! Sessions of the KBS protocol, and the release of a key.
//!
//! A session that only has its challenge costs nothing (`names`). Only one whose evidence passed is remembered (`passed`).

mod names;
mod passed;
mod shares;

pub use names::SESSION_SECONDS;

use crate::attest::{Judged, Judgement, judge};
use crate::configuration::{Asked, same};
use crate::metrics::Metrics;
use crate::now;
use crate::random;
use crate::refused::Refused;
use crate::seal::OperatorKey;
use crate::store::{About, Event, Machine, Policy, StoreError, Transaction};
use crate::writer::Writer;
use broker_protocol::MachineId;
use broker_protocol::jwe::{self, Fresh};
use broker_protocol::jwk::TeePubKey;
use broker_protocol::jws::{self, IdentityKey, Type};
use broker_protocol::kbs::{Attestation, Challenge, Request, TEE, TokenAnswer, VERSION};
use broker_protocol::release::{self, Release};
use init_data::Rollback;
use names::Names;
use passed::{Fresh as FreshSession, Passed, give, later};
use shares::{Share, Shares};
use std::sync::Arc;
use tokio::sync::Semaphore;
use verifier::{Collateral, LaunchEvidence};

/// How often the audit trail is told of refused evidence of a machine, in seconds.
const REPEATED_SECONDS: u64 = 60;
/// What answers requests of KBS.
pub struct Kbs {
    writer: Writer,
    operator: Arc<OperatorKey>,
    identity: IdentityKey,
    collateral: Arc<Collateral>,
    metrics: Arc<Metrics>,
    names: Names,
    /// Verifications at a time.
    processors: Arc<Semaphore>,
    /// Each machine's part of them.
    shares: Arc<Shares>,
}

/// What a verification needs of the database.
struct Known {
    machine: Machine,
    policies: Vec<Policy>,
    /// What passed in this session already.
    passed: Option<Passed>,
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
            processors: Arc::new(Semaphore::new(processors)),
            shares: Arc::default(),
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
        let known = self.known(asked.machine, session).await?;
        known.machine.entry.check_standing().or_else(later)?;
        // MRCONFIGID says that the document is L1's; that it is the owner's, this says where the policy takes any.
        let enrolled = &known.machine;
        same("rollback", asked.rollback.name(), enrolled.rollback.name())?;
        if let Some(configured) = &enrolled.configured {
            configured.check(&asked.configured)?;
        }
        let counted = asked.rollback != Rollback::None;
        let tee = attestation.runtime_data.tee_pubkey;
        // A nonce is for one evidence: the host has the request as well, and could have it looked at as often as it likes.
        if let Some(passed) = known.passed {
            if (passed.machine, passed.tee) != (asked.machine, tee) {
                return Err(Refused::UsedSession);
            }
            let token = self.token(&passed.machine, &passed.policy, &tee)?;
            return answer(token);
        }
        let share = self.shares.take(asked.machine).ok_or(Refused::Busy)?;
        let judgement = self
            .judge(attestation, asked.digest, known.policies, share)
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
                    self.keep(
                        asked.machine,
                        judged,
                        "evidence-refused",
                        why.to_string(),
                        None,
                    )
                    .await?;
                }
                return Err(why);
            }
        };
        let policy = judged.policy.clone();
        let token = self.token(&asked.machine, &policy, &tee)?;
        let passed = Passed {
            made: now(),
            tee,
            machine: asked.machine,
            path: asked.path,
            counted,
            policy: policy.clone(),
            ledger: None,
            given: 0,
        };
        let detail = format!(
            "policy {policy:?}, MRCONFIGID {}",
            hex::encode(asked.digest)
        );
        let passed = Some((session.to_owned(), passed));
        self.keep(asked.machine, judged, "evidence-passed", detail, passed)
            .await?;
        answer(token)
    }

    async fn known(&self, id: MachineId, session: &str) -> Result<Known, Refused> {
        let session = session.to_owned();
        let operator = Arc::clone(&self.operator);
        self.writer
            .run(About::Machine(id), move |transaction| {
                let passed = match Passed::find(&session, &operator, transaction) {
                    Ok(passed) => Some(passed),
                    Err(Refused::Store(error)) => return Err(error),
                    Err(_) => None,
                };
                let Some(machine) = transaction.machine(&id)? else {
                    return Ok(Err(Refused::UnknownMachine(id)));
                };
                let policies = transaction.policies(&id)?;
                Ok(Ok(Known {
                    machine,
                    policies,
                    passed,
                }))
            })
            .await?
    }

    async fn judge(
        &self,
        attestation: Attestation,
        init_data: [u8; 48],
        policies: Vec<Policy>,
        share: Share,
    ) -> Result<Judgement, Refused> {
        let processors = Arc::clone(&self.processors);
        let permit = processors
            .acquire_owned()
            .await
            .map_err(|_| Refused::Busy)?;
        let collateral = Arc::clone(&self.collateral);
        tokio::task::spawn_blocking(move || {
            // Also where nobody waits for the verdict any more.
            let _taken = (permit, share);
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
        passed: Option<(String, Passed)>,
    ) -> Result<(), Refused> {
        tracing::info!(%machine, event, detail);
        let verdict = serde_json::to_string(&judged).map_err(|_| StoreError::Content("verdict"))?;
        let operator = Arc::clone(&self.operator);
        let work = move |transaction: &mut dyn Transaction| -> Result<(), Refused> {
            let known = transaction.machine(&machine)?;
            let last = known.and_then(|machine| serde_json::from_str(&machine.verdict?).ok());
            transaction.set_verdict(&machine, &verdict)?;
            if let Some((name, passed)) = &passed {
                passed.keep(name, &operator, transaction)?;
            }
            if repeats(&judged, last.as_ref()) {
                return Ok(());
            }
            transaction.tell(&Event {
                time: judged.time,
                machine: Some(machine),
                event: event.into(),
                detail: detail.clone(),
            })?;
            Ok(())
        };
        self.writer
            .run(About::Machine(machine), move |transaction| {
                kept(work(transaction))
            })
            .await?
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
        let name = session.ok_or(Refused::NoSession)?.to_owned();
        // Names that this broker did not give cost the database nothing.
        let nonce = self.names.nonce(&name)?;
        let fresh = FreshSession::new(&self.operator)?;
        let operator = Arc::clone(&self.operator);
        let path = path.to_owned();
        let (passed, key, carry) = self
            .writer
            .run(About::Attested(name.clone()), move |transaction| {
                kept(give(&name, &path, &fresh, &operator, transaction))
            })
            .await??;
        let release = Release {
            machine: passed.machine,
            key,
            nonce: Some(nonce),
            tee: Some(release::thumbprint_text(&passed.tee.thumbprint())),
            ledger: passed.ledger.is_some(),
            session: passed.ledger,
            policy: Some(passed.policy),
            carry,
        };
        let jws = release.sign(&self.identity)?;
        let fresh = Fresh {
            ephemeral: random::tee_key()?,
            content_key: random::bytes()?,
            iv: *random::bytes()?,
        };
        Ok(jwe::encrypt(jws.as_bytes(), &passed.tee, &fresh)?)
    }
}

/// What of a piece of work fails its transaction, and what is an answer.
fn kept<T>(done: Result<T, Refused>) -> Result<Result<T, Refused>, StoreError> {
    match done {
        Ok(value) => Ok(Ok(value)),
        Err(Refused::Store(error)) => Err(error),
        Err(refused) => Ok(Err(refused)),
    }
}

/// The token as it is sent.
fn answer(token: String) -> Result<Vec<u8>, Refused> {
    serde_json::to_vec(&TokenAnswer { token })
        .map_err(|_| broker_protocol::Error::Malformed("token").into())
}

/// Whether the trail has been told of a refusal a moment ago: a host can have evidence refused as often as it likes.
fn repeats(judged: &Judged, last: Option<&Judged>) -> bool {
    last.is_some_and(|last| {
        [&judged.verdict, &last.verdict] == ["refused"; 2]
            && judged.time.saturating_sub(last.time) < REPEATED_SECONDS
    })
}
