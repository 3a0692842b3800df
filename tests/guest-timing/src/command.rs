//! The few commands that are timed, as bytes (TPM 2.0 Library, part 3).

const TPM_ST_NO_SESSIONS: u16 = 0x8001;
const TPM_ST_SESSIONS: u16 = 0x8002;
const TPM_RS_PW: u32 = 0x4000_0009;
const TPM_RH_NULL: u32 = 0x4000_0007;
const TPM_CC_CREATE_PRIMARY: u32 = 0x131;
const TPM_CC_QUOTE: u32 = 0x158;
const TPM_CC_FLUSH_CONTEXT: u32 = 0x165;
const TPM_CC_GET_RANDOM: u32 = 0x17B;
const TPM_CC_PCR_READ: u32 = 0x17E;
const TPM_CC_PCR_EXTEND: u32 = 0x182;
const TPM_ALG_RSA: u16 = 0x0001;
const TPM_ALG_SHA256: u16 = 0x000B;
const TPM_ALG_NULL: u16 = 0x0010;
const TPM_ALG_RSASSA: u16 = 0x0014;
const TPM_ALG_ECDSA: u16 = 0x0018;
const TPM_ALG_ECC: u16 = 0x0023;
const TPM_ECC_NIST_P256: u16 = 0x0003;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign.
const RESTRICTED_SIGNING: u32 = 0x0005_0072;

/// How an ECC key signs.
#[derive(Clone, Copy)]
pub(crate) enum EccSignature {
    /// ECDSA with SHA-256.
    Ecdsa,
}

/// A restricted signing key.
#[derive(Clone, Copy)]
pub(crate) enum Key {
    /// P-256.
    Ecc(EccSignature),
    /// RSA-2048, RSASSA with SHA-256.
    Rsa,
}

/// A command's bytes and its name for messages.
pub(crate) struct Command {
    name: &'static str,
    bytes: Vec<u8>,
}

/// The response code of a response; `None` if it is no response.
pub(crate) fn response_code(response: &[u8]) -> Option<u32> {
    let code = response.get(6..10)?;
    Some(u32::from_be_bytes(code.try_into().ok()?))
}

impl Command {
    fn new(name: &'static str, tag: u16, code: u32, parts: &[&[u8]]) -> Self {
        let length: usize = 10 + parts.iter().map(|part| part.len()).sum::<usize>();
        let mut bytes = tag.to_be_bytes().to_vec();
        bytes.extend((length as u32).to_be_bytes());
        bytes.extend(code.to_be_bytes());
        for part in parts {
            bytes.extend_from_slice(part);
        }
        Self { name, bytes }
    }

    /// A command on one handle, authorised by the empty password.
    fn authorised(name: &'static str, code: u32, handle: u32, parameters: &[&[u8]]) -> Self {
        let mut head = handle.to_be_bytes().to_vec();
        head.extend(9u32.to_be_bytes());
        head.extend(TPM_RS_PW.to_be_bytes());
        head.extend([0; 5]);
        let parts: Vec<&[u8]> = std::iter::once(&head[..])
            .chain(parameters.iter().copied())
            .collect();
        Self::new(name, TPM_ST_SESSIONS, code, &parts)
    }

    pub(crate) fn get_random(count: u16) -> Self {
        Self::new(
            "GetRandom",
            TPM_ST_NO_SESSIONS,
            TPM_CC_GET_RANDOM,
            &[&count.to_be_bytes()],
        )
    }

    pub(crate) fn pcr_extend_sha256(pcr: u32) -> Self {
        let mut digests = 1u32.to_be_bytes().to_vec();
        digests.extend(TPM_ALG_SHA256.to_be_bytes());
        digests.extend([0x5A; 32]);
        Self::authorised("PCR_Extend", TPM_CC_PCR_EXTEND, pcr, &[&digests])
    }

    /// PCRs 0 to 7 of the SHA-256 bank.
    pub(crate) fn pcr_read_sha256() -> Self {
        Self::new(
            "PCR_Read",
            TPM_ST_NO_SESSIONS,
            TPM_CC_PCR_READ,
            &[&pcr_selection()],
        )
    }

    pub(crate) fn quote(handle: u32, key: Key) -> Self {
        let mut parameters = 20u16.to_be_bytes().to_vec();
        parameters.extend([0xA5; 20]);
        let scheme = match key {
            Key::Ecc(EccSignature::Ecdsa) => TPM_ALG_ECDSA,
            Key::Rsa => TPM_ALG_RSASSA,
        };
        parameters.extend(scheme.to_be_bytes());
        parameters.extend(TPM_ALG_SHA256.to_be_bytes());
        parameters.extend(pcr_selection());
        Self::authorised("Quote", TPM_CC_QUOTE, handle, &[&parameters])
    }

    /// A primary key of the null hierarchy.
    pub(crate) fn create_primary(key: Key) -> Self {
        let public = template(key);
        let mut parameters = Vec::new();
        // Sensitive: no password, no data.
        parameters.extend([0, 4, 0, 0, 0, 0]);
        parameters.extend((public.len() as u16).to_be_bytes());
        parameters.extend(public);
        // No outside information, no creation PCRs.
        parameters.extend([0, 0, 0, 0, 0, 0]);
        Self::authorised(
            "CreatePrimary",
            TPM_CC_CREATE_PRIMARY,
            TPM_RH_NULL,
            &[&parameters],
        )
    }

    pub(crate) fn flush(handle: u32) -> Self {
        Self::new(
            "FlushContext",
            TPM_ST_NO_SESSIONS,
            TPM_CC_FLUSH_CONTEXT,
            &[&handle.to_be_bytes()],
        )
    }

    /// The transient handle that a CreatePrimary response starts with.
    pub(crate) fn created_handle(response: &[u8]) -> Option<u32> {
        let handle = u32::from_be_bytes(response.get(10..14)?.try_into().ok()?);
        (handle >> 24 == 0x80 && response.len() > 100).then_some(handle)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

fn pcr_selection() -> Vec<u8> {
    let mut selection = 1u32.to_be_bytes().to_vec();
    selection.extend(TPM_ALG_SHA256.to_be_bytes());
    selection.extend([3, 0xFF, 0, 0]);
    selection
}

/// TPMT_PUBLIC of a restricted signing key.
fn template(key: Key) -> Vec<u8> {
    let mut public = Vec::new();
    let kind = match key {
        Key::Ecc(_) => TPM_ALG_ECC,
        Key::Rsa => TPM_ALG_RSA,
    };
    public.extend(kind.to_be_bytes());
    public.extend(TPM_ALG_SHA256.to_be_bytes());
    public.extend(RESTRICTED_SIGNING.to_be_bytes());
    // No policy; no symmetric algorithm.
    public.extend([0, 0]);
    public.extend(TPM_ALG_NULL.to_be_bytes());
    match key {
        Key::Ecc(EccSignature::Ecdsa) => {
            public.extend(TPM_ALG_ECDSA.to_be_bytes());
            public.extend(TPM_ALG_SHA256.to_be_bytes());
            public.extend(TPM_ECC_NIST_P256.to_be_bytes());
            public.extend(TPM_ALG_NULL.to_be_bytes());
            // Unique: two empty coordinates.
            public.extend([0; 4]);
        }
        Key::Rsa => {
            public.extend(TPM_ALG_RSASSA.to_be_bytes());
            public.extend(TPM_ALG_SHA256.to_be_bytes());
            public.extend(2048u16.to_be_bytes());
            public.extend(0u32.to_be_bytes());
            public.extend([0; 2]);
        }
    }
    public
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_says_its_own_length() {
        for command in [
            Command::get_random(32),
            Command::pcr_extend_sha256(16),
            Command::pcr_read_sha256(),
            Command::quote(0x8000_0000, Key::Rsa),
            Command::create_primary(Key::Ecc(EccSignature::Ecdsa)),
            Command::flush(1),
        ] {
            let length = u32::from_be_bytes(command.bytes()[2..6].try_into().unwrap());
            assert_eq!(length as usize, command.bytes().len(), "{}", command.name());
        }
    }

    #[test]
    fn only_a_created_object_has_a_handle() {
        let mut response = vec![0; 120];
        response[10] = 0x80;
        assert_eq!(Command::created_handle(&response), Some(0x8000_0000));
        assert_eq!(Command::created_handle(&response[..50]), None);
    }
}
