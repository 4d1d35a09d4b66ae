//! Traces: what a call did, step by step, over all programs that had a part in it; sent to a collector over OTLP.
//!
//! Steps are spans of `tracing` with the target [`STEPS`]. Without a collector nobody asks for them, and one costs as much as a
//! log line that is not written. They hold names, ids and digests; never arguments, URLs or what pages say.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    io,
    time::Duration,
};

use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator as _,
    trace::{Link, SpanKind, TraceContextExt as _, TraceId, TracerProvider as _},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SamplingResult, SdkTracerProvider, ShouldSample},
};
use tokio::runtime::{Builder, Runtime};
use tonic::metadata::MetadataMap;
use tracing::{Span, Subscriber, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};
use url::Url;

use crate::config::Reader;

/// The target of spans that are steps of a call.
pub const STEPS: &str = "browserfleet::steps";

/// Most time for the last spans to be sent.
const LAST_SPANS: Duration = Duration::from_secs(2);
/// Most time for one sending.
const SENDING: Duration = Duration::from_secs(5);

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// Where a program stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Clients call it, who say what trace a call belongs to, but not whether it is recorded.
    Edge,
    /// Our own front ends call it, and what they record is recorded here, too.
    Inside,
}

/// `[traces]`.
#[derive(Clone, Debug)]
pub struct TracesConfig {
    /// The collector. None: there are no traces.
    endpoint: Option<Url>,
    /// The share of calls that is recorded.
    share: f64,
    standing: Standing,
    program: &'static str,
}

impl TracesConfig {
    /// `program` names the process in traces.
    pub fn read(reader: &mut Reader, program: &'static str, standing: Standing) -> Self {
        let endpoint = reader.text("traces.endpoint", "");
        let endpoint = (!endpoint.is_empty()).then(|| Url::parse(&endpoint).ok().filter(|url| url.scheme() == "http"));
        if endpoint == Some(None) {
            reader.problem(
                "traces.endpoint: not the address of an OTLP collector over gRPC, such as http://collector:4317",
            );
        }
        let percent = reader.count("traces.percent", 100, 0..=100);
        let share = f64::from(u8::try_from(percent).unwrap_or(100)) / 100.0;
        Self { endpoint: endpoint.flatten(), share, standing, program }
    }

    /// Begins to send spans to the collector, if there is one.
    ///
    /// # Errors
    /// When the system gives it no thread, or the address is none.
    pub(super) fn export(&self) -> io::Result<Option<Export>> {
        let Some(endpoint) = &self.endpoint else { return Ok(None) };
        // Of its own: programs write their first log lines before they have a runtime, and the last ones after it.
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("traces").enable_all().build()?;
        let provider = {
            let _inside = runtime.enter();
            self.provider(endpoint).map_err(io::Error::other)?
        };
        Ok(Some(Export { provider, _runtime: runtime }))
    }

    fn provider(&self, endpoint: &Url) -> Result<SdkTracerProvider, ExporterBuildError> {
        let exporter =
            SpanExporter::builder().with_tonic().with_endpoint(endpoint.as_str()).with_timeout(SENDING).build()?;
        let resource = Resource::builder().with_service_name(self.program).build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource);
        let drawn = Drawn::new(self.share);
        Ok(match self.standing {
            Standing::Edge => provider.with_sampler(drawn),
            Standing::Inside => provider.with_sampler(Sampler::ParentBased(Box::new(drawn))),
        }
        .build())
    }
}

/// Records a share of traces: by their numbers, so that every step of one is recorded or none; and by a secret of this process,
/// because clients choose the numbers, and could choose ones that are always recorded, or never.
#[derive(Clone, Debug)]
struct Drawn {
    secret: RandomState,
    by_share: Sampler,
}

impl Drawn {
    fn new(share: f64) -> Self {
        Self { secret: RandomState::new(), by_share: Sampler::TraceIdRatioBased(share) }
    }
}

impl ShouldSample for Drawn {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let drawn = TraceId::from(u128::from(self.secret.hash_one(trace)));
        self.by_share.should_sample(parent, drawn, name, kind, attributes, links)
    }
}

/// Spans on their way to a collector. When it is dropped, the last ones are sent, in bounded time.
#[derive(Debug)]
pub(super) struct Export {
    provider: SdkTracerProvider,
    /// The connection to the collector lives here.
    _runtime: Runtime,
}

impl Export {
    /// What takes the spans from `tracing`.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let tracer = self.provider.tracer("browserfleet");
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target(STEPS, LevelFilter::DEBUG))
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_SPANS) {
            tracing::warn!(%error, "the last spans did not reach the collector");
        }
    }
}

/// A step of a call: a span, in English words or the name of a method, with whatever is known of it.
#[macro_export]
macro_rules! step {
    ($name:expr $(, $($fields:tt)*)?) => {
        ::tracing::debug_span!(target: $crate::telemetry::STEPS, "step", otel.name = $name $(, $($fields)*)?)
    };
}

/// What a caller says of the trace that it is part of, by the W3C's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceParent {
    pub traceparent: String,
    pub tracestate: Option<String>,
}

impl TraceParent {
    /// Makes a span part of that trace. One that cannot be understood is none, as the rules want it.
    pub fn lead(&self, span: &Span) {
        let mut carrier = HashMap::from([(TRACEPARENT.to_owned(), self.traceparent.clone())]);
        carrier.extend(self.tracestate.clone().map(|state| (TRACESTATE.to_owned(), state)));
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
        // Fails where no spans are recorded.
        let _unrecorded = span.set_parent(context);
    }

    /// Where the current span is, for whom we call. None: it is not recorded.
    pub fn current() -> Option<Self> {
        let context = recorded(&Span::current())?;
        let mut carrier = HashMap::new();
        TraceContextPropagator::new().inject_context(&context, &mut carrier);
        Some(Self { traceparent: carrier.remove(TRACEPARENT)?, tracestate: carrier.remove(TRACESTATE) })
    }

    /// From the headers of a request to us.
    pub fn of(headers: &http::HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Some(Self { traceparent: text(TRACEPARENT)?, tracestate: text(TRACESTATE) })
    }

    /// Into the metadata of a request of ours.
    pub fn write(self, metadata: &mut MetadataMap) {
        let entries = [(TRACEPARENT, Some(self.traceparent)), (TRACESTATE, self.tracestate)];
        for (name, text) in entries {
            if let Some(value) = text.and_then(|text| text.parse().ok()) {
                metadata.insert(name, value);
            }
        }
    }
}

/// The number of the trace that the current span is recorded in.
pub fn trace_id() -> Option<String> {
    Some(recorded(&Span::current())?.span().span_context().trace_id().to_string())
}

fn recorded(span: &Span) -> Option<Context> {
    if span.is_none() {
        return None;
    }
    let context = span.context();
    context.span().span_context().is_sampled().then_some(context)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use opentelemetry_sdk::trace::SamplingDecision;
    use tracing::{Instrument as _, subscriber::with_default};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const THEIRS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn config(url: &str, percent: &str, standing: Standing) -> Result<TracesConfig, crate::config::Problems> {
        let flags = [("traces.endpoint", Some(&url as _)), ("traces.percent", Some(&percent as _))];
        let mut reader = Reader::new(None, &flags);
        let config = TracesConfig::read(&mut reader, "test", standing);
        reader.finish(&[]).map(|()| config)
    }

    /// What is seen in a span that is part of a trace of somebody else's.
    fn within<T>(config: &TracesConfig, look: impl FnOnce() -> T) -> T {
        let export = config.export().unwrap().unwrap();
        with_default(tracing_subscriber::registry().with(export.layer()), || {
            let span = step!("a step");
            TraceParent { traceparent: THEIRS.to_owned(), tracestate: Some("a=b".to_owned()) }.lead(&span);
            span.in_scope(look)
        })
    }

    #[test]
    fn a_step_goes_on_with_the_trace_of_who_asks_and_hands_it_on() {
        let config = config("http://127.0.0.1:1", "100", Standing::Edge).unwrap();
        let (id, next) = within(&config, || (trace_id(), TraceParent::current()));
        assert_eq!(id.as_deref(), Some(&THEIRS[3..35]));
        let next = next.unwrap();
        assert!(next.traceparent.starts_with(&THEIRS[..36]) && next.traceparent != THEIRS, "{next:?}");
        assert_eq!(next.tracestate.as_deref(), Some("a=b"));
        let mut metadata = MetadataMap::new();
        next.clone().write(&mut metadata);
        assert_eq!(TraceParent::of(metadata.as_ref()), Some(next));
    }

    #[test]
    fn the_edge_decides_what_is_recorded_and_inside_that_is_followed() {
        for (standing, recorded) in [(Standing::Edge, false), (Standing::Inside, true)] {
            let config = config("http://127.0.0.1:1", "0", standing).unwrap();
            assert_eq!(within(&config, trace_id).is_some(), recorded, "{standing:?}");
        }
    }

    #[test]
    fn no_number_of_a_trace_is_always_recorded_or_never() {
        let numbers = ["00000000000000000000000000000001", "ffffffffffffffffffffffffffffffff", &THEIRS[3..35]];
        for number in numbers.map(|number| TraceId::from_hex(number).unwrap()) {
            let recorded = |drawn: &Drawn| drawn.should_sample(None, number, "", &SpanKind::Server, &[], &[]).decision;
            let all = (0..400).filter(|_| {
                let drawn = Drawn::new(0.5);
                assert_eq!(recorded(&drawn), recorded(&drawn.clone()), "all steps of a trace, or none");
                recorded(&drawn) == SamplingDecision::RecordAndSample
            });
            let count = all.count();
            assert!((100..300).contains(&count), "{number}: {count} of 400 processes");
        }
    }

    #[tokio::test]
    async fn without_a_collector_nothing_is_recorded() {
        let config = config("", "100", Standing::Edge).unwrap();
        assert!(config.export().unwrap().is_none());
        let step = step!("a step");
        TraceParent { traceparent: THEIRS.to_owned(), tracestate: None }.lead(&step);
        assert_eq!(async { (trace_id(), TraceParent::current()) }.instrument(step).await, (None, None));
    }

    #[test]
    fn what_is_no_trace_is_none() {
        assert_eq!(TraceParent::of(&HeaderMap::new()), None);
        for bad in ["", "00-0-0-01", "garbage", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] {
            let config = config("http://127.0.0.1:1", "100", Standing::Edge).unwrap();
            let export = config.export().unwrap().unwrap();
            let id = with_default(tracing_subscriber::registry().with(export.layer()), || {
                let span = step!("a step");
                TraceParent { traceparent: bad.to_owned(), tracestate: None }.lead(&span);
                span.in_scope(trace_id)
            });
            assert!(id.is_some_and(|id| id != THEIRS[3..35]), "{bad:?}: it is a trace of its own");
        }
    }

    #[test]
    fn an_address_that_is_none_is_told() {
        for bad in ["collector:4317", "https://collector:4317", "nonsense"] {
            assert!(config(bad, "100", Standing::Edge).unwrap_err().0[0].starts_with("traces.endpoint"), "{bad}");
        }
    }
}
