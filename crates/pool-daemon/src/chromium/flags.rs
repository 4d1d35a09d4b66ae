//! The command line, as a pure function, and what an operator may not add to it.
//!
//! Every flag here was tried on Chromium 156: pages load, screenshots work, nothing listens.

use std::{ffi::OsString, path::Path};

use super::WayOut;

/// For every build.
const COMMON: &[&str] = &[
    // The only way in. A debugging port can be reached from pages of every browser on the machine.
    "--remote-debugging-pipe",
    // Nobody sits in front of it.
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--mute-audio",
    "--window-size=1280,720",
    "--force-color-profile=srgb",
    // It calls nobody by itself and keeps nothing outside its profile.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-crash-reporter",
    // The two above leave full Chromium's crash handlers running, in sessions of their own.
    "--disable-crashpad-for-testing",
    "--password-store=basic",
    "--use-mock-keychain",
    // Traffic goes through the egress proxy or not at all. Each build knows one of the two names and ignores the other.
    "--disable-quic",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    // Fewer processes, less memory, faster start: 7 → 5 processes and 197 → 170 MiB with one page.
    "--disable-extensions",
    "--disable-software-rasterizer",
    "--in-process-gpu",
    // No page is in front, all are in use.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
];

/// What Chromium leaves out of its proxy settings by itself, loopback and link-local addresses, goes through the proxy, too.
pub(crate) const BYPASS_NOTHING: &str = "<-loopback>";

/// For full Chromium: the new headless mode, and no window of its own, because every page is made over the pipe.
const FULL: &[&str] = &["--headless=new", "--no-startup-window"];

const NETWORK_IN_PROCESS: &str = "NetworkServiceInProcess2";
const ENABLED_FEATURES: &[&str] = &[NETWORK_IN_PROCESS];
const DISABLED_FEATURES: &[&str] = &[
    // WebRTC would listen for multicast DNS, to hide addresses that it does not tell anyway without UDP of its own.
    "WebRtcHideLocalIpsWithMdns",
    "SpareRendererForSitePerProcess",
    // After an input event it holds back the page's timers until the next frame. We wait for those timers, not for a
    // frame nobody looks at: 12 ms of every click.
    "DeferRendererTasksAfterInput",
    // Otherwise every navigation builds a new frame, a widget and a compositor, also within a site. Sites are kept apart
    // by site isolation, not by this.
    "RenderDocument",
];
/// Two hidden pages in every window of full Chromium, 38 MiB each time.
const FULL_DISABLED_FEATURES: &[&str] = &["WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "MediaRouter"];

/// Switches that would undo a promise of this service, and the promise.
const FORBIDDEN: &[(&str, &str)] = &[
    ("remote-debugging-port", "browsers are driven over a pipe only, a port is open to every page on the machine"),
    ("remote-debugging-address", "browsers are driven over a pipe only, a port is open to every page on the machine"),
    ("remote-debugging-targets", "browsers are driven over a pipe only"),
    ("remote-debugging-socket-name", "browsers are driven over a pipe only"),
    ("remote-debugging-io-pipes", "set by the service"),
    ("remote-debugging-pipe", "set by the service"),
    ("remote-allow-origins", "browsers are driven over a pipe only"),
    ("no-sandbox", "the sandbox is turned off with unsafe.no_sandbox only"),
    ("disable-setuid-sandbox", "the sandbox is turned off with unsafe.no_sandbox only"),
    ("disable-namespace-sandbox", "the sandbox is turned off with unsafe.no_sandbox only"),
    ("disable-seccomp-filter-sandbox", "the sandbox is turned off with unsafe.no_sandbox only"),
    ("disable-gpu-sandbox", "the sandbox is turned off with unsafe.no_sandbox only"),
    ("allow-sandbox-debugging", "the sandbox is turned off with unsafe.no_sandbox only"),
    ("no-zygote", "the sandbox needs the zygote"),
    ("no-zygote-sandbox", "the sandbox is turned off with unsafe.no_sandbox only"),
    ("no-unsandboxed-zygote", "set by the service"),
    ("single-process", "renderers must be processes of their own"),
    ("process-per-site", "renderers must be processes of their own"),
    ("disable-web-security", "it removes the same-origin policy"),
    ("disable-site-isolation-trials", "it lets sites share a process"),
    ("disable-site-isolation-for-policy", "it lets sites share a process"),
    ("allow-file-access-from-files", "pages must not read the daemon's files"),
    ("proxy-server", "egress is set by the service"),
    ("proxy-bypass-list", "egress is set by the service"),
    ("proxy-pac-url", "egress is set by the service"),
    ("proxy-auto-detect", "egress is set by the service"),
    ("no-proxy-server", "egress is set by the service"),
    ("host-rules", "it leads traffic around the egress checks"),
    ("host-resolver-rules", "it leads traffic around the egress checks"),
    ("host-resolver-retry-attempts", "egress is set by the service"),
    ("enable-quic", "QUIC goes around the egress proxy"),
    ("origin-to-force-quic-on", "QUIC goes around the egress proxy"),
    ("force-webrtc-ip-handling-policy", "WebRTC goes around the egress proxy"),
    ("webrtc-ip-handling-policy", "WebRTC goes around the egress proxy"),
    ("user-data-dir", "every browser has its own profile"),
    ("disk-cache-dir", "every browser has its own profile"),
    ("crash-dumps-dir", "every browser has its own profile"),
    ("profile-directory", "every browser has its own profile"),
    ("load-extension", "extensions are off"),
    ("disable-extensions-except", "extensions are off"),
    ("headless", "the mode follows from the executable"),
    ("type", "it makes the browser something else"),
    ("browser-subprocess-path", "it runs another program"),
    ("renderer-cmd-prefix", "it runs another program"),
    ("utility-cmd-prefix", "it runs another program"),
    ("gpu-launcher", "it runs another program"),
    ("ppapi-plugin-launcher", "it runs another program"),
    ("zygote-cmd-prefix", "it runs another program"),
];

/// Why an extra argument is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    #[error("extra argument --{flag} is refused: {why}")]
    Forbidden { flag: String, why: &'static str },
    #[error("extra argument {arg:?} is not a flag of the form --name or --name=value")]
    NotAFlag { arg: String },
}

/// Checked arguments of the operator, in their order; features are kept apart because Chromium reads only the last list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtraArgs {
    plain: Vec<String>,
    enabled_features: Vec<String>,
    disabled_features: Vec<String>,
}

impl ExtraArgs {
    /// Checks all of `args`.
    ///
    /// # Errors
    /// The first that is refused.
    pub fn parse(args: &[String]) -> Result<Self, FlagError> {
        let mut extra = Self::default();
        for arg in args {
            extra.add(arg)?;
        }
        Ok(extra)
    }

    fn add(&mut self, arg: &str) -> Result<(), FlagError> {
        // As Chromium reads it: surrounding blanks do not count, and one dash is as good as two.
        let trimmed = arg.trim();
        let not_a_flag = || FlagError::NotAFlag { arg: arg.to_owned() };
        let body = trimmed.strip_prefix("--").or_else(|| trimmed.strip_prefix('-')).ok_or_else(not_a_flag)?;
        let (name, value) = body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value)));
        if name.is_empty()
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            || body.contains('\0')
        {
            return Err(not_a_flag());
        }
        if let Some((flag, why)) = FORBIDDEN.iter().find(|(flag, _)| flag.eq_ignore_ascii_case(name)) {
            return Err(FlagError::Forbidden { flag: (*flag).to_owned(), why });
        }
        let features = value.unwrap_or_default().split(',').filter(|feature| !feature.is_empty()).map(str::to_owned);
        if name == "disable-features"
            && features.clone().any(|feature| feature.trim_start_matches('*').starts_with(NETWORK_IN_PROCESS))
        {
            let why = "the egress proxy serves the browser's main process only, so network code must run there";
            return Err(FlagError::Forbidden { flag: format!("{name}={NETWORK_IN_PROCESS}"), why });
        }
        match name {
            "enable-features" => self.enabled_features.extend(features),
            "disable-features" => self.disabled_features.extend(features),
            _ => self.plain.push(format!("--{body}")),
        }
        Ok(())
    }
}

/// What the command line depends on.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    pub headless_shell: bool,
    pub no_sandbox: bool,
    /// `/dev/shm` is too small for Chromium's shared memory, which then goes to the profile's `TMPDIR`.
    pub small_shm: bool,
    pub user_data_dir: &'a Path,
    /// Without one it goes wherever the machine does, for measurements only.
    pub way_out: Option<&'a WayOut>,
    pub extra: &'a ExtraArgs,
}

/// All arguments after the executable's name.
pub fn command_line(options: &Options<'_>) -> Vec<OsString> {
    let full = !options.headless_shell;
    let mut line: Vec<OsString> = COMMON.iter().map(OsString::from).collect();
    if full {
        line.extend(FULL.iter().map(OsString::from));
    }
    if options.no_sandbox {
        line.push("--no-sandbox".into());
    }
    if options.small_shm {
        line.push("--disable-dev-shm-usage".into());
    }
    if let Some(WayOut { proxy_server, inside }) = options.way_out {
        line.push(format!("--proxy-server={proxy_server}").into());
        line.push(format!("--proxy-bypass-list={BYPASS_NOTHING}").into());
        // WebRTC looks up the names of its servers by itself, past any proxy. In a network of its own each gate has an address,
        // and a name like one leads nowhere.
        let gates = if inside.is_some() { "127.*" } else { "127.0.0.1" };
        line.push(format!("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {gates}").into());
    }
    let mut user_data_dir = OsString::from("--user-data-dir=");
    user_data_dir.push(options.user_data_dir);
    line.push(user_data_dir);
    line.extend(options.extra.plain.iter().map(OsString::from));

    let full_disabled: &[&str] = if full { FULL_DISABLED_FEATURES } else { &[] };
    line.push(features("--enable-features=", &[ENABLED_FEATURES], &options.extra.enabled_features));
    line.push(features("--disable-features=", &[DISABLED_FEATURES, full_disabled], &options.extra.disabled_features));
    line
}

fn features(flag: &str, ours: &[&[&str]], extra: &[String]) -> OsString {
    let names: Vec<&str> =
        ours.iter().flat_map(|list| list.iter().copied()).chain(extra.iter().map(String::as_str)).collect();
    format!("{flag}{}", names.join(",")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<ExtraArgs, FlagError> {
        ExtraArgs::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    fn line(headless_shell: bool, no_sandbox: bool, small_shm: bool, extra: &ExtraArgs) -> Vec<String> {
        let way_out = WayOut { proxy_server: "http://127.0.0.1:9".to_owned(), inside: None };
        let options = Options {
            headless_shell,
            no_sandbox,
            small_shm,
            user_data_dir: Path::new("/p/data"),
            way_out: Some(&way_out),
            extra,
        };
        command_line(&options).into_iter().map(|arg| arg.into_string().unwrap()).collect()
    }

    #[test]
    fn the_pipe_and_never_a_port() {
        for headless_shell in [true, false] {
            let line = line(headless_shell, false, false, &ExtraArgs::default());
            assert!(line.contains(&"--remote-debugging-pipe".to_owned()));
            assert!(line.contains(&"--user-data-dir=/p/data".to_owned()));
            assert!(line.contains(&"--proxy-server=http://127.0.0.1:9".to_owned()));
            assert!(line.contains(&"--proxy-bypass-list=<-loopback>".to_owned()));
            assert!(line.contains(&"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1".to_owned()));
            assert!(
                !line.iter().any(|arg| arg.contains("remote-debugging-port") || arg.contains("no-sandbox")),
                "{line:?}"
            );
        }
    }

    #[test]
    fn only_full_chromium_gets_its_own_flags() {
        let ours = |arg: &str| arg.starts_with("--headless") || arg == "--no-startup-window" || arg.contains("Omnibox");
        assert!(!line(true, false, false, &ExtraArgs::default()).iter().any(|arg| ours(arg)));
        assert_eq!(line(false, false, false, &ExtraArgs::default()).iter().filter(|arg| ours(arg)).count(), 3);
    }

    #[test]
    fn sandbox_and_shared_memory_are_said_only_when_asked() {
        let line = line(true, true, true, &ExtraArgs::default());
        assert!(line.contains(&"--no-sandbox".to_owned()) && line.contains(&"--disable-dev-shm-usage".to_owned()));
    }

    #[test]
    fn no_flag_is_said_twice() {
        let mut names: Vec<String> = line(false, true, true, &ExtraArgs::default())
            .iter()
            .map(|arg| arg.split('=').next().unwrap().to_owned())
            .collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn features_of_the_operator_join_ours() {
        let extra =
            parse(&["--enable-features=A,B", "--disable-features=C", "--disable-features=D,", "--lang=de"]).unwrap();
        let line = line(true, false, false, &extra);
        let of = |flag: &str| line.iter().filter(|arg| arg.starts_with(flag)).cloned().collect::<Vec<_>>();
        assert_eq!(of("--enable-features"), ["--enable-features=NetworkServiceInProcess2,A,B"]);
        assert_eq!(
            of("--disable-features"),
            [
                "--disable-features=WebRtcHideLocalIpsWithMdns,SpareRendererForSitePerProcess,DeferRendererTasksAfterInput,RenderDocument,C,D"
            ]
        );
        assert_eq!(of("--lang"), ["--lang=de"]);
    }

    #[test]
    fn forbidden_flags_are_refused_however_they_are_written() {
        for arg in [
            "--remote-debugging-port=9222",
            "--remote-debugging-port",
            "-remote-debugging-port=0",
            "  --no-sandbox ",
            "--No-Sandbox",
            "--disable-web-security",
            "--proxy-bypass-list=*",
            "--user-data-dir=/tmp/x",
            "--host-resolver-rules=MAP * 127.0.0.1",
            "--renderer-cmd-prefix=xterm",
        ] {
            assert!(matches!(parse(&[arg]), Err(FlagError::Forbidden { .. })), "{arg}");
        }
    }

    #[test]
    fn what_is_not_a_flag_is_refused() {
        for arg in ["", "--", "-", "http://example.com", "--=x", "--a b", "--x=\0", "—no-sandbox"] {
            assert!(matches!(parse(&[arg]), Err(FlagError::NotAFlag { .. })), "{arg:?}");
        }
    }

    #[test]
    fn the_refusal_names_flag_and_reason() {
        let message = parse(&["--no-sandbox"]).unwrap_err().to_string();
        assert_eq!(
            message,
            "extra argument --no-sandbox is refused: the sandbox is turned off with unsafe.no_sandbox only"
        );
    }
}
