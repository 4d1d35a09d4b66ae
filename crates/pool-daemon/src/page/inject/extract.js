// extract.js: values out of a page, by a schema of selectors that the daemon has checked for its form.

/** Most items of a list, values and characters of a result, and characters of one value. What is beyond is left out, and said so. */
const MAX_ITEMS = 1000;
const MAX_VALUES = 10_000;
const MAX_CHARACTERS = 200_000;
const MAX_VALUE = 10_000;

const LEADING = words('href src action poster formaction cite');
const innerTextOf = getter(HTMLElement.prototype, 'innerText');

/** `{ data, truncated }`, or `{ bad }`: which selector is none. */
function extract(target, fields) {
  const bad = badSelector(fields, '');
  if (bad) return { bad };
  const root = target === null ? document : locate(target);
  const extractor = new Extractor();
  return { url: location.href, data: extractor.fields(fields, root), truncated: extractor.truncated };
}

/** The path of the first selector that is none. */
function badSelector(fields, path) {
  for (const [name, { selector, fields: inner }] of Object.entries(fields)) {
    const at = path ? `${path}.${name}` : name;
    if (selector !== null) {
      try {
        queryAll(Document.prototype.createDocumentFragment.call(document), selector);
      } catch {
        return { path: at, selector };
      }
    }
    const deeper = inner && badSelector(inner, at);
    if (deeper) return deeper;
  }
  return null;
}

class Extractor {
  truncated = false;
  #values = 0;
  #characters = 0;

  fields(fields, scope) {
    return Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, this.#field(field, scope)]));
  }

  #field(field, scope) {
    const found = field.selector === null ? [scope] : openRoots(scope).flatMap((root) => [...queryAll(root, field.selector)]);
    if (!field.all) return found.length ? this.#value(field, found[0]) : null;
    const items = [];
    for (const el of found) {
      if (items.length === MAX_ITEMS || this.#isFull()) {
        this.truncated = true;
        break;
      }
      items.push(this.#value(field, el));
    }
    return items;
  }

  #isFull() {
    return this.#values >= MAX_VALUES || this.#characters >= MAX_CHARACTERS;
  }

  #value({ attribute, fields }, el) {
    if (fields) return this.fields(fields, el);
    const value = nodeType(el) === 9 ? squash(bodyText(el)) : attribute === null ? wordsOf(el) : attributeOf(el, attribute);
    if (value === null) return null;
    this.#values += 1;
    this.#characters += value.length;
    const cut = value.length > MAX_VALUE || this.#isFull();
    if (cut) this.truncated = true;
    return cutTo(value, MAX_VALUE);
  }
}

const bodyText = (doc) => (bodyOf(doc) ? wordsOf(bodyOf(doc)) : '');

/** The text of an element as it is shown. */
const wordsOf = (el) => squash(el instanceof HTMLElement ? innerTextOf(el) : allText(el));

/** An attribute as a program wants it: addresses whole, the value of a field as it is now. */
function attributeOf(el, name) {
  if (name === 'value' && /^(?:input|textarea|select)$/.test(tagOf(el))) return valueOf(el);
  const value = attr(el, name);
  return value !== null && LEADING.has(name) ? absolute(value) ?? value : value;
}
