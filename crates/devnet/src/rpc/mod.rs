//! JSON-RPC: requests in, answers out, whatever they contain.

mod eth;
mod filter;
mod node;
mod params;
#[cfg(test)]
mod tests;

use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) use self::node::{Node, seconds_since_epoch};
use crate::error::RpcError;

/// Requests in one batch at most.
const BATCH_MAX: usize = 1_000;

#[derive(Deserialize)]
struct Request {
    method: String,
    #[serde(default)]
    params: Value,
}

/// Answers a body: one request, or a batch of them.
pub(crate) fn answer(node: &mut Node, body: &[u8]) -> Value {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Array(batch)) if batch.len() > BATCH_MAX => error(
            &Value::Null,
            &RpcError::new(-32600, format!("more than {BATCH_MAX} requests")),
        ),
        Ok(Value::Array(batch)) if !batch.is_empty() => batch
            .into_iter()
            .map(|request| one(node, request))
            .collect(),
        Ok(request) => one(node, request),
        Err(parse) => error(
            &Value::Null,
            &RpcError::new(-32700, format!("parse error: {parse}")),
        ),
    }
}

fn one(node: &mut Node, request: Value) -> Value {
    let id = request.get("id").cloned().unwrap_or_default();
    let request: Request = match serde_json::from_value(request) {
        Ok(request) => request,
        Err(invalid) => {
            return error(
                &id,
                &RpcError::new(-32600, format!("invalid request: {invalid}")),
            );
        }
    };
    let params = match request.params {
        Value::Array(params) => params,
        Value::Null => Vec::new(),
        other => vec![other],
    };
    match eth::call(node, &request.method, params) {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(refusal) => error(&id, &refusal),
    }
}

fn error(id: &Value, error: &RpcError) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}
