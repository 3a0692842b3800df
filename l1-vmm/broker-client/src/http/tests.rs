//! What is an answer and what is none, at every cut and with every byte changed.

extern crate std;

use super::*;
use crate::scripted::Script;
use alloc::vec::Vec;
use proptest::prelude::*;
use std::format;

const END: Deadline = Deadline(1_000_000_000);

fn read_in(bytes: &[u8], piece: usize, body_max: usize) -> Result<(Answer, usize), HttpError> {
    let mut script = Script::saying(bytes);
    script.piece = piece;
    let mut client = Client::new(script);
    let answer = client.answer(body_max, END)?;
    let left = client.received.len() - client.read + client.channel().to_receive.len();
    Ok((answer, left))
}

fn read(bytes: &[u8]) -> Result<Answer, HttpError> {
    read_in(bytes, usize::MAX, 64).map(|(answer, _)| answer)
}

fn text(head: &str) -> Result<Answer, HttpError> {
    read(head.as_bytes())
}

const PLAIN: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nSet-Cookie: kbs-session-id=abc; Path=/\r\n\
                     Content-Length: 11\r\n\r\nhello world";
const CHUNKED: &str = "HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n\
                       5\r\nhello\r\n06;x=\"y\"\r\n world\r\n0\r\nTrailer: passed over\r\n\r\n";

#[test]
fn a_request_is_one_that_servers_know() {
    let mut client = Client::new(Script::saying(PLAIN.as_bytes()));
    let request = Request {
        path: "/kbs/v0/auth",
        fields: &[("Cookie", "a=b")],
        method: Method::Post(b"{}"),
        body_max: 64,
    };
    client.ask(&request, END).unwrap();
    assert_eq!(
        str::from_utf8(&client.channel().sent).unwrap(),
        "POST /kbs/v0/auth HTTP/1.1\r\nHost: kbs\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
         Content-Length: 2\r\nCookie: a=b\r\n\r\n{}"
    );
    let mut headers = [httparse::EMPTY_HEADER; 8];
    let mut parsed = httparse::Request::new(&mut headers);
    assert!(parsed.parse(&client.channel().sent).unwrap().is_complete());
    let get = Request {
        method: Method::Get,
        ..request
    };
    assert!(head(&get).starts_with(b"GET /kbs/v0/auth HTTP/1.1\r\n"));
    assert!(!head(&get).windows(14).any(|w| w == b"Content-Length"));
}

#[test]
fn both_kinds_of_body_are_read() {
    let plain = text(PLAIN).unwrap();
    assert_eq!((plain.status, &*plain.body), (200, &b"hello world"[..]));
    let cookies: Vec<_> = plain.fields("set-cookie").collect();
    assert_eq!(cookies, ["kbs-session-id=abc; Path=/"]);
    let chunked = text(CHUNKED).unwrap();
    assert_eq!((chunked.status, &*chunked.body), (401, &b"hello world"[..]));
    let empty = text("HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    assert_eq!((empty.status, &*empty.body), (204, &b""[..]));
    let zero = text("HTTP/1.1 200 \r\ncontent-length:0\r\n\r\n").unwrap();
    assert_eq!((zero.status, &*zero.body), (200, &b""[..]));
    let after = format!("HTTP/1.1 100 Continue\r\n\r\n{PLAIN}");
    assert_eq!(text(&after).unwrap(), plain);
}

#[test]
fn every_cut_gives_the_same_answer_and_what_is_behind_it_stays() {
    for whole in [PLAIN, CHUNKED] {
        let two = format!("{whole}{PLAIN}");
        let expected = text(whole).unwrap();
        for piece in 1..two.len() {
            let read = read_in(two.as_bytes(), piece, 64);
            assert_eq!(
                read,
                Ok((expected.clone(), PLAIN.len())),
                "pieces of {piece}"
            );
        }
        for end in 0..whole.len() {
            let cut = read(&whole.as_bytes()[..end]);
            let time_out = HttpError::Channel(ChannelError::TimeOut);
            assert_eq!(cut, Err(time_out), "cut at {end}");
        }
    }
}

#[test]
fn two_answers_are_read_one_after_the_other() {
    let mut client = Client::new(Script::saying(format!("{CHUNKED}{PLAIN}").as_bytes()));
    assert_eq!(client.answer(64, END).unwrap().status, 401);
    assert_eq!(client.answer(64, END).unwrap().status, 200);
}

#[test]
fn each_fault_has_its_name() {
    let many = "a: b\r\n".repeat(HEADERS_MAX + 1);
    let long = "a".repeat(HEAD_MAX);
    let interim = "HTTP/1.1 100 C\r\n\r\n".repeat(5);
    let rows: [(&str, HttpError); 31] = [
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            HttpError::Version,
        ),
        (
            "HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
            HttpError::Version,
        ),
        (
            "HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
            HttpError::NotHttp,
        ),
        (
            "HTTP/1.1 2 OK\r\nContent-Length: 0\r\n\r\n",
            HttpError::NotHttp,
        ),
        ("SSH-2.0-OpenSSH\r\n\r\n", HttpError::NotHttp),
        ("\r\n\r\n\r\n\r\n", HttpError::NotHttp),
        // Lines that end with a line feed alone: httparse sees an earlier end of the head.
        (
            "HTTP/1.1 200 OK\nContent-Length: 0\n\nx\r\n\r\n",
            HttpError::NotHttp,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent Length: 0\r\n\r\n",
            HttpError::NotHttp,
        ),
        ("HTTP/1.1 200 OK\r\n folded: 0\r\n\r\n", HttpError::NotHttp),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\0\r\n\r\n",
            HttpError::NotHttp,
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", HttpError::NoLength),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
            HttpError::BadLength,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            HttpError::BadLength,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            HttpError::BadLength,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
            HttpError::BadLength,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: \u{661}\r\n\r\n",
            HttpError::BadLength,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            HttpError::BadLength,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            HttpError::BadLength,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            HttpError::TransferCoding,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
            HttpError::TransferCoding,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            HttpError::TransferCoding,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n",
            HttpError::BodyTooLong { most: 64 },
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999999\r\n\r\n",
            HttpError::BodyTooLong { most: 64 },
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n41\r\n",
            HttpError::BodyTooLong { most: 64 },
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
            HttpError::BodyTooLong { most: 64 },
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n000000001\r\n",
            HttpError::BadChunk,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n",
            HttpError::BadChunk,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
            HttpError::BadChunk,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy",
            HttpError::BadChunk,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\rz\r\n",
            HttpError::BadChunk,
        ),
        (&interim, HttpError::Interim),
    ];
    for (answer, error) in rows {
        assert_eq!(text(answer), Err(error), "{answer:?}");
    }
    let fields = format!("HTTP/1.1 200 OK\r\n{many}\r\n");
    assert_eq!(text(&fields), Err(HttpError::TooManyFields));
    assert_eq!(text(&long), Err(HttpError::HeadTooLong));
    let extension = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;{long}\r\n");
    assert_eq!(text(&extension), Err(HttpError::BadChunk));
}

#[test]
fn trailers_and_small_chunks_without_end_are_ended() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let trailers = format!("{head}0\r\n{}", "a: b\r\n".repeat(10_000));
    assert_eq!(text(&trailers), Err(HttpError::ChunkOverhead));
    let extensions = format!("1;{}\r\nx\r\n", "e".repeat(200)).repeat(1000);
    let small = format!("{head}{extensions}0\r\n\r\n");
    let read = read_in(small.as_bytes(), usize::MAX, 64 * 1024);
    assert_eq!(read, Err(HttpError::ChunkOverhead));
    // What servers make of a text that is flushed a byte at a time is read.
    let bytes = format!("{head}{}0\r\n\r\n", "1\r\nx\r\n".repeat(3000));
    let read = read_in(bytes.as_bytes(), usize::MAX, 64 * 1024).unwrap();
    assert_eq!(read.0.body.len(), 3000);
}

#[test]
fn an_answer_is_read_as_it_comes_and_nothing_is_waited_for() {
    for whole in [PLAIN, CHUNKED] {
        for cut in 0..whole.len() {
            let (first, second) = whole.as_bytes().split_at(cut);
            let mut client = Client::new(Script::saying(first));
            assert_eq!(client.poll(64), Ok(None), "cut at {cut}");
            assert!(!client.is_lost());
            let begun = client.channel().now();
            assert_eq!(client.poll(64), Ok(None));
            assert!(client.channel().now() <= begun + 2, "it waited");
            // Whoever waits goes on where it is.
            client.channel.to_receive.extend(second);
            let answer = match cut % 2 {
                0 => client.poll(64).unwrap(),
                _ => client.answer(64, END).ok(),
            };
            assert_eq!(answer, text(whole).ok(), "cut at {cut}");
            assert!(!client.is_lost());
        }
    }
}

#[test]
fn what_is_not_waited_for_any_more_in_its_middle_is_lost() {
    let mut client = Client::new(Script::saying(&PLAIN.as_bytes()[..30]));
    assert_eq!(client.poll(64), Ok(None));
    let time_out = HttpError::Channel(ChannelError::TimeOut);
    assert_eq!(client.answer(64, END), Err(time_out));
    assert!(client.is_lost());
    client.restart().unwrap();
    assert!(!client.is_lost());
    let mut client = Client::new(Script::saying(b"SSH-2.0-OpenSSH\r\n\r\n"));
    assert_eq!(client.poll(64), Err(HttpError::NotHttp));
    assert!(client.is_lost());
}

#[test]
fn a_mebibyte_is_refused_by_its_length_and_not_read() {
    let mut body = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1 << 20).into_bytes();
    body.resize(body.len() + (1 << 20), b'x');
    let mut client = Client::new(Script::saying(&body));
    let refused = client.answer(64 * 1024, END);
    assert_eq!(refused, Err(HttpError::BodyTooLong { most: 64 * 1024 }));
    assert!(client.channel().to_receive.len() > (1 << 20) - PIECE);
}

#[test]
fn a_host_that_drips_bytes_gets_no_more_than_the_deadline() {
    let mut script = Script::saying(PLAIN.as_bytes());
    script.piece = 1;
    script.pace = END.0 / 100;
    let mut client = Client::new(script);
    let time_out = HttpError::Channel(ChannelError::TimeOut);
    assert_eq!(client.answer(64, END), Err(time_out));
    assert!(client.channel().now() < END.0 + END.0 / 50);
}

#[test]
fn every_byte_changed_is_an_answer_or_an_error() {
    for whole in [PLAIN, CHUNKED] {
        let expected = text(whole).unwrap();
        let mut same = 0;
        for at in 0..whole.len() {
            for value in 0..=255 {
                let mut changed = whole.as_bytes().to_vec();
                changed[at] = value;
                if let Ok(answer) = read(&changed) {
                    assert!(answer.body.len() <= 64);
                    same += u32::from(answer == expected);
                }
            }
        }
        // Each byte left as it was, and texts that mean the same: the reason, trailers, extensions.
        assert!(same >= whole.len() as u32);
    }
}

proptest! {
    #[test]
    fn anything_is_an_answer_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        piece in 1..50_usize,
    ) {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = read_in(&bytes, piece, 64);
        let _ = read_in(&[head, &bytes[..]].concat(), piece, 64);
    }

    #[test]
    fn a_body_in_any_chunks_is_the_body(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..20),
        piece in 1..60_usize,
    ) {
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in &chunks {
            bytes.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        let (answer, left) = read_in(&bytes, piece, 1024).unwrap();
        prop_assert_eq!(answer.body, chunks.concat());
        prop_assert_eq!(left, 0);
    }
}
