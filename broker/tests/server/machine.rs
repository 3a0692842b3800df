//! L1's side: a boot, and what it says to the broker.

use crate::http::{Answer, Connection};
use crate::running::{Place, Running};
use broker_protocol::MachineId;
use broker_protocol::jwe;
use broker_protocol::jwk::TeeKey;
use broker_protocol::jws::Identity;
use broker_protocol::kbs::{
    self, Attestation, COOKIE, Challenge, PATH_ATTEST, PATH_AUTH, Request, RuntimeData, session_of,
};
use broker_protocol::ledger::{self, Commit, Disk, Envelope, SlotDigest};
use broker_protocol::release::{Binding, Release, Session};
use evidence::Boot;
use sha2::{Digest, Sha384};
use tdx_module::TdParams;
use zeroize::Zeroizing;

/// A machine that is enrolled, and what its owner has of it.
pub(crate) struct Enrolled {
    pub(crate) machine: MachineId,
    pub(crate) identity: Identity,
    pub(crate) init_data: String,
    pub(crate) boot: Boot,
}

impl Enrolled {
    /// Enrols `name`, and allows what it boots.
    pub(crate) fn new(place: &Place, name: &str) -> Enrolled {
        let enrolled = Enrolled::without_policy(place, name, &[]);
        enrolled.allow(place, name, &enrolled.boot);
        enrolled
    }

    pub(crate) fn without_policy(place: &Place, name: &str, options: &[&str]) -> Enrolled {
        let file = place.path(&format!("{name}.toml"));
        let arguments = ["enrol", name, "--init-data", file.to_str().unwrap()];
        let printed = place.ok(&[&arguments[..], options].concat());
        let value = |key: &str| {
            let line = printed.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap().trim().to_owned()
        };
        let init_data = std::fs::read_to_string(file).unwrap();
        assert_eq!(value("mrconfigid"), hex::encode(Sha384::digest(&init_data)));
        Enrolled {
            machine: MachineId::parse(&value("machine")).unwrap(),
            identity: Identity::from_sec1(&hex::decode(value("broker")).unwrap()).unwrap(),
            boot: boot(&init_data),
            init_data,
        }
    }

    pub(crate) fn allow(&self, place: &Place, name: &str, boot: &Boot) {
        let policy = place.file(&format!("{name}-policy.toml"), &boot.policy_file());
        place.ok(&["allow", name, policy.to_str().unwrap()]);
    }

    /// Attests, and asks for the key.
    pub(crate) fn start(&self, broker: &Running) -> Life {
        let mut started = Start::new(self, broker.connect());
        let attestation = started.attestation(&self.boot, &self.init_data);
        let answer = started.attest(&attestation);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let release = started.release().unwrap();
        Life {
            connection: started.connection,
            session: release.session.clone().unwrap(),
            release,
            sequence: 0,
            epoch: 0,
        }
    }
}

/// A boot whose host configures this document.
pub(crate) fn boot(init_data: &str) -> Boot {
    Boot {
        td: TdParams {
            mrconfigid: Sha384::digest(init_data).into(),
            ..TdParams::default()
        },
        ..Boot::default()
    }
}

/// A session of KBS that was begun.
pub(crate) struct Start {
    pub(crate) connection: Connection,
    pub(crate) cookie: String,
    pub(crate) nonce: String,
    pub(crate) key: TeeKey,
    machine: MachineId,
    identity: Identity,
}

impl Start {
    pub(crate) fn new(enrolled: &Enrolled, mut connection: Connection) -> Start {
        let answer = connection.post(PATH_AUTH, &[], &Request::to_json());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let session = session_of(&answer.headers["set-cookie"]).unwrap();
        let mut random = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *random).unwrap();
        Start {
            cookie: format!("{COOKIE}={session}"),
            nonce: Challenge::from_json(&answer.body).unwrap().nonce,
            key: TeeKey::from_random(&random).unwrap(),
            machine: enrolled.machine,
            identity: enrolled.identity,
            connection,
        }
    }

    pub(crate) fn runtime_data(&self) -> RuntimeData {
        RuntimeData {
            nonce: self.nonce.clone(),
            tee_pubkey: self.key.public(),
        }
    }

    /// What an honest L1 of `boot` shows.
    pub(crate) fn attestation(&self, boot: &Boot, init_data: &str) -> Attestation {
        let runtime_data = self.runtime_data();
        let mut launched = boot.launch();
        let quote = launched.quote(&runtime_data.report_data("").unwrap());
        Attestation::new(Some(init_data), runtime_data, &quote, &launched.log())
    }

    pub(crate) fn attest(&mut self, attestation: &Attestation) -> Answer {
        let body = attestation.to_json().unwrap();
        self.connection
            .post(PATH_ATTEST, &[("cookie", &self.cookie)], &body)
    }

    pub(crate) fn resource(&mut self, machine: &MachineId) -> Answer {
        let path = kbs::resource_path(machine);
        self.connection.get(&path, &[("cookie", &self.cookie)])
    }

    /// The key, as L1 takes it.
    pub(crate) fn release(&mut self) -> Result<Release, broker_protocol::Error> {
        let machine = self.machine;
        let answer = self.resource(&machine);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let jws = jwe::decrypt(&answer.body, &self.key)?;
        let binding = Binding::Start {
            nonce: &self.nonce,
            tee: &self.key.public(),
        };
        Release::open(&jws, &self.identity, &machine, binding)
    }
}

/// A start that has its key.
pub(crate) struct Life {
    pub(crate) connection: Connection,
    pub(crate) session: Session,
    pub(crate) release: Release,
    pub(crate) sequence: u64,
    pub(crate) epoch: u64,
}

impl Life {
    /// Asks, and reads the answer as L1 does.
    pub(crate) fn ask(&mut self, request: ledger::Request) -> std::io::Result<ledger::Answer> {
        self.sequence += 1;
        let envelope = Envelope {
            session: self.session.id.clone(),
            sequence: self.sequence,
            request,
        };
        let sealed = ledger::seal_request(&self.session.key, &envelope).unwrap();
        self.send(&sealed)
    }

    pub(crate) fn send(&mut self, sealed: &ledger::Sealed) -> std::io::Result<ledger::Answer> {
        let code = ledger::code_text(&sealed.code);
        let headers = [(ledger::MAC_HEADER, code.as_str())];
        let answer = self
            .connection
            .ask("POST", ledger::PATH, &headers, &sealed.body)?;
        let code = answer.headers.get(ledger::MAC_HEADER);
        let code = code.ok_or_else(|| std::io::Error::other(answer.text().to_owned()))?;
        let code = ledger::code_from_text(code).unwrap();
        let sequence = self.sequence;
        ledger::open_answer(&self.session.key, sealed, sequence, &answer.body, &code)
            .map_err(std::io::Error::other)
    }

    /// Opens; the grant.
    pub(crate) fn open(&mut self, disk: Option<Disk>) -> ledger::Grant {
        match self.ask(ledger::Request::Open { disk }).unwrap() {
            ledger::Answer::Granted(grant) => {
                self.epoch = grant.epoch;
                grant
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn commit(&mut self, commit: Commit) -> std::io::Result<ledger::Answer> {
        self.ask(ledger::Request::Commit(commit))
    }

    /// The name of a refusal.
    pub(crate) fn refused(&mut self, request: ledger::Request) -> String {
        match self.ask(request).unwrap() {
            ledger::Answer::Refused(refused) => refused.name,
            other => panic!("{other:?}"),
        }
    }
}

/// A commit whose digest tells its numbers.
pub(crate) fn commit(epoch: u64, counter: u64) -> Commit {
    let mut digest = [0; 48];
    digest[..8].copy_from_slice(&epoch.to_le_bytes());
    digest[8..16].copy_from_slice(&counter.to_le_bytes());
    Commit {
        epoch,
        counter,
        digest: SlotDigest(digest),
    }
}

/// The slot of a commit.
pub(crate) fn slot(machine: MachineId, commit: Commit) -> ledger::Slot {
    ledger::Slot {
        machine,
        epoch: commit.epoch,
        counter: commit.counter,
        digest: commit.digest,
    }
}
