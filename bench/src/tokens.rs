//! Texts in tokens, as a model counts them: by a tokenizer that npm can get, as it gets the peer.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, ensure};
use tokio::{
    io::AsyncWriteExt as _,
    process::Command,
    time::{Duration, timeout},
};

const PACKAGE: &str = "gpt-tokenizer";
const VERSION: &str = "4.0.0";

/// Most time to count the texts of a row.
const LIMIT: Duration = Duration::from_mins(1);

/// Reads a JSON list of texts and writes how many tokens each has in the vocabulary `o200k_base`.
const SCRIPT: &str = "const { countTokens } = require('gpt-tokenizer/encoding/o200k_base');
console.log(JSON.stringify(JSON.parse(require('fs').readFileSync(0, 'utf8')).map((text) => countTokens(text))))";

/// A tokenizer in a directory that is kept.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    directory: PathBuf,
}

impl Tokenizer {
    /// Installs it, if it is not there.
    ///
    /// # Errors
    /// Why it cannot be had: no npm, or no network.
    pub(crate) async fn prepare(directory: &Path) -> anyhow::Result<Self> {
        if !directory.join("node_modules").join(PACKAGE).is_dir() {
            std::fs::create_dir_all(directory)?;
            let mut npm = Command::new("npm");
            npm.args(["install", "--no-audit", "--no-fund", "--silent", "--prefix", "."]);
            npm.arg(format!("{PACKAGE}@{VERSION}")).current_dir(directory);
            let status = npm.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
            let status = status.context("npm cannot be started")?;
            ensure!(status.success(), "npm install ended with {status}");
        }
        Ok(Self { directory: std::fs::canonicalize(directory)? })
    }

    /// How many tokens each text has.
    pub(crate) async fn count(&self, texts: &[String]) -> anyhow::Result<Vec<u32>> {
        let mut node = Command::new("node");
        node.arg("-e").arg(SCRIPT).current_dir(&self.directory);
        node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = node.spawn().context("node cannot be started")?;
        let mut input = child.stdin.take().context("its input")?;
        let counted = async {
            input.write_all(&serde_json::to_vec(texts)?).await?;
            drop(input);
            let output = child.wait_with_output().await?;
            ensure!(output.status.success(), "the tokenizer ended with {}", output.status);
            Ok(serde_json::from_slice(&output.stdout)?)
        };
        timeout(LIMIT, counted).await.context("the tokenizer did not answer in time")?
    }
}
