//! One event across the services, as Jaeger has it: every edge of its trace, a verdict in the trace of its cause, and a
//! replay in one of its own.
//! Takes the Jaeger that HEADWATER_TEST_JAEGER_URL and HEADWATER_TEST_OTLP_ENDPOINT name; asked for by name.
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
};

use headwater_cli::{
    Derived,
    replay::{From, Name, Plan, replay},
    simulate::Audience,
};
use headwater_otel::{Span, TraceContext, names, span::Kind};
use headwater_proto::v1::{Payload, RecordActionRequest};
use headwater_stream::replay::Start;
use headwater_tests::{Parts, Running, eventually};
use serde_json::Value;
use tonic::{Request, metadata::MetadataValue};

const TYPES: [&str; 3] = ["user.password_changed", "user.ip_changed", "user.logged_in"];

fn from_stack(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set; `make traces` brings up a Jaeger and sets it"))
}

/// Where Jaeger answers, and a platform whose traces it gets.
async fn traced_platform() -> (String, Running) {
    let jaeger = from_stack("HEADWATER_TEST_JAEGER_URL");
    let endpoint = from_stack("HEADWATER_TEST_OTLP_ENDPOINT");
    let platform =
        Running::on_with(Parts::Embedded, |settings| settings.otel_exporter_otlp_endpoint = Some(endpoint)).await;
    (jaeger, platform)
}

/// A call that is part of this trace.
fn within<T>(context: TraceContext, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(TraceContext::HEADER, MetadataValue::try_from(context.to_string()).unwrap());
    request
}

/// What a span is called here: service, name and, of a consumer's, its group.
type Named = (String, String, String);

fn named(service: &str, name: &str, group: &str) -> Named {
    (service.to_owned(), name.to_owned(), group.to_owned())
}

/// The group as the table of topics has it: each run appends a suffix of its own.
fn without_suffix(group: String) -> String {
    group.find("-group").map(|at| group[..at + "-group".len()].to_owned()).unwrap_or(group)
}

struct Seen {
    trace: String,
    name: Named,
    parent: Option<String>,
    links: BTreeSet<String>,
    message: Option<String>,
}

/// Every span of the trace, by id.
async fn spans(jaeger: &str, trace: &str) -> BTreeMap<String, Seen> {
    let answer = reqwest::get(format!("{jaeger}/api/traces/{trace}")).await.expect("Jaeger answers");
    let answer: Value = answer.json().await.expect("JSON");
    let mut seen = BTreeMap::new();
    for trace in answer["data"].as_array().into_iter().flatten() {
        for span in trace["spans"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let tag = |key: &str| {
                let tags = span["tags"].as_array().into_iter().flatten();
                tags.filter(|tag| tag["key"] == key).map(|tag| text(&tag["value"])).next()
            };
            let service = text(&trace["processes"][span["processID"].as_str().unwrap_or_default()]["serviceName"]);
            let references: Vec<&Value> = span["references"].as_array().into_iter().flatten().collect();
            let of = |kind: &str| {
                let of_kind = references.iter().filter(|one| one["refType"] == kind);
                of_kind.map(|one| (text(&one["traceID"]), text(&one["spanID"]))).collect::<Vec<_>>()
            };
            // Jaeger shows a span that is a child of another and linked to it as following from it only
            let (of_parents, links) = (of("CHILD_OF"), of("FOLLOWS_FROM"));
            let mut parents = of_parents.iter().chain(&links).filter(|(id, _)| trace["traceID"] == **id);
            let parent = parents.next().map(|(_, span)| span.clone());
            seen.insert(
                text(&span["spanID"]),
                Seen {
                    trace: text(&span["traceID"]),
                    name: (
                        service,
                        text(&span["operationName"]),
                        tag(names::GROUP).map(without_suffix).unwrap_or_default(),
                    ),
                    parent,
                    links: links.into_iter().map(|(_, span)| span).collect(),
                    message: tag(names::MESSAGE_ID),
                },
            );
        }
    }
    seen
}

/// The edges of one trace, once all that are expected are there.
async fn edges(jaeger: &str, trace: TraceContext, expected: &[(Named, Named)]) -> BTreeMap<String, Seen> {
    let id = format!("{:032x}", trace.trace_id);
    let mut last = BTreeSet::new();
    let wanted: BTreeSet<_> = expected.iter().cloned().collect();
    eventually("every edge of the trace is in Jaeger", async || {
        let seen = spans(jaeger, &id).await;
        let edges: BTreeSet<(Named, Named)> = seen
            .values()
            .filter_map(|span| Some((seen.get(span.parent.as_ref()?)?.name.clone(), span.name.clone())))
            .collect();
        if edges != last {
            let missing: Vec<_> = wanted.difference(&edges).collect();
            eprintln!("{} edges, missing {missing:#?}", edges.len());
            last = edges;
        }
        wanted.is_subset(&last).then_some(seen)
    })
    .await
}

/// The traces in which the service has a span about this event.
async fn found(jaeger: &str, service: &str, event_id: &str) -> Vec<String> {
    let tags = serde_json::json!({ names::MESSAGE_ID: event_id }).to_string();
    let parameters = [("service", service), ("tags", tags.as_str())];
    let url = reqwest::Url::parse_with_params(&format!("{jaeger}/api/traces"), parameters).expect("a URL");
    let answer: Value = reqwest::get(url).await.expect("Jaeger answers").json().await.expect("JSON");
    let traces = answer["data"].as_array().into_iter().flatten();
    traces.filter_map(|trace| Some(trace["traceID"].as_str()?.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_followed_through_every_service_and_a_verdict_goes_on_in_the_trace_of_its_cause() {
    let (jaeger, platform) = traced_platform().await;
    let mut actions = platform.actions();
    let mut last = None;
    for event_type in TYPES {
        let context = TraceContext::root();
        let call = Span::start("backend", "take an action", Kind::Client, context, None).expect("traces are on");
        let action = RecordActionRequest {
            event_type: event_type.to_owned(),
            user_id: "ada".to_owned(),
            payload: Some(Payload {
                email: "ada@example.com".to_owned(),
                ip: "203.0.113.9".to_owned(),
                session_id: "s1".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let answer = actions.record_action(within(context, action)).await.expect("the action is taken").into_inner();
        call.end();
        last = Some((context, answer.event_id));
    }
    let (trace, event_id) = last.expect("three actions");

    let call = named("backend", "take an action", "");
    let served = named("ingress", "headwater.v1.UserActions/RecordAction", "");
    let sent = named("ingress", names::SPAN_SEND, "");
    let process = |service: &str, group: &str| named(service, names::SPAN_PROCESS, group);
    let analytics = process("analytics", "analytics-consumer-group");
    let notification = process("notification", "notification-consumer-group");
    let fraud = process("fraud", "fraud-detection-group");
    let status = process("ingress", "ingress-account-status-group");
    let announced = named("fraud", names::SPAN_SEND, "");
    let edge = |parent: &Named, child: &Named| (parent.clone(), child.clone());
    let seen = edges(
        &jaeger,
        trace,
        &[
            edge(&call, &served),
            edge(&served, &named("ingress", names::SPAN_COMMIT, "")),
            edge(&served, &sent),
            edge(&sent, &analytics),
            edge(&sent, &notification),
            edge(&sent, &fraud),
            edge(&sent, &status),
            edge(&analytics, &named("analytics", names::SPAN_WRITE_SESSIONS, "")),
            edge(&fraud, &named("fraud", names::SPAN_WRITE_FINDINGS, "")),
            edge(&fraud, &named("fraud", names::SPAN_WRITE_PROFILES, "")),
            // the verdicts
            edge(&fraud, &announced),
            edge(&announced, &analytics),
            edge(&announced, &notification),
            edge(&announced, &fraud),
            edge(&announced, &status),
            edge(&notification, &named("notification", names::SPAN_WRITE_LEDGER, "")),
            edge(&status, &named("ingress", names::SPAN_WRITE_STATUS, "")),
        ],
    )
    .await;

    let verdicts: BTreeSet<&String> =
        seen.values().filter(|span| span.name == announced).filter_map(|span| span.message.as_ref()).collect();
    assert_eq!(verdicts.len(), 2, "user.flagged and user.password_reset_required, each under its own id");
    for span in seen.values().filter(|span| span.name != call) {
        let message = span.message.as_ref().unwrap_or_else(|| panic!("{:?} names its event", span.name));
        assert!(*message == event_id || verdicts.contains(message), "{:?} names {message}", span.name);
    }
    for span in seen.values().filter(|span| span.name.1 == names::SPAN_PROCESS) {
        assert!(span.links.contains(span.parent.as_ref().unwrap()), "{:?} is linked to its send too", span.name);
    }

    // found by what an operator has in hand
    assert_eq!(found(&jaeger, "notification", &event_id).await, [format!("{:032x}", trace.trace_id)]);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_is_followed_from_its_request_to_its_consumer() {
    let (jaeger, platform) = traced_platform().await;
    let context = TraceContext::root();
    let post = platform.http.post(format!("http://{}/events/generate", platform.addresses.activity));
    let post = post.header(TraceContext::HEADER, context.to_string());
    let answer = post.body(r#"{"userId":"ada","eventType":"LOGIN"}"#).send().await.expect("an answer");
    let answer: Value = answer.json().await.expect("JSON");
    let id = answer["eventId"].as_str().expect("an id");
    let request = named("activity", "POST /events/generate", "");
    let sent = named("activity", "send user-activity-events", "");
    let processed = named("activity", "process user-activity-events", "user-activity-consumer-group");
    edges(&jaeger, context, &[(request, sent.clone()), (sent, processed)]).await;
    assert_eq!(found(&jaeger, "activity", id).await, [format!("{:032x}", context.trace_id)], "by its eventId");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_action_of_a_stream_has_a_trace_of_its_own_with_a_link_to_the_stream() {
    let (jaeger, platform) = traced_platform().await;
    let context = TraceContext::root();
    let items = (0..2).map(|n| RecordActionRequest {
        event_type: "user.logged_in".to_owned(),
        user_id: format!("user-{n}"),
        ..Default::default()
    });
    let request = within(context, tokio_stream::iter(items.collect::<Vec<_>>()));
    let mut answers = platform.actions().record_actions(request).await.expect("a stream").into_inner();
    let mut ids = Vec::new();
    while let Some(answer) = answers.message().await.expect("an answer") {
        ids.push(answer.event_id);
    }
    assert_eq!(ids.len(), 2);

    let stream = spans_of_the_stream(&jaeger, context).await;
    let mut traces = BTreeSet::new();
    for id in &ids {
        let trace = eventually("the action's trace is in Jaeger", async || {
            let trace = found(&jaeger, "ingress", id).await.into_iter().next()?;
            let seen = spans(&jaeger, &trace).await;
            seen.values().any(|span| span.name.1 == names::SPAN_ACTION).then_some(trace)
        })
        .await;
        let seen = spans(&jaeger, &trace).await;
        let action = seen.values().find(|span| span.name.1 == names::SPAN_ACTION).unwrap();
        assert_eq!(action.parent, None, "it begins its trace");
        assert!(action.links.contains(&stream), "it is linked to the stream's span {stream}: {:?}", action.links);
        traces.insert(action.trace.clone());
    }
    assert_eq!(traces.len(), 2, "one trace each");
    platform.stop().await;
}

/// The id of the span of the stream itself.
async fn spans_of_the_stream(jaeger: &str, context: TraceContext) -> String {
    eventually("the stream's span is in Jaeger", async || {
        let seen = spans(jaeger, &format!("{:032x}", context.trace_id)).await;
        seen.into_iter().find(|(_, span)| span.name.1.ends_with("/RecordActions")).map(|(id, _)| id)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_begins_a_trace_of_its_own_with_a_link_to_the_send_of_the_event() {
    let (jaeger, platform) = traced_platform().await;
    let context = TraceContext::root();
    let action = RecordActionRequest {
        event_type: "user.logged_in".to_owned(),
        user_id: "ada".to_owned(),
        payload: Some(Payload { session_id: "s1".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let request = within(context, action);
    let event_id = platform.actions().record_action(request).await.expect("the action is taken").into_inner().event_id;
    let sent = named("ingress", names::SPAN_SEND, "");
    let processed = named("analytics", names::SPAN_PROCESS, "analytics-consumer-group");
    let live = edges(&jaeger, context, &[(sent.clone(), processed.clone())]).await;
    let (send, _) = live.iter().find(|(_, span)| span.name == sent).expect("the send");

    let plan = Plan { of: Derived::Analytics, from: From(Start::Beginning), until: None, keep: false };
    let (target, settings) = (platform.platform().target(), platform.platform().settings());
    let replayed = replay(Name::draw(), &plan, &target, settings, Audience::Nobody).await.expect("a replay");
    assert_eq!(replayed.outcomes.done, 1, "{replayed}");

    let first = format!("{:032x}", context.trace_id);
    let written = named("analytics", names::SPAN_WRITE_SESSIONS, "");
    let (again, seen) = eventually("the replay's trace is in Jaeger", async || {
        let traces = found(&jaeger, "analytics", &event_id).await;
        let again = traces.into_iter().find(|trace| *trace != first)?;
        let seen = spans(&jaeger, &again).await;
        let complete = [&processed, &written].iter().all(|name| seen.values().any(|span| span.name == **name));
        complete.then_some((again, seen))
    })
    .await;
    let (id, process) = seen.iter().find(|(_, span)| span.name == processed).expect("the processing");
    assert_eq!(process.parent, None, "it begins its trace");
    assert!(process.links.contains(send), "it is linked to the send {send}: {:?}", process.links);
    assert_eq!(process.message.as_ref(), Some(&event_id));
    let write = seen.values().find(|span| span.name == written).expect("the write");
    assert_eq!(write.parent.as_ref(), Some(id));
    let traces = found(&jaeger, "analytics", &event_id).await;
    assert!(traces.len() == 2 && traces.contains(&first) && traces.contains(&again), "{traces:?}");
    platform.stop().await;
}
