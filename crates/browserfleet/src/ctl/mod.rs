//! `browserfleet ctl`: what operators ask daemons (over gRPC) and front ends (over HTTP), for people without grpcurl and curl.

mod daemons;
mod front_end;
mod table;
mod top;

use std::{io::Write, path::PathBuf, time::Duration};

use anyhow::{anyhow, bail};
use browserfleet_common::{pb, secret_file};
use clap::{Subcommand, ValueEnum};
use serde_json::Value;

use self::{
    daemons::{Answers, Daemons},
    front_end::FrontEnd,
    table::Table,
};

/// Most time for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Looks at a fleet that runs, and takes things back.
#[derive(Debug, clap::Args)]
pub(crate) struct Ctl {
    #[command(flatten)]
    reach: Reach,
    /// Print JSON, an object a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

/// Whom to ask, and as whom.
#[derive(Debug, clap::Args)]
#[expect(clippy::doc_markdown, reason = "these are help texts, which are plain")]
struct Reach {
    /// A pool daemon's gRPC address, once for each [default: http://127.0.0.1:50051]
    #[arg(long, value_name = "URL", global = true)]
    daemon: Vec<String>,
    /// The file with the daemons' operator token (grpc.operator_token_file)
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// A front end (http:// or https://), for sessions [default: http://127.0.0.1:8931]
    #[arg(long, value_name = "URL", global = true)]
    front_end: Option<String>,
    /// A file with an API key of the scope admin, where front ends ask for one
    #[arg(long, value_name = "FILE", global = true)]
    key_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The leases of all daemons asked, oldest first
    Leases {
        /// Of one principal, by the hash that is shown
        #[arg(long, value_name = "HASH", default_value_t)]
        principal: String,
        /// Of one session, by the hash that is shown
        #[arg(long, value_name = "HASH", default_value_t)]
        session: String,
        /// In one state
        #[arg(long)]
        state: Option<State>,
    },
    /// How many browsers each daemon has, and who waits
    Pool,
    /// The sessions of all front ends, and what runs in them
    Sessions,
    /// Stop granting leases on the daemons given; those that run are moved, and ended when the grace is over
    Drain {
        /// Such as 30s, 5m [default: the daemon's own]
        #[arg(long, value_name = "TIME")]
        grace: Option<humantime::Duration>,
    },
    /// Take one lease back at once; its session goes on in another browser with what was kept of it
    Revoke {
        #[arg(value_name = "LEASE")]
        lease_id: String,
    },
    /// Daemons and sessions, every two seconds, until interrupted
    Top,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Bound,
    Unbound,
}

impl Ctl {
    /// Asks, and prints what comes back.
    ///
    /// # Errors
    /// When somebody does not answer, or says no. What the others have answered is printed.
    pub(crate) fn run(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.ask(out))
    }

    async fn ask(&self, out: &mut impl Write) -> anyhow::Result<()> {
        match &self.what {
            What::Leases { principal, session, state } => {
                let wanted = pb::ListLeasesRequest {
                    principal_hash: principal.clone(),
                    session_hash: session.clone(),
                    state: match state {
                        None => pb::LeaseState::Unspecified,
                        Some(State::Bound) => pb::LeaseState::Bound,
                        Some(State::Unbound) => pb::LeaseState::Unbound,
                    }
                    .into(),
                };
                let leases = self.reach.daemons()?.leases(&wanted).await;
                self.show_all(out, leases, daemons::lease_table)
            }
            What::Pool => {
                let pools = self.reach.daemons()?.pools().await;
                self.show_all(out, pools, daemons::pool_table)
            }
            What::Sessions => {
                let sessions = self.reach.front_end()?.sessions().await?;
                self.show(out, sessions, front_end::session_table)
            }
            What::Drain { grace } => {
                if self.reach.daemon.is_empty() {
                    bail!("say which daemons to drain: --daemon http://host:port, once for each");
                }
                let drained = self.reach.daemons()?.drain(grace.map(Into::into)).await;
                self.show_all(out, drained, |drained| Table::of(&["daemon", "leases"], drained))
            }
            What::Revoke { lease_id } => {
                let daemon = self.reach.daemons()?.revoke(lease_id).await?;
                writeln!(out, "{lease_id} of {daemon} has ended")?;
                Ok(())
            }
            What::Top => top::run(&self.reach.daemons()?, self.reach.front_end()?, out).await,
        }
    }

    /// Shows what daemons have answered, whether or not all of them have.
    fn show_all(
        &self,
        out: &mut impl Write,
        Answers { told, failed }: Answers<Value>,
        table: impl Fn(&[Value]) -> Table,
    ) -> anyhow::Result<()> {
        // A heading over nothing says that there is nothing.
        if !told.is_empty() || failed.is_empty() {
            self.show(out, told, table)?;
        }
        if failed.is_empty() {
            return Ok(());
        }
        let failed: Vec<String> = failed.iter().map(|error| format!("{error:#}")).collect();
        Err(anyhow!(failed.join("\n")))
    }

    fn show(&self, out: &mut impl Write, rows: Vec<Value>, table: impl Fn(&[Value]) -> Table) -> anyhow::Result<()> {
        if self.json {
            for row in rows {
                writeln!(out, "{row}")?;
            }
        } else {
            write!(out, "{}", table(&rows))?;
        }
        Ok(())
    }
}

impl Reach {
    fn daemons(&self) -> anyhow::Result<Daemons> {
        let addresses = if self.daemon.is_empty() { &["http://127.0.0.1:50051".to_owned()] } else { &*self.daemon };
        Daemons::new(addresses, first_line(self.token_file.as_ref())?)
    }

    fn front_end(&self) -> anyhow::Result<FrontEnd> {
        let address = self.front_end.as_deref().unwrap_or("http://127.0.0.1:8931");
        FrontEnd::new(address, first_line(self.key_file.as_ref())?)
    }
}

/// The secret in a file: of several, while they are exchanged, the first one is the new one.
fn first_line(file: Option<&PathBuf>) -> anyhow::Result<Option<String>> {
    let Some(path) = file else { return Ok(None) };
    let text = secret_file::read(path)?;
    Ok(text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned))
}
