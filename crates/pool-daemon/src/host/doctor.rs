//! What an operator is told about this machine: every check, and a browser that is really started.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener},
};

use browserfleet_common::{lifecycle::Tasks, size::Size};
use tokio::time::{Duration, Instant};

use super::{
    checks::{self, Check, Verdict},
    memory::Meter,
};
use crate::{
    chromium,
    config::Config,
    egress::Exits,
    launcher::ChromiumLauncher,
    pool::{Browser, Launcher as _},
};

/// Time for the last tasks of the browser that was started.
const LAST_TASKS: Duration = Duration::from_secs(5);

/// An address the program will listen on, with the setting it comes from.
pub type Port = (&'static str, SocketAddr);

/// Runs every check, prints what was found, and answers whether the program would work. `problems` of the settings count
/// as found by a check of their own.
///
/// # Errors
/// When the output cannot be written.
pub async fn run(config: &Config, ports: &[Port], problems: &[String], out: &mut impl Write) -> io::Result<bool> {
    let mut checks: Vec<Check> = problems.iter().map(|problem| wrong_setting(problem)).collect();
    checks.extend(checks::at_start(config));
    checks.extend(ports.iter().map(|(setting, address)| port(setting, *address)));
    // With a problem known the launch would only show it again, in other words.
    if checks.iter().all(|check| !matches!(check.verdict, Verdict::Problem { .. })) {
        checks.push(launch(config).await);
    }
    print(&checks, out)
}

fn print(checks: &[Check], out: &mut impl Write) -> io::Result<bool> {
    let (mut problems, mut warnings) = (0, 0);
    for check in checks {
        let (word, fix) = match &check.verdict {
            Verdict::Ok => ("ok", None),
            Verdict::Warning { fix } => ("warning", Some(fix)),
            Verdict::Problem { fix } => ("problem", Some(fix)),
        };
        problems += usize::from(word == "problem");
        warnings += usize::from(word == "warning");
        writeln!(out, "{word:8} {:19} {}", check.name, check.text)?;
        if let Some(fix) = fix {
            writeln!(out, "{:28} fix: {fix}", "")?;
        }
    }
    let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    writeln!(out, "{}, {}", plural(problems, "problem"), plural(warnings, "warning"))?;
    Ok(problems == 0)
}

fn wrong_setting(problem: &str) -> Check {
    Check::problem("settings", problem, "correct the flag, the environment variable or the file")
}

fn port(setting: &'static str, address: SocketAddr) -> Check {
    match TcpListener::bind(address) {
        Ok(_free_again) => Check::ok(setting, format!("{address} is free")),
        Err(error) => Check::problem(
            setting,
            format!("cannot listen on {address}: {error}"),
            "end the program that has it (perhaps another one of ours), or choose another address",
        ),
    }
}

/// Starts a browser with a page, as the pool would, measures it and ends it.
async fn launch(config: &Config) -> Check {
    let (name, tasks) = ("launch", Tasks::new());
    if let Err(error) = chromium::become_subreaper() {
        return Check::problem(name, format!("cannot become the reaper of browsers: {error}"), "check prctl(2)");
    }
    let exits = Exits::new(config.egress.clone(), &tasks);
    let launcher = match ChromiumLauncher::start(config.chromium.clone(), config.health, exits, false, &tasks) {
        Ok(launcher) => launcher,
        Err(error) => return Check::problem(name, chromium::chain(&error), "see above"),
    };
    let began = Instant::now();
    let check = match launcher.launch(0).await {
        Ok(browser) => started(config, &browser, began.elapsed()).await,
        Err(error) => Check::problem(name, error.to_string(), "start the executable by hand to see more"),
    };
    drop(launcher);
    tasks.join(LAST_TASKS).await;
    check
}

async fn started(config: &Config, browser: &Browser, took: Duration) -> Check {
    let memory = Meter::default().group(browser.tree.pid()).unwrap_or_default();
    let began = Instant::now();
    let left = browser.tree.end().await;
    let ended = began.elapsed();
    if left > 0 {
        let text = format!("a browser started, but {left} of its processes could not be ended");
        return Check::problem("launch", text, "look at them with ps");
    }
    let sandbox = if config.chromium.no_sandbox { "off" } else { "on" };
    let (took, ended) = (took.as_millis(), ended.as_millis());
    let text = format!("a page answered after {took} ms, sandbox {sandbox}, {}; gone after {ended} ms", Size(memory));
    Check::ok("launch", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_printed_and_problems_decide() {
        let checks = [
            Check::ok("memory", "enough"),
            Check::warning("/dev/shm", "small", "enlarge it"),
            wrong_setting("pool.max_browsers = 0: not allowed"),
        ];
        let mut out = Vec::new();
        assert!(!print(&checks, &mut out).unwrap());
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "ok       memory              enough\n\
             warning  /dev/shm            small\n                             fix: enlarge it\n\
             problem  settings            pool.max_browsers = 0: not allowed\n                             \
             fix: correct the flag, the environment variable or the file\n1 problem, 1 warning\n"
        );
        assert!(print(&checks[..2], &mut Vec::new()).unwrap());
    }

    #[test]
    fn a_port_in_use_is_a_problem() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert!(matches!(port("http.listen", address).verdict, Verdict::Problem { .. }));
        drop(taken);
        assert_eq!(port("http.listen", address).verdict, Verdict::Ok);
    }
}
