//! Carries a trace over a TCP protocol of length-prefixed messages, from one process to another, and prints what both
//! ends know of it: first in distributed tracing, then in Cross Application Tracing.
//!
//! ```text
//! cargo run -p newrelic-tracing --example tcp_messages
//! ```
//!
//! `message` is the protocol. `distributed` and `cross_application` are what an integrator writes: each has a caller,
//! the storefront, and a callee, the inventory. This file only starts the processes: the first is the inventory, which
//! listens on 127.0.0.1 and starts itself again as the storefront.

mod cross_application;
mod distributed;
mod message;

use std::error::Error;
use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Longer than anything here takes; a process whose peer is gone ends then.
const TIMEOUT: Duration = Duration::from_secs(20);

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => ["distributed", "cross-application"].into_iter().try_for_each(inventory),
        ["storefront", mode, address] => storefront(mode, address),
        _ => Err("usage: tcp_messages".into()),
    }
}

/// The callee: waits for one connection and answers its request.
fn inventory(mode: &str) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let mut other = Command::new(std::env::current_exe()?).args(["storefront", mode, &address]).spawn()?;
    let mut stream = accept(&listener, &mut other)?;
    match mode {
        "distributed" => distributed::serve(&mut stream)?,
        _ => cross_application::serve(&mut stream)?,
    }
    if other.wait()?.success() { Ok(()) } else { Err("the storefront failed".into()) }
}

/// The caller: sends one request.
fn storefront(mode: &str, address: &str) -> Outcome {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    match mode {
        "distributed" => distributed::call(&mut stream),
        _ => cross_application::call(&mut stream),
    }
}

/// Waits for the other process, as long as it lives.
fn accept(listener: &TcpListener, other: &mut Child) -> Outcome<TcpStream> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                return Ok(stream);
            }
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
            Err(why) => return Err(why.into()),
        }
        if other.try_wait()?.is_some() {
            return Err("the storefront ended before it connected".into());
        }
        sleep(Duration::from_millis(5));
    }
}

/// Prints what one end knows, in one piece: both processes write to the same terminal.
fn tell(application: &str, facts: &[(&str, &dyn Display)]) -> Outcome {
    let mut text = String::new();
    for (name, value) in facts {
        writeln!(text, "{application:<12}{name:<29}{value}")?;
    }
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
