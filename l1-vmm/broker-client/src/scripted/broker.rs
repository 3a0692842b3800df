//! The broker that a test scripts.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use broker_ledger::{Entry, Refusal};
use broker_protocol::MachineId;
use broker_protocol::jwe::{self, Fresh};
use broker_protocol::jwk::{TeeKey, TeePubKey};
use broker_protocol::jws::{Identity, IdentityKey};
use broker_protocol::kbs::{
    Attestation, COOKIE, Challenge, ErrorInformation, PATH_ATTEST, PATH_AUTH, PATH_RESOURCE,
    Request as Begin, VERSION, session_of,
};
use broker_protocol::ledger::{
    self, Answer, Code, Envelope, MAC_HEADER, Request, Sealed, code_from_text, code_text,
};
use broker_protocol::release::{Carry, Release, Secret, Session, thumbprint_text};
use zeroize::Zeroizing;

/// The status of an answer of the ledger.
pub const LEDGER_STATUS: u16 = 200;

/// What it, or who sits between, does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    None,
    /// It has another identity: another broker, the host's.
    OtherIdentity,
    /// It releases another machine's key.
    OtherMachine,
    /// It releases for a nonce of an earlier start.
    OldNonce,
    /// It releases for another key of a TEE.
    OtherTee,
    /// It releases what is bound to no start.
    Unbound,
    /// It encrypts to another key.
    OtherRecipient,
    /// It speaks another version of the protocol.
    OtherVersion,
    /// It refuses the evidence.
    RefusedEvidence,
    /// It gives no cookie.
    NoCookie,
    /// A body of one mebibyte.
    Mebibyte,
    /// One of these, and then no answer.
    MebibyteOnce,
    /// An answer that is cut in its middle.
    Cut,
    /// No answer.
    Silence,
    /// No ledger's session in what it releases.
    NoLedger,
    /// Answers of the ledger with a code that is none.
    WrongCode,
}

/// One machine's broker.
#[derive(Debug)]
pub struct Broker {
    /// What it does wrong.
    pub lie: Lie,
    /// Whether its answers are chunked.
    pub chunked: bool,
    /// Its key.
    pub identity: IdentityKey,
    /// Whose broker it is.
    pub machine: MachineId,
    /// The half that it releases.
    pub half: [u8; 32],
    /// What it orders while L1 is updated.
    pub carry: Option<Carry>,
    /// Its ledger.
    pub entry: Entry,
    /// Requests that it has answered.
    pub answered: Vec<String>,
    /// What L1 said that it refused.
    pub noted: Vec<(String, String)>,
    /// How many answers it does not send, once it has made them.
    pub dropped: u32,
    starts: u8,
    /// Sessions that were attested, by their number.
    tees: Vec<(u8, TeePubKey)>,
    last: Option<(Code, Vec<u8>)>,
}

impl Broker {
    /// A broker that does nothing wrong, and knows of no state.
    pub fn new(machine: MachineId) -> Self {
        Self {
            lie: Lie::None,
            chunked: false,
            identity: identity(1),
            machine,
            half: [0xB0; 32],
            carry: None,
            entry: Entry::default(),
            answered: Vec::new(),
            noted: Vec::new(),
            dropped: 0,
            starts: 0,
            tees: Vec::new(),
            last: None,
        }
    }

    /// Who is to be believed.
    pub fn identity(&self) -> Identity {
        self.identity.identity()
    }

    /// Takes whole requests out of `sent`, and answers them.
    pub fn serve(&mut self, sent: &mut Vec<u8>) -> Vec<u8> {
        let mut answers = Vec::new();
        while let Some(request) = HttpRequest::take(sent) {
            self.answered
                .push(format!("{} {}", request.method, request.path));
            let answer = self.answer(&request);
            if self.dropped > 0 {
                self.dropped -= 1;
                continue;
            }
            answers.extend(answer);
        }
        answers
    }

    fn answer(&mut self, request: &HttpRequest) -> Vec<u8> {
        match self.lie {
            Lie::Silence => return Vec::new(),
            Lie::MebibyteOnce => {
                self.lie = Lie::Silence;
                return self.http(200, "", &[b'x'; 1 << 20]);
            }
            Lie::Mebibyte => return self.http(200, "", &[b'x'; 1 << 20]),
            _ => {}
        }
        let mut answer = match (request.method.as_str(), request.path.as_str()) {
            ("POST", PATH_AUTH) => self.auth(request),
            ("POST", PATH_ATTEST) => self.attest(request),
            ("GET", path) if path.starts_with(PATH_RESOURCE) => self.resource(request),
            ("POST", ledger::PATH) => self.ledger(request),
            _ => self.refuse(404, "ResourceNotFound", "there is nothing here"),
        };
        if self.lie == Lie::Cut {
            answer.truncate(answer.len() / 2);
        }
        answer
    }

    /// The session that a request is of.
    fn session(&self, request: &HttpRequest) -> Option<u8> {
        let session = request.field("cookie").and_then(session_of)?;
        let number = session.strip_prefix("session-")?.parse().ok()?;
        (1..=self.starts).contains(&number).then_some(number)
    }

    fn auth(&mut self, request: &HttpRequest) -> Vec<u8> {
        let begin = Begin::from_json(&request.body);
        let known = begin.is_ok_and(|begin| begin.version == VERSION);
        if !known || self.lie == Lie::OtherVersion {
            return self.refuse(401, "ProtocolVersion", "version 0.5.0 is needed");
        }
        self.starts += 1;
        let cookie = match self.lie {
            Lie::NoCookie => String::new(),
            _ => format!(
                "Set-Cookie: {COOKIE}=session-{}; Path=/; HttpOnly\r\n",
                self.starts
            ),
        };
        self.http(200, &cookie, &Challenge::to_json(&[self.starts; 32]))
    }

    fn attest(&mut self, request: &HttpRequest) -> Vec<u8> {
        let Some(session) = self.session(request) else {
            return self.refuse(401, "SessionNotFound", "there is no such session");
        };
        if self.lie == Lie::RefusedEvidence {
            return self.refuse(401, "AttestationFailed", "MRTD is not one of the policy's");
        }
        let Ok(attestation) = Attestation::from_json(&request.body) else {
            return self.refuse(400, "AttestationFailed", "no evidence");
        };
        let report_data = attestation.runtime_data.report_data("").ok();
        let quote = attestation.quote().ok();
        let quoted = quote.zip(report_data).is_some_and(|(quote, data)| {
            // A platform's quote has it somewhere.
            quote.windows(data.len()).any(|window| window == data)
        });
        if !quoted {
            return self.refuse(401, "AttestationFailed", "the quote is for something else");
        }
        let tee = attestation.runtime_data.tee_pubkey;
        self.tees.push((session, tee));
        self.http(200, "", br#"{"token":"a.b.c"}"#)
    }

    fn resource(&mut self, request: &HttpRequest) -> Vec<u8> {
        let session = self.session(request);
        let mut tees = self.tees.iter().rev();
        let Some((session, tee)) = tees.find(|(number, _)| Some(*number) == session).copied()
        else {
            return self.refuse(401, "TokenNotFound", "not attested");
        };
        if request.path != broker_protocol::kbs::resource_path(&self.machine) {
            return self.refuse(404, "ResourceNotFound", "there is no such machine");
        }
        let nonce = Challenge::from_json(&Challenge::to_json(&[session; 32]));
        let mut release = Release {
            machine: self.machine,
            key: Secret(self.half),
            nonce: nonce.ok().map(|challenge| challenge.nonce),
            tee: Some(thumbprint_text(&tee.thumbprint())),
            session: Some(Session {
                id: format!("ledger-{session}"),
                key: session_key(session),
            }),
            ledger: true,
            policy: Some("production".into()),
            carry: self.carry.clone(),
        };
        let mut identity_key = &self.identity;
        let mut recipient = tee;
        let other = tee_key(77);
        let hosts = identity(66);
        match self.lie {
            Lie::OtherIdentity => identity_key = &hosts,
            Lie::OtherMachine => release.machine = MachineId([0xEE; 32]),
            Lie::OldNonce => release.nonce = Some("old".into()),
            Lie::OtherTee => {
                release.tee = Some(thumbprint_text(&other.public().thumbprint()));
            }
            Lie::Unbound => {
                release.nonce = None;
                release.tee = None;
                release.session = None;
                release.ledger = false;
            }
            Lie::OtherRecipient => recipient = other.public(),
            Lie::NoLedger => {
                release.session = None;
                release.ledger = false;
            }
            _ => {}
        }
        let fresh = Fresh {
            ephemeral: tee_key(session.wrapping_add(100)),
            content_key: Zeroizing::new([session; 32]),
            iv: [session; 12],
        };
        let jwe = release
            .sign(identity_key)
            .and_then(|jws| jwe::encrypt(jws.as_bytes(), &recipient, &fresh));
        match jwe {
            Ok(jwe) => self.http(200, "", &jwe),
            Err(error) => self.refuse(500, "Internal", &error.to_string()),
        }
    }

    fn ledger(&mut self, request: &HttpRequest) -> Vec<u8> {
        let Ok(envelope) = ledger::unchecked_request(&request.body) else {
            return self.refuse(400, "Malformed", "no request");
        };
        let session = envelope.session.strip_prefix("ledger-");
        let key = session_key(session.and_then(|number| number.parse().ok()).unwrap_or(0));
        let code = request.field(MAC_HEADER).map(code_from_text);
        let Some(Ok(code)) = code else {
            return self.refuse(401, "Mac", "no code");
        };
        if ledger::open_request(&key, &request.body, &code).is_err() {
            return self.refuse(401, "Mac", "another session's code");
        }
        if let Some((last, answer)) = &self.last
            && *last == code
        {
            return answer.clone();
        }
        let said = self.decide(&envelope);
        let sealed = ledger::seal_answer(&key, &code, envelope.sequence, &said);
        let Ok(Sealed { body, mut code }) = sealed else {
            return self.refuse(500, "Internal", "no answer");
        };
        let asked = request.field(MAC_HEADER).map(code_from_text);
        if self.lie == Lie::WrongCode {
            code = [0; 32];
        }
        let field = format!("{MAC_HEADER}: {}\r\n", code_text(&code));
        let answer = self.http(LEDGER_STATUS, &field, &body);
        if let Some(Ok(asked)) = asked {
            self.last = Some((asked, answer.clone()));
        }
        answer
    }

    fn decide(&mut self, envelope: &Envelope) -> Answer {
        let refused = |refusal: Refusal| {
            Answer::Refused(ledger::Refused {
                name: refusal.name().into(),
                text: refusal.to_string(),
            })
        };
        match &envelope.request {
            Request::Open { disk } => {
                let granted = self.entry.open(&self.machine, disk.as_ref());
                granted.map_or_else(refused, Answer::Granted)
            }
            Request::Prepare(commit) => {
                let prepared = self.entry.prepare(*commit);
                prepared.map_or_else(refused, |()| Answer::Prepared {})
            }
            Request::Commit(commit) => {
                let committed = self.entry.commit(*commit);
                committed.map_or_else(refused, |()| Answer::Committed {})
            }
            Request::Refused { error, detail } => {
                self.noted.push((error.clone(), detail.clone()));
                Answer::Noted {}
            }
        }
    }

    fn refuse(&self, status: u16, name: &str, detail: &str) -> Vec<u8> {
        let error = ErrorInformation::new(name, detail);
        let body = format!(
            r#"{{"type":"{}","detail":"{}"}}"#,
            error.error_type, error.detail
        );
        self.http(status, "", body.as_bytes())
    }

    fn http(&self, status: u16, fields: &str, body: &[u8]) -> Vec<u8> {
        let length = match self.chunked {
            false => format!("Content-Length: {}\r\n", body.len()),
            true => "Transfer-Encoding: chunked\r\n".to_string(),
        };
        let mut answer = format!("HTTP/1.1 {status} Status\r\n{fields}{length}\r\n").into_bytes();
        if self.chunked {
            for chunk in body.chunks(100) {
                answer.extend(format!("{:x}\r\n", chunk.len()).bytes());
                answer.extend(chunk);
                answer.extend(b"\r\n");
            }
            answer.extend(b"0\r\n\r\n");
        } else {
            answer.extend(body);
        }
        answer
    }
}

/// The key of a session with the ledger, by its number: from 1 on, one for each start.
pub fn session_key(session: u8) -> Secret {
    Secret([session ^ 0x55; 32])
}

/// A key that everybody knows.
fn tee_key(seed: u8) -> TeeKey {
    let scalar = Zeroizing::new([seed.max(1); 32]);
    // These bytes, repeated, are a scalar of P-256 for each of them but 0 and 255.
    TeeKey::from_random(&scalar).unwrap_or_else(|| tee_key(1))
}

fn identity(seed: u8) -> IdentityKey {
    let scalar = Zeroizing::new([seed; 32]);
    IdentityKey::from_random(&scalar).unwrap_or_else(|| identity(1))
}

/// A request as it arrived.
struct HttpRequest {
    method: String,
    path: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl HttpRequest {
    /// The first whole request in `sent`, which is taken out of it.
    fn take(sent: &mut Vec<u8>) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        let Ok(httparse::Status::Complete(head)) = request.parse(sent) else {
            return None;
        };
        let fields: Vec<(String, String)> = request
            .headers
            .iter()
            .map(|header| {
                let value = String::from_utf8_lossy(header.value).into_owned();
                (header.name.to_ascii_lowercase(), value)
            })
            .collect();
        let mut new = Self {
            method: request.method?.to_string(),
            path: request.path?.to_string(),
            fields,
            body: Vec::new(),
        };
        let length = new.field("content-length").map_or("0", |length| length);
        let end = head + length.parse::<usize>().ok()?;
        new.body = sent.get(head..end)?.to_vec();
        sent.drain(..end);
        Some(new)
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str())
    }
}
