//! The protocol: both eras on one endpoint, decided from the body first, and stdio.
//!
//! [`endpoint`] takes a request apart ([`strict`] reads JSON, [`envelope`] JSON-RPC) and hands it to [`modern`] (rmcp's
//! service, stateless already) or [`legacy`] (ours, over rmcp's pieces). All end in the same [`handler`]; [`resources`]
//! are what sessions keep.

pub(crate) mod endpoint;

mod strict;

mod envelope;

mod answer;

mod modern;

mod legacy;

pub(crate) mod stdio;

pub(crate) mod handler;

mod render;
mod size;

mod resources;

/// Reads a message as the endpoint does, and holds what is taken against what it should be: for fuzzing.
#[cfg(feature = "test-util")]
pub(crate) fn fuzz(data: &[u8]) {
    use browserfleet_tools::find;
    use rmcp::model::ClientJsonRpcMessage;
    use serde_json::Value;

    let Ok(message) = strict::parse(data) else { return };
    let read = serde_json::from_slice::<Value>(data).ok();
    assert_eq!(read.as_ref(), Some(&message), "who comes after us reads the same");
    let kind = match envelope::check(&message) {
        Ok(kind) => kind,
        Err(malformed) => {
            assert!(matches!(malformed.code, -32600 | -32602));
            let id = &malformed.id;
            assert!(id.is_null() || *id == message["id"], "it is answered as it was asked");
            return;
        }
    };
    let _either = envelope::era(&message, &http::HeaderMap::new());
    if let envelope::Message::Request { id, method } = kind {
        assert!(id.is_i64() || id.as_str().is_some_and(|id| id.len() <= 256));
        assert_eq!((&message["id"], message["method"].as_str()), (&id, Some(method.as_str())));
        let params = &message["params"];
        if let (Some(tool), Some(arguments)) = (params["name"].as_str().and_then(find), params["arguments"].as_object())
        {
            let _checked = tool.check(arguments);
        }
    }
    let _understood = serde_json::from_value::<ClientJsonRpcMessage>(message);
}
