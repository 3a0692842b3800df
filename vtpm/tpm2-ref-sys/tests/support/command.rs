//! Commands as bytes (TPM 2.0 Library, Part 3), each named as there.

pub const CLEAR: u16 = 0;
pub const STATE: u16 = 1;

pub const RH_OWNER: u32 = 0x4000_0001;
pub const RH_NULL: u32 = 0x4000_0007;
pub const RH_ENDORSEMENT: u32 = 0x4000_000b;
pub const RH_LOCKOUT: u32 = 0x4000_000a;
pub const RS_PW: u32 = 0x4000_0009;

pub const ALG_SHA256: u16 = 0x0b;

pub const RC_INITIALIZE: u32 = 0x100;
pub const RC_FAILURE: u32 = 0x101;
pub const RC_COMMAND_SIZE: u32 = 0x142;
pub const RC_LOCALITY: u32 = 0x907;
pub const RC_RETRY: u32 = 0x922;

/// Big-endian bytes, joined.
#[derive(Default, Clone)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }
    pub fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
    /// A TPM2B.
    pub fn sized(self, bytes: &[u8]) -> Self {
        self.u16(bytes.len() as u16).raw(bytes)
    }
}

/// A command without sessions.
pub fn plain(code: u32, rest: Bytes) -> Vec<u8> {
    Bytes::new()
        .u16(0x8001)
        .u32(10 + rest.0.len() as u32)
        .u32(code)
        .raw(&rest.0)
        .0
}

/// One session of an authorization area.
pub fn authorization(session: u32, nonce: &[u8], attributes: u8, hmac: &[u8]) -> Bytes {
    Bytes::new()
        .u32(session)
        .sized(nonce)
        .u8(attributes)
        .sized(hmac)
}

/// A command with an authorization area.
pub fn with(code: u32, handles: Bytes, area: Bytes, parameters: Bytes) -> Vec<u8> {
    let rest = handles
        .u32(area.0.len() as u32)
        .raw(&area.0)
        .raw(&parameters.0);
    Bytes::new()
        .u16(0x8002)
        .u32(10 + rest.0.len() as u32)
        .u32(code)
        .raw(&rest.0)
        .0
}

/// A command authorized by an empty password.
pub fn empty_password(code: u32, handles: Bytes, parameters: Bytes) -> Vec<u8> {
    with(code, handles, authorization(RS_PW, &[], 0, &[]), parameters)
}

pub fn startup(kind: u16) -> Vec<u8> {
    plain(0x144, Bytes::new().u16(kind))
}

pub fn shutdown(kind: u16) -> Vec<u8> {
    plain(0x145, Bytes::new().u16(kind))
}

pub fn self_test(full: bool) -> Vec<u8> {
    plain(0x143, Bytes::new().u8(full.into()))
}

pub fn get_random(length: u16) -> Vec<u8> {
    plain(0x17b, Bytes::new().u16(length))
}

pub fn get_capability(capability: u32, property: u32, count: u32) -> Vec<u8> {
    plain(0x17a, Bytes::new().u32(capability).u32(property).u32(count))
}

/// A selection of SHA-256 PCRs.
pub fn selection(pcrs: &[u32]) -> Bytes {
    let mut bits = [0u8; 3];
    for pcr in pcrs {
        bits[(pcr / 8) as usize] |= 1 << (pcr % 8);
    }
    Bytes::new().u32(1).u16(ALG_SHA256).u8(3).raw(&bits)
}

pub fn pcr_read(pcr: u32) -> Vec<u8> {
    plain(0x17e, selection(&[pcr]))
}

pub fn pcr_extend(pcr: u32, digest: &[u8; 32]) -> Vec<u8> {
    let digests = Bytes::new().u32(1).u16(ALG_SHA256).raw(digest);
    empty_password(0x182, Bytes::new().u32(pcr), digests)
}

pub fn pcr_reset(pcr: u32) -> Vec<u8> {
    empty_password(0x13d, Bytes::new().u32(pcr), Bytes::new())
}

const RESTRICTED_STORAGE: u32 = 0x0003_0072;
const RESTRICTED_SIGNING: u32 = 0x0005_0072;
const SIGNING: u32 = 0x0004_0072;

/// TPMT_PUBLIC of an RSA key. With AES-128-CFB and without scheme for storage, with RSASSA for
/// signing.
pub fn rsa(attributes: u32, bits: u16) -> Vec<u8> {
    let public = Bytes::new()
        .u16(1)
        .u16(ALG_SHA256)
        .u32(attributes)
        .sized(&[]);
    let public = if attributes & 0x2_0000 != 0 {
        public.u16(6).u16(128).u16(0x43).u16(0x10)
    } else {
        public.u16(0x10).u16(0x14).u16(ALG_SHA256)
    };
    public.u16(bits).u32(0).sized(&[]).0
}

/// TPMT_PUBLIC of a P-256 key; ECDSA for signing.
pub fn ecc(attributes: u32) -> Vec<u8> {
    let public = Bytes::new()
        .u16(0x23)
        .u16(ALG_SHA256)
        .u32(attributes)
        .sized(&[]);
    let public = if attributes & 0x2_0000 != 0 {
        public.u16(6).u16(128).u16(0x43).u16(0x10)
    } else {
        public.u16(0x10).u16(0x18).u16(ALG_SHA256)
    };
    public.u16(3).u16(0x10).sized(&[]).sized(&[]).0
}

pub fn rsa_storage() -> Vec<u8> {
    rsa(RESTRICTED_STORAGE, 2048)
}
pub fn rsa_attestation() -> Vec<u8> {
    rsa(RESTRICTED_SIGNING, 2048)
}
pub fn ecc_storage() -> Vec<u8> {
    ecc(RESTRICTED_STORAGE)
}
pub fn ecc_attestation() -> Vec<u8> {
    ecc(RESTRICTED_SIGNING)
}
pub fn ecc_signing() -> Vec<u8> {
    ecc(SIGNING)
}

pub fn create_primary(hierarchy: u32, public: &[u8]) -> Vec<u8> {
    empty_password(0x131, Bytes::new().u32(hierarchy), creation(&[], public))
}

/// Sensitive data, template, no outside information, no creation PCRs.
fn creation(data: &[u8], public: &[u8]) -> Bytes {
    let sensitive = Bytes::new().sized(&[]).sized(data);
    Bytes::new()
        .sized(&sensitive.0)
        .sized(public)
        .sized(&[])
        .u32(0)
}

pub fn create(parent: u32, data: &[u8], public: &[u8]) -> Vec<u8> {
    empty_password(0x153, Bytes::new().u32(parent), creation(data, public))
}

/// TPMT_PUBLIC of sealed data that only `policy` opens.
pub fn sealed(policy: &[u8]) -> Vec<u8> {
    Bytes::new()
        .u16(8)
        .u16(ALG_SHA256)
        .u32(0x12) // fixedTPM, fixedParent
        .sized(policy)
        .u16(0x10)
        .sized(&[])
        .0
}

pub fn load(parent: u32, private: &[u8], public: &[u8]) -> Vec<u8> {
    let parameters = Bytes::new().sized(private).sized(public);
    empty_password(0x157, Bytes::new().u32(parent), parameters)
}

pub fn flush_context(handle: u32) -> Vec<u8> {
    plain(0x165, Bytes::new().u32(handle))
}

pub fn read_public(handle: u32) -> Vec<u8> {
    plain(0x173, Bytes::new().u32(handle))
}

pub fn evict_control(object: u32, persistent: u32) -> Vec<u8> {
    empty_password(
        0x120,
        Bytes::new().u32(RH_OWNER).u32(object),
        Bytes::new().u32(persistent),
    )
}

pub fn quote(key: u32, data: &[u8], pcrs: &[u32]) -> Vec<u8> {
    let parameters = Bytes::new().sized(data).u16(0x10).raw(&selection(pcrs).0);
    empty_password(0x158, Bytes::new().u32(key), parameters)
}

/// With the key's own scheme and no hash-check ticket.
pub fn sign(key: u32, digest: &[u8]) -> Vec<u8> {
    let parameters = Bytes::new()
        .sized(digest)
        .u16(0x10)
        .u16(0x8024)
        .u32(RH_NULL)
        .sized(&[]);
    empty_password(0x15d, Bytes::new().u32(key), parameters)
}

pub fn verify_signature(key: u32, digest: &[u8], signature: &[u8]) -> Vec<u8> {
    plain(0x177, Bytes::new().u32(key).sized(digest).raw(signature))
}

pub fn clear() -> Vec<u8> {
    empty_password(0x126, Bytes::new().u32(RH_LOCKOUT), Bytes::new())
}

pub fn nv_define(index: u32, size: u16) -> Vec<u8> {
    let public = Bytes::new()
        .u32(index)
        .u16(ALG_SHA256)
        .u32(0x0204_0004) // NO_DA, AUTHREAD, AUTHWRITE
        .sized(&[])
        .u16(size);
    let parameters = Bytes::new().sized(&[]).sized(&public.0);
    empty_password(0x12a, Bytes::new().u32(RH_OWNER), parameters)
}

pub fn nv_write(index: u32, data: &[u8]) -> Vec<u8> {
    let parameters = Bytes::new().sized(data).u16(0);
    empty_password(0x137, Bytes::new().u32(index).u32(index), parameters)
}

pub fn nv_read(index: u32, size: u16) -> Vec<u8> {
    let parameters = Bytes::new().u16(size).u16(0);
    empty_password(0x14e, Bytes::new().u32(index).u32(index), parameters)
}

pub fn nv_undefine(index: u32) -> Vec<u8> {
    empty_password(0x122, Bytes::new().u32(RH_OWNER).u32(index), Bytes::new())
}

pub const SESSION_HMAC: u8 = 0;
pub const SESSION_POLICY: u8 = 1;
pub const SESSION_TRIAL: u8 = 3;

/// Unbound, unsalted, SHA-256, no parameter encryption.
pub fn start_auth_session(kind: u8, nonce: &[u8]) -> Vec<u8> {
    plain(
        0x176,
        Bytes::new()
            .u32(RH_NULL)
            .u32(RH_NULL)
            .sized(nonce)
            .sized(&[])
            .u8(kind)
            .u16(0x10)
            .u16(ALG_SHA256),
    )
}

pub fn policy_pcr(session: u32, pcrs: &[u32]) -> Vec<u8> {
    plain(
        0x17f,
        Bytes::new().u32(session).sized(&[]).raw(&selection(pcrs).0),
    )
}

pub fn policy_get_digest(session: u32) -> Vec<u8> {
    plain(0x189, Bytes::new().u32(session))
}

/// Authorized by a policy session that is kept.
pub fn unseal(object: u32, session: u32) -> Vec<u8> {
    with(
        0x15e,
        Bytes::new().u32(object),
        authorization(session, &[], 1, &[]),
        Bytes::new(),
    )
}
