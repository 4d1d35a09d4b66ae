// dom.js: how we touch the page's DOM.
//
// The files of this folder are concatenated inside one function and run in an isolated world of every frame. Page scripts
// cannot reach our globals, but their *markup* can shadow properties: `<form><input name="parentNode">`, or
// `<img name="activeElement">` on the document. So getters and methods are taken from the prototypes once, here.

const getter = (proto, name) => {
  const get = Object.getOwnPropertyDescriptor(proto, name).get;
  return (self) => get.call(self);
};
const setter = (proto, name) => {
  const set = Object.getOwnPropertyDescriptor(proto, name).set;
  return (self, value) => set.call(self, value);
};
const method = (proto, name) => {
  const call = proto[name];
  return (self, ...args) => call.apply(self, args);
};

/** For what few documents need: the engine makes the prototype of an interface when it is first looked at, in each document anew. */
const late = (make) => {
  let made = null;
  return (...args) => (made ??= make())(...args);
};

const nodeType = getter(Node.prototype, 'nodeType');
const parentNode = getter(Node.prototype, 'parentNode');
const firstChild = getter(Node.prototype, 'firstChild');
const nextSibling = getter(Node.prototype, 'nextSibling');
const isConnected = getter(Node.prototype, 'isConnected');
const ownerDocument = getter(Node.prototype, 'ownerDocument');
const rootOf = method(Node.prototype, 'getRootNode');
const textData = getter(CharacterData.prototype, 'data');
const tagOf = getter(Element.prototype, 'localName');
const namespaceOf = getter(Element.prototype, 'namespaceURI');
const shadowOf = getter(Element.prototype, 'shadowRoot');
const slotOf = getter(Element.prototype, 'assignedSlot');
const rectOf = method(Element.prototype, 'getBoundingClientRect');
const rectsOf = method(Element.prototype, 'getClientRects');
const scrollToView = method(Element.prototype, 'scrollIntoView');
const animationsOf = method(Element.prototype, 'getAnimations');
const matches = method(Element.prototype, 'matches');
const closest = method(Element.prototype, 'closest');
const rendered = method(Element.prototype, 'checkVisibility');
const attributesOf = getter(Element.prototype, 'attributes');
const assignedNodes = late(() => method(HTMLSlotElement.prototype, 'assignedNodes'));
const dispatch = method(EventTarget.prototype, 'dispatchEvent');
const getAttribute = Element.prototype.getAttribute;
const attr = (element, name) => getAttribute.call(element, name);

const queryAll = (root, selector) => {
  const proto = nodeType(root) === 9 ? Document.prototype : nodeType(root) === 11 ? DocumentFragment.prototype : Element.prototype;
  return proto.querySelectorAll.call(root, selector);
};
const byId = (root, id) =>
  (nodeType(root) === 9 ? Document.prototype : DocumentFragment.prototype).getElementById.call(root, id);
const bodyOf = getter(Document.prototype, 'body');
const documentElementOf = getter(Document.prototype, 'documentElement');
const documentAnimations = method(Document.prototype, 'getAnimations');
const documentHasFocus = method(Document.prototype, 'hasFocus');
const activeInDocument = getter(Document.prototype, 'activeElement');
const activeInShadow = late(() => getter(ShadowRoot.prototype, 'activeElement'));
const shadowHost = late(() => getter(ShadowRoot.prototype, 'host'));
const hitInDocument = method(Document.prototype, 'elementFromPoint');
const hitInShadow = late(() => method(ShadowRoot.prototype, 'elementFromPoint'));

const SVG = 'http://www.w3.org/2000/svg';
const isElement = (node) => nodeType(node) === 1;
const isShadowRoot = (node) => nodeType(node) === 11 && node instanceof ShadowRoot;
const inSvg = (element) => namespaceOf(element) === SVG;

// The deepest DOM nesting we follow. Chromium's parser stops at 512; scripts can nest deeper, and our recursion must not
// run out of stack there.
const MAX_DEPTH = 600;

// --- styles, cached for the length of one synchronous call -------------------------------------------------------------

let styleCache = null;

/** What is known of an element. The engine makes each answer of a computed style anew: it is asked once, and only when needed. */
class Facts {
  /** Kept here by `roleOf`. */
  role;
  #computed;
  #display;
  #visibility;
  #contentVisibility;

  constructor(computed) {
    this.#computed = computed;
  }

  get display() {
    return (this.#display ??= this.#computed.display);
  }

  get visibility() {
    return (this.#visibility ??= this.#computed.visibility);
  }

  get contentVisibility() {
    return (this.#contentVisibility ??= this.#computed.contentVisibility);
  }

  /** Asked once. */
  get cursor() {
    return this.#computed.cursor;
  }
}

function styleOf(element) {
  if (!styleCache) return getComputedStyle(element);
  let style = styleCache.get(element);
  if (style === undefined) styleCache.set(element, (style = new Facts(getComputedStyle(element))));
  return style;
}

/** Runs `work` with computed styles and accessibility facts cached; `work` must not change the page. */
function withCaches(work) {
  if (styleCache) return work();
  styleCache = new Map();
  rootCache = new Map();
  try {
    return work();
  } finally {
    styleCache = null;
    rootCache = new Map();
    anyPseudo = null;
    forgetAria();
  }
}

// --- which style sheets generate text -------------------------------------------------------------------------------------

// Asking for the style of `::before` of every element doubles the cost of a snapshot; few sheets use it for text.

const sheetLists = new Map([
  [9, [getter(Document.prototype, 'styleSheets'), getter(Document.prototype, 'adoptedStyleSheets')]],
  [11, [late(() => getter(ShadowRoot.prototype, 'styleSheets')), late(() => getter(ShadowRoot.prototype, 'adoptedStyleSheets'))]],
]);
const sheetCache = new WeakMap();
let rootCache = new Map();

// Whether any element may have such text, as long as everything met is in the document's own tree: the walk began there
// and has passed no shadow host. Otherwise null: each element has to be asked.
let anyPseudo = null;

/** A walk begins at `root`. */
const startAt = (root) => {
  anyPseudo = rootOf(root) === document ? rootHasPseudo(document) : null;
};

/** Whether `::before` or `::after` of this element may generate text. */
function mayHavePseudo(element) {
  if (anyPseudo || tagOf(element) === 'q') return true;
  if (anyPseudo === false) return false;
  const slot = slotOf(element);
  return rootHasPseudo(rootOf(element)) || Boolean(shadowOf(element) && rootHasPseudo(shadowOf(element))) || Boolean(slot && rootHasPseudo(rootOf(slot)));
}

function rootHasPseudo(root) {
  let known = rootCache.get(root);
  if (known === undefined) {
    const lists = isElement(root) || !sheetLists.has(nodeType(root)) ? [] : sheetLists.get(nodeType(root));
    known = lists.some((list) => [...list(root)].some(sheetHasPseudo));
    rootCache.set(root, known);
  }
  return known;
}

function sheetHasPseudo(sheet) {
  let rules;
  try {
    rules = sheet.cssRules;
  } catch {
    return true; // from another origin: unreadable
  }
  const cached = sheetCache.get(sheet);
  if (cached && cached.length === rules.length) return cached.found;
  const found = rulesHavePseudo(rules, 0);
  sheetCache.set(sheet, { length: rules.length, found });
  return found;
}

function rulesHavePseudo(rules, depth) {
  for (const rule of rules) {
    if (/:(?:before|after)\b/i.test(rule.selectorText || '')) {
      const content = rule.style?.content;
      if (content && !/^(?:none|normal|""|'')$/.test(content)) return true;
    }
    if (rule.styleSheet && sheetHasPseudo(rule.styleSheet)) return true;
    if (rule.cssRules?.length && (depth > 20 || rulesHavePseudo(rule.cssRules, depth + 1))) return true;
  }
  return false;
}

// --- the composed tree: what is rendered, through open shadow roots and slots --------------------------------------------

/** Calls `visit` for each child of `element` in the composed tree. */
function eachChild(element, visit) {
  const shadow = shadowOf(element);
  if (shadow) anyPseudo = null;
  else if (tagOf(element) === 'slot') {
    const assigned = assignedNodes(element);
    if (assigned.length) {
      for (const node of assigned) visit(node);
      return;
    }
  }
  for (let node = firstChild(shadow || element); node; node = nextSibling(node)) visit(node);
}

/** The parent element in the composed tree, or null. */
function composedParent(node) {
  const slot = isElement(node) ? slotOf(node) : null;
  if (slot) return slot;
  const parent = parentNode(node);
  if (!parent) return null;
  if (isShadowRoot(parent)) return shadowHost(parent);
  return isElement(parent) ? parent : null;
}

function composedContains(ancestor, node) {
  for (let at = node; at; at = composedParent(at)) if (at === ancestor) return true;
  return false;
}

/** The element with this id in the tree of `element`. */
const sameTreeById = (element, id) => {
  const root = rootOf(element);
  return nodeType(root) === 9 || nodeType(root) === 11 ? byId(root, id) : null;
};

/** The focused element, through open shadow roots. */
function activeElement() {
  let active = activeInDocument(document);
  for (let depth = 0; active && depth < MAX_DEPTH; depth++) {
    const shadow = shadowOf(active);
    const inner = shadow && activeInShadow(shadow);
    if (!inner) break;
    active = inner;
  }
  return active;
}

/** Whether what is typed now comes to this document, and not to another one beside it or to a frame in it. */
function takesKeys() {
  const active = activeElement();
  const framed = active && ['iframe', 'frame', 'object', 'embed', 'fencedframe'].includes(tagOf(active));
  return Document.prototype.hasFocus.call(document) && !framed;
}

/** The topmost element at a viewport point, through open shadow roots. */
function elementAt(x, y) {
  let hit = hitInDocument(document, x, y);
  for (let depth = 0; hit && depth < MAX_DEPTH; depth++) {
    const shadow = shadowOf(hit);
    const inner = shadow && hitInShadow(shadow, x, y);
    if (!inner || inner === hit) break;
    hit = inner;
  }
  return hit;
}

// --- visibility -----------------------------------------------------------------------------------------------------------

const inSelect = (element) => {
  const tag = tagOf(element);
  return tag === 'option' || tag === 'optgroup';
};

/** Whether the element takes part in rendering at all (its children may, even when it is `visibility: hidden`). */
function isRendered(element, style) {
  // What takes part is the rule; only the exceptions need their `display` read.
  if (rendered(element)) return true;
  const display = style.display;
  return display !== 'none' && (display === 'contents' || inSelect(element));
}

/** Whether the direct text of `element` is kept from the screen though the element itself is rendered. */
function hidesText(element, style) {
  return style.visibility !== 'visible' || style.contentVisibility === 'hidden' || (tagOf(element) === 'details' && !element.open);
}

/** Whether the element has something to click on: a box with an area. */
function hasBox(element, style) {
  const rect = rectOf(element);
  if (rect.width > 0 && rect.height > 0) return true;
  if (style.display === 'contents') {
    for (let node = firstChild(element); node; node = nextSibling(node)) {
      if (nodeType(node) === 1) {
        const inner = styleOf(node);
        if (isRendered(node, inner) && inner.visibility === 'visible' && hasBox(node, inner)) return true;
      } else if (nodeType(node) === 3 && textHasBox(node)) return true;
    }
  }
  return false;
}

function textHasBox(node) {
  const range = Document.prototype.createRange.call(document);
  range.selectNode(node);
  const rect = range.getBoundingClientRect();
  return rect.width > 0 && rect.height > 0;
}

/** Visible in the sense of "can be acted on": attached, not hidden, with an area. */
function isVisible(element) {
  const style = getComputedStyle(element);
  return isConnected(element) && isRendered(element, style) && style.visibility === 'visible' && hasBox(element, style);
}

// --- text made harmless -----------------------------------------------------------------------------------------------------

const INVISIBLE = /[\u200b\u00ad]/g;
const SPACES = /[\s\u00a0]+/g;
const UNTIDY = /[\u200b\u00ad]|[^\S ]|^ | $| {2}/;
const PRINTABLE = /^[ !#-[\]-~]*$/;
/** What turns the direction of a text, or what no reader sees but a language model reads (the last: Unicode's tags). */
const HIDDEN = /[\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\udb40[\udc00-\udc7f]/g;
const DANGEROUS = new RegExp(`[\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f]|${HIDDEN.source}`);

/** White space collapsed and trimmed, zero-width fillers removed. */
function squash(text) {
  if (!UNTIDY.test(text)) return text;
  return text.replace(INVISIBLE, '').replace(SPACES, ' ').trim();
}

/** Spells out what is hidden in a text, as JSON and JavaScript both read it. */
const unhide = (text) =>
  text.replace(HIDDEN, (hidden) => hidden.replace(/[^]/g, (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0')));

/** A JSON string literal in which nothing is hidden; always valid UTF-8. */
function quoted(text) {
  if (PRINTABLE.test(text)) return `"${text}"`;
  return unhide(JSON.stringify(text.toWellFormed()));
}

/** `<div id="x" class="overlay">` in one short line, for messages. */
function preview(element) {
  const tag = tagOf(element);
  let out = '<' + tag;
  for (const name of ['id', 'class', 'type', 'name', 'role', 'aria-label', 'href', 'data-testid']) {
    const value = attr(element, name);
    if (value) out += ` ${name}=${quoted(value.length > 60 ? value.slice(0, 60) + '…' : value)}`;
  }
  return out + '>';
}
