// snapshot.js: the page as YAML for an agent, with refs that stay with their elements.

// --- refs -------------------------------------------------------------------------------------------------------------------

const refOfElement = new WeakMap();
const elementOfRef = new Map();
let lastRef = 0;

function refFor(element) {
  let ref = refOfElement.get(element);
  if (!ref) {
    ref = `e${++lastRef}`;
    refOfElement.set(element, ref);
    elementOfRef.set(ref, new WeakRef(element));
    if (lastRef % 5000 === 0) forgetDeadRefs();
  }
  return ref;
}

function forgetDeadRefs() {
  for (const [ref, weak] of elementOfRef) if (!weak.deref()) elementOfRef.delete(ref);
}

/** The live element for `e7` (or `f2e7`: the frame prefix is the caller's affair), or null. */
function element(ref) {
  const found = elementOfRef.get(String(ref).replace(/^f\d+(?=e\d)/, ''))?.deref();
  return found && isConnected(found) ? found : null;
}

// --- the tree ---------------------------------------------------------------------------------------------------------------

const SKIPPED = words(`script style template noscript head meta link base br wbr source track param col colgroup
  title desc metadata defs symbol clippath clipPath mask pattern marker filter linearGradient radialGradient`);
const VALUE_HOLDERS = words('input textarea');

/**
 * Builds the tree under `root`: `{ element, role, name, children: [string | node], … }`. Names that only repeat what the
 * children say are dropped; generics that say nothing are dissolved into their only child.
 */
function buildTree(root, limits) {
  const state = {
    left: limits.maxNodes, truncated: false, order: 0, nodes: new Map(), flat: new Set(), placed: new Set(),
    owned: ownedElements(root), active: activeForSnapshot(),
  };
  const holder = { children: [], visible: true, textShown: true };
  visitElement(root, holder, { pointer: false, hidden: false, disabled: false }, state, 0, true);
  const tree = holder.children.length === 1 && typeof holder.children[0] !== 'string'
    ? holder.children[0]
    : { element: root, role: 'fragment', name: '', children: holder.children };
  simplify(tree, state);
  return { tree, count: state.order, truncated: state.truncated };
}

/** In a child frame the body is `activeElement` even when the focus is elsewhere. */
function activeForSnapshot() {
  return window.parent === window || documentHasFocus(document) ? activeElement() : null;
}

/** Elements that another one takes as its own with `aria-owns`: they appear there, not at their place in the document. */
function ownedElements(root) {
  const owned = new Map();
  const scope = rootOf(root);
  for (const owner of queryAll(scope, '[aria-owns]')) {
    for (const target of idRefs(owner, 'aria-owns')) {
      if (!owned.has(target) && target !== owner && !composedContains(target, owner) && !ownsAlready(owned, target, owner)) owned.set(target, owner);
    }
  }
  return owned;
}

/** Whether `target` already owns `owner`, perhaps through others: no circles. */
function ownsAlready(owned, target, owner) {
  for (let at = owner, i = 0; at && i < 100; at = owned.get(at), i++) if (at === target) return true;
  return false;
}

function visitElement(el, parent, inherited, state, depth, isRoot) {
  const tag = tagOf(el);
  if (SKIPPED.has(tag) || (tag === 'input' && el.type === 'hidden')) return;
  if (state.placed.has(el) || (!isRoot && state.owned.has(el) && state.owned.get(el) !== parent.owner && ownerIsShown(el, state))) return;
  if (state.left <= 0 || depth > MAX_DEPTH) {
    state.truncated = true;
    return;
  }
  const style = styleOf(el);
  if (!isRendered(el, style)) return;
  state.left--;
  // Only what is owned could be met twice.
  if (state.owned.size) state.placed.add(el);
  const visible = style.visibility === 'visible';
  const role = roleOf(el);
  const ariaHidden = attr(el, 'aria-hidden') === 'true';
  const hidden = inherited.hidden || ariaHidden;
  const disabled = attr(el, 'aria-disabled') === 'true' || (inherited.disabled && attr(el, 'aria-disabled') !== 'false');
  const shadow = shadowOf(el);
  if (shadow) anyPseudo = null;

  // Elements without a node of their own: their content becomes their parent's.
  const flat = !visible || role === 'none' || (role === 'generic' && (style.display === 'inline' || style.display === 'contents') && !shadow && isTextOnly(el));
  if (flat && !(visible && isRoot)) {
    state.flat.add(el);
    const spaced = style.display !== 'inline' && style.display !== 'contents';
    if (spaced) parent.children.push(' ');
    visitChildren(el, tag, style, parent, { pointer: inherited.pointer, hidden, disabled }, state, depth);
    if (spaced) parent.children.push(' ');
    return;
  }

  const pointer = style.cursor === 'pointer';
  const named = hidden || role === 'iframe' || isRowOfCells(el, role) ? NO_NAME : nameOf(el, role);
  const node = {
    element: el, role, name: named.text, named, children: [], parent,
    order: state.order++, last: 0,
    box: hasBox(el, style),
    cursor: pointer,
    pointer: pointer && !inherited.pointer,
    active: el === state.active,
    ariaHidden: ariaHidden && !inherited.hidden,
    checked: checkedState(el, role),
    disabled: (disabled && DISABLEABLE.has(role)) || nativelyDisabled(el),
    expanded: expandedState(el, role),
    invalid: invalidState(el, role),
    level: levelOf(el, role),
    pressed: pressedState(el, role),
    selected: selectedState(el, role),
    props: propsOf(el, tag, role),
  };
  state.nodes.set(el, node);
  parent.children.push(node);
  if (role === 'iframe') {
    node.last = node.order;
    return;
  }
  if (VALUE_HOLDERS.has(tag)) {
    const value = shownValue(el, tag, role);
    if (value) node.children.push(value);
    visitOwned(el, node, { pointer, hidden, disabled }, state, depth);
  } else visitChildren(el, tag, style, node, { pointer, hidden, disabled }, state, depth);
  node.last = state.order - 1;
}

/** A row's name would only repeat its cells; not gathering it saves a second pass over every table. */
function isRowOfCells(el, role) {
  if (role !== 'row' || hasAriaName(el)) return false;
  let cells = 0;
  for (let node = firstChild(el); node; node = nextSibling(node)) {
    if (nodeType(node) === 3 && /\S/.test(textData(node))) return false;
    if (nodeType(node) === 1 && ++cells && !CELLS.has(roleOf(node))) return false;
  }
  return cells > 0;
}

const CELLS = words('cell gridcell columnheader rowheader');

const isTextOnly = (el) => {
  const only = firstChild(el);
  return Boolean(only) && nodeType(only) === 3 && !nextSibling(only);
};

/** An owned element moves only to an owner that is itself shown. */
function ownerIsShown(el, state) {
  const owner = state.owned.get(el);
  return state.nodes.has(owner) || (isConnected(owner) && rendered(owner));
}

function visitChildren(el, tag, style, into, inherited, state, depth) {
  if (style.contentVisibility === 'hidden') return;
  const showsText = !hidesText(el, style);
  // A list box shows its groups, a drop-down only its options.
  const options = tag === 'select' && roleOf(el) !== 'listbox';
  const before = pseudoContent(el, '::before');
  if (before) into.children.push(before);
  const visit = (child) => {
    const type = nodeType(child);
    if (type === 1) visitElement(child, into, inherited, state, depth + 1, false);
    else if (type === 3 && showsText && !options) into.children.push(textData(child));
  };
  if (options) visitOptions(el, into, inherited, state, depth);
  else eachChild(el, visit);
  visitOwned(el, into, inherited, state, depth);
  const after = pseudoContent(el, '::after');
  if (after) into.children.push(after);
}

function visitOwned(el, into, inherited, state, depth) {
  if (attr(el, 'aria-owns') === null) return;
  const outerOwner = into.owner;
  into.owner = el;
  for (const target of idRefs(el, 'aria-owns')) {
    if (state.owned.get(target) === el) visitElement(target, into, inherited, state, depth + 1, false);
  }
  into.owner = outerOwner;
}

/** A drop-down's options, without their groups. */
function visitOptions(el, into, inherited, state, depth) {
  eachChild(el, (child) => {
    if (nodeType(child) !== 1) return;
    const tag = tagOf(child);
    if (tag === 'option') visitElement(child, into, inherited, state, depth + 1, false);
    else if (tag === 'optgroup' && depth < MAX_DEPTH && styleOf(child).display !== 'none') visitOptions(child, into, inherited, state, depth + 1);
    else if (tag === 'hr' || tag === 'legend') return;
  });
}

/** The value a control shows; never a password. */
function shownValue(el, tag, role) {
  if (tag === 'textarea') return el.value;
  const type = el.type;
  if (type === 'password') return el.value ? '••••••••' : '';
  if (type === 'checkbox' || type === 'radio' || type === 'file' || type === 'image') return '';
  return el.value;
}

function propsOf(el, tag, role) {
  const props = [];
  if (role === 'link' && attr(el, 'href') !== null) props.push(['/url', attr(el, 'href')]);
  if (role === 'textbox' && VALUE_HOLDERS.has(tag) && attr(el, 'placeholder') !== null) props.push(['/placeholder', attr(el, 'placeholder')]);
  return props;
}

// --- simplification -----------------------------------------------------------------------------------------------------------

const isLeafText = (node) => node.children.every((child) => typeof child === 'string');
const isPlainGeneric = (node) => node.role === 'generic' && !node.name;

/** Post-order: children are simple before their parent looks at them. */
function simplify(node, state) {
  const children = [];
  let text = '';
  const flush = () => {
    const squashed = squashText(text);
    if (squashed) children.push(squashed);
    text = '';
  };
  for (const child of node.children) {
    if (typeof child === 'string') {
      text += child;
      continue;
    }
    simplify(child, state);
    const kept = reduce(child, node);
    if (!kept) continue;
    flush();
    children.push(kept);
  }
  flush();
  node.children = children;
  if (node.name && repeatsChildren(node, state)) node.name = '';
  if (children.length === 1 && children[0] === node.name) node.children = [];
  if (children.length === 1 && node.role === 'generic' && isPlainGeneric(children[0]) && isLeafText(children[0]) && !children[0].active && !gainsPointer(node, children[0])) {
    if (node.box || !children[0].box) node.children = children[0].children;
  }
  if (node.props) node.props = node.props.filter(([key, value]) => key !== '/placeholder' || value !== node.name);
}

const gainsPointer = (outer, inner) => inner.pointer && !outer.pointer;

/** What stands in the tree for `child` under `parent`: itself, its only child, or nothing. */
function reduce(child, parent) {
  if (child.role === 'img' && !child.name && !child.children.length) return child.pointer && child.box ? child : null;
  if (child.role === 'generic' && child.name && child.name === parent.name && !child.children.length && !child.active) return null;
  if (!isPlainGeneric(child)) return child;
  if (!child.children.length) return child.active || (child.pointer && child.box) ? child : null;
  if (parent.name && child.children.length === 1 && child.children[0] === parent.name) return null;
  return dissolve(child);
}

function dissolve(node) {
  const only = node.children[0];
  if (!isPlainGeneric(node) || node.children.length !== 1 || typeof only === 'string' || !only.box) return node;
  if (node.active && tagOf(node.element) !== 'body') return node;
  only.pointer ||= node.pointer && only.cursor;
  return only;
}

/**
 * Whether a name that was gathered from elements only repeats nodes below: at least one of them is a node of its own
 * (other than a bare piece of text), and none of them is missing from the tree.
 */
function repeatsChildren(node, state) {
  const { owners, labels } = node.named || NO_NAME;
  if (node.name.length > 900) return true;
  if (!owners) return false;
  let repeated = false;
  for (const owner of owners) {
    if (owner === node.element) {
      if (labels.has(owner)) return false;
      continue;
    }
    if (state.flat.has(owner)) {
      if (labels.has(owner)) return false;
      continue;
    }
    const found = state.nodes.get(owner);
    if (!found || !found.box || found.order <= node.order || found.order > node.last) return false;
    if (found.role === 'generic' && isLeafText(found) && !namedBetween(found, node)) return false;
    repeated = true;
  }
  return repeated;
}

function namedBetween(inner, outer) {
  for (let at = inner.parent; at && at !== outer; at = at.parent) if (at.name) return true;
  return false;
}

// --- YAML -----------------------------------------------------------------------------------------------------------------------

const squashText = squash;

function yamlValue(text) {
  return needsQuotes(text) ? quotedValue(text) : text;
}

// Several ordinary words: nothing else in YAML looks like them.
const PROSE = /^[A-Za-z][\w.,()@/-]*(?: [\w.,()@/-]+)+$/;
const PLAIN_WORDS = /^(?:y|n|yes|no|true|false|on|off|null)$/i;

function needsQuotes(text) {
  if (PROSE.test(text)) return false;
  if (!text || text !== text.trim() || DANGEROUS.test(text) || /[\n\r\t]/.test(text) || !text.isWellFormed()) return true;
  if (/^[-&*!|>%@'"`,?#[\]{}]/.test(text) || /[{}`]|: | #|:$/.test(text)) return true;
  return PLAIN_WORDS.test(text) || !Number.isNaN(Number(text));
}

/** Double quotes with the short escapes YAML knows. */
const quotedValue = (text) => quoted(text).replace(/(^|[^\\])((?:\\\\)*)\\u00([0-9a-f]{2})/g, '$1$2\\x$3').replace(/(^|[^\\])((?:\\\\)*)\\u00([0-9a-f]{2})/g, '$1$2\\x$3');

function keyOf(node, ref, boxes) {
  let key = node.role;
  if (node.name) key += ' ' + quoted(node.name);
  const state = (name, value) => {
    if (value) key += value === true ? ` [${name}]` : ` [${name}=${value}]`;
  };
  state('checked', node.checked);
  state('disabled', node.disabled);
  state('expanded', node.expanded);
  state('active', node.active);
  state('invalid', node.invalid);
  state('level', node.level);
  state('pressed', node.pressed);
  state('selected', node.selected);
  state('aria-hidden', node.ariaHidden);
  state('ref', ref);
  if (node.pointer && ref) state('cursor', 'pointer');
  if (boxes) {
    const { x, y, width, height } = rectOf(node.element);
    state('box', [x, y, width, height].map(Math.round).join(','));
  }
  return /: | #|[{}`]/.test(key) ? `'${key.replaceAll("'", "''")}'` : key;
}

const ASCII = /^[\u0000-\u007f]*$/;

const byteLength = (text) => {
  if (ASCII.test(text)) return text.length;
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0x7f) bytes += code > 0x7ff && (code < 0xd800 || code > 0xdfff) ? 2 : 1;
  }
  return bytes;
};

class Writer {
  constructor(frame, boxes, depth, maxBytes) {
    Object.assign(this, { frame, boxes, depth, left: maxBytes, lines: [], frames: [], nodes: 0, truncated: false });
  }

  /** Adds a line; false when the budget is spent. A long text is cut rather than left out. */
  line(indent, head, value) {
    if (this.truncated) return false;
    let text = indent + '- ' + head + (value === undefined ? '' : ': ' + yamlValue(value));
    let bytes = byteLength(text) + 1;
    if (bytes > this.left) {
      this.truncated = true;
      const room = Math.floor((this.left - byteLength(indent + head) - 12) / 4);
      if (value === undefined || room < 20) return false;
      text = indent + '- ' + head + ': ' + yamlValue(value.slice(0, room).toWellFormed() + '…');
      bytes = byteLength(text) + 1;
    }
    this.left -= bytes;
    this.lines.push(text);
    return true;
  }

  node(node, indent, level) {
    if (this.truncated) return;
    const ref = node.box ? this.frame + refFor(node.element) : '';
    const key = keyOf(node, ref, this.boxes);
    const children = this.depth !== undefined && level >= this.depth ? node.children.filter((c) => typeof c === 'string') : node.children;
    this.nodes++;
    if (node.role === 'iframe') {
      if (this.line(indent, key) && ref) this.frames.push({ ref, line: this.lines.length - 1 });
      return;
    }
    const inline = children.length === 1 && typeof children[0] === 'string' && node.children.length === 1;
    if (!node.props.length && inline) {
      this.line(indent, key, children[0]);
      return;
    }
    const nested = node.props.length > 0 || (children.length > 0 && !(this.depth !== undefined && level >= this.depth));
    if (!this.line(indent, nested ? key + ':' : key) || !nested) return;
    for (const [name, value] of node.props) this.line(indent + '  ', name, value);
    this.children(children, indent + '  ', level + 1);
  }

  children(children, indent, level) {
    for (const child of children) {
      if (typeof child === 'string') this.line(indent, 'text', child);
      else this.node(child, indent, level);
    }
  }
}

function snapshot({ target, depth, boxes, interactive, frame = '', maxNodes = 20000, maxBytes = 262144 } = {}) {
  const root = target === undefined || target === null || target === '' ? bodyOf(document) || documentElementOf(document) : locate(target);
  if (!root) return { text: '', nodes: 0, truncated: false, frames: [] };
  return withCaches(() => {
    startAt(root);
    const built = buildTree(root, { maxNodes });
    const writer = new Writer(frame, boxes, depth, maxBytes);
    const reduced = built.tree.role === 'fragment' ? built.tree : reduceRoot(built.tree);
    const tree = interactive && reduced ? onlyInteractive(reduced) : reduced;
    if (tree && tree.role === 'fragment') writer.children(tree.children, '', 0);
    else if (tree) writer.node(tree, '', 0);
    return { text: writer.lines.join('\n'), nodes: writer.nodes, truncated: built.truncated || writer.truncated, frames: writer.frames };
  });
}

/** The root dissolves like any other generic; an empty page has no lines. */
function reduceRoot(tree) {
  if (isPlainGeneric(tree) && !tree.children.length) return null;
  return dissolve(tree);
}
