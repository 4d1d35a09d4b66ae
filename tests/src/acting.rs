//! Pages to act on: keys, forms, dragging, hovering, waiting.

use axum::{Router, response::Html, routing::get};

pub(crate) fn router() -> Router {
    Router::new()
        .route("/keys", get(|| async { Html(KEYS) }))
        .route("/fields", get(|| async { Html(FIELDS) }))
        .route("/drag", get(|| async { Html(DRAG) }))
        .route("/menu", get(|| async { Html(MENU) }))
        .route("/later", get(|| async { Html(LATER) }))
        .route(
            "/closer",
            get(|| async {
                Html("<!doctype html><title>Closer</title><button onclick='window.close()'>Close me</button>")
            }),
        )
        .route("/files-here", get(|| async { Html(FILES_HERE) }))
        .route("/opener", get(|| async { Html(OPENER) }))
        .route("/media", get(|| async { Html(MEDIA) }))
        .route("/code", get(|| async { Html(CODE) }))
        .route("/listening", get(|| async { Html(LISTENING) }))
        .route("/framing", get(|| async { Html(FRAMING) }))
}

const KEYS: &str = "<!doctype html><title>Keys</title><form action='/done'><input name=name aria-label=Field></form>
<pre id=log></pre><script>
const field = document.querySelector('input');
for (const kind of ['keydown', 'keyup']) field.addEventListener(kind, e => {
  log.textContent += [kind, e.key, e.code, e.keyCode, (e.ctrlKey ? 'C' : '') + (e.shiftKey ? 'S' : '') + (e.repeat ? 'R' : '')].join(' ').trim() + '; ';
});
</script>";

const FIELDS: &str = "<!doctype html><title>Fields</title>
<label>Name <input id=name></label>
<label><input type=checkbox id=agree> Agree</label>
<label><input type=checkbox id=stubborn onclick='event.preventDefault()'> Stubborn</label>
<label><input type=radio name=r value=a id=a> First</label> <label><input type=radio name=r value=b id=b> Second</label>
<div role=switch aria-checked=false tabindex=0 onclick=\"this.setAttribute('aria-checked', this.getAttribute('aria-checked') !== 'true')\">Night</div>
<label for=colour>Colour</label><select id=colour><option value=''>Choose</option><option value=r>Red</option><option value=g>Green</option><option value=x disabled>Grey</option></select>
<label for=many>Many</label><select id=many multiple><option value=1>One</option><option value=2>Two</option><option value=3>Three</option></select>
<label>Volume <input type=range id=volume min=0 max=100 value=10></label>
<button onclick=\"out.textContent = JSON.stringify({ name: document.getElementById('name').value, agree: agree.checked, radio: document.querySelector('[name=r]:checked')?.value ?? null, colour: colour.value, many: [...many.selectedOptions].map(o => o.value).join(), volume: volume.value, events })\">Show</button>
<p id=out></p><script>let events = ''; for (const kind of ['input', 'change']) document.querySelectorAll('select').forEach(s => s.addEventListener(kind, () => events += s.id + ' ' + kind + ';'));</script>";

const DRAG: &str = "<!doctype html><title>Drag</title><style>#pad { width: 300px; height: 60px; background: #ddd; position: relative } #knob { position: absolute; width: 30px; height: 60px; background: #88f; touch-action: none } .box { width: 120px; height: 40px; border: 1px solid; margin: 8px }</style>
<div id=card class=box draggable=true>Card</div><div id=bin class=box>Bin</div><div id=refusing class=box draggable=true>Refusing</div>
<div id=pad><div id=knob>Knob</div></div><div style='height: 1500px'></div><div id=far class=box>Far bin</div><pre id=log></pre><script>
const say = text => log.textContent += text + '; ';
card.addEventListener('dragstart', e => { e.dataTransfer.setData('text/plain', 'the card'); say('dragstart') });
card.addEventListener('dragend', () => say('dragend'));
refusing.addEventListener('dragstart', e => { e.preventDefault(); say('refused') });
for (const goal of [bin, far]) {
  goal.addEventListener('dragover', e => e.preventDefault());
  goal.addEventListener('drop', e => { e.preventDefault(); say(goal.id + ' got ' + e.dataTransfer.getData('text/plain')) });
}
let grip = null;
knob.addEventListener('pointerdown', e => { grip = e.clientX - knob.offsetLeft; knob.setPointerCapture(e.pointerId); say('down') });
knob.addEventListener('pointermove', e => { if (grip !== null) knob.style.left = e.clientX - grip + 'px' });
knob.addEventListener('pointerup', () => { grip = null; say('up at ' + (parseInt(knob.style.left) > 50 ? 'right' : 'left')) });
</script>";

const MENU: &str = "<!doctype html><title>Menu</title><style>#sub { display: none } #top:hover #sub { display: block }</style>
<div id=top><button>File</button><ul id=sub><li><button onclick=\"out.textContent = 'saved'\">Save</button></ul></div><p id=out>idle</p>";

const LATER: &str = "<!doctype html><title>Later</title><p id=going>Loading data</p>
<script>setTimeout(() => { going.remove(); document.body.append('All is there') }, 300)</script>";

const MEDIA: &str = "<!doctype html><title>Media</title><p id=out></p><script>
const is = query => matchMedia(query).matches;
const show = () => out.textContent = [is('(prefers-color-scheme: dark)') ? 'dark' : 'light', is('(prefers-reduced-motion: reduce)') ? 'calm' : 'lively', is('print') ? 'paper' : 'screen', innerWidth + 'x' + innerHeight].join(' ');
show(); addEventListener('resize', show);
for (const query of ['(prefers-color-scheme: dark)', '(prefers-reduced-motion: reduce)', 'print']) matchMedia(query).addEventListener('change', show);
</script>";

const OPENER: &str = "<!doctype html><title>Opener</title><a href='/menu' target=_blank>New tab</a>
<button onclick=\"window.open('/closer', 'named', 'width=300,height=200')\">Window</button>
<button onclick=\"location.href = '/menu'\">Here</button>";

const FILES_HERE: &str = "<!doctype html><meta charset=utf-8><title>Files</title><label>One file <input type=file id=one></label>
<input type=file id=many multiple aria-label=Many><div id=goal style='width: 200px; height: 60px; border: 1px solid'>Drop here</div>
<p id=out></p><p id=events></p><p id=state></p><script>
const show = async (from, files, before = '') => { for (const f of files) { const p = document.createElement('p'); p.textContent = from + ': ' + before + f.name + ' ' + f.type + ' ' + await f.text(); document.body.append(p) } };
for (const input of [one, many]) {
  input.addEventListener('input', () => events.textContent = 'events input');
  input.addEventListener('change', () => { events.textContent += ' change'; show(input.id, input.files) });
}
one.addEventListener('cancel', () => state.textContent = 'cancelled');
goal.addEventListener('dragover', e => e.preventDefault());
goal.addEventListener('drop', e => { e.preventDefault(); show('dropped', e.dataTransfer.files, e.dataTransfer.getData('text/plain') + ' ') });
</script>";

/// Goes elsewhere (`?to=`) before its code is complete.
const CODE: &str = "<!doctype html><title>Code</title><input aria-label=Code><script>
const to = new URLSearchParams(location.search).get('to');
document.querySelector('input').addEventListener('input', e => { if (to && e.target.value.length === 3) location.href = to });
</script>";

/// Hears what is typed, and says so to the page around it.
const LISTENING: &str = "<!doctype html><title>Listening</title><p>Listening</p><script>
let heard = '';
addEventListener('keydown', e => { heard += e.key; parent.postMessage(heard, '*') });
</script>";

/// Has a frame (`?frame=`), hears what it says, and gives it the focus before a code of its own is complete.
const FRAMING: &str = "<!doctype html><title>Framing</title><input aria-label=Own><script>
let heard = '';
addEventListener('message', e => { heard = e.data });
const frame = document.body.appendChild(document.createElement('iframe'));
frame.src = new URLSearchParams(location.search).get('frame');
document.querySelector('input').addEventListener('input', e => { if (e.target.value.length === 3) frame.focus() });
</script>";
