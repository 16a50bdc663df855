//! The log of this process on stderr: text on a terminal, a line of JSON per event otherwise.
use std::{
    cell::{Cell, RefCell},
    fmt::{self, Write as _},
    io::{self, IsTerminal as _},
    time::{Duration, SystemTime},
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, fmt as lines,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::{JsonFields, Writer},
    },
    registry::LookupSpan,
};

use crate::span::now;

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

/// Writes what `work` logs on this thread together, in as few system calls as blocks of [`BLOCK`] bytes make of it, the last
/// when it ends. Lines wait in memory until then.
pub fn log_together<T>(work: impl FnOnce() -> T) -> T {
    let _written_when_dropped = Together::begin(io::stderr());
    work()
}

/// Written at once, at least: what is larger is no longer in the processor's cache when the kernel copies it.
const BLOCK: usize = 64 * 1024;

thread_local! {
    /// The lines that wait for the end of [`Together`], where there is one.
    static WAITING: RefCell<Option<Waiting>> = const { RefCell::new(None) };
    /// The line that is made, and its memory.
    static LINE: Cell<Line> = Cell::default();
}

struct Waiting {
    lines: Vec<u8>,
    to: Box<dyn io::Write>,
}

impl Waiting {
    fn write(&mut self) {
        let _ = self.to.write_all(&self.lines); // where the log cannot be written there is nobody to tell
        self.lines.clear();
    }
}

/// While it lives, the lines of its thread wait.
struct Together;

impl Together {
    /// `None` inside another one, which has them all.
    fn begin(to: impl io::Write + 'static) -> Option<Self> {
        WAITING.with_borrow_mut(|waiting| {
            let is_first = waiting.is_none();
            waiting.get_or_insert_with(|| Waiting { lines: Vec::new(), to: Box::new(to) });
            is_first.then(|| Self) // made only where it is the first: its end writes the lines
        })
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        if let Some(mut waiting) = WAITING.take() {
            waiting.write();
        }
    }
}

/// To stderr, or to the lines that wait.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        WAITING.with_borrow_mut(|waiting| {
            let Some(waiting) = waiting else { return io::stderr().write(line) };
            waiting.lines.extend_from_slice(line);
            if waiting.lines.len() >= BLOCK {
                waiting.write();
            }
            Ok(line.len())
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
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = LINE.take(); // what a field's own text logs meanwhile has a line of its own
        line.begin(now(), event.metadata().level().as_str());
        event.record(&mut line);
        line.member("target", event.metadata().target());
        let parent = event.parent().and_then(|id| context.span(id));
        if let Some(span) = parent.or_else(|| context.lookup_current()) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map_or("", |fields| &fields.fields);
            line.text.push_str(",\"span\":{\"name\":\"");
            line.push_escaped(span.metadata().name());
            line.text.push('"');
            // an object of its own, as JsonFields writes it
            let fields = fields.strip_prefix('{').and_then(|fields| fields.strip_suffix('}')).unwrap_or_default();
            if !fields.is_empty() {
                line.text.push(',');
                line.text.push_str(fields);
            }
            line.text.push('}');
        }
        line.text.push_str("}\n");
        let written = to.write_str(&line.text);
        LINE.set(line);
        written
    }
}

/// One JSON object in the making.
#[derive(Default)]
struct Line {
    text: String,
    /// Seconds since the Unix epoch, and what a time of that second begins with.
    second: u64,
    until_second: String,
}

impl Line {
    fn begin(&mut self, now: SystemTime, level: &str) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() || self.until_second.is_empty() {
            self.second = since.as_secs();
            let second = OffsetDateTime::from(SystemTime::UNIX_EPOCH + Duration::from_secs(self.second));
            let text = second.format(&Rfc3339).unwrap_or_default();
            self.until_second = text.trim_end_matches('Z').to_owned();
        }
        self.text.clear();
        self.text.push_str("{\"timestamp\":\"");
        self.text.push_str(&self.until_second);
        self.text.push('.');
        let (mut micros, mut digits) = (since.subsec_micros(), [b'0'; 6]);
        for digit in digits.iter_mut().rev() {
            *digit += (micros % 10) as u8;
            micros /= 10;
        }
        self.text.extend(digits.map(char::from));
        self.text.push_str("Z\",\"level\":\"");
        self.text.push_str(level);
        self.text.push('"');
    }

    /// A text that is not the first member of its object.
    fn member(&mut self, name: &str, text: &str) {
        self.name(name);
        self.text.push('"');
        self.push_escaped(text);
        self.text.push('"');
    }

    /// A number or a truth value.
    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field.name());
        let _ = write!(self.text, "{value}"); // a string takes everything
    }

    fn name(&mut self, name: &str) {
        self.text.push_str(",\"");
        self.push_escaped(name);
        self.text.push_str("\":");
    }

    /// The inside of a JSON string.
    fn push_escaped(&mut self, text: &str) {
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            self.text.push_str(&rest[..at]);
            let _ = match rest.as_bytes()[at] {
                byte @ (b'"' | b'\\') => write!(self.text, "\\{}", char::from(byte)),
                b'\n' => self.text.write_str("\\n"),
                byte => write!(self.text, "\\u{byte:04x}"),
            };
            rest = &rest[at + 1..]; // what is escaped is one byte of UTF-8
        }
        self.text.push_str(rest);
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.name(field.name());
        self.text.push('"');
        let _ = write!(Escaped(self), "{value:?}"); // a value that cannot show itself is cut
        self.text.push('"');
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field.name(), value);
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
struct Escaped<'a>(&'a mut Line);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_escaped(text);
        Ok(())
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
    fn a_line_begins_with_its_time() {
        let mut line = Line::default();
        for (micros, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_768_472_999_999_999, "2026-01-15T10:29:59.999999Z"),
            (1_768_473_000_000_001, "2026-01-15T10:30:00.000001Z"),
        ] {
            line.begin(SystemTime::UNIX_EPOCH + Duration::from_micros(micros), "INFO");
            assert_eq!(line.text, format!("{{\"timestamp\":\"{expected}\",\"level\":\"INFO\""));
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
        let _together = Together::begin(sink.clone());
        let line = vec![b'x'; BLOCK / 2];
        Lines.write_all(&line).unwrap();
        assert_eq!(sink.text().len(), 14, "half a block waits");
        Lines.write_all(&line).unwrap();
        assert_eq!(sink.text().len(), 14 + BLOCK, "a whole one does not");
    }
}
