use super::*;
use proptest::prelude::*;

const KEY: Secret = Secret([7; 32]);
const MACHINE: MachineId = MachineId([1; 32]);

fn commit() -> Commit {
    Commit {
        epoch: 1,
        counter: 2,
        digest: SlotDigest([3; 48]),
    }
}

fn envelope(request: Request) -> Envelope {
    Envelope {
        session: "s".into(),
        sequence: 1,
        request,
    }
}

fn requests() -> [(Request, &'static str); 5] {
    let Commit {
        epoch,
        counter,
        digest,
    } = commit();
    let slot = Slot {
        machine: MACHINE,
        epoch,
        counter,
        digest,
    };
    [
        (
            Request::Open {
                disk: Some([None, Some(slot)]),
            },
            r#"{"open":{"disk":[null,{"machine":"01""#,
        ),
        (Request::Open { disk: None }, r#"{"open":{"disk":null}}"#),
        (
            Request::Prepare(commit()),
            r#"{"prepare":{"epoch":1,"counter":2,"digest":"0303"#,
        ),
        (
            Request::Commit(commit()),
            r#"{"commit":{"epoch":1,"counter":2,"digest":"0303"#,
        ),
        (
            Request::Refused {
                error: "e".into(),
                detail: "d".into(),
            },
            r#"{"refused":{"error":"e","detail":"d"}}"#,
        ),
    ]
}

#[test]
fn a_request_is_read_as_it_was_sealed() {
    for (request, begins) in requests() {
        let envelope = envelope(request);
        let sealed = seal_request(&KEY, &envelope).unwrap();
        let text = core::str::from_utf8(&sealed.body).unwrap();
        let begins: &str = &alloc::format!(r#"{{"session":"s","sequence":1,"request":{begins}"#);
        let begins = begins.strip_suffix('"').unwrap_or(begins);
        assert!(text.starts_with(begins), "{text}");
        assert_eq!(unchecked_request(&sealed.body).unwrap(), envelope);
        open_request(&KEY, &sealed.body, &sealed.code).unwrap();
        let code = code_from_text(&code_text(&sealed.code)).unwrap();
        assert_eq!(code, sealed.code);
        let other = open_request(&Secret([8; 32]), &sealed.body, &sealed.code);
        assert_eq!(other, Err(Error::Mac));
    }
    for text in ["", "00", &"0".repeat(63), &"G".repeat(64), &"A".repeat(64)] {
        assert_eq!(code_from_text(text), Err(Error::Mac));
    }
}

#[test]
fn texts_are_bounded() {
    let refused = |error: usize, detail: usize| {
        envelope(Request::Refused {
            error: "e".repeat(error),
            detail: "d".repeat(detail),
        })
    };
    seal_request(&KEY, &refused(limits::NAME, limits::TEXT)).unwrap();
    for (error, detail) in [(limits::NAME + 1, 0), (0, limits::TEXT + 1)] {
        assert!(seal_request(&KEY, &refused(error, detail)).is_err());
        let json = serde_json::to_vec(&refused(error, detail)).unwrap();
        assert!(unchecked_request(&json).is_err());
    }
    let long = Envelope {
        session: "s".repeat(limits::SESSION + 1),
        ..envelope(Request::Commit(commit()))
    };
    assert_eq!(seal_request(&KEY, &long), Err(Error::TooLong("session")));
}

#[test]
fn an_answer_is_to_one_request_alone() {
    let one = seal_request(&KEY, &envelope(Request::Commit(commit()))).unwrap();
    let two = Envelope {
        sequence: 2,
        ..envelope(Request::Commit(commit()))
    };
    let other = seal_request(&KEY, &two).unwrap();
    let grant = Grant {
        epoch: 2,
        latest: Some(commit()),
        pending: None,
    };
    assert_eq!(grant.next_counter(), Some(3));
    let refused = Refused {
        name: FENCED.into(),
        text: "epoch 1 is over".into(),
    };
    for answer in [
        Answer::Granted(grant),
        Answer::Prepared {},
        Answer::Committed {},
        Answer::Noted {},
        Answer::Refused(refused),
    ] {
        let sealed = seal_answer(&KEY, &one.code, 1, &answer).unwrap();
        let open =
            |request, sequence| open_answer(&KEY, request, sequence, &sealed.body, &sealed.code);
        assert_eq!(open(&one, 1).unwrap(), answer);
        assert_eq!(open(&other, 1), Err(Error::Mac));
        assert_eq!(open(&one, 2), Err(Error::Sequence));
        // A request is no answer.
        let reflected = open_answer(&KEY, &one, 1, &one.body, &one.code);
        assert_eq!(reflected, Err(Error::Mac));
    }
}

/// Calculated with Python's `hmac`.
#[test]
fn the_code_is_that_of_another_implementation() {
    let code: Code = request_mac(&KEY, b"body").finalize().into_bytes().into();
    assert_eq!(
        code_text(&code),
        "7de79a4a2551a7179f927cba8b4700ea59cb894ed0653b5b3516a26bcea60cab"
    );
    let code: Code = answer_mac(&KEY, &code, b"body")
        .finalize()
        .into_bytes()
        .into();
    assert_eq!(
        code_text(&code),
        "32ae98d516be6d1455be4305b4c1130cb5287fe900ee7af7ef4e12ae925a24ec"
    );
}

proptest! {
    #[test]
    fn a_changed_byte_is_refused(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let request = seal_request(&KEY, &envelope(Request::Commit(commit()))).unwrap();
        let mut answer = seal_answer(&KEY, &request.code, 1, &Answer::Committed {}).unwrap();
        let at = at.index(answer.body.len());
        prop_assume!(answer.body[at] != to);
        answer.body[at] = to;
        let opened = open_answer(&KEY, &request, 1, &answer.body, &answer.code);
        prop_assert_eq!(opened, Err(Error::Mac));
    }

    #[test]
    fn nonsense_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(unchecked_request(&bytes).is_err());
    }
}
