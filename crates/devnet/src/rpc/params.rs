//! Positional parameters, taken one after the other.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::RpcError;

pub(super) struct Params(std::vec::IntoIter<Value>);

impl Params {
    pub(super) fn new(params: Vec<Value>) -> Self {
        Self(params.into_iter())
    }

    /// The next parameter, which must be there.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> Result<T, RpcError> {
        let value = self.0.next().ok_or_else(|| RpcError::params("too few"))?;
        serde_json::from_value(value).map_err(RpcError::params)
    }

    /// The next parameter, if it is there and not null.
    pub(super) fn optional<T: DeserializeOwned>(&mut self) -> Result<Option<T>, RpcError> {
        match self.0.next() {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(RpcError::params),
        }
    }
}
