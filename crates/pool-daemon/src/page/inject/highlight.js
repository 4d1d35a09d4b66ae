// highlight.js: frames around elements, for people who look at the page. They take no clicks, and snapshots do not show them.

const MAX_HIGHLIGHTS = 50;
const FRAME_LOOK = 'outline: 2px solid #6fa8dc; background: #6fa8dc7f;';
/** What no style changes: a frame is in nobody's way. */
const FRAME_PLACE = { position: 'fixed', 'pointer-events': 'none', 'box-sizing': 'border-box', 'z-index': '2147483647' };
/** What loads something. A variable may hide it. */
const LOADS = /\b(url|src|image-set)\(/i;

/** The element of each frame. */
const highlights = new Map();
let highlightHost = null;

/** Shows a frame around the target; a second one takes the place of the first. */
function highlight(target, style) {
  const found = locate(target);
  if (!highlights.has(found) && highlights.size >= MAX_HIGHLIGHTS) throw new Error(`${MAX_HIGHLIGHTS} elements are highlighted; hide some first.`);
  if (!highlightHost) {
    highlightHost = document.createElement('div');
    highlightHost.setAttribute('aria-hidden', 'true');
    highlightHost.attachShadow({ mode: 'closed' }).append((highlightHost.frames = document.createElement('div')));
    document.documentElement.append(highlightHost);
    requestAnimationFrame(followHighlights);
  }
  highlights.get(found)?.remove();
  const frame = document.createElement('div');
  styleFrame(frame, style);
  highlights.set(found, frame);
  highlightHost.frames.append(frame);
  placeHighlight(found, frame);
  return locatorFor(target, found);
}

/** Gives a frame its look, before it is in the document: nothing of what is dropped has been loaded. */
function styleFrame(frame, style) {
  frame.style.cssText = FRAME_LOOK + String(style ?? '');
  for (const name of [...frame.style]) {
    if (name.startsWith('--') || LOADS.test(frame.style.getPropertyValue(name))) frame.style.removeProperty(name);
  }
  for (const [name, value] of Object.entries(FRAME_PLACE)) frame.style.setProperty(name, value, 'important');
}

/** Takes the frame around the target away, or every frame. */
function hideHighlight(target) {
  const found = target === null ? null : locate(target);
  for (const [el, frame] of highlights) {
    if (found && el !== found) continue;
    frame.remove();
    highlights.delete(el);
  }
  if (!highlights.size) {
    highlightHost?.remove();
    highlightHost = null;
  }
  return found && locatorFor(target, found);
}

function placeHighlight(el, frame) {
  const box = rectOf(el);
  const placed = `${box.x} ${box.y} ${box.width} ${box.height}`;
  if (frame.placed === placed) return;
  frame.placed = placed;
  frame.style.left = `${box.x}px`;
  frame.style.top = `${box.y}px`;
  frame.style.width = `${box.width}px`;
  frame.style.height = `${box.height}px`;
}

/** Frames stay with their elements while there are some. */
function followHighlights() {
  if (!highlightHost) return;
  for (const [el, frame] of highlights) placeHighlight(el, frame);
  requestAnimationFrame(followHighlights);
}
