//! The tools of the groups that are served to whoever asks for them.

use crate::{
    CookieClear, CookieDelete, CookieGet, CookieList, CookieSet, Effect, GenerateLocator, GetStorageState, Group,
    LocalStorageClear, LocalStorageDelete, LocalStorageGet, LocalStorageList, LocalStorageSet, MouseClickXy, MouseDown,
    MouseDragXy, MouseMoveXy, MouseUp, MouseWheel, SessionStorageClear, SessionStorageDelete, SessionStorageGet,
    SessionStorageList, SessionStorageSet, SetStorageState, Tool, VerifyElementVisible, VerifyListVisible,
    VerifyTextVisible, VerifyValue, catalogue::browser,
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
    browser::<VerifyElementVisible>(
        "Verify that an element is visible",
        "Verify that an element of a role and name is visible on the page.",
        Effect::Reads,
    )
    .of(Group::Testing),
    browser::<VerifyTextVisible>(
        "Verify that a text is visible",
        "Verify that a text is visible on the page. Prefer browser_verify_element_visible where it is possible.",
        Effect::Reads,
    )
    .of(Group::Testing),
    browser::<VerifyListVisible>(
        "Verify that a list is visible",
        "Verify that a list is visible on the page, with these items in it.",
        Effect::Reads,
    )
    .of(Group::Testing),
    browser::<VerifyValue>("Verify a value", "Verify the value of a field.", Effect::Reads).of(Group::Testing),
    browser::<GenerateLocator>(
        "Generate a locator",
        "Get a locator of an element, to be used in tests.",
        Effect::Reads,
    )
    .of(Group::Testing),
    browser::<MouseMoveXy>("Move the mouse", "Move the mouse to a point of the viewport.", Effect::Acts)
        .of(Group::Vision),
    browser::<MouseClickXy>(
        "Click at a point",
        "Click at a point of the viewport and get a snapshot of the page.",
        Effect::Acts,
    )
    .of(Group::Vision),
    browser::<MouseDragXy>(
        "Drag from point to point",
        "Drag with the left mouse button from a point of the viewport to another one, and get a snapshot of the page.",
        Effect::Acts,
    )
    .of(Group::Vision),
    browser::<MouseDown>("Press a mouse button", "Press a mouse button where the mouse is.", Effect::Acts)
        .of(Group::Vision),
    browser::<MouseUp>("Let a mouse button go", "Let a mouse button go where the mouse is.", Effect::Acts)
        .of(Group::Vision),
    browser::<MouseWheel>("Turn the mouse wheel", "Turn the mouse wheel where the mouse is.", Effect::Acts)
        .of(Group::Vision),
];
