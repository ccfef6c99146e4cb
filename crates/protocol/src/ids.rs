//! Ids, amounts and instants as newtypes, so that a round is never passed for a task.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct ParseIdError {
    text: String,
    wanted: &'static str,
}

/// Implements text and serde forms of a fixed-size byte id: hex for people, bytes on the wire.
macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $wanted:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// All bytes zero.
            pub const ZERO: Self = Self([0; $len]);

            /// The bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "0x{}", hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let digits = text.strip_prefix("0x").unwrap_or(text);
                let mut bytes = [0; $len];
                hex::decode_to_slice(digits, &mut bytes).map_err(|_| ParseIdError {
                    text: text.chars().take(80).collect(),
                    wanted: $wanted,
                })?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serde_bytes_array::serialize(&self.0, serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    serde_bytes_array::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

byte_id!(
    /// A node: the address of its Ethereum account. Written in lower-case hex.
    Address, 20, "an address (0x and 40 hex digits)"
);

byte_id!(
    /// The BLAKE3 hash that names a blob: a checkpoint or a delta.
    BlobHash, 32, "a BLAKE3 hash (64 hex digits)"
);

byte_id!(
    /// A keccak-256 value: Merkle root, score commitment, seed, block hash.
    Digest, 32, "a keccak-256 digest (64 hex digits)"
);

impl BlobHash {
    /// The name of `bytes` as a blob.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The hash as 64 hex digits without a prefix, as it is used in file names.
    #[must_use]
    pub fn to_file_name(&self) -> String {
        hex::encode(self.0)
    }
}

impl Address {
    /// The first and last digits, for narrow columns: `0x12ab…9f`.
    #[must_use]
    pub fn short(&self) -> String {
        let digits = hex::encode(self.0);
        format!("0x{}…{}", &digits[..4], &digits[38..])
    }
}

/// A training job, as the contract numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub u64);

/// A round of a task; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoundId(pub u32);

impl RoundId {
    /// The first round of every task.
    pub const FIRST: Self = Self(1);

    /// The round after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Milliseconds on the caller's monotone clock, or since the Unix epoch where persisted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// This instant later by `duration_ms`.
    #[must_use]
    pub fn after(self, duration_ms: u64) -> Self {
        Self(self.0.saturating_add(duration_ms))
    }
}

/// Token base units. In JSON and TOML a decimal string, because 2^53 is less than a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(pub u128);

impl Amount {
    /// No tokens.
    pub const ZERO: Self = Self(0);

    /// `self * part / whole`, rounded down; `whole` 0 gives 0.
    #[must_use]
    pub fn share_down(self, part: u128, whole: u128) -> Self {
        use ruint::aliases::U256;
        if whole == 0 {
            return Self::ZERO;
        }
        let value = U256::from(self.0) * U256::from(part) / U256::from(whole);
        Self(u128::try_from(value).unwrap_or(u128::MAX))
    }

    /// The sum, or `None` past 2^128 - 1.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Amount {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ParseIdError {
            text: text.chars().take(80).collect(),
            wanted: "an amount in base units (a whole number)",
        })
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        Self(iter.fold(0, |sum, amount| sum.saturating_add(amount.0)))
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(serde::de::Error::custom)
        } else {
            u128::deserialize(deserializer).map(Self)
        }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for RoundId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a node does in a task. The numbers are those of the staking contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Trains on private data and sends one update a round.
    Trainer,
    /// Scores candidate updates on its own held-out data.
    Validator,
    /// Holds the rounds of one task together.
    Aggregator,
    /// Watches; stakes nothing and is paid nothing.
    Observer,
}

impl Role {
    /// The role's number in the staking contract; observers have none.
    #[must_use]
    pub fn on_chain(self) -> Option<u8> {
        match self {
            Self::Trainer => Some(0),
            Self::Validator => Some(1),
            Self::Aggregator => Some(2),
            Self::Observer => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Trainer => "trainer",
            Self::Validator => "validator",
            Self::Aggregator => "aggregator",
            Self::Observer => "observer",
        })
    }
}

/// Fixed-size arrays as plain tuples, without a length, in binary formats.
pub(crate) mod serde_bytes_array {
    use serde::de::{Error, SeqAccess, Visitor};
    use serde::ser::SerializeTuple;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<const N: usize, S: Serializer>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(N)?;
        for byte in bytes {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }

    pub(crate) fn deserialize<'de, const N: usize, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        struct Bytes<const N: usize>;

        impl<'de, const N: usize> Visitor<'de> for Bytes<N> {
            type Value = [u8; N];

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{N} bytes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<[u8; N], A::Error> {
                let mut bytes = [0; N];
                for (index, byte) in bytes.iter_mut().enumerate() {
                    *byte = seq
                        .next_element()?
                        .ok_or_else(|| A::Error::invalid_length(index, &self))?;
                }
                Ok(bytes)
            }
        }

        deserializer.deserialize_tuple(N, Bytes::<N>)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_as_text() {
        let address = Address([0xab; 20]);
        assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        assert!("0x12".parse::<Address>().is_err());
        assert!("zz".repeat(20).parse::<Address>().is_err());
        assert_eq!(address.short(), "0xabab…ab");
    }

    #[test]
    fn amounts_are_strings_in_json() {
        let json = serde_json::to_string(&Amount(u128::MAX)).unwrap();
        assert_eq!(json, format!("\"{}\"", u128::MAX));
        assert_eq!(
            serde_json::from_str::<Amount>(&json).unwrap(),
            Amount(u128::MAX)
        );
    }

    #[test]
    fn shares_round_down_without_overflow() {
        assert_eq!(Amount(10).share_down(1, 3), Amount(3));
        assert_eq!(
            Amount(u128::MAX).share_down(u128::MAX, u128::MAX),
            Amount(u128::MAX)
        );
        assert_eq!(Amount(5).share_down(1, 0), Amount::ZERO);
    }
}
