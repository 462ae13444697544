//! Cross Application Tracing between the storefront and the inventory.

use std::fs::File;
use std::io::Read as _;
use std::net::TcpStream;
use std::time::Instant;

use newrelic_tracing::carrier::{Carrier as _, CrossApplication};
use newrelic_tracing::id::TransactionId;
use newrelic_tracing::newrelic::cat::{
    Answer, Intrinsics, NEWRELIC_APP_DATA, NEWRELIC_ID, NEWRELIC_TRANSACTION, Settings,
};
use newrelic_tracing::record::Value;

use crate::message::Message;
use crate::{Outcome, tell};

const CHECKOUT: &[u8] = b"OtherTransaction/Custom/checkout";
const STOCK: &[u8] = b"OtherTransaction/Custom/stock";

/// What New Relic gives to each application; the key is the same for all that may talk to each other.
fn settings(cross_process_id: &str, app_name: &str) -> Outcome<Settings> {
    let trusted_account_ids = ["4001".into(), "4002".into()];
    let settings = Settings::new(cross_process_id, b"f00dcafe1234", &trusted_account_ids, app_name);
    Ok(settings.map_err(|why| why.to_string())?)
}

fn new_guid() -> Outcome<TransactionId> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(TransactionId::from_u64(u64::from_be_bytes(bytes)).ok_or("no luck: all bits are zero")?)
}

/// The storefront: begins a trip, sends a request, reads who answered.
pub(crate) fn call(stream: &mut TcpStream) -> Outcome {
    let settings = settings("4002#55", "storefront")?;
    let storefront = CrossApplication::new(&settings);

    // A transaction that nobody asked for: its request has no metadata.
    let mut trip = storefront.extract_request(new_guid()?, &Message::default().metadata);
    let mut request = Message::new("how many are left?");
    storefront.inject_request(&mut trip, CHECKOUT, &mut request.metadata);
    tell("storefront", &[("mode", &"cross-application")])?;
    tell_metadata("storefront", &request, &[NEWRELIC_ID, NEWRELIC_TRANSACTION])?;
    request.send(stream)?;

    let response = Message::receive(stream)?;
    match storefront.extract_response(&response.metadata) {
        Ok(Some(answer)) => tell(
            "storefront",
            &[
                ("answered.by", &answer.cross_process_id.as_str()),
                ("answered.transaction", &answer.transaction_name),
                ("answered.guid", &answer.guid.as_deref().unwrap_or("none")),
                ("answered.content_length", &answer.content_length.unwrap_or_default()),
            ],
        )?,
        Ok(None) => tell("storefront", &[("answered.by", &"somebody without Cross Application Tracing")])?,
        Err(why) => tell("storefront", &[("answered.refused", &why)])?,
    }
    tell("storefront", &[("answer", &String::from_utf8_lossy(&response.body))])?;
    tell_record("storefront", &trip.finish(&settings, CHECKOUT))
}

/// The inventory: continues the trip and tells the caller who answers.
pub(crate) fn serve(stream: &mut TcpStream) -> Outcome {
    let settings = settings("4001#90210", "inventory")?;
    let inventory = CrossApplication::new(&settings);
    let request = Message::receive(stream)?;
    let start = Instant::now();

    let mut trip = inventory.extract_request(new_guid()?, &request.metadata);
    if let Some(why) = trip.accepted().refused {
        tell("inventory", &[("refused", &why)])?;
    }
    let mut response = Message::new("17 are left");
    let answer = Answer {
        transaction_name: STOCK,
        queue_time_ns: 0,
        response_time_ns: u64::try_from(start.elapsed().as_nanos())?,
        request_content_length: Some(u64::try_from(request.body.len())?),
    };
    let is_answered = inventory.inject_response(&mut trip, &answer, &mut response.metadata);
    tell("inventory", &[("tells_the_caller", &is_answered)])?;
    tell_metadata("inventory", &response, &[NEWRELIC_APP_DATA])?;
    tell_record("inventory", &trip.finish(&settings, STOCK))?;

    response.send(stream)?;
    Ok(())
}

/// The metadata as it goes over the wire: obfuscated.
fn tell_metadata(application: &str, message: &Message, names: &[&str]) -> Outcome {
    for name in names {
        for value in message.metadata.values(name) {
            tell(application, &[(&format!("sent.{name}"), &String::from_utf8_lossy(value))])?;
        }
    }
    Ok(())
}

/// What the Transaction record says of the trip.
fn tell_record(application: &str, intrinsics: &Intrinsics) -> Outcome {
    for attribute in intrinsics.attributes() {
        if let Value::Text(text) = attribute.value {
            tell(application, &[(attribute.name.new_relic(), &String::from_utf8_lossy(text))])?;
        }
    }
    Ok(())
}
