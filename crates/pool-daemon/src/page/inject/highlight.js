// highlight.js: frames around elements, for people who look at the page. They take no clicks, and snapshots do not show them.

const MAX_HIGHLIGHTS = 50;
const FRAME_STYLE = 'position: fixed; pointer-events: none; box-sizing: border-box; z-index: 2147483647; outline: 2px solid #6fa8dc; background: #6fa8dc7f;';

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
  frame.style.cssText = FRAME_STYLE + String(style ?? '');
  highlights.set(found, frame);
  highlightHost.frames.append(frame);
  placeHighlight(found, frame);
  return locatorFor(target, found);
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
