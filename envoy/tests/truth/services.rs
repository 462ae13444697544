//! What stands behind the real Envoy: an upstream that answers as the case says, and a callee for
//! the calls of the probe.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::model::{Body, Response, is_compared};

/// Long enough for Envoy to see two pieces and not one.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
/// Longer than the timeouts of the cases that wait for one, and than a stream lives.
const LATE: Duration = Duration::from_millis(600);

/// What the upstream does with its next requests, and what it got.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) plans: VecDeque<Plan>,
    pub(crate) arrived: Vec<String>,
}

/// What the upstream does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Plan {
    Answer(Response),
    /// Nothing, until the other side gives up.
    Silence,
    Close,
    /// Switches protocols, waits for a message, sends one and closes.
    Upgrade,
}

/// Listens until the process ends.
pub(crate) fn start(listener: TcpListener, desk: &Arc<Mutex<Desk>>) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    let desk = Arc::clone(desk);
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let desk = Arc::clone(&desk);
            // A connection that breaks is Envoy's to notice.
            thread::spawn(move || drop(serve(connection, &desk)));
        }
    });
    address
}

struct Arrived {
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn serve(mut connection: TcpStream, desk: &Mutex<Desk>) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    while let Some(request) = read(&mut reader)? {
        if request.headers.iter().any(|(name, value)| name == "host" && value == "callee") {
            if !answer_call(&mut connection, &request.path)? {
                return Ok(());
            }
            continue;
        }
        let plan = {
            let mut desk = desk.lock().unwrap();
            note(&mut desk.arrived, &request);
            desk.plans.pop_front()
        };
        match plan {
            Some(Plan::Answer(response)) => write(&mut connection, &response)?,
            Some(Plan::Silence) => drop(reader.read(&mut [0])?),
            Some(Plan::Upgrade) => return upgrade(&mut connection, &mut reader),
            Some(Plan::Close) | None => return Ok(()),
        }
    }
    Ok(())
}

fn note(arrived: &mut Vec<String>, request: &Arrived) {
    for (name, value) in request.headers.iter().filter(|(name, _)| is_compared(name)) {
        arrived.push(format!("upstream got {name}: {value}"));
    }
    arrived.push(format!("upstream got {} {}", request.path, request.body.escape_ascii()));
}

/// The parts of a head or of trailers.
fn read_lines(reader: &mut impl BufRead) -> std::io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line)?;
        let text = line.trim_ascii_end().escape_ascii().to_string();
        let Some((name, value)) = text.split_once(':') else { return Ok(headers) };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Arrived>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers = read_lines(reader)?;
    let value = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let body = if value("transfer-encoding") == Some("chunked") {
        read_chunks(reader)?
    } else {
        let mut body = vec![0; value("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
        reader.read_exact(&mut body)?;
        body
    };
    Ok(Some(Arrived { path, headers, body }))
}

/// A chunked body to its end, with its trailers.
pub(crate) fn read_chunks(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let len = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
        if len == 0 {
            read_lines(reader)?;
            return Ok(body);
        }
        let at = body.len();
        body.resize(at + len, 0);
        reader.read_exact(&mut body[at..])?;
        reader.read_line(&mut line)?;
    }
}

fn write(connection: &mut TcpStream, response: &Response) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Whatever\r\n", response.status).into_bytes();
    // Envoy adds a date to a response without one, but only after the filters.
    write_headers(&mut head, response.headers.iter().copied().chain([("date", b"today".as_slice())]));
    send(connection, head, &response.body)
}

/// Lines of a head.
pub(crate) fn write_headers<'a>(head: &mut Vec<u8>, headers: impl Iterator<Item = (&'a str, &'a [u8])>) {
    for (name, value) in headers {
        head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
}

/// Sends a head without its last line, what that line must say of the body, and the body.
pub(crate) fn send(connection: &mut TcpStream, mut head: Vec<u8>, body: &Body) -> std::io::Result<()> {
    match body {
        Body::None if head.starts_with(b"HTTP") => head.extend(b"content-length: 0\r\n\r\n"),
        Body::None => head.extend(b"\r\n"),
        Body::Whole(text) => head.extend(format!("content-length: {}\r\n\r\n{text}", text.len()).into_bytes()),
        Body::Chunks(..) => head.extend(b"transfer-encoding: chunked\r\n\r\n"),
    }
    connection.write_all(&head)?;
    if let Body::Chunks(chunks, trailers) = body {
        for chunk in *chunks {
            thread::sleep(PAUSE);
            connection.write_all(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes())?;
        }
        thread::sleep(PAUSE);
        let mut end = b"0\r\n".to_vec();
        write_headers(&mut end, trailers.iter().map(|(name, value)| (*name, value.as_bytes())));
        connection.write_all(&[end, b"\r\n".to_vec()].concat())?;
    }
    Ok(())
}

fn upgrade(connection: &mut TcpStream, reader: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    connection
        .write_all(b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\ndate: today\r\n\r\n")?;
    reader.read_exact(&mut [0; 4])?;
    connection.write_all(b"pong")?;
    thread::sleep(PAUSE);
    Ok(())
}

/// Answers a call of the probe; `false` to close the connection.
fn answer_call(connection: &mut TcpStream, path: &str) -> std::io::Result<bool> {
    let text = match path {
        "/close" => return Ok(false),
        "/slow" | "/late" => {
            thread::sleep(LATE);
            "late"
        }
        _ => "answer",
    };
    let head = format!("HTTP/1.1 202 Yes\r\nx-from: callee\r\ndate: today\r\ncontent-length: {}\r\n\r\n", text.len());
    connection.write_all(format!("{head}{text}").as_bytes())?;
    Ok(true)
}
