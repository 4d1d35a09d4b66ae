// card.js: a card over the whole page for a moment, in a video. It takes no clicks, and snapshots do not show it.

const CARD_LOOK = `all: initial !important; position: fixed !important; inset: 0 !important; z-index: 2147483647 !important;
  pointer-events: none !important; display: flex !important; flex-direction: column; align-items: center; justify-content: center;
  text-align: center; padding: 5vw; box-sizing: border-box; overflow: hidden; background: #000a; backdrop-filter: blur(8px); color: #fff`;

/** Shows a title and a description; resolves when they are gone again. */
async function showCard({ title, description, milliseconds }) {
  const host = document.createElement('div');
  host.setAttribute('aria-hidden', 'true');
  host.style.cssText = CARD_LOOK;
  const shadow = host.attachShadow({ mode: 'closed' });
  for (const [text, font] of [[title, '600 40px/1.2 sans-serif'], [description, '20px/1.4 sans-serif']]) {
    if (!text) continue;
    const line = document.createElement('div');
    line.textContent = text;
    line.style.cssText = `font: ${font}; margin: 8px; overflow-wrap: anywhere`;
    shadow.append(line);
  }
  document.documentElement.append(host);
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  host.remove();
}
