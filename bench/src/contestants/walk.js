// The least a snapshot can be: one walk with a style, a box and a line of text for each visible element. No accessible
// names, no roles from markup, no shadow trees, nothing simplified.
(() => {
  const lines = [];
  let refs = 0;
  const walk = (element, indent) => {
    const style = getComputedStyle(element);
    if (style.display === 'none' || style.visibility !== 'visible') return;
    const box = element.getBoundingClientRect();
    let text = '';
    for (const node of element.childNodes) if (node.nodeType === 3) text += node.data;
    const name = element.getAttribute('aria-label') || text.replace(/\s+/g, ' ').trim();
    let line = `${indent}- ${element.getAttribute('role') || element.localName}`;
    if (name) line += ` ${JSON.stringify(name)}`;
    if (box.width && box.height) line += ` [ref=e${++refs}]`;
    if (style.cursor === 'pointer') line += ' [cursor=pointer]';
    lines.push(line);
    for (const child of element.children) walk(child, `${indent}  `);
  };
  walk(document.body, '');
  return lines.join('\n');
})()
