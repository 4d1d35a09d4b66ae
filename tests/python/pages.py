"""Pages to visit, served from loopback on a port of the system's choice.

Some paths tell the tests what a page is doing (`/gate`, `/beat`): a test then waits for a request to arrive, and not
for time to pass.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

FORM = """<!doctype html><title>Form</title><h1>Hello</h1>
<form action=/done><label>Name <input name=name></label><button>Go</button></form>"""

DONE = "<!doctype html><title>Done</title><p>Thank you, {name}</p>"

WHO = """<!doctype html><title>Who</title><p>cookies sent: {cookies}</p>"""

#: One field to copy from and one to paste into.
CLIPBOARD = "<!doctype html><title>Clipboard</title><textarea id=from></textarea><textarea id=to></textarea>"

LOOP = "<!doctype html><title>Loop</title><button onclick='for(;;);'>Hang</button>"

#: Logs in by itself, and remembers it in every way a page can.
LOGIN = """<!doctype html><title>Logged in</title><h1>Logged in</h1><button>Log out</button><p id=who></p><script>
if (!localStorage.user) { document.cookie = 'login=me; max-age=1000'; localStorage.user = 'me'; sessionStorage.tab = 'mine' }
who.textContent = [document.cookie, localStorage.user, sessionStorage.tab].join(' ')
</script>"""

#: Of a site that knows its visitors by a cookie no script sees. Long enough to be scrolled.
ACCOUNT = """<!doctype html><title>Account</title><p id=who>{who}</p><div style="height: 5000px"></div>"""

PAGES = {"/": FORM, "/login": LOGIN, "/clipboard": CLIPBOARD, "/loop": LOOP}

#: A request that blocks its page.
REQUEST = "const request = new XMLHttpRequest(); request.open('GET', '{path}', false); request.send();"

#: A request is held no longer than this, so that a failed test cannot hold up the end of the run.
HELD_MAX = 60.0


class Pages:
    """The page server, and what it knows of its visitors."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._visits: Counter[str] = Counter()
        self._open: set[str] = set()
        self._closed = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="pages", daemon=True).start()

    def at(self, path: str) -> str:
        """The URL of a path."""
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def visits(self, path: str) -> int:
        """How often a path, without its query, has been asked for."""
        with self._changed:
            return self._visits[path]

    def open(self, path: str) -> None:
        """Lets the requests to a gate through, those that wait and those to come."""
        with self._changed:
            self._open.add(path)
            self._changed.notify_all()

    def visited(self, path: str) -> None:
        """Counts a request."""
        with self._changed:
            self._visits[path] += 1

    def pass_gate(self, path: str) -> None:
        """Holds a request until its gate opens or the server ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or path in self._open, HELD_MAX)

    def close(self) -> None:
        """Ends the server and every request it holds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()


def wait_at(gate: str) -> str:
    """A script that answers once its gate is open, and leaves the page free meanwhile."""
    return f"() => fetch('{gate}').then(() => 'let through')"


def loop_after(path: str) -> str:
    """A script that never ends, and that is known to loop once its one request has arrived."""
    return f"() => {{ {REQUEST.format(path=path)} for (;;); }}"


def beat_forever(path: str) -> str:
    """A script that never ends, and whose every turn is a request: it can be seen to have stopped."""
    return f"() => {{ for (;;) {{ {REQUEST.format(path=path)} }} }}"


def _handler(pages: Pages) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            pages.visited(url.path)
            if url.path.startswith(("/gate/", "/never")):
                pages.pass_gate(url.path)
            body = self._body(url.path, parse_qs(url.query))
            # The visitor may have been stopped meanwhile, which is what some tests are about.
            try:
                self._answer(url.path, url.query, body)
            except OSError:
                self.close_connection = True

        def _body(self, path: str, query: dict[str, list[str]]) -> str:
            if path == "/done":
                return DONE.format(name=query.get("name", [""])[0])
            if path in ("/account", "/sign-in"):
                user = re.search(r"account=(\w+)", self.headers.get("Cookie", ""))
                return ACCOUNT.format(who=f"Signed in as {user[1]}" if user else "Signed out")
            if path in ("/who", "/set"):
                return WHO.format(cookies=self.headers.get("Cookie", "none"))
            return PAGES.get(path, "ok")

        def _answer(self, path: str, query: str, body: str) -> None:
            data = body.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            if path == "/set":
                self.send_header("Set-Cookie", f"{query}; Path=/")
            if path == "/sign-in":
                self.send_header("Set-Cookie", f"account={query}; Path=/; HttpOnly; Max-Age=3600")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Says nothing: the tests' output belongs to the tests."""

    return Handler
