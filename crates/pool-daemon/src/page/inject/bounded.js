// bounded.js: runs an agent's code in the page's own world and answers with a text of bounded size.
//
// Alone in an expression: nothing of it is visible to the code. The page may have its own idea of every function used
// here; it then misleads itself, and what leaves is still bounded, because the length of a string is not the page's to say.
async (most, maxTitle, run, given = []) => {
  const tooLarge = Symbol('too large');

  // Counted while it is made: what is too large is given up long before it is whole.
  const toText = (value) => {
    let left = most;
    const around = [];
    const seen = function (key, item) {
      left -= 1 + key.length + (typeof item === 'string' ? item.length : 0);
      if (left < 0) throw tooLarge;
      if (typeof item === 'bigint') return `${item}n`;
      if (typeof item !== 'object' || item === null) return item;
      while (around.length && around.at(-1) !== this) around.pop();
      if (around.includes(item)) return '[Circular]';
      around.push(item);
      return item;
    };
    try {
      return JSON.stringify(value, seen, 2);
    } catch (error) {
      // An array so long that its text could be no string.
      throw error instanceof RangeError && error.message === 'Invalid string length' ? tooLarge : error;
    }
  };

  const isError = (thrown) => thrown instanceof Error || Object.prototype.toString.call(thrown) === '[object Error]' || thrown instanceof DOMException;

  const say = (thrown) => {
    try {
      const text = typeof thrown !== 'object' || thrown === null || isError(thrown) ? String(thrown) : toText(thrown);
      return `${text}`.slice(0, 2000).toWellFormed();
    } catch {
      return 'an object that cannot be shown';
    }
  };

  const titleNow = () => {
    try {
      const title = `${document.title}`.slice(0, maxTitle).toWellFormed();
      return typeof title === 'string' && title.length <= maxTitle ? title : '';
    } catch {
      return '';
    }
  };

  try {
    const made = run();
    const value = await (typeof made === 'function' ? made(...given) : made);
    const text = toText(value);
    const whole = text === undefined ? 'undefined' : `${text}`.toWellFormed();
    const fits = typeof whole === 'string' && whole.length <= most;
    return fits ? { text: whole, title: titleNow() } : { tooLarge: true };
  } catch (thrown) {
    return thrown === tooLarge ? { tooLarge: true } : { threw: `${say(thrown)}`.slice(0, 2000) };
  }
}
