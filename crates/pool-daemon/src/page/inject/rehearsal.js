// rehearsal.js: evaluated once in the blank page of a new browser, in our world. It is not part of what documents get.

(async () => {
  const { body } = document;
  body.innerHTML = `<header><h1>Heading</h1><nav><a href="#">Link</a></nav></header>
    <main><p>Some <b>words</b>, <i>others</i> and <code>more</code>.</p>
    <form><label>Name <input name=name></label><label><input type=checkbox> Choice</label>
    <select><option>One<option>Two</select><textarea></textarea><button>Button</button></form>
    <ul><li>Item</ul><table><tr><th>Head<tr><td>Cell</table><output>0</output></main>`;
  // V8 keeps what it has compiled for the documents that follow in this process, and compiles better what is used often.
  for (let i = 0; i < 5; i++) __browserfleet.snapshot();
  // The first frame with a text in it loads fonts and starts to paint.
  await __browserfleet.nextFrame({ maxMs: 100 });
  body.replaceChildren();
})()
