// expressions.js: targets written as test code, the way replies name elements: getByRole('button', { name: 'Save' }).first().

const EXPRESSION = /^(?:page\.)?(?:getBy[A-Z]\w*|locator)\(/;
const STRING = /^'((?:[^'\\]|\\.)*)'|^"((?:[^"\\]|\\.)*)"|^`((?:[^`\\]|\\.)*)`/s;
const PATTERN = /^\/((?:[^/\\[]|\\.|\[(?:[^\]\\]|\\.)*\])+)\/([a-z]*)/;
const ESCAPES = { n: '\n', r: '\r', t: '\t', b: '\b', f: '\f', v: '\v', 0: '\0' };
const MAX_STEPS = 20;

/** The elements of an expression; each step looks inside what the one before has found. */
function byExpression(text) {
  const reader = { rest: text.replace(/^page\./, ''), text };
  let found = null;
  for (let steps = 0; reader.rest; steps++) {
    if (steps && !take(reader, /^\.\s*/)) throw notUnderstood(reader);
    if (steps === MAX_STEPS) throw new Error(`The target has more than ${MAX_STEPS} steps.`);
    const name = take(reader, /^[A-Za-z]+(?=\()/)?.[0];
    const step = Object.hasOwn(STEPS, name ?? '') ? STEPS[name] : null;
    if (!step) throw notUnderstood(reader, name);
    const args = readArguments(reader);
    const scope = found;
    found = withCaches(() => step(args, scope, text));
    // Positions and filters work on what is there; everything else is looked for inside of it.
    if (scope && !NARROWING.has(name)) found = found.filter((el) => scope.some((outer) => outer !== el && composedContains(outer, el)));
    reader.rest = reader.rest.trimStart();
  }
  return found;
}

const NARROWING = words('first last nth filter');

const STEPS = {
  getByRole: ([role, options = {}]) => byRole(String(role), null, true).filter((el) => hasStates(el, String(role), options) && (options.name === undefined || fits(nameOf(el, String(role)).text, options.name, options.exact))),
  getByText: ([text, { exact } = {}]) => (text instanceof RegExp ? smallest(queryDeep('body *', 'body *').filter((el) => text.test(textOf(el)))) : withText(squash(text), Boolean(exact))),
  getByLabel: ([text, { exact } = {}]) => queryDeep(LABELLED, LABELLED).filter((el) => (hasAriaName(el) || labelsOf(el).length) && fits(nameOf(el).text, text, exact)),
  getByPlaceholder: ([text, { exact } = {}]) => byAttribute('placeholder', text, exact),
  getByAltText: ([text, { exact } = {}]) => byAttribute('alt', text, exact),
  getByTitle: ([text, { exact } = {}]) => byAttribute('title', text, exact),
  getByTestId: ([id]) => byAttribute('data-testid', id, true),
  locator: ([selector]) => select(String(selector)),
  first: (_, found) => found.slice(0, 1),
  last: (_, found) => found.slice(-1),
  nth: ([index], found) => [found.at(index)].filter(Boolean),
  filter: ([{ hasText } = {}], found) => found.filter((el) => hasText === undefined || fits(textOf(el), hasText)),
};

const LABELLED = 'input,select,textarea,button,meter,output,progress,[role],[aria-label],[aria-labelledby],[contenteditable]';

const byAttribute = (name, text, exact) => queryDeep(`[${name}]`, name).filter((el) => fits(attr(el, name), text, exact));

/** Of elements within each other only the innermost ones. */
const smallest = (found) => found.filter((el) => !found.some((other) => other !== el && composedContains(el, other)));

function fits(actual, wanted, exact) {
  if (wanted instanceof RegExp) return wanted.test(actual);
  const [a, b] = [squash(actual ?? ''), squash(String(wanted))];
  return exact ? a === b : a.toLowerCase().includes(b.toLowerCase());
}

function hasStates(el, role, { checked, pressed, selected, expanded, disabled, level }) {
  if (checked !== undefined && checkedState(el, role) !== checked) return false;
  if (pressed !== undefined && Boolean(pressedState(el, role)) !== pressed) return false;
  if (selected !== undefined && Boolean(selectedState(el, role)) !== selected) return false;
  if (expanded !== undefined && expandedState(el, role) !== expanded) return false;
  if (disabled !== undefined && Boolean(isDisabled(el)) !== disabled) return false;
  return level === undefined || levelOf(el, role) === level;
}

// --- reading ----------------------------------------------------------------------------------------------------------------

function take(reader, pattern) {
  const match = pattern.exec(reader.rest);
  if (match) reader.rest = reader.rest.slice(match[0].length);
  return match;
}

function readArguments(reader) {
  if (!take(reader, /^\(\s*/)) throw notUnderstood(reader);
  const args = [];
  while (!take(reader, /^\s*\)/)) {
    if (args.length && !take(reader, /^\s*,\s*/)) throw notUnderstood(reader);
    args.push(readValue(reader));
  }
  return args;
}

function readValue(reader) {
  const string = take(reader, STRING);
  if (string) return unescaped(string[1] ?? string[2] ?? string[3]);
  const pattern = take(reader, PATTERN);
  if (pattern) return new RegExp(pattern[1], pattern[2].replace(/[gy]/g, ''));
  const number = take(reader, /^-?\d+/);
  if (number) return Number(number[0]);
  const word = take(reader, /^(?:true|false)\b/);
  if (word) return word[0] === 'true';
  if (!take(reader, /^\{\s*/)) throw notUnderstood(reader);
  const options = {};
  while (!take(reader, /^\s*\}/)) {
    if (Object.keys(options).length) take(reader, /^\s*,\s*/);
    const key = take(reader, /^([A-Za-z]+)\s*:\s*/);
    if (!key) throw notUnderstood(reader);
    options[key[1]] = readValue(reader);
  }
  return options;
}

const unescaped = (text) =>
  text.replace(/\\(?:u\{([0-9a-f]+)\}|u([0-9a-f]{4})|x([0-9a-f]{2})|(.))/gis, (_, point, unit, byte, other) =>
    (other === undefined ? String.fromCodePoint(Math.min(parseInt(point ?? unit ?? byte, 16), 0x10ffff)) : ESCAPES[other] ?? other));

const notUnderstood = ({ text, rest }, name) =>
  new Error(name ? `${quoted(name)} in ${quoted(text)} is not supported. Give a ref from the page snapshot or a selector.`
    : `${quoted(text)} is not understood at ${quoted(rest.slice(0, 40))}. Write getByRole('button', { name: 'Save' }) or give a ref from the page snapshot.`);
