// verify.js: whether a page shows what a test expects. Nothing is waited for and nothing is changed.

/** The first visible element of a role whose name contains this; null when there is none. */
const verifyElement = (role, name) => verified(withCaches(() => byRole(role, squash(name), false).find(isVisible)));

/** The innermost visible element that contains the text; null when there is none. */
const verifyText = (text) => verified(withCaches(() => withText(squash(text), false).find(isVisible)));

const verified = (el) => (el ? { locator: locator(el) } : null);

/** The first of these that no item of a list contains, if there is one. */
function verifyList(target, items) {
  const list = locate(target);
  for (const item of items) {
    const found = withCaches(() => withText(squash(item), false).find((el) => composedContains(list, el) && isVisible(el)));
    if (!found) return { missing: item };
  }
  return { missing: null };
}

/** What a field has: a text, or whether it is checked. */
function verifyValue(target) {
  const found = locate(target);
  const el = fieldOf(found);
  const role = roleOf(el);
  const value = CHECKABLE_ROLES.has(role) ? String(checkedState(el, role) === true) : valueOf(el);
  return { value, locator: locatorFor(target, found) };
}

function valueOf(el) {
  const tag = tagOf(el);
  if (tag === 'input' || tag === 'textarea' || tag === 'select') return el.value;
  return attr(el, 'aria-valuetext') ?? attr(el, 'aria-valuenow') ?? textOf(el);
}
