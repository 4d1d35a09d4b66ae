//! The tools of the groups that are served to whoever asks for them.

use crate::{
    CookieClear, CookieDelete, CookieGet, CookieList, CookieSet, Effect, Emulate, Extract, GenerateLocator, GetConfig,
    GetStorageState, Group, HarExport, HideHighlight, Highlight, LocalStorageClear, LocalStorageDelete,
    LocalStorageGet, LocalStorageList, LocalStorageSet, MouseClickXy, MouseDown, MouseDragXy, MouseMoveXy, MouseUp,
    MouseWheel, NetworkStateSet, PdfSave, Route, RouteList, RunTasks, Scope, SessionStorageClear, SessionStorageDelete,
    SessionStorageGet, SessionStorageList, SessionStorageSet, SessionUse, SetStorageState, StartRecording,
    StartTracing, StartVideo, StopRecording, StopTracing, StopVideo, Tool, Unroute, VerifyElementVisible,
    VerifyListVisible, VerifyTextVisible, VerifyValue, VideoChapter,
    catalogue::{browser, front_end},
};

/// In the order in which agents see them, after those that are always served. What sites store, logins above all, is for those
/// who may run scripts in their pages: looking at pages shows none of it.
pub(crate) const OPTIONAL: &[Tool] = &[
    browser::<CookieList>("List cookies", "List all cookies, or those of a domain or path.", Effect::Reads)
        .of(Group::Storage)
        .under(Scope::Evaluate),
    browser::<CookieGet>("Get a cookie", "Get a cookie by name.", Effect::Reads)
        .of(Group::Storage)
        .under(Scope::Evaluate),
    browser::<CookieSet>(
        "Set a cookie",
        "Set a cookie, with domain, path, expires, httpOnly, secure and sameSite where you need them.",
        Effect::Acts,
    )
    .of(Group::Storage)
    .under(Scope::Evaluate),
    browser::<CookieDelete>("Delete a cookie", "Delete the cookies of a name.", Effect::Acts)
        .of(Group::Storage)
        .under(Scope::Evaluate),
    browser::<CookieClear>("Clear cookies", "Delete all cookies.", Effect::Acts)
        .of(Group::Storage)
        .under(Scope::Evaluate),
    browser::<LocalStorageList>("List localStorage", "List all localStorage items of the page's site.", Effect::Reads)
        .of(Group::Storage)
        .under(Scope::Evaluate),
    browser::<LocalStorageGet>("Get a localStorage item", "Get a localStorage item by key.", Effect::Reads)
        .of(Group::Storage)
        .under(Scope::Evaluate),
    browser::<LocalStorageSet>("Set a localStorage item", "Set a localStorage item.", Effect::Acts)
        .of(Group::Storage)
        .under(Scope::Evaluate),
    browser::<LocalStorageDelete>("Delete a localStorage item", "Delete a localStorage item.", Effect::Acts)
        .of(Group::Storage)
        .under(Scope::Evaluate),
    browser::<LocalStorageClear>(
        "Clear localStorage",
        "Delete all localStorage items of the page's site.",
        Effect::Acts,
    )
    .of(Group::Storage)
    .under(Scope::Evaluate),
    browser::<SessionStorageList>(
        "List sessionStorage",
        "List all sessionStorage items of the page's site in this tab.",
        Effect::Reads,
    )
    .of(Group::Storage)
    .under(Scope::Evaluate),
    browser::<SessionStorageGet>("Get a sessionStorage item", "Get a sessionStorage item by key.", Effect::Reads)
        .of(Group::Storage)
        .under(Scope::Evaluate),
    browser::<SessionStorageSet>("Set a sessionStorage item", "Set a sessionStorage item.", Effect::Acts)
        .of(Group::Storage)
        .under(Scope::Evaluate),
    browser::<SessionStorageDelete>("Delete a sessionStorage item", "Delete a sessionStorage item.", Effect::Acts)
        .of(Group::Storage)
        .under(Scope::Evaluate),
    browser::<SessionStorageClear>(
        "Clear sessionStorage",
        "Delete all sessionStorage items of the page's site in this tab.",
        Effect::Acts,
    )
    .of(Group::Storage)
    .under(Scope::Evaluate),
    browser::<GetStorageState>(
        "Get the storage state",
        "Get the cookies and the local storage of every site the session has been at, to begin another session with.",
        Effect::Reads,
    )
    .of(Group::Storage)
    .under(Scope::Evaluate),
    browser::<SetStorageState>(
        "Set the storage state",
        "Put cookies and local storage in place of those there are. Pages see them when they load again.",
        Effect::Acts,
    )
    .of(Group::Storage)
    .under(Scope::Evaluate),
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
    browser::<MouseClickXy>("Click at a point", "Click at a point of the viewport.", Effect::Acts)
        .showing()
        .of(Group::Vision),
    browser::<MouseDragXy>(
        "Drag from point to point",
        "Drag with the left mouse button from a point of the viewport to another one.",
        Effect::Acts,
    )
    .showing()
    .of(Group::Vision),
    browser::<MouseDown>("Press a mouse button", "Press a mouse button where the mouse is.", Effect::Acts)
        .of(Group::Vision),
    browser::<MouseUp>("Let a mouse button go", "Let a mouse button go where the mouse is.", Effect::Acts)
        .of(Group::Vision),
    browser::<MouseWheel>("Turn the mouse wheel", "Turn the mouse wheel where the mouse is.", Effect::Acts)
        .of(Group::Vision),
    browser::<Route>(
        "Mock requests",
        "Answer requests for URLs that match a pattern, or change their headers. The latest route that matches counts.",
        Effect::Acts,
    )
    .of(Group::Network)
    // What it answers with can be a script in a page of any site.
    .under(Scope::Evaluate),
    browser::<RouteList>("List routes", "List the routes of the session.", Effect::Reads).of(Group::Network),
    browser::<Unroute>("Remove routes", "Remove the routes of a pattern, or all of them.", Effect::Acts)
        .of(Group::Network),
    browser::<NetworkStateSet>(
        "Set the network state",
        "Take the pages of the session offline, where every request fails, or online again.",
        Effect::Acts,
    )
    .of(Group::Network),
    browser::<PdfSave>("Save as PDF", "Print the page to a PDF, which is kept as a resource.", Effect::Reads)
        .of(Group::Pdf),
    browser::<Emulate>(
        "Emulate a device",
        "Show pages as on another device, in another place, over another network. All tabs of the session take it on.",
        Effect::Acts,
    )
    .of(Group::Devtools)
    .under(Scope::Read),
    browser::<HarExport>(
        "Export the requests",
        "Save the requests of the page since you went to it as an HTTP archive (HAR 1.2), which is kept as a resource.",
        Effect::Reads,
    )
    .of(Group::Devtools),
    browser::<Highlight>(
        "Highlight an element",
        "Show a frame around an element of the page, until browser_hide_highlight.",
        Effect::Reads,
    )
    .of(Group::Devtools),
    browser::<HideHighlight>(
        "Hide highlights",
        "Remove the frame around an element, or every such frame.",
        Effect::Reads,
    )
    .of(Group::Devtools),
    browser::<StartRecording>(
        "Start recording actions",
        "Start recording the calls that act in this session, as Playwright code and as steps for browser_batch. Call \
         browser_stop_recording to get them.",
        Effect::Reads,
    )
    .of(Group::Devtools),
    browser::<StopRecording>(
        "Stop recording actions",
        "Stop the recording started with browser_start_recording and return the recorded actions as Playwright code and as \
         steps for browser_batch.",
        Effect::Reads,
    )
    .long()
    .of(Group::Devtools),
    browser::<StartTracing>(
        "Start tracing",
        "Start trace recording: what the browser does and how long it takes, as Chrome's tools show it.",
        Effect::Reads,
    )
    .of(Group::Devtools),
    browser::<StopTracing>(
        "Stop tracing",
        "Stop trace recording. The trace is kept as a resource.",
        Effect::Reads,
    )
    .of(Group::Devtools),
    browser::<StartVideo>("Start video", "Start video recording of the current tab, whichever it is.", Effect::Reads)
        .of(Group::Devtools),
    browser::<StopVideo>("Stop video", "Stop video recording. The video is kept as a resource.", Effect::Reads)
        .of(Group::Devtools),
    browser::<VideoChapter>(
        "Video chapter",
        "Add a chapter to the video recording: show a full-screen card with blurred backdrop for a moment.",
        Effect::Reads,
    )
    .of(Group::Devtools),
    front_end::<GetConfig>(
        "Get the configuration",
        "Get what the server is set to, as far as it matters to its clients.",
        Group::Config,
        Effect::Reads,
        SessionUse::None,
    ),
    browser::<Extract>(
        "Extract data",
        "Get values out of the page by CSS selectors, as JSON, marked as untrusted.",
        Effect::Reads,
    )
    .long()
    .of(Group::Automation),
    front_end::<RunTasks>(
        "Run tasks",
        "Run several tasks, each a list of steps as browser_batch has them, and get what came of each.",
        Group::Automation,
        Effect::Acts,
        SessionUse::Needs,
    ),
];
