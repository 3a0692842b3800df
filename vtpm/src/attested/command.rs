//! What a command means to the journal and to the evidence, told from its bytes and its response's.
//!
//! TPM 2.0 Library, part 3, has the layouts. Nothing is judged here: the engine has executed the
//! command already and said that it succeeded.

use attestation::journal::StartupType;
use attestation::tpm::{cc, rh};
use attestation::window::{NV_SELECTOR, NV_USER_DATA};

/// Where the handles begin, behind tag, size and code.
const HANDLES: usize = 10;

/// TPM_ST_SESSIONS.
const SESSIONS: u16 = 0x8002;

/// TPM_CAP_HANDLES.
pub(super) const CAP_HANDLES: u32 = 1;

/// Commands that have to do with PCRs, random numbers and self-tests alone: what a kernel's driver sends
/// while it boots. Sessions that they could use need another command first.
const BLIND: [u32; 9] = [
    cc::SELF_TEST,
    cc::INCREMENTAL_SELF_TEST,
    cc::GET_TEST_RESULT,
    cc::GET_RANDOM,
    cc::STIR_RANDOM,
    cc::PCR_READ,
    cc::PCR_EXTEND,
    cc::PCR_EVENT,
    cc::READ_CLOCK,
];

/// A command as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command<'a>(pub(super) &'a [u8]);

/// A response as it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Response<'a>(pub(super) &'a [u8]);

/// What a command that succeeded has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect<'a> {
    /// Nothing that is told apart from other commands.
    Other,
    /// TPM2_Startup.
    Startup(StartupType),
    /// TPM2_Shutdown.
    Shutdown(StartupType),
    /// TPM2_Clear.
    Clear,
    /// A command of the record `hierarchy`.
    Hierarchy {
        command: u32,
        handle: u32,
        parameters: &'a [u8],
    },
    /// The platform has defined an NV index.
    NvDefined { index: u32 },
    /// The platform has undefined an NV index.
    NvUndefined { index: u32 },
    /// A PCR was extended with these TPML_DIGEST_VALUES; empty if they are not where they should be,
    /// for then the PCR has changed nevertheless.
    PcrExtend { pcr: u32, digests: &'a [u8] },
    /// TPM2_PCR_Reset.
    PcrReset { pcr: u32 },
    /// The relying party's data was written.
    UserData,
    /// Something was selected for the window.
    Selector,
}

impl<'a> Command<'a> {
    /// TPM_CC; `None` when the command is shorter than its header.
    pub(super) fn code(self) -> Option<u32> {
        u32_at(self.0, 6)
    }

    /// The handle at this place, if that many bytes are there: which are handles depends on the
    /// command.
    pub(super) fn handle(self, place: usize) -> Option<u32> {
        u32_at(self.0, HANDLES + 4 * place)
    }

    /// Everything behind handles and authorizations.
    fn parameters(self, handles: usize) -> Option<&'a [u8]> {
        let mut at = HANDLES + 4 * handles;
        if u16_at(self.0, 0)? == SESSIONS {
            let authorizations = usize::try_from(u32_at(self.0, at)?).ok()?;
            at = at.checked_add(4)?.checked_add(authorizations)?;
        }
        self.0.get(at..)
    }

    /// The index of the platform that this command would take away, so that its attributes can be
    /// asked for as long as it has some.
    pub(super) fn undefines(self) -> Option<u32> {
        match self.code()? {
            cc::NV_UNDEFINE_SPACE if self.handle(0)? == rh::PLATFORM => self.handle(1),
            cc::NV_UNDEFINE_SPACE_SPECIAL => self.handle(0),
            _ => None,
        }
    }

    /// Whether the command could see the TPM's identity (its keys, their handles and NV indices) or
    /// stand in its way (by taking transient slots, NV space or a hierarchy). A command that is cut off
    /// before its code is the engine's to refuse.
    pub(super) fn needs_identity(self) -> bool {
        match self.code() {
            None => false,
            Some(cc::GET_CAPABILITY) => self.handle(0) == Some(CAP_HANDLES),
            Some(code) => !BLIND.contains(&code),
        }
    }

    /// What the command did. `response` says that it succeeded.
    pub(super) fn effect(self, response: Response<'a>) -> Effect<'a> {
        self.known_effect(response).unwrap_or(Effect::Other)
    }

    fn known_effect(self, response: Response<'a>) -> Option<Effect<'a>> {
        let code = self.code()?;
        Some(match code {
            cc::STARTUP => Effect::Startup(self.startup_type()?),
            cc::SHUTDOWN => Effect::Shutdown(self.startup_type()?),
            cc::CLEAR => Effect::Clear,
            // Its parameter is a secret, and short enough to be guessed from a digest.
            cc::HIERARCHY_CHANGE_AUTH => Effect::Hierarchy {
                command: code,
                handle: self.handle(0)?,
                parameters: &[],
            },
            cc::HIERARCHY_CONTROL
            | cc::SET_PRIMARY_POLICY
            | cc::CLEAR_CONTROL
            | cc::CHANGE_EPS
            | cc::CHANGE_PPS
            | cc::PCR_ALLOCATE
            | cc::DICTIONARY_ATTACK_PARAMETERS => Effect::Hierarchy {
                command: code,
                handle: self.handle(0)?,
                parameters: self.parameters(1)?,
            },
            cc::NV_DEFINE_SPACE if self.handle(0)? == rh::PLATFORM => Effect::NvDefined {
                index: self.defined_index()?,
            },
            cc::NV_UNDEFINE_SPACE | cc::NV_UNDEFINE_SPACE_SPECIAL => Effect::NvUndefined {
                index: self.undefines()?,
            },
            cc::PCR_EXTEND => Effect::PcrExtend {
                pcr: self.handle(0)?,
                digests: self.parameters(1).unwrap_or_default(),
            },
            cc::PCR_EVENT | cc::EVENT_SEQUENCE_COMPLETE => Effect::PcrExtend {
                pcr: self.handle(0)?,
                digests: response.parameters().unwrap_or_default(),
            },
            cc::PCR_RESET => Effect::PcrReset {
                pcr: self.handle(0)?,
            },
            cc::NV_WRITE => match self.handle(1)? {
                NV_USER_DATA => Effect::UserData,
                NV_SELECTOR => Effect::Selector,
                _ => Effect::Other,
            },
            _ => Effect::Other,
        })
    }

    fn startup_type(self) -> Option<StartupType> {
        StartupType::from_code(u16_at(self.parameters(0)?, 0)?)
    }

    /// nvIndex of TPM2_NV_DefineSpace's TPM2B_NV_PUBLIC, which follows a TPM2B_AUTH.
    fn defined_index(self) -> Option<u32> {
        let parameters = self.parameters(1)?;
        let auth = usize::from(u16_at(parameters, 0)?);
        u32_at(parameters, 2 + auth + 2)
    }
}

impl<'a> Response<'a> {
    /// Whether the command succeeded.
    pub(super) fn is_success(self) -> bool {
        u32_at(self.0, 6) == Some(0)
    }

    /// The parameters of a response without handles.
    fn parameters(self) -> Option<&'a [u8]> {
        if u16_at(self.0, 0)? != SESSIONS {
            return self.0.get(HANDLES..);
        }
        let length = usize::try_from(u32_at(self.0, HANDLES)?).ok()?;
        self.0.get(HANDLES + 4..)?.get(..length)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use attestation::tpm::Command as Build;
    use proptest::prelude::*;

    const SUCCESS: [u8; 10] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0];

    #[test]
    fn parameters_begin_behind_the_authorizations() {
        let plain = Build::new(cc::HIERARCHY_CONTROL)
            .handle(rh::OWNER)
            .bytes(b"parameters");
        let authorized = Build::new(cc::HIERARCHY_CONTROL)
            .authorized(rh::OWNER, b"a password")
            .bytes(b"parameters");
        for command in [plain.to_bytes(), authorized.to_bytes()] {
            let effect = Command(&command).effect(Response(&SUCCESS));
            assert_eq!(
                effect,
                Effect::Hierarchy {
                    command: cc::HIERARCHY_CONTROL,
                    handle: rh::OWNER,
                    parameters: b"parameters",
                }
            );
        }
    }

    #[test]
    fn a_response_with_sessions_has_its_parameters_before_them() {
        let command = Build::new(cc::PCR_EVENT).authorized(8, &[]).to_bytes();
        let mut response = [0x80, 0x02, 0, 0, 0, 22, 0, 0, 0, 0, 0, 0, 0, 4].to_vec();
        response.extend([1, 2, 3, 4]);
        response.extend([0, 0, 0, 0, 0]);
        assert_eq!(
            Command(&command).effect(Response(&response)),
            Effect::PcrExtend {
                pcr: 8,
                digests: &[1, 2, 3, 4],
            }
        );
    }

    #[test]
    fn an_extend_whose_digests_are_not_found_is_still_one() {
        let command = Build::new(cc::PCR_EVENT).authorized(8, &[]).to_bytes();
        for cut in [10, 13, 14, 17] {
            let response = [0x80, 0x02, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4];
            assert_eq!(
                Command(&command).effect(Response(&response[..cut])),
                Effect::PcrExtend {
                    pcr: 8,
                    digests: &[],
                }
            );
        }
    }

    #[test]
    fn secrets_are_no_parameters() {
        let command = Build::new(cc::HIERARCHY_CHANGE_AUTH)
            .authorized(rh::OWNER, b"old")
            .sized(b"new")
            .to_bytes();
        assert_eq!(
            Command(&command).effect(Response(&SUCCESS)),
            Effect::Hierarchy {
                command: cc::HIERARCHY_CHANGE_AUTH,
                handle: rh::OWNER,
                parameters: &[],
            }
        );
    }

    /// Of every command that is told apart.
    fn code() -> impl Strategy<Value = u32> {
        0x11f..=0x190u32
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            sessions: bool,
            code in code(),
            command in prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..40),
            response in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut whole: Vec<u8> = [0x80, 1 + u8::from(sessions), 0, 0, 0, 0].into();
            whole.extend(code.to_be_bytes());
            whole.extend(&command);
            for command in [&whole[..], &command, &whole[..whole.len().min(12)]] {
                let _ = Command(command).effect(Response(&response));
                let _ = Command(command).undefines();
            }
        }
    }
}
