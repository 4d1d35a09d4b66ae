// labels.js: the refs of what can be acted on, beside it, for one picture. They take no clicks, and snapshots do not show them.

const MAX_LABELS = 300;
/** A picture that never comes leaves nothing behind: they go by themselves. */
const LABELS_LIVE_MS = 15000;
const LABEL_COLOURS = ['#b3261e', '#0b57d0', '#146c2e', '#7b3fa0', '#9a5b00', '#00696d'];

let labels = null;

/** Shows a label at each element that can be acted on and is seen, or would be by scrolling. Answers how many there are. */
function showLabels({ frame = '', whole = false } = {}) {
  hideLabels();
  const root = bodyOf(document);
  if (!root) return 0;
  const labelled = withCaches(() => {
    startAt(root);
    const found = [];
    gatherLabelled(buildTree(root, { maxNodes: 20000 }).tree, found);
    return found.map((el) => ({ el, ref: frame + refFor(el) }));
  });
  const host = document.createElement('div');
  host.setAttribute('aria-hidden', 'true');
  host.style.cssText = 'all: initial !important; position: absolute !important; left: 0 !important; top: 0 !important; pointer-events: none !important; z-index: 2147483647 !important';
  const shadow = host.attachShadow({ mode: 'closed' });
  document.documentElement.append(host);
  labels = { host, timer: setTimeout(hideLabels, LABELS_LIVE_MS) };
  const origin = rectOf(host);
  let shown = 0;
  for (const { el, ref } of labelled) {
    if (shown >= MAX_LABELS) break;
    const box = rectOf(el);
    if (!box.width || !box.height || (!whole && (box.right <= 0 || box.bottom <= 0 || box.left >= innerWidth || box.top >= innerHeight))) continue;
    shadow.append(labelOf(ref, box, origin, LABEL_COLOURS[shown % LABEL_COLOURS.length]));
    shown++;
  }
  return shown;
}

function gatherLabelled(node, found) {
  if (node.element && node.box && isActable(node) && node.role !== 'option') found.push(node.element);
  for (const child of node.children) if (typeof child !== 'string') gatherLabelled(child, found);
}

/** A frame around the element, and its ref at the frame's upper left, within the page. */
function labelOf(ref, box, origin, colour) {
  const frame = document.createElement('div');
  frame.style.cssText = `position: absolute; box-sizing: border-box; border: 1px solid ${colour};
    left: ${box.x - origin.x}px; top: ${box.y - origin.y}px; width: ${box.width}px; height: ${box.height}px`;
  const label = document.createElement('div');
  label.textContent = ref;
  label.style.cssText = `position: absolute; left: -1px; ${box.y + scrollY >= 13 ? 'bottom: 100%' : 'top: 0'}; background: ${colour}; color: #fff;
    font: bold 11px/13px monospace; padding: 0 2px; white-space: nowrap`;
  frame.append(label);
  return frame;
}

/** Takes all labels away. */
function hideLabels() {
  if (!labels) return;
  clearTimeout(labels.timer);
  labels.host.remove();
  labels = null;
}
