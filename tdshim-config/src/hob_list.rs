//! Lists of hand-off blocks: reading one that somebody else made, and making one.
//!
//! Layouts of the blocks: `uefi_defs::hob`.

use uefi_defs::hob::{END, HANDOFF, Header};
use zerocopy::FromBytes;

/// What is wrong with a HOB list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HobError {
    /// The list ends in the middle of a HOB, or a HOB's length is no multiple of 8.
    #[error("the HOB at offset {0:#x} is malformed or cut off")]
    Malformed(usize),
    /// The first HOB must be the hand-off table.
    #[error("the HOB list does not start with a hand-off (PHIT) HOB")]
    NoHandoff,
}

/// Walks the HOBs of a list: type and the whole HOB's bytes, up to the END HOB.
pub fn walk(list: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), HobError>> {
    let mut at = 0;
    let mut done = false;
    core::iter::from_fn(move || {
        if done {
            return None;
        }
        let next = next_hob(list, at);
        match next {
            Ok((END, _)) => {
                done = true;
                return None;
            }
            Ok((_, bytes)) => at += bytes.len(),
            Err(_) => done = true,
        }
        Some(next)
    })
}

fn next_hob(list: &[u8], at: usize) -> Result<(u16, &[u8]), HobError> {
    let malformed = HobError::Malformed(at);
    let rest = list.get(at..).ok_or(malformed)?;
    let (header, _) = Header::read_from_prefix(rest).map_err(|_| malformed)?;
    let length = usize::from(header.length.get());
    let kind = header.kind.get();
    if at == 0 && kind != HANDOFF {
        return Err(HobError::NoHandoff);
    }
    if length < size_of::<Header>() || !length.is_multiple_of(8) {
        return Err(malformed);
    }
    Ok((kind, rest.get(..length).ok_or(malformed)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_list_makes_the_walk_panic_or_run_away(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(walk(&bytes).count() <= bytes.len() / 8 + 1);
        }
    }
}
