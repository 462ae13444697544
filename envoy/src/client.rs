//! An HTTP/1.1 client that sends exactly the bytes it is given.
//!
//! Well-behaved clients refuse to send what a hostile caller sends: repeated lines in a chosen
//! order, bytes that are no text, half a request. Answers are read by `httparse`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long one exchange may take. Far above what a loopback exchange needs, so that only a hang meets it.
const EXCHANGE_MAX: Duration = Duration::from_secs(30);
/// More header lines than any answer here has.
const RESPONSE_HEADERS_MAX: usize = 64;

/// One request as it goes over the wire, except for the `connection` and `content-length` lines.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method, for example `GET`.
    pub method: String,
    /// Request target, for example `/cart/1?x=2`.
    pub path: String,
    /// Value of the `host` line.
    pub host: String,
    /// Further header lines in their order; names may repeat, values may be any bytes.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Body; a `content-length` line is sent when there is one.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without a body.
    pub fn get(host: &str, path: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            path: path.to_owned(),
            host: host.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A `POST` with a body.
    pub fn post(host: &str, path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { method: "POST".to_owned(), body: body.into(), ..Self::get(host, path) }
    }

    /// Adds a header line after those there are.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The request's bytes. It asks the server to close the connection after the answer.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes =
            format!("{} {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.method, self.path, self.host)
                .into_bytes();
        if !self.body.is_empty() {
            bytes.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// One complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header lines in their order, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Body, chunks already joined.
    pub body: Vec<u8>,
}

impl Response {
    /// Value of the first line of that name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(line, _)| line == name).map(|(_, value)| value.as_slice())
    }

    /// Values of every line of that name, given in lower case.
    pub fn lines(&self, name: &str) -> Vec<Vec<u8>> {
        self.headers.iter().filter(|(line, _)| line == name).map(|(_, value)| value.clone()).collect()
    }

    /// The body as text; bytes that are no text are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends one request over a connection of its own and reads the whole answer.
///
/// # Errors
/// No connection, no complete answer, or none within 30 seconds.
pub async fn send(address: SocketAddr, request: &Request) -> Result<Response> {
    tokio::time::timeout(EXCHANGE_MAX, exchange(address, &request.to_bytes()))
        .await
        .with_context(|| format!("no answer from {address} in {EXCHANGE_MAX:?}"))?
        .with_context(|| format!("{} {} at {address}", request.method, request.path))
}

/// Sends some bytes and closes the connection without reading, as a caller that goes away does.
/// `linger` is how long it stays before it goes.
///
/// # Errors
/// No connection, or it broke while the bytes were written.
pub async fn send_and_abort(address: SocketAddr, bytes: &[u8], linger: Duration) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    tokio::time::sleep(linger).await;
    Ok(())
}

async fn exchange(address: SocketAddr, request: &[u8]) -> Result<Response> {
    let mut stream = TcpStream::connect(address).await.context("no connection")?;
    let written = stream.write_all(request).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    // A server may refuse a request before it has read all of it: what it answered counts.
    if answer.is_empty() {
        written.context("the connection broke during the request")?;
        read.context("the connection broke before the answer")?;
        bail!("the connection was closed without an answer");
    }
    parse_response(&answer)
}

fn parse_response(bytes: &[u8]) -> Result<Response> {
    let mut lines = [httparse::EMPTY_HEADER; RESPONSE_HEADERS_MAX];
    let mut head = httparse::Response::new(&mut lines);
    let httparse::Status::Complete(head_bytes) = head.parse(bytes).context("no HTTP answer")? else {
        bail!("the answer's head is cut off");
    };
    let headers: Vec<(String, Vec<u8>)> =
        head.headers.iter().map(|line| (line.name.to_ascii_lowercase(), line.value.to_vec())).collect();
    let mut response = Response { status: head.code.context("no status")?, headers, body: Vec::new() };
    response.body = read_body(&response, &bytes[head_bytes..])?;
    Ok(response)
}

fn read_body(response: &Response, bytes: &[u8]) -> Result<Vec<u8>> {
    if response.header("transfer-encoding").is_some_and(|value| value == b"chunked") {
        return join_chunks(bytes);
    }
    let Some(length) = response.header("content-length") else {
        return Ok(bytes.to_vec());
    };
    let length: usize = std::str::from_utf8(length)?.parse().context("content-length")?;
    ensure!(bytes.len() == length, "the answer's body has {} bytes instead of {length}", bytes.len());
    Ok(bytes.to_vec())
}

fn join_chunks(mut bytes: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((head_bytes, chunk_bytes))) = httparse::parse_chunk_size(bytes) else {
            bail!("the answer's chunks are cut off");
        };
        if chunk_bytes == 0 {
            return Ok(body);
        }
        let end = head_bytes + usize::try_from(chunk_bytes)?;
        body.extend_from_slice(bytes.get(head_bytes..end).context("the answer's last chunk is cut off")?);
        bytes = bytes.get(end + b"\r\n".len()..).context("the answer's last chunk has no end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_header_lines_in_their_order_and_byte_for_byte() {
        let request = Request::get("shop", "/a?b=c")
            .header("tracestate", "a=1")
            .header("x", vec![0xff, 0xfe])
            .header("tracestate", "b=2");
        let expected = b"GET /a?b=c HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\
            tracestate: a=1\r\nx: \xff\xfe\r\ntracestate: b=2\r\n\r\n";
        assert_eq!(request.to_bytes(), expected);
    }

    #[test]
    fn reads_bodies_however_they_are_delimited() {
        for (answer, body) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "hi"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n", "hi!"),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", "until the end"),
        ] {
            let response = parse_response(answer.as_bytes()).unwrap();
            assert_eq!((response.status, response.text().as_str()), (200, body), "{answer}");
        }
    }

    #[test]
    fn refuses_an_answer_that_is_cut_off() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-le",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n",
        ] {
            assert!(parse_response(answer.as_bytes()).is_err(), "{answer}");
        }
    }
}
