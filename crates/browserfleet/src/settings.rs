//! The reference of all settings, of this program and of the two that it is in one.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write},
};

use browserfleet_common::config::Setting;
use browserfleet_mcp_frontend::cli;
use browserfleet_pool_daemon::config;

use crate::args;

const HEAD: &str = "# Settings

Written by `browserfleet settings`. A setting is a line of a TOML file (`--config`), in the section before its dot; an environment variable,
`BROWSERFLEET_SECTION__KEY`; and where the README says so a flag. The later wins, and whatever is wrong is reported at the start, all at once.

Of the programs, **b** is `browserfleet`, **f** `mcp-frontend` and **d** `pool-daemon`.
";

const COLUMNS: &str = "| setting | of | what | default | why | allowed |";

/// Writes the reference.
pub(crate) fn print(output: &mut impl Write) -> anyhow::Result<()> {
    match output.write_all(reference().as_bytes()) {
        // Whoever read the beginning may have seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// What each program reads.
fn programs() -> [(&'static str, Vec<Setting>); 3] {
    [("b", args::Settings::reference()), ("f", cli::reference()), ("d", config::reference())]
}

fn reference() -> String {
    let programs = programs();
    let mut settings: BTreeMap<&str, Vec<(&str, &Setting)>> = BTreeMap::new();
    for (program, asked) in &programs {
        for setting in asked {
            settings.entry(setting.key).or_default().push((program, setting));
        }
    }
    let mut text = HEAD.to_owned();
    let mut section = "";
    for (key, of) in &settings {
        let (named, name) = key.split_once('.').unwrap_or(("", key));
        if named != section {
            section = named;
            for line in ["", &format!("## {section}"), "", COLUMNS, "|---|---|---|---|---|---|"] {
                text.push_str(line);
                text.push('\n');
            }
        }
        let (_, Setting { what, why, allowed, .. }) = of[0];
        let programs = of.iter().map(|(program, _)| *program).collect::<Vec<_>>().join(" ");
        writeln!(text, "| `{name}` | {programs} | {what} | {} | {why} | {allowed} |", default(of))
            .expect("a text can be written to");
    }
    text
}

/// The default, of each program where they differ.
fn default(of: &[(&str, &Setting)]) -> String {
    let first = &of[0].1.default;
    if of.iter().all(|(_, setting)| setting.default == *first) {
        return first.clone();
    }
    of.iter().map(|(program, setting)| format!("{program}: {}", setting.default)).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    /// `UPDATE_DOCS=1` writes it anew.
    #[test]
    fn the_reference_is_up_to_date_and_says_why() {
        let text = reference();
        for (program, settings) in programs() {
            for Setting { key, what, why, .. } in settings {
                let about = "crates/common/src/config/about.rs says nothing of";
                assert!(!what.is_empty() && !why.is_empty(), "{about} {key} (of {program})");
            }
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(
            fs::read_to_string(&path).unwrap_or_default(),
            text,
            "docs/settings.md: write it anew (UPDATE_DOCS=1)"
        );
    }

    /// The names of settings that a text has in backquotes: of a known section, so that `file.rs` is none.
    fn named<'a>(text: &'a str, sections: &[&str]) -> Vec<&'a str> {
        let quoted = text.split('`').skip(1).step_by(2);
        let first = quoted.filter_map(|words| words.split([' ', '=']).next());
        let is_name = |name: &&str| {
            let word =
                |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            name.split_once('.').is_some_and(|(section, key)| sections.contains(&section) && word(key))
        };
        first.filter(is_name).collect()
    }

    #[test]
    fn what_is_written_of_settings_is_of_those_there_are() {
        let programs = programs();
        let keys: Vec<&str> =
            programs.iter().flat_map(|(_, settings)| settings.iter().map(|setting| setting.key)).collect();
        let sections: Vec<&str> = keys.iter().filter_map(|key| Some(key.split_once('.')?.0)).collect();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
        let texts = docs.chain([root.join("README.md")]).filter(|path| path.extension().is_some_and(|of| of == "md"));
        let mut found = 0;
        for path in texts {
            // Blocks of code have backquotes of their own.
            let text = fs::read_to_string(&path).unwrap().replace("```", "");
            for name in named(&text, &sections) {
                assert!(keys.contains(&name), "{}: there is no setting {name}", path.display());
                found += 1;
            }
        }
        assert!(found > 100, "{found}");
    }
}
