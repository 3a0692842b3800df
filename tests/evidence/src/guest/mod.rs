//! The guest: L2's software in front of its TPM.
//!
//! [`collect`] is `tests/guest/vtpm-evidence` with TPM commands in place of tpm2-tools, step by step.

use attestation::bundle::{Binary, Bundle, Certify, FORMAT, Pcrs, Quote, VERSION};
use attestation::digest::{Algorithm, Digest};
use attestation::tpm::{
    Curve, Fields, Key, NvPublic, PcrSelect, PcrSelection, Public, Response, Scheme, commands,
    response_code, rh, template,
};
use attestation::window::{
    NV_REPORT, NV_SELECTOR, NV_USER_DATA, NV_WINDOW, OBJECT_CC_EVENT_LOG, OBJECT_TD_QUOTE,
    Selector, Status, USER_DATA_SIZE, Window,
};

/// Where a persistent RSA EK is by the TCG's provisioning guidance.
pub(crate) const EK: u32 = 0x8101_0001;
/// The CA's certificate is in no more indices than this.
const CA_PIECES: u32 = 32;

/// A TPM that takes commands.
pub trait Device {
    /// One command and its response.
    fn execute(&mut self, command: &[u8]) -> Vec<u8>;

    /// The response code of a command.
    fn code(&mut self, command: &[u8]) -> u32 {
        response_code(&self.execute(command)).expect("a response")
    }

    /// The parameters of the response to a command that must succeed.
    #[track_caller]
    fn ok(&mut self, command: &[u8]) -> Vec<u8> {
        let response = self.execute(command);
        match Response::parse(&response) {
            Ok(response) => response.parameters.rest().to_vec(),
            Err(error) => panic!("command {:02x?}: {error}", &command[6..10]),
        }
    }

    /// As [`ok`](Self::ok), for commands that give a handle.
    #[track_caller]
    fn handle(&mut self, command: &[u8]) -> u32 {
        let response = self.execute(command);
        let response = Response::parse_with_handle(&response).expect("the command succeeds");
        response.handle.expect("a handle")
    }
}

/// Evidence for a relying party's nonce. `tcg_log` is what the kernel shows of the event log, `own_ak` a key to quote with
/// in place of the vTPM's.
pub fn collect(tpm: &mut impl Device, tcg_log: &[u8], nonce: &[u8], own_ak: Option<u32>) -> Bundle {
    let mut user_data = [0; USER_DATA_SIZE];
    user_data[..nonce.len()].copy_from_slice(nonce);
    tpm.ok(&nv_write(NV_USER_DATA, &user_data));
    let report = nv_read(tpm, NV_REPORT);
    let (td_quote_status, td_quote) = read_object(tpm, OBJECT_TD_QUOTE);
    let (status, cc_event_log) = read_object(tpm, OBJECT_CC_EVENT_LOG);
    assert_eq!(status, Status::Present);
    let ek_certificates = [rh::NV_EK_RSA_2048, rh::NV_EK_P256, rh::NV_EK_P384]
        .map(|index| Binary(nv_read(tpm, index)));
    let ak_certificate = nv_read(tpm, rh::NV_AK_CERTIFICATE);
    // After the quote: the certificate may have been made anew with it.
    let ca_certificate = (rh::NV_EK_CHAIN..rh::NV_EK_CHAIN + CA_PIECES)
        .map_while(|index| nv_size(tpm, index).map(|_| nv_read(tpm, index)))
        .collect::<Vec<_>>()
        .concat();
    let vtpm_ak = public(tpm, rh::AK).expect("L1 made its AK");
    let ek_public = public(tpm, EK).map(Binary);
    let key = own_ak.unwrap_or(rh::AK);
    let ak_public = public(tpm, key).expect("the key exists");
    let certify = own_ak.map(|own| {
        let (attest, signature) = signed(&tpm.ok(&commands::certify(own, rh::AK)));
        Certify {
            attest,
            signature,
            ak_public: Binary(vtpm_ak),
        }
    });
    let (attest, signature) = signed(&tpm.ok(&quote(key, nonce)));
    Bundle {
        format: FORMAT.into(),
        version: VERSION,
        nonce: hex::encode(nonce),
        report: Binary(report),
        td_quote: (td_quote_status == Status::Present).then_some(Binary(td_quote)),
        td_quote_status: td_quote_status.code(),
        cc_event_log: Binary(cc_event_log),
        tcg_event_log: Binary(tcg_log.to_vec()),
        ca_certificate: Binary(ca_certificate),
        ek_certificates,
        ak_certificate: Binary(ak_certificate),
        ek_public,
        ak_public: Binary(ak_public),
        quote: Quote { attest, signature },
        certify,
        pcrs: pcrs(tpm),
    }
}

/// TPM2_Quote over all PCRs of the SHA-256 bank.
pub fn quote(key: u32, qualifying_data: &[u8]) -> Vec<u8> {
    let pcrs = PcrSelect::all(Algorithm::Sha256);
    commands::quote(key, qualifying_data, Scheme::Null, pcrs)
}

/// A restricted signing key on P-256, as a guest makes it for itself.
pub fn own_ak_p256() -> Public {
    Public {
        scheme: Scheme::Ecdsa(Algorithm::Sha256),
        key: Key::Ecc {
            curve: Curve::P256,
            x: Vec::new(),
            y: Vec::new(),
        },
        ..template::ak_rsa_2048()
    }
}

/// TPMS_ATTEST and TPMT_SIGNATURE of a response.
pub fn signed(parameters: &[u8]) -> (Binary, Binary) {
    let mut fields = Fields::new(parameters);
    let attest = fields.sized().expect("TPM2B_ATTEST").to_vec();
    (Binary(attest), Binary(fields.rest().to_vec()))
}

/// TPM2B_PUBLIC of a key, if there is one at the handle.
pub fn public(tpm: &mut impl Device, handle: u32) -> Option<Vec<u8>> {
    let response = tpm.execute(&commands::read_public(handle));
    let response = Response::parse(&response).ok()?;
    let parameters = response.parameters.rest();
    let length = usize::from(u16::from_be_bytes([parameters[0], parameters[1]]));
    Some(parameters[..2 + length].to_vec())
}

/// All banks that there are, in hexadecimal.
pub fn pcrs(tpm: &mut impl Device) -> Pcrs {
    let mut bank = |algorithm| {
        let values = (0..24).map_while(|pcr| value(tpm, algorithm, pcr));
        values.map(|value| value.to_string()).collect()
    };
    Pcrs {
        sha1: bank(Algorithm::Sha1),
        sha256: bank(Algorithm::Sha256),
        sha384: bank(Algorithm::Sha384),
        sha512: bank(Algorithm::Sha512),
    }
}

/// `None` if there is no such bank.
fn value(tpm: &mut impl Device, algorithm: Algorithm, pcr: u8) -> Option<Digest> {
    let parameters = tpm.ok(&commands::pcr_read(PcrSelect::of(algorithm, [pcr])));
    let mut fields = Fields::new(&parameters);
    fields.u32().expect("pcrUpdateCounter");
    PcrSelection::read(&mut fields).expect("what was read");
    match fields.u32().expect("a count") {
        0 => None,
        _ => Digest::new(algorithm, fields.sized().expect("a digest")),
    }
}

/// The size of an NV index, if it is defined.
fn nv_size(tpm: &mut impl Device, index: u32) -> Option<u16> {
    let response = tpm.execute(&commands::nv_read_public(index));
    let response = Response::parse(&response).ok()?;
    let parameters = response.parameters.rest();
    let public = Fields::new(parameters).sized().ok()?;
    Some(NvPublic::parse(public).ok()?.size)
}

/// TPM2_NV_Write by the index's own authorization.
fn nv_write(index: u32, data: &[u8]) -> Vec<u8> {
    commands::nv_write(index, index, 0, data)
}

fn nv_read(tpm: &mut impl Device, index: u32) -> Vec<u8> {
    const MOST: u16 = 1024;
    let size = nv_size(tpm, index).expect("the index is defined");
    let mut content = Vec::new();
    for offset in (0..size).step_by(usize::from(MOST)) {
        let part = MOST.min(size - offset);
        let parameters = tpm.ok(&commands::nv_read(index, index, offset, part));
        content.extend(Fields::new(&parameters).sized().expect("bytes"));
    }
    content
}

/// An object of the window, whole; nothing of it if its status says that it is not there.
fn read_object(tpm: &mut impl Device, object: u16) -> (Status, Vec<u8>) {
    /// The authority's quote may be first in line.
    const ATTEMPTS: usize = 4;
    let mut content = Vec::new();
    let mut attempts = 0;
    loop {
        let offset = content.len() as u32;
        let selector = Selector { object, offset };
        tpm.ok(&nv_write(NV_SELECTOR, &selector.to_bytes()));
        let bytes = nv_read(tpm, NV_WINDOW);
        let window = Window::parse(&bytes).expect("a window");
        assert_eq!((window.object, window.offset), (object, offset));
        attempts += 1;
        match window.status {
            Status::InFlight if attempts < ATTEMPTS => continue,
            Status::Present => content.extend(window.bytes),
            status => return (status, Vec::new()),
        }
        if content.len() == window.total as usize {
            return (Status::Present, content);
        }
    }
}
