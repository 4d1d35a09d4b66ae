//! A front end over a daemon that has no browsers: for trying MCP clients by hand.
//!
//! `cargo run --release -p browserfleet-mcp-frontend --features test-util --example fake_fleet -- 127.0.0.1:8931`, or
//! with `stdio` instead of the address.

use std::{env, sync::Arc, time::Duration};

use browserfleet_common::{
    clock::SystemClock,
    lifecycle::{Shutdown, Tasks},
};
use browserfleet_mcp_frontend::{
    App, Config, Host, Pools,
    testing::{Event, FakeDaemon},
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let place = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8931".to_owned());
    let (tasks, shutdown) = (Tasks::new(), Shutdown::new());
    shutdown.on_signals(&tasks)?;
    let daemon = FakeDaemon::new(&tasks);
    daemon.queue(&[(2, 2), (1, 2)]);
    daemon.answer(|call| {
        let arguments = String::from_utf8_lossy(&call.arguments);
        let mut events = vec![Event::started(), Event::progress("working")];
        if arguments.contains("slow") {
            events.push(Event::Wait(Duration::from_secs(5)));
        }
        events.extend([Event::text("Result", &format!("{} {arguments}", call.tool)), Event::end()]);
        events
    });
    let host = Host { tasks: tasks.clone(), shutdown: shutdown.clone(), clock: Arc::new(SystemClock) };
    let app = App::build(Config::default(), Pools::inside("local", daemon.channel()), host)?;
    if place == "stdio" {
        app.serve_stdio().await?;
    } else {
        app.serve_http(TcpListener::bind(&place).await?).await?;
    }
    eprintln!("{daemon:#?}");
    shutdown.force();
    tasks.join(Duration::from_secs(1)).await;
    Ok(())
}
