//! An issuer of tokens on this machine: its documents, and keys it signs with. And front ends that take its tokens.

use std::{
    io::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Redirect, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use browserfleet_common::{
    clock::{Clock as _, SystemClock},
    config::Reader,
    lifecycle::Tasks,
};
use browserfleet_mcp_frontend::Config;
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
        RsaKeyPair,
    },
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};

use crate::world::{Behind, Client, World};

/// What the tokens are for: how clients of the front ends reach them, as their operator says.
pub(crate) const RESOURCE: &str = "http://browsers.example/mcp";
/// Every scope of agents.
pub(crate) const ALL: &str = "browser:read browser:act browser:evaluate browser:files";

/// A key to sign with. ring makes no RSA keys, so that one is in a file.
pub(crate) enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    pub(crate) fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::from_pkcs8(include_bytes!("rsa-for-tests.pk8")).unwrap())
    }

    pub(crate) fn ec() -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self::Ec(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random).unwrap())
    }

    pub(crate) fn ed() -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
    }

    /// The public half, as an issuer publishes it.
    pub(crate) fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "kid": id, "use": "sig", "n": coded(&n), "e": coded(&e) })
            }
            Self::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": coded(x), "y": coded(y) })
            }
            Self::Ed(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "alg": "EdDSA", "x": coded(pair.public_key().as_ref()) })
            }
        }
    }

    /// A token.
    pub(crate) fn token(&self, header: &Value, claims: &Value) -> String {
        let (random, message) = (SystemRandom::new(), unsigned(header, claims));
        let signature = match self {
            Self::Rsa(pair) => {
                let padding: &dyn ring::signature::RsaEncoding =
                    if header["alg"] == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::Ec(pair) => pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", coded(&signature))
    }
}

/// What a signature is of.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", coded(header.to_string().as_bytes()), coded(claims.to_string().as_bytes()))
}

pub(crate) fn coded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// How the issuer is today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Fine,
    /// It knows the discovery of `OpenID` Connect only.
    OpenId,
    /// As the latter, and it has a page for every other path.
    Page,
    /// As the latter, and at that path are the metadata of another issuer.
    Neighbour,
    /// Its metadata are another issuer's.
    SomebodyElse,
    Broken,
    Silent,
    /// It never stops talking.
    Endless,
    /// Its keys are elsewhere.
    Elsewhere,
}

/// An issuer.
pub(crate) struct Issuer {
    pub(crate) url: String,
    state: Arc<Known>,
}

struct Known {
    url: String,
    keys: Mutex<Vec<Value>>,
    mood: Mutex<Mood>,
    /// How often it was asked for its keys.
    asked: AtomicUsize,
}

impl Issuer {
    pub(crate) async fn start(tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (keys, mood) = (Mutex::default(), Mutex::new(Mood::Fine));
        let state = Arc::new(Known { url: url.clone(), keys, mood, asked: AtomicUsize::new(0) });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&state));
        tasks.spawn("issuer", async move { axum::serve(listener, router).await.unwrap() });
        Self { url, state }
    }

    /// From now on these are its keys.
    pub(crate) fn publish(&self, keys: &[Value]) {
        *self.state.keys.lock().unwrap() = keys.to_vec();
    }

    pub(crate) fn becomes(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    pub(crate) fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// What a good token says.
    pub(crate) fn claims(&self) -> Value {
        json!({
            "iss": self.url,
            "sub": "agent-7",
            "aud": RESOURCE,
            "exp": now() + 600,
            "scope": ALL,
        })
    }
}

async fn answer(State(issuer): State<Arc<Known>>, uri: Uri) -> Response {
    let mood = *issuer.mood.lock().unwrap();
    if uri.path() == "/keys" {
        issuer.asked.fetch_add(1, Ordering::SeqCst);
    }
    match (uri.path(), mood) {
        (_, Mood::Broken) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        (_, Mood::Silent) => {
            sleep(Duration::from_hours(1)).await;
            StatusCode::OK.into_response()
        }
        ("/keys", Mood::Endless) => vec![b' '; 1 << 20].into_response(),
        ("/keys", Mood::Elsewhere) => Redirect::temporary("/other-keys").into_response(),
        ("/keys" | "/other-keys", _) => {
            let keys = issuer.keys.lock().unwrap().clone();
            json!({ "keys": keys }).to_string().into_response()
        }
        ("/.well-known/oauth-authorization-server", Mood::OpenId) => StatusCode::NOT_FOUND.into_response(),
        ("/.well-known/oauth-authorization-server", Mood::Page) => "<!doctype html>".into_response(),
        (path @ ("/.well-known/oauth-authorization-server" | "/.well-known/openid-configuration"), mood) => {
            let is_wrong = mood == Mood::Neighbour && path.ends_with("server");
            let name = if is_wrong || mood == Mood::SomebodyElse { "http://evil.example" } else { &issuer.url };
            json!({ "issuer": name, "jwks_uri": format!("{}/keys", issuer.url) }).to_string().into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemClock.now().as_secs()
}

/// A front end that takes the tokens of an issuer, which has one key.
pub(crate) struct Guarded {
    pub(crate) world: World,
    pub(crate) issuer: Issuer,
    pub(crate) signer: Signer,
}

impl Guarded {
    pub(crate) async fn start() -> Self {
        Self::with("").await
    }

    /// With more settings, as a file has them: keys of `[oauth]` first, then other sections.
    pub(crate) async fn with(more: &str) -> Self {
        Self::over(Behind::one(), more, |_| ()).await
    }

    pub(crate) async fn over(behind: Behind, more: &str, change: impl Fn(&mut Config)) -> Self {
        let issuer = Issuer::start(&behind.tasks).await;
        let signer = Signer::ec();
        issuer.publish(&[signer.jwk("first")]);
        let read = settings(&issuer.url, more);
        let change = |config: &mut Config| {
            config.oauth.clone_from(&read.oauth);
            config.limits = read.limits;
            config.session = read.session.clone();
            change(config);
        };
        let world = World::over(behind, 1, change, |_| (), None).await;
        Self { world, issuer, signer }
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.signer.token(&json!({ "alg": "ES256", "kid": "first" }), claims)
    }

    /// A client with a good token that says this besides, or in the place of what it would say.
    pub(crate) fn client(&self, more: &Value) -> Client {
        let mut claims = self.issuer.claims();
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.bearer(&self.token(&claims))
    }

    pub(crate) fn bearer(&self, token: &str) -> Client {
        self.world.client().header("authorization", &format!("Bearer {token}"))
    }
}

/// What an operator writes in a file, as the program reads it.
pub(crate) fn settings(issuer: &str, more: &str) -> Config {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "[http]\npublic_url = \"http://browsers.example\"\n[oauth]\nissuer = \"{issuer}\"\n{more}\n").unwrap();
    let mut reader = Reader::new(Some(file.path()), &[]);
    let config = Config::read(&mut reader);
    reader.finish(&[]).unwrap();
    config
}
