//! The same server over standard input and output.

use std::{sync::Arc, time::Duration};

use browserfleet_common::{
    clock::SystemClock,
    ids::Principal,
    lifecycle::{Shutdown, Tasks},
};
use browserfleet_mcp_frontend::{
    App, Config, Host, Pools,
    changes::Change,
    testing::{Event, FakeDaemon},
};
use serde_json::{Value, json};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf, duplex, split,
    },
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::world::{LIMIT, call, initialize, modern_params, request, text, until};

struct Pipe {
    daemon: FakeDaemon,
    app: App,
    shutdown: Shutdown,
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    input: WriteHalf<DuplexStream>,
    served: JoinHandle<Option<()>>,
}

impl Pipe {
    fn start() -> Self {
        let (tasks, shutdown) = (Tasks::new(), Shutdown::new());
        let daemon = FakeDaemon::new(&tasks);
        let host = Host { tasks: tasks.clone(), shutdown: shutdown.clone(), clock: Arc::new(SystemClock) };
        let app = App::build(Config::default(), Pools::inside("local", daemon.channel()), host).unwrap();
        let (ours, theirs) = duplex(1 << 16);
        let (read, write) = split(theirs);
        let serving = app.clone();
        let served = tasks.spawn("stdio", async move { serving.serve_stdio_on(read, write).await.unwrap() });
        let (read, input) = split(ours);
        Self { daemon, app, shutdown, lines: BufReader::new(read).lines(), input, served }
    }

    async fn say(&mut self, message: &Value) {
        self.input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let line = timeout(LIMIT, self.lines.next_line()).await.expect("an answer in time").unwrap().expect("a line");
        serde_json::from_str(&line).unwrap()
    }

    async fn ask(&mut self, message: &Value) -> Value {
        self.say(message).await;
        self.hear().await
    }

    async fn hang_up(mut self) -> FakeDaemon {
        self.input.shutdown().await.unwrap();
        drop((self.input, self.lines));
        timeout(LIMIT, self.served).await.unwrap().unwrap();
        self.daemon
    }
}

#[tokio::test]
async fn a_legacy_client_is_told_what_changes() {
    let mut pipe = Pipe::start();
    pipe.ask(&initialize("2025-11-25")).await;
    pipe.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    pipe.ask(&request(1, "ping", json!({}))).await;
    pipe.app.changes().raise(&Principal::anonymous(), Change::Tools).await;
    assert_eq!(pipe.hear().await["method"], "notifications/tools/list_changed");
    pipe.hang_up().await;
}

#[tokio::test]
async fn a_modern_client_is_told_what_changes_if_it_asks_for_that() {
    let mut pipe = Pipe::start();
    pipe.ask(&request(1, "tools/list", modern_params(json!({})))).await;
    pipe.app.changes().raise(&Principal::anonymous(), Change::Tools).await;
    let wanted = modern_params(json!({ "notifications": { "toolsListChanged": true } }));
    let first = pipe.ask(&request("s1", "subscriptions/listen", wanted)).await;
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "and nothing before: {first}");
    let raised = async {
        loop {
            pipe.app.changes().raise(&Principal::anonymous(), Change::Tools).await;
            sleep(Duration::from_millis(10)).await;
        }
    };
    let heard = tokio::select! {
        line = pipe.lines.next_line() => line.unwrap().unwrap(),
        () = raised => unreachable!(),
    };
    assert!(heard.contains("notifications/tools/list_changed"), "{heard}");
    pipe.hang_up().await;
}

#[tokio::test]
async fn a_legacy_client() {
    let mut pipe = Pipe::start();
    let hello = pipe.ask(&initialize("2025-11-25")).await;
    assert_eq!(hello["result"]["serverInfo"]["name"], "browserfleet");
    pipe.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    let snapshot = pipe.ask(&call(1, "browser_snapshot", json!({}))).await;
    assert_eq!(snapshot["result"]["isError"], false, "the process has a session of its own: {snapshot}");
    let opened = pipe.ask(&call(2, "browser_open", json!({}))).await;
    assert!(opened["result"]["structuredContent"]["session_id"].as_str().unwrap().starts_with("bs_"));
    pipe.ask(&call(3, "browser_navigate", json!({ "url": "x", "session_id": "second" }))).await;
    let listed = pipe.ask(&call(4, "session_list", json!({}))).await;
    assert_eq!(listed["result"]["structuredContent"]["sessions"].as_array().unwrap().len(), 2);
    assert_eq!(pipe.daemon.leases().len(), 2);
    let daemon = pipe.hang_up().await;
    assert_eq!(daemon.leases(), Vec::<String>::new(), "its sessions ended with it");
}

#[tokio::test]
async fn a_modern_client() {
    let mut pipe = Pipe::start();
    let discovered = pipe.ask(&request(0, "server/discover", modern_params(json!({})))).await;
    assert!(
        discovered["result"]["supportedVersions"].as_array().unwrap().contains(&json!("2026-07-28")),
        "{discovered}"
    );
    let params = modern_params(json!({ "name": "browser_navigate", "arguments": { "url": "x" } }));
    let result = pipe.ask(&request(1, "tools/call", params)).await["result"].clone();
    assert!(result["isError"] == false && !text(&result).contains("session_id"), "{result}");
    let params = modern_params(json!({ "name": "browser_click", "arguments": { "target": "e1" } }));
    let result = pipe.ask(&request(2, "tools/call", params)).await["result"].clone();
    assert!(text(&result).contains("lease-1"), "{result}");
    assert_eq!(pipe.hang_up().await.leases(), Vec::<String>::new());
}

#[tokio::test]
async fn cancelling_and_hanging_up_stop_the_work() {
    let mut pipe = Pipe::start();
    pipe.daemon.answer(|_| vec![Event::started(), Event::WaitForever]);
    pipe.ask(&initialize("2025-11-25")).await;
    pipe.say(&call(1, "browser_click", json!({ "target": "e1" }))).await;
    until("the call runs", || pipe.daemon.seen().called.len() == 1).await;
    pipe.say(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } })).await;
    until("it is stopped", || pipe.daemon.seen().abandoned == 1).await;
    assert_eq!(pipe.ask(&request(2, "ping", json!({}))).await["id"], 2);
    pipe.say(&call(3, "browser_click", json!({ "target": "e1" }))).await;
    until("the next call runs", || pipe.daemon.seen().called.len() == 2).await;
    let daemon = pipe.hang_up().await;
    assert_eq!(daemon.leases(), Vec::<String>::new());
    until("it is stopped, too", || daemon.seen().abandoned == 2).await;
}

#[tokio::test]
async fn the_stop_signal_lets_a_running_call_finish() {
    let mut pipe = Pipe::start();
    pipe.daemon.answer(|_| vec![Event::started(), Event::Wait(Duration::from_millis(300)), Event::end()]);
    pipe.ask(&initialize("2025-11-25")).await;
    pipe.say(&call(1, "browser_click", json!({ "target": "e1" }))).await;
    until("the call runs", || pipe.daemon.seen().called.len() == 1).await;
    pipe.shutdown.begin();
    assert_eq!(pipe.hear().await["result"]["isError"], false);
    timeout(LIMIT, &mut pipe.served).await.unwrap().unwrap();
    assert_eq!(pipe.daemon.leases(), Vec::<String>::new());
}

#[tokio::test]
async fn who_waits_for_a_browser_hears_its_place_in_both_eras() {
    let params = json!({ "name": "browser_open", "arguments": {}, "_meta": { "progressToken": "p" } });
    for (handshake, params) in [(true, params.clone()), (false, modern_params(params))] {
        let mut pipe = Pipe::start();
        pipe.daemon.queue(&[(2, 3), (1, 2)]);
        if handshake {
            pipe.ask(&initialize("2025-11-25")).await;
            pipe.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        }
        pipe.say(&request(5, "tools/call", params)).await;
        for expected in ["Waiting for a browser: place 2 of 3", "Waiting for a browser: place 1 of 2"] {
            let said = pipe.hear().await;
            assert_eq!(
                (&said["method"], &said["params"]["message"]),
                (&json!("notifications/progress"), &json!(expected))
            );
        }
        assert_eq!(pipe.hear().await["id"], 5);
        pipe.hang_up().await;
    }
}
