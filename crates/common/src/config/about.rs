//! What each setting is for, and why its default is what it is. docs/settings.md is written from this and from what the
//! programs ask for; a test holds them together.

/// About one setting.
#[derive(Debug)]
pub(super) struct About {
    pub(super) key: &'static str,
    pub(super) what: &'static str,
    pub(super) why: &'static str,
    /// The default in words, where it depends on the machine.
    pub(super) default: Option<&'static str>,
}

const fn about(key: &'static str, what: &'static str, why: &'static str) -> About {
    About { key, what, why, default: None }
}

impl About {
    const fn by_default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }
}

/// All settings, by section.
pub(super) const ABOUT: &[About] = &[
    about(
        "http.listen",
        "Where MCP, artifacts and operators' pages are served",
        "nobody but this machine reaches it; other addresses need keys, or a word that everybody may come in",
    ),
    about(
        "http.tls_cert_file",
        "The certificate that this server is known by over TLS, with its chain (PEM). Read again when it changes",
        "none: on loopback nobody reads along, and elsewhere a proxy in front may have it",
    ),
    about(
        "http.tls_key_file",
        "Its private key (PEM), readable for its owner and group alone",
        "goes with the certificate",
    ),
    about(
        "http.allowed_hosts",
        "Names in `Host` that are answered, with or without a port",
        "a page that a browser was led to by DNS rebinding says another one",
    )
    .by_default("names of this machine"),
    about(
        "http.allowed_origins",
        "Origins of browsers besides our own",
        "no page of another site talks to this server",
    ),
    about(
        "http.max_body",
        "Most bytes of a request's body",
        "the longest arguments that a daemon takes; files come by `PUT /artifacts/`",
    ),
    about(
        "http.header_timeout",
        "From the first byte of a request to the last of its headers",
        "slow lines need a second; who needs more holds a place",
    ),
    about("http.body_timeout", "For a whole body", "1 MiB at 300 kbit/s"),
    about(
        "http.idle_timeout",
        "Between two requests of a connection, and for a client that does not read",
        "longer than clients pause between calls, and than most proxies keep idle connections",
    ),
    about(
        "http.max_connections",
        "TCP connections at a time; one more is told to come back",
        "each costs a descriptor and its buffers; a process often may have 1,024 descriptors more than it needs",
    ),
    about(
        "http.keep_alive",
        "How often a silent event stream gets a comment",
        "proxies close streams on which nothing is said for 30 or 60 s",
    ),
    about(
        "http.drain_timeout",
        "How long running calls may go on after SIGTERM",
        "Kubernetes kills after 30 s unless told otherwise",
    ),
    about(
        "http.public_url",
        "How clients reach this server, such as `https://browsers.example.com`",
        "none: a server does not know how it is reached, and its replies hold no links",
    ),
    about(
        "http.link_ttl",
        "How long such a link holds good",
        "whoever has it needs no key: long enough to fetch something, too short to be passed on",
    ),
    about(
        "auth.keys_file",
        "The file with the keys of those who may call",
        "none: whoever reaches the address may, so it has to be loopback",
    ),
    about(
        "oauth.issuer",
        "Whose access tokens are good, such as `https://login.example.com/realms/main`",
        "none: nobody's",
    ),
    about("oauth.audience", "Tokens have one of these in `aud`", "no token for another server is good here")
        .by_default("`http.public_url` with `/mcp`"),
    about(
        "oauth.jwks_url",
        "Where the issuer's keys are",
        "the issuer says so itself (RFC 8414, OpenID Connect Discovery)",
    )
    .by_default("asked for"),
    about(
        "oauth.ca_file",
        "Certificates (PEM) of authorities that vouch for the issuer, beside the machine's",
        "the machine's are enough for most",
    ),
    about(
        "oauth.algorithms",
        "How tokens may be signed",
        "signatures that issuers make and that only they can make; never `none`, never HMAC",
    ),
    about("oauth.leeway", "How much clocks may differ", "clocks that are looked after differ by less"),
    about(
        "oauth.refetch",
        "The issuer's keys are not read more often than this",
        "tokens with invented keys must not make us a flood",
    ),
    about(
        "oauth.refresh",
        "The issuer's keys are read again after this time",
        "a key that was taken back is good for no longer",
    ),
    about(
        "oauth.stale",
        "How long keys are good while the issuer does not answer",
        "a night's outage of the issuer locks nobody out",
    ),
    about("oauth.scopes", "`THEIRS=OURS`, where the issuer calls our scopes otherwise", "most can be told to use ours")
        .by_default("our names"),
    about(
        "oauth.limits_claim",
        "The claim that takes away something of what the settings allow",
        "no other server's claim has this name",
    ),
    about(
        "limits.calls",
        "Calls that run, of each principal, on all front ends; 0 is no limit",
        "the pool already takes turns",
    ),
    about(
        "limits.queue",
        "Calls that wait for a browser, of each principal; 0 is no limit",
        "a full queue makes room at the cost of who has most",
    ),
    about(
        "limits.rate",
        "Requests per second of each principal, a second's worth at once; 0 is no limit",
        "calls in browsers are slow by themselves",
    ),
    about(
        "limits.upload_per_hour",
        "Bytes of files that a principal brings; `0KiB` is no limit",
        "what a session keeps is bounded anyway",
    ),
    about(
        "limits.download_per_hour",
        "Bytes of files that pages give a principal; `0KiB` is no limit",
        "where strangers browse there are none, see `browser.download_bytes`",
    ),
    about("secrets.file", "What agents type without seeing it", "none: nothing is masked"),
    about(
        "audit.file",
        "A line of JSON for each call that has ended is appended to it",
        "none: the log has a line a call",
    ),
    about(
        "session.idle_ttl",
        "After this time without a call a session's browser is freed",
        "agents think, and people answer them, for minutes; a browser is 200 MB",
    ),
    about(
        "session.max_lifetime",
        "A session ends after this time in any case",
        "a working day: logins that nobody looks after should not live for ever",
    ),
    about(
        "session.per_principal",
        "Sessions at a time of each principal whose key does not say otherwise",
        "twice the browsers of a default pool: some are always idle",
    ),
    about("session.max_total", "Sessions of everybody", "2 MB in a front end or in Redis, and a bound all the same"),
    about(
        "session.max_connections",
        "Connections of `initialize` clients that are remembered",
        "clients seldom say that they go",
    ),
    about(
        "session.connections_per_principal",
        "Of them, those of one key, token's subject or, where nobody is asked, of everybody",
        "a quarter of all: who shakes hands without an end keeps nobody else out",
    ),
    about(
        "session.connection_ttl",
        "How long such a connection is remembered after its last request",
        "editors stay open overnight, and clients do not recover when theirs is forgotten",
    ),
    about(
        "session.artifact_bytes",
        "Bytes kept of a session's large results, compressed; the oldest go first",
        "some hundred cut snapshots, or a dozen full-page pictures",
    ),
    about(
        "call.timeout",
        "A call, the wait for a browser included",
        "clients give up after 1 to 5 minutes; longer than the wait for a browser and a slow page together",
    ),
    about(
        "call.tasks_timeout",
        "A call that runs several tasks",
        "they run one after the other, each with the time of a call of its own",
    ),
    about(
        "call.queue_wait",
        "How long a call waits for a browser",
        "somebody else's short session ends within it; then an agent should rather be told",
    ),
    about(
        "call.reply_bytes",
        "Most bytes of a reply's texts, unless the call says (`max_bytes`)",
        "10,000 tokens: below the 25,000 at which clients cut, without a cursor",
    ),
    about(
        "call.snapshot",
        "How much of the page replies show where the call does not say",
        "what Playwright MCP shows",
    ),
    about(
        "call.inline_bytes",
        "Pictures above this are resources and not in the reply",
        "a full HD screenshot as JPEG is below; clients cut messages at some MB",
    ),
    about(
        "tools.caps",
        "Groups of tools that are served beside core where the URL asks for none",
        "each tool costs every agent tokens",
    ),
    about("tools.allowed", "Groups that may be asked for at all", "scopes of keys say what a tool may do"),
    about(
        "store.url",
        "Redis, which several front ends share",
        "none: a front end keeps everything itself, until it ends",
    ),
    about(
        "store.password_file",
        "A file with the password of Redis in its first line, so that it is in no address",
        "none: the address may have one",
    ),
    about(
        "store.ca_file",
        "Certificates (PEM) of those who vouch for Redis over TLS, in place of the machine's. Read again when it changes, before the next connection; what is connected to a cluster keeps what it had",
        "none: the machine's",
    ),
    about("store.prefix", "Every key begins with it", "short, and told apart from those of others in `redis-cli`"),
    about("store.connect_timeout", "For a connection to Redis", "a server in the same network answers in milliseconds"),
    about(
        "store.command_timeout",
        "For an answer of Redis, waiting for a connection included",
        "a fail-over of Sentinel is told as an error and not waited for",
    ),
    about(
        "store.secret_file",
        "A file with 32 or more characters: what is kept of sessions is encrypted with it, cursors are signed; a second line is the \
         secret before it",
        "none: one is drawn and kept beside what it protects; whoever reads the store then reads all of it",
    ),
    about(
        "store.state_dir",
        "A directory for sessions and what they keep, for one program at a time",
        "none: what nobody asked for is not written to a disk",
    ),
    about(
        "frontend.pools",
        "The pool daemons, where they are not found in the store",
        "where a daemon of this machine listens",
    )
    .by_default("`http://127.0.0.1:50051`; none with `store.url`"),
    about(
        "grpc.secret_file",
        "What the two halves know each other by, at least 32 characters",
        "none: good on one machine only, and refused elsewhere",
    ),
    about(
        "grpc.operator_token_file",
        "Who may list, drain, revoke and reflect, and see a daemon's metrics",
        "none: with a secret nobody may, without one everybody on this machine",
    ),
    about("daemon.listen", "Where gRPC is served", "nobody but this machine reaches it"),
    about(
        "daemon.admin_listen",
        "Where `/health`, `/ready` and `/metrics` are served",
        "nobody but this machine reaches it",
    ),
    about(
        "daemon.address",
        "Where front ends reach the daemon",
        "where it listens; all addresses are no place to go to",
    )
    .by_default("where it listens"),
    about("daemon.pool_id", "The daemon's name, a part of its fencing tokens", "stable, and different on each machine")
        .by_default("the host's name"),
    about(
        "daemon.drain_grace",
        "How long a drain leaves running leases alone",
        "nearly every call ends within it; ten seconds before Kubernetes kills",
    ),
    about(
        "daemon.max_connection_age",
        "How long a gRPC connection takes new calls",
        "front ends find daemons that have moved within half an hour, without a storm",
    ),
    about(
        "pool.max_browsers",
        "Chromium processes, those being started and ended included",
        "1 GiB for each is allowed: 5 fit a laptop",
    ),
    about(
        "pool.min_warm",
        "Browsers kept ready",
        "a launch takes half a second, a ready one 5 ms; stdio keeps none, since an editor may never call it",
    ),
    about(
        "pool.contexts_per_browser",
        "Sessions of one principal that share a process",
        "a process each: walls between sessions that a broken renderer does not cross",
    ),
    about("pool.max_queue", "Callers that wait for a browser", "each costs little, and waits 30 s at most"),
    about("lease.wait", "How long a caller of the daemon waits that does not say", "as `call.queue_wait`"),
    about(
        "pool.leases_per_principal",
        "Browsers of one principal at a time",
        "no limit: round-robin already keeps one from starving others",
    ),
    about(
        "pool.queue_per_principal",
        "Places of one principal in the queue",
        "no limit: a full queue makes room at the cost of who has most",
    )
    .by_default("`pool.max_queue`"),
    about("pool.max_starting", "Launches at a time", "a launch keeps a processor busy; more at once are all slower")
        .by_default("processors"),
    about(
        "pool.ahead_delay",
        "After a grant no browser is started ahead of need for so long",
        "the new session's first page loads within it",
    ),
    about(
        "pool.warm_ttl",
        "An unused browser above `pool.min_warm` is ended after this",
        "bursts come in minutes; memory is for others after them",
    ),
    about(
        "pool.max_age",
        "An unused browser is ended after this",
        "updates of Chromium and what it has leaked do not stay for long",
    ),
    about("pool.max_uses", "A shared browser takes no further session after so many", "each leaves some memory behind"),
    about(
        "pool.max_memory",
        "A shared browser that takes more gets no further session",
        "there is room for what its sessions still do",
    )
    .by_default("¾ of `browser.memory_limit`"),
    about("lease.ttl", "A lease without a call ends after this", "as `session.idle_ttl`"),
    about("lease.max_lifetime", "A lease ends after this in any case", "as `session.max_lifetime`"),
    about(
        "lease.unbound_ttl",
        "A granted lease that no session has taken ends after this",
        "a front end that lives binds within milliseconds",
    ),
    about(
        "browser.chromium",
        "Chromium's executable, no shell wrapper",
        "found where Debian, Ubuntu and Playwright put it",
    )
    .by_default("found"),
    about("browser.args", "Further arguments for Chromium; unsafe ones are refused", "what is needed is there"),
    about(
        "browser.state_dir",
        "Profiles of running browsers",
        "goes with the machine; nothing in it outlives its browser",
    )
    .by_default("in the temporary directory"),
    about(
        "browser.download_bytes",
        "Most bytes of a file that a page gives away, and of those in one reply; `0KiB` denies downloads",
        "your own machine's pages may, those that others browse may not",
    ),
    about(
        "browser.memory_limit",
        "A browser whose processes take more together is ended",
        "five times an ordinary page",
    ),
    about(
        "browser.cgroup",
        "Whether the kernel bounds each browser by a control group of its own, memory at 1½ × `browser.memory_limit`: where groups are delegated to the daemon, never, or always",
        "where nothing is delegated, as in most containers, browsers are watched every few seconds",
    ),
    about(
        "browser.network_namespace",
        "Whether each browser has a network of its own, in which there is its way out and nothing else: where user namespaces are allowed, never, or always",
        "where there are none, its flags, its policy and the kernel's word on who asks keep it in",
    ),
    about(
        "browser.max_tasks",
        "Processes and threads of a browser, where it has a control group",
        "ten tabs of many origins have some hundreds; a page that makes more and more stops there",
    ),
    about(
        "browser.probe_interval",
        "From one page opened to see whether a browser still can to the next",
        "a dead zygote is found within half a minute",
    ),
    about(
        "browser.launch_timeout",
        "For a browser to start",
        "a cold start on a busy machine takes seconds; nobody waits longer for one that hangs",
    ),
    about("browser.term_grace", "From SIGTERM to SIGKILL", "nothing in a profile is worth waiting for"),
    about(
        "browser.kill_grace",
        "For the processes to be gone after SIGKILL",
        "the kernel frees a large process in less than a second",
    ),
    about(
        "browser.uid_base",
        "Each browser runs as a user id from here on, where the daemon is root",
        "above those that distributions and containers give away",
    ),
    about(
        "checkpoints.enabled",
        "Whether sessions are kept so that they can go on in another browser",
        "nobody wants to lose a login",
    ),
    about(
        "checkpoints.interval",
        "A session is kept at most so often",
        "a second of work is lost at worst; a journey is no slower for it (docs/bench.md)",
    ),
    about(
        "egress.network",
        "Where browsers may go: `public` addresses at ports 80 and 443, or `local`, wherever this machine can",
        "a developer's own pages are on this machine; what strangers browse must not reach your network",
    ),
    about("egress.allow", "Hosts, addresses and networks that are open in any case", "nothing that you have not named"),
    about(
        "host.max_memory",
        "Percent of memory in use above which no browser is added",
        "one more browser and its page need the rest",
    ),
    about(
        "host.max_cpu_pressure",
        "Percent of the time in which some task waits for a processor; 100 is off",
        "on a small machine some task nearly always waits, and a slow browser is better than none",
    ),
    about("tool.action_timeout", "Waiting for an element and acting on it", "Playwright MCP's"),
    about(
        "tool.navigation_timeout",
        "Loading a page",
        "half of Playwright MCP's: agents can wait on with browser_wait_for",
    ),
    about("tool.script_timeout", "A script of an agent", "as loading a page"),
    about("tool.max_call", "Most time of a call, whatever its caller allows", "as `call.timeout`"),
    about("log.level", "How much is logged", "a line a call, and whatever needs somebody's attention"),
    about("log.format", "`human`, or `json`", "somebody looks at a terminal first"),
    about(
        "traces.endpoint",
        "An OTLP collector (gRPC), such as `http://collector:4317`",
        "none: nothing leaves the machine unasked",
    ),
    about("traces.percent", "Of calls that are recorded", "all: what is missing is always the call that one looks for"),
    about(
        "unsafe.insecure",
        "Other addresses than loopback without keys and secrets",
        "whoever reaches them drives your browsers",
    ),
    about("unsafe.no_sandbox", "Chromium without its sandbox", "a page that breaks its renderer would have our rights"),
];
