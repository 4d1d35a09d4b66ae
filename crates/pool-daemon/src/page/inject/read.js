// read.js: a page as a reader has it: its main content as Markdown, and what its author says about it.
//
// Done in the page because only here it is known what is shown, what shadow roots hold and where links lead; and because what a
// hostile page costs while it is read is then its own browser's.

/** Elements that are looked at, and links that are listed. */
const MAX_READ_NODES = 100_000;
const MAX_LINKS = 200;
const MAX_LINK_TEXT = 200;
const MAX_FACT = 500;
const MAX_URL = 2000;
/** JSON-LD that is looked into, in characters. */
const MAX_LINKED_DATA = 100_000;

const titleOf = getter(Document.prototype, 'title');
const baseOf = getter(Node.prototype, 'baseURI');
const allText = getter(Node.prototype, 'textContent');

const UNREAD = words('script style noscript template head button input select textarea datalist canvas object embed audio video dialog');
const AROUND_ROLES = words('navigation banner contentinfo complementary search menu menubar toolbar');
const AROUND_TAGS = words('nav footer aside');
const WEIGHED = words('p pre blockquote td li dd figcaption');
const EMPHASIS = { strong: '**', b: '**', em: '*', i: '*', del: '~~', s: '~~' };

/** The page, or one element of it, in at most so many characters. */
function read(target, most) {
  return withCaches(() => {
    const root = target === null ? null : locate(target);
    const reader = new Reader(most);
    const body = bodyOf(document) ?? documentElementOf(document);
    const start = root ?? mainContent(body);
    let markdown = reader.read(start, root === null);
    // A page that is all menus is still a page.
    if (!markdown && root === null) markdown = reader.read(body, false);
    const links = [...reader.links].map(([url, text]) => ({ text, url }));
    return { url: cutTo(location.href, MAX_URL), facts: factsOf(start), markdown: markdown.toWellFormed(), truncated: reader.truncated, links, moreLinks: reader.moreLinks };
  });
}

const cutTo = (text, most) => (text.length > most ? text.slice(0, most).toWellFormed() : text.toWellFormed());

function absolute(url) {
  try {
    const found = new URL(url, baseOf(document)).href;
    return /^(?:https?|ftp|mailto|tel|blob|file):/.test(found) ? found : null;
  } catch {
    return null;
  }
}

// --- what is the content ------------------------------------------------------------------------------------------------------

/** The part of the page that is about something: an article, the main landmark, or what has most text that is no link. */
function mainContent(body) {
  const sizes = new Map();
  measure(body, sizes, 0);
  const whole = sizes.get(body)?.text ?? 0;
  const largest = (elements, least) => {
    const best = elements.reduce((best, el) => ((sizes.get(el)?.text ?? 0) > (sizes.get(best)?.text ?? 0) ? el : best), null);
    return best && (sizes.get(best)?.text ?? 0) >= whole * least ? best : null;
  };
  return largest([...queryAll(body, 'article, [role=article]')], 0.5) ?? largest([...queryAll(body, 'main, [role=main]')], 0.25) ?? densest(sizes, whole) ?? body;
}

/** Adds how much visible text there is in an element and how much of it is links, for each element in it. */
function measure(el, sizes, depth) {
  const size = { text: 0, links: 0 };
  if (depth > MAX_DEPTH || sizes.size > MAX_READ_NODES || isUnread(el)) return size;
  sizes.set(el, size);
  eachChild(el, (child) => {
    if (nodeType(child) === 3) size.text += squash(textData(child)).length;
    else if (isElement(child)) {
      const inner = measure(child, sizes, depth + 1);
      size.text += inner.text;
      size.links += inner.links;
    }
  });
  if (tagOf(el) === 'a') size.links = size.text;
  return size;
}

/** The element whose paragraphs weigh most, if they are a good part of the page. */
function densest(sizes, whole) {
  const scores = new Map();
  const add = (el, score) => el && scores.set(el, (scores.get(el) ?? 0) + score);
  for (const [el, { text, links }] of sizes) {
    if (!WEIGHED.has(tagOf(el)) || text < 25) continue;
    const parent = composedParent(el);
    add(parent, text - links);
    add(parent && composedParent(parent), (text - links) / 2);
  }
  let best = null;
  for (const [el, score] of scores) if (!best || score > scores.get(best)) best = el;
  return best && (sizes.get(best)?.text ?? 0) >= whole * 0.4 ? best : null;
}

const isUnread = (el) => UNREAD.has(tagOf(el)) || attr(el, 'aria-hidden') === 'true' || !isRendered(el, styleOf(el));

/** What stands around the content of a page: menus, headers, footers. */
function isAround(el) {
  const role = attr(el, 'role');
  if (role) return AROUND_ROLES.has(role);
  // The header of an article is a part of it.
  return AROUND_TAGS.has(tagOf(el)) || (tagOf(el) === 'header' && !closest(el, 'article, main, [role=main], section'));
}

// --- Markdown -----------------------------------------------------------------------------------------------------------------

class Reader {
  truncated = false;
  links = new Map();
  moreLinks = 0;
  #left;
  #nodes = 0;
  #most;
  #whole = true;
  #blocky = new Map();

  constructor(most) {
    this.#most = most;
  }

  /** `root` as Markdown; with `contentOnly` without what stands around the content. */
  read(root, contentOnly) {
    [this.#left, this.#nodes, this.#whole] = [this.#most, 0, !contentOnly];
    const blocks = [];
    this.#block(root, blocks, 0);
    const text = blocks.join('\n\n');
    if (text.length > this.#most) this.truncated = true;
    return text.slice(0, this.#most);
  }

  /** Counts what is looked at and written; false when there is no room for more. */
  #room(characters) {
    this.#left -= characters;
    this.#nodes += 1;
    if (this.#left < 0 || this.#nodes > MAX_READ_NODES) this.truncated = true;
    return !this.truncated;
  }

  #skips(el, depth) {
    return depth > MAX_DEPTH || !this.#room(0) || isUnread(el) || (!this.#whole && isAround(el));
  }

  /** Whether an element starts lines of its own, by its style or by what is in it. */
  #isBlock(el, depth = 0) {
    let known = this.#blocky.get(el);
    if (known === undefined) {
      const display = styleOf(el).display;
      known = !/^(?:inline|contents|none)/.test(display) && display !== 'ruby';
      if (!known && depth < MAX_DEPTH && tagOf(el) !== 'svg') eachChild(el, (child) => (known ||= isElement(child) && this.#isBlock(child, depth + 1)));
      this.#blocky.set(el, known);
    }
    return known;
  }

  /** Adds an element's blocks. */
  #block(el, out, depth) {
    if (this.#skips(el, depth)) return;
    const tag = tagOf(el);
    const heading = /^h([1-6])$/.exec(tag)?.[1] ?? (attr(el, 'role') === 'heading' ? attr(el, 'aria-level') ?? '2' : null);
    if (heading) return this.#push(out, this.#line(el, depth), (text) => `${'#'.repeat(Math.min(Number(heading) || 2, 6))} ${text}`);
    if (tag === 'pre') return this.#push(out, this.#code(el), (text) => text);
    if (tag === 'hr') return void out.push('---');
    if (tag === 'ul' || tag === 'ol' || tag === 'menu') return this.#list(el, out, depth);
    if (tag === 'table' && this.#table(el, out, depth)) return;
    if (tag === 'blockquote') return this.#push(out, this.#inner(el, depth), (text) => text.replace(/^/gm, '> '));
    if (tag === 'dt') return this.#push(out, this.#line(el, depth), (text) => `**${text}**`);
    if (tag === 'dd') return this.#push(out, this.#inner(el, depth), (text) => `: ${text.replace(/\n/g, '\n  ')}`);
    this.#blocks(el, out, depth);
  }

  /** Adds the blocks of what is in an element; text between them is a block, too. */
  #blocks(el, out, depth) {
    let run = '';
    const flush = () => {
      this.#push(out, tidy(run), (text) => text);
      run = '';
    };
    const hidden = hidesText(el, styleOf(el));
    eachChild(el, (child) => {
      if (isElement(child) && this.#isBlock(child)) {
        flush();
        this.#block(child, out, depth + 1);
      } else if (!hidden || isElement(child)) run += this.#inline(child, depth + 1);
    });
    flush();
  }

  #push(out, text, shaped) {
    if (text) out.push(shaped(text));
  }

  /** What is in an element, as one text of several blocks. */
  #inner(el, depth) {
    const blocks = [];
    this.#blocks(el, blocks, depth);
    return blocks.join('\n\n');
  }

  /** What is in an element, on one line. */
  #line(el, depth) {
    let text = '';
    eachChild(el, (child) => (text += this.#inline(child, depth + 1)));
    return tidy(text).replace(/\s*\n\s*/g, ' ');
  }

  #inline(node, depth) {
    if (nodeType(node) === 3) {
      const parent = composedParent(node);
      if (parent && hidesText(parent, styleOf(parent))) return '';
      const text = textData(node).replace(INVISIBLE, '').replace(SPACES, ' ');
      return this.#room(text.length) ? text : '';
    }
    if (!isElement(node) || this.#skips(node, depth)) return '';
    const tag = tagOf(node);
    if (tag === 'br') return '\n';
    if (tag === 'img') return this.#image(node);
    if (tag === 'svg') return squash(attr(node, 'aria-label') ?? '');
    if (tag === 'iframe') return this.#frame(node);
    let text = '';
    eachChild(node, (child) => (text += this.#inline(child, depth + 1)));
    if (this.#isBlock(node)) text = ` ${text} `;
    if (tag === 'a') return this.#link(node, text);
    if (tag === 'code' || tag === 'kbd' || tag === 'samp') return around(text, '`');
    return Object.hasOwn(EMPHASIS, tag) ? around(text, EMPHASIS[tag]) : text;
  }

  #link(el, text) {
    const url = attr(el, 'href') === null ? null : absolute(attr(el, 'href'));
    const label = squash(text.replace(/\n/g, ' ')) || squash(attr(el, 'aria-label') ?? '');
    if (!url || !label || !this.#room(url.length)) return text;
    const shown = cutTo(url, MAX_URL);
    if (this.links.has(shown) || this.links.size < MAX_LINKS) this.links.set(shown, this.links.get(shown) ?? cutTo(label, MAX_LINK_TEXT));
    else this.moreLinks += 1;
    return padded(text, `[${label}](${shown})`);
  }

  #image(el) {
    const alt = squash(attr(el, 'alt') ?? '');
    const url = absolute(attr(el, 'src') ?? '');
    if (!alt || !this.#room(alt.length)) return '';
    return url ? `![${alt}](${cutTo(url, MAX_URL)})` : `![${alt}]`;
  }

  #frame(el) {
    const url = absolute(attr(el, 'src') ?? '');
    return url && this.#room(url.length) ? ` [frame: ${cutTo(url, MAX_URL)}] ` : '';
  }

  #code(el) {
    const text = allText(el).replace(/^\n|\n\s*$/g, '').slice(0, Math.max(this.#left, 0));
    if (!text.trim() || !this.#room(text.length)) return '';
    const ticks = '`'.repeat(Math.max(3, ...[...text.matchAll(/`+/g)].map(([run]) => run.length + 1)));
    const named = [el, ...queryAll(el, 'code')].map((one) => /\blang(?:uage)?-([\w+#-]{1,30})/.exec(attr(one, 'class') ?? '')?.[1]);
    return `${ticks}${named.find(Boolean) ?? ''}\n${text}\n${ticks}`;
  }

  #list(el, out, depth) {
    const items = [];
    const numbered = tagOf(el) === 'ol';
    let number = Number.parseInt(attr(el, 'start') ?? '1', 10) || 1;
    eachChild(el, (child) => {
      if (!isElement(child) || this.#skips(child, depth)) return;
      const blocks = [];
      this.#blocks(child, blocks, depth + 1);
      if (!blocks.length) return;
      const mark = numbered ? `${number++}. ` : '- ';
      // A list in an item stands close to it.
      const text = blocks.reduce((text, block) => `${text}${/^(?:- |\d+\. )/.test(block) ? '\n' : '\n\n'}${block}`);
      items.push(mark + text.replace(/\n(?!\n)/g, `\n${' '.repeat(mark.length)}`));
    });
    if (items.length) out.push(items.join('\n'));
  }

  /** A table of data as Markdown has it; false when it only arranges things. */
  #table(el, out, depth) {
    if (/^(?:presentation|none)$/.test(attr(el, 'role') ?? '') || queryAll(el, 'table').length) return false;
    const rows = [...queryAll(el, 'tr')].filter((row) => !this.#skips(row, depth));
    const cells = rows.map((row) => [...cellsOf(row)].map((cell) => this.#line(cell, depth + 1).replace(/\|/g, '\\|')));
    const width = Math.max(0, ...cells.map((row) => row.length));
    if (width < 2) return false;
    const filled = cells.filter((row) => row.some(Boolean)).map((row) => `| ${[...row, ...Array(width - row.length).fill('')].join(' | ')} |`);
    if (!filled.length) return true;
    const caption = queryAll(el, 'caption')[0];
    if (caption) this.#push(out, this.#line(caption, depth + 1), (text) => `**${text}**`);
    const headed = rows.length > 0 && [...cellsOf(rows[0])].some((cell) => tagOf(cell) === 'th');
    const rule = `|${' --- |'.repeat(width)}`;
    if (!headed) filled.unshift(`|${'  |'.repeat(width)}`);
    out.push([filled[0], rule, ...filled.slice(1)].join('\n'));
    return true;
  }
}

const cellsOf = (row) => queryAll(row, ':scope > td, :scope > th');

/** Lines trimmed, and no more than one blank between words. */
const tidy = (text) => text.split('\n').map((line) => line.replace(/ {2,}/g, ' ').trim()).join('\n').replace(/\n{2,}/g, '\n').trim();

/** `shaped` with the blanks that were around `text`. */
const padded = (text, shaped) => `${/^\s/.test(text) ? ' ' : ''}${shaped}${/\s$/.test(text) ? ' ' : ''}`;

const around = (text, mark) => (text.trim() ? padded(text, `${mark}${text.trim()}${mark}`) : text);

// --- what the author says -----------------------------------------------------------------------------------------------------

function factsOf(root) {
  const head = (selector, name = 'content') => {
    for (const el of queryAll(document, selector)) {
      const value = squash((name === 'text' ? allText(el) : attr(el, name)) ?? '');
      if (value) return cutTo(value, MAX_FACT);
    }
    return null;
  };
  const linked = linkedData();
  const canonical = head('link[rel~=canonical]', 'href');
  return {
    title: head('meta[property="og:title"]') ?? (cutTo(squash(titleOf(document)), MAX_FACT) || null),
    byline: head('meta[name=author], meta[property="article:author"]') ?? linked.author ?? head('[rel~=author], [itemprop=author], .byline', 'text'),
    description: head('meta[name=description], meta[property="og:description"]'),
    canonical_url: canonical && absolute(canonical),
    language: cutTo(attr(documentElementOf(document), 'lang') ?? '', 40) || null,
    published: head('meta[property="article:published_time"], meta[itemprop=datePublished], meta[name=date]') ?? linked.published ?? publishedIn(root),
    site: head('meta[property="og:site_name"]'),
  };
}

function publishedIn(root) {
  const time = queryAll(root, 'time[datetime]')[0];
  return time ? cutTo(attr(time, 'datetime'), 100) : null;
}

/** Author and date as search engines are told them. */
function linkedData() {
  for (const script of queryAll(document, 'script[type="application/ld+json"]')) {
    const text = allText(script);
    if (text.length > MAX_LINKED_DATA) continue;
    try {
      const data = JSON.parse(text);
      for (const item of [data, data?.['@graph'] ?? []].flat(2)) {
        if (typeof item?.datePublished !== 'string') continue;
        const author = [item.author].flat()[0];
        const name = typeof author === 'string' ? author : author?.name;
        return { author: typeof name === 'string' ? cutTo(squash(name), MAX_FACT) : null, published: cutTo(item.datePublished, 100) };
      }
    } catch {
      // Not JSON: nothing is said.
    }
  }
  return {};
}
