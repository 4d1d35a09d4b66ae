//! Bytes of files that a principal may bring in, or have pages give away, in an hour.

use std::time::Duration;

use browserfleet_common::{error_code::ErrorCode, metrics::metrics, size::Size};

use crate::{access::Access, core::Core, failure::Failure, usage::Pace};

/// Which files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quota {
    /// Those that clients bring.
    Upload,
    /// Those that pages give away.
    Download,
}

/// Takes so many bytes of a quota.
///
/// # Errors
/// When there are not so many left: nothing is taken then.
pub(crate) async fn spend(core: &Core, access: &Access, quota: Quota, bytes: usize) -> Result<(), Failure> {
    let (pace, allowance, label, of) = match quota {
        Quota::Upload => (Pace::Uploads, access.limits.upload_per_hour, "upload", "files you bring in"),
        Quota::Download => (Pace::Downloads, access.limits.download_per_hour, "download", "files that pages give you"),
    };
    let (Some(allowance), 1..) = (allowance, bytes) else { return Ok(()) };
    let amount = u64::try_from(bytes).unwrap_or(u64::MAX);
    let refused = |then: &str| {
        metrics().throttled.add(label);
        let text = format!("{bytes} bytes: beyond your quota of {} an hour of {of}. {then}", Size(allowance));
        Failure::new(ErrorCode::QuotaExceeded, text)
    };
    if amount > allowance {
        return Err(refused("So much is never allowed at once."));
    }
    match core.usage.pass(pace, &access.principal, amount, allowance).await {
        Ok(None) => Ok(()),
        Ok(Some(wait)) => {
            let wait = Duration::from_secs(wait.as_secs() + 1);
            Err(refused(&format!("Try again in {}.", humantime::format_duration(wait))).retry(wait))
        }
        // As with requests: who can be served without the store is served.
        Err(error) => {
            tracing::debug!(%error, "bytes of files cannot be counted");
            Ok(())
        }
    }
}
