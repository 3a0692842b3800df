//! Whether td-shim has started L1, and nothing before it.
//!
//! td-shim starts the payload of its image only if the TD HOB does not name another one
//! (TD_PAYLOAD_INFO). What it measures tells the two apart: for the payload of the image RTMR0 has
//! the TD HOB and a separator, RTMR1 a separator, and RTMR2 and RTMR3 are zero. For any other it
//! extends RTMR1 once more, or makes its separators twice. An RTMR only grows, so a register that
//! holds this now was never anything else, and from here on every extend is L1's: a relying party
//! concludes from RTMR1 = separator, kernel that L1 has measured the kernel (`docs/measurement.md`,
//! section 1). td-shim's secure boot, which measures keys as well, is not for an L1 that is in MRTD.

use attestation::digest::{Algorithm, extend_sha384, sha384};
use attestation::event_log::{
    EV_PLATFORM_CONFIG_FLAGS, EV_SEPARATOR, Event, Log, LogError, TD_HOB_EVENT_NAME,
};
use attestation::launch::SEPARATOR;

/// MR indices of the log: RTMR + 1.
const RTMR0: u32 = 1;
const RTMR1: u32 = 2;
/// td-shim's TD HOB event: a name and a length, then the list.
const NAMED_HEADER: usize = 20;

/// Why L1 does not go on. Evidence of this TD would say that L1 was started where something else may
/// have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandOffError {
    /// There is no CCEL table.
    #[error("td-shim handed over no event log (built with no-acpi-ccel?)")]
    NoLog,
    /// It is no event log.
    #[error("td-shim's event log: {0}")]
    Log(#[from] LogError),
    /// An event is none that td-shim makes when it starts the payload of its image, or one is missing.
    #[error(
        "td-shim's event log is not that of a start of the payload in its image (event {index}): did the host name another one?"
    )]
    Event {
        /// Which, from 0; the number of events, if one is missing.
        index: usize,
    },
    /// A register does not hold what td-shim leaves.
    #[error("RTMR{0} is not as td-shim leaves it when it starts the payload in its image")]
    Register(usize),
}

/// Checks the log that td-shim handed over, and the registers as they are now.
pub fn check(log: Option<&[u8]>, rtmrs: &[[u8; 48]; 4]) -> Result<(), HandOffError> {
    let log = Log::parse(log.ok_or(HandOffError::NoLog)?)?;
    let separator = sha384(&SEPARATOR);
    let (list, rest) = match log.events.split_first() {
        Some((first, rest)) if is_td_hob(first) => (first.digest(Algorithm::Sha384), rest),
        _ => (None, log.events.as_slice()),
    };
    let hobs = log.events.len() - rest.len();
    let registers = [RTMR0, RTMR1];
    for (index, register) in registers.into_iter().enumerate() {
        let event = rest.get(index);
        if !event.is_some_and(|event| is_separator(event, register)) {
            return Err(HandOffError::Event {
                index: hobs + index,
            });
        }
    }
    if rest.len() > registers.len() {
        return Err(HandOffError::Event {
            index: hobs + registers.len(),
        });
    }
    let zero = [0; 48];
    let rtmr0 = list
        .and_then(|digest| digest.bytes().try_into().ok())
        .map_or(zero, |digest| extend_sha384(&zero, digest));
    let expected = [
        extend_sha384(&rtmr0, &separator),
        extend_sha384(&zero, &separator),
        zero,
        zero,
    ];
    match expected
        .iter()
        .zip(rtmrs)
        .position(|(one, other)| one != other)
    {
        Some(index) => Err(HandOffError::Register(index)),
        None => Ok(()),
    }
}

fn has_digest_of(event: &Event<'_>, data: &[u8]) -> bool {
    event.digest(Algorithm::Sha384) == Some(&Algorithm::Sha384.digest(data))
}

/// The event of the TD HOB list, with the list's digest.
fn is_td_hob(event: &Event<'_>) -> bool {
    let Some((header, list)) = event.data.split_at_checked(NAMED_HEADER) else {
        return false;
    };
    event.register == RTMR0
        && event.event_type == EV_PLATFORM_CONFIG_FLAGS
        && header.starts_with(&TD_HOB_EVENT_NAME)
        && has_digest_of(event, list)
}

fn is_separator(event: &Event<'_>, register: u32) -> bool {
    event.register == register
        && event.event_type == EV_SEPARATOR
        && event.data == SEPARATOR
        && has_digest_of(event, &SEPARATOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use attestation::event_log::{SpecId, cc_record};
    use zerocopy::IntoBytes;

    /// An event: its RTMR, its type, what is measured, what the log has.
    type Row = (u8, u32, Vec<u8>, Vec<u8>);

    fn hob() -> Row {
        let list = b"a list".to_vec();
        let header = [&TD_HOB_EVENT_NAME[..], &6u32.to_le_bytes()].concat();
        let data = [header, list.clone()].concat();
        (0, EV_PLATFORM_CONFIG_FLAGS, list, data)
    }

    fn separator(rtmr: u8) -> Row {
        (rtmr, EV_SEPARATOR, vec![0; 4], vec![0; 4])
    }

    /// The log's area and the registers after these events.
    fn td(rows: &[Row]) -> (Vec<u8>, [[u8; 48]; 4]) {
        let mut log = SpecId::new(*b"td-shim").as_bytes().to_vec();
        let mut rtmrs = [[0; 48]; 4];
        for (rtmr, event_type, measured, data) in rows {
            let digest = sha384(measured);
            log.extend(cc_record(*rtmr, *event_type, digest, data).unwrap());
            let register = &mut rtmrs[usize::from(*rtmr)];
            *register = extend_sha384(register, &digest);
        }
        log.resize(4096, 0xFF);
        (log, rtmrs)
    }

    fn check_rows(rows: &[Row]) -> Result<(), HandOffError> {
        let (log, rtmrs) = td(rows);
        check(Some(&log), &rtmrs)
    }

    #[test]
    fn a_start_of_the_images_payload_is_taken() {
        assert_eq!(check_rows(&[hob(), separator(0), separator(1)]), Ok(()));
        // With PermMem sections there is no TD HOB.
        assert_eq!(check_rows(&[separator(0), separator(1)]), Ok(()));
    }

    #[test]
    fn every_other_start_is_refused() {
        let parameters: Row = (
            1,
            EV_PLATFORM_CONFIG_FLAGS,
            b"x".to_vec(),
            b"td_payload_info\0\x01\0\0\0x".to_vec(),
        );
        let at = |index| Err(HandOffError::Event { index });
        for (rows, expected) in [
            // A Linux payload of the host's, and the same under another label.
            (
                vec![hob(), separator(0), separator(1), parameters.clone()],
                at(3),
            ),
            (
                vec![
                    hob(),
                    separator(0),
                    separator(1),
                    (1, EV_SEPARATOR, b"x".to_vec(), vec![0; 4]),
                ],
                at(3),
            ),
            // TD_PAYLOAD_INFO that names an executable.
            (
                vec![
                    hob(),
                    separator(0),
                    separator(1),
                    separator(0),
                    separator(1),
                ],
                at(3),
            ),
            (vec![hob(), hob(), separator(0), separator(1)], at(1)),
            (vec![hob(), separator(0)], at(2)),
            (vec![hob(), separator(1), separator(0)], at(1)),
            (vec![hob()], at(1)),
            (vec![], at(0)),
            (vec![parameters, separator(0), separator(1)], at(0)),
            (
                vec![
                    hob(),
                    separator(0),
                    separator(1),
                    (2, 0xD, b"y".to_vec(), b"initrd".to_vec()),
                ],
                at(3),
            ),
        ] {
            assert_eq!(check_rows(&rows), expected, "{rows:?}");
        }
        let (log, rtmrs) = td(&[hob(), separator(0), separator(1)]);
        assert_eq!(check(None, &rtmrs), Err(HandOffError::NoLog));
        assert!(matches!(
            check(Some(&[]), &rtmrs),
            Err(HandOffError::Log(_))
        ));
        for index in 0..4 {
            let mut more = rtmrs;
            more[index] = extend_sha384(&more[index], &[7; 48]);
            assert_eq!(check(Some(&log), &more), Err(HandOffError::Register(index)));
        }
        // A list in the log that is not the one that was measured.
        let mut other = log;
        other[72 + 66 + NAMED_HEADER] ^= 1;
        assert_eq!(check(Some(&other), &rtmrs), at(0));
    }
}
