//! `headwater trace`: every trace that an event is in, as trees of its spans, off Jaeger's query service.
mod jaeger;
mod tree;

use std::io::Write as _;

use clap::Args;
use headwater_otel::names;
use headwater_proto::EventId;

use crate::{Error, settings::Settings};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// As an answer or the log names it.
    event_id: EventId,
}

pub(crate) async fn run(Arguments { event_id }: Arguments, settings: &Settings) -> Result<(), Error> {
    let Some(url) = &settings.jaeger_url else {
        let text = "JAEGER_URL (or --jaeger-url) is not set: the address of Jaeger's query service";
        return Err(Error::Usage(text.to_owned()));
    };
    let traces = jaeger::traces(url, names::MESSAGE_ID, &event_id.to_string()).await?;
    if traces.is_empty() {
        let text = format!("{url} has no trace of {event_id}: not sampled, not exported yet, or forgotten");
        return Err(Error::Failed(text));
    }
    let text: Vec<String> = traces.iter().map(tree::render).collect();
    let shown = writeln!(std::io::stdout(), "{}", text.join("\n"));
    shown.map_err(|source| Error::Io { what: "the trace cannot be printed".to_owned(), source })
}
