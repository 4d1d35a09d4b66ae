//! No vector leads from one principal's browser to another's, with real Chromium: two leases on one daemon, at the same
//! time, on the same pages. docs/isolation.md says which test shows what.

use anyhow::Context as _;
use browserfleet_tests::{
    daemon::{Daemon, Lease},
    pages::Pages,
};
use serde_json::json;

type Outcome = anyhow::Result<()>;

/// A way for scripts to leave something, and to find it.
///
/// It is looked for three times. By who plants it, before and after, from another tab each time: `fresh`, then `found`;
/// so the look can fail. By the other principal, while all of it is still there: `fresh`.
struct Vector {
    name: &'static str,
    /// What the last script returns is told to whoever looks: names are no secrets.
    plant: &'static [Step],
    /// The last script returns what it sees.
    look: &'static [Step],
    found: &'static str,
    fresh: &'static str,
}

enum Step {
    /// A function, called with what was told, or undefined.
    Run(&'static str),
    Press(&'static str),
}
use Step::{Press, Run};

const VECTORS: &[Vector] = &[
    Vector {
        name: "cookie",
        plant: &[Run("() => { document.cookie = 'cookie=planted' }")],
        look: &[Run("() => document.cookie")],
        found: "cookie=planted",
        fresh: "",
    },
    Vector {
        name: "cookie that no script can read",
        plant: &[Run("() => fetch('/cookie-hidden')")],
        look: &[Run("async () => (await (await fetch('/cookie-sent')).text()).includes('hidden=planted')")],
        found: "true",
        fresh: "false",
    },
    Vector {
        name: "local storage",
        plant: &[Run("() => { localStorage.what = 'planted' }")],
        look: &[Run("() => localStorage.what")],
        found: "planted",
        fresh: "undefined",
    },
    Vector {
        name: "session storage",
        plant: &[Run("() => { sessionStorage.what = 'planted' }")],
        look: &[Run("() => sessionStorage.what")],
        found: "planted",
        fresh: "undefined",
    },
    Vector {
        name: "IndexedDB",
        plant: &[Run("() => new Promise((done, failed) => {
            Object.assign(indexedDB.open('planted'), { onsuccess: () => done(), onerror: failed });
        })")],
        look: &[Run("async () => (await indexedDB.databases()).map(found => found.name)")],
        found: "planted",
        fresh: "",
    },
    Vector {
        name: "CacheStorage",
        plant: &[Run("async () => (await caches.open('planted')).put('/x', new Response('x'))")],
        look: &[Run("async () => caches.keys()")],
        found: "planted",
        fresh: "",
    },
    Vector {
        name: "service worker",
        plant: &[Run("async () => {
            const { installing } = await navigator.serviceWorker.register('/service.js', { scope: '/served' });
            await new Promise(done => installing.onstatechange = () => installing.state === 'activated' && done());
        }")],
        look: &[Run("() => new Promise(done => {
            const frame = Object.assign(document.createElement('iframe'), { src: '/served' });
            frame.onload = () => done(frame.contentDocument.body.textContent);
            document.body.append(frame);
        })")],
        found: "worker",
        fresh: "server",
    },
    Vector {
        name: "HTTP cache",
        plant: &[Run("() => fetch('/echo', { headers: { 'x-say': 'planted' }, cache: 'reload' })")],
        look: &[Run("async () => (await fetch('/echo', { headers: { 'x-say': 'asked' } })).text()")],
        found: "planted",
        fresh: "asked",
    },
    Vector {
        name: "HTTP authentication",
        plant: &[Run("() => new Promise(done => {
            const request = Object.assign(new XMLHttpRequest(), { onload: done });
            request.open('GET', '/private', true, 'a', 'planted');
            request.send();
        })")],
        look: &[Run("async () => (await fetch('/private')).text()")],
        found: "let in",
        fresh: "kept out",
    },
    Vector {
        name: "clipboard: by Control+V, in the paste event, by a script",
        plant: &[Run("() => { field.value = 'planted'; field.select() }"), Press("Control+c")],
        look: &[
            Run("() => { field.onpaste = event => window.pasted = event.clipboardData.getData('text'); field.focus() }"),
            Press("Control+v"),
            Run("() => {
                const typed = field.value;
                field.value = '';
                document.execCommand('paste');
                return [typed, window.pasted, field.value];
            }"),
        ],
        found: "planted,planted,planted",
        fresh: ",,",
    },
    Vector {
        name: "BroadcastChannel",
        plant: &[Run("() => { const c = new BroadcastChannel('c'); c.onmessage = () => c.postMessage('planted') }")],
        look: &[Run("() => new Promise(done => {
            const channel = Object.assign(new BroadcastChannel('c'), { onmessage: ({ data }) => done(data) });
            channel.postMessage('anybody?');
            setTimeout(done, 2000, 'nobody');
        })")],
        found: "planted",
        fresh: "nobody",
    },
    Vector {
        name: "SharedWorker",
        plant: &[Run("() => new Promise(done => {
            const { port } = new SharedWorker('/shared.js');
            port.onmessage = () => done();
            port.postMessage('planted');
        })")],
        look: &[Run("() => new Promise(done => {
            const { port } = new SharedWorker('/shared.js');
            port.onmessage = ({ data }) => done(data);
            port.postMessage('');
        })")],
        found: "planted",
        fresh: "nothing",
    },
    Vector {
        name: "Web Locks",
        plant: &[Run("() => new Promise(done => {
            navigator.locks.request('lock', () => { done(); return new Promise(() => {}) });
        })")],
        look: &[Run("() => navigator.locks.request('lock', { ifAvailable: true }, lock => lock ? 'free' : 'held')")],
        found: "held",
        fresh: "free",
    },
    Vector {
        name: "blob URL",
        plant: &[Run("() => URL.createObjectURL(new Blob(['planted']))")],
        look: &[Run("url => fetch(url ?? 'blob:').then(found => found.text(), error => error.name)")],
        found: "planted",
        fresh: "TypeError",
    },
    Vector {
        name: "name of a window",
        plant: &[Run("() => { window.name = 'planted' }")],
        look: &[Run("() => {
            const found = window.open('', 'planted');
            if (found === opener) return found.location.pathname;
            found.close();
            return 'nothing';
        }")],
        found: "/isolation",
        fresh: "nothing",
    },
    Vector {
        name: "origin private file system",
        plant: &[Run("async () => {
            const root = await navigator.storage.getDirectory();
            await root.getFileHandle('planted', { create: true });
        }")],
        look: &[Run("async () => {
            const names = [];
            for await (const name of (await navigator.storage.getDirectory()).keys()) names.push(name);
            return names;
        }")],
        found: "planted",
        fresh: "",
    },
    Vector {
        name: "quota",
        plant: &[Run("async () => (await caches.open('planted')).put('/large', new Response('x'.repeat(4 << 20)))")],
        look: &[Run("async () => (await navigator.storage.estimate()).usage > 4 << 20 ? 'used' : 'unused'")],
        found: "used",
        fresh: "unused",
    },
    Vector {
        name: "connections to a server",
        plant: &[Run("() => Promise.all([1, 2, 3, 4, 5, 6].map(number => fetch('/connection/mark?' + number)))")],
        look: &[Run("async () => {
            const asked = [1, 2, 3, 4, 5, 6].map(async number => (await fetch('/connection/look?' + number)).text());
            return [...new Set(await Promise.all(asked))];
        }")],
        found: "marked",
        fresh: "new",
    },
    Vector {
        // Nobody is ever granted anything, by whatever a page tries: that there is nothing to find is what is shown. A
        // name that Chromium did not know would throw.
        name: "permissions",
        plant: &[Run("async () => {
            await Notification.requestPermission();
            await document.requestStorageAccess();
            await navigator.storage.persist();
            await navigator.clipboard.writeText('planted').catch(() => {});
            await navigator.requestMIDIAccess({ sysex: true }).catch(() => {});
            await navigator.mediaDevices.getUserMedia({ audio: true, video: true }).catch(() => {});
            await new Promise(done => navigator.geolocation.getCurrentPosition(done, done));
        }")],
        look: &[Run("async () => {
            const names = ['notifications', 'storage-access', 'persistent-storage', 'clipboard-read', 'clipboard-write', 'midi', 'camera', 'microphone', 'geolocation'];
            const found = await Promise.all(names.map(name => navigator.permissions.query({ name })));
            return [...new Set(found.map(permission => permission.state))];
        }")],
        found: "prompt",
        fresh: "prompt",
    },
];

/// Runs the steps in a lease's current tab; what the last script returned.
async fn take(lease: &Lease, steps: &[Step], told: &str) -> anyhow::Result<String> {
    let mut said = String::new();
    for step in steps {
        match step {
            Run(script) => {
                let told = if told.is_empty() { "undefined".to_owned() } else { json!(told).to_string() };
                let function = format!("async () => String(await ({script})({told}))");
                let answer = lease.ok("browser_evaluate", json!({ "function": function })).await?;
                let line = answer.text.lines().nth(1).unwrap_or_default();
                said = serde_json::from_str(line).with_context(|| answer.text.clone())?;
            }
            Press(key) => _ = lease.ok("browser_press_key", json!({ "key": key })).await?,
        }
    }
    Ok(said)
}

/// What a tab sees that the current page opens: no tab is nearer to it.
async fn look_from_another_tab(lease: &Lease, vector: &Vector, told: &str) -> anyhow::Result<String> {
    let open = "() => new Promise(done => { window.open('/isolation').onload = done })";
    lease.ok("browser_evaluate", json!({ "function": open })).await?;
    let tabs = lease.ok("browser_tabs", json!({ "action": "list" })).await?;
    let number = |line: &str| line.strip_prefix("- ")?.split(':').next()?.parse::<u32>().ok();
    let index = tabs.text.lines().filter_map(number).max().context("a tab")?;
    lease.ok("browser_tabs", json!({ "action": "select", "index": index })).await?;
    let seen = take(lease, vector.look, told).await?;
    lease.ok("browser_tabs", json!({ "action": "close", "index": index })).await?;
    lease.ok("browser_tabs", json!({ "action": "select", "index": 0 })).await?;
    Ok(seen)
}

/// A principal's browser, at a page: a lease that nobody uses ends soon, and another one's launch may take as long.
async fn browser(daemon: &Daemon, principal: &str, page: &str) -> anyhow::Result<Lease> {
    let lease = daemon.lease_as(principal, "isolated").await?;
    lease.ok("browser_navigate", json!({ "url": page })).await?;
    Ok(lease)
}

/// What is seen by who plants, before and after, and by the other.
async fn try_out(vector: &Vector, planter: &Lease, other: &Lease, page: &str) -> anyhow::Result<[String; 3]> {
    for lease in [planter, other] {
        lease.ok("browser_navigate", json!({ "url": page })).await?;
    }
    let before = look_from_another_tab(planter, vector, "").await?;
    let told = take(planter, vector.plant, "").await?;
    let after = look_from_another_tab(planter, vector, &told).await?;
    Ok([before, after, take(other, vector.look, &told).await?])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_find_nothing_that_another_principal_has_planted() -> Outcome {
    let pages = Pages::start().await?;
    let daemon = Daemon::start(|config| {
        // Without it scripts may not paste.
        config.chromium.extra_args =
            vec!["--blink-settings=javaScriptCanAccessClipboard=true,DOMPasteAllowed=true".to_owned()];
    })?;
    let page = pages.at("/isolation");
    let (planter, other) = tokio::try_join!(browser(&daemon, "a", &page), browser(&daemon, "b", &page))?;
    let mut wrong = Vec::new();
    for vector in VECTORS {
        let expected = [vector.fresh, vector.found, vector.fresh];
        let seen = try_out(vector, &planter, &other, &page).await.context(vector.name)?;
        if seen != expected {
            wrong.push(format!("{}: before, after and by the other {seen:?}, not {expected:?}", vector.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    daemon.end().await
}
