// forms.js: fields that are not typed into, waiting for text, and whether the page has started a drag.

/** A label stands for its field. */
const fieldOf = (el) => (tagOf(el) === 'label' && el.control ? el.control : el);

const setSelected = late(() => setter(HTMLOptionElement.prototype, 'selected'));

/** Waits until a drop-down has these options (values or texts) and selects them and no others. */
async function selectOptions(target, { deadlineMs, values = [] } = {}) {
  return untilReady(target, deadlineMs, (found) => {
    const el = fieldOf(found);
    if (tagOf(el) !== 'select') throw new Error(`${describe(el)} is not a <select> element; click it and then the option.`);
    if (!isVisible(el)) return { wait: 'is not visible' };
    const disabled = isDisabled(el);
    if (disabled) return { wait: disabled };
    if (values.length > 1 && !el.multiple) throw new Error(`${describe(el)} takes one option, not ${values.length}.`);
    const chosen = [];
    for (const wanted of values) {
      const option = [...el.options].find((one) => one.value === wanted || squash(one.label) === squash(wanted) || squash(one.text) === squash(wanted));
      if (!option) return { wait: `has no option ${quoted(wanted)}; it has ${optionsOf(el)}` };
      if (option.disabled || option.parentElement?.disabled) return { wait: `has the option ${quoted(wanted)}, which is disabled` };
      chosen.push(option);
    }
    scrollTo(el, 'nearest');
    HTMLElement.prototype.focus.call(el, { preventScroll: true });
    choose(el, chosen);
    return { locator: locatorFor(target, found) };
  });
}

function choose(el, chosen) {
  if (el.multiple) for (const option of el.options) setSelected(option, chosen.includes(option));
  else if (chosen.length) setSelected(chosen[0], true);
  else el.selectedIndex = -1;
  dispatch(el, new Event('input', { bubbles: true, composed: true }));
  dispatch(el, new Event('change', { bubbles: true }));
}

const MAX_OPTIONS = 20;

function optionsOf(el) {
  const names = [...el.options].slice(0, MAX_OPTIONS).map((option) => quoted(squash(option.label) || option.value));
  const more = el.options.length - names.length;
  return (names.join(', ') || 'none') + (more > 0 ? ` and ${more} more` : '');
}

const CHECKABLE_ROLES = words('checkbox menuitemcheckbox menuitemradio radio switch');

/** Waits until the target can be checked; says whether it is. */
async function checkable(target, { deadlineMs } = {}) {
  return untilReady(target, deadlineMs, (found) => {
    const el = fieldOf(found);
    const role = roleOf(el);
    if (!CHECKABLE_ROLES.has(role)) throw new Error(`${describe(el)} is not a checkbox, radio button or switch; use browser_click.`);
    return { checked: checkedState(el, role), radio: role === 'radio' || role === 'menuitemradio', locator: locatorFor(target, found) };
  });
}

/** Waits until an element with this text is shown, or none is; says whether it came so. */
async function waitForText(text, { shown, deadlineMs } = {}) {
  const wanted = squash(text);
  const end = now() + Math.max(0, deadlineMs ?? 5000);
  for (;;) {
    const found = withCaches(() => withText(wanted, false).some(isVisible));
    if (found === shown) return true;
    if (now() >= end) return false;
    await sleep(Math.min(50, Math.max(1, end - now())));
  }
}

let dragged = null;
const noteDrag = (event) => (dragged = event);

/** From now on, whether the page starts a drag and drop is noted. */
function watchDrag() {
  dragged = null;
  addEventListener('dragstart', noteDrag, { capture: true });
  return null;
}

/** Whether it has started one and has not called it off. */
function dragStarted() {
  removeEventListener('dragstart', noteDrag, { capture: true });
  const started = Boolean(dragged) && !dragged.defaultPrevented;
  dragged = null;
  return started;
}
