// locate.js: from a target (a ref or a selector) to its element, and from an element to a locator string for the reply.

const MAX_TARGET = 8192;
const MAX_LISTED = 5;
const REF = /^(?:f\d+)?e\d+$/;

/** The one element a target names; throws an Error meant for the agent. */
function locate(target) {
  const text = String(target ?? '').trim();
  if (!text) throw new Error('The target is empty. Give a ref from the page snapshot or a selector.');
  if (text.length > MAX_TARGET) throw new Error(`The target is ${text.length} characters long; ${MAX_TARGET} is the limit. Use a ref from the page snapshot.`);
  if (REF.test(text)) {
    const found = element(text);
    if (!found) throw new Error(`Ref ${text} not found in the current page snapshot. Try capturing new snapshot.`);
    return found;
  }
  const found = select(text);
  if (found.length === 1) return found[0];
  if (!found.length) throw new Error(`${quoted(text)} does not match any elements.`);
  throw new Error(ambiguous(text, found));
}

function ambiguous(target, found) {
  const lines = found.slice(0, MAX_LISTED).map((el, i) => `  ${i + 1}) ${preview(el)} is ${locator(el)}`);
  if (found.length > MAX_LISTED) lines.push(`  … and ${found.length - MAX_LISTED} more`);
  return `strict mode violation: ${literal(target)} matches ${found.length} elements. Name one of them:\n${lines.join('\n')}`;
}

// --- selectors ------------------------------------------------------------------------------------------------------------

/** All elements for `css`, `css=…`, `text=…`, `role=…[name="…"]`, `getBy…()`, each with an optional `>> nth=n`; open shadow roots included. */
function select(text) {
  const nth = /^(.*?)\s*>>\s*nth=(-?\d+)$/s.exec(text);
  if (nth) {
    const hit = select(nth[1]).at(Number(nth[2]));
    return hit ? [hit] : [];
  }
  if (EXPRESSION.test(text)) return byExpression(text);
  if (text.startsWith('text=')) return byText(text.slice(5).trim());
  if (text.startsWith('role=')) return byRoleSelector(text.slice(5).trim());
  const css = text.startsWith('css=') ? text.slice(4).trim() : text;
  const hasText = /^(.*):has-text\(\s*(["'])(.*)\2\s*\)$/s.exec(css);
  if (hasText) {
    const wanted = squash(hasText[3]).toLowerCase();
    return queryDeep(hasText[1].trim() || '*', text).filter((el) => textOf(el).toLowerCase().includes(wanted));
  }
  return queryDeep(css, text);
}

/** `from` and every open shadow root in it, outermost first. */
function openRoots(from = document) {
  const roots = [from];
  if (isElement(from) && shadowOf(from)) roots.push(shadowOf(from));
  for (let i = 0; i < roots.length && roots.length < 5000; i++) {
    const walker = Document.prototype.createTreeWalker.call(document, roots[i], NodeFilter.SHOW_ELEMENT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const shadow = shadowOf(node);
      if (shadow) roots.push(shadow);
    }
  }
  return roots;
}

function queryDeep(css, shown) {
  try {
    return openRoots().flatMap((root) => [...queryAll(root, css)]);
  } catch {
    const hint = />>|^\/\/|^\w+=|\bgetBy\w+\(/.test(css) ? ' Only CSS, text=…, role=…[name="…"] and getBy…() are understood.' : '';
    throw new Error(`${quoted(shown)} is not a valid CSS selector.${hint} Give a ref from the page snapshot or a selector.`);
  }
}

function byRoleSelector(text) {
  const parsed = /^([a-z]+)\s*(?:\[\s*name\s*=\s*(["'])(.*)\2\s*(i)?\s*\])?$/s.exec(text);
  if (!parsed) throw new Error(`${quoted('role=' + text)} is not understood. Write role=button[name="Save"].`);
  const [, role, , name, loose] = parsed;
  return withCaches(() => byRole(role, name === undefined ? null : squash(name), !loose));
}

/** `text=Go` finds the smallest elements that contain the words; `text="Go"` those with exactly that text. */
function byText(text) {
  const quotedText = /^(["'])(.*)\1$/s.exec(text);
  return withCaches(() => withText(squash(quotedText ? quotedText[2] : text), Boolean(quotedText)));
}

function withText(wanted, exact) {
  const found = [];
  if (!wanted) return found;
  const needle = exact ? wanted : wanted.toLowerCase();
  const contains = (el) => {
    const text = textOf(el);
    return exact ? text.includes(needle) : text.toLowerCase().includes(needle);
  };
  const search = (el, depth) => {
    if (SKIPPED.has(tagOf(el)) || depth > MAX_DEPTH) return false;
    let inside = false;
    const visit = (child) => {
      if (nodeType(child) === 1 && search(child, depth + 1)) inside = true;
    };
    const shadow = shadowOf(el);
    if (!contains(el)) {
      if (!shadow && !hasShadowInside(el)) return false;
      eachChild(el, visit);
      return inside;
    }
    for (let node = firstChild(shadow || el); node; node = nextSibling(node)) visit(node);
    if (shadow) for (let node = firstChild(el); node; node = nextSibling(node)) visit(node);
    if (inside) return true;
    if (exact && textOf(el) !== wanted) return false;
    found.push(el);
    return true;
  };
  const body = bodyOf(document);
  if (body) search(body, 0);
  return found;
}

let shadowHosts = null;

function hasShadowInside(el) {
  shadowHosts ??= openRoots().slice(1).map(shadowHost);
  queueMicrotask(() => (shadowHosts = null));
  return shadowHosts.some((host) => composedContains(el, host));
}

/** An element's text, without that of scripts; a button input's caption is its text. */
function textOf(el) {
  const tag = tagOf(el);
  if (tag === 'input') return el.type === 'submit' || el.type === 'button' || el.type === 'reset' ? squash(el.value) : '';
  const root = shadowOf(el) || el;
  return squash(queryAll(root, UNSEEN_TEXT).length ? seenText(root) : textContentOf(root));
}

const UNSEEN_TEXT = 'script,style,noscript';

function seenText(root) {
  const walker = Document.prototype.createTreeWalker.call(document, root, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT, (node) =>
    isElement(node) && matches(node, UNSEEN_TEXT) ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT);
  let text = '';
  for (let node = walker.nextNode(); node; node = walker.nextNode()) if (nodeType(node) === 3) text += textData(node);
  return text;
}

const textContentOf = getter(Node.prototype, 'textContent');

// --- role and name, over the whole document -----------------------------------------------------------------------------------

let tagsOfRole = null;

/** Which elements may have a role by themselves: made when the first role is looked for, and not in every document. */
const tagsOf = (role) => {
  if (!tagsOfRole) {
    tagsOfRole = {
      __proto__: null,
      link: 'a[href],area[href]', button: 'button,input', checkbox: 'input', radio: 'input', textbox: 'input,textarea', searchbox: 'input',
      spinbutton: 'input', slider: 'input', combobox: 'select,input', listbox: 'select,datalist', img: 'img,svg', region: 'section', form: 'form',
      banner: 'header', contentinfo: 'footer', cell: 'td', gridcell: 'td', columnheader: 'th', rowheader: 'th',
    };
    for (const [tag, named] of Object.entries(TAG_ROLES)) tagsOfRole[named] = tagsOfRole[named] ? `${tagsOfRole[named]},${tag}` : tag;
  }
  return tagsOfRole[role];
};

const MAX_CANDIDATES = 3000;

/** Shown elements with this role and, when given, a name that contains (or is) `name`. */
function byRole(role, name, exact) {
  const tags = tagsOf(role);
  const selector = tags ? `${tags},[role]` : '[role]';
  const wanted = name && !exact ? name.toLowerCase() : name;
  const found = [];
  for (const el of queryDeep(selector, selector).slice(0, MAX_CANDIDATES)) {
    if (roleOf(el) !== role) continue;
    if (name !== null) {
      const own = nameOf(el, role).text;
      if (exact ? own !== name : !own.toLowerCase().includes(wanted)) continue;
    }
    if (isExposed(el)) found.push(el);
  }
  return found;
}

/** Neither hidden by style nor from assistive technology. */
function isExposed(el) {
  const style = styleOf(el);
  if (!isRendered(el, style) || style.visibility !== 'visible') return false;
  for (let at = el; at; at = composedParent(at)) if (attr(at, 'aria-hidden') === 'true') return false;
  return true;
}

// --- the locator of an element ---------------------------------------------------------------------------------------------------

const literal = (text) => `'${unhide(JSON.stringify(text.toWellFormed()).slice(1, -1).replace(/\\"/g, '"').replace(/'/g, "\\'"))}'`;

/** The expression a Playwright user would write for this element, as in `### Ran Playwright code`. */
function locator(el) {
  return withCaches(() => {
    const acting = closest(el, 'button,[role=button],a[href],[role=link]') || el;
    return best(acting);
  });
}

function best(el) {
  const testId = attr(el, 'data-testid');
  if (testId) return pick(`getByTestId(${literal(testId)})`, el, () => queryDeep(`[data-testid=${JSON.stringify(testId)}]`, testId));
  const tag = tagOf(el);
  const role = roleOf(el);
  if (tag === 'iframe') return byCss(el);
  const name = role === 'generic' || role === 'none' ? '' : nameOf(el, role).text;
  if (name && tag === 'select') return pick(`getByLabel(${literal(name)})`, el, () => byRole(role, name, false));
  if (name && isExposed(el)) return byRoleAndName(el, role, name);
  const scoped = TEXTLESS.has(role) ? '' : textOf(el);
  if (scoped && tag !== 'form') {
    const text = shorten(scoped);
    const found = withText(text, false);
    if (found.length === 1 && found[0] === el) return `getByText(${literal(text)})`;
    const same = withText(scoped, true);
    if (same.length === 1 && same[0] === el) return `getByText(${literal(scoped)}, { exact: true })`;
    if (found.includes(el)) return nth(`getByText(${literal(text)})`, el, found);
  }
  if (BY_ROLE_ALONE.has(role) && isExposed(el)) return byRoleAlone(el, role);
  const css = bareCss(el);
  if (css) return `locator(${literal(css)})`;
  if (role !== 'generic' && role !== 'none' && isExposed(el)) return byRoleAlone(el, role);
  return byCss(el);
}

const BY_ROLE_ALONE = words('table rowgroup grid treegrid navigation main banner contentinfo complementary');
const TEXTLESS = words('table rowgroup grid treegrid navigation main banner contentinfo complementary textbox searchbox combobox listbox checkbox radio slider spinbutton button');

function byRoleAlone(el, role) {
  const found = byRole(role, null, false);
  // Beyond the candidates that were looked at.
  return found.includes(el) ? nth(`getByRole(${literal(role)})`, el, found) : byCss(el);
}

function byRoleAndName(el, role, name) {
  const text = shorten(name);
  const base = `getByRole(${literal(role)}, { name: ${literal(text)} })`;
  const found = byRole(role, text, false);
  if (found.length === 1 && found[0] === el) return base;
  const same = byRole(role, name, true);
  if (same.length === 1 && same[0] === el) return `getByRole(${literal(role)}, { name: ${literal(name)}, exact: true })`;
  if (same[0] !== el) {
    const scope = namedAncestor(el);
    if (scope && same.filter((other) => composedContains(scope.element, other)).length === 1) {
      return `${scope.locator}.getByRole(${literal(role)}, { name: ${literal(name)} })`;
    }
  }
  if (found.includes(el)) return nth(base, el, found);
  // Beyond the candidates that were looked at.
  return same.includes(el) ? nth(`getByRole(${literal(role)}, { name: ${literal(name)}, exact: true })`, el, same) : byCss(el);
}

/** The nearest ancestor that is easy to name: by a test id, or by role and a unique name. */
function namedAncestor(el) {
  for (let at = composedParent(el), i = 0; at && i < 12; at = composedParent(at), i++) {
    const testId = attr(at, 'data-testid');
    if (testId) {
      if (queryDeep(`[data-testid=${JSON.stringify(testId)}]`, testId).length === 1) return { element: at, locator: `getByTestId(${literal(testId)})` };
      continue;
    }
    const role = roleOf(at);
    if (role === 'generic' || role === 'none' || role === 'rowgroup') continue;
    const name = nameOf(at, role).text;
    if (!name || name.length > 80) continue;
    if (byRole(role, name, false).length === 1) return { element: at, locator: `getByRole(${literal(role)}, { name: ${literal(name)} })` };
  }
  return null;
}

const pick = (expression, el, find) => {
  const found = find();
  return found.length <= 1 || !found.includes(el) ? expression : nth(expression, el, found);
};

const nth = (expression, el, found) => {
  const index = found.indexOf(el);
  return found.length === 1 ? expression : index === 0 ? `${expression}.first()` : `${expression}.nth(${index})`;
};

/** Long names are cut at a word; a part is enough to find them. */
function shorten(text) {
  if (text.length <= 80) return text;
  const cut = text.slice(0, 31);
  const space = cut.lastIndexOf(' ');
  return (space > 10 ? cut.slice(0, space) : text.slice(0, 30)).trim();
}

/** An id, a name attribute or a tag that is alone of its kind. */
function bareCss(el) {
  const tag = tagOf(el);
  const alone = (css) => (queryDeep(css, css).length === 1 ? css : null);
  const id = attr(el, 'id');
  const idCss = id && alone(/^[A-Za-z][\w-]+$/.test(id) ? `#${id}` : `[id=${JSON.stringify(id)}]`);
  if (idCss) return idCss;
  for (const name of tag === 'iframe' ? ['title', 'name'] : ['name', 'placeholder', 'title']) {
    const value = attr(el, name);
    const css = value && alone(`${tag}[${name}=${JSON.stringify(value)}]`);
    if (css) return css;
  }
  return /^[a-z][\w-]*$/.test(tag) ? alone(tag) : null;
}

function byCss(el) {
  const bare = tagOf(el) === 'iframe' ? iframeCss(el) : bareCss(el);
  if (bare) return `locator(${literal(bare)})`;
  if (tagOf(el) === 'iframe') return pick("locator('iframe')", el, () => queryDeep('iframe', 'iframe'));
  const steps = [];
  for (let at = el; at && steps.length < 8; at = isElement(parentNode(at)) ? parentNode(at) : null) {
    const own = at === el ? null : bareCss(at);
    if (own) {
      steps.unshift(own);
      break;
    }
    steps.unshift(stepOf(at));
    const css = steps.join(' > ');
    if (queryDeep(css, css).length === 1) return `locator(${literal(css)})`;
  }
  const css = steps.join(' > ');
  return pick(`locator(${literal(css)})`, el, () => queryDeep(css, css));
}

function iframeCss(el) {
  for (const name of ['title', 'name', 'id']) {
    const value = attr(el, name);
    const css = value && (name === 'id' ? `#${CSS.escape(value)}` : `iframe[${name}=${JSON.stringify(value)}]`);
    if (css && queryDeep(css, css).length === 1) return css;
  }
  return queryDeep('iframe', 'iframe').length === 1 ? 'iframe' : null;
}

/** `div.card`, with its place among its siblings when they look the same. */
function stepOf(el) {
  const step = CSS.escape(tagOf(el));
  const parent = parentNode(el);
  let index = 0;
  let same = 0;
  for (let node = parent && firstChild(parent); node; node = nextSibling(node)) {
    if (nodeType(node) !== 1 || tagOf(node) !== tagOf(el)) continue;
    same++;
    if (node === el) index = same;
  }
  return same > 1 ? `${step}:nth-of-type(${index})` : step;
}
