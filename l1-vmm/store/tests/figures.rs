//! What a commit costs: sectors, flushes, messages. The table in `docs/state-format.md` is these figures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod model;

use model::{Disk, ledger, nonce, parts, start, state};
use state_store::layout::SECTOR;
use state_store::{Commit, EkTemplate, State};

/// A state with an engine's of so many bytes, and endorsement keys of RSA-2048 and P-256 as the EK Credential
/// Profile has them (templates L-1 and L-2).
fn with_engine(number: u64, bytes: usize) -> State {
    let ek = |handle, public| EkTemplate {
        handle,
        public: vec![0; public],
        name: vec![0; 34],
    };
    let mut state = state(number, bytes);
    state.ek_templates = vec![ek(0x8101_0001, 314), ek(0x8101_0002, 122)];
    state
}

#[test]
fn a_commit_writes_the_state_and_two_sectors() {
    let documented = include_str!("../../../docs/state-format.md");
    let mut missing = vec![];
    for (what, engine) in [
        ("new, as libtpms 0.10 has it", 1_347),
        ("after Shutdown(STATE)", 4_500),
        ("its NV memory half full", 88_416),
        ("its NV memory full", 176_832),
    ] {
        let kept = ledger(true);
        let (mut store, _) = parts(start(&Disk::new(), kept.as_ref()).unwrap());
        let records = with_engine(1, engine).encode().unwrap().len();
        for number in 1..=3 {
            let stored = store.commit(&with_engine(number, engine), nonce(number));
            assert!(matches!(stored, Commit::Stored(_)));
            let device = store.into_parts().0;
            let (written, flushes) = (device.written, device.flushes);
            // The label comes with the first one.
            let label = u64::from(number == 1);
            let sectors = records.div_ceil(SECTOR) as u64 + 2;
            assert_eq!((written, flushes), (sectors + label, 2 + label));
            (store, _) = parts(start(&device.durable, kept.as_ref()).unwrap());
            if number < 3 {
                continue;
            }
            let bytes = written * SECTOR as u64;
            let hundredths = bytes * 100 / records as u64;
            let row = format!(
                "| {what} | {engine} | {records} | {bytes} | {}.{:02} |",
                hundredths / 100,
                hundredths % 100
            );
            missing.extend((!documented.contains(&row)).then_some(row));
        }
    }
    assert_eq!(missing, [""; 0], "not in the document");
}
