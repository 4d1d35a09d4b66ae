// aria.js: role, accessible name and states, after WAI-ARIA 1.2, AccName 1.2 and HTML-AAM.

const words = (text) => new Set(text.trim().split(/\s+/));

const ROLES = words(`alert alertdialog application article banner blockquote button caption cell checkbox code columnheader
  combobox complementary contentinfo definition deletion dialog directory document emphasis feed figure form generic grid
  gridcell group heading img insertion link list listbox listitem log main mark marquee math menu menubar menuitem
  menuitemcheckbox menuitemradio meter navigation none note option paragraph presentation progressbar radio radiogroup region
  row rowgroup rowheader scrollbar search searchbox separator slider spinbutton status strong subscript superscript switch tab
  table tablist tabpanel term textbox time timer toolbar tooltip tree treegrid treeitem`);
const NAME_PROHIBITED = words(`caption code definition deletion emphasis insertion mark none paragraph presentation strong subscript
  superscript term time`);
const NAME_FROM_CONTENT = words(`button cell checkbox columnheader gridcell heading link menuitem menuitemcheckbox menuitemradio
  option radio row rowheader switch tab tooltip treeitem`);
// Roles whose content counts in the name of something around them; others are parts of their own.
const IN_NAMES = new Set([...NAME_FROM_CONTENT, ...words(`caption code contentinfo definition deletion emphasis generic insertion list
  listitem mark none paragraph presentation region rowgroup strong subscript superscript table term time`)]);
const CHECKABLE = words(`checkbox menuitemcheckbox menuitemradio option radio switch treeitem`);
const EXPANDABLE = words(`application button checkbox columnheader combobox gridcell link listbox menuitem menuitemcheckbox
  menuitemradio row rowheader switch tab treeitem`);
const SELECTABLE = words('columnheader gridcell option row rowheader tab treeitem');
const LEVELLED = words('heading listitem row treeitem');
const INVALIDABLE = words(`application checkbox columnheader combobox gridcell listbox radiogroup rowheader searchbox slider
  spinbutton switch textbox tree treegrid`);
const DISABLEABLE = words(`application button checkbox columnheader combobox grid gridcell group link listbox menu menubar menuitem
  menuitemcheckbox menuitemradio option radio radiogroup row rowheader scrollbar searchbox separator slider spinbutton switch tab
  tablist textbox toolbar tree treegrid treeitem`);
const GLOBAL_ARIA = `aria-atomic aria-busy aria-controls aria-current aria-describedby aria-details aria-dropeffect aria-flowto
  aria-grabbed aria-keyshortcuts aria-label aria-labelledby aria-live aria-owns aria-relevant aria-roledescription`.split(/\s+/);

// The page chooses its tags: without a prototype, `<constructor>` is none of them.
const TAG_ROLES = {
  __proto__: null,
  article: 'article', aside: 'complementary', blockquote: 'blockquote', button: 'button', caption: 'caption', code: 'code',
  datalist: 'listbox', dd: 'definition', del: 'deletion', details: 'group', dfn: 'term', dialog: 'dialog', dt: 'term',
  em: 'emphasis', fieldset: 'group', figure: 'figure', h1: 'heading', h2: 'heading', h3: 'heading', h4: 'heading',
  h5: 'heading', h6: 'heading', hr: 'separator', iframe: 'iframe', ins: 'insertion', li: 'listitem', main: 'main',
  mark: 'mark', math: 'math', menu: 'list', meter: 'meter', nav: 'navigation', ol: 'list', optgroup: 'group',
  option: 'option', output: 'status', p: 'paragraph', progress: 'progressbar', search: 'search', strong: 'strong',
  sub: 'subscript', sup: 'superscript', svg: 'img', table: 'table', tbody: 'rowgroup', textarea: 'textbox',
  tfoot: 'rowgroup', thead: 'rowgroup', time: 'time', tr: 'row', ul: 'list',
};
const INPUT_ROLES = {
  button: 'button', checkbox: 'checkbox', file: 'button', image: 'button', number: 'spinbutton', radio: 'radio',
  range: 'slider', reset: 'button', search: 'searchbox', submit: 'button',
};
const LISTABLE = words('email search tel text url');
// Elements that mean nothing without their container: presentational when it is.
const IN_TABLE = words('table');
const CONTAINERS = {
  __proto__: null,
  li: words('ul ol menu'), tr: IN_TABLE, td: IN_TABLE, th: IN_TABLE, tbody: IN_TABLE, thead: IN_TABLE, tfoot: IN_TABLE, caption: IN_TABLE,
  dt: words('dl'), dd: words('dl'),
};

let labelCache = new Map();
let cellCache = new Map();

const forgetAria = () => {
  labelCache = new Map();
  cellCache = new Map();
};

/** The element's role; `generic` when it has none, `none` when it is presentational. */
function roleOf(element) {
  if (!styleCache) return computeRole(element);
  return (styleOf(element).role ??= computeRole(element));
}

function computeRole(element) {
  const explicit = explicitRole(element);
  if (explicit && explicit !== 'none') return explicit;
  if (explicit === 'none' && !insistsOnRole(element)) return 'none';
  return implicitRole(element) || 'generic';
}

function explicitRole(element) {
  const value = attr(element, 'role');
  if (!value) return null;
  for (const token of value.toLowerCase().split(/\s+/)) {
    if (token === 'presentation' || token === 'none') return 'none';
    if (ROLES.has(token)) return token;
  }
  return null;
}

/** Presentational role conflict: focusable elements and those with global ARIA attributes keep their own role. */
function insistsOnRole(element) {
  return GLOBAL_ARIA.some((name) => attr(element, name) !== null) || isFocusable(element);
}

function isFocusable(element) {
  if (attr(element, 'tabindex') !== null && !Number.isNaN(Number.parseInt(attr(element, 'tabindex'), 10))) return true;
  const tag = tagOf(element);
  if (tag === 'a' || tag === 'area') return attr(element, 'href') !== null;
  if (tag === 'button' || tag === 'select' || tag === 'textarea') return !matches(element, ':disabled');
  if (tag === 'input') return !matches(element, ':disabled') && attr(element, 'type') !== 'hidden';
  return tag === 'iframe' || tag === 'summary' || (attr(element, 'contenteditable') ?? 'false') !== 'false';
}

function implicitRole(element) {
  const tag = tagOf(element);
  switch (tag) {
    case 'a': case 'area': return attr(element, 'href') === null ? null : 'link';
    case 'input': return inputRole(element);
    case 'select': return element.multiple || element.size > 1 ? 'listbox' : 'combobox';
    case 'img': return attr(element, 'alt') === '' && !attr(element, 'title') && !hasAriaName(element) && attr(element, 'tabindex') === null ? 'none' : 'img';
    case 'section': return hasAriaName(element) ? 'region' : null;
    case 'form': return hasAriaName(element) ? 'form' : null;
    case 'header': return closest(element, 'article,aside,main,nav,section,[role]:is([role=article],[role=complementary],[role=main],[role=navigation],[role=region])') ? null : 'banner';
    case 'footer': return closest(element, 'article,aside,main,nav,section,[role]:is([role=article],[role=complementary],[role=main],[role=navigation],[role=region])') ? null : 'contentinfo';
    case 'td': return cellRole(element);
    case 'th': if (!isPresentationalPart(element, tag)) return headerRole(element); return 'none';
  }
  if (CONTAINERS[tag] && isPresentationalPart(element, tag)) return 'none';
  return TAG_ROLES[tag] || null;
}

const hasAriaName = (element) => Boolean(attr(element, 'aria-label')?.trim() || attr(element, 'aria-labelledby')?.trim());

function inputRole(element) {
  const type = element.type;
  if (type === 'hidden') return 'none';
  if (LISTABLE.has(type)) {
    const list = attr(element, 'list');
    const target = list && sameTreeById(element, list);
    if (target && tagOf(target) === 'datalist') return 'combobox';
  }
  return INPUT_ROLES[type] || 'textbox';
}

function isPresentationalPart(element, tag) {
  const container = CONTAINERS[tag];
  for (let at = parentNode(element), i = 0; at && isElement(at) && i < 4; at = parentNode(at), i++) {
    if (explicitRole(at) === 'none' && !insistsOnRole(at)) return true;
    if (container.has(tagOf(at))) return false;
  }
  return false;
}

/** The role of a `td`, the same for all of a row. */
function cellRole(element) {
  const row = parentNode(element);
  let role = cellCache.get(row);
  if (role === undefined) {
    role = isPresentationalPart(element, 'td') ? 'none' : tableIsGrid(element) ? 'gridcell' : 'cell';
    if (styleCache && row) cellCache.set(row, role);
  }
  return role;
}

function tableIsGrid(element) {
  const table = closest(element, 'table');
  const role = table && explicitRole(table);
  return role === 'grid' || role === 'treegrid';
}

function headerRole(element) {
  const scope = attr(element, 'scope')?.toLowerCase();
  if (scope === 'col' || scope === 'colgroup') return 'columnheader';
  if (scope === 'row' || scope === 'rowgroup') return 'rowheader';
  const row = parentNode(element);
  for (let node = row && firstChild(row); node; node = nextSibling(node)) {
    if (nodeType(node) === 1 && tagOf(node) === 'td') return 'rowheader';
  }
  return 'columnheader';
}

// --- accessible name ----------------------------------------------------------------------------------------------------

const NAME_LIMIT = 1000;
const NAME_NODES = 3000;
// Roles whose own labels, not their content, make sense inside another element's name.
const CONTROL_VALUE = words('textbox searchbox combobox listbox slider spinbutton scrollbar progressbar meter');

/**
 * The accessible name: `{ text, owners }`. `owners` are the elements the text was gathered from when it was composed from
 * content or labels (an element that gave its attribute is listed with `labels`), null when it is an attribute of its own.
 */
function nameOf(element, role = roleOf(element)) {
  if (NAME_PROHIBITED.has(role)) return NO_NAME;
  const byIds = idRefs(element, 'aria-labelledby');
  if (byIds.length) {
    const walk = newWalk(element);
    for (const target of byIds) {
      walk.text += ' ';
      walkLabel(target, walk);
    }
    const text = squash(walk.text);
    if (text) return { text, owners: walk.owners, labels: walk.labels };
  }
  const label = squash(attr(element, 'aria-label') || '');
  if (label) return { text: label, owners: null };
  const native = nativeName(element, role);
  if (native) return native;
  if (NAME_FROM_CONTENT.has(role) || tagOf(element) === 'summary') {
    const only = onlyText(element);
    if (only !== null) return only ? { text: only, owners: new Set([element]), labels: NONE } : tipOf(element);
    const walk = newWalk(element);
    walkContent(element, walk, 0);
    const text = squash(walk.text);
    if (text) return { text, owners: walk.owners, labels: walk.labels };
  }
  return tipOf(element);
}

const NONE = new Set();

/** The text of an element that holds nothing else, which most cells and buttons are; null when it takes a walk to tell. */
function onlyText(element) {
  const only = firstChild(element);
  if (!only || nodeType(only) !== 3 || nextSibling(only) || shadowOf(element) || mayHavePseudo(element)) return null;
  if (attr(element, 'aria-owns') !== null || tagOf(element) === 'slot') return null;
  return hidesText(element, styleOf(element)) ? '' : squash(textData(only));
}

/** What names an element that has no better name. */
function tipOf(element) {
  const tip = squash(attr(element, 'title') || '');
  if (tip) return { text: tip, owners: null };
  const hint = hasPlaceholder(element) ? squash(attr(element, 'placeholder') || attr(element, 'aria-placeholder') || '') : '';
  return hint ? { text: hint, owners: null } : NO_NAME;
}

const NO_NAME = { text: '', owners: null };
const newWalk = (target) => ({ target, text: '', owners: new Set(), labels: new Set(), seen: new Set(), hidden: false, left: NAME_NODES, labelled: false });
const hasPlaceholder = (element) => tagOf(element) === 'input' || tagOf(element) === 'textarea' || attr(element, 'aria-placeholder') !== null;

function idRefs(element, name) {
  const value = attr(element, name);
  if (!value) return [];
  const found = [];
  for (const id of value.trim().split(/\s+/).slice(0, 50)) {
    const target = sameTreeById(element, id);
    if (target) found.push(target);
  }
  return found;
}

/** The name that HTML itself gives: labels, legends, captions, alternative texts. */
function nativeName(element, role) {
  const tag = tagOf(element);
  if (tag === 'input' || tag === 'textarea' || tag === 'select' || tag === 'meter' || tag === 'progress' || tag === 'output' || tag === 'button') {
    const type = tag === 'input' ? element.type : '';
    // A push button says what it does itself.
    if (type !== 'hidden' && type !== 'submit' && type !== 'reset' && type !== 'button') {
      const byLabel = labelName(element);
      if (byLabel) return byLabel;
    }
    if (type === 'submit' || type === 'reset' || type === 'button') {
      const value = squash(element.value || '');
      if (value) return attribute(value);
      const title = type !== 'button' ? '' : squash(attr(element, 'title') || '');
      return attribute(title || (type === 'submit' ? 'Submit' : type === 'reset' ? 'Reset' : ''));
    }
    if (type === 'image') return attribute(squash(attr(element, 'alt') || '') || squash(attr(element, 'title') || '') || 'Submit');
    if (type === 'file') return attribute('Choose File');
    return null;
  }
  if (tag === 'img' || tag === 'area') return attribute(squash(attr(element, 'alt') || '') || squash(attr(element, 'title') || ''));
  if (tag === 'fieldset') return childName(element, 'legend');
  if (tag === 'table') return childName(element, 'caption') || attribute(squash(attr(element, 'summary') || ''));
  if (tag === 'figure') return childName(element, 'figcaption');
  if (tag === 'optgroup') return attribute(squash(attr(element, 'label') || ''));
  if (inSvg(element)) return childName(element, 'title');
  return null;
}

const attribute = (text) => (text ? { text, owners: null } : null);

/** The labels of a control, from one pass over its tree: `control.labels` walks the whole document each time. */
function labelsOf(element) {
  if (!styleCache) return [...(element.labels || [])];
  const root = rootOf(element);
  let map = labelCache.get(root);
  if (!map) {
    labelCache.set(root, (map = new Map()));
    for (const label of isElement(root) ? [] : queryAll(root, 'label')) {
      const control = label.control;
      if (control) map.set(control, [...(map.get(control) || []), label]);
    }
  }
  return map.get(element) || [];
}

function labelName(element) {
  const labels = labelsOf(element);
  if (!labels.length) return null;
  const walk = newWalk(element);
  for (const label of labels) {
    walk.text += ' ';
    walkLabel(label, walk);
  }
  const text = squash(walk.text);
  return text ? { text, owners: walk.owners, labels: walk.labels } : null;
}

function childName(element, tag) {
  for (let node = firstChild(element); node; node = nextSibling(node)) {
    if (nodeType(node) !== 1 || tagOf(node) !== tag) continue;
    const walk = newWalk(element);
    if (tag === 'title') walk.hidden = true;
    walk.labelled = true;
    walkContent(node, walk, 0);
    const text = squash(walk.text);
    return text ? { text, owners: walk.owners, labels: walk.labels } : null;
  }
  return null;
}

/** Adds the text of an element that another one names as its label; it counts even when it is hidden. */
function walkLabel(element, walk) {
  const style = styleOf(element);
  walk.hidden = style.visibility !== 'visible' || (!rendered(element) && style.display !== 'contents');
  walk.labelled = true;
  walkElement(element, walk, 0, true);
  walk.hidden = false;
}

function walkContent(element, walk, depth) {
  if (walk.seen.has(element)) return;
  walk.seen.add(element);
  const style = styleOf(element);
  const showsText = walk.hidden || !hidesText(element, style);
  pseudoText(element, '::before', walk);
  const visit = (node) => {
    if (walk.left-- <= 0 || walk.text.length > NAME_LIMIT || depth > MAX_DEPTH) return;
    const type = nodeType(node);
    if (type === 3) {
      if (!showsText) return;
      const data = textData(node);
      if (!data) return;
      walk.text += data;
      if (/\S/.test(data)) walk.owners.add(element);
    } else if (type === 1) walkElement(node, walk, depth + 1, false);
  };
  eachChild(element, visit);
  for (const owned of idRefs(element, 'aria-owns')) visit(owned);
  pseudoText(element, '::after', walk);
}

/** Adds what a child (or a label) contributes to a name. */
function walkElement(element, walk, depth, isLabel) {
  const tag = tagOf(element);
  if (tag === 'br') walk.text += ' ';
  if (SKIPPED.has(tag) && !(isLabel && inSvg(element))) return;
  const style = styleOf(element);
  if (!isLabel && !walk.hidden && (style.display === 'none' || attr(element, 'aria-hidden') === 'true' || !isRendered(element, style))) return;
  const spaced = style.display !== 'inline' && style.display !== 'contents';
  if (spaced) walk.text += ' ';
  if (element === walk.target && !isLabel) return;
  const own = ownAlternative(element, walk, style, isLabel);
  if (own !== null) {
    if (own.text) {
      walk.text += own.text;
      walk.owners.add(element);
      if (own.label) walk.labels.add(element);
    }
  } else {
    const before = walk.text.length;
    if (walk.labelled || IN_NAMES.has(roleOf(element))) walkContent(element, walk, depth);
    if (!/\S/.test(walk.text.slice(before))) walkTip(element, walk, style);
  }
  if (spaced) walk.text += ' ';
}

/** Adds the tip of an element that has nothing else to say, such as an icon made of styles. */
function walkTip(element, walk, style) {
  const tip = roleOf(element) !== 'none' && (walk.hidden || style.visibility === 'visible') ? squash(attr(element, 'title') || '') : '';
  if (!tip) return;
  walk.text += tip;
  walk.owners.add(element);
  walk.labels.add(element);
}

/** What the element says for itself inside another name (`{ text, label }`), or null: use its content. */
function ownAlternative(element, walk, style, isLabel) {
  if (!walk.hidden && style.visibility !== 'visible') return null;
  const role = roleOf(element);
  if (!walk.labelled) {
    const ids = idRefs(element, 'aria-labelledby');
    if (ids.length && !walk.seen.has(element)) {
      walk.seen.add(element);
      return { text: nameOf(element, role).text, label: true };
    }
  }
  if (element !== walk.target && CONTROL_VALUE.has(role)) {
    const value = controlValue(element, role, walk);
    if (value !== null) return { text: value, label: false };
  }
  const label = squash(attr(element, 'aria-label') || '');
  if (label) return { text: label, label: true };
  const tag = tagOf(element);
  if (tag === 'img' || tag === 'svg' || tag === 'input' || tag === 'area') {
    const native = element === walk.target ? null : nativeName(element, role) || attribute(squash(attr(element, 'title') || ''));
    if (!native) return tag === 'svg' ? null : { text: '' };
    if (native.owners) for (const owner of native.owners) walk.labels.add(owner), walk.owners.add(owner);
    return { text: native.text, label: native.owners !== null };
  }
  if (role === 'group' && !isLabel && roleOf(walk.target) === 'treeitem') return { text: '' };
  return null;
}

function controlValue(element, role, walk) {
  const tag = tagOf(element);
  if (tag === 'select') {
    let text = '';
    for (const option of element.selectedOptions) {
      text += ' ' + option.text;
      walk.owners.add(option);
    }
    return squash(text);
  }
  if (tag === 'input' && (element.type === 'password' || element.type === 'file')) return '';
  if (tag === 'input' || tag === 'textarea') return element.value || '';
  if (role === 'slider' || role === 'spinbutton' || role === 'scrollbar' || role === 'progressbar' || role === 'meter') {
    return attr(element, 'aria-valuetext') || attr(element, 'aria-valuenow') || attr(element, 'value') || '';
  }
  return null;
}

function pseudoText(element, which, walk) {
  const text = pseudoContent(element, which);
  if (!text) return;
  walk.text += text;
  if (/\S/.test(text)) walk.owners.add(element);
}

/** The text of `::before` or `::after`, with spaces around when it is not inline; '' without one. */
function pseudoContent(element, which) {
  if (!mayHavePseudo(element)) return '';
  const style = getComputedStyle(element, which);
  const content = style.content;
  if (content === 'none' || content === 'normal' || style.display === 'none' || style.visibility !== 'visible') return '';
  const slash = content.includes('/') && /^(?:"(?:[^"\\]|\\.)*"|[^"/])*\/(.*)$/s.exec(content);
  let text = '';
  for (const part of (slash ? slash[1] : content).matchAll(/url\("(?:[^"\\]|\\.)*"\)|"((?:[^"\\]|\\.)*)"|attr\(\s*([\w-]+)/g)) {
    text += part[2] ? attr(element, part[2]) || '' : (part[1] || '').replace(/\\(["\\])/g, '$1');
  }
  return style.display === 'inline' || !text ? text : ` ${text} `;
}

// --- states -----------------------------------------------------------------------------------------------------------------

const triState = (value) => (value === 'true' ? true : value === 'mixed' ? 'mixed' : false);

function checkedState(element, role) {
  if (!CHECKABLE.has(role)) return false;
  const tag = tagOf(element);
  if (tag === 'input' && (element.type === 'checkbox' || element.type === 'radio')) {
    return element.type === 'checkbox' && element.indeterminate ? 'mixed' : element.checked;
  }
  return triState(attr(element, 'aria-checked'));
}

const expandedState = (element, role) => EXPANDABLE.has(role) && attr(element, 'aria-expanded') === 'true';
const pressedState = (element, role) => role === 'button' && triState(attr(element, 'aria-pressed'));

function selectedState(element, role) {
  if (!SELECTABLE.has(role)) return false;
  if (tagOf(element) === 'option') return element.selected;
  return attr(element, 'aria-selected') === 'true';
}

function invalidState(element, role) {
  if (!INVALIDABLE.has(role)) return false;
  const value = (attr(element, 'aria-invalid') || '').trim().toLowerCase();
  if (!value || value === 'false') return false;
  return value === 'grammar' || value === 'spelling' ? value : true;
}

function levelOf(element, role) {
  if (!LEVELLED.has(role)) return 0;
  const heading = /^h([1-6])$/.exec(tagOf(element));
  if (heading && role === 'heading') return Number(heading[1]);
  const level = Number.parseInt(attr(element, 'aria-level') || '', 10);
  return level > 0 ? level : 0;
}

const DISABLEABLE_TAGS = words('button input select textarea option optgroup');

/** Disabled by HTML: its own attribute, or a disabled fieldset around it. */
function nativelyDisabled(element) {
  const tag = tagOf(element);
  if (!DISABLEABLE_TAGS.has(tag)) return false;
  if (tag === 'option') return attr(element, 'disabled') !== null || closest(element, 'optgroup[disabled]') !== null;
  return matches(element, ':disabled');
}

/** `aria-disabled` on the element or around it. */
function ariaDisabled(element) {
  for (let at = element; at; at = composedParent(at)) {
    const value = attr(at, 'aria-disabled');
    if (value === 'true') return true;
    if (value === 'false') return false;
  }
  return false;
}
