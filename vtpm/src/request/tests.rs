//! What commands touch and do, and that no bytes make the parser fail.

use alloc::vec::Vec;
use attestation::digest::{Algorithm, Digest};
use attestation::tpm::{Command as Build, NvPublic, commands};
use proptest::prelude::*;

use super::*;

const NONE: Touches = Touches::empty();
const IDENTITY: Touches = Touches::IDENTITY;

/// Where TPM2_PCR_Extend has its digests: behind header, handle and an empty password.
const EXTEND_DIGESTS: usize = 10 + 4 + 4 + 9;

#[test]
fn each_command_touches_and_does_what_the_library_says() {
    let platforms = NvPublic::new(0x0180_0001, 0x4001_0001, 8);
    let extend = commands::pcr_extend(10, &[Digest::zero(Algorithm::Sha256)]);
    let piece = rh::NV_EK_CHAIN + 1;
    let beginning = IDENTITY | Touches::CERTIFICATE_FIRST;
    let in_midst = IDENTITY | Touches::CERTIFICATE_PIECE;
    let report = IDENTITY | Touches::REPORT;
    let nv_define_platform = commands::nv_define_space(rh::PLATFORM, &[7; 5], &platforms);
    let undefine_special = Build::new(cc::NV_UNDEFINE_SPACE_SPECIAL)
        .handle(0x0180_0001)
        .authorized(rh::PLATFORM, &[])
        .to_bytes();
    let stir = Build::new(cc::STIR_RANDOM).sized(&[1, 2]).to_bytes();
    let table: &[(&str, Vec<u8>, Touches, Action<'_>)] = &[
        // What a kernel's driver sends while it boots.
        ("self-test", commands::self_test(true), NONE, Action::Other),
        ("random", commands::get_random(32), NONE, Action::Other),
        ("stir", stir, NONE, Action::Other),
        ("clock", commands::read_clock(), NONE, Action::Other),
        (
            "properties",
            commands::get_capability(6, 0x100, 1),
            NONE,
            Action::Other,
        ),
        (
            "extend",
            extend.clone(),
            NONE,
            Action::PcrExtend {
                pcr: 10,
                digests: &extend[EXTEND_DIGESTS..],
            },
        ),
        (
            "event",
            commands::pcr_event(11, b"event"),
            NONE,
            Action::PcrEvent { pcr: 11 },
        ),
        // Its life.
        (
            "startup",
            commands::startup(StartupType::State),
            IDENTITY,
            Action::Startup(StartupType::State),
        ),
        (
            "shutdown",
            commands::shutdown(StartupType::Clear),
            IDENTITY,
            Action::Shutdown(StartupType::Clear),
        ),
        (
            "unknown startup",
            Build::new(cc::STARTUP).u16(7).to_bytes(),
            IDENTITY,
            Action::Other,
        ),
        ("clear", commands::clear(), IDENTITY, Action::Clear),
        (
            "PCR reset",
            commands::pcr_reset(16),
            IDENTITY,
            Action::PcrReset { pcr: 16 },
        ),
        (
            "sequence",
            commands::event_sequence_complete(9, 0x8000_0000, b"event"),
            IDENTITY,
            Action::PcrEvent { pcr: 9 },
        ),
        (
            "sequence start",
            commands::event_sequence_start(),
            IDENTITY,
            Action::Other,
        ),
        (
            "change auth",
            commands::hierarchy_change_auth((rh::OWNER, &b"old"[..]), b"new"),
            IDENTITY,
            // Secrets are no parameters.
            Action::Hierarchy {
                command: cc::HIERARCHY_CHANGE_AUTH,
                handle: rh::OWNER,
                parameters: &[],
            },
        ),
        // Keys and handles.
        (
            "read public",
            commands::read_public(rh::AK),
            IDENTITY,
            Action::Other,
        ),
        (
            "evict",
            commands::evict_control(rh::AK, rh::AK),
            IDENTITY,
            Action::Other,
        ),
        (
            "handles",
            commands::get_capability(1, 0x8100_0000, 8),
            IDENTITY,
            Action::Other,
        ),
        (
            "indices",
            commands::get_capability(1, 0x0100_0000, 8),
            beginning,
            Action::Other,
        ),
        // NV indices.
        (
            "certificate",
            commands::nv_read_public(rh::NV_EK_P256),
            IDENTITY,
            Action::Other,
        ),
        (
            "chain",
            commands::nv_read_public(rh::NV_EK_CHAIN),
            beginning,
            Action::Other,
        ),
        (
            "chain read",
            commands::nv_read(rh::OWNER, rh::NV_EK_CHAIN, 0, 9),
            in_midst,
            Action::Other,
        ),
        (
            "next piece",
            commands::nv_read_public(piece),
            in_midst,
            Action::Other,
        ),
        (
            "by itself",
            commands::nv_read(piece, piece, 0, 9),
            in_midst,
            Action::Other,
        ),
        (
            "behind it",
            commands::nv_read_public(rh::NV_EK_CHAIN + 0x10),
            IDENTITY,
            Action::Other,
        ),
        (
            "report",
            commands::nv_read_public(NV_REPORT),
            report,
            Action::Other,
        ),
        (
            "report read",
            commands::nv_read(rh::OWNER, NV_REPORT, 0, 9),
            report,
            Action::Other,
        ),
        (
            "user data",
            commands::nv_write(NV_USER_DATA, NV_USER_DATA, 0, &[1; 64]),
            IDENTITY,
            Action::UserData,
        ),
        (
            "selector",
            commands::nv_write(rh::OWNER, NV_SELECTOR, 0, &[1; 8]),
            IDENTITY,
            Action::Selector,
        ),
        (
            "other",
            commands::nv_write(rh::OWNER, 0x0150_0000, 0, &[1]),
            IDENTITY,
            Action::Other,
        ),
        (
            "define",
            commands::nv_define_space(rh::OWNER, &[], &platforms),
            IDENTITY,
            Action::Other,
        ),
        (
            "platform defines",
            nv_define_platform,
            IDENTITY,
            Action::NvDefine { index: 0x0180_0001 },
        ),
        (
            "undefine",
            commands::nv_undefine_space(rh::OWNER, 0x0150_0000),
            IDENTITY,
            Action::Other,
        ),
        (
            "platform undefines",
            commands::nv_undefine_space(rh::PLATFORM, 0x0180_0001),
            IDENTITY,
            Action::NvUndefine { index: 0x0180_0001 },
        ),
        (
            "undefine special",
            undefine_special,
            IDENTITY,
            Action::NvUndefine { index: 0x0180_0001 },
        ),
        // The engine's to refuse.
        ("nothing", Vec::new(), NONE, Action::Other),
        (
            "cut before its code",
            commands::clear()[..9].to_vec(),
            NONE,
            Action::Other,
        ),
        (
            "code alone",
            commands::pcr_event(8, &[])[..10].to_vec(),
            NONE,
            Action::Other,
        ),
    ];
    for (name, command, touches, action) in table {
        let request = Request::parse(command);
        assert_eq!(
            (request.touches, request.action),
            (*touches, *action),
            "{name}"
        );
    }
}

#[test]
fn parameters_begin_behind_the_authorizations() {
    for code in [
        cc::HIERARCHY_CONTROL,
        cc::SET_PRIMARY_POLICY,
        cc::CLEAR_CONTROL,
        cc::CHANGE_EPS,
        cc::CHANGE_PPS,
        cc::PCR_ALLOCATE,
        cc::DICTIONARY_ATTACK_PARAMETERS,
    ] {
        let plain = Build::new(code).handle(rh::OWNER).bytes(b"parameters");
        let authorized = Build::new(code)
            .authorized(rh::OWNER, b"a password")
            .bytes(b"parameters");
        for command in [plain.to_bytes(), authorized.to_bytes()] {
            assert_eq!(
                Request::parse(&command).action,
                Action::Hierarchy {
                    command: code,
                    handle: rh::OWNER,
                    parameters: b"parameters",
                }
            );
        }
    }
}

#[test]
fn an_extend_whose_digests_are_not_found_is_still_one() {
    let extend = commands::pcr_extend(8, &[Digest::zero(Algorithm::Sha1)]);
    for cut in [14, 17, 18, EXTEND_DIGESTS - 1] {
        assert_eq!(
            Request::parse(&extend[..cut]).action,
            Action::PcrExtend {
                pcr: 8,
                digests: &[],
            }
        );
    }
    assert_eq!(Request::parse(&extend[..13]).action, Action::Other);
}

#[test]
fn a_response_with_sessions_has_its_parameters_before_them() {
    let mut response = [0x80, 0x02, 0, 0, 0, 22, 0, 0, 0, 0, 0, 0, 0, 4].to_vec();
    response.extend([1, 2, 3, 4]);
    let parameters = |parameters| Answer::Succeeded { parameters };
    for cut in [10, 13, 14, 17] {
        assert_eq!(Answer::parse(&response[..cut]), parameters(&[]));
    }
    response.extend([0, 0, 0, 0, 0]);
    assert_eq!(Answer::parse(&response), parameters(&[1, 2, 3, 4]));
    response[1] = 0x01;
    assert_eq!(Answer::parse(&response), parameters(&response[10..]));
}

#[test]
fn a_response_with_a_code_or_without_one_is_of_a_failure() {
    assert_eq!(Answer::parse(&crate::message::FAILURE), Answer::Failed);
    for cut in 0..10 {
        assert_eq!(
            Answer::parse(&[0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0][..cut]),
            Answer::Failed
        );
    }
}

/// Bytes that are a command's at their start, with any code that is told apart, and any bytes at all.
fn command() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just(rh::PLATFORM),
        Just(rh::NV_EK_CHAIN),
        Just(NV_REPORT),
        Just(NV_SELECTOR),
        0..40u32,
        any::<u32>(),
    ];
    let words = prop::collection::vec(word, 0..5);
    let rest = prop::collection::vec(any::<u8>(), 0..40);
    let built =
        (any::<bool>(), 0x11f..=0x190u32, words, rest).prop_map(|(sessions, code, words, rest)| {
            let mut command: Vec<u8> = [0x80, 1 + u8::from(sessions), 0, 0, 0, 0].into();
            command.extend(code.to_be_bytes());
            command.extend(words.into_iter().flat_map(u32::to_be_bytes));
            command.extend(rest);
            command
        });
    prop_oneof![4 => built, 1 => prop::collection::vec(any::<u8>(), 0..60)]
}

#[test]
fn a_command_says_who_it_is_and_whether_it_is_authorized() {
    let said = |command: &[u8]| {
        let request = Request::parse(command);
        (request.code, request.authorized)
    };
    assert_eq!(
        said(&commands::get_random(8)),
        (Some(cc::GET_RANDOM), false)
    );
    assert_eq!(said(&commands::clear()), (Some(cc::CLEAR), true));
    assert_eq!(said(&commands::clear()[..9]), (None, true));
    assert_eq!(said(&[]), (None, false));
}

proptest! {
    #[test]
    fn any_bytes_are_parsed(command in command(), cut in any::<prop::sample::Index>()) {
        let cut = &command[..cut.index(command.len() + 1)];
        for command in [&command, cut] {
            let Request { touches, action, .. } = Request::parse(command);
            prop_assert!(!touches.contains(Touches::CERTIFICATE_FIRST | Touches::CERTIFICATE_PIECE));
            // What is told in a record but for a PCR's change, the identity comes before.
            let blind = matches!(
                action,
                Action::Other | Action::PcrExtend { .. } | Action::PcrEvent { .. }
            );
            prop_assert!(blind || touches.contains(Touches::IDENTITY));
        }
        let _ = Answer::parse(&command);
        let _ = Answer::parse(cut);
    }

    /// A command tells what it does whatever authorizes it.
    #[test]
    fn authorizations_do_not_matter(
        password in prop::collection::vec(any::<u8>(), 0..70),
        pcr in 0..24u32,
        parameters in prop::collection::vec(any::<u8>(), 0..70),
    ) {
        let build = |password: &[u8]| {
            let command = Build::new(cc::PCR_EXTEND).authorized(pcr, password);
            command.bytes(&parameters).to_bytes()
        };
        let command = build(&password);
        let expected = Action::PcrExtend { pcr, digests: &parameters };
        prop_assert_eq!(Request::parse(&command).action, expected);
        let without = build(&[]);
        prop_assert_eq!(Request::parse(&without).action, expected);
    }
}
