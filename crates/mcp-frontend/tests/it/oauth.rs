//! Who gets in with an access token, and what it allows.

use std::time::Duration;

use browserfleet_mcp_frontend::{
    keys::{
        ApiKeys, Limits,
        command::{Create, create},
    },
    testing::Event,
};
use futures_util::future::join_all;
use http::Method;
use ring::{hmac, rsa::PublicKeyComponents};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    issuer::{ALL, Guarded, Issuer, Mood, RESOURCE, Signer, coded, now, settings, unsigned},
    keys::{legacy, seen},
    world::{Behind, Client, LIMIT, Reply, World, failure, initialize, request, text},
};

const METADATA: &str = "http://browsers.example/.well-known/oauth-protected-resource/mcp";

/// The challenge of a refusal.
fn challenge(error: &str, scope: &str) -> String {
    format!("Bearer realm=\"browserfleet\"{error}, scope=\"{scope}\", resource_metadata=\"{METADATA}\"")
}

fn refused() -> (u16, String) {
    (401, challenge(", error=\"invalid_token\"", ALL))
}

async fn status(client: &Client) -> u16 {
    client.get("/sessions").await.status.as_u16()
}

/// Asks until the answer has this status: keys are read beside the requests.
async fn until_status(client: &Client, expected: u16) {
    let started = Instant::now();
    while status(client).await != expected {
        assert!(started.elapsed() < LIMIT, "never {expected}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

fn without(claims: &Value, name: &str) -> Value {
    let mut claims = claims.clone();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// What could be tried, and why it is not let in.
fn bad_tokens(guarded: &Guarded, rsa: &Signer) -> Vec<(&'static str, String)> {
    let claims = guarded.issuer.claims();
    let token = |claims: &Value| guarded.token(claims);
    let under = |header: Value| guarded.signer.token(&header, &claims);
    let header = json!({ "alg": "ES256", "kid": "first" });
    let good = token(&claims);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let by_hmac = |secret: &[u8]| {
        let message = unsigned(&json!({ "alg": "HS256", "kid": "rsa" }), &claims);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", coded(tag.as_ref()))
    };
    let public = rsa.jwk("rsa");
    let Signer::Rsa(pair) = rsa else { panic!("an RSA key") };
    let modulus = PublicKeyComponents::<Vec<u8>>::from(pair.public()).n;
    let none = unsigned(&json!({ "alg": "none", "kid": "first" }), &claims);
    let other_words = unsigned(&header, &with(&claims, "sub", json!("admin")));
    vec![
        ("garbage", "nonsense".to_owned()),
        ("an API key, where there are none", "bf_0123456789ab_0123456789abcdef0123456789abcdef".to_owned()),
        ("two parts", message.to_owned()),
        ("four parts", format!("{good}.{signature}")),
        ("another signature's bytes", format!("{message}.{}", coded(&[7; 64]))),
        ("no signature", format!("{message}.")),
        ("the signature of other words", format!("{other_words}.{signature}")),
        ("somebody else's signature", Signer::ec().token(&header, &claims)),
        ("alg none", format!("{none}.")),
        ("alg none with a signature", format!("{none}.{signature}")),
        ("HS256 with the public key: its modulus", by_hmac(&modulus)),
        ("HS256 with the public key: its JWK", by_hmac(public.to_string().as_bytes())),
        ("HS256 with the public key: its text", by_hmac(public["n"].as_str().unwrap().as_bytes())),
        ("an algorithm that the key is not for", under(json!({ "alg": "EdDSA", "kid": "first" }))),
        ("an algorithm that is not allowed", rsa.token(&json!({ "alg": "RS512", "kid": "rsa" }), &claims)),
        ("no kid", under(json!({ "alg": "ES256" }))),
        ("an unknown kid", under(json!({ "alg": "ES256", "kid": "second" }))),
        ("a critical header", under(json!({ "alg": "ES256", "kid": "first", "crit": ["b64"], "b64": true }))),
        ("another kind of token", under(json!({ "alg": "ES256", "kid": "first", "typ": "logout+jwt" }))),
        ("another issuer", token(&with(&claims, "iss", json!("http://evil.example")))),
        ("an issuer with a slash", token(&with(&claims, "iss", json!(format!("{}/", guarded.issuer.url))))),
        ("the issuer among others", token(&with(&claims, "iss", json!(["http://evil.example", guarded.issuer.url])))),
        ("no issuer", token(&without(&claims, "iss"))),
        ("another audience", token(&with(&claims, "aud", json!("http://browsers.example")))),
        ("other audiences", token(&with(&claims, "aud", json!(["a", "b"])))),
        ("no audience", token(&without(&claims, "aud"))),
        ("expired", token(&with(&claims, "exp", json!(now() - 31)))),
        ("no end", token(&without(&claims, "exp"))),
        ("an end that is none", token(&with(&claims, "exp", json!("tomorrow")))),
        ("an end before all time", token(&with(&claims, "exp", json!(-1)))),
        ("not valid yet", token(&with(&claims, "nbf", json!(now() + 60)))),
        ("no beginning that can be read", token(&with(&claims, "nbf", json!("yesterday")))),
        ("no subject", token(&without(&claims, "sub"))),
        ("an empty subject", token(&with(&claims, "sub", json!("")))),
        ("limits that nobody understands", token(&with(&claims, "browserfleet", json!({ "session": 1 })))),
        ("too long", token(&with(&claims, "more", json!("x".repeat(6200))))),
    ]
}

#[tokio::test]
async fn a_token_is_let_in_only_if_everything_about_it_is_right() {
    let guarded = Guarded::start().await;
    let rsa = Signer::rsa();
    guarded.issuer.publish(&[guarded.signer.jwk("first"), rsa.jwk("rsa")]);
    // The settings of other tests ask again sooner; here there is one answer.
    until_status(&guarded.client(&json!({})), 200).await;
    let nobody = seen(&guarded.world.client().get("/sessions").await);
    assert_eq!((nobody.0, nobody.2), (401, Some(challenge("", ALL))));
    for (name, token) in bad_tokens(&guarded, &rsa) {
        for (method, path) in [(Method::POST, "/mcp"), (Method::GET, "/sessions"), (Method::DELETE, "/mcp")] {
            let answer = guarded.bearer(&token).send(method, path, initialize("2025-11-25").to_string()).await;
            let (status, body, header) = seen(&answer);
            assert_eq!((status, header.unwrap()), refused(), "{name}");
            assert_eq!(body, nobody.1, "{name}: nobody is told what was wrong");
        }
    }
    assert_eq!(guarded.world.daemon.seen().acquired, 0);
    let good = guarded.token(&guarded.issuer.claims());
    let mut twice = guarded.bearer(&good);
    twice.headers.push(("authorization".to_owned(), format!("Bearer {good}")));
    assert_eq!(status(&twice).await, 401, "two headers");
    for query in [format!("access_token={good}"), format!("token={good}")] {
        let reply = guarded.bearer(&good).get(&format!("/sessions?{query}")).await;
        let (status, body, _) = seen(&reply);
        assert!(status == 400 && !body.contains(&good), "{status} {body}");
    }
    assert_eq!(status(&guarded.world.client().header("authorization", &format!("bearer {good}"))).await, 200);
}

#[tokio::test]
async fn good_tokens_come_in_many_forms() {
    let guarded = Guarded::start().await;
    let (rsa, ed) = (Signer::rsa(), Signer::ed());
    guarded.issuer.publish(&[json!({ "kty": "odd" }), guarded.signer.jwk("first"), rsa.jwk("rsa"), ed.jwk("ed")]);
    let claims = guarded.issuer.claims();
    // Read before the keys were published, perhaps; a new front end reads them now.
    let guarded = Guarded { world: again(&guarded.issuer).await, ..guarded };
    let (first, rsa_id, ed_id) = (json!("first"), json!("rsa"), json!("ed"));
    for (name, token) in [
        ("RS256", rsa.token(&json!({ "alg": "RS256", "kid": rsa_id }), &claims)),
        ("PS256", rsa.token(&json!({ "alg": "PS256", "kid": rsa_id, "typ": "at+jwt" }), &claims)),
        ("EdDSA", ed.token(&json!({ "alg": "EdDSA", "kid": ed_id, "typ": "JWT" }), &claims)),
        ("ES256", guarded.signer.token(&json!({ "alg": "ES256", "kid": first }), &claims)),
        ("one of several audiences", guarded.token(&with(&claims, "aud", json!(["a", RESOURCE])))),
        ("just expired, by a clock that is ahead", guarded.token(&with(&claims, "exp", json!(now() - 5)))),
        ("almost valid, by a clock that is behind", guarded.token(&with(&claims, "nbf", json!(now() + 5)))),
    ] {
        assert_eq!(status(&guarded.bearer(&token)).await, 200, "{name}");
    }
}

/// Another front end for the tokens of an issuer.
async fn again(issuer: &Issuer) -> World {
    let read = settings(&issuer.url, "");
    World::with(|config| config.oauth.clone_from(&read.oauth)).await
}

#[tokio::test]
async fn the_issuer_is_asked_once_however_many_unknown_keys_tokens_name() {
    let guarded = Guarded::start().await;
    until_status(&guarded.client(&json!({})), 200).await;
    let claims = guarded.issuer.claims();
    let tokens = (0..1000).map(|n| guarded.signer.token(&json!({ "alg": "ES256", "kid": format!("k{n}") }), &claims));
    let clients: Vec<_> = tokens.map(|token| guarded.bearer(&token)).collect();
    for some in clients.chunks(50) {
        for answer in join_all(some.iter().map(status)).await {
            assert_eq!(answer, 401);
        }
    }
    assert_eq!(guarded.issuer.asked(), 1, "at the start");
    assert_eq!(status(&guarded.client(&json!({}))).await, 200);
}

#[tokio::test]
async fn a_new_key_is_read_once_for_all_who_have_it_and_an_old_one_ends() {
    let guarded = Guarded::with("refetch = \"1s\"\nrefresh = \"3s\"").await;
    until_status(&guarded.client(&json!({})), 200).await;
    let new = Signer::ec();
    guarded.issuer.publish(&[new.jwk("second")]);
    let token = new.token(&json!({ "alg": "ES256", "kid": "second" }), &guarded.issuer.claims());
    sleep(Duration::from_millis(1100)).await;
    let asked = guarded.issuer.asked();
    let client = guarded.bearer(&token);
    let answers = join_all((0..30).map(|_| status(&client))).await;
    assert!(answers.iter().all(|answer| *answer == 200), "{answers:?}");
    assert_eq!(guarded.issuer.asked(), asked + 1, "thirty tokens, one question");
    assert_eq!(status(&guarded.client(&json!({}))).await, 401, "the old key has gone");
    // One that is taken back without a word goes, too.
    guarded.issuer.publish(&[guarded.signer.jwk("first")]);
    until_status(&client, 401).await;
}

#[tokio::test]
async fn while_the_issuer_is_away_its_keys_hold_for_a_while() {
    let guarded = Guarded::with("refetch = \"1s\"\nrefresh = \"1s\"\nstale = \"3s\"").await;
    let client = guarded.client(&json!({}));
    until_status(&client, 200).await;
    guarded.issuer.becomes(Mood::Broken);
    let asked = guarded.issuer.asked();
    let claims = guarded.issuer.claims();
    let unknown = guarded.bearer(&Signer::ec().token(&json!({ "alg": "ES256", "kid": "second" }), &claims));
    until_status(&unknown, 503).await;
    assert!(guarded.issuer.asked() >= asked);
    assert_eq!(status(&client).await, 200, "the keys of before hold");
    until_status(&client, 503).await;
    let reply = client.get("/sessions").await;
    let wait: u64 = reply.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait) && reply.json()["error"] == "store_unavailable", "{reply:?}");
    assert!(!reply.headers.contains_key("www-authenticate"), "no client throws its token away");
    assert_eq!(guarded.world.client().get("/health").await.status, 200);
    guarded.issuer.becomes(Mood::Fine);
    until_status(&client, 200).await;
}

#[tokio::test]
async fn an_issuer_that_says_nothing_of_use_lets_nobody_in_and_costs_nothing() {
    for (mood, expected) in [
        (Mood::Fine, 200),
        (Mood::OpenId, 200),
        (Mood::Page, 200),
        (Mood::Neighbour, 200),
        (Mood::SomebodyElse, 503),
        (Mood::Broken, 503),
        (Mood::Silent, 503),
        (Mood::Endless, 503),
        (Mood::Elsewhere, 503),
    ] {
        let issuer = Issuer::start(&Behind::one().tasks).await;
        let signer = Signer::ec();
        issuer.publish(&[signer.jwk("first")]);
        issuer.becomes(mood);
        let world = again(&issuer).await;
        let token = signer.token(&json!({ "alg": "ES256", "kid": "first" }), &issuer.claims());
        let client = world.client().header("authorization", &format!("Bearer {token}"));
        assert_eq!(status(&client).await, expected, "{mood:?}");
    }
}

#[tokio::test]
async fn clients_find_out_where_to_get_a_token() {
    let guarded = Guarded::with("scopes = [\"Look=browser:read\", \"Use=browser:act\", \"Rule=admin\"]").await;
    let nobody = guarded.world.client();
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"] {
        let reply = nobody.get(path).await;
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(
            reply.json(),
            json!({
                "resource": RESOURCE,
                "authorization_servers": [guarded.issuer.url],
                "scopes_supported": ["Look", "Use", "Rule"],
                "bearer_methods_supported": ["header"],
                "resource_name": "browserfleet",
            })
        );
        assert_eq!(nobody.send(Method::POST, path, "").await.status, 401, "{path}");
    }
    assert_eq!(nobody.get("/.well-known/oauth-protected-resource/other").await.status, 401);
    assert_eq!(seen(&nobody.get("/mcp").await).2, Some(challenge("", "Look Use")));
    let looker = guarded.client(&json!({ "scope": "Look" }));
    let refused = looker.modern("tools/call", json!({ "name": "browser_click", "arguments": {} })).await;
    assert_eq!(seen(&refused).2, Some(challenge(", error=\"insufficient_scope\"", "Use")));
    let open = World::start().await;
    assert_eq!(open.client().get("/.well-known/oauth-protected-resource").await.status, 404);
}

fn names(reply: &Reply) -> Vec<String> {
    let tools = reply.json()["result"]["tools"].clone();
    tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn scopes_decide_what_is_shown_and_a_missing_one_is_named() {
    let guarded = Guarded::start().await;
    let reader = guarded.client(&json!({ "scope": "openid browser:read" }));
    let connected = legacy(&reader).await;
    let listed = names(&reader.modern("tools/list", json!({})).await);
    assert_eq!(names(&connected.post(&request(1, "tools/list", json!({}))).await), listed);
    assert!(listed.iter().any(|name| name == "browser_navigate") && !listed.iter().any(|name| name == "browser_click"));
    for (tool, scope) in [
        ("browser_click", "browser:act"),
        ("browser_evaluate", "browser:evaluate"),
        ("browser_file_upload", "browser:files"),
    ] {
        let params = json!({ "name": tool, "arguments": {} });
        for reply in
            [reader.modern("tools/call", params.clone()).await, connected.post(&request(1, "tools/call", params)).await]
        {
            let (status, body, header) = seen(&reply);
            assert_eq!((status, header), (403, Some(challenge(", error=\"insufficient_scope\"", scope))), "{tool}");
            assert!(body.contains("forbidden") && body.contains(scope), "{body}");
        }
    }
    // What is inside a batch its report tells.
    let batch = json!({ "session_id": "s", "steps": [{ "tool": "browser_click", "arguments": { "target": "e1" } }] });
    let refused = guarded.client(&json!({ "scope": "browser:read browser:act" }));
    let inside = json!({ "steps": [{ "tool": "browser_evaluate", "arguments": { "function": "() => 1" } }] });
    let told = refused.modern_call("browser_batch", with(&inside, "session_id", json!("s"))).await;
    assert!(failure(&told) == "forbidden" && text(&told).contains("Your token does not allow"), "{told}");
    assert_eq!(failure(&refused.modern_call("browser_batch", batch).await), "");
    let stranger = guarded.client(&json!({ "scope": "openid profile" }));
    let refused = seen(&stranger.get("/sessions").await);
    assert_eq!((refused.0, refused.2), (403, Some(challenge(", error=\"insufficient_scope\"", "browser:read"))));
    assert_eq!(stranger.get("/health").await.status, 200);
    assert_eq!(reader.get("/metrics").await.status, 403);
    let upload = reader.header("x-session-id", "s").send(Method::POST, "/artifacts/a.txt", "text").await;
    assert!(upload.status == 403 && seen(&upload).2.unwrap().contains("scope=\"browser:files\""), "{upload:?}");
    assert_eq!(guarded.client(&json!({ "scope": "admin" })).get("/metrics").await.status, 200);
}

#[tokio::test]
async fn a_principal_is_a_subject_of_an_issuer() {
    let one = Guarded::start().await;
    let stores = one.world.stores.clone();
    let issuer = Issuer::start(&one.world.tasks).await;
    issuer.publish(&[one.signer.jwk("first")]);
    let read = settings(&issuer.url, "");
    // Over the same stores, another front end that takes the tokens of another issuer, which has the same key.
    let change = |config: &mut browserfleet_mcp_frontend::Config| config.oauth.clone_from(&read.oauth);
    let world = World::over(Behind::one(), 1, change, |kept| *kept = stores.clone(), None).await;
    let other = Guarded { world, issuer, signer: Signer::ed() };
    let theirs = one.signer.token(&json!({ "alg": "ES256", "kid": "first" }), &other.issuer.claims());
    let (mine, again) = (one.client(&json!({})), one.client(&json!({ "exp": now() + 60, "scope": "browser:read" })));
    let opened = mine.modern_call("browser_open", json!({})).await;
    let handle = opened["structuredContent"]["session_id"].clone();
    for (client, expected) in [
        (&again, ""),
        (&one.client(&json!({ "sub": "agent-8" })), "handle_unknown_or_expired"),
        (&other.bearer(&theirs), "handle_unknown_or_expired"),
    ] {
        let answer = client.modern_call("browser_snapshot", json!({ "session_id": handle })).await;
        assert_eq!(failure(&answer), expected, "{answer}");
    }
    let listed = again.modern_call("session_list", json!({})).await;
    assert_eq!(listed["structuredContent"]["sessions"][0]["session_id"], handle);
    assert_eq!(other.bearer(&theirs).get("/sessions").await.json()["total"], 0);
}

#[tokio::test]
async fn claims_take_away_and_never_add() {
    let settings = "[session]\nper_principal = 2\nidle_ttl = \"10m\"\nmax_lifetime = \"1h\"\n[limits]\ncalls = 4";
    let guarded = Guarded::with(settings).await;
    let limits = async |sub: &str, claim: Value| {
        let client = guarded.client(&json!({ "sub": sub, "browserfleet": claim })).asking("config");
        let shown = client.modern_call("browser_get_config", json!({})).await["structuredContent"].clone();
        for _ in 0..shown["session"]["most"].as_u64().unwrap() {
            assert_eq!(failure(&client.modern_call("browser_open", json!({})).await), "", "{sub}");
        }
        let refused = client.modern_call("browser_open", json!({})).await;
        assert_eq!(failure(&refused), "quota_exceeded", "{sub}: {refused}");
        shown
    };
    let less =
        limits("less", json!({ "sessions": 1, "session_idle": "1m", "session_lifetime": "5m", "calls": 1 })).await;
    let more = json!({ "sessions": 100, "session_idle": "1h", "session_lifetime": "24h", "calls": 100, "queue": 7 });
    let (more, same) = (limits("more", more).await, limits("same", json!({})).await);
    assert_eq!(less["session"]["idle_ttl"], "1m");
    assert_eq!((&less["session"]["max_lifetime"], &less["session"]["limits"]["calls"]), (&json!("5m"), &json!(1)));
    for shown in [&more, &same] {
        let session = &shown["session"];
        assert_eq!(
            (&session["most"], &session["idle_ttl"], &session["max_lifetime"]),
            (&json!(2), &json!("10m"), &json!("1h"))
        );
        assert_eq!(session["limits"]["calls"], 4);
    }
    assert_eq!((&more["session"]["limits"]["queue"], &same["session"]["limits"]["queue"]), (&json!(7), &Value::Null));
    let core = guarded.client(&json!({ "sub": "core", "browserfleet": { "groups": ["core"] } })).asking("all");
    let listed = names(&core.modern("tools/list", json!({})).await);
    assert!(listed.iter().any(|name| name == "browser_click") && !listed.iter().any(|name| name == "session_list"));
    let refused = core.modern_call("session_list", json!({})).await;
    assert!(failure(&refused) == "forbidden" && text(&refused).contains("Your token"), "{refused}");
}

#[tokio::test]
async fn a_session_ends_as_early_as_its_claims_say() {
    let guarded = Guarded::start().await;
    let client = guarded.client(&json!({ "browserfleet": { "session_idle": "1s" } }));
    let opened = client.modern_call("browser_open", json!({})).await;
    let handle = opened["structuredContent"]["session_id"].clone();
    let started = Instant::now();
    while client.get("/sessions").await.json()["total"] != 0 {
        assert!(started.elapsed() < LIMIT, "it never ends");
        sleep(Duration::from_millis(50)).await;
    }
    let answer = client.modern_call("browser_snapshot", json!({ "session_id": handle })).await;
    assert_eq!(failure(&answer), "handle_unknown_or_expired");
}

#[tokio::test]
async fn requests_per_second_are_limited_by_claim_and_by_settings() {
    let guarded = Guarded::with("[limits]\nrate = 6").await;
    for (sub, claim, most) in [("slow", json!({ "rate": 3 }), 3), ("greedy", json!({ "rate": 1000 }), 6)] {
        let client = guarded.client(&json!({ "sub": sub, "browserfleet": claim }));
        let replies = join_all((0..30).map(|_| client.get("/sessions"))).await;
        let (passed, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 200);
        // A second's worth at once, and what became due meanwhile.
        assert!((most..most + 5).contains(&passed.len()), "{sub}: {} have passed", passed.len());
        for reply in refused {
            assert_eq!((reply.status.as_u16(), &reply.json()["error"]), (429, &json!("quota_exceeded")));
            assert_eq!(reply.headers["retry-after"], "1");
        }
    }
}

/// Brings files in until there is no room for more, by HTTP and with calls.
async fn uploads_are_limited(client: &Client) {
    client.modern_call("browser_open", json!({ "session_id": "s" })).await;
    let send = async |bytes: usize| {
        let client = client.again().header("x-session-id", "s");
        client.send(Method::PUT, "/artifacts/a.txt", "x".repeat(bytes)).await
    };
    assert_eq!(send(600).await.status, 201);
    let never = send(1025).await;
    assert!(never.status == 429 && !never.headers.contains_key("retry-after"), "{never:?}");
    let later = send(600).await;
    let wait: u64 = later.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(later.status == 429 && (500..=700).contains(&wait), "{later:?}");
    assert_eq!(later.json()["error"], "quota_exceeded");
    let call = async |content: String| {
        let file = json!({ "name": "a.txt", "content": content, "encoding": "base64" });
        let arguments = json!({ "session_id": "s", "target": "e1", "files": [file] });
        client.modern_call("browser_drop", arguments).await
    };
    let refused = call("AAAA".repeat(200)).await;
    assert!(failure(&refused) == "quota_exceeded" && text(&refused).contains("1 KiB an hour"), "{refused}");
    assert_eq!(failure(&call("AAAA".repeat(100)).await), "", "424 bytes are left");
}

#[tokio::test]
async fn bytes_that_clients_bring_are_limited_by_claim() {
    let guarded = Guarded::start().await;
    uploads_are_limited(&guarded.client(&json!({ "browserfleet": { "upload_per_hour": 1024 } }))).await;
}

#[tokio::test]
async fn bytes_that_pages_give_away_are_limited_by_settings_whatever_a_claim_says() {
    let guarded = Guarded::with("[limits]\ndownload_per_hour = \"1KiB\"").await;
    guarded.world.daemon.answer(|call| {
        let bytes = vec![7; if call.tool == "browser_reload" { 1025 } else { 600 }];
        vec![Event::started(), Event::download("report.pdf", &bytes), Event::end()]
    });
    let client = guarded.client(&json!({ "browserfleet": { "download_per_hour": 1_000_000 } }));
    let told = async |tool: &str| client.modern_call(tool, json!({ "session_id": "s" })).await.to_string();
    let never = told("browser_reload").await;
    assert!(never.contains("report.pdf is lost") && never.contains("never allowed at once"), "{never}");
    let kept = told("browser_snapshot").await;
    assert!(kept.contains("resource_link") && !kept.contains("is lost"), "{kept}");
    let lost = told("browser_snapshot").await;
    assert!(!lost.contains("resource_link") && lost.contains("1 KiB an hour"), "{lost}");
    let other = guarded.client(&json!({ "sub": "agent-8" }));
    let kept = other.modern_call("browser_snapshot", json!({ "session_id": "s" })).await.to_string();
    assert!(kept.contains("resource_link"), "others have their own: {kept}");
}

#[tokio::test]
async fn keys_have_the_same_limits_and_go_on_beside_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let limits = Limits {
        upload_per_hour: Some(1024),
        session_idle: Some(Duration::from_mins(2)),
        session_lifetime: Some(Duration::from_hours(1000)),
        ..Limits::default()
    };
    let new = Create::named("ci", &ALL.split(' ').collect::<Vec<_>>()).within(limits);
    let key = create(&path, &new, Duration::from_secs(now())).unwrap().text;
    let keys = ApiKeys::open(&path).unwrap();
    let guarded = Guarded::over(Behind::one(), "", |config| config.auth = Some(keys.clone())).await;
    let (by_key, by_token) = (guarded.bearer(&key), guarded.client(&json!({})));
    uploads_are_limited(&by_key).await;
    assert_eq!(failure(&by_token.modern_call("browser_open", json!({ "session_id": "s" })).await), "");
    assert_eq!((status(&by_key).await, status(&by_token).await), (200, 200));
    let shown = by_key.asking("config").modern_call("browser_get_config", json!({})).await["structuredContent"].clone();
    assert_eq!((&shown["session"]["idle_ttl"], &shown["session"]["max_lifetime"]), (&json!("2m"), &json!("8h")));
    let (others, last) = key.split_at(key.len() - 1);
    let wrong = guarded.bearer(&format!("{others}{}", if last == "0" { "1" } else { "0" }));
    assert_eq!(seen(&wrong.get("/sessions").await).2.unwrap(), refused().1);
    // Whoever has a key cannot get one with more: the call's result tells its agent.
    let reader = create(&path, &Create::named("reader", &["browser:read"]), Duration::from_secs(now())).unwrap().text;
    let reader = guarded.bearer(&reader);
    until_status(&reader, 200).await;
    assert_eq!(failure(&reader.modern_call("browser_click", json!({})).await), "forbidden");
}
