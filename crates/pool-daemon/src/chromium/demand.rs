//! What only some systems give: whether it is asked for, and whether we go on without.

/// Whether something is used that not every system gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Where that is possible.
    Auto,
    Off,
    /// Or the daemon does not start.
    Required,
}

impl Demand {
    /// What the settings call them.
    pub const NAMES: [(&str, Self); 3] = [("auto", Self::Auto), ("off", Self::Off), ("required", Self::Required)];

    /// Takes it if it is asked for. `without` says what is otherwise.
    ///
    /// # Errors
    /// What is missing of what is required.
    pub(super) fn meet<T>(self, without: &str, take: impl FnOnce() -> Result<T, String>) -> Result<Option<T>, String> {
        match self {
            Self::Off => Ok(None),
            Self::Required => take().map(Some),
            Self::Auto => Ok(take().inspect_err(|why| tracing::debug!(why, "{without}")).ok()),
        }
    }
}
