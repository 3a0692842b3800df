//! What every command and response begins with (TPM 2.0 Library, part 1, "Command/Response Structure").

/// Bytes of a header: tag, size, code.
pub(crate) const HEADER_SIZE: usize = 10;

/// TPM_ST_NO_SESSIONS and TPM_ST_SESSIONS: what a command may begin with.
pub(crate) const TAGS: [[u8; 2]; 2] = [[0x80, 0x01], [0x80, 0x02]];

/// TPM_RC_BAD_TAG, as a whole response.
pub(crate) const BAD_TAG: [u8; HEADER_SIZE] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0x1E];

/// TPM_RC_VALUE of nothing that has a number, as a whole response.
pub(crate) const VALUE: [u8; HEADER_SIZE] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0x84];

/// TPM_RC_FAILURE, as a whole response: of a TPM in failure mode, or that has no other.
pub(crate) const FAILURE: [u8; HEADER_SIZE] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01];

/// TPM_RC_NV_UNAVAILABLE, as a whole response: the command had no effect, and may have one later.
pub(crate) const NV_UNAVAILABLE: [u8; HEADER_SIZE] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x23];

/// TPM_RC_CANCELED, as a whole response: the command had no effect.
pub(crate) const CANCELED: [u8; HEADER_SIZE] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x09];

/// The size that a header says its message has; `None` until that many bytes are there.
pub(crate) fn declared_size(message: &[u8]) -> Option<usize> {
    let size = message.get(2..6)?.first_chunk()?;
    usize::try_from(u32::from_be_bytes(*size)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use attestation::tpm::{Response, ResponseError, rc};

    #[test]
    fn responses_without_the_engine_are_whole() {
        assert_eq!(
            Response::parse(&FAILURE).err(),
            Some(ResponseError::Code(rc::FAILURE))
        );
        assert_eq!(
            Response::parse(&NV_UNAVAILABLE).err(),
            Some(ResponseError::Code(rc::NV_UNAVAILABLE))
        );
        assert_eq!(
            Response::parse(&CANCELED).err(),
            Some(ResponseError::Code(rc::CANCELED))
        );
        for response in [FAILURE, NV_UNAVAILABLE, CANCELED, BAD_TAG, VALUE] {
            assert_eq!(declared_size(&response), Some(HEADER_SIZE));
        }
    }

    #[test]
    fn a_size_is_there_with_its_last_byte() {
        assert_eq!(declared_size(&FAILURE[..5]), None);
        assert_eq!(declared_size(&FAILURE[..6]), Some(10));
    }
}
