// interactive.js: of a snapshot's tree, what can be acted on, under the landmarks and headings that place it.

const ACTABLE = words(`button link textbox searchbox combobox listbox option checkbox radio switch slider spinbutton scrollbar
  menuitem menuitemcheckbox menuitemradio tab treeitem iframe`);
const PLACES = words(`banner navigation main complementary contentinfo search form region dialog alertdialog heading`);
/** One of several of a kind: what is in them tells two buttons of one name apart. */
const UNITS = words('row listitem article');
const MAX_UNIT_NAME = 80;
const MAX_NAME = 300;

const takesText = (el) => ['', 'true', 'plaintext-only'].includes(attr(el, 'contenteditable'));
const hasTabStop = (el) => Number(attr(el, 'tabindex') ?? -1) >= 0;

function isActable(node) {
  if (ACTABLE.has(node.role)) return true;
  return Boolean(node.box) && tagOf(node.element) !== 'body' && (node.pointer || takesText(node.element) || hasTabStop(node.element));
}

/** The tree of what can be acted on, as the children of a root that is not shown. */
function onlyInteractive(tree) {
  const counts = new Map();
  countNames(tree, counts);
  return { role: 'fragment', children: picked(tree, counts).nodes };
}

/** What an agent would tell it by. */
const called = (node) => `${node.role} ${node.name || node.named?.text || textIn(node, MAX_UNIT_NAME)}`;

function countNames(node, counts) {
  if (node.element && isActable(node)) counts.set(called(node), (counts.get(called(node)) ?? 0) + 1);
  for (const child of node.children) if (typeof child !== 'string') countNames(child, counts);
}

/** What is left of a node, and whether something in it needs more than its name to be told apart. */
function picked(node, counts) {
  const nodes = [];
  let alike = false;
  for (const child of node.children) {
    if (typeof child === 'string') continue;
    const found = picked(child, counts);
    nodes.push(...found.nodes);
    alike ||= found.alike;
  }
  if (node.role === 'fragment') return { nodes, alike };
  if (isActable(node)) return { nodes: [actable(node, nodes)], alike: alike || counts.get(called(node)) > 1 };
  if (node.role === 'heading') return { nodes: [withChildren(node, nodes, nodes.length ? '' : textIn(node, MAX_NAME))], alike };
  if (nodes.length && PLACES.has(node.role)) return { nodes: [withChildren(node, nodes, '')], alike };
  // The innermost of them says enough.
  if (alike && UNITS.has(node.role)) return { nodes: [withChildren(node, nodes, textIn(node, MAX_UNIT_NAME))], alike: false };
  return { nodes, alike };
}

/** A node that says where others are; by another name if it has none. That it can be clicked goes without saying of what is left. */
const withChildren = (node, children, name) => ({ ...node, name: node.name || name, children, props: [], pointer: false });

/** With its value or its words, which may have been those of elements that are not shown. */
function actable(node, nodes) {
  const texts = node.children.filter((child) => typeof child === 'string');
  const name = nodes.length || texts.length ? node.named?.text ?? '' : textIn(node, MAX_NAME);
  const shown = withChildren(node, nodes, name);
  shown.children = [...texts.filter((text) => text !== shown.name), ...nodes];
  shown.props = node.props.filter(([key]) => key !== '/url');
  return shown;
}

/** The words in a node, but for those of what can be acted on. */
function textIn(node, most) {
  let text = '';
  const gather = (at) => {
    for (const child of at.children) {
      if (text.length > most) return;
      if (typeof child === 'string') text += ` ${child}`;
      else if (!isActable(child)) {
        if (child.name) text += ` ${child.name}`;
        gather(child);
      }
    }
  };
  gather(node);
  const squashed = squashText(text);
  return squashed.length > most ? `${squashed.slice(0, most).toWellFormed().trimEnd()}…` : squashed;
}
