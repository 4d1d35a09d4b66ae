//! Pages to read.

use axum::{Router, response::Html, routing::get};

pub(crate) fn router() -> Router {
    Router::new().route("/essay", get(|| async { Html(ESSAY) })).route("/rows", get(|| async { Html(ROWS) }))
}

const ESSAY: &str = "<!doctype html><html lang=en><head><title>On Reading | Site</title>
<meta property='og:title' content='On Reading'><meta name=author content='Ada Lovelace'><meta name=description content='What a page says'>
<link rel=canonical href='/essay'></head><body><header><a href='/'>Home</a></header><nav><a href='/done'>Menu</a></nav>
<main><article><h1>On Reading</h1><time datetime='2026-01-02'></time>
<p>Pages say <b>much</b> and mean <i>little</i>; see <a href='/'>the form</a> or <code>code</code>.<span style='display:none'>invisible</span></p>
<h2>What lists say</h2><ul><li>one<li>two<ol><li>first<li>second</ol></ul>
<blockquote><p>Quoted, with care.</p></blockquote>
<pre><code class=language-js>const a = 1;
if (a) { }
</code></pre>
<table><tr><th>Name<th>Size<tr><td>a|b<td>1</table>
<img src='/pixel.png' alt='A red dot' width=9 height=9><img src='/pixel.png' alt='' title=tracking><hr>
<div id=host></div><script>host.attachShadow({ mode: 'open' }).innerHTML = '<p>From a shadow: it is read, too.</p>'</script>
</article><aside>Related</aside></main><footer>Imprint</footer></body></html>";

const ROWS: &str = "<!doctype html><title>Rows</title><h1>Rows</h1><input aria-label=Field>
<div class=row id=r1><h2>One</h2><a href='/one'>go</a><ul><li>a</li><li>b</li></ul></div>
<div class=row id=r2><h2>Two   words</h2></div>
<div id=host></div><script>host.attachShadow({ mode: 'open' }).innerHTML = '<b class=inner>in there</b>'</script>";
