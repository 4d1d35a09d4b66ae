//! Acting on pages as a person does: keys, forms, dragging, hovering, the history; and waiting for what comes of it.

use std::time::Duration;

use browserfleet_tests::{
    daemon::{Answer, Daemon, Lease},
    pages::Pages,
};
use serde_json::{Value, json};

type Outcome = anyhow::Result<()>;

async fn begin(path: &str) -> anyhow::Result<(Daemon, Pages, Lease)> {
    begin_within(path, Duration::from_secs(15)).await
}

/// With so much time for an action: little, where it is used up.
async fn begin_within(path: &str, action: Duration) -> anyhow::Result<(Daemon, Pages, Lease)> {
    let (daemon, pages) = (Daemon::start(|config| config.times.action = action)?, Pages::start().await?);
    let lease = daemon.lease("acting").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at(path) })).await?;
    Ok((daemon, pages, lease))
}

async fn text_of(lease: &Lease, id: &str) -> anyhow::Result<String> {
    let function = format!("() => document.getElementById('{id}').textContent");
    let answer = lease.ok("browser_evaluate", json!({ "function": function })).await?;
    let json = answer.text.trim_start_matches("### Result\n").lines().next().unwrap_or_default().to_owned();
    Ok(serde_json::from_str(&json)?)
}

/// Fails with the code, and says these words.
async fn refused(lease: &Lease, tool: &str, arguments: Value, code: &str, words: &str) -> Outcome {
    let answer = lease.call(tool, arguments).await?;
    assert_eq!(answer.outcome(), code, "{tool}: {answer:?}");
    let message = answer.error.unwrap_or_default().message;
    assert!(message.contains(words), "{tool}: {message}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_those_of_a_keyboard() -> Outcome {
    let (daemon, _pages, lease) = begin("/keys").await?;
    lease.ok("browser_click", json!({ "target": "input" })).await?;
    let pressed = lease.ok("browser_press_key", json!({ "key": "a" })).await?;
    assert_eq!(pressed.text.trim(), "### Ran Playwright code\n```js\n// Press a\nawait page.keyboard.press('a');\n```");
    for key in ["B", "Shift+c", "?", "ü", "Control+a", "ArrowLeft"] {
        lease.ok("browser_press_key", json!({ "key": key })).await?;
    }
    lease.ok("browser_keydown", json!({ "key": "Shift" })).await?;
    lease.ok("browser_press_key", json!({ "key": "d" })).await?;
    lease.ok("browser_keyup", json!({ "key": "Shift" })).await?;
    lease.ok("browser_press_key", json!({ "key": "e" })).await?;
    let log = text_of(&lease, "log").await?;
    for expected in [
        "keydown a KeyA 65; keyup a KeyA 65; ",
        "keydown B KeyB 66 S; ",
        "keydown Shift ShiftLeft 16 S; keydown C KeyC 67 S; keyup C KeyC 67 S; keyup Shift ShiftLeft 16; ",
        "keydown ? Slash 191 S; ",
        "keydown Control ControlLeft 17 C; keydown a KeyA 65 C; ",
        "keydown D KeyD 68 S; ",
        "keydown e KeyE 69; ",
    ] {
        assert!(log.contains(expected), "{expected}\n{log}");
    }
    // Everything was selected, then the caret went to the front of it.
    let value =
        lease.ok("browser_evaluate", json!({ "function": "() => document.querySelector('input').value" })).await?;
    assert!(value.text.contains("\"DeaBC?ü\""), "{}", value.text);
    refused(&lease, "browser_press_key", json!({ "key": "ctrl+a" }), "invalid_argument", "Unknown key: \"ctrl\"")
        .await?;
    refused(&lease, "browser_keydown", json!({ "key": "Bogus" }), "invalid_argument", "Unknown key: \"Bogus\"").await?;
    let sent = lease.ok("browser_press_key", json!({ "key": "Enter" })).await?;
    assert!(sent.text.contains("/done?name=DeaBC") && sent.text.contains("### Snapshot"), "{}", sent.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_are_filled_field_by_field_or_at_once() -> Outcome {
    let (daemon, _pages, lease) = begin("/fields").await?;
    let page = lease.ok("browser_snapshot", json!({})).await?;
    let field = |words: &str| page.find_ref(words);
    let filled = lease
        .ok(
            "browser_fill_form",
            json!({ "fields": [
                { "name": "Name", "type": "textbox", "target": field("textbox \"Name\"")?, "value": "Bob" },
                { "name": "Agree", "type": "checkbox", "target": field("checkbox \"Agree\"")?, "value": "true" },
                { "name": "Second", "type": "radio", "target": field("radio \"Second\"")?, "value": "true" },
                { "name": "Colour", "type": "combobox", "target": field("combobox \"Colour\"")?, "value": "Green" },
                { "name": "Volume", "type": "slider", "target": field("slider \"Volume\"")?, "value": "55" },
            ] }),
        )
        .await?;
    let code = "await page.getByRole('textbox', { name: 'Name' }).fill('Bob');\n\
                await page.getByRole('checkbox', { name: 'Agree' }).check();\n\
                await page.getByRole('radio', { name: 'Second' }).check();\n\
                await page.getByLabel('Colour').selectOption('Green');\n\
                await page.getByRole('slider', { name: 'Volume' }).fill('55');";
    assert!(filled.text.contains(code), "{}", filled.text);
    let many = lease.ok("browser_select_option", json!({ "target": "#many", "values": ["1", "Three"] })).await?;
    assert!(many.text.contains("await page.locator('#many').selectOption(['1', 'Three']);"), "{}", many.text);
    lease.ok("browser_click", json!({ "target": "text=Show" })).await?;
    let shown: Value = serde_json::from_str(&text_of(&lease, "out").await?)?;
    let expected = json!({ "name": "Bob", "agree": true, "radio": "b", "colour": "g", "many": "1,3", "volume": "55",
        "events": "colour input;colour change;many input;many change;" });
    assert_eq!(shown, expected);

    let unchecked = lease.ok("browser_uncheck", json!({ "target": "#agree" })).await?;
    assert!(unchecked.text.contains("await page.locator('#agree').uncheck();"), "{}", unchecked.text);
    assert!(!unchecked.text.contains("checkbox \"Agree\" [checked]"), "{}", unchecked.text);
    let again = lease.ok("browser_uncheck", json!({ "target": "#agree" })).await?;
    assert!(!again.text.contains("checkbox \"Agree\" [checked]"), "what is so already stays so: {}", again.text);
    let night = lease.ok("browser_check", json!({ "target": "text=Night" })).await?;
    assert!(night.text.contains("switch \"Night\" [checked]"), "{}", night.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_that_cannot_be_filled_say_why() -> Outcome {
    let (daemon, _pages, lease) = begin_within("/fields", Duration::from_secs(3)).await?;
    let target = |target: &str| json!({ "target": target });
    let select = |target: &str, values: &[&str]| json!({ "target": target, "values": values });
    let act = "element_not_actionable";
    refused(&lease, "browser_check", target("#stubborn"), act, "did not change").await?;
    refused(&lease, "browser_check", target("#name"), act, "is not a checkbox").await?;
    lease.ok("browser_check", target("#a")).await?;
    refused(&lease, "browser_uncheck", target("#a"), act, "radio button cannot be unchecked").await?;
    refused(&lease, "browser_select_option", select("#colour", &["Purple"]), act, "it has \"Choose\", \"Red\"").await?;
    refused(&lease, "browser_select_option", select("#colour", &["Grey"]), act, "disabled").await?;
    refused(&lease, "browser_select_option", select("#colour", &["r", "g"]), act, "takes one option").await?;
    refused(&lease, "browser_select_option", select("#name", &["r"]), act, "not a <select>").await?;
    let half = json!({ "fields": [
        { "name": "Name", "type": "textbox", "target": "#name", "value": "Half" },
        { "name": "Agree", "type": "checkbox", "target": "#agree", "value": "yes" },
    ] });
    refused(&lease, "browser_fill_form", half, "invalid_argument", "'Agree': the value of a checkbox").await?;
    let filled =
        lease.ok("browser_evaluate", json!({ "function": "() => document.getElementById('name').value" })).await?;
    assert!(filled.text.contains("\"Half\""), "what came before is filled, and the error says so: {}", filled.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dragging_is_a_persons_too() -> Outcome {
    let (daemon, _pages, lease) = begin("/drag").await?;
    let drag = |from: &str, to: &str| json!({ "startTarget": from, "endTarget": to });
    let dragged = lease.ok("browser_drag", drag("#card", "#bin")).await?;
    assert!(dragged.text.contains("await page.locator('#card').dragTo(page.locator('#bin'));"), "{}", dragged.text);
    assert_eq!(text_of(&lease, "log").await?, "dragstart; bin got the card; dragend; ");
    lease.ok("browser_drag", drag("#card", "#far")).await?;
    assert!(text_of(&lease, "log").await?.ends_with("dragstart; far got the card; dragend; "), "it is scrolled to");
    lease.ok("browser_drag", drag("#refusing", "#bin")).await?;
    assert!(text_of(&lease, "log").await?.ends_with("refused; "), "a page may call a drag off");
    let knob = lease.ok("browser_drag", drag("#knob", "#pad")).await?;
    assert!(text_of(&lease, "log").await?.ends_with("down; up at right; "), "{}", knob.text);
    refused(&lease, "browser_drag", drag("#card", ".nope"), "element_not_actionable", "does not match").await?;
    // The mouse is free again.
    lease.ok("browser_drag", drag("#card", "#bin")).await?;
    assert!(text_of(&lease, "log").await?.ends_with("bin got the card; dragend; "));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_shows_under_the_mouse_can_be_used() -> Outcome {
    let (daemon, _pages, lease) = begin("/menu").await?;
    let hovered = lease.ok("browser_hover", json!({ "target": "text=File" })).await?;
    assert!(hovered.text.contains("await page.locator('text=File').hover();"), "{}", hovered.text);
    let clicked = lease.ok("browser_click", json!({ "target": hovered.find_ref("button \"Save\"")? })).await?;
    assert!(clicked.text.contains("saved"), "{}", clicked.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_ends_with_what_is_waited_for() -> Outcome {
    let (daemon, pages, lease) = begin_within("/later", Duration::from_secs(3)).await?;
    let there = lease.ok("browser_wait_for", json!({ "text": "all is  there" })).await?;
    assert!(there.text.contains("Waited for all is  there"), "{}", there.text);
    assert!(there.text.contains("All is there"), "{}", there.text);
    lease.ok("browser_navigate", json!({ "url": pages.at("/later") })).await?;
    let gone = lease.ok("browser_wait_for", json!({ "textGone": "Loading data" })).await?;
    assert!(gone.text.contains("All is there"), "{}", gone.text);
    let reload = "() => { setTimeout(() => location.reload(), 50); return 1 }";
    lease.ok("browser_evaluate", json!({ "function": reload })).await?;
    lease.ok("browser_wait_for", json!({ "text": "Loading data" })).await?;
    let time = lease.ok("browser_wait_for", json!({ "time": 0.4 })).await?;
    assert!(time.text.starts_with("### Result\nWaited for 0.4 seconds\n"), "{}", time.text);
    assert!(time.text.contains("All is there"), "a document that replaced the one before is looked at: {}", time.text);
    refused(&lease, "browser_wait_for", json!({ "text": "never" }), "call_timeout", "did not appear within 3 s")
        .await?;
    refused(&lease, "browser_wait_for", json!({ "textGone": "All is" }), "call_timeout", "still there").await?;
    refused(&lease, "browser_wait_for", json!({}), "invalid_argument", "Either time, text or textGone").await?;
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_leads_back_and_forth() -> Outcome {
    let (daemon, pages, lease) = begin("/later").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/menu") })).await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/menu#here") })).await?;
    let url =
        |answer: &Answer| answer.text.lines().find_map(|line| line.strip_prefix("- Page URL: ").map(str::to_owned));
    let back = lease.ok("browser_navigate_back", json!({})).await?;
    assert_eq!(url(&back), Some(pages.at("/menu")), "within a document: {}", back.text);
    assert!(back.text.contains("await page.goBack();"), "{}", back.text);
    assert_eq!(url(&lease.ok("browser_navigate_back", json!({})).await?), Some(pages.at("/later")));
    let forward = lease.ok("browser_navigate_forward", json!({})).await?;
    assert_eq!(url(&forward), Some(pages.at("/menu")), "{}", forward.text);
    lease.ok("browser_evaluate", json!({ "function": "() => { document.body.append('scribbled') }" })).await?;
    let fresh = lease.ok("browser_reload", json!({})).await?;
    assert!(fresh.text.contains("button \"File\"") && !fresh.text.contains("scribbled"), "{}", fresh.text);
    for _ in 0..3 {
        lease.ok("browser_navigate_forward", json!({})).await?;
    }
    let end = lease.ok("browser_navigate_forward", json!({})).await?;
    assert_eq!(url(&end), Some(pages.at("/menu#here")));
    assert!(end.text.contains("The history ends here"), "{}", end.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_shown_as_asked() -> Outcome {
    let (daemon, _pages, lease) = begin("/media").await?;
    assert_eq!(text_of(&lease, "out").await?, "light lively screen 1280x720");
    let dark = lease.ok("browser_emulate_media", json!({ "colorScheme": "dark", "reducedMotion": "reduce" })).await?;
    assert!(
        dark.text.contains("await page.emulateMedia({ colorScheme: 'dark', reducedMotion: 'reduce' });"),
        "{}",
        dark.text
    );
    lease.ok("browser_emulate_media", json!({ "media": "print", "reducedMotion": null })).await?;
    let resized = lease.ok("browser_resize", json!({ "width": 800.4, "height": 600 })).await?;
    assert!(resized.text.contains("await page.setViewportSize({ width: 800, height: 600 });"), "{}", resized.text);
    assert_eq!(text_of(&lease, "out").await?, "dark lively paper 800x600", "what is left out stays");
    let invalid = "invalid_argument";
    refused(&lease, "browser_emulate_media", json!({}), invalid, "at least one media feature").await?;
    refused(&lease, "browser_emulate_media", json!({ "colorScheme": "blue" }), invalid, "colorScheme").await?;
    refused(&lease, "browser_resize", json!({ "width": 0, "height": 600 }), invalid, "width must be from 16").await?;
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_the_snapshot_are_found() -> Outcome {
    let (daemon, _pages, lease) = begin("/fields").await?;
    let found = lease.ok("browser_find", json!({ "text": "VOLUME" })).await?;
    assert!(found.text.starts_with("### Result\nFound 2 matches for \"VOLUME\":\n\n- generic"), "{}", found.text);
    let slider = found.find_ref("slider \"Volume\"")?;
    lease.ok("browser_type", json!({ "target": slider, "text": "20" })).await?;
    let regex = lease.ok("browser_find", json!({ "regex": "/RADIO \"(first|second)\"/i" })).await?;
    assert!(regex.text.contains("Found 2 matches for /RADIO"), "{}", regex.text);
    assert!(!regex.text.contains("slider"), "only what is near: {}", regex.text);
    let none = lease.ok("browser_find", json!({ "text": "zzz" })).await?;
    assert!(none.text.starts_with("### Result\nNo matches found for \"zzz\"."), "{}", none.text);
    let invalid = "invalid_argument";
    refused(&lease, "browser_find", json!({ "text": "a", "regex": "b" }), invalid, "only one of").await?;
    refused(&lease, "browser_find", json!({}), invalid, "either").await?;
    refused(&lease, "browser_find", json!({ "regex": "([" }), invalid, "not understood").await?;
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_come_with_the_call() -> Outcome {
    let (daemon, pages, lease) = begin("/files-here").await?;
    let modal = "### Modal state\n- [File chooser]: can be handled by browser_file_upload";
    let asked = lease.ok("browser_click", json!({ "target": "text=One file" })).await?;
    assert!(asked.text.contains(modal), "{}", asked.text);
    let one = json!({ "files": [{ "name": "a.txt", "content": "hällo" }] });
    let given = lease.ok("browser_file_upload", one.clone()).await?;
    assert!(given.text.contains("await fileChooser.setFiles([\"a.txt\"])"), "{}", given.text);
    assert!(!given.text.contains("### Modal state"), "{}", given.text);
    let read = lease.ok("browser_wait_for", json!({ "text": "one: a.txt text/plain hällo" })).await?;
    assert!(read.text.contains("events input change"), "{}", read.text);

    let two = json!({ "files": [{ "name": "a.txt", "content": "a" }, { "name": "b.bin", "content": "AP8=", "encoding": "base64" }] });
    lease.ok("browser_click", json!({ "target": "text=One file" })).await?;
    refused(&lease, "browser_file_upload", two.clone(), "element_not_actionable", "only accept single file").await?;
    let off = lease.ok("browser_file_upload", json!({})).await?;
    assert!(off.text.contains("setFiles(undefined)") && !off.text.contains("### Modal state"), "{}", off.text);
    assert_eq!(text_of(&lease, "state").await?, "cancelled");
    let mut many = two;
    many["target"] = "#many".into();
    let direct = lease.ok("browser_file_upload", many).await?;
    assert!(direct.text.contains("locator('#many').setInputFiles([\"a.txt\",\"b.bin\"]);"), "{}", direct.text);
    lease.ok("browser_wait_for", json!({ "text": "many: a.txt text/plain a" })).await?;

    let invalid = "invalid_argument";
    refused(&lease, "browser_file_upload", one, invalid, "related modal state").await?;
    let path = json!({ "paths": ["/etc/passwd"] });
    refused(&lease, "browser_file_upload", path, invalid, "no files of its own disk").await?;
    lease.ok("browser_click", json!({ "target": "text=One file" })).await?;
    let elsewhere = lease.ok("browser_navigate", json!({ "url": pages.at("/menu") })).await?;
    assert!(!elsewhere.text.contains("### Modal state"), "the question went with its page: {}", elsewhere.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn things_are_dropped_from_outside() -> Outcome {
    let (daemon, _pages, lease) = begin("/files-here").await?;
    let dropped = lease
        .ok(
            "browser_drop",
            json!({ "target": "#goal", "data": { "text/plain": "it's" }, "files": [{ "name": "a.csv", "content": "1;2" }] }),
        )
        .await?;
    let code = "await page.locator('#goal').drop({\n  data: {\n  text/plain: 'it\\'s'\n},\n  files: 'a.csv'\n});";
    assert!(dropped.text.contains(code), "{}", dropped.text);
    lease.ok("browser_wait_for", json!({ "text": "dropped: it's a.csv text/csv 1;2" })).await?;
    let act = "element_not_actionable";
    let refusing = json!({ "target": "#many", "data": { "text/plain": "x" } });
    refused(&lease, "browser_drop", refusing, act, "did not accept the drop").await?;
    let nothing = json!({ "target": "#goal" });
    refused(&lease, "browser_drop", nothing, "invalid_argument", "At least one of").await?;
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_may_be_written_as_test_code() -> Outcome {
    let (daemon, _pages, lease) = begin("/fields").await?;
    for (target, value) in [
        ("getByLabel('Name')", "name"),
        ("page.getByRole('textbox', { name: \"Name\" })", "name"),
        ("getByRole('checkbox').first()", "agree"),
        ("getByRole('checkbox').nth(1)", "stubborn"),
        ("getByRole('checkbox', { name: /^agr/i })", "agree"),
        ("getByRole('radio', { name: 'second', exact: false })", "b"),
        ("getByRole('radio', { checked: false }).last()", "b"),
        ("locator('label').filter({ hasText: 'Volume' }).getByRole('slider')", "volume"),
        ("getByLabel('Colour', { exact: true })", "colour"),
        ("getByLabel('Ma\\u006ey')", "many"),
    ] {
        let answer =
            lease.ok("browser_evaluate", json!({ "function": "element => element.id", "target": target })).await?;
        assert!(answer.text.starts_with(&format!("### Result\n\"{value}\"\n")), "{target}: {}", answer.text);
    }
    let act = "element_not_actionable";
    for (target, words) in [
        ("getByRole('checkbox')", "strict mode violation"),
        ("getByRole('button', { name: 'nowhere' })", "does not match any elements"),
        ("getByFoo('x')", "\"getByFoo\" in"),
        ("getByText('x'", "is not understood"),
        ("getByText(document)", "is not understood"),
        ("getByText('Show').click()", "\"click\" in"),
        ("constructor('x')", "not a valid CSS selector"),
    ] {
        refused(&lease, "browser_hover", json!({ "target": target }), act, words).await?;
    }
    // What a reply says can be said back.
    let said = lease.ok("browser_click", json!({ "target": "text=Show" })).await?;
    let code = lease.ok("browser_click", json!({ "target": said.find_ref("button \"Show\"")? })).await?;
    let (_, locator) = code.text.split_once("await page.").unwrap_or_default();
    let (locator, _) = locator.split_once(".click()").unwrap_or_default();
    assert_eq!(locator, "getByRole('button', { name: 'Show' })");
    let again = lease.ok("browser_click", json!({ "target": locator })).await?;
    assert!(again.text.contains(&format!("await page.{locator}.click();")), "{}", again.text);
    daemon.end().await
}
