//! What a reply says was acted upon is what was acted upon: its locator, read by somebody else, leads to the same element.

use anyhow::Context as _;
use browserfleet_tests::{
    daemon::{Answer, Daemon, Lease},
    pages::Pages,
};
use serde_json::json;

type Outcome = anyhow::Result<()>;

/// Reads the locators that occur below as a Playwright user would, and answers how many elements there are and the first.
const READER: &str = r"
window.read = locator => {
  const part = /^(getByRole|getByText|getByTestId|locator)\('((?:[^'\\]|\\.)*)'(?:, \{ (?:name: '((?:[^'\\]|\\.)*)')?(?:, )?(exact: true)? ?\})?\)/;
  const roles = { button: 'button', listitem: 'li', link: 'a', textbox: 'input', paragraph: 'p' };
  const words = el => (el.getAttribute('aria-label') || el.textContent).replace(/\s+/g, ' ').trim();
  const fits = (el, text, exact) => exact ? words(el) === text : words(el).toLowerCase().includes(text.toLowerCase());
  let found = [document], rest = locator;
  while (rest) {
    const nth = /^\.(?:first\(\)|nth\((-?\d+)\))/.exec(rest);
    if (nth) {
      found = [found.at(nth[1] === undefined ? 0 : Number(nth[1]))].filter(Boolean);
      rest = rest.slice(nth[0].length);
      continue;
    }
    const read = part.exec(rest.replace(/^\./, ''));
    if (!read) throw new Error('unread: ' + rest);
    const [all, kind, what, name, exact] = read;
    const css = kind === 'locator' ? what : kind === 'getByRole' ? roles[what] : kind === 'getByTestId' ? `[data-testid='${what}']` : '*';
    if (!css) throw new Error('no such role here: ' + what);
    let inside = found.flatMap(el => [...el.querySelectorAll(css)]);
    if (kind === 'getByRole' && name !== undefined) inside = inside.filter(el => fits(el, name, exact));
    if (kind === 'getByText') inside = inside.filter(el => fits(el, what, exact) && ![...el.children].some(child => fits(child, what, exact)));
    found = inside;
    rest = rest.slice(rest.startsWith('.') ? all.length + 1 : all.length);
  }
  return found;
}";

/// A page of so many rows that nobody looks at all of them, each with elements that differ in what names them.
const LONG: &str = "() => { document.body.innerHTML = '<ul>' + Array.from({ length: 4000 }, (_, n) =>
  `<li><button>Same</button><button>Row ${n}</button><button aria-label='Same ${n % 7}'></button><p>words</p><p>words ${n}</p><input></li>`
  ).join('') + '</ul>';
  for (const el of document.body.querySelectorAll('button,p,input')) el.onclick = () => { window.clicked = el }; }";

/// What was clicked, in the words of the reply.
fn locator(answer: &Answer) -> anyhow::Result<String> {
    let (_, code) = answer.text.split_once("await page.").with_context(|| answer.text.clone())?;
    let (locator, _) = code.rsplit_once(".click(").with_context(|| answer.text.clone())?;
    Ok(locator.to_owned())
}

/// Clicks what a ref names, and has its locator read: there is one such element, and it is the one that was clicked.
async fn leads_back(lease: &Lease, target: &str) -> anyhow::Result<String> {
    let locator = locator(&lease.ok("browser_click", json!({ "target": target })).await?)?;
    let read = format!(
        "() => {{ {READER}; const found = read({}); const row = [...document.querySelectorAll('li')].indexOf(clicked.parentNode); \
         return found.length === 1 && found[0] === clicked ? 'the same' : `${{found.length}}: ${{found[0]?.outerHTML}}; clicked ${{clicked.outerHTML}} in row ${{row}}` }}",
        json!(locator)
    );
    let answer = lease.ok("browser_evaluate", json!({ "function": read })).await?;
    anyhow::ensure!(answer.text.contains("\"the same\""), "{target}: {locator} leads to {}", answer.text);
    Ok(locator)
}

/// A page far longer than what is shown of it.
async fn long_page() -> anyhow::Result<(Daemon, Pages, Lease)> {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("long").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    lease.ok("browser_evaluate", json!({ "function": LONG })).await?;
    Ok((daemon, pages, lease))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refs_and_locators_lead_to_the_same_element_however_far_down() -> Outcome {
    let (daemon, _pages, lease) = long_page().await?;
    let (mut wrong, mut looked_at) = (Vec::new(), 0);
    for row in ["first-child", "nth-child(1800)", "last-child"] {
        let shown = lease.ok("browser_snapshot", json!({ "target": format!("li:{row}") })).await?;
        for line in shown.text.lines().filter(|line| !line.contains("listitem") && line.contains("[ref=")) {
            looked_at += 1;
            let (_, target) = line.split_once("[ref=").context("a ref")?;
            let (target, _) = target.split_once(']').context("the end of a ref")?;
            if let Err(error) = leads_back(&lease, target).await {
                wrong.push(format!("{row}: {line}: {error}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(looked_at, 3 * 6);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_counted_from_both_ends() -> Outcome {
    let (daemon, _pages, lease) = long_page().await?;
    for (target, element) in [
        ("button >> nth=-1", "[...document.querySelectorAll('button')].at(-1)"),
        ("button >> nth=-4000", "[...document.querySelectorAll('button')].at(-4000)"),
        ("button >> nth=11999", "[...document.querySelectorAll('button')].at(-1)"),
        ("text=words >> nth=-1", "[...document.querySelectorAll('p')].at(-1)"),
        ("text=\"words\" >> nth=-1", "[...document.querySelectorAll('p')].at(-2)"),
    ] {
        let said = locator(&lease.ok("browser_click", json!({ "target": target })).await?)?;
        assert_eq!(said, format!("locator('{target}')"));
        let same = lease.ok("browser_evaluate", json!({ "function": format!("() => clicked === {element}") })).await?;
        assert!(same.text.contains("true"), "{target}: {}", same.text);
    }
    let beyond = lease.call("browser_click", json!({ "target": "button >> nth=-12001" })).await?;
    assert!(beyond.error.is_some_and(|error| error.message.contains("does not match any")));
    daemon.end().await
}
