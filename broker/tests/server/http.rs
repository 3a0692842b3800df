//! A client of HTTP/1.1 on one connection, as small as L1's.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The name of a KBS error, with the status.
    pub(crate) fn error(&self) -> (u16, String) {
        let error = broker_protocol::kbs::ErrorInformation::from_json(&self.body).unwrap();
        (self.status, error.name().to_owned())
    }
}

/// What is under a connection.
pub(crate) trait Stream: Read + Write + Send {
    /// Says that nothing more comes.
    fn end(&mut self);
}

impl Stream for TcpStream {
    fn end(&mut self) {
        self.shutdown(std::net::Shutdown::Write).unwrap();
    }
}

impl Stream for UnixStream {
    fn end(&mut self) {
        self.shutdown(std::net::Shutdown::Write).unwrap();
    }
}

/// A connection that is kept.
pub(crate) struct Connection(BufReader<Box<dyn Stream>>);

impl Connection {
    /// By a stream that is there.
    pub(crate) fn by(stream: impl Stream + 'static) -> Connection {
        Connection(BufReader::new(Box::new(stream)))
    }

    pub(crate) fn to(address: &str) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        Ok(Connection::by(stream))
    }

    pub(crate) fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", path, headers, b"").unwrap()
    }

    pub(crate) fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.ask("POST", path, headers, body).unwrap()
    }

    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Answer> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: broker\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("content-length: {}\r\n\r\n", body.len());
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.0.get_mut().write_all(&bytes)?;
        self.answer()
    }

    /// Sends these bytes, and waits for nothing.
    #[allow(dead_code, reason = "for the tests of TLS")]
    pub(crate) fn begin(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
        self.0.get_mut().flush().unwrap();
    }

    /// Sends these bytes, whatever they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> std::io::Result<Answer> {
        self.0.get_mut().write_all(bytes)?;
        self.0.get_mut().end();
        self.answer()
    }

    fn answer(&mut self) -> std::io::Result<Answer> {
        let broken = || std::io::Error::other("no answer");
        let status = self.line()?;
        let status = status
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.ok_or_else(broken)?;
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) => {
                    headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
                }
                None => break,
            }
        }
        let length = headers
            .get("content-length")
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}
