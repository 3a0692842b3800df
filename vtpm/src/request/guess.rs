//! What a command has to do with authorization values that are guessed.

use attestation::tpm::{cc, rh};

use super::{Command, HANDLES, HT_NV_INDEX, MOST_HANDLES, SESSIONS, u16_at, u32_at};

/// TPM_CAP_TPM_PROPERTIES.
const CAP_TPM_PROPERTIES: u32 = 6;
/// The first property that is not fixed (TPM_PT, PT_VAR): among them are the counter of wrong guesses, and whether there
/// were too many.
const PT_VAR: u32 = 0x200;
/// The first byte of a PCR's handle (TPM_HT_PCR).
const HT_PCR: u32 = 0;
/// Bytes of an empty password: handle, empty nonce, attributes, empty value (TPM 2.0 Library, part 2,
/// "TPMS_AUTH_COMMAND").
const EMPTY_PASSWORD: usize = 9;

/// What authorizes a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authorizations {
    /// Nothing, or so many empty passwords. Nobody guesses with them.
    Empty(usize),
    /// A password, or a session.
    Values,
}

impl Authorizations {
    /// Of a command with so many handles. What cannot be read is taken for values.
    pub(crate) fn of(command: &[u8], handles: usize) -> Self {
        if u16_at(command, 0) != Some(SESSIONS) {
            return Self::Empty(0);
        }
        let at = HANDLES + 4 * handles;
        let area = u32_at(command, at)
            .and_then(|length| usize::try_from(length).ok())
            .and_then(|length| command.get(at + 4..)?.get(..length));
        let Some((all, [])) = area.map(<[u8]>::as_chunks::<EMPTY_PASSWORD>) else {
            return Self::Values;
        };
        let [a, b, c, d] = rh::PASSWORD.to_be_bytes();
        let empty = |one: &[u8; EMPTY_PASSWORD]| matches!(one, [e, f, g, h, 0, 0, _, 0, 0] if [*e, *f, *g, *h] == [a, b, c, d]);
        match all.iter().all(empty) {
            true => Self::Empty(all.len()),
            false => Self::Values,
        }
    }
}

/// The NV indices that a command may name. What looks like one and is not does no harm.
pub(crate) fn nv_indices(command: &[u8]) -> impl Iterator<Item = u32> {
    let words = (0..MOST_HANDLES).filter_map(move |place| Command(command).handle(place));
    words.filter(|handle| handle >> 24 == HT_NV_INDEX)
}

/// The index that a command defines which counts by itself how often its value was guessed or used.
pub(crate) fn pin_defined(command: &[u8]) -> Option<u32> {
    let command = Command(command);
    if command.code() != Some(cc::NV_DEFINE_SPACE) {
        return None;
    }
    let parameters = command.parameters(1)?;
    // TPM2B_AUTH; of TPM2B_NV_PUBLIC size, index, nameAlg, attributes.
    let public = 2 + usize::from(u16_at(parameters, 0)?);
    let attributes = u32_at(parameters, public + 8)?;
    counts_uses(attributes).then_some(u32_at(parameters, public + 2)?)
}

/// Whether an index with these TPMA_NV counts by itself: TPM_NT_PIN_FAIL, TPM_NT_PIN_PASS (TPM 2.0 Library, part 2,
/// "TPMA_NV").
pub(crate) const fn counts_uses(attributes: u32) -> bool {
    const TYPE: u32 = 0xF;
    const PIN_FAIL: u32 = 8;
    const PIN_PASS: u32 = 9;
    matches!(attributes >> 4 & TYPE, PIN_FAIL | PIN_PASS)
}

/// Whether a command with these authorizations can tell how many guesses were wrong: by the counter, or by an answer
/// that another one would have been.
pub(crate) fn tells_of_guesses(command: &[u8], authorizations: Authorizations) -> bool {
    let command = Command(command);
    match (command.code(), authorizations) {
        (Some(cc::GET_CAPABILITY), _) => {
            let [capability, property, count] = [0, 1, 2].map(|place| command.handle(place));
            let end = property.unwrap_or(0).saturating_add(count.unwrap_or(0));
            capability == Some(CAP_TPM_PROPERTIES) && end > PT_VAR
        }
        (_, Authorizations::Values) => true,
        (_, Authorizations::Empty(count)) => {
            // These have no part in the protection against dictionary attacks.
            let harmless = |handle: u32| {
                handle >> 24 == HT_PCR
                    || [rh::OWNER, rh::ENDORSEMENT, rh::PLATFORM, rh::NULL].contains(&handle)
            };
            (0..count).any(|place| !command.handle(place).is_some_and(harmless))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attestation::tpm::{Authorization, Command as Build, NvPublic, commands};
    use std::vec::Vec;

    const INDEX: u32 = 0x0150_0001;

    fn read(authorization: Authorization<'_>) -> Vec<u8> {
        commands::nv_read((INDEX, authorization), INDEX, 0, 8)
    }

    #[test]
    fn an_empty_password_is_no_guess_and_all_else_is() {
        let of = |command: &[u8]| Authorizations::of(command, 2);
        let empty = read(Authorization::password(&[]));
        assert_eq!(of(&empty), Authorizations::Empty(1));
        for command in [
            read(Authorization::password(b"x")),
            read(Authorization::policy(0x0300_0000)),
            read(Authorization {
                session: 0x0200_0000,
                nonce: &[1; 16],
                attributes: 0,
                hmac: &[2; 32],
            }),
            empty[..25].to_vec(),
        ] {
            assert_eq!(of(&command), Authorizations::Values, "{command:02x?}");
        }
        let none = Build::new(cc::NV_READ).handle(INDEX).to_bytes();
        assert_eq!(of(&none), Authorizations::Empty(0));
        // Of a command that has other handles than was thought.
        assert_eq!(Authorizations::of(&empty, 0), Authorizations::Values);
        assert_eq!(nv_indices(&empty).collect::<Vec<_>>(), [INDEX, INDEX]);
    }

    #[test]
    fn an_index_that_counts_is_known_when_it_is_defined() {
        for (attributes, expected) in [
            (0x0204_0082, Some(INDEX)),
            (0x0204_0092, Some(INDEX)),
            (0x0204_0012, None),
            (0x0204_0002, None),
        ] {
            let public = NvPublic::new(INDEX, attributes, 8);
            let define = commands::nv_define_space(rh::OWNER, b"value", &public);
            assert_eq!(pin_defined(&define), expected, "{attributes:#x}");
        }
        assert_eq!(pin_defined(&commands::clear()), None);
    }

    #[test]
    fn who_tells_of_guesses_is_known() {
        let tells = |command: &[u8], handles| {
            tells_of_guesses(command, Authorizations::of(command, handles))
        };
        for (property, count, expected) in [
            (0x100, 64, false),
            (0x200, 1, true),
            (0x20E, 1, true),
            (0x100, 0x101, true),
            (u32::MAX, u32::MAX, true),
        ] {
            let command = commands::get_capability(CAP_TPM_PROPERTIES, property, count);
            assert_eq!(tells(&command, 0), expected, "{property:#x}");
        }
        assert!(!tells(&commands::get_capability(1, 0x200, 9), 0));
        assert!(tells(&read(Authorization::password(&[])), 2));
        assert!(!tells(&commands::nv_read(rh::OWNER, INDEX, 0, 8), 2));
        assert!(tells(
            &commands::nv_read((rh::OWNER, &b"x"[..]), INDEX, 0, 8),
            2
        ));
        assert!(!tells(&commands::pcr_event(16, b"x"), 1));
        assert!(!tells(&commands::get_random(8), 0));
    }
}
