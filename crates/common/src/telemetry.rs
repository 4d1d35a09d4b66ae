//! Logs: one line an event on standard error, human or JSON. Standard output belongs to the stdio transport.

use std::{io::IsTerminal as _, sync::OnceLock};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

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

    /// Installs the log output for this process, until the last lines are written when the guard is dropped (within a
    /// second). A second call is ignored: the first one's output stays.
    #[must_use = "the last lines are lost without it"]
    pub fn install(&self) -> WorkerGuard {
        // rmcp logs session ids at INFO; handles are secrets while nobody is authenticated. Its service loop calls every
        // answer an ERROR whose client has given the call up; a call that ended badly has a line of our own.
        let filter = EnvFilter::new(format!("{},rmcp=warn,rmcp::service=off", self.level));
        let registry = tracing_subscriber::registry().with(filter);
        let (output, guard) =
            NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).finish(std::io::stderr());
        let dropped = output.error_counter();
        let lines = fmt::layer().with_writer(output).with_ansi(std::io::stderr().is_terminal());
        let installed = match self.format {
            LogFormat::Human => registry.with(lines.with_target(false)).try_init(),
            LogFormat::Json => registry.with(lines.json()).try_init(),
        };
        if installed.is_ok() {
            DROPPED.get_or_init(|| dropped);
        }
        guard
    }
}
