// files.js: files and data from outside of the page.

function fileList(files) {
  const transfer = new DataTransfer();
  for (const { name, mimeType, base64 } of files) {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: mimeType }));
  }
  return transfer;
}

/** Gives a file input these files, as if the user had chosen them. */
async function giveFiles(target, { deadlineMs, files } = {}) {
  return untilReady(target, deadlineMs, (found) => {
    const el = fieldOf(found);
    if (tagOf(el) !== 'input' || el.type !== 'file') throw new Error(`${describe(el)} is not a file input.`);
    const disabled = isDisabled(el);
    if (disabled) return { wait: disabled };
    takeFiles(el, files);
    return { locator: locatorFor(target, found) };
  });
}

function takeFiles(input, files) {
  if (files.length > 1 && !input.multiple) throw new Error('Non-multiple file input can only accept single file');
  input.files = fileList(files).files;
  dispatch(input, new Event('input', { bubbles: true, composed: true }));
  dispatch(input, new Event('change', { bubbles: true }));
}

/** Drops files and data onto an element, as if dragged from another program. */
async function dropOn(target, { deadlineMs, files = [], data = {} } = {}) {
  const point = await prepareClick(target, { deadlineMs });
  const el = locate(target);
  const transfer = fileList(files);
  for (const [type, value] of Object.entries(data)) transfer.setData(type, value);
  const { x, y, locator } = point;
  const send = (type) => {
    const event = new DragEvent(type, { bubbles: true, cancelable: true, composed: true, clientX: x, clientY: y, dataTransfer: transfer });
    dispatch(el, event);
    return event.defaultPrevented;
  };
  send('dragenter');
  if (!send('dragover')) {
    send('dragleave');
    throw new Error(`${describe(el)} did not accept the drop: its dragover handler did not call preventDefault().`);
  }
  send('drop');
  return { locator };
}
