//! Whole requests, byte for byte: what comes in, what goes out, what is recorded and counted.

use serde_json::{Value, json};

use crate::support::{
    Draws, ENTRY_ID, EXIT_ID, GUID, NEW_TRACE, Seen, Setup, TRACE, TRACEPARENT, counted, decode, encode,
};

const ACCEPTED: &str = "TraceContext/Accept/Success";
const CREATED: &str = "TraceContext/Create/Success";
const PAYLOAD_CREATED: &str = "DistributedTrace/CreatePayload/Success";

/// One worked example: a request and everything that comes of it.
struct Example<'a> {
    setup: Setup,
    sent: &'a [(&'a str, &'a str)],
    traceparent: &'a str,
    tracestate: &'a str,
    /// The object `d` of the `newrelic` header.
    data: Value,
    /// What the Transaction says of the caller, and nothing else of the kind.
    caller: Value,
    /// What the entry span says of the caller, and nothing else of the kind.
    entry: Value,
    /// Counted besides the three headers' creation.
    counted: &'a [&'a str],
}

impl Example<'_> {
    fn check(&self) -> Seen {
        let seen = self.setup.exchange(self.sent);
        assert_eq!(seen.traceparent(), self.traceparent);
        assert_eq!(seen.tracestate().as_deref(), Some(self.tracestate));
        assert_eq!(seen.payload(), Some(json!({ "v": [0, 1], "d": self.data })));
        assert_eq!(seen.supportability(), counted(&[self.counted, &[CREATED, PAYLOAD_CREATED]].concat()));
        assert_eq!(about_caller(&seen.transaction()), self.caller);
        if self.data["sa"] == json!(true) {
            let entry = seen.entry_span();
            assert_eq!(about_caller(&entry["attributes"]), self.entry);
            assert_eq!((&entry["id"], &entry["trace.id"]), (&json!(ENTRY_ID), &self.data["tr"]));
            let exit = seen.exit_span();
            assert_eq!((&exit["id"], &exit["attributes"]["parent.id"]), (&json!(EXIT_ID), &json!(ENTRY_ID)));
        } else {
            assert_eq!(seen.spans(), Vec::<Value>::new(), "a trace that is not sampled has no spans");
        }
        seen
    }
}

/// The attributes that tell of a caller.
fn about_caller(record: &Value) -> Value {
    const KEYS: [&str; 12] = [
        "parent.id",
        "parent.type",
        "parent.account",
        "parent.app",
        "parent.transportType",
        "parent.transportDuration",
        "parentId",
        "parentSpanId",
        "trustedParentId",
        "tracingVendors",
        "grandparentId",
        "nr.guid",
    ];
    let members = record.as_object().expect("a record is an object").iter();
    Value::Object(
        members.filter(|(key, _)| KEYS.contains(&&***key)).map(|(key, value)| (key.clone(), value.clone())).collect(),
    )
}

/// The object `d` that we send.
fn data(trace: &str, sampled: bool, priority: f64) -> Value {
    json!({
        "ty": "App", "ac": "4001", "ap": "90210", "id": EXIT_ID, "tx": GUID, "tr": trace, "pr": priority,
        "sa": sampled, "ti": 1_750_000_000_123_u64, "tk": "777",
    })
}

/// The `newrelic` header of an agent with a short trace id in mixed case.
const MIXED_CASE: &str = r#"{"v":[0,1],"d":{"ty":"App","ac":"4002","ap":"55","id":"AA11bb22cc33dd44","tx":"1122334455667788","tr":"4Ad91cE07b35F268","pr":1.5,"sa":true,"ti":1749999999900,"tk":"777"}}"#;

#[test]
fn a_new_trace_that_is_sampled() {
    let example = Example {
        setup: Setup::gateway().draws(Draws::new_trace().priority(437_019)),
        sent: &[],
        traceparent: "00-0f1e2d3c4b5a69788796a5b4c3d2e1f0-c3d4e5f60718293a-01",
        tracestate: "777@nr=0-0-4001-90210--9f8e7d6c5b4a3921-1-2.437019-1750000000123",
        data: data(NEW_TRACE, true, 2.437019),
        caller: json!({}),
        entry: json!({}),
        counted: &[],
    };
    let seen = example.check();
    let payload = "eyJ2IjpbMCwxXSwiZCI6eyJ0eSI6IkFwcCIsImFjIjoiNDAwMSIsImFwIjoiOTAyMTAiLCJpZCI6ImMzZDRlNWY2MDcxODI5M2EiLCJ0eCI6IjlmOGU3ZDZjNWI0YTM5MjEiLCJ0ciI6IjBmMWUyZDNjNGI1YTY5Nzg4Nzk2YTViNGMzZDJlMWYwIiwicHIiOjIuNDM3MDE5LCJzYSI6dHJ1ZSwidGkiOjE3NTAwMDAwMDAxMjMsInRrIjoiNzc3In19";
    assert_eq!(seen.header("newrelic").as_deref(), Some(payload));
    let entry = seen.entry_span();
    assert_eq!(entry["attributes"]["nr.entryPoint"], true);
    assert_eq!(entry["attributes"]["transactionId"], GUID);
    assert_eq!(entry["attributes"]["priority"], 2.437019);
    let transaction = seen.transaction();
    assert_eq!(transaction["guid"], GUID);
    assert_eq!(transaction["traceId"], NEW_TRACE);
    assert_eq!(transaction["priority"], 2.437019);
    assert_eq!(transaction["sampled"], true);
}

#[test]
fn a_new_trace_that_is_not_sampled() {
    let sampler = json!({ "trace_id_ratio_based": { "ratio": 0.5 } });
    let example = Example {
        setup: Setup::gateway().sampler(sampler).draws(Draws::new_trace().priority(120_000)),
        sent: &[],
        traceparent: "00-0f1e2d3c4b5a69788796a5b4c3d2e1f0-c3d4e5f60718293a-00",
        tracestate: "777@nr=0-0-4001-90210--9f8e7d6c5b4a3921-0-0.12-1750000000123",
        data: data(NEW_TRACE, false, 0.12),
        caller: json!({}),
        entry: json!({}),
        counted: &[],
    };
    example.check();
}

#[test]
fn a_trusted_entry_between_two_other_vendors() {
    let example = Example {
        setup: Setup::gateway().draws(Draws::gateway()),
        sent: &[
            ("traceparent", TRACEPARENT),
            (
                "tracestate",
                "vend1=q9/Zx.7,777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-2.0381479-1749999999900 , zeta=4*k",
            ),
        ],
        traceparent: "00-c0a8017e5d3b4f2226e1d47b08aa3f5c-c3d4e5f60718293a-01",
        tracestate: "777@nr=0-0-4001-90210--9f8e7d6c5b4a3921-1-2.038148-1750000000123,vend1=q9/Zx.7,zeta=4*k",
        data: data(TRACE, true, 2.038148),
        caller: json!({
            "parent.type": "App", "parent.account": "4002", "parent.app": "55", "parent.transportType": "HTTPS",
            "parent.transportDuration": 0.223, "parentId": "1122334455667788", "parentSpanId": "b7d20c4e19f86a35",
        }),
        entry: json!({
            "parent.id": "b7d20c4e19f86a35", "trustedParentId": "aa11bb22cc33dd44", "tracingVendors": "vend1,zeta",
            "parent.type": "App", "parent.account": "4002", "parent.app": "55", "parent.transportType": "HTTPS",
            "parent.transportDuration": 0.223,
        }),
        counted: &[ACCEPTED],
    };
    example.check();
}

#[test]
fn an_entry_of_an_untrusted_account() {
    let sampler = json!({ "trace_id_ratio_based": { "ratio": 0.1 } });
    let example = Example {
        setup: Setup::gateway().sampler(sampler).draws(Draws::gateway().priority(500_000)),
        sent: &[
            ("traceparent", "00-c0a8017e5d3b4f2226e1d47b08aa3f5c-b7d20c4e19f86a35-00"),
            ("tracestate", "888@nr=0-0-9-8-aa11bb22cc33dd44-1122334455667788-1-1.2-1749999999900,vend1=p0"),
        ],
        traceparent: "00-c0a8017e5d3b4f2226e1d47b08aa3f5c-c3d4e5f60718293a-00",
        tracestate: "777@nr=0-0-4001-90210--9f8e7d6c5b4a3921-0-0.5-1750000000123,888@nr=0-0-9-8-aa11bb22cc33dd44-1122334455667788-1-1.2-1749999999900,vend1=p0",
        data: data(TRACE, false, 0.5),
        caller: json!({ "parent.transportType": "HTTPS", "parentSpanId": "b7d20c4e19f86a35" }),
        entry: json!({}),
        counted: &[ACCEPTED, "TraceContext/TraceState/NoNrEntry"],
    };
    example.check();
}

#[test]
fn an_entry_of_an_untrusted_account_names_its_vendor_on_the_span() {
    let setup = Setup::gateway().sampler("always_on").draws(Draws::gateway());
    let seen = setup.exchange(&[
        ("traceparent", "00-c0a8017e5d3b4f2226e1d47b08aa3f5c-b7d20c4e19f86a35-00"),
        ("tracestate", "888@nr=0-0-9-8-aa11bb22cc33dd44-1122334455667788-1-1.2-1749999999900,vend1=p0"),
    ]);
    let expected = json!({
        "parent.id": "b7d20c4e19f86a35", "tracingVendors": "888@nr,vend1", "parent.transportType": "HTTPS",
    });
    assert_eq!(about_caller(&seen.entry_span()["attributes"]), expected);
}

#[test]
fn only_a_newrelic_header_with_a_short_trace_id_in_mixed_case() {
    let example = Example {
        setup: Setup::gateway().draws(Draws::gateway()),
        sent: &[("newrelic", &encode(MIXED_CASE))],
        traceparent: "00-00000000000000004ad91ce07b35f268-c3d4e5f60718293a-01",
        tracestate: "777@nr=0-0-4001-90210--9f8e7d6c5b4a3921-1-1.5-1750000000123",
        data: data("4Ad91cE07b35F268", true, 1.5),
        caller: json!({
            "parent.type": "App", "parent.account": "4002", "parent.app": "55", "parent.transportType": "HTTPS",
            "parent.transportDuration": 0.223, "parentId": "1122334455667788", "parentSpanId": "AA11bb22cc33dd44",
        }),
        entry: json!({
            "parent.id": "AA11bb22cc33dd44", "parent.type": "App", "parent.account": "4002", "parent.app": "55",
            "parent.transportType": "HTTPS", "parent.transportDuration": 0.223,
        }),
        counted: &["DistributedTrace/AcceptPayload/Success"],
    };
    let seen = example.check();
    let payload = "eyJ2IjpbMCwxXSwiZCI6eyJ0eSI6IkFwcCIsImFjIjoiNDAwMSIsImFwIjoiOTAyMTAiLCJpZCI6ImMzZDRlNWY2MDcxODI5M2EiLCJ0eCI6IjlmOGU3ZDZjNWI0YTM5MjEiLCJ0ciI6IjRBZDkxY0UwN2IzNUYyNjgiLCJwciI6MS41LCJzYSI6dHJ1ZSwidGkiOjE3NTAwMDAwMDAxMjMsInRrIjoiNzc3In19";
    assert_eq!(seen.header("newrelic").as_deref(), Some(payload));
    assert_eq!(seen.transaction()["traceId"], "4Ad91cE07b35F268");
}

#[test]
fn a_newrelic_header_without_trusted_key_of_another_account() {
    let example = Example {
        setup: Setup::gateway().draws(Draws::new_trace().priority(250_000)),
        sent: &[("newrelic", &encode(MIXED_CASE.replace(r#","tk":"777""#, "")))],
        traceparent: "00-0f1e2d3c4b5a69788796a5b4c3d2e1f0-c3d4e5f60718293a-01",
        tracestate: "777@nr=0-0-4001-90210--9f8e7d6c5b4a3921-1-2.25-1750000000123",
        data: data(NEW_TRACE, true, 2.25),
        caller: json!({}),
        entry: json!({}),
        counted: &["DistributedTrace/AcceptPayload/Ignored/UntrustedAccount"],
    };
    example.check();
}

#[test]
fn an_invalid_traceparent_beside_a_valid_newrelic_header() {
    let example = Example {
        setup: Setup::gateway().draws(Draws::new_trace().priority(600_000)),
        sent: &[
            ("traceparent", "00-00000000000000000000000000000000-b7d20c4e19f86a35-01"),
            ("tracestate", "vend1=p0"),
            ("newrelic", &encode(MIXED_CASE)),
        ],
        traceparent: "00-0f1e2d3c4b5a69788796a5b4c3d2e1f0-c3d4e5f60718293a-01",
        tracestate: "777@nr=0-0-4001-90210--9f8e7d6c5b4a3921-1-2.6-1750000000123",
        data: data(NEW_TRACE, true, 2.6),
        caller: json!({}),
        entry: json!({}),
        counted: &["TraceContext/TraceParent/Parse/Exception"],
    };
    example.check();
}

#[test]
fn an_entry_with_a_bad_timestamp() {
    let example = Example {
        setup: Setup::gateway().draws(Draws::gateway().priority(750_000)),
        sent: &[
            ("traceparent", TRACEPARENT),
            ("tracestate", "777@nr=0-0-4002-55-aa11bb22cc33dd44-1122334455667788-1-2.03-notanumber,vend1=p0"),
        ],
        traceparent: "00-c0a8017e5d3b4f2226e1d47b08aa3f5c-c3d4e5f60718293a-01",
        tracestate: "777@nr=0-0-4001-90210--9f8e7d6c5b4a3921-1-2.75-1750000000123,vend1=p0",
        data: data(TRACE, true, 2.75),
        caller: json!({ "parent.transportType": "HTTPS", "parentSpanId": "b7d20c4e19f86a35" }),
        entry: json!({
            "parent.id": "b7d20c4e19f86a35", "tracingVendors": "vend1", "parent.transportType": "HTTPS",
        }),
        counted: &[ACCEPTED, "TraceContext/TraceState/InvalidNrEntry"],
    };
    example.check();
}

#[test]
fn future_versions_and_two_tracestate_lines() {
    let example = Example {
        setup: Setup::gateway().draws(Draws::gateway()),
        sent: &[
            ("traceparent", "cc-c0a8017e5d3b4f2226e1d47b08aa3f5c-b7d20c4e19f86a35-fd-extra"),
            ("tracestate", "777@nr=1-1-4002-55---0-0.25-1749999999900-new-fields"),
            ("tracestate", "vend1=p0"),
        ],
        traceparent: "00-c0a8017e5d3b4f2226e1d47b08aa3f5c-c3d4e5f60718293a-00",
        tracestate: "777@nr=0-0-4001-90210--9f8e7d6c5b4a3921-0-0.25-1750000000123,vend1=p0",
        data: data(TRACE, false, 0.25),
        caller: json!({
            "parent.type": "Browser", "parent.account": "4002", "parent.app": "55", "parent.transportType": "HTTPS",
            "parent.transportDuration": 0.223, "parentSpanId": "b7d20c4e19f86a35",
        }),
        entry: json!({}),
        counted: &[ACCEPTED],
    };
    example.check();
}

#[test]
fn a_malformed_member_of_another_vendor_beside_an_entry_without_optional_fields() {
    let example = Example {
        setup: Setup::gateway().draws(Draws::gateway().priority(810_000)),
        sent: &[
            ("traceparent", TRACEPARENT),
            ("tracestate", "777@nr=0-2-4002-55-----1749999999900,foo.bar=1,vend1=p0"),
        ],
        traceparent: "00-c0a8017e5d3b4f2226e1d47b08aa3f5c-c3d4e5f60718293a-01",
        tracestate: "777@nr=0-0-4001-90210--9f8e7d6c5b4a3921-1-2.81-1750000000123",
        data: data(TRACE, true, 2.81),
        caller: json!({
            "parent.type": "Mobile", "parent.account": "4002", "parent.app": "55", "parent.transportType": "HTTPS",
            "parent.transportDuration": 0.223, "parentSpanId": "b7d20c4e19f86a35",
        }),
        entry: json!({
            "parent.id": "b7d20c4e19f86a35", "parent.type": "Mobile", "parent.account": "4002", "parent.app": "55",
            "parent.transportType": "HTTPS", "parent.transportDuration": 0.223,
        }),
        counted: &[ACCEPTED, "TraceContext/TraceState/Parse/Exception"],
    };
    example.check();
}

#[test]
fn the_examples_decode_to_what_they_say() {
    let written = "eyJ2IjpbMCwxXSwiZCI6eyJ0eSI6IkFwcCIsImFjIjoiNDAwMiIsImFwIjoiNTUiLCJpZCI6IkFBMTFiYjIyY2MzM2RkNDQiLCJ0eCI6IjExMjIzMzQ0NTU2Njc3ODgiLCJ0ciI6IjRBZDkxY0UwN2IzNUYyNjgiLCJwciI6MS41LCJzYSI6dHJ1ZSwidGkiOjE3NDk5OTk5OTk5MDAsInRrIjoiNzc3In19";
    assert_eq!(encode(MIXED_CASE), written);
    assert_eq!(decode(written)["d"]["tr"], "4Ad91cE07b35F268");
}
