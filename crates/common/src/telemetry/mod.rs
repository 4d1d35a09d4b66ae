//! What a program says of itself while it runs. Logs: one line an event on standard error, human or JSON; standard output
//! belongs to the stdio transport. Traces: see [`traces`].

mod traces;

use std::{
    io::{self, IsTerminal as _},
    sync::OnceLock,
};

use tracing::Subscriber;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, fmt, layer::SubscriberExt as _, registry::LookupSpan, util::SubscriberInitExt as _,
};

use self::traces::Export;
pub use self::traces::{STEPS, Standing, TraceParent, TracesConfig, trace_id};
use crate::config::Reader;

/// Lines that may wait for whoever reads standard error; further ones are dropped. A pipe that nobody reads must not stop
/// the program.
const WAITING_LINES: usize = 4096;

/// Of the output that is installed.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// How many lines this process has dropped because nobody read them.
pub(crate) fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |counter| u64::try_from(counter.dropped_lines()).unwrap_or(u64::MAX))
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Human,
    Json,
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct LogConfig {
    pub format: LogFormat,
    /// A filter in `tracing`'s syntax: `info`, `browserfleet_pool_daemon=debug`.
    pub level: String,
}

impl LogConfig {
    pub fn read(reader: &mut Reader) -> Self {
        let format =
            reader.choice("log.format", LogFormat::Human, &[("human", LogFormat::Human), ("json", LogFormat::Json)]);
        let level = reader.text("log.level", "info");
        if let Err(error) = level.parse::<EnvFilter>() {
            reader.problem(format!("log.level = {level:?}: {error}; such as info, debug, warn"));
        }
        Self { format, level }
    }

    /// What writes the lines, and the thread that does so.
    fn lines<S>(&self) -> (impl Layer<S> + use<S>, WorkerGuard, ErrorCounter)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // rmcp logs session ids at INFO; handles are secrets while nobody is authenticated. Its service loop calls every
        // answer an ERROR whose client has given the call up; a call that ended badly has a line of our own.
        let filter = EnvFilter::new(format!("{},rmcp=warn,rmcp::service=off", self.level));
        let (output, guard) =
            NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).finish(std::io::stderr());
        let dropped = output.error_counter();
        let lines = fmt::layer().with_writer(output).with_ansi(std::io::stderr().is_terminal());
        let lines = match self.format {
            LogFormat::Human => lines.with_target(false).boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        (lines.with_filter(filter), guard, dropped)
    }
}

/// `[log]` and `[traces]`.
#[derive(Clone, Debug)]
pub struct Telemetry {
    log: LogConfig,
    traces: TracesConfig,
}

/// Logs and traces of this process. When it is dropped, what waits is written and sent, in bounded time.
#[derive(Debug)]
pub struct Installed {
    // Dropped in this order: the export may have a last line to write.
    _spans: Option<Export>,
    _lines: WorkerGuard,
}

impl Telemetry {
    /// `program` names the process in traces.
    pub fn read(reader: &mut Reader, program: &'static str, standing: Standing) -> Self {
        Self { log: LogConfig::read(reader), traces: TracesConfig::read(reader, program, standing) }
    }

    /// Installs both for this process. A second call is ignored: what the first one installed stays.
    ///
    /// # Errors
    /// When traces cannot be sent at all.
    pub fn install(&self) -> io::Result<Installed> {
        let spans = self.traces.export()?;
        let (lines, guard, dropped) = self.log.lines();
        let registry = tracing_subscriber::registry().with(lines).with(spans.as_ref().map(Export::layer));
        if registry.try_init().is_ok() {
            DROPPED.get_or_init(|| dropped);
        }
        Ok(Installed { _spans: spans, _lines: guard })
    }
}
