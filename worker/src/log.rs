//! Log lines: one JSON object each, on the platform's console, which takes
//! their fields apart.

use std::{cell::RefCell, fmt::Debug};

use serde_json::{Map, Value};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
};
use worker::{Date, console_error, console_log, console_warn};

/// Makes the console the place where events and spans go.
pub(crate) fn install() {
    // It fails only when there is one already, which serves as well.
    let _ = tracing::subscriber::set_global_default(Console);
}

/// Events from `info` up, and each span when it ends, with the fields of the
/// spans around them.
struct Console;

type Fields = Map<String, Value>;

struct Span {
    id: u64,
    name: &'static str,
    fields: Fields,
    since: u64,
    handles: usize,
}

#[derive(Default)]
struct Spans {
    last: u64,
    open: Vec<Span>,
    entered: Vec<u64>,
}

thread_local! {
    static SPANS: RefCell<Spans> = RefCell::default();
}

impl Subscriber for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = around(span.parent(), span.is_root());
        // Not while the spans are borrowed: a value's Debug may log, too.
        span.record(&mut Recorder(&mut fields));
        let since = Date::now().as_millis();
        SPANS.with_borrow_mut(|spans| {
            spans.last += 1;
            let (id, name) = (spans.last, span.metadata().name());
            spans.open.push(Span { id, name, fields, since, handles: 1 });
            Id::from_u64(id)
        })
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let mut fields = Fields::new();
        values.record(&mut Recorder(&mut fields));
        SPANS.with_borrow_mut(|spans| {
            if let Some(span) = spans.find(id.into_u64()) {
                span.fields.extend(fields);
            }
        });
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = around(event.parent(), event.is_root());
        event.record(&mut Recorder(&mut fields));
        write(*event.metadata().level(), fields);
    }

    fn enter(&self, id: &Id) {
        SPANS.with_borrow_mut(|spans| spans.entered.push(id.into_u64()));
    }

    fn exit(&self, id: &Id) {
        SPANS.with_borrow_mut(|spans| {
            if let Some(at) = spans.entered.iter().rposition(|entered| *entered == id.into_u64()) {
                spans.entered.remove(at);
            }
        });
    }

    fn clone_span(&self, id: &Id) -> Id {
        SPANS.with_borrow_mut(|spans| {
            if let Some(span) = spans.find(id.into_u64()) {
                span.handles += 1;
            }
        });
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let Some(span) = SPANS.with_borrow_mut(|spans| spans.drop_handle(id.into_u64())) else {
            return false;
        };
        let mut fields = span.fields;
        fields.insert("span".into(), span.name.into());
        // The clock stands still between I/O: time that PVE takes is right, our own reads 0.
        fields.insert("ms".into(), Date::now().as_millis().saturating_sub(span.since).into());
        write(Level::INFO, fields);
        true
    }
}

impl Spans {
    fn find(&mut self, id: u64) -> Option<&mut Span> {
        self.open.iter_mut().find(|it| it.id == id)
    }

    /// The span, when this was its last handle.
    fn drop_handle(&mut self, id: u64) -> Option<Span> {
        let at = self.open.iter().position(|it| it.id == id)?;
        let span = self.open.get_mut(at)?;
        span.handles -= 1;
        if span.handles > 0 { None } else { Some(self.open.swap_remove(at)) }
    }
}

/// The fields of the span named, or of the innermost that is entered.
fn around(parent: Option<&Id>, root: bool) -> Fields {
    SPANS.with_borrow(|spans| {
        let entered = spans.entered.last().copied().filter(|_| !root);
        let id = parent.map(Id::into_u64).or(entered);
        spans.open.iter().find(|it| Some(it.id) == id).map(|span| span.fields.clone()).unwrap_or_default()
    })
}

/// Puts values into an object, numbers and booleans as such.
struct Recorder<'a>(&'a mut Fields);

impl Recorder<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Recorder<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

fn write(level: Level, mut fields: Fields) {
    fields.insert("level".into(), level.as_str().into());
    let line = serde_json::to_string(&fields).unwrap_or_default();
    match level {
        Level::ERROR => console_error!("{line}"),
        Level::WARN => console_warn!("{line}"),
        _ => console_log!("{line}"),
    }
}
