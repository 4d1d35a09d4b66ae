// act.js: waiting until an element can be acted on, preparing the action, and settling after it.
//
// Waits are bounded by the caller's deadline. Nothing here relies on frames alone: a hidden page may never get one.

const now = () => performance.now();

/** Where a document may run no scripts (a sandbox by CSP or by iframe), timers and frames do not reach us either: messages do. */
const isTimeless = () => matchMedia('(scripting: none)').matches;

/** One turn of the event loop. */
const turn = () =>
  new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      channel.port1.close();
      resolve();
    };
    channel.port2.postMessage(0);
  });

async function turns(ms) {
  for (const end = now() + ms; now() < end; ) await turn();
}

const sleep = (ms) => (isTimeless() ? turns(ms) : new Promise((resolve) => setTimeout(resolve, ms)));

/**
 * The next frame, in which a page also learns what it is shown like: its size, its media, what has the focus.
 * Frames may not come, as in the background: then this waits so long only.
 */
const nextFrame = ({ maxMs = 20 } = {}) =>
  isTimeless() ? turns(20) : new Promise((resolve) => {
    const timer = setTimeout(resolve, maxMs);
    requestAnimationFrame(() => {
      clearTimeout(timer);
      resolve();
    });
  });

/** Runs `attempt` until it returns a result; an attempt that returns `{ wait: reason }` is repeated until the deadline. */
async function untilReady(target, deadlineMs, attempt) {
  const end = now() + Math.max(0, deadlineMs ?? 5000);
  for (let tries = 0; ; tries++) {
    const el = locate(target);
    const result = attempt(el, tries);
    if (!result.wait) return result;
    if (now() >= end) throw new Error(`${describe(el)} ${result.wait}${tries ? ` (waited ${Math.round(deadlineMs)} ms)` : ''}`);
    if (tries < 10) await nextFrame();
    else await sleep(Math.min(50, Math.max(1, end - now())));
  }
}

/** `<button id="go">` with its accessible name, for messages. */
function describe(el) {
  const name = withCaches(() => nameOf(el).text);
  return preview(el) + (name ? ` ${quoted(name.length > 80 ? name.slice(0, 80) + '…' : name)}` : '');
}

// --- what must hold before an action ------------------------------------------------------------------------------------------

function isDisabled(el) {
  if (nativelyDisabled(el)) return 'is disabled';
  const acting = closest(el, 'button');
  if (acting && nativelyDisabled(acting)) return 'is disabled';
  return DISABLEABLE.has(roleOf(el)) && ariaDisabled(el) ? 'is disabled (aria-disabled)' : null;
}

/** Whether an animation or transition is moving the element or something around it. */
function isAnimated(el) {
  for (const animation of documentAnimations(document)) {
    if (animation.playState !== 'running') continue;
    const moved = animation.effect?.target;
    if ((!moved || composedContains(moved, el)) && !isInPlace(animation)) return true;
  }
  return false;
}

const IN_PLACE = /^(?:offset|computedOffset|easing|composite|opacity|color|.*Color|visibility|boxShadow|textShadow|filter|cursor|outline.*|backgroundPosition.*|backgroundSize)$/;

/** Animations of colours and the like do not move anything. */
const isInPlace = (animation) =>
  Boolean(animation.effect?.getKeyframes?.().every((frame) => Object.keys(frame).every((key) => IN_PLACE.test(key))));

const sameRect = (a, b) => a && a.x === b.x && a.y === b.y && a.width === b.width && a.height === b.height;

/** Remembers boxes between two looks; says whether the element stands still. */
function stillness() {
  let last = null;
  let lastAt = 0;
  let of = null;
  return (el) => {
    const rect = rectOf(el);
    if (!isAnimated(el) && (last === null || sameRect(last, rect))) return true;
    const still = of === el && sameRect(last, rect) && now() - lastAt >= 10;
    if (of !== el || !sameRect(last, rect)) {
      of = el;
      last = rect;
      lastAt = now();
    }
    return still;
  };
}

// --- where to click ----------------------------------------------------------------------------------------------------------

/** The client rectangles of the element, or of its content when it has no box of its own. */
function boxesOf(el) {
  if (getComputedStyle(el).display !== 'contents') return [...rectsOf(el)];
  const range = Document.prototype.createRange.call(document);
  range.selectNodeContents(el);
  return [...range.getClientRects()];
}

/** The middle of the first piece of the element inside the viewport, or of `position` in it; null when none is inside. */
function clickPoint(el, position) {
  const width = innerWidth;
  const height = innerHeight;
  if (position) {
    const rect = rectOf(el);
    const point = { x: rect.left + position.x, y: rect.top + position.y };
    return point.x >= 0 && point.y >= 0 && point.x < width && point.y < height ? point : null;
  }
  for (const rect of boxesOf(el)) {
    const left = Math.max(0, rect.left);
    const top = Math.max(0, rect.top);
    const right = Math.min(width, rect.right);
    const bottom = Math.min(height, rect.bottom);
    if (right - left >= 1 && bottom - top >= 1) return { x: (left + right) / 2, y: (top + bottom) / 2 };
  }
  return null;
}

/** What keeps the point from the element: null when an event there would reach it. */
function coveredBy(el, point) {
  const hit = elementAt(point.x, point.y);
  if (!hit) return 'is outside of the viewport';
  if (composedContains(el, hit)) return null;
  const acting = closest(el, 'button,[role=button],a[href],[role=link]');
  if (acting && composedContains(acting, hit)) return null;
  const label = closest(hit, 'label');
  if (label && label.control && (label.control === el || composedContains(el, label.control))) return null;
  const around = closest(el, 'label');
  if (around && around.control && composedContains(around.control, hit)) return null;
  return `is covered: ${preview(outermostCover(hit, el))} intercepts pointer events`;
}

/** The outermost ancestor of the covering element that does not also hold the target: that is what the eye sees. */
function outermostCover(hit, el) {
  let cover = hit;
  for (let at = hit; at && !composedContains(at, el); at = composedParent(at)) cover = at;
  return preview(hit) === `<${tagOf(hit)}>` || tagOf(hit) === 'svg' || inSvg(hit) ? cover : hit;
}

const BLOCKS = ['nearest', 'center', 'end', 'start'];

function scrollTo(el, block) {
  scrollToView(getComputedStyle(el).display === 'contents' ? firstBoxed(el) : el, { block, inline: block === 'nearest' ? 'nearest' : 'center', behavior: 'instant' });
}

function firstBoxed(el) {
  for (let node = firstChild(el); node; node = nextSibling(node)) if (nodeType(node) === 1 && hasBox(node, getComputedStyle(node))) return node;
  return el;
}

/** Waits until a click at the returned point of this frame's viewport would reach the target. */
async function prepareClick(target, { deadlineMs, position, force } = {}) {
  const still = stillness();
  let framed = window.parent === window;
  return untilReady(target, deadlineMs, (el, tries) => {
    if (!isVisible(el)) return { wait: 'is not visible' };
    if (!force) {
      const disabled = isDisabled(el);
      if (disabled) return { wait: disabled };
    }
    if (!framed) {
      framed = true;
      scrollTo(el, 'nearest');
    }
    if (!force && !still(el)) return { wait: 'is not stable: it keeps moving' };
    let problem = '';
    for (let i = -1; i < BLOCKS.length; i++) {
      if (i >= 0) {
        if (tries && tries % 5) break;
        scrollTo(el, BLOCKS[i]);
      }
      const point = clickPoint(el, position);
      problem = point ? (force ? null : coveredBy(el, point)) : 'is outside of the viewport';
      if (!problem) return { ...point, locator: locatorFor(target, el) };
    }
    return { wait: problem };
  });
}

/** A selector is repeated as it was given; a ref is translated. */
function locatorFor(target, el) {
  const text = String(target).trim();
  return REF.test(text) ? locator(el) : `locator(${literal(text)})`;
}

// --- typing ----------------------------------------------------------------------------------------------------------------

const INSERTED = words('text search email url tel password number');
const ASSIGNED = words('date time color range month week datetime-local');
const editable = getter(HTMLElement.prototype, 'isContentEditable');
const isEditable = (el) => el instanceof HTMLElement && editable(el);
const setInputValue = late(() => setter(HTMLInputElement.prototype, 'value'));
const WRONG_TOOL = {
  checkbox: 'is a checkbox; use browser_check', radio: 'is a radio button; use browser_check', file: 'is a file input and takes no text',
  submit: 'is a button; use browser_click', button: 'is a button; use browser_click', reset: 'is a button; use browser_click',
  image: 'is a button; use browser_click', hidden: 'is a hidden input',
};

/** What kind of field this is: `insert`, `assign` or `rich`; throws when it takes no text. */
function fieldKind(el, slowly) {
  const tag = tagOf(el);
  if (tag === 'input') {
    if (INSERTED.has(el.type)) return 'insert';
    if (ASSIGNED.has(el.type)) return 'assign';
    throw new Error(`Cannot type: ${describe(el)} ${WRONG_TOOL[el.type] || 'takes no text'}.`);
  }
  if (tag === 'textarea') return 'insert';
  if (tag === 'select') throw new Error(`Cannot type: ${describe(el)} is a drop-down; use browser_select_option.`);
  if (isEditable(el)) return 'rich';
  if (slowly && isFocusable(el)) return 'keys';
  if (tag === 'button' || roleOf(el) === 'button') throw new Error(`Cannot type: ${describe(el)} is a button; use browser_click.`);
  throw new Error(`Cannot type: ${describe(el)} is not an <input>, <textarea> or [contenteditable] element.`);
}

/** Waits until the target takes text, focuses it, and selects what is to be replaced. */
async function prepareType(target, { deadlineMs, text = '', slowly = false } = {}) {
  return untilReady(target, deadlineMs, (found) => {
    const el = tagOf(found) === 'label' && found.control ? found.control : found;
    const kind = fieldKind(el, slowly);
    if (!isVisible(el)) return { wait: 'is not visible' };
    const disabled = isDisabled(el);
    if (disabled) return { wait: disabled };
    if (el.readOnly === true) return { wait: 'is not editable: it is readonly' };
    if (attr(el, 'aria-readonly') === 'true') return { wait: 'is not editable: it is aria-readonly' };
    return { action: fill(el, kind, text, slowly), locator: locatorFor(target, found) };
  });
}

function fill(el, kind, text, slowly) {
  if (kind === 'assign' && !slowly) {
    assign(el, text);
    return 'done';
  }
  if (!slowly && el.type === 'number' && text && Number.isNaN(Number(text))) throw new Error(`Cannot type ${quoted(text)}: ${describe(el)} takes a number.`);
  scrollTo(el, 'nearest');
  focusOn(el);
  if (slowly) {
    caretToEnd(el, kind);
    return 'keys';
  }
  const empty = kind === 'rich' ? !textContentOf(el) : !el.value;
  if (!empty || kind === 'rich') selectAll(el, kind);
  if (text) return 'insert';
  return empty ? 'done' : 'clear';
}

function focusOn(el) {
  HTMLElement.prototype.focus.call(el, { preventScroll: true });
  const active = activeElement();
  if (active && (active === el || composedContains(active, el))) return;
  throw new Error(`${describe(el)} does not take the focus.`);
}

function selectAll(el, kind) {
  if (kind === 'rich') {
    const range = Document.prototype.createRange.call(document);
    range.selectNodeContents(el);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  } else (tagOf(el) === 'textarea' ? HTMLTextAreaElement : HTMLInputElement).prototype.select.call(el);
}

function caretToEnd(el, kind) {
  if (kind === 'rich') {
    selectAll(el, kind);
    getSelection().collapseToEnd();
  } else if (kind === 'insert') {
    try {
      el.setSelectionRange(el.value.length, el.value.length);
    } catch {
      // number and email fields have no selection; the caret stays where the focus put it
    }
  }
}

/** Sets the value of a field whose text is not typed (dates, colours …), as if the user had picked it. */
function assign(el, text) {
  const wanted = el.type === 'color' ? text.trim().toLowerCase() : text.trim();
  const before = el.value;
  HTMLElement.prototype.focus.call(el, { preventScroll: true });
  setInputValue(el, wanted);
  const took = el.value === wanted || (wanted !== '' && el.type === 'range' && Number(el.value) === Number(wanted)) || (wanted && /^(?:time|datetime-local)$/.test(el.type) && el.value !== '');
  if (!took) {
    setInputValue(el, before);
    throw new Error(`Malformed value ${quoted(text)} for ${describe(el)}: ${FORMATS[el.type]}.`);
  }
  dispatch(el, new Event('input', { bubbles: true, composed: true }));
  dispatch(el, new Event('change', { bubbles: true }));
}

const FORMATS = {
  date: 'write YYYY-MM-DD', time: 'write HH:MM', 'datetime-local': 'write YYYY-MM-DDTHH:MM', month: 'write YYYY-MM', week: 'write YYYY-Www',
  color: 'write #rrggbb', range: 'write a number within its min, max and step',
};

// --- the rest ----------------------------------------------------------------------------------------------------------------

/** The element's box in page coordinates, after scrolling it into view. */
async function rect(target) {
  const el = locate(target);
  if (!isVisible(el)) throw new Error(`${describe(el)} is not visible.`);
  scrollTo(el, 'nearest');
  const box = getComputedStyle(el).display === 'contents' ? rectOf(firstBoxed(el)) : rectOf(el);
  return { x: box.x, y: box.y, width: box.width, height: box.height };
}

/** Resolves when the tasks and timers that an input event has just queued have had their turn; a frame is the upper bound. */
function settle({ maxMs = 16 } = {}) {
  if (isTimeless()) return turn();
  return new Promise((resolve) => {
    setTimeout(resolve, Math.max(0, Math.min(maxMs, 16)));
    turn().then(() => setTimeout(() => turn().then(resolve), 0));
  });
}

/**
 * Resolves when a new document has done what it does by itself: an `autofocus` takes effect with the first frame only.
 * Without one there is nothing to wait for. A document arrives once: later calls wait for nothing.
 */
function arrived() {
  const focuses = () => document.querySelector('[autofocus]') && document.activeElement === document.body;
  return (arrival ??= isTimeless() || !focuses() ? Promise.resolve() : nextFrame({ maxMs: 100 }));
}

let arrival = null;

/** Where the content of an iframe begins in this frame's viewport, and by how much it is scaled. */
function frameOffset(ref) {
  const el = element(ref);
  if (!el) throw new Error(`Ref ${ref} not found in the current page snapshot. Try capturing new snapshot.`);
  const box = rectOf(el);
  const style = getComputedStyle(el);
  const px = (value) => Number.parseFloat(value) || 0;
  const scaleX = el.offsetWidth ? box.width / el.offsetWidth : 1;
  const scaleY = el.offsetHeight ? box.height / el.offsetHeight : 1;
  return {
    x: box.x + (px(style.borderLeftWidth) + px(style.paddingLeft)) * scaleX,
    y: box.y + (px(style.borderTopWidth) + px(style.paddingTop)) * scaleY,
    scaleX,
    scaleY,
  };
}
