//! Answering requests in the place of servers, and being offline.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Route {
    /// Which URLs, as in `**/api/users` or `**/*.{png,jpg}`
    pub pattern: String,
    /// The status to answer with, 200 by default
    #[serde(default)]
    #[schemars(range(min = 200, max = 599))]
    pub status: Option<u16>,
    /// The body to answer with. Without body and status the request goes to its server, with other headers
    #[serde(default)]
    pub body: Option<String>,
    /// The answer's content type, such as application/json
    #[serde(default)]
    pub content_type: Option<String>,
    /// Headers to add, as "Name: Value": to the answer, or to a request that goes to its server
    #[serde(default)]
    #[schemars(length(max = 50))]
    pub headers: Option<Vec<String>>,
    /// Names of headers to take from the request, parted by commas
    #[serde(default)]
    pub remove_headers: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteList {}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unroute {
    /// The pattern of the routes to remove; without it all of them
    #[serde(default)]
    pub pattern: Option<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkStateSet {
    /// offline: every request fails; online: as before
    pub state: NetworkState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum NetworkState {
    Online,
    Offline,
}
