//! Asks a store that serves.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Trace;
use crate::client::{self, Request};
use crate::trace_store::summary::Summary;

/// What a list answers.
#[derive(Debug, Deserialize)]
struct Page {
    traces: Vec<Summary>,
}

/// Whether a trace store answers at an address.
///
/// # Errors
/// Nobody answers, or something else does; the message says which.
pub async fn probe(address: SocketAddr) -> Result<()> {
    let status: Option<serde_json::Value> = ask(address, "/api/status").await?;
    let is_store = status.is_some_and(|status| status.get("written").is_some());
    ensure!(is_store, "what answers at {address} is no trace store");
    Ok(())
}

/// Sessions of traces whose ids begin with `prefix`, the one that started last first.
///
/// # Errors
/// The store does not answer as it should.
pub async fn list(address: SocketAddr, prefix: &str, limit: usize) -> Result<Vec<Summary>> {
    let path = format!("/api/traces?id={}&limit={limit}", encode(prefix));
    let page: Option<Page> = ask(address, &path).await?;
    Ok(page.context("the store has no list")?.traces)
}

/// One trace; `None` when the store does not have it.
///
/// # Errors
/// The store does not answer as it should.
pub async fn trace(address: SocketAddr, trace_id: &str) -> Result<Option<Trace>> {
    ask(address, &format!("/api/traces/{}", encode(trace_id))).await
}

async fn ask<T: DeserializeOwned>(address: SocketAddr, path: &str) -> Result<Option<T>> {
    let answer = client::send(address, &Request::get(&address.to_string(), path)).await?;
    if answer.status == 404 {
        return Ok(None);
    }
    ensure!(answer.status == 200, "{path} was answered {}: {}", answer.status, answer.text());
    serde_json::from_slice(&answer.body).with_context(|| format!("the answer to {path} is none of a trace store"))
}

/// Text as a part of a path or a query.
pub fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_any_text_is_one_part_of_a_path() {
        assert_eq!(encode("0f-1_a.b~C"), "0f-1_a.b~C");
        assert_eq!(encode("a/b?c#d&e=ü %"), "a%2Fb%3Fc%23d%26e%3D%C3%BC%20%25");
    }
}
