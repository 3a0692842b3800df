//! What the engine holds, beside what L1 puts into it: `docs/compatibility.md` has the figures.

mod support;

use attestation::digest::Algorithm;
use attestation::tpm::{
    Command, Key, NvPublic, ObjectAttributes, Public, Response, Scheme, rc, rh, template,
};
use support::{Session, Setup, command};

/// TPMA_NV: AUTHWRITE, AUTHREAD, OWNERWRITE, OWNERREAD, NO_DA.
const ORDINARY: u32 = 1 << 2 | 1 << 18 | 1 << 1 | 1 << 17 | 1 << 25;
/// TPMA_NV: TPM_NT of an index that is extended like a PCR, as systemd's NvPCRs are.
const EXTEND: u32 = 4 << 4;
/// TPMA_NV: TPM_NT of a counter.
const COUNTER: u32 = 1 << 4;
/// TPMA_NV_ORDERLY: the content is in RAM, and in NV memory after TPM2_Shutdown only.
const ORDERLY: u32 = 1 << 26;
/// TPM_CC_LoadExternal.
const LOAD_EXTERNAL: u32 = 0x167;
/// TPM_RC_VALUE of the second parameter.
const VALUE_OF_PARAMETER_2: u32 = 0x2C4;

/// How many indices of this kind fit, which are then taken away again.
fn fit(session: &mut Session, attributes: u32, name: Algorithm, size: u16) -> u32 {
    let indices = 0x0180_1000..;
    let mut count = 0;
    for index in indices.clone() {
        let public = NvPublic {
            name_algorithm: name,
            ..NvPublic::new(index, ORDINARY | attributes, size)
        };
        match session.code(&command::nv_define_space(rh::OWNER, &[], &public)) {
            rc::SUCCESS => count += 1,
            code => {
                assert_eq!(code, rc::NV_SPACE);
                break;
            }
        }
    }
    for index in indices.take(count as usize) {
        session.ok(&command::nv_undefine_space(rh::OWNER, index));
    }
    count
}

/// The archive's RAM for orderly indices is 512 bytes (RAM_INDEX_SPACE): each takes its content and 12 bytes more.
#[test]
fn orderly_indices_have_512_bytes_of_which_l1_takes_none() {
    let mut session = Setup::default().start();
    for index in command::nv_indices(&mut session) {
        let attributes = command::nv_public(&mut session, index).attributes;
        assert_eq!(attributes & ORDERLY, 0, "L1's index {index:#x}");
    }
    let rows = [
        (EXTEND, Algorithm::Sha256, 32, 11),
        (EXTEND, Algorithm::Sha384, 48, 8),
        (COUNTER, Algorithm::Sha256, 8, 25),
    ];
    for (kind, name, size, expected) in rows {
        let found = fit(&mut session, kind | ORDERLY, name, size);
        assert_eq!(found, expected, "{kind:#x}, {size} bytes");
    }
}

/// The NV memory has 176,832 bytes for all that is kept. How much L1's certificates take of it differs by some bytes from
/// boot to boot.
#[test]
fn indices_that_are_not_orderly_have_the_rest_of_the_nv_memory() {
    let mut session = Setup::default().start();
    for (kind, size, expected) in [(EXTEND, 32, 770), (0, 2048, 60)] {
        let found = fit(&mut session, kind, Algorithm::Sha256, size);
        assert!(found >= expected, "{found} of {size} bytes");
    }
}

/// A public RSA key of this length, as verifiers load it.
fn rsa(bits: u16) -> Public {
    // Odd, and with the highest bit set.
    let modulus = vec![0xA5; usize::from(bits / 8)];
    Public {
        name_algorithm: Algorithm::Sha256,
        attributes: ObjectAttributes(1 << 6 | 1 << 18),
        auth_policy: Vec::new(),
        scheme: Scheme::Null,
        key: Key::Rsa {
            bits,
            exponent: 0,
            modulus,
        },
        ..template::ak_rsa_2048()
    }
}

/// As the archive was built: MAX_RSA_KEY_BITS is 3072.
#[test]
fn rsa_keys_have_up_to_3072_bits() {
    let mut session = Setup::default().start();
    for (bits, expected) in [
        (1024, rc::SUCCESS),
        (2048, rc::SUCCESS),
        (3072, rc::SUCCESS),
        (4096, VALUE_OF_PARAMETER_2),
    ] {
        let load = Command::new(LOAD_EXTERNAL)
            .sized(&[])
            .sized(&rsa(bits).to_bytes())
            .u32(rh::NULL)
            .to_bytes();
        let response = session.execute(&load);
        assert_eq!(
            attestation::tpm::response_code(&response),
            Some(expected),
            "{bits} bits"
        );
        if let Ok(Response {
            handle: Some(handle),
            ..
        }) = Response::parse_with_handle(&response)
        {
            session.ok(&command::flush_context(handle));
        }
    }
}
