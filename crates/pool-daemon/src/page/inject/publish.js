// publish.js: what the daemon calls.

globalThis.__browserfleet = Object.freeze({
  snapshot, element, frameOffset, locate, locator, rect,
  prepareClick, prepareType, takesKeys, selectOptions, checkable, watchDrag, dragStarted, waitForText, giveFiles, dropOn,
  highlight, hideHighlight, showLabels, hideLabels, showCard, verifyElement, verifyText, verifyList, verifyValue,
  read, extract,
  settle, arrived, nextFrame,
});
