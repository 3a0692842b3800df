//! A command of the guest's and the response to it, parsed once: what the command can touch before it runs, and
//! what it has done when it has succeeded.
//!
//! TPM 2.0 Library, part 3, has the layouts. Nothing is judged here: the engine executes the command, and says whether
//! it succeeded.

use attestation::journal::StartupType;
use attestation::tpm::{cc, rh};
use attestation::window::{NV_REPORT, NV_SELECTOR, NV_USER_DATA};

use crate::evidence::CERTIFICATE_INDICES;

mod guess;

pub(crate) use self::guess::{
    Authorizations, counts_uses, nv_indices, pin_defined, tells_of_guesses,
};

/// Where the handles begin, behind tag, size and code.
const HANDLES: usize = 10;

/// No command has more handles.
const MOST_HANDLES: usize = 3;

/// TPM_ST_SESSIONS.
const SESSIONS: u16 = 0x8002;

/// TPM_CAP_HANDLES.
const CAP_HANDLES: u32 = 1;

/// TPM_HT_NV_INDEX.
const HT_NV_INDEX: u32 = 0x01;

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

bitflags::bitflags! {
    /// What of L1's a command can see or stand in the way of.
    ///
    /// Of a command's first three words any may be a handle: which are depends on the command. What looks like one
    /// and is not does no harm.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Touches: u8 {
        /// The TPM's identity: its keys, their handles and NV indices; or transient slots, NV space and
        /// hierarchies, which are needed to make it.
        const IDENTITY = 1 << 0;
        /// What NV indices there are, or the first piece of the authority's certificate: whoever asks has read no
        /// piece yet, so that a new certificate can take the place of the former.
        const CERTIFICATE_FIRST = 1 << 1;
        /// A piece of that certificate, maybe in the midst of reading it.
        const CERTIFICATE_PIECE = 1 << 2;
        /// The report.
        const REPORT = 1 << 3;
    }
}

/// What a command does if it succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action<'a> {
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
    /// The platform defines an NV index.
    NvDefine { index: u32 },
    /// The platform undefines an NV index.
    NvUndefine { index: u32 },
    /// A PCR is extended with these TPML_DIGEST_VALUES; empty if they are not where they should be,
    /// for then the PCR changes nevertheless.
    PcrExtend { pcr: u32, digests: &'a [u8] },
    /// A PCR is extended with the TPML_DIGEST_VALUES of the response.
    PcrEvent { pcr: u32 },
    /// TPM2_PCR_Reset.
    PcrReset { pcr: u32 },
    /// The relying party's data is written.
    UserData,
    /// Something is selected for the window.
    Selector,
}

/// A command, as far as it matters to journal, identity and evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    /// TPM_CC; `None` when the command is shorter than its header.
    pub(crate) code: Option<u32>,
    /// Whether it has an authorization.
    pub(crate) authorized: bool,
    pub(crate) touches: Touches,
    pub(crate) action: Action<'a>,
}

impl<'a> Request<'a> {
    /// Of any bytes: what cannot be read is the engine's to refuse.
    pub(crate) fn parse(command: &'a [u8]) -> Self {
        let command = Command(command);
        Self {
            code: command.code(),
            authorized: u16_at(command.0, 0) == Some(SESSIONS),
            touches: command.touches(),
            action: command.action().unwrap_or(Action::Other),
        }
    }
}

/// The outcome of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// It failed.
    Failed,
    /// It succeeded.
    Succeeded {
        /// Of a response without handles; empty if they are not where they should be.
        parameters: &'a [u8],
    },
}

impl<'a> Answer<'a> {
    /// Of a response as the engine gave it.
    pub(crate) fn parse(response: &'a [u8]) -> Self {
        if u32_at(response, 6) != Some(0) {
            return Self::Failed;
        }
        Self::Succeeded {
            parameters: response_parameters(response).unwrap_or_default(),
        }
    }
}

fn response_parameters(response: &[u8]) -> Option<&[u8]> {
    if u16_at(response, 0)? != SESSIONS {
        return response.get(HANDLES..);
    }
    let length = usize::try_from(u32_at(response, HANDLES)?).ok()?;
    response.get(HANDLES + 4..)?.get(..length)
}

/// A command as it came.
#[derive(Clone, Copy, Debug)]
struct Command<'a>(&'a [u8]);

impl<'a> Command<'a> {
    /// TPM_CC; `None` when the command is shorter than its header.
    fn code(self) -> Option<u32> {
        u32_at(self.0, 6)
    }

    /// The word at this place, if that many bytes are there: a handle, or what follows the handles.
    fn handle(self, place: usize) -> Option<u32> {
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

    fn touches(self) -> Touches {
        let mut touches = Touches::empty();
        touches.set(Touches::IDENTITY, self.needs_identity());
        let begins = self.begins_certificate();
        touches.set(Touches::CERTIFICATE_FIRST, begins);
        for handle in (0..MOST_HANDLES).filter_map(|place| self.handle(place)) {
            if handle == NV_REPORT {
                touches |= Touches::REPORT;
            } else if CERTIFICATE_INDICES.contains(&handle) && !begins {
                touches |= Touches::CERTIFICATE_PIECE;
            }
        }
        touches
    }

    /// A command that is cut off before its code is the engine's to refuse.
    fn needs_identity(self) -> bool {
        match self.code() {
            None => false,
            Some(cc::GET_CAPABILITY) => self.handle(0) == Some(CAP_HANDLES),
            Some(code) => !BLIND.contains(&code),
        }
    }

    fn begins_certificate(self) -> bool {
        match self.code() {
            Some(cc::GET_CAPABILITY) => {
                // Capability and property: the first handle to be listed.
                self.handle(0) == Some(CAP_HANDLES)
                    && self.handle(1).map(|first| first >> 24) == Some(HT_NV_INDEX)
            }
            Some(cc::NV_READ_PUBLIC) => self.handle(0) == Some(rh::NV_EK_CHAIN),
            _ => false,
        }
    }

    fn action(self) -> Option<Action<'a>> {
        let code = self.code()?;
        Some(match code {
            cc::STARTUP => Action::Startup(self.startup_type()?),
            cc::SHUTDOWN => Action::Shutdown(self.startup_type()?),
            cc::CLEAR => Action::Clear,
            // Its parameter is a secret, and short enough to be guessed from a digest.
            cc::HIERARCHY_CHANGE_AUTH => Action::Hierarchy {
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
            | cc::DICTIONARY_ATTACK_PARAMETERS => Action::Hierarchy {
                command: code,
                handle: self.handle(0)?,
                parameters: self.parameters(1)?,
            },
            cc::NV_DEFINE_SPACE if self.handle(0)? == rh::PLATFORM => Action::NvDefine {
                index: self.defined_index()?,
            },
            cc::NV_UNDEFINE_SPACE if self.handle(0)? == rh::PLATFORM => Action::NvUndefine {
                index: self.handle(1)?,
            },
            cc::NV_UNDEFINE_SPACE_SPECIAL => Action::NvUndefine {
                index: self.handle(0)?,
            },
            cc::PCR_EXTEND => Action::PcrExtend {
                pcr: self.handle(0)?,
                digests: self.parameters(1).unwrap_or_default(),
            },
            cc::PCR_EVENT | cc::EVENT_SEQUENCE_COMPLETE => Action::PcrEvent {
                pcr: self.handle(0)?,
            },
            cc::PCR_RESET => Action::PcrReset {
                pcr: self.handle(0)?,
            },
            cc::NV_WRITE => match self.handle(1)? {
                NV_USER_DATA => Action::UserData,
                NV_SELECTOR => Action::Selector,
                _ => Action::Other,
            },
            _ => Action::Other,
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

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
