//! `top`: daemons and sessions on one screen, again and again.

use std::{
    io::{IsTerminal as _, Write},
    time::Duration,
};

use anyhow::ensure;
use tokio::{
    select, signal,
    time::{MissedTickBehavior, interval},
};

use super::{
    daemons::{Daemons, pool_table},
    front_end::{FrontEnd, session_table},
};

/// From one screen to the next.
const AGAIN: Duration = Duration::from_secs(2);
/// Sessions on a screen: those used last.
const LINES: usize = 40;
/// To the top of an empty screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows screens until interrupted. What does not answer is said in its place.
pub(super) async fn run(daemons: &Daemons, front_end: FrontEnd, out: &mut impl Write) -> anyhow::Result<()> {
    ensure!(std::io::stdout().is_terminal(), "top needs a terminal; ctl pool and ctl sessions do not");
    let mut ticks = interval(AGAIN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let showing = async {
        loop {
            ticks.tick().await;
            write!(out, "{CLEAR}{}", screen(daemons, &front_end).await)?;
            out.flush()?;
        }
    };
    // One for all screens: an interrupt while nobody listens would be lost, and daemons may take their time to answer.
    select! {
        biased;
        interrupted = signal::ctrl_c() => Ok(interrupted?),
        failed = showing => failed,
    }
}

async fn screen(daemons: &Daemons, front_end: &FrontEnd) -> String {
    let (pools, sessions) = tokio::join!(daemons.pools(), front_end.sessions());
    let mut shown = if pools.told.is_empty() { String::new() } else { pool_table(&pools.told).to_string() };
    shown.extend(pools.failed.iter().map(|error| format!("{error:#}\n")));
    let sessions = sessions.map_or_else(
        |error| format!("{error:#}\n"),
        |mut sessions| {
            let (all, idle) = (sessions.len(), |session: &serde_json::Value| session["idle_seconds"].as_f64());
            sessions.sort_by(|one, other| idle(one).unwrap_or_default().total_cmp(&idle(other).unwrap_or_default()));
            sessions.truncate(LINES);
            format!("{all} sessions, those used last first\n{}", session_table(&sessions))
        },
    );
    format!("{shown}\n{sessions}")
}
