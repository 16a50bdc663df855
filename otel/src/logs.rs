//! The log of this process on stderr: text on a terminal, a line of JSON per event otherwise.
use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    io::{self, IsTerminal as _},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, fmt as lines,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::{JsonFields, Writer},
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

/// What this process logs from now on; false where somebody else has seen to that.
pub(crate) fn install(filter: EnvFilter) -> bool {
    let logs = lines().with_env_filter(filter).with_writer(|| Lines);
    let installed = if io::stderr().is_terminal() {
        tracing::subscriber::set_global_default(logs.compact().finish())
    } else {
        tracing::subscriber::set_global_default(logs.fmt_fields(JsonFields::new()).event_format(Json).finish())
    };
    installed.is_ok()
}

/// Writes what `work` logs on this thread in one go when it ends: for many lines at once, each of which would be a
/// system call. They are in memory until then.
pub fn log_together<T>(work: impl FnOnce() -> T) -> T {
    let _written_when_dropped = Together::begin(io::stderr());
    work()
}

thread_local! {
    /// The lines that wait for the end of [`Together`], where there is one.
    static WAITING: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// While it lives, the lines of its thread wait.
struct Together<W: io::Write>(W);

impl<W: io::Write> Together<W> {
    /// `None` inside another one, which has them all.
    fn begin(to: W) -> Option<Self> {
        WAITING.with_borrow_mut(|waiting| {
            let is_first = waiting.is_none();
            waiting.get_or_insert_default();
            is_first.then(|| Self(to))
        })
    }
}

impl<W: io::Write> Drop for Together<W> {
    fn drop(&mut self) {
        let lines = WAITING.take().unwrap_or_default();
        let _ = self.0.write_all(&lines); // where the log cannot be written there is nobody to tell
    }
}

/// To stderr, or to the lines that wait.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        WAITING.with_borrow_mut(|waiting| match waiting {
            Some(lines) => lines.write(line),
            None => io::stderr().write(line),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // stderr has no buffer
    }
}

/// What tracing-subscriber's own JSON says, flattened, without its detour over a serializer: a service may log every event
/// (docs/measurements.md).
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        line.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut line)?;
        line.write_str("\",\"level\":\"")?;
        line.write_str(event.metadata().level().as_str())?;
        line.write_char('"')?;
        let mut fields = Fields { line: &mut line, written: Ok(()) };
        event.record(&mut fields);
        fields.written?;
        member(&mut line, "target", event.metadata().target())?;
        let parent = event.parent().and_then(|id| context.span(id));
        if let Some(span) = parent.or_else(|| context.lookup_current()) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map_or("", |fields| &fields.fields);
            line.write_str(",\"span\":{\"name\":\"")?;
            Escaped(&mut line).write_str(span.metadata().name())?;
            line.write_char('"')?;
            // an object of its own, as JsonFields writes it
            let fields = fields.strip_prefix('{').and_then(|fields| fields.strip_suffix('}')).unwrap_or_default();
            if !fields.is_empty() {
                line.write_char(',')?;
                line.write_str(fields)?;
            }
            line.write_char('}')?;
        }
        line.write_str("}\n")
    }
}

/// A text that is not the first member of its object.
fn member(line: &mut Writer<'_>, name: &str, text: impl fmt::Display) -> fmt::Result {
    named(line, name)?;
    line.write_char('"')?;
    write!(Escaped(line), "{text}")?;
    line.write_char('"')
}

fn named(line: &mut Writer<'_>, name: &str) -> fmt::Result {
    line.write_str(",\"")?;
    Escaped(line).write_str(name)?;
    line.write_str("\":")
}

struct Fields<'a, 'b> {
    line: &'a mut Writer<'b>,
    /// The first failure.
    written: fmt::Result,
}

impl Fields<'_, '_> {
    /// A number or a truth value.
    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        self.written = self.written.and_then(|()| {
            named(self.line, field.name())?;
            write!(self.line, "{value}")
        });
    }
}

impl Visit for Fields<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.written = self.written.and_then(|()| member(self.line, field.name(), format_args!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.written = self.written.and_then(|()| member(self.line, field.name(), value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() { self.bare(field, format_args!("{value:?}")) } else { self.bare(field, "null") }
    }
}

/// What is written comes out as the inside of a JSON string.
struct Escaped<'a, W>(&'a mut W);

impl<W: fmt::Write> fmt::Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, byte) in text.bytes().enumerate() {
            if byte >= b' ' && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.0.write_str(&text[plain..at])?; // what is escaped is one byte of UTF-8
            plain = at + 1;
            match byte {
                b'"' | b'\\' => write!(self.0, "\\{}", char::from(byte))?,
                b'\n' => self.0.write_str("\\n")?,
                _ => write!(self.0, "\\u{byte:04x}")?,
            }
        }
        self.0.write_str(&text[plain..])
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        sync::{Arc, Mutex},
    };

    use serde_json::Value;
    use tracing::{debug_span, error, info, info_span, subscriber::with_default, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn many_kinds_of_events() {
        let text = "a \"quoted\" \\ back\tslash\r\n\u{1} ünï \u{7f} {\"}";
        info!("plain");
        warn!(eventId = %text, text, debug = ?text, "a {text} message");
        info!(n = -1_i64, u = u64::MAX, big = i128::MAX, yes = true, f = 1.5, one = 1.0, nan = f64::NAN, { "a.b" } = 1);
        error!(error = &io::Error::other(text) as &(dyn std::error::Error + 'static), none = None::<u64>, "failed");
        let _outer = info_span!("outer", text, n = 7, braces = "{}").entered();
        info!("inside");
        let inner = debug_span!("inner \"quoted\"", later = tracing::field::Empty);
        inner.in_scope(|| info!(target: "elsewhere", "no fields"));
        inner.record("later", text);
        inner.in_scope(|| info!("with fields"));
        info!(parent: None, "still the current one");
    }

    #[test]
    fn a_line_says_what_the_json_of_tracing_subscriber_says() {
        let (ours, theirs) = (Sink::default(), Sink::default());
        let to = |sink: &Sink| {
            let sink = sink.clone();
            lines().with_max_level(tracing::Level::TRACE).with_writer(move || sink.clone())
        };
        with_default(to(&ours).fmt_fields(JsonFields::new()).event_format(Json).finish(), many_kinds_of_events);
        let reference = to(&theirs).json().flatten_event(true).with_current_span(true).with_span_list(false);
        with_default(reference.finish(), many_kinds_of_events);
        let read = |sink: &Sink| -> Vec<Value> {
            let lines = sink.text();
            let values = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
            values.inspect(|value| assert_eq!(value["timestamp"].as_str().map(str::len), Some(27), "{value}")).collect()
        };
        let (ours, theirs) = (read(&ours), read(&theirs));
        assert_eq!(ours.len(), 8);
        for (mut ours, mut theirs) in ours.into_iter().zip(theirs) {
            (ours["timestamp"], theirs["timestamp"]) = (Value::Null, Value::Null);
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn lines_that_go_together_are_written_at_the_end_in_their_order() {
        let sink = Sink::default();
        let outer = Together::begin(sink.clone());
        Lines.write_all(b"one\n").unwrap();
        drop(Together::begin(sink.clone()));
        Lines.write_all(b"two\n").unwrap();
        assert_eq!(sink.text(), "", "an inner end is none");
        drop(outer);
        assert_eq!(sink.text(), "one\ntwo\n");
        let panicked = std::panic::catch_unwind(|| {
            let _together = Together::begin(sink.clone());
            Lines.write_all(b"three\n").unwrap();
            panic!("asked for");
        });
        assert!(panicked.is_err());
        assert_eq!(sink.text(), "one\ntwo\nthree\n");
    }
}
