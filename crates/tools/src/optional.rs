//! The tools of the groups that are served to whoever asks for them.

use crate::{
    CookieClear, CookieDelete, CookieGet, CookieList, CookieSet, Effect, GetStorageState, Group, LocalStorageClear,
    LocalStorageDelete, LocalStorageGet, LocalStorageList, LocalStorageSet, SessionStorageClear, SessionStorageDelete,
    SessionStorageGet, SessionStorageList, SessionStorageSet, SetStorageState, Tool, catalogue::browser,
};

/// In the order in which agents see them, after those that are always served.
pub(crate) const OPTIONAL: &[Tool] = &[
    browser::<CookieList>("List cookies", "List all cookies, or those of a domain or path.", Effect::Reads)
        .of(Group::Storage),
    browser::<CookieGet>("Get a cookie", "Get a cookie by name.", Effect::Reads).of(Group::Storage),
    browser::<CookieSet>(
        "Set a cookie",
        "Set a cookie, with domain, path, expires, httpOnly, secure and sameSite where you need them.",
        Effect::Acts,
    )
    .of(Group::Storage),
    browser::<CookieDelete>("Delete a cookie", "Delete the cookies of a name.", Effect::Acts).of(Group::Storage),
    browser::<CookieClear>("Clear cookies", "Delete all cookies.", Effect::Acts).of(Group::Storage),
    browser::<LocalStorageList>("List localStorage", "List all localStorage items of the page's site.", Effect::Reads)
        .of(Group::Storage),
    browser::<LocalStorageGet>("Get a localStorage item", "Get a localStorage item by key.", Effect::Reads)
        .of(Group::Storage),
    browser::<LocalStorageSet>("Set a localStorage item", "Set a localStorage item.", Effect::Acts).of(Group::Storage),
    browser::<LocalStorageDelete>("Delete a localStorage item", "Delete a localStorage item.", Effect::Acts)
        .of(Group::Storage),
    browser::<LocalStorageClear>(
        "Clear localStorage",
        "Delete all localStorage items of the page's site.",
        Effect::Acts,
    )
    .of(Group::Storage),
    browser::<SessionStorageList>(
        "List sessionStorage",
        "List all sessionStorage items of the page's site in this tab.",
        Effect::Reads,
    )
    .of(Group::Storage),
    browser::<SessionStorageGet>("Get a sessionStorage item", "Get a sessionStorage item by key.", Effect::Reads)
        .of(Group::Storage),
    browser::<SessionStorageSet>("Set a sessionStorage item", "Set a sessionStorage item.", Effect::Acts)
        .of(Group::Storage),
    browser::<SessionStorageDelete>("Delete a sessionStorage item", "Delete a sessionStorage item.", Effect::Acts)
        .of(Group::Storage),
    browser::<SessionStorageClear>(
        "Clear sessionStorage",
        "Delete all sessionStorage items of the page's site in this tab.",
        Effect::Acts,
    )
    .of(Group::Storage),
    browser::<GetStorageState>(
        "Get the storage state",
        "Get the cookies and the local storage of every site the session has been at, to begin another session with.",
        Effect::Reads,
    )
    .of(Group::Storage),
    browser::<SetStorageState>(
        "Set the storage state",
        "Put cookies and local storage in place of those there are. Pages see them when they load again.",
        Effect::Acts,
    )
    .of(Group::Storage),
];
